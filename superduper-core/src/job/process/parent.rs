//! The parent of a job process: starts it, watches it, and says how it ended.
//!
//! Invariant: when an attempt has ended here, none of its processes run any more. The exception: if
//! its end is on record, its job process may go on with runs that the job started.

use super::{
    lifeline::Lifeline,
    output::{JobOutput, Log, Stream, explain},
    request::{CANNOT_OPEN, LACKS, Marks, Request},
    spawn::spawn,
    strays,
};
use crate::unreturned::{Site, Unreturned};
use crate::{
    component::policy::Placement,
    db::DbInner,
    error::{Error, ErrorKind, FailureKind, JobFailure, Result},
    job::{
        CancelToken, JobSpec,
        executor::{Attempt, AttemptEnd},
        limits,
        program::Program,
    },
    store::{Batch, Durability, JobFilter, JobRow, JobSignal, Op, StoreLocations},
};
use rustix::process::{Pid, Signal};
use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// How often the parent checks whether the end of an attempt is on record while its job process
/// still lives.
const ENDED: Duration = Duration::from_millis(500);

/// Run an attempt in a job process.
pub(super) async fn run(
    program: &Program,
    stores: &StoreLocations,
    attempt: Attempt,
) -> Result<AttemptEnd> {
    let Attempt { db, spec, cancel, .. } = attempt;
    let placement = Placement::of_text(spec.row.executor.as_deref());
    let kills_before = limits::memory_kills();
    let mut child = JobProcess::start(program, stores, &db, &spec).await?;
    let forced = match child.watch(&db, &spec, &cancel, &placement).await {
        Seen::Gone => None,
        Seen::Forced(failure) => {
            child.end().await;
            Some(failure)
        }
        Seen::Recorded => {
            tokio::spawn(go_on(child, spec.row.id));
            return Ok(AttemptEnd::recorded());
        }
    };
    let status = child.wait().await?;
    let rows =
        db.metadata.jobs(JobFilter { ids: Some(vec![spec.row.id]), ..JobFilter::default() }).await;
    let over = |rows: &Vec<JobRow>| {
        rows.first().is_none_or(|row| row.owner != Some(spec.owner) || row.attempt != spec.attempt)
    };
    let recorded = rows.as_ref().is_ok_and(over);
    let last = child.clear(recorded).await;
    if recorded {
        return Ok(AttemptEnd::recorded());
    }
    rows?;
    if status.code() == Some(LACKS) && forced.is_none() {
        return Ok(AttemptEnd::unable());
    }
    if status.code() == Some(CANNOT_OPEN) && forced.is_none() {
        let text = match last.as_str() {
            "" => "the worker could not open the stores of its parent".to_owned(),
            last => format!(
                "the worker could not open the stores of its parent; its standard error ended with: {last}"
            ),
        };
        return Err(Error::new(ErrorKind::Unsupported, text).fatal());
    }
    let failure = forced.unwrap_or_else(|| limits::describe(status, &placement, kills_before));
    Ok(AttemptEnd::lost(explain(failure, &last)))
}

/// What the parent sees of its job process first.
enum Seen {
    /// It has ended.
    Gone,
    /// It has to be ended by force.
    Forced(JobFailure),
    /// It lives, and the end of its attempt is on record.
    Recorded,
}

/// A job process, as its parent has it. Dropping this closes the connection, and the job process
/// ends itself.
struct JobProcess {
    id: Option<Pid>,
    marks: Marks,
    lifeline: Arc<Lifeline>,
    /// How it ended, once that is known.
    status: Option<std::io::Result<ExitStatus>>,
    waiting: JoinHandle<std::io::Result<ExitStatus>>,
    stdout: Option<JobOutput>,
    stderr: Option<JobOutput>,
}

impl Drop for JobProcess {
    fn drop(&mut self) {
        // Output may still come, with secrets that were told and not read yet.
        self.lifeline.receive();
        if let Some(id) = self.id.filter(|_| self.status.is_none()) {
            // A job process that is stopped would not notice that the connection closed.
            strays::signal(id, Signal::CONT);
        }
    }
}

impl JobProcess {
    async fn start(
        program: &Program,
        stores: &StoreLocations,
        db: &Arc<DbInner>,
        spec: &JobSpec,
    ) -> Result<Self> {
        let mut command = program.command();
        command.args(&db.options.worker_args);
        let request = Request {
            job: spec.row.id,
            attempt: spec.attempt,
            owner: spec.owner,
            parent: std::process::id(),
        };
        request.pass(&mut command, stores);
        limits::pass(&mut command, &Placement::of_text(spec.row.executor.as_deref()));
        for (name, value) in &db.options.worker_env {
            command.env(name, value);
        }
        let lifeline = Arc::new(Lifeline::to(&mut command)?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = spawn(command)
            .await
            .map_err(|error| error.context(format_args!("starting worker `{program}`")))?;
        let log = || Log {
            notes: db.notes.clone(),
            job: spec.row.id,
            attempt: spec.attempt,
            lifeline: Arc::downgrade(&lifeline),
        };
        let stdout = child.stdout.take().map(|pipe| JobOutput::follow(pipe, Stream::Out, log()));
        let stderr = child.stderr.take().map(|pipe| JobOutput::follow(pipe, Stream::Err, log()));
        db.start_note_writer();
        Ok(JobProcess {
            id: i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            marks: request.marks(stores),
            lifeline,
            status: None,
            waiting: tokio::task::spawn_blocking(move || child.wait()),
            stdout,
            stderr,
        })
    }

    /// Watch the job process until it ends, has to be ended, or has recorded the end of its
    /// attempt.
    async fn watch(
        &mut self,
        db: &Arc<DbInner>,
        spec: &JobSpec,
        cancel: &Arc<CancelToken>,
        placement: &Placement,
    ) -> Seen {
        let (lifeline, waiting) = (&self.lifeline, &mut self.waiting);
        let grace = placement.grace().unwrap_or(db.options.cancel_grace);
        let asked = async {
            loop {
                cancel.changed().await;
                if db.is_closed() { lifeline.ask_to_pause() } else { lifeline.nudge() }
            }
        };
        tokio::select! {
            status = waiting => {
                self.status = Some(status.unwrap_or_else(|error| Err(std::io::Error::other(error))));
                Seen::Gone
            }
            failure = late(spec.row.timeout_ms.map(Duration::from_millis)) => Seen::Forced(failure),
            failure = lifeline.silent(placement.stall()) => Seen::Forced(failure),
            failure = stopped(db, spec, cancel, lifeline, grace) => Seen::Forced(failure),
            () = asked => unreachable!("asking has no end"),
            () = listen(lifeline) => unreachable!("listening has no end"),
            () = ended_on_record(db, spec) => Seen::Recorded,
        }
    }

    /// End the job process by force, with all processes that it started.
    async fn end(&self) {
        if let Some(id) = self.id {
            tokio::task::spawn_blocking(move || strays::end(id))
                .await
                .ignored("at the end of the runtime it ends by itself");
        }
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        if self.status.is_none() {
            let status = (&mut self.waiting).await;
            self.status = Some(status.unwrap_or_else(|error| Err(std::io::Error::other(error))));
        }
        let status = self
            .status
            .as_ref()
            .map(|status| status.as_ref().copied().map_err(ToString::to_string));
        let failed = |text: String| Error::internal(text).context("waiting for a job process");
        status.unwrap_or_else(|| Err("it was not waited for".to_owned())).map_err(failed)
    }

    /// After the end of the job process: end the processes that it started, and write the rest of
    /// its output to the log. Returns the last lines of its standard error.
    async fn clear(mut self, recorded: bool) -> String {
        self.id.into_iter().for_each(strays::end_group);
        let success = self
            .status
            .as_ref()
            .is_some_and(|status| status.as_ref().is_ok_and(ExitStatus::success));
        // A job process that recorded the end of its attempt and exited with success has ended the
        // processes that it started.
        if !(recorded && success) {
            let marks = self.marks.clone();
            let ended = tokio::task::spawn_blocking(move || strays::end_marked(&marks)).await;
            ended.ignored("at the end of the runtime no thread is left to do it");
        }
        if let Some(stdout) = self.stdout.take() {
            stdout.finish().await;
        }
        match self.stderr.take() {
            Some(stderr) => stderr.finish().await,
            None => String::new(),
        }
    }
}

/// Stay with a job process whose job is over: it goes on with runs that its job started and did not
/// wait for. It is listened to until its end, since a job process whose messages are not read
/// cannot reveal another secret.
async fn go_on(mut child: JobProcess, job: crate::store::JobId) {
    let lifeline = child.lifeline.clone();
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = listen(&lifeline) => None,
    };
    if let Some(ended) = ended {
        ended.or_warn(Site::WORKER.job(job), "waiting for the end of a job process");
    }
    drop(lifeline);
    child.clear(true).await;
}

/// Read what the job process tells also while it prints nothing, so that it need not wait.
async fn listen(lifeline: &Lifeline) {
    loop {
        tokio::time::sleep(ENDED).await;
        lifeline.receive();
    }
}

async fn late(limit: Option<Duration>) -> JobFailure {
    let Some(limit) = limit else { return std::future::pending().await };
    tokio::time::sleep(limit).await;
    JobFailure::new(
        FailureKind::Timeout,
        format!("the attempt ran longer than its time limit of {limit:?}"),
    )
}

/// Completes when the job was cancelled and the grace is over, or at once if another process has
/// the job.
async fn stopped(
    db: &DbInner,
    spec: &JobSpec,
    cancel: &CancelToken,
    lifeline: &Lifeline,
    grace: Duration,
) -> JobFailure {
    cancel.cancelled().await;
    if cancel.is_abandoned() {
        // A mark in the store would cancel the job in that other process.
        return JobFailure::new(
            FailureKind::Cancelled,
            "the job was taken over by another process; the worker was killed",
        );
    }
    // The job process sees the mark in the store and may end by itself.
    let ops = vec![Op::Signal { jobs: vec![spec.row.id], signal: JobSignal::Cancel }];
    let site = Site::WORKER.run(spec.row.run).job(spec.row.id).attempt(spec.attempt);
    db.metadata
        .commit(Batch { expect: Vec::new(), ops }, Durability::Relaxed)
        .await
        .or_warn(site, "telling a job process to cancel");
    lifeline.nudge();
    tokio::time::sleep(grace).await;
    let text = match cancel.is_abandoned() {
        true => "the job was taken over by another process; the worker was killed",
        false => "cancelled; the worker was killed after the grace period",
    };
    JobFailure::new(FailureKind::Cancelled, text)
}

/// Completes when the job process has recorded the end of its attempt.
async fn ended_on_record(db: &DbInner, spec: &JobSpec) {
    loop {
        tokio::time::sleep(ENDED).await;
        let rows = db
            .metadata
            .jobs(JobFilter { ids: Some(vec![spec.row.id]), ..JobFilter::default() })
            .await;
        let by_itself = |row: &JobRow| {
            row.lost == spec.row.lost && (row.owner.is_none() || row.attempt != spec.attempt)
        };
        let site = Site::WORKER.run(spec.row.run).job(spec.row.id).attempt(spec.attempt);
        let rows = rows.or_warn(site, "reading whether a job process has recorded its end");
        if rows.is_some_and(|rows| rows.first().is_some_and(by_itself)) {
            return;
        }
    }
}
