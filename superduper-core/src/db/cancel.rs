//! Cancelling jobs: one commit, which needs no process that leads their run.
//!
//! Invariant: a process that cancels jobs runs none of them, nor any other job of their run.

use super::DbInner;
use crate::{
    error::Result,
    future::BoxFuture,
    job::{Command, Loaded, cancellations, conclusions, load_quietly},
    store::{
        Batch, JobFilter, JobId, JobRow, JobSignal, Op, RunId, RunPurpose, RunState, Timestamp,
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How often the commit is tried if other processes move the jobs in between. Those processes see
/// the cancel on record.
const MOST_TRIES: u32 = 16;

/// Cancel jobs of any runs.
pub(crate) async fn cancel_jobs(
    db: &Arc<DbInner>,
    jobs: Vec<JobId>,
    mut audit: Option<Op>,
) -> Result<()> {
    let rows = db.metadata.jobs(JobFilter { ids: Some(jobs), ..JobFilter::default() }).await?;
    let mut runs: BTreeMap<RunId, Vec<JobId>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.state.is_terminal()) {
        runs.entry(row.run).or_default().push(row.id);
    }
    for (run, jobs) in runs {
        cancel(db, run, Some(jobs), audit.take()).await?;
    }
    Ok(())
}

/// Cancel jobs of a run, or all of them. The commit marks the jobs and ends those that no process
/// has. It skips the jobs that need them, and ends the run if all its jobs are final. A process
/// that has one of the other jobs sees the mark on record.
///
/// `audit` says who did it; it is part of the first commit.
pub(crate) fn cancel(
    db: &Arc<DbInner>,
    run: RunId,
    jobs: Option<Vec<JobId>>,
    mut audit: Option<Op>,
) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        // Otherwise a job of a process that is gone would not end before another process takes it
        // over.
        db.reclaim_dead().await?;
        for tries in 0..MOST_TRIES {
            let loaded = load_quietly(db, run).await?;
            let asked = |row: &&JobRow| jobs.as_ref().is_none_or(|jobs| jobs.contains(&row.id));
            let open: Vec<&JobRow> = loaded
                .changes
                .jobs
                .iter()
                .filter(asked)
                .filter(|row| !row.state.is_terminal())
                .collect();
            if loaded.changes.run.state != RunState::Running {
                break;
            }
            // A removal ends in a commit of its own.
            let is_removal = loaded.changes.run.purpose == RunPurpose::Remove;
            let unmarked: Vec<JobId> =
                open.iter().filter(|row| !row.cancel_requested).map(|row| row.id).collect();
            let is_last = open.is_empty() || !is_removal;
            if open.is_empty() && !is_removal {
                break;
            }
            if write(db, unmarked, loaded, jobs.clone(), &mut audit).await? {
                if is_last {
                    break;
                }
                continue;
            }
            tokio::time::sleep(Duration::from_millis(1 << tries.min(6))).await;
        }
        match db.engine.handle(run) {
            Some(handle) => handle.tell(Command::Cancel(jobs)),
            None => conclude(db, run).await?,
        }
        Ok(())
    })
}

/// Write one commit. Returns whether all of it applied: `false` if another process moved a job in
/// between.
async fn write(
    db: &Arc<DbInner>,
    unmarked: Vec<JobId>,
    loaded: Loaded,
    jobs: Option<Vec<JobId>>,
    audit: &mut Option<Op>,
) -> Result<bool> {
    let mut ops = Vec::new();
    if !unmarked.is_empty() {
        ops.push(Op::Signal { jobs: unmarked, signal: JobSignal::Cancel });
    }
    ops.extend(cancellations(loaded, jobs, Timestamp::now()));
    if ops.iter().any(|op| matches!(op, Op::Delete { .. })) {
        // What a removal deletes, the process that leads it deletes.
        return Ok(true);
    }
    if ops.is_empty() {
        return Ok(true);
    }
    // Behind the first operation: if that one is left out, so is this.
    audit.iter().for_each(|entry| ops.insert(1, entry.clone()));
    let is_append = ops.get(1).is_some_and(|op| matches!(op, Op::Append { .. }));
    let committed = db.commit_once(Batch { expect: Vec::new(), ops }).await?;
    db.committed();
    if is_append && !committed.ignored.contains(&1) {
        *audit = None;
    }
    Ok(committed.ignored.is_empty())
}

/// End a run whose jobs are all final, if no process does: two processes that end its last jobs at
/// the same time each see a job that is not final.
pub(super) async fn conclude(db: &Arc<DbInner>, run: RunId) -> Result<()> {
    let loaded = load_quietly(db, run).await?;
    let is_open = loaded.changes.jobs.iter().any(|row| !row.state.is_terminal());
    if is_open
        || loaded.changes.run.state != RunState::Running
        || loaded.changes.run.purpose == RunPurpose::Remove
    {
        return Ok(());
    }
    let ops = conclusions(loaded, Timestamp::now());
    if !ops.is_empty() {
        db.commit_once(Batch { expect: Vec::new(), ops }).await?;
        db.committed();
    }
    Ok(())
}
