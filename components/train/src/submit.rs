//! Putting the component of a job on record.

use crate::kind::JobKind;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use superduper::{
    AsComponent, Db, Error, ErrorKind, Result, Run,
    store::{JobId, RunId, Timestamp},
};

/// A name that no other call gives: time, process and a counter.
pub(crate) fn random_id() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let parts = format!(
        "{nanos} {} {} {:?}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed),
        Timestamp::now()
    );
    superduper::Digest::of(parts.as_bytes()).to_hex()[..32].to_owned()
}

/// Submit the component of a job; gives its run and job.
pub(crate) async fn submit(
    db: &Db,
    component: impl AsComponent,
    kind: JobKind,
    id: &str,
) -> Result<(Run, RunId, JobId)> {
    let run =
        db.apply(component).exclusive().retry_failed(false).detach().await.map_err(|error| {
            if error.kind() == ErrorKind::Conflict {
                error.context(format_args!("{} `{id}` cannot be submitted", kind.what()))
            } else {
                error
            }
        })?;
    recorded(run)
}

/// The run and the only job of a submission.
pub(crate) fn recorded(run: Run) -> Result<(Run, RunId, JobId)> {
    match (run.id(), run.recorded()) {
        (Some(id), [job]) => Ok((run.clone(), id, *job)),
        _ => Err(Error::internal("a job was submitted and is not on record")),
    }
}
