//! Recording a run and starting it: one way for applies, retries, rollbacks, imports and removals.
//!
//! Invariant: what was begun goes on when nobody waits for it any more: a run that is on record is
//! led by the process that recorded it.

use super::DbInner;
use crate::unreturned::Site;
use crate::{
    component::policy::Placement,
    error::{Error, Result},
    job::{Instances, Loaded, RunHandle, new_row, work_of_new},
    store::{
        Batch, ChangeCursor, Committed, Expect, JobDependency, JobFilter, JobId, JobRef, JobRow,
        Need, NewJob, NewRun, Op, RunChanges, RunId, RunRow,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A batch that may record a run.
pub(crate) struct Launch {
    pub(crate) expect: Vec<Expect>,
    /// What is written before the run.
    pub(crate) ops: Vec<Op>,
    /// The run, where there is one, and its jobs.
    pub(crate) run: Option<(NewRun, Vec<NewJob>)>,
    /// Who did it: written last.
    pub(crate) audit: Option<Op>,
    /// What the jobs share, as far as it is known.
    pub(crate) instances: Arc<Instances>,
    /// Whether jobs that need nothing may start at once; else the run is led as it is on record.
    pub(crate) starts: bool,
}

impl DbInner {
    /// Write it, and lead the run.
    ///
    /// # Errors
    /// Those of the store; nothing was written then, unless the store itself does not know.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        launch: Launch,
    ) -> Result<(Committed, Option<RunHandle>)> {
        let db = self.clone();
        // In a task of its own: it goes on where nobody waits for it.
        super::detached::detached(Site::RUN, "recording a run", async move {
            write_and_lead(&db, launch).await
        })
        .await
    }
}

async fn write_and_lead(
    db: &Arc<DbInner>,
    launch: Launch,
) -> Result<(Committed, Option<RunHandle>)> {
    let Launch { expect, mut ops, run, audit, instances, starts } = launch;
    let Some((mut run, mut jobs)) = run else {
        ops.extend(audit);
        let committed = db.commit_once(Batch { expect, ops }).await?;
        db.committed();
        return Ok((committed, None));
    };
    inherit(db, &mut jobs).await?;
    let starting = db.start_gate.read().await;
    // Closed in the meantime: nothing was written, and this process is not listed as a worker
    // again.
    db.check_writable("record a run")?;
    let mut places = None;
    let leader = if starts && !db.options.observer { Some(db.owner().await?) } else { None };
    if let Some(owner) = leader {
        // Other programs may be able to run the jobs that this program cannot.
        let can = |job: &&mut NewJob| {
            job.needs.is_empty() && db.program.lacks(&work_of_new(job)).is_none()
        };
        let first: Vec<&mut NewJob> = jobs.iter_mut().filter(can).collect();
        let lanes: Vec<_> =
            first.iter().map(|job| Placement::of_text(job.executor.as_deref()).pool).collect();
        let pools: Vec<_> =
            lanes.iter().map(|pool| pool.as_ref().map(|pool| db.engine.pool(pool))).collect();
        let taken = db.engine.reserve(db, owner, lanes).await;
        for ((job, granted), pool) in first.into_iter().zip(&taken.granted).zip(pools) {
            job.claim = granted.then_some(owner);
            job.pool = pool;
        }
        places = Some(taken);
    }
    run.actor = super::actor::actor_of(audit.as_ref());
    ops.push(Op::Run(run.clone()));
    ops.push(Op::Jobs { run: None, jobs: jobs.clone() });
    ops.extend(audit);
    let committed = db.commit_once(Batch { expect, ops }).await?;
    db.committed();
    let id = committed.run.ok_or_else(|| Error::internal("a run was recorded without an id"))?;
    let handle = if let Some(owner) = leader {
        let claimed: HashSet<JobId> = committed.claimed.iter().map(|claimed| claimed.job).collect();
        for (job, id) in jobs.iter_mut().zip(&committed.jobs) {
            // Its pool was full.
            job.claim = job.claim.filter(|_| claimed.contains(id));
        }
        crate::job::events::recorded(id, &jobs, &committed.jobs);
        let loaded = recorded(id, run, jobs, &committed.jobs);
        db.engine.lead(db, owner, loaded, instances, places)
    } else {
        drop(starting);
        db.attach(id).await?
    };
    Ok((committed, Some(handle)))
}

/// What spawned jobs that are tried again keep of the jobs before them: the input, what they wait
/// for, and a policy that came with the spawn.
async fn inherit(db: &Arc<DbInner>, jobs: &mut [NewJob]) -> Result<()> {
    let again: HashMap<JobId, usize> = jobs
        .iter()
        .enumerate()
        .filter(|(_, job)| job.key.is_some())
        .filter_map(|(place, job)| Some((job.retry_of?, place)))
        .collect();
    if again.is_empty() {
        return Ok(());
    }
    let rows = db
        .metadata
        .jobs(JobFilter { ids: Some(again.keys().copied().collect()), ..JobFilter::default() })
        .await?;
    for row in rows {
        let needs = inherited_needs(db, &row, &again).await?;
        let Some(job) = again.get(&row.id).and_then(|place| jobs.get_mut(*place)) else { continue };
        for need in needs {
            if !job.needs.iter().any(|other| other.job == need.job) {
                job.needs.push(need);
            }
        }
        job.input = row.input.clone();
        job.tolerated = row.tolerated;
        if Placement::of_text(row.executor.as_deref()).kept {
            job.executor = db.placement_of(&row);
            (job.retries, job.backoff_ms, job.timeout_ms) =
                (row.retries, row.backoff_ms, row.timeout_ms);
        }
    }
    Ok(())
}

/// What a spawned job waited for: the new try of another job where there is one, else that job
/// itself.
async fn inherited_needs(
    db: &Arc<DbInner>,
    row: &JobRow,
    again: &HashMap<JobId, usize>,
) -> Result<Vec<Need>> {
    let (needs, _) = db.metadata.edges(row.id).await?;
    let new = |edge: JobDependency| Need {
        job: again.get(&edge.needs).map_or(JobRef::Id(edge.needs), |place| JobRef::New(*place)),
        parameter: edge.parameter,
        any_end: edge.any_end,
    };
    Ok(needs.into_iter().map(new).collect())
}

/// A run as it is on record once it is recorded, without reading it back.
fn recorded(id: RunId, run: NewRun, jobs: Vec<NewJob>, ids: &[JobId]) -> Loaded {
    let mut dependencies = Vec::new();
    let mut rows = Vec::with_capacity(jobs.len());
    for (mut job, job_id) in jobs.into_iter().zip(ids) {
        for need in std::mem::take(&mut job.needs) {
            let needs = match need.job {
                JobRef::New(index) => ids[index],
                JobRef::Id(id) => id,
            };
            dependencies.push(JobDependency {
                job: *job_id,
                needs,
                parameter: need.parameter,
                any_end: need.any_end,
            });
        }
        rows.push(new_row(job, *job_id, id));
    }
    let run = RunRow::new(id, run);
    let changes = RunChanges { run, jobs: rows, dependencies, cursor: ChangeCursor::default() };
    Loaded { changes, others: Vec::new(), other_workers: false }
}
