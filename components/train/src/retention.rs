//! Retention: jobs that are final and old enough lose their results; the record stays.
//!
//! Invariants: only what the job itself registered is deleted, files before the rows that name them, so that a crash
//! in between leaves work for the next sweep and nothing else. Pinned jobs are left alone.

use crate::{JobRun, SavePath, Span, export::Written, kind::JobKind};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use superduper::{
    Address, Db, Error, ErrorKind, Result, Value,
    store::{JobBrief, JobFilter, JobId, StoredVersion, Timestamp},
};
use tokio::task::JoinHandle;

/// Blobs of dropped checkpoints are collected so often; seldomer where it takes long.
const COLLECT: Duration = Duration::from_secs(60);

/// Sweeps now and then until it is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    pub(crate) fn start(db: &Db, trainer: &str, retention: Option<Span>) -> Self {
        // A day of retention need not be kept to the second.
        let shortest = retention.map_or(Duration::from_secs(60), Span::get) / 4;
        let pause = shortest.clamp(Duration::from_millis(250), Duration::from_secs(60));
        let (db, trainer) = (db.clone(), trainer.to_owned());
        Sweeper(tokio::spawn(async move {
            let mut collected = Instant::now();
            let mut rest = COLLECT;
            loop {
                tokio::time::sleep(pause).await;
                // What fails now is swept next time.
                let _ = sweep(&db, &trainer).await;
                if collected.elapsed() >= rest {
                    // The blobs of dropped checkpoints.
                    let before = Instant::now();
                    let _ = db.gc(false).await;
                    collected = Instant::now();
                    rest = COLLECT.max(before.elapsed() * 200);
                }
            }
        }))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A job that was not purged, as a sweep sees it.
struct Candidate {
    kind: JobKind,
    stored: StoredVersion,
    job: JobId,
    path: Option<SavePath>,
}

/// Purge the jobs of a trainer that are past their retention; gives their ids.
pub(crate) async fn sweep(db: &Db, trainer: &str) -> Result<Vec<String>> {
    let now = Timestamp::now();
    let mut purged = Vec::new();
    let mut failed = None;
    for kind in [JobKind::Training, JobKind::Prediction] {
        let all = candidates(db, kind).await?;
        let due: Vec<&Candidate> = all.iter().filter(|candidate| is_owned(candidate, trainer)).collect();
        let rows = db.jobs(JobFilter { ids: Some(due.iter().map(|candidate| candidate.job).collect()), ..JobFilter::default() }).await?;
        for candidate in due {
            let Some(row) = rows.iter().find(|row| row.id == candidate.job) else { continue };
            let Some(retention) = retention(&candidate.stored.document) else { continue };
            let millis = u64::try_from(retention.get().as_millis()).unwrap_or(u64::MAX);
            if row.ended_at.is_none_or(|ended| ended.plus_ms(millis) > now) {
                continue;
            }
            match delete(db, candidate, &all).await {
                Ok(true) => purged.push(candidate.stored.address.identifier.clone()),
                Ok(false) => {}
                // One that cannot be purged must not keep the others.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(purged),
    }
}

/// Purge one job now.
pub(crate) async fn purge(run: &JobRun) -> Result<()> {
    let all = candidates(&run.db, run.kind).await?;
    let candidate = all.iter().find(|candidate| candidate.job == run.job());
    if candidate.is_none() && run.info().await?.purged {
        return Err(Error::new(ErrorKind::Gone, format!("{} `{}` was purged before", run.kind.what(), run.id())));
    }
    let candidate = candidate
        .ok_or_else(|| Error::conflict(format!("{} `{}` is unfinished", run.kind.what(), run.id())).with_hint("cancel it first"))?;
    match delete(&run.db, candidate, &all).await? {
        true => Ok(()),
        false => Err(Error::conflict(format!("{} `{}` was submitted again, or purged, in the meantime", run.kind.what(), run.id()))),
    }
}

/// The jobs of a kind that are final and not purged.
async fn candidates(db: &Db, kind: JobKind) -> Result<Vec<Candidate>> {
    let listed = db.metadata().list(Some(kind.name().to_owned())).await?;
    let addresses: Vec<Address> = listed.into_iter().map(|row| row.address.unversioned()).collect();
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let mut snapshot = db.metadata().snapshot(addresses).await?;
    // Ascending, so that the newest job of each id is left.
    let last: HashMap<String, JobBrief> = std::mem::take(&mut snapshot.jobs).into_iter().map(|job| (job.target.path(), job)).collect();
    Ok(snapshot
        .components
        .into_iter()
        .filter(|(_, stored)| !stored.removing)
        .filter_map(|(path, stored)| {
            let job = last.get(&path).filter(|job| job.state.is_terminal())?.id;
            let path = kind.path(&stored.document, &stored.address.identifier);
            Some(Candidate { kind, stored, job, path })
        })
        .collect())
}

fn is_owned(candidate: &Candidate, trainer: &str) -> bool {
    let document = &candidate.stored.document;
    document.get("owner").and_then(Value::as_str) == Some(trainer) && document.get("pinned").and_then(Value::as_bool) != Some(true)
}

/// How long a job is kept: what it says itself, else what its base says.
fn retention(document: &Value) -> Option<Span> {
    let own = document.get("retention").and_then(Value::as_str);
    let base = || document.get("base")?.get("retention")?.as_str();
    own.or_else(base)?.parse().ok()
}

/// Gives whether it was deleted: an id that was submitted again in the meantime is left alone.
async fn delete(db: &Db, candidate: &Candidate, all: &[Candidate]) -> Result<bool> {
    let address = candidate.stored.address.unversioned();
    let plan = match db.remove_dyn(address.clone()).plan().await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        plan => plan?,
    };
    // The plan stands only as long as there is no newer version; and this one's job must be the last.
    let newest = JobFilter { target: Some(address), limit: Some(1), ..JobFilter::default() };
    if db.jobs(newest).await?.pop().is_none_or(|row| row.id != candidate.job || !row.state.is_terminal()) {
        return Ok(false);
    }
    // Every submission of the id wrote to the same path.
    let filter = JobFilter { target: Some(candidate.stored.address.unversioned()), ..JobFilter::default() };
    let written: Vec<Written> = db
        .jobs(filter)
        .await?
        .into_iter()
        .filter(|row| row.component == candidate.stored.component)
        .filter_map(|row| row.result?.get_mut("written").map(Value::take))
        .filter_map(|written| serde_json::from_value(written).ok())
        .collect();
    // Another job may have written the same bytes to the same place: then they are its files now.
    let is_shared = |path: &SavePath| all.iter().any(|other| other.job != candidate.job && other.path.as_ref() == Some(path));
    if !candidate.path.as_ref().is_some_and(is_shared) {
        crate::export::delete(written)
            .await
            .map_err(|error| error.context(format_args!("purging {} `{}`", candidate.kind.what(), candidate.stored.address.identifier)))?;
    }
    match db.apply_plan(plan).detach().await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        run => run?.wait().await.map(|_| true),
    }
}
