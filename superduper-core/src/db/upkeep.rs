//! Keeping house: sweeping blobs, rolling back.
//!
//! A sweep runs beside applies in three steps. One commit marks the blobs that no row refers to.
//! The blobs are deleted. A second commit confirms the deletion and counts the sweep. An apply is
//! refused, and tries again, if it names a marked blob or if a sweep completed after it looked for
//! its blobs. The end of a job that names blobs is left out of its commit in the same way; see
//! `job/record.rs`.

use super::{Apply, Db, DbInner, detached::detached};
use crate::{
    address::VersionRef,
    digest::Digest,
    error::{Error, ErrorKind, Result},
    locator::Locator,
    plan::Plan,
    store::{Batch, Op, SweepLock},
    unreturned::Site,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// So many blobs are enough for a sweep.
const SWEEP: usize = 4096;

/// What `gc` deleted, or would delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs that nothing refers to, with their sizes in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Whether nothing was deleted.
    pub dry_run: bool,
}

impl Db {
    /// Delete blobs that no stored version, output or live result refers to.
    ///
    /// Crashes leave such blobs; `remove` collects its own. Blobs younger than the grace of
    /// [`DbBuilder::gc_grace`](super::DbBuilder::gc_grace) are spared. It is safe beside a running apply.
    ///
    /// It takes time in proportion to the number of blobs, and memory in proportion to what it
    /// deletes.
    ///
    /// # Errors
    /// `Store`.
    pub async fn gc(&self, dry_run: bool) -> Result<GcReport> {
        let db = self.inner();
        if !dry_run {
            db.check_writable("delete blobs")?;
            db.finish_sweeps().await?;
        }
        // No blob is as old as a grace that reaches back beyond the calendar.
        // The age is measured by the clock that also set the times of the blobs.
        let before = db
            .artifacts
            .now()
            .await?
            .checked_sub(db.options.gc_grace)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let mut report = GcReport { dry_run, ..GcReport::default() };
        let mut orphans: Vec<(Digest, u64)> = Vec::new();
        for first in 0..=u8::MAX {
            // Leftovers of interrupted puts are in no shard: the first call clears them away.
            let leftovers = (!dry_run && first == 0).then_some(before);
            let blobs = db.artifacts.list(Some(first), leftovers).await?;
            if !blobs.is_empty() {
                let referenced = db.metadata.referenced_blobs(Some(first)).await?;
                let referenced: HashSet<Digest> =
                    referenced.into_iter().map(|(digest, _)| digest).collect();
                let old = blobs
                    .into_iter()
                    .filter(|blob| !referenced.contains(&blob.digest) && blob.modified <= before);
                orphans.extend(old.map(|blob| (blob.digest, blob.size)));
            }
            // Each sweep makes applies that are under way look again: a few large ones disturb them
            // less than many small ones.
            if orphans.len() >= SWEEP || first == u8::MAX {
                if !dry_run {
                    let swept =
                        db.sweep_all(orphans.iter().map(|(digest, _)| *digest).collect()).await?;
                    orphans.retain(|(digest, _)| swept.contains(digest));
                }
                report.blobs.append(&mut orphans);
            }
        }
        report.bytes = report.blobs.iter().map(|(_, size)| size).sum();
        Ok(report)
    }

    /// Go back to an older version or revision: its document becomes the next version.
    ///
    /// The version is a number, `3`, or number and revision, `(3, 2)`. Children are the versions
    /// that the old document names, each at its newest revision; they get no jobs.
    ///
    /// `on_create` runs. A trigger that sets outputs does not run again where the old version has
    /// them: they are copied, in the commit that makes the new version. Other triggers run, since
    /// what they do is outside. [`Applied::left_out`](crate::db::Applied::left_out) names those that
    /// do not run.
    ///
    /// As every [`Apply`], it can be detached, planned, and held to a plan that was agreed on.
    ///
    /// Applying the content that was rolled back to changes nothing, as long as the children that
    /// it declares are those of then.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// println!("{}", db.plan_rollback("acme.Model/churn", 3).await?);
    /// let back = db.rollback("acme.Model/churn", 3).await?;
    /// for left in &back.left_out {
    ///     println!("{} does not run again: {}", left.trigger, left.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `UnknownKind` and `Decode` where this program's type cannot read the old
    /// version; `Conflict` while the component, its newest version or the one to go back to is
    /// being removed; `JobFailed`.
    pub fn rollback(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        version: impl Into<VersionRef>,
    ) -> Apply {
        Apply::of_rollback(self.clone(), address.try_into().map_err(Into::into), version.into())
    }

    /// What [`Db::rollback`] would do. Writes nothing; [`Db::apply_plan`] does it.
    ///
    /// # Errors
    /// As for [`Db::rollback`], apart from those of its jobs.
    pub async fn plan_rollback(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        version: impl Into<VersionRef>,
    ) -> Result<Plan> {
        self.rollback(address, version).plan().await
    }
}

/// How long a removal waits for another sweep, before it leaves its blobs to `gc`.
const PATIENCE: Duration = Duration::from_secs(10);

impl DbInner {
    /// Delete those of the blobs that nothing refers to.
    pub(crate) async fn sweep(self: &Arc<Self>, candidates: Vec<Digest>) -> Result<()> {
        self.sweep_all(candidates).await.map(|_| ())
    }

    /// Delete those of the blobs that nothing refers to; gives which, none where others swept all
    /// the time.
    async fn sweep_all(self: &Arc<Self>, candidates: Vec<Digest>) -> Result<BTreeSet<Digest>> {
        if candidates.is_empty() {
            return Ok(BTreeSet::new());
        }
        // In a task of its own: a caller that stops waiting must not leave marked blobs undeleted.
        let db = self.clone();
        let swept = async move {
            let Some(lock) = db.sweep_lock(PATIENCE).await? else { return Ok(BTreeSet::new()) };
            let mark = Op::MarkForDeletion { digests: candidates, lock: lock.token() };
            let marked = match db.commit_once(Batch { expect: Vec::new(), ops: vec![mark] }).await {
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(BTreeSet::new()),
                committed => committed?.marked,
            };
            db.delete_marked(&*lock, marked).await
        };
        detached(Site::SWEEP, "sweeping blobs", swept).await
    }

    /// Complete sweeps that a crash interrupted; one that is under way is left to who makes it.
    pub(crate) async fn finish_sweeps(self: &Arc<Self>) -> Result<()> {
        if self.metadata.marked_blobs().await?.is_empty() {
            return Ok(());
        }
        let db = self.clone();
        let finished = async move {
            let Some(lock) = db.metadata.sweep_lock().await? else { return Ok(()) };
            // Read again: a blob that was marked a moment ago may be deleted, and stored again.
            let marked = db.metadata.marked_blobs().await?;
            let swept = db.delete_marked(&*lock, marked).await?;
            tracing::info!(target: "superduper::sweep", blobs = swept.len(), "recovery: a sweep of a process that is gone was completed");
            Ok(())
        };
        detached(Site::SWEEP, "completing a sweep", finished).await
    }

    async fn sweep_lock(&self, patience: Duration) -> Result<Option<Box<dyn SweepLock>>> {
        let begun = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.metadata.sweep_lock().await? {
                None if begun.elapsed() < patience => tokio::time::sleep(pause).await,
                lock => return Ok(lock),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Delete marked blobs, for the holder of the lock. After the lock was lost, the blobs belong
    /// to the next holder: they may be stored again by now, and are left alone.
    async fn delete_marked(
        self: &Arc<Self>,
        lock: &dyn SweepLock,
        marked: Vec<Digest>,
    ) -> Result<BTreeSet<Digest>> {
        if marked.is_empty() {
            return Ok(BTreeSet::new());
        }
        for digest in &marked {
            if !lock.holds().await? {
                tracing::info!(target: "superduper::sweep", "the lock was lost: another process completes this sweep");
                return Ok(BTreeSet::new());
            }
            self.artifacts.delete(*digest).await?;
        }
        let confirm = Op::ConfirmDeleted { digests: marked.clone(), lock: lock.token() };
        let confirmed = self.commit_once(Batch { expect: Vec::new(), ops: vec![confirm] }).await;
        if confirmed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            // The lock was lost since the last look. Its next holder completes the sweep.
            return Ok(BTreeSet::new());
        }
        confirmed?;
        tracing::debug!(target: "superduper::sweep", blobs = marked.len(), "swept");
        Ok(marked.into_iter().collect())
    }
}
