//! The one body that every executor runs for an attempt: instance, setup, call, result, effects.

use super::{
    CancelToken, Identity, Instances, JobContext, Placement,
    call::{Call, Limits, stopped},
    effects::{Success, store_effects},
    instance::Instance,
    panics::Caught,
    record::ResultBlobs,
};
use crate::{
    db::DbInner,
    error::{Error, FailureKind, JobFailure},
    secret_mask::{mask_end, mask_failure},
    store::{
        Block, Finish, Finished, JobId, JobRole, JobRow, JobSignal, LogLevel, LogRow, Timestamp,
        WorkerId, bounded,
    },
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// What is to be run: a job as recorded, with what it needs from others.
#[derive(Clone)]
pub(crate) struct JobSpec {
    pub(crate) row: JobRow,
    pub(crate) attempt: u32,
    pub(crate) owner: WorkerId,
    /// Results of dependencies, by parameter.
    pub(crate) dependencies: HashMap<String, Value>,
    /// Jobs of the run that wait for this one.
    pub(crate) waiting: Vec<JobId>,
    /// Whether a cleanup is tried even where setup fails.
    pub(crate) forced: bool,
    /// Whether this process has claimed the job. Otherwise another process decides where spawned
    /// jobs run.
    pub(crate) is_own: bool,
}

/// How an attempt ended, ready to be recorded.
pub(crate) struct AttemptResult {
    pub(crate) finish: Finish,
    /// The blobs of result and outputs.
    pub(crate) blobs: ResultBlobs,
    /// Fires when a method that outlived its time limit has returned after all.
    pub(crate) lingering: Option<oneshot::Receiver<()>>,
    /// Steps done and in total, as the attempt last reported them; they go to the store with its
    /// notes.
    pub(crate) progress: Option<(u64, u64)>,
    /// This program lacks the kind of a component that the target holds. The job did not run.
    pub(crate) lacks: bool,
}

/// What an attempt leaves behind however it ends.
#[derive(Default)]
struct Traces {
    lingering: Option<oneshot::Receiver<()>>,
    blocked: Option<(Block, Option<JobSignal>)>,
    progress: Option<(u64, u64)>,
    lacks: bool,
}

/// Run an attempt in this process.
pub(crate) async fn run_job(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    cancel: Arc<CancelToken>,
) -> AttemptResult {
    let started_at = Timestamp::now();
    let mut traces = Traces::default();
    if spec.row.stop_requested {
        // The signal came before this attempt began: it is to end at its first look.
        cancel.send(JobSignal::Stop);
    }
    let result = attempt(db, spec, instances, &cancel, &mut traces).await;
    let at = Timestamp::now();
    let mut finish =
        Finish::plain(spec.row.id, spec.attempt, spec.owner, started_at, at, Finished::Released);
    let mut blobs = Vec::new();
    match result {
        Ok(success) => {
            finish.end = Finished::Succeeded(success.value);
            finish.outputs = success.outputs;
            finish.blobs = success.blobs;
            finish.sweep_epoch = success.sweep_epoch;
            blobs = success.handles;
            finish.messages = success.messages;
            finish.spawned_before = spec
                .waiting
                .iter()
                .flat_map(|job| (0..success.spawned.len()).map(move |index| (*job, index)))
                .collect();
            finish.spawned = success.spawned;
        }
        Err(failure) => {
            // A panic, or the end of the time limit, is a failure also if the method was about to
            // wait.
            let may_wait = failure.kind == FailureKind::Error && !cancel.is_cancelled();
            finish.end = match traces.blocked.filter(|_| may_wait) {
                Some((block, Some(JobSignal::Pause))) => Finished::Paused(block.reason),
                Some((block, _)) => Finished::Blocked(block),
                None => conclude(&spec.row, failure, cancel.is_cancelled(), at),
            }
        }
    }
    mask_end(&mut finish);
    AttemptResult {
        finish,
        blobs: ResultBlobs::new(blobs),
        lingering: traces.lingering,
        progress: traces.progress,
        lacks: traces.lacks,
    }
}

/// What a failed attempt means for the job: another try, or the end.
pub(crate) fn conclude(
    row: &JobRow,
    failure: JobFailure,
    cancelled: bool,
    at: Timestamp,
) -> Finished {
    conclude_with(failure, (row.tries, row.retries, row.backoff_ms), cancelled, at)
}

/// As [`conclude`], from the tries so far, those beyond the first, and the first pause.
pub(crate) fn conclude_with(
    failure: JobFailure,
    (tries, retries, first_pause): (u32, u32, u64),
    cancelled: bool,
    at: Timestamp,
) -> Finished {
    let failure = bounded(mask_failure(failure));
    if cancelled {
        let failure = match failure.kind {
            FailureKind::Cancelled => failure,
            _ => JobFailure { kind: FailureKind::Cancelled, ..failure },
        };
        return Finished::Cancelled(failure);
    }
    let tries = tries + 1;
    if failure.retryable && tries <= retries {
        Finished::Retry(failure, at.plus_ms(backoff_ms(first_pause, tries)))
    } else {
        Finished::Failed(failure)
    }
}

/// How long a job waits after so many tries; twice as long each time.
pub(crate) fn backoff_ms(first: u64, tries: u32) -> u64 {
    first.saturating_mul(1 << tries.saturating_sub(1).min(20))
}

async fn attempt(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    cancel: &Arc<CancelToken>,
    traces: &mut Traces,
) -> Result<Success, JobFailure> {
    let failed = |error: Error| JobFailure::of(&error);
    if cancel.is_cancelled() {
        return Err(JobFailure::new(FailureKind::Cancelled, "cancelled before it started"));
    }
    let row = &spec.row;
    let instance = match instances.cached(&row.target) {
        Some(instance) => instance,
        None => load_instance(db, spec, instances, traces).await?,
    };
    let identity = Identity {
        target: row.target.clone(),
        uuid: instance.uuid,
        run: Some(row.run),
        job: Some(row.id),
        attempt: spec.attempt,
        key: row.key.clone(),
        input: row.input.clone(),
        owner: Some(spec.owner),
    };
    let ctx = JobContext::new(
        identity,
        Arc::downgrade(db),
        instance.env.clone(),
        spec.dependencies.clone(),
        cancel.clone(),
        db.notes.clone(),
    );
    let placement = Placement::of_text(row.executor.as_deref());
    let limits = Limits {
        attempt: row.timeout_ms.map(Duration::from_millis),
        stall: placement.stall(),
        grace: placement.grace().unwrap_or(db.options.cancel_grace),
    };
    let force = row.role == JobRole::Cleanup && spec.forced;
    let call = Call {
        instance: instance.clone(),
        ctx: ctx.clone(),
        role: row.role,
        method: row.method.clone(),
        force,
    };
    let result = call.run(limits, cancel, &mut traces.lingering).await;
    traces.blocked = ctx.take_blocked();
    traces.progress = ctx.reported_progress();
    let encoded = result?;
    let effects = ctx.take_effects();
    if ctx.has_measured() {
        // Another process that reads the end of the job finds all that it measured.
        db.flush_notes().await;
    }
    store_effects(db, spec, instances, encoded, effects).await.map_err(failed)
}

/// Read the component of a job from the store.
async fn load_instance(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    traces: &mut Traces,
) -> Result<Arc<Instance>, JobFailure> {
    let row = &spec.row;
    // In a task of its own: `postinit` is user code and may panic.
    let (own, instances, target) = (db.clone(), instances.clone(), row.target.clone());
    let got = tokio::spawn(Caught::new(async move { instances.get(&own, &target).await })).await;
    // A cleanup that no program can run must not keep a removal from its end.
    let lacks = |error: &Error| {
        error.kind() == crate::error::ErrorKind::UnknownKind && row.role != JobRole::Cleanup
    };
    got.map_err(stopped)??
        .inspect_err(|error| {
            traces.lacks = lacks(error);
            if traces.lacks {
                // Nothing else of this attempt stays on record.
                db.notes.log(LogRow {
                    job: row.id,
                    attempt: spec.attempt,
                    at: Timestamp::now(),
                    level: LogLevel::Warn,
                    message: format!("given back, for a program that can read it: {error}"),
                });
                db.start_note_writer();
            }
        })
        .map_err(|error| JobFailure::of(&error))
}
