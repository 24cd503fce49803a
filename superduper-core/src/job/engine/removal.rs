//! What only removals do: they cancel the jobs that are still at work on what goes, and wait for
//! them.
//!
//! Invariant: no cleanup starts, and nothing is deleted, while a job of what goes is unfinished.
//! Which jobs those were when the removal was recorded is part of its run, so that any process that
//! leads the run waits for them.

use crate::{
    db::DbInner,
    error::Result,
    plan::Removal,
    store::{JobFilter, JobId, JobRow, JobState, RunId, RunPurpose, RunRow, RunState},
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// Whether a run is a removal that goes on where cleanup fails.
pub(crate) fn is_forced(run: &RunRow) -> bool {
    run.purpose == RunPurpose::Remove
        && run.data.get("force").and_then(Value::as_bool) == Some(true)
}

/// What a run removes, where jobs of other runs were at work on it.
pub(super) fn waits_for_more(run: &RunRow) -> Option<Removal> {
    if run.purpose != RunPurpose::Remove || run.state != RunState::Running {
        return None;
    }
    serde_json::from_value(run.data.clone())
        .ok()
        .filter(|removal: &Removal| !removal.live.is_empty())
}

/// Cancel the unfinished jobs of what goes, those included that were spawned since the removal was
/// recorded; gives them.
pub(super) async fn stop_what_goes(db: &Arc<DbInner>, removal: &Removal) -> Result<Vec<JobId>> {
    let recorded = db
        .metadata
        .jobs(JobFilter { ids: Some(removal.live.clone()), ..JobFilter::default() })
        .await?;
    let runs: BTreeSet<RunId> = recorded.iter().map(|job| job.run).collect();
    let mut stopped = Vec::new();
    for run in runs {
        let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
        let open =
            db.metadata.jobs(JobFilter { run: Some(run), states, ..JobFilter::default() }).await?;
        let goes = |job: &&JobRow| {
            let version = job.target.version.map_or(0, |at| at.version);
            let path = job.target.path();
            let taken = removal
                .versions
                .iter()
                .any(|(address, versions)| versions.contains(&version) && address.path() == path);
            taken || removal.live.contains(&job.id)
        };
        let jobs: Vec<&JobRow> = open.iter().filter(goes).collect();
        if jobs.is_empty() {
            continue;
        }
        let jobs: Vec<JobId> = jobs.into_iter().map(|job| job.id).collect();
        stopped.extend(&jobs);
        crate::db::cancel(db, run, Some(jobs), None).await?;
    }
    Ok(stopped)
}
