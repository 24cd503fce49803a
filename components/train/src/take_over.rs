//! Taking over the jobs of processes that died.

use crate::{handle::JobRun, info::Status, kind::JobKind};
use superduper::{
    Db, Result,
    store::{JobFilter, JobState},
};

/// Take over the unfinished jobs of a trainer that no live process has. With `queued` also those that
/// a live process may have and has not begun. Returns their ids.
pub(crate) async fn take_over(db: &Db, trainer: &str, queued: bool) -> Result<Vec<String>> {
    let states = Some(vec![JobState::Queued, JobState::Running]);
    let mut resumed = Vec::new();
    for row in db.jobs(JobFilter { states, ..JobFilter::default() }).await? {
        let kind = [JobKind::Training, JobKind::Prediction]
            .into_iter()
            .find(|kind| kind.name() == row.target.kind);
        let Some(kind) = kind.filter(|_| !db.drives(row.run)) else { continue };
        let run = JobRun::find(db, kind, &row.target.identifier).await?;
        let owner = run
            .document(&row)
            .await?
            .and_then(|document| document.get("owner")?.as_str().map(str::to_owned));
        if owner.as_deref() != Some(trainer) || run.job() != row.id {
            continue;
        }
        let status = run.info().await?.status;
        if status == Status::Interrupted
            || (queued && status == Status::Queued && row.owner.is_none())
        {
            // Not `run.resume()`: one that failed in the meantime is not to be tried again.
            db.resume_run(row.run).await?;
            resumed.push(row.target.identifier);
        }
    }
    Ok(resumed)
}
