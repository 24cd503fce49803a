//! Blobs: those that are referred to are there and have the bytes of their digests.
//!
//! They are looked at in shards by the first byte of their digests, so that memory does not grow
//! with their number.

use super::{Finding, Severity, Verify, VerifyReport};
use crate::{
    artifact::{CHUNK, blocking},
    digest::{Digest, Hasher},
    error::Result,
    store::ArtifactStore,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A piece below this size is hashed faster than it is handed to another thread.
const SMALL: u64 = 128 * 1024;

/// Check all blobs; the answer is the damaged ones, with the places of their findings.
pub(super) async fn check(
    verify: &Verify,
    report: &mut VerifyReport,
) -> Result<BTreeMap<Digest, usize>> {
    let db = verify.db.inner();
    let marked = db.metadata.marked_blobs().await?;
    if !marked.is_empty() {
        note_sweep(verify, report, marked.len()).await?;
    }
    let mut damaged = BTreeMap::new();
    let (mut garbage, mut garbage_bytes) = (0_u64, 0_u64);
    for first in 0..=u8::MAX {
        let mut referenced = db.metadata.referenced_blobs(Some(first)).await?;
        let stored: HashMap<Digest, u64> = db
            .artifacts
            .list(Some(first), None)
            .await?
            .into_iter()
            .map(|blob| (blob.digest, blob.size))
            .collect();
        if referenced.iter().any(|(digest, _)| !stored.contains_key(digest)) {
            // A removal beside us takes rows first and blobs then: what is no longer referred to is
            // not missing.
            let again = db.metadata.referenced_blobs(Some(first)).await?;
            referenced.retain(|blob| again.contains(blob));
        }
        let known: HashMap<Digest, u64> = referenced.iter().copied().collect();
        for (digest, size) in stored.iter().filter(|(digest, _)| !known.contains_key(*digest)) {
            if !marked.contains(digest) {
                garbage += 1;
                garbage_bytes += size;
            }
        }
        for (digest, size) in referenced {
            report.blobs += 1;
            report.bytes += size;
            let Some(what) =
                look(verify, &db.artifacts, digest, size, stored.get(&digest).copied()).await?
            else {
                continue;
            };
            damaged.insert(digest, report.findings.len());
            report.findings.push(Finding::new(Severity::Error, what).blob(digest));
        }
    }
    if garbage > 0 {
        let what = format!(
            "{garbage} blobs of {garbage_bytes} bytes are not referred to; `gc` deletes those that are old enough"
        );
        report.findings.push(Finding::new(Severity::Info, what));
    }
    Ok(damaged)
}

/// Note a sweep that was interrupted; a repair completes it.
async fn note_sweep(verify: &Verify, report: &mut VerifyReport, marked: usize) -> Result<()> {
    let mut finding = Finding::new(
        Severity::Warning,
        format!("a sweep of {marked} blobs was interrupted; `gc` completes it"),
    );
    if verify.repair {
        verify.db.inner().finish_sweeps().await?;
        finding.repaired = true;
    }
    report.findings.push(finding);
    Ok(())
}

/// What is wrong with a blob.
async fn look(
    verify: &Verify,
    store: &Arc<dyn ArtifactStore>,
    digest: Digest,
    size: u64,
    found: Option<u64>,
) -> Result<Option<String>> {
    let found = match found {
        Some(found) => Some(found),
        // It may have been put since the list was made.
        None => store.size(digest).await?,
    };
    let what = match found {
        None => {
            return Ok(Some(
                "it is missing; restore it from a backup, or import a bundle that has it"
                    .to_owned(),
            ));
        }
        Some(found) if found != size => format!("it has {found} bytes instead of {size}"),
        Some(_) if !verify.blobs => return Ok(None),
        Some(_) => match rehash(store, digest, size).await {
            Ok(hash) if hash == digest => return Ok(None),
            Ok(hash) => format!("it is damaged: its bytes have the digest {hash}"),
            Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
        },
    };
    if !verify.repair {
        return Ok(Some(format!(
            "{what}; `.repair(true)` moves it aside, so that an import can bring it back"
        )));
    }
    store.quarantine(digest).await?;
    Ok(Some(format!(
        "{what}; it was moved aside: restore it from a backup, or import a bundle that has it"
    )))
}

async fn rehash(store: &Arc<dyn ArtifactStore>, digest: Digest, size: u64) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + CHUNK);
        let chunk = store.get_range(digest, at..end).await?;
        if end - at < SMALL {
            hasher.update(&chunk);
        } else {
            hasher = blocking(move || {
                hasher.update(&chunk);
                Ok(hasher)
            })
            .await?;
        }
        at = end;
    }
    Ok(hasher.finish())
}
