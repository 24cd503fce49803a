//! Waiting for a run that other processes lead.

use super::handle::{Ending, RunHandle};
use crate::unreturned::Unreturned;
use crate::{
    db::DbInner,
    error::Result,
    job::{Outcome, record::MOST_FAILURES},
    store::{JobFilter, RunId, RunState},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How soon, and how late at most, the record is read again.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Follow a run on record until it ends, or until no handle waits for it any more. Its jobs do not
/// run here.
pub(crate) fn watch(db: &Arc<DbInner>, run: RunId) -> RunHandle {
    let (told, done) = watch::channel(None);
    let db = db.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = told.closed() => {}
            ended = ended(&db, run) => {
                told.send_replace(ended);
            }
        }
    });
    RunHandle::of_others(run, done)
}

async fn ended(db: &Arc<DbInner>, run: RunId) -> Ending {
    let (mut pause, mut failures) = (POLL.0, 0);
    let mut commits = db.commits.subscribe();
    loop {
        match outcome(db, run).await {
            Ok(Some(outcome)) => return Some(Arc::new(Ok(outcome))),
            Ok(None) if db.is_closed() => return Some(Arc::new(Err(super::act::closed(run)))),
            Ok(None) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures > MOST_FAILURES || !error.is_retryable() {
                    return Some(Arc::new(Err(
                        error.context(format_args!("waiting for run {run}, which goes on"))
                    )));
                }
            }
        }
        // A commit of this process may have ended the run.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = commits.changed(), if failures == 0 => changed.ignored("the database keeps the channel open"),
        }
        pause = (pause * 2).min(POLL.1);
    }
}

async fn outcome(db: &Arc<DbInner>, run: RunId) -> Result<Option<Outcome>> {
    let row = db.run_row(run).await?;
    if row.state == RunState::Running {
        return Ok(None);
    }
    let jobs = db.metadata.jobs(JobFilter { run: Some(run), ..JobFilter::default() }).await?;
    Ok(Some(Outcome {
        run: row,
        jobs,
        registry: db.registry.clone(),
        artifacts: Some(db.artifacts.clone()),
    }))
}
