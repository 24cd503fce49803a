//! Why a job waits, in words and with ids.
//!
//! Invariant: what is said is on record, or true of this process at this moment; nothing is
//! guessed. Where the record does not tell which process leads a run, the reason says so.

use super::{Db, DbInner, why_reasons::*};
use crate::{
    address::Address,
    error::Result,
    job::Lack,
    plan::Removal,
    store::{
        After, BlockedUntil, JobFilter, JobId, JobLine, JobRole, JobState, RunFilter, RunId,
        RunPurpose, Timestamp, Worker, WorkerId,
    },
};
use std::sync::Arc;

/// So many running jobs are named.
const MOST_NAMED: usize = 20;

impl Db {
    /// What a job waits for. The answer is of this moment; a job that runs, or is final, waits for
    /// nothing.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db, job: superduper::store::JobId) -> superduper::Result<()> {
    /// println!("{}", db.why(job).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn why(&self, job: JobId) -> Result<Why> {
        let row = self.line(job).await?;
        let look = Look { db: self, row, workers: self.inner().metadata.workers().await? };
        let reasons = match (look.row.state, look.row.owner) {
            (JobState::Queued, None) => look.of_queued().await?,
            (JobState::Blocked, _) => look.of_blocked().await?,
            (JobState::Queued, Some(owner)) => vec![look.of_owner(owner, WaitReason::Claimed)],
            (JobState::Running, Some(owner)) if !look.is_alive(owner) => {
                vec![WaitReason::WorkerGone { worker: owner }]
            }
            _ => Vec::new(),
        };
        let Look { row, workers, .. } = look;
        let worker = workers.into_iter().find(|worker| Some(worker.id) == row.owner);
        Ok(Why { job: row, worker, reasons })
    }

    async fn line(&self, job: JobId) -> Result<JobLine> {
        let rows = lines_of(self.inner(), vec![job]).await?;
        let missing = || crate::error::Error::not_found(format!("job {job} is not on record"));
        rows.into_iter().next().ok_or_else(missing)
    }
}

async fn lines_of(db: &Arc<DbInner>, ids: Vec<JobId>) -> Result<Vec<JobLine>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let after = After::oldest(ids.len());
    let filter = JobFilter { ids: Some(ids), ..JobFilter::default() };
    db.metadata.job_lines(filter, after).await
}

/// A job, and the workers that are alive.
struct Look<'a> {
    db: &'a Db,
    row: JobLine,
    workers: Vec<Worker>,
}

impl Look<'_> {
    fn inner(&self) -> &Arc<DbInner> {
        self.db.inner()
    }

    fn here(&self) -> Option<WorkerId> {
        self.inner().owner.get().copied()
    }

    fn is_alive(&self, worker: WorkerId) -> bool {
        self.workers.iter().any(|other| other.id == worker)
    }

    fn of_owner(&self, owner: WorkerId, alive: impl Fn(WorkerId) -> WaitReason) -> WaitReason {
        match self.is_alive(owner) {
            true => alive(owner),
            false => WaitReason::WorkerGone { worker: owner },
        }
    }

    async fn of_blocked(&self) -> Result<Vec<WaitReason>> {
        let row = &self.row;
        let until = row.blocked_until.map(|BlockedUntil { until, .. }| until);
        let reason = row.blocked.clone().unwrap_or_default();
        let mut reasons = vec![WaitReason::Blocked { reason, since: row.blocked_at, until }];
        reasons.extend(self.of_signals());
        // Who leads the run queues the job again.
        if until.is_some_and(|until| until <= Timestamp::now()) {
            reasons.extend(self.unled().await?);
        }
        Ok(reasons)
    }

    fn of_signals(&self) -> Option<WaitReason> {
        self.row.signals.cancel.then_some(WaitReason::Cancelled { run: self.row.run })
    }

    async fn of_queued(&self) -> Result<Vec<WaitReason>> {
        let mut reasons = self.of_needs().await?;
        if let Some((run, jobs)) = self.of_removal().await? {
            // The plan of a removal may have it wait for some of these by itself.
            let is_told = |needed: &AwaitedJob| jobs.iter().any(|job| job.id == needed.id);
            reasons.retain(
                |reason| !matches!(reason, WaitReason::JobOfRun(needed) if is_told(needed)),
            );
            reasons.push(WaitReason::Removal { run, jobs });
        }
        let not_before = self.row.not_before.filter(|time| *time > Timestamp::now());
        if let Some(until) = not_before {
            reasons.push(WaitReason::Backoff { until, tries: self.row.tries });
        }
        if !reasons.is_empty() {
            // A job that is to end, or can never start, waits for the leader of its run too.
            let is_dead = |reason: &WaitReason| match reason {
                WaitReason::Job(needed) | WaitReason::JobOfRun(needed) => {
                    needed.state.is_terminal()
                }
                _ => false,
            };
            if self.row.signals.cancel || reasons.iter().any(is_dead) {
                reasons.extend(self.of_signals());
                reasons.extend(self.unled().await?);
            }
            return Ok(reasons);
        }
        reasons.extend(self.of_signals());
        if let Some(lack) = self.lack() {
            reasons.push(WaitReason::NoWorker { lack });
            return Ok(reasons);
        }
        if let Some(unled) = self.unled().await? {
            reasons.push(unled);
            return Ok(reasons);
        }
        if let Some(pool) = self.of_pool().await? {
            reasons.push(pool);
        } else if reasons.is_empty() {
            reasons.push(self.of_turn().await?);
        }
        Ok(reasons)
    }

    /// The jobs that must end before this one.
    async fn of_needs(&self) -> Result<Vec<WaitReason>> {
        let (needs, _) = self.inner().metadata.edges(self.row.id).await?;
        let rows = lines_of(self.inner(), needs.iter().map(|need| need.needs).collect()).await?;
        let mut reasons = Vec::new();
        for need in needs {
            let Some(row) = rows.iter().find(|row| row.id == need.needs) else { continue };
            let is_met = match row.state {
                JobState::Succeeded => true,
                state => need.any_end && state.is_terminal(),
            };
            let needed = AwaitedJob::of(row);
            match is_met {
                true => {}
                false if row.run == self.row.run => reasons.push(WaitReason::Job(needed)),
                false => reasons.push(WaitReason::JobOfRun(needed)),
            }
        }
        Ok(reasons)
    }

    /// A cleanup waits for the jobs that were at work on what goes.
    async fn of_removal(&self) -> Result<Option<(RunId, Vec<AwaitedJob>)>> {
        if self.row.role != JobRole::Cleanup {
            return Ok(None);
        }
        let filter = RunFilter { id: Some(self.row.run), ..RunFilter::default() };
        let run = self.inner().metadata.runs(filter).await?.pop();
        let Some(run) = run.filter(|run| run.purpose == RunPurpose::Remove) else {
            return Ok(None);
        };
        // A run of an older program has no list of them.
        let Ok(removal) = serde_json::from_value::<Removal>(run.data) else { return Ok(None) };
        let live = lines_of(self.inner(), removal.live).await?;
        let jobs: Vec<AwaitedJob> =
            live.iter().filter(|row| !row.state.is_terminal()).map(AwaitedJob::of).collect();
        Ok((!jobs.is_empty()).then_some((run.id, jobs)))
    }

    /// What no live process has that the job needs.
    fn lack(&self) -> Option<Lack> {
        let db = self.inner();
        let (here, row) = (self.here(), &self.row);
        let lack = db.program.lack(&crate::job::work_of_line(row));
        let runs_here = !db.options.observer && !db.options.read_only && !db.is_closed();
        if runs_here && lack.is_none() {
            return None;
        }
        let executor =
            crate::component::policy::Placement::of_text(row.executor.as_deref()).executor;
        let others: Vec<&Worker> =
            self.workers.iter().filter(|worker| Some(worker.id) != here).collect();
        let kind = &row.target.kind;
        if others.iter().any(|worker| worker.may_run(kind, executor.as_deref())) {
            return None;
        }
        // With no other process, what this one lacks; else what all of them lack.
        let has_kind = others.iter().any(|worker| worker.may_run(kind, None));
        match (executor, has_kind) {
            (Some(executor), true) => Some(Lack::Executor(executor)),
            _ if others.is_empty() => lack,
            _ => Some(lack.unwrap_or_else(|| Lack::Kind(kind.clone()))),
        }
    }

    /// That no process leads the run.
    async fn unled(&self) -> Result<Option<WaitReason>> {
        let run = self.row.run;
        Ok(self.db.is_abandoned(run).await?.then_some(WaitReason::NotLed { run }))
    }

    async fn of_pool(&self) -> Result<Option<WaitReason>> {
        let placement = crate::component::policy::Placement::of_text(self.row.executor.as_deref());
        let Some(pool) = placement.pool else { return Ok(None) };
        let limit = self.inner().engine.pool(&pool).limit;
        let places = self.inner().metadata.pool_places(pool.0.clone()).await?;
        if u32::try_from(places.len()).is_ok_and(|taken| taken < limit) {
            return Ok(None);
        }
        let jobs = places.into_iter().map(|place| place.job).collect();
        Ok(Some(WaitReason::Pool { pool: pool.0, limit, jobs }))
    }

    /// Nothing of its own: the job waits until a worker has room for it.
    async fn of_turn(&self) -> Result<WaitReason> {
        let run = self.row.run;
        let (here, leads) = (self.here(), self.db.drives(run));
        let workers: Vec<WorkerId> = match leads {
            true => here.into_iter().collect(),
            false => self.workers.iter().map(|worker| worker.id).collect(),
        };
        let states = Some(vec![JobState::Running]);
        // Jobs of each worker apart: those of workers that died are no reason to wait.
        let mut jobs = Vec::new();
        for owner in workers.iter().map(|worker| Some(*worker)) {
            let filter = JobFilter { states: states.clone(), owner, ..JobFilter::default() };
            let left = After::oldest(MOST_NAMED - jobs.len());
            let running = self.inner().metadata.job_lines(filter, left).await?;
            jobs.extend(running.into_iter().map(|row| row.id));
            if jobs.len() >= MOST_NAMED {
                break;
            }
        }
        Ok(match leads {
            true => WaitReason::Turn { workers, jobs },
            false => WaitReason::OtherWorkers { run, workers, jobs },
        })
    }
}

/// Kind and identifier of a job's component with its version, for texts.
pub(super) fn name(target: &Address) -> String {
    match target.version {
        Some(at) => target.at(at.version).to_string(),
        None => target.to_string(),
    }
}

/// The run of a job, where a text names it.
pub(super) fn run_name(run: RunId) -> String {
    format!("run:{run}")
}
