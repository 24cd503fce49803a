//! Keeping house: sweeping blobs, rolling back.
//!
//! The protocol that lets a sweep run beside applies: blobs without references are *doomed* in one commit,
//! deleted, then *swept* in another, which counts the sweep. An apply is refused, and tries again, where it
//! names a doomed blob or where a sweep was completed since it looked whether its blobs are there.
//! The end of a job that names blobs is left out of its commit in the same way; see `job/record.rs`.

use super::{Applied, Db, DbInner};
use crate::{
    Address, Digest, Error, Result, VersionRef,
    plan::{Action, PlannedJob},
    store::{
        Batch, BlobRow, Durability, EdgeRow, Expect, NewRun, Op, PutAction, PutVersion, RunPurpose, SweepRight, Timestamp, being_removed,
    },
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
    /// It takes time in proportion to the number of blobs, and memory in proportion to what it deletes.
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
        let before = SystemTime::now().checked_sub(db.options.gc_grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut report = GcReport { dry_run, ..GcReport::default() };
        let mut orphans: Vec<(Digest, u64)> = Vec::new();
        for first in 0..=u8::MAX {
            // Leftovers of interrupted puts are in no shard: the first call clears them away.
            let leftovers = (!dry_run && first == 0).then_some(before);
            let blobs = db.artifacts.list(Some(first), leftovers).await?;
            if !blobs.is_empty() {
                let referenced = db.metadata.referenced_blobs(Some(first)).await?;
                let referenced: HashSet<Digest> = referenced.into_iter().map(|(digest, _)| digest).collect();
                let old = blobs.into_iter().filter(|blob| !referenced.contains(&blob.digest) && blob.modified <= before);
                orphans.extend(old.map(|blob| (blob.digest, blob.size)));
            }
            // Each sweep makes applies that are under way look again: a few large ones disturb them less than many small ones.
            if orphans.len() >= SWEEP || first == u8::MAX {
                if !dry_run {
                    let swept = db.sweep_all(orphans.iter().map(|(digest, _)| *digest).collect()).await?;
                    orphans.retain(|(digest, _)| swept.contains(digest));
                }
                report.blobs.append(&mut orphans);
            }
        }
        report.bytes = report.blobs.iter().map(|(_, size)| size).sum();
        Ok(report)
    }

    /// Go back to an older version or revision: its document becomes the next version, with its outputs.
    ///
    /// The version is a number, `3`, or number and revision, `(3, 2)`. `on_create` runs, triggers do not. Children are
    /// the versions that the old document names, each at its newest revision.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while the component, its newest version or the one to go back to is being removed.
    pub async fn rollback(
        &self,
        address: impl TryInto<Address, Error = impl Into<Error>>,
        version: impl Into<VersionRef>,
    ) -> Result<Applied> {
        let db = self.inner();
        db.check_writable("roll back")?;
        let address = address.try_into().map_err(Into::into)?.unversioned();
        let wanted = Address { version: Some(version.into()), ..address.clone() };
        let tree = db.metadata.tree(wanted.clone()).await?;
        let old = tree.into_iter().next().ok_or_else(|| Error::not_found(format!("no component `{wanted}`")))?;
        let version = old.version();
        let snapshot = db.metadata.snapshot(vec![address.clone()]).await?;
        let newest = snapshot.components.get(&address.path()).ok_or_else(|| Error::not_found(format!("no component `{address}`")))?;
        if let Some(going) = [newest, &old].into_iter().find(|stored| stored.removing) {
            return Err(being_removed(&going.address.at(going.version())));
        }
        let at = Timestamp::now();
        let target = Address { version: Some(VersionRef { version: newest.next_version, revision: Some(0) }), ..address.clone() };
        let edges = edges(&old.document)?;
        let mut blobs = Vec::new();
        collect_blobs(&old.document, "", &mut blobs);
        let lifecycle = db.registry.entry(&address.kind).is_ok_and(|entry| (entry.lifecycle)());
        let mut ops = vec![
            Op::Put(PutVersion {
                address: target.clone(),
                action: PutAction::Version,
                uuid: old.uuid,
                content_hash: old.content_hash,
                type_version: old.type_version,
                document: old.document,
                edges,
                blobs,
                content_of: Some(version),
                owes_jobs: false,
                at,
            }),
            Op::CopyOutputs { address: address.clone(), from: version, to: newest.next_version },
        ];
        if lifecycle {
            let owner = db.owner().await?;
            let planned = [PlannedJob {
                target: target.clone(),
                role: crate::store::JobRole::OnCreate,
                method: "on_create".to_owned(),
                needs: Vec::new(),
                retry_of: None,
                key: None,
                spec: None,
                policy: None,
            }];
            ops.push(Op::Run(NewRun { purpose: RunPurpose::Apply, root: target.clone(), data: serde_json::Value::Null, at }));
            let mut jobs = super::apply::new_jobs(db, &planned, owner, at);
            jobs.iter_mut().for_each(|job| job.claim = None);
            ops.push(Op::Jobs { run: None, jobs });
        }
        let expect = vec![
            Expect::Newest { address: address.clone(), state: Some((newest.version(), newest.revision(), false)) },
            Expect::SweepEpoch(snapshot.sweep_epoch),
        ];
        let committed = db.commit_run(Batch { expect, ops }).await?;
        db.committed();
        let applied =
            Applied { address: target.clone(), action: Action::NewVersion, components: vec![(target, Action::NewVersion)], outcome: None };
        match committed.run {
            Some(run) => super::Run::new(db.clone(), Some(run), vec![db.attach(run).await?], applied).finish().await,
            None => Ok(applied),
        }
    }
}

fn edges(document: &serde_json::Value) -> Result<Vec<EdgeRow>> {
    fn walk(value: &serde_json::Value, path: &str, found: &mut Vec<EdgeRow>) -> Result<()> {
        match value {
            serde_json::Value::Array(items) => {
                items.iter().enumerate().try_for_each(|(index, item)| walk(item, &format!("{path}[{index}]"), found))
            }
            serde_json::Value::Object(map) => match map.get("$ref") {
                Some(serde_json::Value::String(text)) => {
                    found.push(EdgeRow { path: path.to_owned(), child: text.parse()? });
                    Ok(())
                }
                _ => map.iter().try_for_each(|(key, item)| walk(item, &join(path, key), found)),
            },
            _ => Ok(()),
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found)?;
    Ok(found)
}

fn collect_blobs(value: &serde_json::Value, path: &str, found: &mut Vec<BlobRow>) {
    match value {
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_blobs(item, &format!("{path}[{index}]"), found);
            }
        }
        serde_json::Value::Object(map) => {
            let digest = map.get("$blob").and_then(serde_json::Value::as_str).and_then(|text| text.parse().ok());
            let size = map.get("size").and_then(serde_json::Value::as_u64);
            match (digest, size) {
                (Some(digest), Some(size)) => found.push(BlobRow { path: path.to_owned(), digest, size }),
                _ => map.iter().for_each(|(key, item)| collect_blobs(item, &join(path, key), found)),
            }
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// How long a removal waits for another sweep, before it leaves its blobs to `gc`.
const PATIENCE: Duration = Duration::from_secs(10);

impl DbInner {
    /// Delete those of the blobs that nothing refers to.
    pub(crate) async fn sweep(self: &Arc<Self>, candidates: Vec<Digest>) -> Result<()> {
        self.sweep_all(candidates).await.map(|_| ())
    }

    /// Delete those of the blobs that nothing refers to; gives which, none where others swept all the time.
    async fn sweep_all(self: &Arc<Self>, candidates: Vec<Digest>) -> Result<BTreeSet<Digest>> {
        if candidates.is_empty() {
            return Ok(BTreeSet::new());
        }
        // Who stops waiting in the middle must not leave blobs doomed that are not deleted.
        let db = self.clone();
        let swept = tokio::spawn(async move {
            let Some(_right) = db.sweep_right(PATIENCE).await? else { return Ok(BTreeSet::new()) };
            let doom = Batch { expect: Vec::new(), ops: vec![Op::Doom { digests: candidates }] };
            let doomed = db.metadata.commit(doom, Durability::Full).await?.doomed;
            db.delete_doomed(doomed).await
        });
        swept.await.map_err(|error| Error::internal(error.to_string()))?
    }

    /// Complete sweeps that a crash interrupted; one that is under way is left to who makes it.
    pub(crate) async fn finish_sweeps(self: &Arc<Self>) -> Result<()> {
        if self.metadata.doomed_blobs().await?.is_empty() {
            return Ok(());
        }
        let db = self.clone();
        let finished = tokio::spawn(async move {
            let Some(_right) = db.metadata.sweep_right().await? else { return Ok(()) };
            // Read anew: what was doomed a moment ago may be swept, and stored again.
            let doomed = db.metadata.doomed_blobs().await?;
            db.delete_doomed(doomed).await.map(|_| ())
        });
        finished.await.map_err(|error| Error::internal(error.to_string()))?
    }

    async fn sweep_right(&self, patience: Duration) -> Result<Option<SweepRight>> {
        let begun = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.metadata.sweep_right().await? {
                None if begun.elapsed() < patience => tokio::time::sleep(pause).await,
                right => return Ok(right),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// For whom has the right to sweep.
    async fn delete_doomed(self: &Arc<Self>, doomed: Vec<Digest>) -> Result<BTreeSet<Digest>> {
        if doomed.is_empty() {
            return Ok(BTreeSet::new());
        }
        for digest in &doomed {
            self.artifacts.delete(*digest).await?;
        }
        let swept = Batch { expect: Vec::new(), ops: vec![Op::Swept { digests: doomed.clone() }] };
        self.metadata.commit(swept, Durability::Full).await?;
        Ok(doomed.into_iter().collect())
    }
}
