//! A process that runs the jobs of a database until it is told to stop.
//!
//! Invariant: it leads a run only if the run has a job that this program can run, and reads in proportion to what changed.

use super::{Db, DbInner};
use crate::unreturned::Unreturned;
use crate::{
    Error, ErrorKind, Result,
    job::{Command, work_of},
    store::{JobFilter, JobId, JobRow, JobState, RunFilter, RunId, RunState},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How soon, and how late at most, a worker looks for new runs.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// How often all unfinished runs are looked at: one may have been let go, here or elsewhere, without a change on record.
const ALL: Duration = Duration::from_secs(10);
/// How many events are read at once.
const EVENTS: usize = 10_000;

impl Db {
    /// Run the jobs of this database until [`Db::close`]: those that wait now, and those that other processes record.
    ///
    /// Several processes may do so on one database. Each runs only jobs whose kind, trigger and executor its program has.
    ///
    /// # Errors
    /// `Unsupported` for a database that was opened with [`DbBuilder::observer`](crate::DbBuilder::observer) or to read only;
    /// `Store` where the store fails for good.
    pub async fn work(&self) -> Result<()> {
        let db = self.inner();
        db.check_runs_jobs("work")?;
        // Other processes hear of this one at once.
        db.owner().await?;
        let mut search = Search { db, seen: 0, all_at: None };
        let (mut pause, mut failures) = (POLL.0, 0);
        let mut commits = db.commits.subscribe();
        while !db.is_closed() {
            match search.look().await {
                Ok(found) => {
                    failures = 0;
                    pause = if found { POLL.0 } else { (pause * 2).min(POLL.1) };
                }
                Err(error) => {
                    failures += 1;
                    if failures > MOST_FAILURES || !error.is_retryable() {
                        return Err(error.context("looking for jobs to run"));
                    }
                    pause = POLL.1;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = commits.changed() => changed.ignored("this handle keeps the channel open"),
            }
        }
        Ok(())
    }

    /// Let this process stop: it claims no more jobs and asks those that run to pause; [`Db::work`] returns. What has not
    /// returned after the grace is stopped; a thread cannot be, so its job keeps its claim until it returns or the program ends.
    /// Messages are delivered, and logs are written. Gives the jobs whose threads still run.
    ///
    /// Jobs that were given back are not counted as lost: another process goes on with them, from their last checkpoint. Who
    /// waits for a run that is unfinished gets an error of kind `Cancelled`. The handle reads as before; calls that would write
    /// are refused.
    ///
    /// # Errors
    /// `Store`, where something could not be written; jobs were given back before.
    pub async fn close(&self, grace: Duration) -> Result<Vec<JobId>> {
        let db = self.inner();
        crate::runtime_check::current()?;
        if db.options.read_only {
            return Ok(Vec::new());
        }
        db.closed.store(true, std::sync::atomic::Ordering::Release);
        // Whoever waits for a commit looks whether it is closed.
        db.commits.send_modify(|count| *count += 1);
        let left = {
            // A run that is just being recorded is handed over first.
            let _recorded = db.start_gate.write().await;
            db.engine.close(grace).await
        };
        db.try_flush_notes().await?;
        db.deliver_messages().await?;
        if let Some(owner) = db.owner.get().copied().filter(|_| left.is_empty()) {
            db.metadata.retire(owner).await?;
        }
        Ok(left)
    }

    /// What a job waits for, where no running program could run it: its kind, its trigger or its executor, by name. `None` for
    /// a job that is not queued, that a process has, or that this or a running program can run as far as is known.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn waits_for_program(&self, job: JobId) -> Result<Option<String>> {
        let (db, row) = (self.inner(), self.job(job).await?);
        let lacks = db.program.lacks(&work_of(&row));
        let runs_here = !db.options.observer && !db.options.read_only && lacks.is_none();
        if row.state != JobState::Queued || row.owner.is_some() || runs_here {
            return Ok(None);
        }
        let lacks = lacks.unwrap_or_else(|| format!("the kind `{}`", row.target.kind));
        let here = db.owner.get().copied();
        let may_have = |kinds: &[String]| kinds.is_empty() || kinds.contains(&row.target.kind);
        let workers = db.metadata.workers().await?;
        let others = workers.iter().any(|worker| Some(worker.id) != here && may_have(&worker.kinds));
        let mend =
            format!("start one that has it; where it is gone for good, apply `{path}` again, or remove `{path}`", path = row.target.path());
        Ok((!others).then(|| format!("no running program has {lacks}: {mend}")))
    }
}

/// A store that fails is asked again so often.
const MOST_FAILURES: u32 = 20;

struct Search<'a> {
    db: &'a Arc<DbInner>,
    /// The last event that was seen.
    seen: i64,
    /// When all runs were looked at.
    all_at: Option<tokio::time::Instant>,
}

impl Search<'_> {
    /// Look for runs that this process can go on with. Whether anything had changed.
    async fn look(&mut self) -> Result<bool> {
        let db = self.db;
        let died = db.reclaim_dead().await?;
        let is_time = self.all_at.is_none_or(|at| at.elapsed() >= ALL);
        let mut runs = BTreeSet::new();
        if died || is_time {
            self.seen = db.metadata.last_event().await?;
            self.all_at = Some(tokio::time::Instant::now());
            runs.extend(db.unfinished_runs().await?.into_iter().map(|run| run.id));
        } else {
            loop {
                let events = db.metadata.events(self.seen, None, EVENTS).await?;
                runs.extend(events.iter().filter_map(|event| event.run));
                let Some(last) = events.last() else { break };
                self.seen = last.seq;
            }
        }
        let changed = died || !runs.is_empty();
        for run in runs {
            if db.is_closed() {
                break;
            }
            if db.engine.handle(run).is_none() && self.has_work(run).await? {
                db.attach(run).await?.tell(Command::Look);
            }
        }
        Ok(changed)
    }

    /// Whether a run has a job that waits and that this program can run, or none at all that could end it.
    async fn has_work(&self, run: RunId) -> Result<bool> {
        let db = self.db;
        let row = db.metadata.runs(RunFilter { id: Some(run), unfinished: true, ..RunFilter::default() }).await?;
        if row.first().is_none_or(|row| row.state != RunState::Running) {
            return Ok(false);
        }
        let open = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
        let jobs: Vec<JobRow> = db.metadata.jobs(JobFilter { run: Some(run), states: open, ..JobFilter::default() }).await?;
        let can = |job: &JobRow| job.state == JobState::Queued && job.owner.is_none() && db.program.lacks(&work_of(job)).is_none();
        Ok(jobs.is_empty() || jobs.iter().any(can))
    }
}

impl DbInner {
    /// Refuse a call that runs jobs in a process that is to run none.
    pub(crate) fn check_runs_jobs(&self, what: &str) -> Result<()> {
        self.check_writable(what)?;
        if !self.options.observer {
            return Ok(());
        }
        let text = format!("cannot {what}: this database was opened as an observer, which runs no jobs");
        Err(Error::new(ErrorKind::Unsupported, text).with_hint("open it without `.observer()` in the process that is to run them"))
    }

    /// Whether [`Db::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }
}
