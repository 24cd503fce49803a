//! Jobs and runs: none is left behind.

use super::{Finding, Severity, Verify, VerifyReport};
use crate::{
    error::Result,
    store::{JobFilter, JobRow, JobState, RunId, RunState, WorkerId},
};
use std::collections::{BTreeMap, HashSet};

pub(super) async fn check(verify: &Verify, report: &mut VerifyReport) -> Result<()> {
    let db = verify.db.inner();
    let unfinished = db.unfinished_runs().await?;
    let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
    let open = db.metadata.jobs(JobFilter { states, ..JobFilter::default() }).await?;
    let dead: HashSet<WorkerId> = db.metadata.dead_workers().await?.into_iter().collect();
    let mut by_run: BTreeMap<RunId, Vec<&JobRow>> = BTreeMap::new();
    open.iter().for_each(|job| by_run.entry(job.run).or_default().push(job));
    for run in &unfinished {
        let jobs = by_run.remove(&run.id).unwrap_or_default();
        let here = db.engine.handle(run.id).is_some();
        let elsewhere =
            jobs.iter().any(|job| job.owner.is_some_and(|owner| !dead.contains(&owner)));
        if here || elsewhere {
            continue;
        }
        let what = match jobs.len() {
            0 => format!("run {} has no job left but did not end; `resume` ends it", run.id),
            count => format!(
                "run {} has {count} unfinished jobs and nobody is seen to drive it; `resume` does",
                run.id
            ),
        };
        report.findings.push(Finding::new(Severity::Warning, what).at(&run.root));
    }
    for (run, jobs) in by_run {
        // It may have been started, or have ended, since the unfinished ones were read.
        let state = db.run_row(run).await.map(|row| row.state);
        let Some(first) = jobs.first().filter(|_| !matches!(state, Ok(RunState::Running))) else {
            continue;
        };
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let now = db.metadata.jobs(JobFilter { ids: Some(ids), ..JobFilter::default() }).await?;
        let left = now.iter().filter(|job| !job.state.is_terminal()).count();
        if left > 0 {
            let what = format!(
                "run {run} has ended, but {left} of its jobs did not, the first of them job {} (`{}`); `cancel` them",
                first.id, first.method
            );
            report.findings.push(Finding::new(Severity::Error, what).at(&first.target));
        }
    }
    Ok(())
}
