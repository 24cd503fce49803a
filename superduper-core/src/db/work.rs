//! A process that runs the jobs of a database until it is told to stop.
//!
//! Invariants: the process leads a run only if the run has a waiting job that this program can run,
//! or no unfinished job at all. Between two looks at all unfinished runs, it reads only the runs
//! that changed.

use super::{Db, DbInner};
use crate::unreturned::{Site, Unreturned};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{Command, work_of},
    store::{Cursor, JobFilter, JobId, JobRow, JobState, RunFilter, RunId, RunState},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How soon, and how late at most, a worker looks for new runs.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// How often all unfinished runs are looked at: a process may have stopped leading a run without a
/// change on record.
const ALL: Duration = Duration::from_secs(10);
/// The pause between two looks at a run that had no work for this program: so long, or so many
/// times as long as the look took.
const AGAIN: Duration = Duration::from_millis(200);
const REST: u32 = 20;
/// How many events are read at once.
const EVENTS: usize = 10_000;

impl Db {
    /// Run the jobs of this database until [`Db::close`]: the jobs that wait now, and the jobs that
    /// any process records later.
    ///
    /// Several processes may call this on one database. Each process runs only jobs whose kind,
    /// trigger and executor its program has.
    ///
    /// # Errors
    /// `Unsupported` for a database that was opened with
    /// [`DbBuilder::observer`](crate::DbBuilder::observer) or to read only, or that was closed; the
    /// error of the store if it fails for good.
    pub async fn work(&self) -> Result<()> {
        let db = self.inner();
        {
            // Register first: other processes then see at once that this process is a worker. Not
            // beside a close.
            let _alone = db.start_gate.read().await;
            db.check_runs_jobs("work")?;
            db.owner().await?;
        }
        let mut search = Search {
            db,
            seen: Cursor::default(),
            all_at: None,
            changed: BTreeSet::new(),
            not_before: HashMap::new(),
        };
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
            // Every commit of this process wakes it, and there may be very many.
            tokio::time::sleep(POLL.0).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = commits.changed() => changed.ignored("this handle keeps the channel open"),
            }
        }
        Ok(())
    }

    /// Stop running jobs in this process. It claims no more jobs and asks the running jobs to
    /// pause; [`Db::work`] returns. A job that still runs after `grace` is stopped, and has two
    /// more seconds to end. A thread cannot be stopped: its job keeps its claim until the thread
    /// returns or the process ends. Then logs are written and messages are delivered. Returns the
    /// jobs whose threads still run.
    ///
    /// Jobs that were given back do not count as lost: another process continues them from their
    /// last checkpoint. A caller that waits for an unfinished run gets an error of kind
    /// `Cancelled`. Afterwards the handle can still read; calls that would write are refused.
    ///
    /// # Errors
    /// `Store` if logs or messages could not be written; the first error of a message handler. The
    /// jobs were given back before.
    pub async fn close(&self, grace: Duration) -> Result<Vec<JobId>> {
        let db = self.inner();
        crate::runtime_check::current()?;
        if db.options.read_only {
            return Ok(Vec::new());
        }
        db.closed.store(true, std::sync::atomic::Ordering::Release);
        // Tasks that wait for the next commit wake, and see that the database is closed.
        db.commits.send_modify(|count| *count += 1);
        // A run that is being recorded is handed to the engine first.
        {
            let _recorded = db.start_gate.write().await;
        }
        let left = db.engine.close(grace).await;
        let (flushed, delivered) = (db.try_flush_notes().await, db.deliver_messages().await);
        if let Some(owner) = db.owner.get().copied().filter(|_| left.is_empty()) {
            db.metadata.deregister_worker(owner).await?;
        }
        flushed.and(delivered)?;
        Ok(left)
    }

    /// Which kind, trigger or executor a queued job waits for, if no running program has it, as a
    /// text for people. `None` if the job is not queued, if a process has it, or if this process or
    /// another worker can run it as far as is known: of other workers only the kinds are on record.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn waits_for_program(&self, job: JobId) -> Result<Option<String>> {
        let (db, row) = (self.inner(), self.job(job).await?);
        let lacks = db.program.lacks(&work_of(&row));
        let runs_here =
            !db.options.observer && !db.options.read_only && !db.is_closed() && lacks.is_none();
        if row.state != JobState::Queued || row.owner.is_some() || runs_here {
            return Ok(None);
        }
        let lacks = lacks.unwrap_or_else(|| format!("the kind `{}`", row.target.kind));
        let here = db.owner.get().copied();
        let may_have = |kinds: &[String]| kinds.is_empty() || kinds.contains(&row.target.kind);
        let workers = db.metadata.workers().await?;
        let others =
            workers.iter().any(|worker| Some(worker.id) != here && may_have(&worker.kinds));
        let path = row.target.path();
        let mend = format!(
            "start a program that has it; if no program will have it again, apply `{path}` again or remove `{path}`"
        );
        Ok((!others).then(|| format!("no running program has {lacks}: {mend}")))
    }
}

/// How often in a row the store may fail before [`Db::work`] gives up.
const MOST_FAILURES: u32 = 20;

struct Search<'a> {
    db: &'a Arc<DbInner>,
    /// The last event that was seen.
    seen: Cursor,
    /// When all unfinished runs were last looked at.
    all_at: Option<Instant>,
    /// The runs that changed since they were looked at.
    changed: BTreeSet<RunId>,
    /// When a run that had no work for this program may be looked at again.
    not_before: HashMap<RunId, Instant>,
}

impl Search<'_> {
    /// Look for runs that this process can continue. Returns whether anything had changed.
    async fn look(&mut self) -> Result<bool> {
        let db = self.db;
        let died = db.reclaim_dead().await?;
        let is_time = self.all_at.is_none_or(|at| at.elapsed() >= ALL);
        let mut runs = BTreeSet::new();
        if died || is_time {
            self.seen = db.metadata.last_event().await?;
            self.all_at = Some(Instant::now());
            runs.extend(db.unfinished_runs().await?.into_iter().map(|run| run.id));
        } else {
            loop {
                let events = db.metadata.events(self.seen.clone(), None, EVENTS).await?;
                let tells = events.iter().filter(|event| event.kind != "job.progressed");
                runs.extend(tells.filter_map(|event| event.run));
                if events.is_empty() {
                    break;
                }
                self.seen = events.next;
            }
        }
        let changed = died || !runs.is_empty();
        self.changed.extend(runs);
        for run in self.due() {
            if db.is_closed() {
                break;
            }
            // One run that cannot be led must not keep this process from the others. The next look
            // at all runs tries it again.
            self.lead(run).await.or_warn(Site::RUN.run(run), "looking whether a run has work");
        }
        Ok(changed)
    }

    /// The changed runs whose turn it is. Looking at a run reads all its unfinished jobs, so a
    /// large run that has no work for this program is not looked at for each of its changes.
    fn due(&mut self) -> Vec<RunId> {
        let now = Instant::now();
        let is_due = |run: &RunId| self.not_before.get(run).is_none_or(|time| *time <= now);
        let due: Vec<RunId> = self.changed.iter().copied().filter(is_due).collect();
        due.iter().for_each(|run| {
            self.changed.remove(run);
        });
        self.not_before.retain(|_, time| *time > now);
        due
    }

    /// Lead a run that has work for this program, unless it is led here.
    async fn lead(&mut self, run: RunId) -> Result<()> {
        if self.db.engine.handle(run).is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        if self.has_work(run).await? {
            self.db.attach(run).await?.tell(Command::Look);
        } else {
            self.not_before.insert(run, Instant::now() + AGAIN.max(begun.elapsed() * REST));
        }
        Ok(())
    }

    /// Whether a run has a waiting job that this program can run, or has no unfinished job: then
    /// only its end has to be recorded.
    async fn has_work(&self, run: RunId) -> Result<bool> {
        let db = self.db;
        let row = db
            .metadata
            .runs(RunFilter { id: Some(run), unfinished: true, ..RunFilter::default() })
            .await?;
        if row.first().is_none_or(|row| row.state != RunState::Running) {
            return Ok(false);
        }
        let open = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
        let jobs: Vec<JobRow> = db
            .metadata
            .jobs(JobFilter { run: Some(run), states: open, ..JobFilter::default() })
            .await?;
        // A blocked job with a time is queued again by the process that leads its run.
        let waits = |job: &JobRow| {
            job.state == JobState::Queued
                || (job.state == JobState::Blocked && job.blocked_until.is_some())
        };
        let can = |job: &JobRow| {
            waits(job) && job.owner.is_none() && db.program.lacks(&work_of(job)).is_none()
        };
        Ok(jobs.is_empty() || jobs.iter().any(can))
    }
}

impl DbInner {
    /// Refuse a call that runs jobs if this process is an observer.
    pub(crate) fn check_runs_jobs(&self, what: &str) -> Result<()> {
        self.check_writable(what)?;
        if !self.options.observer {
            return Ok(());
        }
        let text =
            format!("cannot {what}: this database was opened as an observer, which runs no jobs");
        Err(Error::new(ErrorKind::Unsupported, text)
            .with_hint("open it without `.observer()` in the process that is to run them"))
    }

    /// Whether [`Db::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }
}
