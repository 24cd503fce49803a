//! Retention: jobs that are final and old enough lose their results; the record stays.
//!
//! Invariants: only what the job itself registered, and no other one, is deleted, files before the
//! rows that name them, so that a crash in between leaves work for the next sweep and nothing else.
//! Pinned jobs are left alone, and all jobs of an id of which one is unfinished. Each submission of
//! an id is judged for itself.

use crate::{
    base::JobBase,
    handle::JobRun,
    kind::JobKind,
    labels::{pin_label, purge_label},
    span::Span,
    take_over::take_over,
    written::Written,
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use superduper::unreturned::{Site, Unreturned};
use superduper::{
    Address, Db, Error, ErrorKind, Locator, Result, Value,
    store::{JobFilter, JobId, JobRow, JobState, StoredVersion, Timestamp, check_readable},
};
use tokio::task::JoinHandle;

/// Blobs of dropped checkpoints are collected so often; seldomer where it takes long.
const COLLECT: Duration = Duration::from_secs(60);

/// How long a purge waits for another one of the same job.
const OTHERS: Duration = Duration::from_secs(5);

/// How often a purge looks again where it was refused and no other one is under way.
const LOOKS: u32 = 4;

/// Sweeps now and then until it is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    pub(crate) fn start(db: &Db, trainer: &str, base: &JobBase) -> Self {
        let takes_over = base.restart.resume;
        // A day of retention need not be kept to the second.
        let shortest = base.retention.map_or(Duration::from_secs(60), Span::get) / 4;
        let pause = shortest.clamp(Duration::from_millis(250), Duration::from_secs(60));
        let (db, trainer) = (db.clone(), trainer.to_owned());
        Sweeper(tokio::spawn(async move {
            let mut collected = Instant::now();
            let mut rest = COLLECT;
            loop {
                tokio::time::sleep(pause).await;
                // What fails now is swept next time.
                sweep(&db, &trainer).await.or_warn(Site::RETENTION, "purging old jobs");
                if takes_over {
                    // Of processes that died since this trainer was opened.
                    take_over(&db, &trainer, false)
                        .await
                        .or_warn(Site::RETENTION, "taking over the jobs of processes that died");
                }
                if collected.elapsed() >= rest {
                    // The blobs of dropped checkpoints.
                    let before = Instant::now();
                    db.gc(false)
                        .await
                        .or_warn(Site::SWEEP, "collecting the blobs of dropped checkpoints");
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

/// A version whose job was not purged, as a sweep sees it: each submission of an id is a version of
/// one component.
struct Candidate {
    kind: JobKind,
    /// With version, without revision.
    address: Address,
    stored: StoredVersion,
    /// The newest job of the version.
    job: JobId,
    newest: bool,
    /// Where its files are written to, the same for all that write to the same place.
    place: Option<String>,
}

/// What a sweep looks at.
#[derive(Default)]
struct Listed {
    candidates: Vec<Candidate>,
    /// Components with unfinished jobs.
    busy: HashSet<String>,
    pinned: HashSet<(String, u32)>,
}

/// Purge the jobs of a trainer that are past their retention; gives their ids.
pub(crate) async fn sweep(db: &Db, trainer: &str) -> Result<Vec<String>> {
    let now = Timestamp::now();
    let listed = Listed::read(db).await?;
    let due: Vec<(&Candidate, Span)> = listed
        .candidates
        .iter()
        .filter(|candidate| listed.may_go(candidate, trainer))
        .filter_map(|at| Some((at, at.retention()?)))
        .collect();
    let rows = db
        .jobs(JobFilter {
            ids: Some(due.iter().map(|(candidate, _)| candidate.job).collect()),
            ..JobFilter::default()
        })
        .await?;
    let ended: HashMap<JobId, Timestamp> =
        rows.into_iter().filter_map(|row| Some((row.id, row.ended_at?))).collect();
    let mut purged = Vec::new();
    let mut failed = None;
    for (candidate, retention) in due {
        let millis = u64::try_from(retention.get().as_millis()).unwrap_or(u64::MAX);
        if ended.get(&candidate.job).is_none_or(|ended| ended.plus_ms(millis) > now) {
            continue;
        }
        match delete(db, candidate).await {
            Ok(()) => purged.push(candidate.stored.address.identifier.clone()),
            // It is in use, in this moment or for longer.
            Err(error) if is_in_use(&error) => {}
            // One that cannot be purged must not keep the others.
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => Site::RETENTION.job(candidate.job).warn(&error, "purging an old job"),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(purged),
    }
}

/// Purge one job now.
pub(crate) async fn purge(run: &JobRun) -> Result<()> {
    let (what, id) = (run.kind.what(), run.id());
    let row = run.row().await?;
    if !row.state.is_terminal() {
        return Err(
            Error::conflict(format!("{what} `{id}` is unfinished")).with_hint("cancel it first")
        );
    }
    if run.info().await?.purged {
        return Err(Error::new(ErrorKind::Gone, format!("{what} `{id}` was purged before")));
    }
    let version = row.target.version.map_or(0, |at| at.version);
    let is_it = |candidate: &&Candidate| {
        candidate.stored.component == row.component && candidate.stored.version() == version
    };
    let moved = || Error::conflict(format!("{what} `{id}` was resumed in the meantime"));
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        let listed = Listed::read(&run.db).await?;
        looks += 1;
        if listed.pinned.contains(&(row.target.path(), version)) {
            return Err(Error::conflict(format!("{what} `{id}` is pinned"))
                .with_hint("`pin(false)` lets it go"));
        }
        let error = match listed.candidates.iter().find(is_it) {
            Some(candidate) => match delete(&run.db, candidate).await {
                Err(error) if is_in_use(&error) => error,
                deleted => return deleted,
            },
            None => moved(),
        };
        if run.info().await?.purged {
            let text =
                format!("{what} `{id}` was purged in the meantime, by a sweep or by another call");
            return Err(Error::new(ErrorKind::Gone, text));
        }
        // Another purge of it says so by a label, until it is gone; one that a process left when it
        // died stays there. A purge of another version of the id only moves what was planned with.
        let is_going =
            run.db.labels(run.address()).await?.iter().any(|row| row.label == purge_label(version));
        let goes_on = if is_going { begun.elapsed() <= OTHERS } else { looks < LOOKS };
        if !goes_on || (!is_going && error.kind() == ErrorKind::InUse) {
            return Err(if error.kind() == ErrorKind::NotFound {
                moved().with_source(error)
            } else {
                error
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a job cannot be purged in this moment, because something else is done with it.
fn is_in_use(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InUse | ErrorKind::NotFound)
}

impl Listed {
    async fn read(db: &Db) -> Result<Self> {
        let mut listed = Listed::default();
        for row in db.metadata().labels(None).await? {
            let version = row.address.version.map_or(0, |at| at.version);
            if row.label == pin_label(version) {
                listed.pinned.insert((row.address.path(), version));
            }
        }
        for kind in [JobKind::Training, JobKind::Prediction] {
            listed.read_kind(db, kind).await?;
        }
        Ok(listed)
    }

    async fn read_kind(&mut self, db: &Db, kind: JobKind) -> Result<()> {
        let rows = db.metadata().list(Some(kind.name().to_owned())).await?;
        let addresses: Vec<Address> =
            rows.into_iter().map(|row| row.address.unversioned()).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        let mut snapshot = db.metadata().snapshot(addresses).await?;
        // Ascending, so that the newest job of each id is left.
        let mut last: HashMap<String, (JobId, JobState)> = HashMap::new();
        for job in std::mem::take(&mut snapshot.jobs) {
            last.insert(job.target.path(), (job.id, job.state));
        }
        for (path, newest) in snapshot.components {
            let address = newest.address.unversioned();
            let mut jobs: HashMap<u32, (JobId, JobState)> = HashMap::new();
            let versions = if newest.next_version > 1 {
                // The id was used several times.
                for row in db
                    .jobs(JobFilter { target: Some(address.clone()), ..JobFilter::default() })
                    .await?
                {
                    if row.component == newest.component {
                        self.note(&path, row.state);
                        jobs.insert(
                            row.target.version.map_or(0, |at| at.version),
                            (row.id, row.state),
                        );
                    }
                }
                db.metadata().versions(address.clone()).await?
            } else {
                jobs.extend(last.get(&path).map(|job| (newest.version(), *job)));
                vec![newest]
            };
            let count = versions.len();
            for (index, stored) in versions.into_iter().enumerate() {
                let version = stored.version();
                let Some((job, state)) = jobs.get(&version).copied() else { continue };
                self.note(&path, state);
                let place = kind
                    .path(&stored.document, &stored.address.identifier)
                    .map(|path| path.identity());
                self.candidates.push(Candidate {
                    kind,
                    address: address.at(version),
                    stored,
                    job,
                    newest: index + 1 == count,
                    place,
                });
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &str, state: JobState) {
        if !state.is_terminal() {
            self.busy.insert(path.to_owned());
        }
    }

    fn may_go(&self, candidate: &Candidate, trainer: &str) -> bool {
        let path = candidate.address.path();
        candidate.stored.document.get("owner").and_then(Value::as_str) == Some(trainer)
            && !candidate.stored.removing
            && !self.busy.contains(&path)
            && !self.pinned.contains(&(path, candidate.stored.version()))
    }
}

impl Candidate {
    /// How long the job is kept: what it says itself, else what its base says.
    ///
    /// One that was declared stays as long as it is declared: who applies it again would train it
    /// again.
    fn retention(&self) -> Option<Span> {
        let document = &self.stored.document;
        let own = document.get("retention").and_then(Value::as_str);
        let declared = document.get("submission").and_then(Value::as_str) == Some("");
        let base = || {
            if declared && self.newest {
                None
            } else {
                document.get("base")?.get("retention")?.as_str()
            }
        };
        own.or_else(base)?.parse().ok()
    }

    /// What its jobs wrote.
    async fn written(&self, db: &Db) -> Result<Vec<Written>> {
        let rows = db
            .jobs(JobFilter { target: Some(self.address.clone()), ..JobFilter::default() })
            .await?;
        let own = rows
            .into_iter()
            .filter(|row| row.component == self.stored.component && is_of(row, &self.address));
        let mut written = Vec::new();
        for row in own {
            if !row.state.is_terminal() {
                let text =
                    format!("{} `{}` is unfinished", self.kind.what(), self.address.identifier);
                return Err(Error::conflict(text).with_hint(
                    "what it writes cannot be told apart yet; wait for it, or cancel it",
                ));
            }
            // What is not known to be written is not deleted, and neither is the record of it.
            let Some(mut result) = row.result else { continue };
            let what = format!(
                "what job {} of {} `{}` wrote",
                row.id,
                self.kind.what(),
                self.address.identifier
            );
            check_readable(&result, &what)?;
            let Some(found) = result.get_mut("written").map(Value::take) else { continue };
            let found = serde_json::from_value(found);
            written.push(found.map_err(|error| {
                Error::integrity(format!("{what} cannot be read")).with_source(error)
            })?);
        }
        Ok(written)
    }
}

fn is_of(row: &JobRow, address: &Address) -> bool {
    row.target.version.map(|at| at.version) == address.version.map(|at| at.version)
}

/// Delete what a version's jobs wrote, then the version.
///
/// # Errors
/// `Conflict`, `InUse`, `NotFound` for one that was used, pinned or purged in the meantime, or
/// shares its files with one that is unfinished.
async fn delete(db: &Db, candidate: &Candidate) -> Result<()> {
    let version = candidate.stored.version();
    // It says where the files are.
    check_readable(
        &candidate.stored.document,
        format_args!("the document of {} `{}`", candidate.kind.what(), candidate.address),
    )?;
    if candidate.place.is_none() {
        return remove(db, candidate).await;
    }
    // What something else refers to is refused before anything of it is gone. The label of another
    // purge is no reason.
    let references = db.metadata().referrers(vec![candidate.address.clone()]).await?;
    if let Some(reference) = references.into_iter().find(|reference| reference.current) {
        let text = format!(
            "`{}` cannot be purged: it is used by `{}` (`{}`)",
            candidate.address, reference.parent, reference.path
        );
        return Err(Error::new(ErrorKind::InUse, text)
            .with_hint("remove that first, or apply it without it"));
    }
    // From here on it cannot be pinned; a pin from before is seen. The mark goes with the version.
    db.label(Locator::from(candidate.address.clone()), &purge_label(version)).await?;
    let deleted = match delete_files(db, candidate).await {
        Ok(()) => remove(db, candidate).await,
        failed => failed,
    };
    if deleted.is_err() {
        let address = candidate.address.unversioned();
        match db.unlabel(address, &purge_label(version)).await {
            // Another purge took it, and the mark with it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            unlabelled => {
                unlabelled?;
            }
        }
    }
    deleted
}

/// The version with its blobs, and with the mark of this purge or of another one. The plan is
/// refused where it is resumed, submitted again or pinned meanwhile.
async fn remove(db: &Db, candidate: &Candidate) -> Result<()> {
    let version = candidate.stored.version();
    let plan = db
        .remove_dyn(candidate.address.clone())
        .exclusive()
        .unless_labelled(pin_label(version))
        .with_label(purge_label(version))
        .plan()
        .await?;
    // An id that was purged as a whole and used again starts with version 0 again.
    if plan.components().iter().any(|planned| planned.uuid != candidate.stored.uuid) {
        let text = format!("`{}` is another one by now", candidate.address);
        return Err(Error::conflict(text));
    }
    // The plan is refused where a job is unfinished; it would be shown as a removal that cancels
    // it.
    candidate.written(db).await?;
    db.apply_plan(plan).detach().await?.wait().await.map(drop)
}

async fn delete_files(db: &Db, candidate: &Candidate) -> Result<()> {
    let version = candidate.stored.version();
    let mut written = candidate.written(db).await?;
    // Read again: a job may have been submitted, and be done, since the sweep began.
    let listed = Listed::read(db).await?;
    if listed.busy.contains(&candidate.address.path()) {
        return Err(Error::conflict(format!(
            "a job of {} `{}` is unfinished",
            candidate.kind.what(),
            candidate.address.identifier
        )));
    }
    // Another job may have written to the same place: what it wrote is its own, be it the same
    // bytes.
    let shares = |other: &&Candidate| {
        other.place.is_some()
            && other.place == candidate.place
            && other.address != candidate.address
    };
    for other in listed.candidates.iter().filter(shares) {
        let others = other.written(db).await?;
        written.iter_mut().for_each(|written| others.iter().for_each(|other| written.leave(other)));
    }
    if listed.pinned.contains(&(candidate.address.path(), version)) {
        return Err(Error::conflict(format!(
            "{} `{}` is pinned",
            candidate.kind.what(),
            candidate.address.identifier
        )));
    }
    crate::export::delete(written).await.map_err(|error| {
        error.context(format_args!(
            "purging {} `{}`",
            candidate.kind.what(),
            candidate.address.identifier
        ))
    })
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
