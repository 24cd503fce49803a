//! Steering jobs: resume, retry, cancel, unblock, wait.

use super::{
    Db, DbInner, Run,
    cancel::{cancel, cancel_jobs},
    launch::Launch,
};
use crate::unreturned::{Site, Unreturned};
use crate::{
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    job::{Command, Outcome, describe},
    store::{
        Batch, Expect, JobDependency, JobFilter, JobId, JobRef, JobRow, JobSignal, JobState, Need,
        NewJob, NewRun, Op, RunId, RunPurpose, Timestamp,
    },
};
use std::{future::IntoFuture, sync::Arc, time::Duration};

/// A resume under construction; await it.
#[must_use = "a resume does nothing until it is awaited"]
pub struct Resume(Db);

impl Resume {
    /// Do not wait for the jobs.
    ///
    /// # Errors
    /// `Store`.
    pub async fn detach(self) -> Result<Vec<Run>> {
        let db = self.0.inner();
        db.check_runs_jobs("resume")?;
        db.reclaim_dead().await?;
        let (mut runs, mut failed) = (Vec::new(), Vec::new());
        for run in db.unfinished_runs().await? {
            // One that cannot be driven must not keep the others from it.
            match db.attach(run.id).await {
                Ok(handle) => {
                    handle.tell(Command::Look);
                    runs.push(Run::resumed(db.clone(), run.id, handle));
                }
                Err(error) => failed.push((run.id, error.context(format_args!("run {}", run.id)))),
            }
        }
        let returned =
            if runs.is_empty() && !failed.is_empty() { Some(failed.remove(0).1) } else { None };
        failed.iter().for_each(|(run, error)| Site::RUN.run(*run).warn(error, "resuming a run"));
        if let Some(error) = returned {
            return Err(error);
        }
        // Last, and no error: a blob that cannot be deleted must not keep jobs from running. `gc`
        // tells of it.
        db.finish_sweeps()
            .await
            .or_warn(Site::SWEEP, "completing the sweeps of processes that are gone");
        Ok(runs)
    }
}

impl IntoFuture for Resume {
    type Output = Result<Vec<Outcome>>;
    type IntoFuture = BoxFuture<'static, Result<Vec<Outcome>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut outcomes = Vec::new();
            let mut stopped = None;
            for run in self.detach().await? {
                for handle in run.handles() {
                    // A run that has to stop must not keep this from waiting for the others.
                    match super::run::outcome_of(run.db(), handle).await {
                        Ok(outcome) => outcomes.push(outcome),
                        Err(error) if stopped.is_none() => stopped = Some(error),
                        Err(error) => Site::RUN.run(handle.run).warn(&error, "waiting for a run"),
                    }
                }
            }
            stopped.map_or(Ok(outcomes), Err)
        })
    }
}

/// What to cancel: a job or a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// One job; what needs it is skipped.
    Job(JobId),
    /// All jobs of a run.
    Run(RunId),
}

impl From<JobId> for Cancel {
    fn from(job: JobId) -> Self {
        Cancel::Job(job)
    }
}

impl From<RunId> for Cancel {
    fn from(run: RunId) -> Self {
        Cancel::Run(run)
    }
}

impl Db {
    /// Run what a crash or a closed program left: jobs that are not final, removals, sweeps.
    ///
    /// Awaited, it waits for all of them and gives the outcomes, failed ones too; `.detach()` gives
    /// the runs.
    ///
    /// # Errors
    /// `Store`, where the store failed for so long that a run had to stop; the others have ended.
    pub fn resume(&self) -> Resume {
        Resume(self.clone())
    }

    /// Try a failed, cancelled or skipped job again, with what was skipped because of it.
    ///
    /// The old job stays as it is; a new one (`retry_of`) runs in a new run.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a job that is not final or has succeeded; `InUse` where it
    /// would overwrite outputs of a version with a label; `JobFailed` where it fails again.
    pub async fn retry(&self, job: JobId) -> Result<Outcome> {
        let run = self.retry_detached(job).await?;
        let outcome = run.wait().await?.ok_or_else(|| Error::internal("a retry has no outcome"))?;
        // A tolerated job does not fail its run, but it was asked for here.
        let own = outcome.jobs.iter().find(|row| row.retry_of == Some(job));
        let error = own.and_then(|row| match row.state {
            JobState::Failed | JobState::Skipped => Some(describe(row, ErrorKind::JobFailed)),
            JobState::Cancelled => Some(describe(row, ErrorKind::Cancelled)),
            _ => None,
        });
        match error {
            Some(error) => Err(error.with_outcome(outcome)),
            None => Ok(outcome),
        }
    }

    /// Like [`Db::retry`], without waiting.
    ///
    /// # Errors
    /// As for [`Db::retry`], apart from the job's own failure.
    pub async fn retry_detached(&self, job: JobId) -> Result<Run> {
        self.record_retry(job, false).await
    }

    /// Like [`Db::retry_detached`], refused while another run of the job's component is unfinished.
    ///
    /// # Errors
    /// As for [`Db::retry_detached`]; `Conflict` before anything is written.
    pub async fn retry_exclusive(&self, job: JobId) -> Result<Run> {
        self.record_retry(job, true).await
    }

    async fn record_retry(&self, job: JobId, exclusive: bool) -> Result<Run> {
        let db = self.inner();
        db.check_writable("retry")?;
        let row = self.job(job).await?;
        if !row.state.is_terminal() || row.state == JobState::Succeeded {
            return Err(Error::invalid(format!(
                "job {job} is {}; only failed, cancelled and skipped jobs can be tried again",
                row.state
            )));
        }
        let rows = self.jobs(JobFilter { run: Some(row.run), ..JobFilter::default() }).await?;
        let edges = db.metadata.dependencies(row.run).await?;
        let wanted = wanted_again(job, &rows, &edges);
        let again: Vec<&JobRow> = rows.iter().filter(|row| wanted.contains(&row.id)).collect();
        let mut expect = super::planning::check_retried(db, &again).await?;
        let at = Timestamp::now();
        let jobs = jobs_again(db, &again, &edges, at);
        let run = NewRun::new(RunPurpose::Apply, row.target.clone(), at);
        // The job's own run may have jobs of other components that go on.
        let alone = exclusive
            .then(|| Expect::NoRun { address: row.target.unversioned(), but: Some(row.run) });
        expect.extend(alone);
        let launch = Launch {
            expect,
            ops: Vec::new(),
            run: Some((run, jobs)),
            audit: self.audit("retry", format_args!("job {job}")),
            instances: Arc::default(),
            starts: true,
        };
        let handle = db
            .launch(launch)
            .await?
            .1
            .ok_or_else(|| Error::internal("a retry was recorded without a run"))?;
        Ok(Run::resumed(db.clone(), handle.run, handle).started_by(self))
    }

    /// Ask for a job or all jobs of a run to be cancelled; what needs them is skipped.
    ///
    /// Returns at once. A running job sees it through
    /// [`JobContext::cancelled`](crate::JobContext::cancelled) and is stopped after the grace
    /// period where that is possible. What is final stays as it is.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn cancel(&self, what: impl Into<Cancel>) -> Result<()> {
        self.inner().check_writable("cancel")?;
        match what.into() {
            Cancel::Run(run) => {
                self.inner().run_row(run).await?;
                let audit = self.audit("cancel", format!("run {run}"));
                cancel(self.inner(), run, None, audit).await
            }
            Cancel::Job(job) => {
                self.job(job).await?;
                let audit = self.audit("cancel", format!("job {job}"));
                cancel_jobs(self.inner(), vec![job], audit).await
            }
        }
    }

    /// Send a signal to a job: to stop early, to pause, or to go on after all. Returns at once. The
    /// job sees it through
    /// [`JobContext::signal`](crate::JobContext::signal), also in another process, and decides what to do. A signal to cancel is
    /// [`Db::cancel`].
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn signal(&self, job: JobId, signal: JobSignal) -> Result<()> {
        let db = self.inner();
        if signal == JobSignal::Cancel {
            return self.cancel(job).await;
        }
        db.check_writable("send a signal to a job")?;
        let row = self.job(job).await?;
        let ops = vec![Op::Signal { jobs: vec![job], signal }];
        db.commit_once(Batch { expect: Vec::new(), ops }).await?;
        if let Some(handle) = db.engine.handle(row.run) {
            handle.tell(Command::Signal(vec![job], signal));
        }
        Ok(())
    }

    /// Whether this process is running, or about to run, the jobs of a run.
    pub fn drives(&self, run: RunId) -> bool {
        self.inner().engine.handle(run).is_some()
    }

    /// Limit how many jobs of a pool may run at once. The limit holds whenever this process claims
    /// a job, and replaces the limits in the policies of recorded jobs. Running jobs of all
    /// processes count. Another process may set another limit.
    pub fn limit_pool(&self, name: &str, limit: usize) {
        self.inner().engine.limit_pool(name, limit);
    }

    /// Whether this process is the owner of a job of a run, and no longer runs it: it had to let
    /// the run go.
    pub async fn has_stopped(&self, run: RunId, owner: crate::store::WorkerId) -> bool {
        let db = self.inner();
        if db.owner.get() != Some(&owner) || self.drives(run) {
            return false;
        }
        // One that was just recorded here is about to be led.
        let _started = db.start_gate.write().await;
        !self.drives(run)
    }

    /// Whether nobody runs, or is about to run, the jobs of a run, as far as the record can tell:
    /// this process does not, and no other one that runs jobs of this database is alive. While
    /// another one is, it may have the run, and this is `false`.
    ///
    /// # Errors
    /// `Store`.
    pub async fn is_abandoned(&self, run: RunId) -> Result<bool> {
        let db = self.inner();
        if self.drives(run) {
            return Ok(false);
        }
        {
            // One that was just recorded here is about to be led.
            let _started = db.start_gate.write().await;
            if self.drives(run) {
                return Ok(false);
            }
        }
        let here = db.owner.get().copied();
        Ok(db.metadata.live_workers().await?.into_iter().all(|owner| Some(owner) == here))
    }

    /// Run what is left of one run; see [`Db::resume`].
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn resume_run(&self, run: RunId) -> Result<Run> {
        let db = self.inner();
        db.check_runs_jobs("resume")?;
        db.reclaim_dead().await?;
        let handle = db.attach(run).await?;
        handle.tell(Command::Look);
        Ok(Run::resumed(db.clone(), run, handle))
    }

    /// Release a blocked job.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a job that is not blocked.
    pub async fn unblock(&self, job: JobId) -> Result<()> {
        let db = self.inner();
        db.check_writable("unblock")?;
        let row = self.job(job).await?;
        if row.state != JobState::Blocked {
            return Err(Error::invalid(format!("job {job} is {}, not blocked", row.state)));
        }
        let mut ops = vec![Op::Block { job, reason: None, at: Timestamp::now() }];
        ops.extend(self.audit("unblock", format_args!("job {job}")));
        let committed = db.commit_once(Batch { expect: Vec::new(), ops }).await?;
        db.committed();
        if !committed.ignored.is_empty() {
            // Another call released it, or ended it.
            let row = self.job(job).await?;
            return Err(Error::invalid(format!(
                "job {job} is {}, not blocked any more",
                row.state
            )));
        }
        // If no process leads its run, `resume` or `work` continues it.
        if let Some(handle) = db.engine.handle(row.run) {
            handle.tell(Command::Look);
        }
        Ok(())
    }

    /// Let a queued job wait until [`Db::unblock`] releases it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a job that is not queued, or about to start.
    pub async fn block(&self, job: JobId, reason: impl Into<String>) -> Result<()> {
        let db = self.inner();
        db.check_writable("block")?;
        let row = self.job(job).await?;
        let refuse = |row: &JobRow| {
            let state = if row.state == JobState::Queued {
                "about to start".to_owned()
            } else {
                row.state.to_string()
            };
            Err(Error::invalid(format!("job {job} is {state}, not queued")))
        };
        if row.state != JobState::Queued {
            return refuse(&row);
        }
        let mut ops = vec![Op::Block { job, reason: Some(reason.into()), at: Timestamp::now() }];
        ops.extend(self.audit("block", format_args!("job {job}")));
        db.commit_once(Batch { expect: Vec::new(), ops }).await?;
        db.committed();
        if let Some(handle) = db.engine.handle(row.run) {
            handle.tell(Command::Look);
        }
        // A job that was taken meanwhile, or before its start is on record, is left alone by the
        // store.
        let row = self.job(job).await?;
        if row.state == JobState::Blocked { Ok(()) } else { refuse(&row) }
    }

    /// Wait until a job is final.
    ///
    /// # Errors
    /// The job's failure as `JobFailed` or `Cancelled`; `Timeout` after `limit`; `NotFound`.
    pub async fn wait(&self, job: JobId, limit: Duration) -> Result<JobRow> {
        crate::runtime_check::current()?;
        // A limit beyond all clocks is none.
        let deadline = tokio::time::Instant::now().checked_add(limit);
        let mut commits = self.inner().commits.subscribe();
        let mut pause = Duration::from_millis(5);
        loop {
            let row = self.job(job).await?;
            match row.state {
                JobState::Succeeded => return Ok(row),
                JobState::Failed | JobState::Skipped => {
                    return Err(describe(&row, ErrorKind::JobFailed));
                }
                JobState::Cancelled => return Err(describe(&row, ErrorKind::Cancelled)),
                _ if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        format!(
                            "job {job} (`{}` of `{}`) is still {} after {limit:?}",
                            row.method, row.target, row.state
                        ),
                    ));
                }
                _ => {}
            }
            // A commit here wakes at once; those of other processes are looked for.
            let wake = tokio::time::Instant::now() + pause;
            let woken = tokio::time::timeout_at(
                deadline.map_or(wake, |deadline| wake.min(deadline)),
                commits.changed(),
            )
            .await;
            woken.ignored("whichever comes first");
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// The jobs that are tried again with a job: what it needs that was not done either, and what was
/// skipped below those.
fn wanted_again(job: JobId, rows: &[JobRow], edges: &[JobDependency]) -> Vec<JobId> {
    let state = |id: JobId| rows.iter().find(|row| row.id == id).map(|row| row.state);
    let (mut wanted, mut next) = (vec![job], 0);
    while let Some(current) = wanted.get(next).copied() {
        next += 1;
        for edge in edges {
            let needed = edge.job == current
                && !edge.any_end
                && state(edge.needs).is_some_and(|state| state != JobState::Succeeded);
            if needed && !wanted.contains(&edge.needs) {
                wanted.push(edge.needs);
            }
            let skipped = edge.needs == current && state(edge.job) == Some(JobState::Skipped);
            if skipped && !wanted.contains(&edge.job) {
                wanted.push(edge.job);
            }
        }
    }
    wanted
}

/// The rows of jobs that are tried again.
fn jobs_again(
    db: &DbInner,
    again: &[&JobRow],
    edges: &[JobDependency],
    at: Timestamp,
) -> Vec<NewJob> {
    let place = |id: JobId| again.iter().position(|row| row.id == id);
    let need = |edge: &JobDependency| Need {
        job: place(edge.needs).map_or(JobRef::Id(edge.needs), JobRef::New),
        // What it needed in its own run must have succeeded.
        parameter: edge.parameter.clone(),
        any_end: edge.any_end,
    };
    let new = |row: &&JobRow| NewJob {
        key: row.key.clone(),
        retry_of: Some(row.id),
        executor: db.placement_of(row),
        retries: row.retries,
        backoff_ms: row.backoff_ms,
        timeout_ms: row.timeout_ms,
        needs: edges.iter().filter(|edge| edge.job == row.id).map(need).collect(),
        ..NewJob::new(row.target.clone(), row.role, row.method.clone(), at)
    };
    again.iter().map(new).collect()
}
