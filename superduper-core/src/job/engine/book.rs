//! What the shell keeps of a run: rows, results, instances, attempts under way.

use super::handle::Ending;
use crate::{
    address::Address,
    db::DbInner,
    error::{Error, JobFailure, Result},
    job::{
        CancelToken, Instances, JobSpec, Outcome, Placement,
        record::{MOST_FAILURES, ResultBlobs},
        scheduler::Loaded,
    },
    plan::Removal,
    store::{
        ComponentId, Finish, Finished, JobId, JobRef, JobRow, JobSignal, JobSignals, JobState,
        LogLevel, LogRow, NewJob, RunId, RunRow, RunState, Timestamp, WorkerId,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A failure so long ago says nothing of the store as it is.
const LONG_AGO: Duration = Duration::from_secs(60);

/// An attempt that runs, or whose end is not on record yet.
struct Live {
    attempt: u32,
    cancel: Arc<CancelToken>,
    /// Of its result; with them one that a sweep took is saved again.
    blobs: Option<ResultBlobs>,
    /// Steps done and in total, as it last reported them.
    progress: Option<(u64, u64)>,
}

/// How often the store failed, one time soon after the other.
#[derive(Default)]
pub(super) struct Trouble {
    times: u32,
    at: Option<Instant>,
    pub(super) last: Option<Error>,
}

impl Trouble {
    /// Whether it is too much.
    pub(super) fn count(&mut self, error: Error) -> bool {
        if self.at.is_some_and(|at| at.elapsed() > LONG_AGO) {
            self.times = 0;
        }
        self.at = Some(Instant::now());
        self.times += 1;
        let is_final = !error.is_retryable();
        self.last = Some(error);
        is_final || self.times > MOST_FAILURES
    }

    pub(super) fn clear(&mut self) {
        self.times = 0;
    }

    pub(super) fn failure(&self) -> JobFailure {
        self.last.as_ref().map_or_else(
            || JobFailure::new(crate::error::FailureKind::Error, "the store failed"),
            JobFailure::of,
        )
    }
}

/// Versions whose jobs ended elsewhere: their outputs are read, and shown to instances here, before
/// anything else starts.
#[derive(Default)]
pub(super) struct Unshown {
    targets: Mutex<BTreeSet<Address>>,
    gate: tokio::sync::Mutex<()>,
}

impl Unshown {
    fn targets(&self) -> std::sync::MutexGuard<'_, BTreeSet<Address>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.targets().is_empty()
    }

    /// Show them; those that could not be read are left for the next time.
    pub(super) async fn show(&self, db: &DbInner, instances: &Instances) -> Result<()> {
        let _one_at_a_time = self.gate.lock().await;
        loop {
            let Some(target) = self.targets().first().cloned() else { return Ok(()) };
            let stored = db.metadata.tree(target.clone()).await?.into_iter().next();
            let outputs: Vec<(String, Value)> =
                stored.map(|stored| stored.outputs.into_iter().collect()).unwrap_or_default();
            if !outputs.is_empty() {
                instances.outputs_committed(&target, &outputs);
            }
            self.targets().remove(&target);
        }
    }
}

/// A run.
pub(super) struct Book {
    run: RunRow,
    forced: bool,
    /// What a removal waits for beside its own jobs; `None` for one that waits for nothing more.
    pub(super) removal: Option<Arc<Removal>>,
    /// Of this run and, where jobs of it wait for them, of others.
    rows: BTreeMap<JobId, Box<JobRow>>,
    /// By job, the parameters that are results of others.
    parameters: HashMap<JobId, Vec<(String, JobId)>>,
    /// By job, those that wait for it.
    waiting: HashMap<JobId, BTreeSet<JobId>>,
    live: HashMap<JobId, Live>,
    pub(super) instances: Arc<Instances>,
    pub(super) unshown: Arc<Unshown>,
    pub(super) told: watch::Sender<Ending>,
    pub(super) trouble: Trouble,
}

impl Book {
    pub(super) fn new(
        run: &RunRow,
        instances: Arc<Instances>,
        told: watch::Sender<Ending>,
    ) -> Self {
        Book {
            run: run.clone(),
            forced: super::removal::is_forced(run),
            removal: super::removal::waits_for_more(run).map(Arc::new),
            rows: BTreeMap::new(),
            parameters: HashMap::new(),
            waiting: HashMap::new(),
            live: HashMap::new(),
            instances,
            unshown: Arc::default(),
            told,
            trouble: Trouble::default(),
        }
    }

    /// Keep what was read.
    pub(super) fn take(&mut self, loaded: Loaded) {
        let changes = loaded.changes;
        self.run = changes.run;
        for need in changes.dependencies {
            self.waiting.entry(need.needs).or_default().insert(need.job);
            if let Some(name) = need.parameter {
                let parameters = self.parameters.entry(need.job).or_default();
                if !parameters.iter().any(|(known, _)| *known == name) {
                    parameters.push((name, need.needs));
                }
            }
        }
        for row in loaded.others.into_iter().chain(changes.jobs) {
            self.rows.insert(row.id, Box::new(row));
        }
    }

    /// What an attempt runs; it runs from now on.
    pub(super) fn start(
        &mut self,
        owner: WorkerId,
        job: JobId,
        attempt: u32,
        (tries, lost): (u32, u32),
        signals: JobSignals,
    ) -> Option<(JobSpec, Arc<CancelToken>)> {
        let row = self.rows.get_mut(&job)?;
        row.state = JobState::Running;
        row.owner = Some(owner);
        row.started_at = Some(Timestamp::now());
        (row.attempt, row.tries, row.lost) = (attempt, tries, lost);
        (row.cancel_requested, row.stop_requested, row.pause_requested) =
            (signals.cancel, signals.stop, signals.pause);
        let row = JobRow::clone(row);
        let result =
            |job: &JobId| self.rows.get(job).and_then(|row| row.result.clone()).unwrap_or_default();
        let parameters = self.parameters.get(&job).into_iter().flatten();
        let dependencies = parameters.map(|(name, needs)| (name.clone(), result(needs))).collect();
        let open = |other: &&JobId| {
            self.rows
                .get(other)
                .is_none_or(|row| row.run == self.run.id && !row.state.is_terminal())
        };
        let waiting = self.waiting.get(&job).into_iter().flatten().filter(open).copied().collect();
        let cancel: Arc<CancelToken> = Arc::default();
        ask(&cancel, signals);
        self.live
            .insert(job, Live { attempt, cancel: cancel.clone(), blobs: None, progress: None });
        Some((
            JobSpec {
                row,
                attempt,
                owner,
                dependencies,
                waiting,
                forced: self.forced,
                is_own: true,
            },
            cancel,
        ))
    }

    fn live(&mut self, job: JobId, attempt: u32) -> Option<&mut Live> {
        self.live.get_mut(&job).filter(|live| live.attempt == attempt)
    }

    /// Pass on what is asked of an attempt.
    pub(super) fn signal(&mut self, job: JobId, attempt: u32, signals: JobSignals) {
        if let Some(live) = self.live(job, attempt) {
            ask(&live.cancel, signals);
        }
    }

    /// An attempt no longer counts.
    pub(super) fn abandon(&mut self, job: JobId, attempt: u32) {
        if self.live(job, attempt).is_some()
            && let Some(live) = self.live.remove(&job)
        {
            live.cancel.abandon();
        }
    }

    /// This process ends; what the attempt comes back with counts.
    pub(super) fn stop(&mut self, job: JobId, attempt: u32) {
        if let Some(live) = self.live(job, attempt) {
            live.cancel.abandon();
        }
    }

    /// An attempt is back; what of it is needed until its end is on record.
    pub(super) fn came_back(
        &mut self,
        job: JobId,
        attempt: u32,
        blobs: ResultBlobs,
        progress: Option<(u64, u64)>,
    ) {
        if let Some(live) = self.live(job, attempt) {
            live.blobs = Some(blobs);
            live.progress = progress;
        }
    }

    /// The blobs of an end, to be saved again.
    pub(super) fn take_blobs(&mut self, job: JobId, attempt: u32) -> ResultBlobs {
        self.live(job, attempt).and_then(|live| live.blobs.take()).unwrap_or_default()
    }

    pub(super) fn keep_blobs(&mut self, job: JobId, attempt: u32, blobs: ResultBlobs) {
        if let Some(live) = self.live(job, attempt) {
            live.blobs = Some(blobs);
        }
    }

    /// The component of a job, and its executor if the job names one.
    pub(super) fn place(&self, job: JobId) -> Option<(Address, Option<String>)> {
        let row = self.rows.get(&job)?;
        Some((row.target.clone(), Placement::of_text(row.executor.as_deref()).executor))
    }

    /// When an attempt started, as far as that is known here.
    pub(super) fn started_at(&self, job: JobId) -> Option<Timestamp> {
        self.rows.get(&job).and_then(|row| row.started_at)
    }

    /// The end of an attempt is on record.
    pub(super) fn recorded(&mut self, end: Finish, spawned: &[JobId]) {
        let run = self.run.id;
        for (job, id) in end.spawned.into_iter().zip(spawned) {
            for need in &job.needs {
                let needs = match need.job {
                    JobRef::New(place) => spawned.get(place).copied(),
                    JobRef::Id(needs) => Some(needs),
                };
                if let Some(needs) = needs {
                    self.waiting.entry(needs).or_default().insert(*id);
                }
            }
            self.rows.entry(*id).or_insert_with(|| Box::new(new_row(job, *id, run)));
        }
        for (job, place) in end.spawned_before {
            if let Some(id) = spawned.get(place) {
                self.waiting.entry(*id).or_default().insert(job);
            }
        }
        let progress = self.live(end.job, end.attempt).and_then(|live| live.progress);
        self.live.remove(&end.job);
        let Some(row) = self.rows.get_mut(&end.job) else { return };
        if !end.outputs.is_empty() {
            let outputs: Vec<(String, Value)> =
                end.outputs.into_iter().map(|output| (output.name, output.value)).collect();
            self.instances.outputs_committed(&row.target, &outputs);
        }
        row.owner = None;
        row.started_at = Some(end.started_at);
        row.progress = progress.or(row.progress);
        let (state, failure) = match end.end {
            Finished::Succeeded(value) => {
                row.result = Some(value);
                (JobState::Succeeded, None)
            }
            Finished::Failed(failure) => (JobState::Failed, Some(failure)),
            Finished::Cancelled(failure) => (JobState::Cancelled, Some(failure)),
            Finished::Retry(failure, time) => {
                row.tries += 1;
                row.not_before = Some(time);
                (JobState::Queued, Some(failure))
            }
            // What the record made of these is read.
            Finished::Released | Finished::Blocked(_) | Finished::Paused(_) => {
                (JobState::Queued, row.failure.take())
            }
        };
        (row.state, row.failure) = (state, failure);
        row.ended_at = state.is_terminal().then_some(end.at);
    }

    /// A job became final without an attempt.
    pub(super) fn settled(
        &mut self,
        job: JobId,
        state: JobState,
        failure: JobFailure,
        at: Timestamp,
    ) {
        if let Some(row) = self.rows.get_mut(&job) {
            (row.state, row.failure, row.ended_at) = (state, Some(failure), Some(at));
            row.cancel_requested |= state == JobState::Cancelled;
        }
    }

    /// Another process ended a job, or it may have: its outputs are on record.
    pub(super) fn ended_elsewhere(&mut self, job: JobId) {
        if let Some(row) = self.rows.get(&job) {
            self.unshown.targets().insert(row.target.clone());
        }
    }

    /// The store refuses to delete what was removed: something got hold of it although it was
    /// marked. The run ends as failed.
    pub(super) fn log_refused_deletion(&self, db: &Arc<DbInner>, error: &Error) {
        if let Some(row) = self.rows.values().rev().find(|row| row.run == self.run.id) {
            let (job, attempt, at) = (row.id, row.attempt, Timestamp::now());
            let message = format!("nothing was deleted: {error}");
            db.notes.log(LogRow { job, attempt, at, level: LogLevel::Error, message });
        }
    }

    /// The run is over.
    pub(super) fn outcome(
        &mut self,
        db: &DbInner,
        state: RunState,
        at: Option<Timestamp>,
    ) -> Outcome {
        let mut run = self.run.clone();
        run.state = state;
        run.ended_at = at.or(run.ended_at).or_else(|| Some(Timestamp::now()));
        let rows = std::mem::take(&mut self.rows).into_values();
        let jobs = rows.filter(|row| row.run == run.id).map(|row| *row).collect();
        Outcome { run, jobs, registry: db.registry.clone(), artifacts: Some(db.artifacts.clone()) }
    }
}

fn ask(token: &CancelToken, signals: JobSignals) {
    if signals.stop {
        token.send(JobSignal::Stop);
    }
    token.send(if signals.pause { JobSignal::Pause } else { JobSignal::Continue });
    if signals.cancel && !token.is_cancelled() {
        token.cancel();
    }
}

/// A job as it is on record once it is recorded. One that is blocked from the beginning is taken
/// for queued until its row is read.
pub(crate) fn new_row(job: NewJob, id: JobId, run: RunId) -> JobRow {
    let (owner, job) = (job.claim, NewJob { blocked: None, ..job });
    JobRow::new(id, run, ComponentId(0), job, owner)
}
