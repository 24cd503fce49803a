//! Forgetting the past: runs that ended long ago, with their jobs and logs.
//!
//! Invariant: a job that anything else may still ask for stays: health, plans, outputs, results,
//! retries, removals. What is chosen here is deleted on the condition that nothing refers to it.

use super::Db;
use crate::{
    address::Address,
    error::Result,
    future::BoxFuture,
    store::{
        Batch, ComponentId, Cursor, JobDependency, JobFilter, JobId, JobRole, JobRow, JobState,
        LogFilter, Op, RunFilter, RunId, RunPurpose, RunRow, RunState, Timestamp,
    },
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::IntoFuture,
    time::Duration,
};

/// About so many jobs are deleted by one commit.
const BATCH: usize = 1000;
/// So many messages are read at once.
const PAGE: usize = 1000;

/// What [`Db::forget`] deleted, or would delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// Runs.
    pub runs: u64,
    /// Jobs, with their attempts, results, metrics, checkpoints and events.
    pub jobs: u64,
    /// Log lines: of these jobs, and of jobs that stay but ended before the time.
    pub logs: u64,
    /// Whether nothing was deleted.
    pub dry_run: bool,
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forgotten { runs, jobs, logs, dry_run } = self;
        let verb = if *dry_run { "would forget" } else { "forgot" };
        write!(f, "{verb} {runs} runs, {jobs} jobs and {logs} log lines")
    }
}

/// A forgetting under construction; await it.
#[must_use = "nothing is forgotten until it is awaited"]
pub struct Forget {
    db: Db,
    older_than: Duration,
    dry_run: bool,
}

impl Db {
    /// Delete runs that ended longer ago than this, with their jobs and the logs of those.
    ///
    /// These stay, whatever their age: runs that are not over; of each stored version the newest
    /// job of each trigger, the newest that succeeded, those of hooks and those that set outputs,
    /// and whatever they took results from; whole runs with a job that can still be retried; jobs
    /// with messages that are not delivered; the newest run. Jobs of versions that were removed go.
    /// Log lines of jobs that stay go if the job ended that long ago.
    ///
    /// Components, versions, outputs and the audit log are not touched. Blobs of forgotten results
    /// are left for [`Db::gc`].
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # use std::time::Duration;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// let month = Duration::from_secs(30 * 24 * 3600);
    /// println!("{}", db.forget(month).dry_run().await?);
    /// let forgotten = db.forget(month).await?;
    /// println!("{} jobs are gone", forgotten.jobs);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Store`; `Unsupported` for a database that was opened for reading only.
    pub fn forget(&self, older_than: Duration) -> Forget {
        Forget { db: self.clone(), older_than, dry_run: false }
    }
}

impl Forget {
    /// Only say what would go.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn run(self) -> Result<Forgotten> {
        let Forget { db, older_than, dry_run } = self;
        let inner = db.inner();
        if !dry_run {
            inner.check_writable("forget runs")?;
            inner.flush_notes().await;
        }
        let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(Timestamp::now().0.saturating_sub(age));
        let mut chooser = Chooser::read(&db, before).await?;
        let mut forgotten = Forgotten { dry_run, ..Forgotten::default() };
        let mut batch = Chosen::default();
        let mut audit = db.audit("forget", format_args!("runs before {before}"));
        let mut runs = inner.metadata.runs(RunFilter::default()).await?;
        // What refers to a job is as new as the job, or newer.
        while let Some(run) = runs.pop() {
            let jobs = JobFilter { run: Some(run.id), ..JobFilter::default() };
            let jobs = inner.metadata.jobs(jobs).await?;
            let edges = inner.metadata.dependencies(run.id).await?;
            batch.add(chooser.choose(&run, &jobs, &edges));
            if batch.jobs.len() + batch.logs.len() >= BATCH || runs.is_empty() {
                let chosen = std::mem::take(&mut batch);
                forgotten.runs += chosen.runs.len() as u64;
                forgotten.jobs += chosen.jobs.len() as u64;
                forgotten.logs += if dry_run {
                    chosen.count_logs(&db).await?
                } else {
                    chosen.delete(&db, &mut audit).await?
                };
            }
        }
        Ok(forgotten)
    }
}

impl IntoFuture for Forget {
    type Output = Result<Forgotten>;
    type IntoFuture = BoxFuture<'static, Result<Forgotten>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What goes.
#[derive(Debug, Default)]
struct Chosen {
    runs: Vec<RunId>,
    jobs: Vec<JobId>,
    /// Jobs that stay without their logs.
    logs: Vec<JobId>,
}

impl Chosen {
    fn add(&mut self, other: Chosen) {
        self.runs.extend(other.runs);
        self.jobs.extend(other.jobs);
        self.logs.extend(other.logs);
    }

    async fn count_logs(&self, db: &Db) -> Result<u64> {
        let mut count = 0;
        for job in self.jobs.iter().chain(&self.logs) {
            count += db.inner().metadata.logs(LogFilter::of(*job)).await?.len() as u64;
        }
        Ok(count)
    }

    async fn delete(self, db: &Db, audit: &mut Option<Op>) -> Result<u64> {
        if self.runs.is_empty() && self.jobs.is_empty() && self.logs.is_empty() {
            return Ok(0);
        }
        let Chosen { runs, jobs, logs } = self;
        let mut ops = vec![Op::Forget { runs, jobs, logs }];
        ops.extend(audit.take());
        let committed = db.inner().commit_once(Batch { expect: Vec::new(), ops }).await?;
        Ok(committed.forgotten_logs)
    }
}

/// Chooses what goes, run by run, the newest first.
struct Chooser {
    before: Timestamp,
    /// The versions that are stored.
    stored: HashMap<ComponentId, HashSet<u32>>,
    /// Jobs that set outputs or have messages that are not delivered, and the newest one.
    pinned: HashSet<JobId>,
    /// Jobs that a job which stays waits for, or tries again.
    needed: HashSet<JobId>,
    retried: HashSet<JobId>,
    /// The methods of versions of which a newer job was seen, and of which a newer success was.
    newest: HashSet<Method>,
    succeeded: HashSet<Method>,
    first: bool,
}

/// A trigger or hook of a version.
type Method = (ComponentId, u32, JobRole, String);

impl Chooser {
    async fn read(db: &Db, before: Timestamp) -> Result<Self> {
        let metadata = &db.inner().metadata;
        let listed = metadata.list(None).await?;
        let addresses = listed.iter().map(|row| row.address.unversioned()).collect();
        let versions: HashMap<String, Vec<u32>> =
            listed.iter().map(|row| (row.address.path(), row.versions.clone())).collect();
        let stored = listed
            .into_iter()
            .map(|row| (row.component, row.versions.into_iter().collect()))
            .collect();
        let writers = metadata.output_writers(addresses).await?;
        // Outputs of versions that were removed are gone, and their jobs may go.
        let is_stored = |target: &Address| {
            let at = target.version.map_or(0, |at| at.version);
            versions.get(&target.path()).is_some_and(|versions| versions.contains(&at))
        };
        let mut pinned: HashSet<JobId> = writers
            .into_iter()
            .filter(|writer| is_stored(&writer.target))
            .map(|writer| writer.job)
            .collect();
        let mut after = Cursor::default();
        loop {
            let page = metadata.messages(after, PAGE).await?;
            let is_last = page.rows.len() < PAGE;
            pinned.extend(page.rows.iter().map(|message| message.job));
            after = page.next;
            if is_last {
                break;
            }
        }
        let newest = JobFilter { limit: Some(1), ..JobFilter::default() };
        pinned.extend(metadata.jobs(newest).await?.first().map(|job| job.id));
        Ok(Chooser {
            before,
            stored,
            pinned,
            needed: HashSet::new(),
            retried: HashSet::new(),
            newest: HashSet::new(),
            succeeded: HashSet::new(),
            first: true,
        })
    }

    fn is_stored(&self, job: &JobRow) -> bool {
        let version = job.target.version.map_or(0, |at| at.version);
        self.stored.get(&job.component).is_some_and(|versions| versions.contains(&version))
    }

    fn choose(&mut self, run: &RunRow, jobs: &[JobRow], edges: &[JobDependency]) -> Chosen {
        let is_newest_run = std::mem::take(&mut self.first);
        let is_over =
            run.state != RunState::Running && run.ended_at.is_some_and(|at| at.0 < self.before.0);
        // A removal that failed marks what it did not remove.
        let marks = run.purpose == RunPurpose::Remove && run.state != RunState::Succeeded;
        let stays_whole =
            is_newest_run || !is_over || marks || jobs.iter().any(|job| self.can_be_retried(job));
        let mut kept: HashSet<JobId> = jobs
            .iter()
            .rev()
            .filter(|job| {
                let is_wanted = self.is_wanted(job);
                stays_whole || is_wanted || self.needed.contains(&job.id)
            })
            .map(|job| job.id)
            .collect();
        // Spawned jobs may be needed by older ones of their run.
        loop {
            let more: Vec<JobId> = edges
                .iter()
                .filter(|edge| kept.contains(&edge.job))
                .map(|edge| edge.needs)
                .filter(|needs| self.needed.insert(*needs))
                .collect();
            if more.is_empty() {
                break;
            }
            kept.extend(jobs.iter().map(|job| job.id).filter(|id| more.contains(id)));
        }
        for job in jobs {
            self.retried.extend(job.retry_of);
            if kept.contains(&job.id) {
                self.needed.extend(job.retry_of);
            }
        }
        let is_old = |job: &&JobRow| job.ended_at.is_some_and(|at| at.0 < self.before.0);
        let (stay, go): (Vec<&JobRow>, Vec<&JobRow>) =
            jobs.iter().partition(|job| kept.contains(&job.id));
        Chosen {
            runs: if stay.is_empty() && !stays_whole { vec![run.id] } else { Vec::new() },
            jobs: go.into_iter().map(|job| job.id).collect(),
            logs: stay
                .into_iter()
                .filter(|job| is_over && job.state.is_terminal())
                .filter(is_old)
                .map(|job| job.id)
                .collect(),
        }
    }

    /// Whether `db.retry` or the next apply may try it again.
    fn can_be_retried(&self, job: &JobRow) -> bool {
        job.state != JobState::Succeeded && self.is_stored(job) && !self.retried.contains(&job.id)
    }

    /// Whether something may ask for the job itself. Jobs come in descending order.
    fn is_wanted(&mut self, job: &JobRow) -> bool {
        if self.pinned.contains(&job.id) {
            return true;
        }
        if !self.is_stored(job) {
            return false;
        }
        if job.role != JobRole::Trigger {
            return true;
        }
        if job.key.is_some() {
            return false;
        }
        let version = job.target.version.map_or(0, |at| at.version);
        let method = (job.component, version, job.role, job.method.clone());
        let is_success = job.state == JobState::Succeeded;
        let first_success = is_success && self.succeeded.insert(method.clone());
        self.newest.insert(method) || first_success
    }
}
