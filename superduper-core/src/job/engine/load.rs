//! Reading runs.

use super::removal::stop_what_goes;
use crate::{
    db::DbInner,
    error::{Error, Result},
    job::scheduler::Loaded,
    plan::Removal,
    store::{ChangeCursor, JobDependency, JobFilter, JobId, JobRow, JobState, RunId, WorkerId},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// A run from the beginning, for who is to lead it.
///
/// # Errors
/// `NotFound`; those of the store.
pub(crate) async fn load(db: &Arc<DbInner>, run: RunId) -> Result<Loaded> {
    let row = db.run_row(run).await?;
    let removal = super::removal::waits_for_more(&row);
    read(db, run, ChangeCursor::default(), Vec::new(), removal.as_ref(), true).await
}

/// Read a whole run, for a process that changes something in it and does not lead it.
///
/// # Errors
/// `NotFound`; those of the store.
pub(crate) async fn load_quietly(db: &Arc<DbInner>, run: RunId) -> Result<Loaded> {
    read(db, run, ChangeCursor::default(), Vec::new(), None, false).await
}

/// Read what changed in a run that this process leads. It also leads the runs whose free jobs this
/// run waits for: the process that recorded them may be gone. It claims only those that it can run.
pub(super) async fn follow(
    db: &Arc<DbInner>,
    run: RunId,
    after: ChangeCursor,
    others: Vec<JobId>,
    removal: Option<&Removal>,
) -> Result<Loaded> {
    db.reclaim_dead().await?;
    let loaded = read(db, run, after, others, removal, true).await?;
    let free = |row: &&JobRow| row.state == JobState::Queued && row.owner.is_none();
    let left: BTreeSet<RunId> = loaded.others.iter().filter(free).map(|row| row.run).collect();
    for run in left {
        // Boxed: what is read for it may lead to others in turn.
        let attach: crate::future::BoxFuture<'_, _> = Box::pin(db.attach(run));
        attach.await?;
    }
    Ok(loaded)
}

/// `leads`: whether this process leads the run, or is about to. Otherwise it does not matter
/// whether other workers live.
async fn read(
    db: &Arc<DbInner>,
    run: RunId,
    after: ChangeCursor,
    others: Vec<JobId>,
    removal: Option<&Removal>,
    leads: bool,
) -> Result<Loaded> {
    let other_workers = leads && other_workers(db, db.owner.get().copied()).await?;
    let mut asked: BTreeSet<JobId> = others.into_iter().collect();
    // All jobs of a removal wait for what is found at work.
    let after = if removal.is_some() { ChangeCursor::default() } else { after };
    loop {
        let stopped = match removal {
            Some(removal) => stop_what_goes(db, removal).await?,
            None => Vec::new(),
        };
        let changes = db.metadata.changes(run, after).await?;
        let mut changes =
            changes.ok_or_else(|| Error::not_found(format!("there is no run {run}")))?;
        let own: HashSet<JobId> = changes.jobs.iter().map(|row| row.id).collect();
        asked.extend(
            changes.dependencies.iter().map(|need| need.needs).filter(|needs| !own.contains(needs)),
        );
        asked.extend(&stopped);
        let mut rows = Vec::new();
        if !asked.is_empty() {
            let ids = Some(asked.iter().copied().collect());
            rows = db.metadata.jobs(JobFilter { ids, ..JobFilter::default() }).await?;
        }
        // Those that went meanwhile may have spawned others.
        if rows.iter().any(|row| row.state.is_terminal() && stopped.contains(&row.id)) {
            continue;
        }
        // Of this run, what belongs together was read together.
        rows.retain(|row| row.run != run);
        let open: Vec<JobId> =
            changes.jobs.iter().filter(|row| !row.state.is_terminal()).map(|row| row.id).collect();
        for needs in stopped {
            changes.dependencies.extend(open.iter().map(|job| JobDependency {
                job: *job,
                needs,
                parameter: None,
                any_end: true,
            }));
        }
        return Ok(Loaded { changes, others: rows, other_workers });
    }
}

/// Whether other processes run jobs of the database.
pub(crate) async fn other_workers(db: &DbInner, here: Option<WorkerId>) -> Result<bool> {
    Ok(db.shared()
        && db.metadata.live_workers().await?.into_iter().any(|other| Some(other) != here))
}
