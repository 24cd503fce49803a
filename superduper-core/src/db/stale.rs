//! Jobs on record that no program can run any more.

use super::DbInner;
use crate::{
    error::{FailureKind, JobFailure, Result},
    job::{Command, other_workers, work_of},
    plan::{Plan, StaleJob},
    store::{Batch, JobFilter, JobId, JobState, Op, Timestamp},
};
use std::{collections::BTreeMap, sync::Arc};

/// End the unfinished jobs of the planned components whose trigger or executor this program lacks,
/// so that their runs can end.
///
/// While another process that runs jobs is alive, the jobs are left alone: its program may have
/// what they need. Returns whether jobs were ended.
pub(super) async fn end_stale(db: &Arc<DbInner>, plan: &Plan, audit: Option<Op>) -> Result<bool> {
    if plan.stale.is_empty() && plan.joins.is_empty() {
        return Ok(false);
    }
    db.reclaim_dead().await?;
    if other_workers(db, db.owner.get().copied()).await? {
        return Ok(false);
    }
    let gone = |stale: &StaleJob| {
        (stale.job, format!("`{}` has no `{}` any more", stale.component.kind, stale.method))
    };
    let mut ends: BTreeMap<JobId, String> = plan.stale.iter().map(gone).collect();
    // An observer has no executors of its own, and says nothing of those of others.
    for run in plan.joins.iter().filter(|_| !db.options.observer) {
        let states = Some(vec![JobState::Queued, JobState::Blocked]);
        for job in
            db.metadata.jobs(JobFilter { run: Some(*run), states, ..JobFilter::default() }).await?
        {
            let is_planned = plan
                .components
                .iter()
                .any(|component| component.address.path() == job.target.path());
            if let Some(lacks) =
                db.program.lacks(&work_of(&job)).filter(|_| is_planned && job.owner.is_none())
            {
                ends.entry(job.id)
                    .or_insert_with(|| format!("this database no longer has {lacks}"));
            }
        }
    }
    if ends.is_empty() {
        return Ok(false);
    }
    let at = Timestamp::now();
    let jobs = Some(ends.keys().copied().collect());
    let end = |(job, text)| Op::Settle {
        job,
        state: JobState::Skipped,
        failure: JobFailure::new(FailureKind::Upstream, text),
        at,
    };
    let ops = ends.into_iter().map(end).chain(audit).collect();
    db.commit_once(Batch { expect: Vec::new(), ops }).await?;
    db.committed();
    for row in db.metadata.jobs(JobFilter { ids: jobs, ..JobFilter::default() }).await? {
        db.attach(row.run).await?.tell(Command::Look);
    }
    Ok(true)
}
