//! The handle of a job that was submitted: found by id from any process, it holds no result in
//! memory.

use crate::{
    base::PAUSED,
    info::{Info, Status},
    kind::JobKind,
    labels::{pin_label, purge_label},
    save_path::SavePath,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use superduper::{
    Address, Db, Error, ErrorKind, EventStream, FailureKind, JobFailure, Locator, Result, Run,
    Value,
    job::Placement,
    store::{
        JobFilter, JobId, JobRole, JobRow, JobSignal, JobState, LogLine, MetricRow, RunId,
        check_readable,
    },
};

/// How long a job must be INTERRUPTED before `wait` returns that.
const INTERRUPTED: Duration = Duration::from_millis(100);

/// How long a cancel waits for the end of a job that waits to start, and the pause between two
/// looks.
const CANCEL_WAIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// What a cancel did, at the moment when [`JobRun::cancel`] returned.
///
/// A cancel is a request: a job that is about to end may still end with its model. After
/// [`JobRun::wait`], [`Info::completed_despite_cancel`] says whether it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The job had ended with its model, or with the file of a prediction, before the cancel. The
    /// result stays.
    Completed,
    /// The job had ended without a result before the cancel. Nothing changed.
    Ended,
    /// The job ends by itself at its next step, or its process is killed after this grace.
    ForcedAfter(Duration),
    /// The job had not started, or waited for its next try. It never will start.
    BeforeStart,
    /// The job ends at its next step. A thread cannot be forced to end: use
    /// [`Isolation::Process`](crate::Isolation::Process) for jobs that may not call `ctx.step`.
    CannotBeForced,
}

/// A training or prediction that was submitted.
///
/// Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct JobRun {
    pub(crate) db: Db,
    pub(crate) kind: JobKind,
    id: String,
    job: JobId,
    run: RunId,
    path: Option<SavePath>,
    live: Option<Run>,
}

impl JobRun {
    pub(crate) fn new(
        db: Db,
        kind: JobKind,
        id: &str,
        (run, job): (RunId, JobId),
        path: Option<SavePath>,
        live: Option<Run>,
    ) -> Self {
        JobRun { db, kind, id: id.to_owned(), job, run, path, live }
    }

    /// The newest job of an id, of whatever trainer.
    pub(crate) async fn find(db: &Db, kind: JobKind, id: &str) -> Result<Self> {
        let unknown =
            || Error::not_found(format!("unknown {} id `{}`", kind.what(), id.escape_debug()));
        if superduper::address::check_identifier(id).is_err() {
            return Err(unknown());
        }
        let filter = JobFilter {
            target: Some(kind.address(id)),
            roles: Some(vec![JobRole::Trigger]),
            limit: Some(1),
            ..JobFilter::default()
        };
        let row = db.jobs(filter).await?.pop().ok_or_else(unknown)?;
        let mut found = JobRun::new(db.clone(), kind, id, (row.run, row.id), None, None);
        found.path = found.document(&row).await?.and_then(|document| kind.path(&document, id));
        Ok(found)
    }

    /// The fields of the component as the job saw it; `None` where it was purged.
    pub(crate) async fn document(&self, row: &JobRow) -> Result<Option<Value>> {
        let target =
            row.target.version.map_or_else(|| self.address(), |at| self.address().at(at.version));
        let stored = self.db.metadata().tree(target).await?.into_iter().next();
        // An id that was purged and used again belongs to another component.
        Ok(stored.filter(|stored| stored.component == row.component).map(|stored| stored.document))
    }

    pub(crate) fn address(&self) -> Address {
        self.kind.address(&self.id)
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The job on record.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Where its files are written to.
    pub fn path(&self) -> Option<&SavePath> {
        self.path.as_ref()
    }

    pub(crate) async fn row(&self) -> Result<JobRow> {
        self.db.job(self.job).await
    }

    /// How it is doing.
    ///
    /// # Errors
    /// `Store`.
    pub async fn info(&self) -> Result<Info> {
        let row = self.row().await?;
        let mut info = Info::of(&self.id, &row);
        info.path = self.path.clone();
        if self.is_interrupted(&row).await? {
            info.status = Status::Interrupted;
        }
        if row.state.is_terminal() {
            info.purged = self.document(&row).await?.is_none();
        }
        Ok(info)
    }

    /// Wait until this process has written what the job last reported, if this process ran it: that
    /// follows the end of the job.
    #[cfg(feature = "progress")]
    pub(crate) async fn telemetry_written(&self) {
        let begun = tokio::time::Instant::now();
        while self.db.drives(self.run) && begun.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether its process died, or has stopped running it, and no process has it.
    async fn is_interrupted(&self, row: &JobRow) -> Result<bool> {
        if row.state.is_terminal() || row.state == JobState::Blocked || self.db.drives(self.run) {
            return Ok(false);
        }
        if let Some(owner) = row.owner {
            let gone = self.db.metadata().dead_workers().await?.contains(&owner)
                || self.db.has_stopped(self.run, owner).await;
            // The process that had it may have ended it, and itself, since the row was read.
            let is_still = |now: JobRow| {
                !now.state.is_terminal() && (now.owner, now.attempt) == (row.owner, row.attempt)
            };
            return Ok(gone && is_still(self.row().await?));
        }
        if row.lost > 0 {
            let attempts = self.db.attempts(self.job).await?;
            let lost = |failure: &JobFailure| failure.kind == FailureKind::WorkerLost;
            if attempts.last().and_then(|attempt| attempt.failure.as_ref()).is_some_and(lost) {
                return Ok(true);
            }
        }
        // No process has begun it, or its next try: the process that has it waits with it.
        if !self.db.is_abandoned(self.run).await? {
            return Ok(false);
        }
        // It may have begun, or ended, since the row was read.
        let now = self.row().await?;
        Ok(now.state == JobState::Queued && now.owner.is_none())
    }

    /// Wait until it is final, or INTERRUPTED. A failed job is no error here.
    ///
    /// # Errors
    /// `Store`.
    pub async fn wait(&self) -> Result<Info> {
        let mut interrupted = false;
        loop {
            if let Some(run) = &self.live {
                // What succeeded here is on record as this process has it; all else is read, also
                // what a run that was let go left unfinished.
                let outcome = run.wait().await.ok().flatten();
                let row = outcome
                    .as_ref()
                    .and_then(|outcome| outcome.jobs.iter().find(|row| row.id == self.job));
                if let Some(row) = row.filter(|row| row.state == JobState::Succeeded) {
                    let mut info = Info { path: self.path.clone(), ..Info::of(&self.id, row) };
                    // A request that came while the job ended is on record alone.
                    info.cancel_requested |= self.row().await?.cancel_requested;
                    return Ok(info);
                }
            }
            let info = self.info().await?;
            if info.status.is_terminal() {
                return Ok(info);
            }
            if info.status == Status::Interrupted {
                if interrupted {
                    return Ok(info);
                }
                // The process that runs it may be about to start again from the record.
                interrupted = true;
                tokio::time::sleep(INTERRUPTED).await;
                continue;
            }
            interrupted = false;
            match self.db.wait(self.job, Duration::from_secs(1)).await {
                Err(error) if error.kind() == ErrorKind::Store => return Err(error),
                _ => {}
            }
        }
    }

    /// Like [`JobRun::wait`], for at most so long.
    ///
    /// # Errors
    /// Also `Timeout`; the job goes on.
    pub async fn wait_timeout(&self, limit: Duration) -> Result<Info> {
        match tokio::time::timeout(limit, self.wait()).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!(
                    "{} `{}` did not end within {limit:?}; it goes on",
                    self.kind.what(),
                    self.id
                );
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Wait, and give the job's recorded result.
    pub(crate) async fn finished(&self) -> Result<Value> {
        self.wait().await?;
        // Meanwhile it may have been purged.
        let info = self.info().await?;
        let what = self.kind.what();
        match info.status {
            Status::Completed if info.purged => Err(Error::new(
                ErrorKind::Gone,
                format!("the result of {what} `{}` was purged", self.id),
            )
            .with_hint("a longer `retention`, or `pin()`, keeps results")),
            Status::Completed => {
                let missing = || {
                    Error::integrity(format!(
                        "the result of {what} `{}` (job {}) is missing",
                        self.id, self.job
                    ))
                };
                let result = self.row().await?.result.ok_or_else(missing)?;
                check_readable(
                    &result,
                    format_args!("the result of {what} `{}` (job {})", self.id, self.job),
                )?;
                Ok(result)
            }
            Status::Interrupted => Err(Error::new(
                ErrorKind::JobFailed,
                format!("{what} `{}` was interrupted: its process died", self.id),
            )
            .with_hint("`resume()` goes on from the last checkpoint")),
            status => {
                let kind = if status == Status::Cancelled {
                    ErrorKind::Cancelled
                } else {
                    ErrorKind::JobFailed
                };
                let error = info.error.unwrap_or_else(|| {
                    JobFailure::new(FailureKind::Error, "the reason is not on record")
                });
                Err(error.to_error(kind, format_args!("{what} `{}` is {status}", self.id)))
            }
        }
    }

    /// Ask for the job to be cancelled. A job that has ended stays as it is, and the outcome says
    /// whether it ended with a result. Returns at once if the job runs. If the job waits to start,
    /// this returns when its end is on record, or after a second.
    ///
    /// ```no_run
    /// # async fn example(run: superduper_train::TrainingRun) -> superduper::Result<()> {
    /// use superduper_train::CancelOutcome;
    ///
    /// if run.cancel().await? == CancelOutcome::Completed {
    ///     println!("too late to cancel: the model is there");
    /// }
    /// if run.wait().await?.completed_despite_cancel() {
    ///     println!("it ended with its model before it saw the request");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Store`.
    pub async fn cancel(&self) -> Result<CancelOutcome> {
        let row = self.row().await?;
        if row.state.is_terminal() {
            return Ok(match row.state {
                JobState::Succeeded => CancelOutcome::Completed,
                _ => CancelOutcome::Ended,
            });
        }
        self.db.cancel(self.job).await?;
        if matches!(row.state, JobState::Queued | JobState::Blocked) && self.never_starts().await? {
            return Ok(CancelOutcome::BeforeStart);
        }
        let Placement { executor, grace_ms, .. } = Placement::of_text(row.executor.as_deref());
        Ok(match executor.as_deref() {
            Some("process") => {
                CancelOutcome::ForcedAfter(Duration::from_millis(grace_ms.unwrap_or_default()))
            }
            _ => CancelOutcome::CannotBeForced,
        })
    }

    /// Whether a job that waited to start was cancelled before it started.
    ///
    /// The commit of the cancel ends a job that no process has claimed. If a process has claimed it
    /// ahead, that process ends it. If the job still waits after [`CANCEL_WAIT`], the record decides:
    /// once a cancel is on record, no process claims the job.
    async fn never_starts(&self) -> Result<bool> {
        let deadline = Instant::now() + CANCEL_WAIT;
        loop {
            let row = self.row().await?;
            match row.state {
                JobState::Cancelled => return Ok(true),
                JobState::Queued | JobState::Blocked if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await
                }
                JobState::Queued | JobState::Blocked => return Ok(row.owner.is_none()),
                _ => return Ok(false),
            }
        }
    }

    /// Ask it to finish the step under way and to end with what it has: COMPLETED, with the best so
    /// far.
    ///
    /// One that has never started has nothing; it is cancelled. One that is paused, or waits for its
    /// next try, goes on for as long as it takes to end with what its last checkpoint has.
    ///
    /// # Errors
    /// `Store`.
    pub async fn stop(&self) -> Result<()> {
        let row = self.row().await?;
        if row.attempt == 0 && row.state == JobState::Queued {
            // Held first, so that what starts in this very moment is stopped and not cancelled.
            match self.db.block(self.job, "stopped before it started").await {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                held => held?,
            }
        }
        let row = self.row().await?;
        match row.state {
            JobState::Blocked if row.attempt == 0 => self.db.cancel(self.job).await,
            JobState::Queued | JobState::Running => self.db.signal(self.job, JobSignal::Stop).await,
            JobState::Blocked => {
                self.db.signal(self.job, JobSignal::Stop).await?;
                self.db.unblock(self.job).await
            }
            _ => Ok(()),
        }
    }

    /// Let it wait until [`JobRun::resume`]: at its next checkpoint, or step where it writes none.
    ///
    /// # Errors
    /// `Store`; `InvalidInput` for one that is final.
    pub async fn pause(&self) -> Result<()> {
        loop {
            let row = self.row().await?;
            match row.state {
                JobState::Queued if row.owner.is_none() => {
                    match self.db.block(self.job, PAUSED).await {
                        // It was taken in the meantime, or is final.
                        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                        blocked => return blocked,
                    }
                }
                JobState::Queued | JobState::Running => {
                    return self.db.signal(self.job, JobSignal::Pause).await;
                }
                JobState::Blocked => return Ok(()),
                state => {
                    let text = format!(
                        "{} `{}` is {}, it cannot be paused",
                        self.kind.what(),
                        self.id,
                        Status::of(state)
                    );
                    return Err(Error::invalid(text));
                }
            }
        }
    }

    /// Go on: after a pause, after its process was lost, and after a failure or cancellation, each
    /// time from the last checkpoint. A request to pause that did not take effect yet is taken back.
    /// Gives the handle to use from now on.
    ///
    /// # Errors
    /// `Store`; `InvalidInput` for one that is completed; `Gone` for one that was purged;
    /// `Conflict` for one that failed or was cancelled while another job of its id is unfinished:
    /// one that was resumed already, or submitted later.
    pub async fn resume(&self) -> Result<Self> {
        let row = self.row().await?;
        if row.state.is_terminal() && self.info().await?.purged {
            return Err(Error::new(
                ErrorKind::Gone,
                format!("{} `{}` was purged", self.kind.what(), self.id),
            ));
        }
        if row.pause_requested {
            self.db.signal(self.job, JobSignal::Continue).await?;
        }
        // Read after that: an attempt that gave up before is blocked now, a later one goes on by
        // itself.
        let row = self.row().await?;
        let live = match row.state {
            JobState::Blocked => {
                match self.db.unblock(self.job).await {
                    // Somebody else did.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                    unblocked => unblocked?,
                }
                None
            }
            JobState::Queued | JobState::Running => Some(self.db.resume_run(self.run).await?),
            JobState::Succeeded => {
                return Err(Error::invalid(format!(
                    "{} `{}` is completed",
                    self.kind.what(),
                    self.id
                )));
            }
            JobState::Failed | JobState::Cancelled | JobState::Skipped => {
                let newest = JobRun::find(&self.db, self.kind, &self.id).await?.job;
                if newest != self.job {
                    let (what, id) = (self.kind.what(), &self.id);
                    let text = format!(
                        "{what} `{id}` cannot be resumed: it was resumed before, or submitted again, as job {newest}"
                    );
                    return Err(Error::conflict(text).with_hint("`get_model_future(id)` finds it"));
                }
                let resumed = self.db.retry_exclusive(self.job).await.map_err(|error| match error
                    .kind()
                {
                    ErrorKind::Conflict => error
                        .context(format_args!(
                            "{} `{}` cannot be resumed",
                            self.kind.what(),
                            self.id
                        ))
                        .with_hint(
                            "another job of this id is unfinished; `get_model_future(id)` finds it",
                        ),
                    _ => error,
                });
                Some(resumed?)
            }
        };
        let mut next = JobRun { live, ..self.clone() };
        if let Some(run) = &next.live {
            let jobs = run.jobs().await?;
            let mine = jobs.iter().find(|job| job.id == self.job || job.retry_of == Some(self.job));
            if let Some(row) = mine {
                (next.job, next.run) = (row.id, row.run);
            }
        }
        Ok(next)
    }

    /// Run its unfinished job in this process too: where the process that has it dies, this one goes
    /// on. An observer only waits.
    pub(crate) async fn lead(self) -> Result<Self> {
        match self.db.resume_run(self.run).await {
            Ok(live) => Ok(JobRun { live: Some(live), ..self }),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(self),
            Err(error) => Err(error),
        }
    }

    /// Keep it from being purged, or no longer. Another submission of the same id has a pin of its
    /// own.
    ///
    /// # Errors
    /// `Gone` where it was purged before; `Conflict` where that is under way.
    pub async fn pin(&self, pinned: bool) -> Result<()> {
        let row = self.row().await?;
        let version = row.target.version.map_or(0, |at| at.version);
        let gone = || {
            Error::new(ErrorKind::Gone, format!("{} `{}` was purged", self.kind.what(), self.id))
        };
        if self.document(&row).await?.is_none() {
            return Err(gone());
        }
        let done = match pinned {
            true => {
                self.db.label(Locator::from(self.address().at(version)), &pin_label(version)).await
            }
            false => self.db.unlabel(self.address(), &pin_label(version)).await,
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(gone().with_source(error));
            }
            done => done.map(drop)?,
        }
        // A purge sets its label first and then looks for pins; here it is the other way round.
        if pinned
            && self
                .db
                .labels(self.address())
                .await?
                .iter()
                .any(|row| row.label == purge_label(version))
        {
            self.db.unlabel(self.address(), &pin_label(version)).await?;
            let text = format!("{} `{}` is being purged", self.kind.what(), self.id);
            return Err(Error::conflict(text)
                .with_hint("some of its files may be gone; `purge()` completes it"));
        }
        Ok(())
    }

    /// Whether it is kept from being purged.
    ///
    /// # Errors
    /// `Store`.
    pub async fn is_pinned(&self) -> Result<bool> {
        let version = self.row().await?.target.version.map_or(0, |at| at.version);
        let labels = self.db.labels(self.address()).await?;
        Ok(labels.iter().any(|row| row.label == pin_label(version)))
    }

    /// The job and those that it tries again, oldest first.
    async fn chain(&self) -> Result<Vec<JobId>> {
        let mut chain = vec![self.job];
        let mut next = self.row().await?.retry_of;
        while let Some(job) = next {
            chain.push(job);
            next = self.db.job(job).await?.retry_of;
        }
        chain.reverse();
        Ok(chain)
    }

    /// What it measured so far, by name and step: also while it runs, also in another process, and
    /// what was measured before it was resumed.
    ///
    /// # Errors
    /// `Store`.
    pub async fn metrics(&self) -> Result<Vec<MetricRow>> {
        // What was done again after the last checkpoint was measured again, by a later job.
        let points = self.db.metrics(self.chain().await?).await?;
        let all: BTreeMap<(String, u64), MetricRow> = points
            .into_iter()
            .map(|point| ((point.name.clone(), point.step), point.into()))
            .collect();
        Ok(all.into_values().collect())
    }

    /// The last number of each metric, by name.
    #[cfg(feature = "progress")]
    pub(crate) async fn newest_metrics(&self) -> Result<Vec<MetricRow>> {
        let points = self.db.metrics(self.chain().await?).points(1).await?;
        let mut newest: BTreeMap<String, MetricRow> = BTreeMap::new();
        for point in points {
            if newest.get(&point.name).is_none_or(|row| row.step <= point.step) {
                newest.insert(point.name.clone(), point.into());
            }
        }
        Ok(newest.into_values().collect())
    }

    /// What it logged, also before it was resumed.
    ///
    /// # Errors
    /// `Store`.
    pub async fn logs(&self) -> Result<Vec<LogLine>> {
        let mut all = Vec::new();
        for job in self.chain().await? {
            all.extend(self.db.logs(job).await?);
        }
        Ok(all)
    }

    /// What happens to it, from its beginning to its end.
    pub fn events(&self) -> EventStream {
        self.db.run_events(self.run)
    }

    /// The checkpoints that are kept, also of before it was resumed, the newest last: numbers and
    /// steps. Numbers start again with each job that retries another one.
    ///
    /// # Errors
    /// `Store`.
    pub async fn checkpoints(&self) -> Result<Vec<(u32, u64)>> {
        let mut all = Vec::new();
        for job in self.chain().await? {
            all.extend(
                self.db.checkpoints(job).await?.into_iter().map(|row| (row.number, row.step)),
            );
        }
        Ok(all)
    }
}
