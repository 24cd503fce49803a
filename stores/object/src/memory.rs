//! Blobs in the memory of this process.
//!
//! Invariant: a blob is in the map only after all of its bytes were checked.

use crate::{Check, blocking::blocking};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use superduper_core::{
    BoxFuture, Bytes, Digest, Error, Result,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};

#[derive(Debug)]
struct Stored {
    bytes: Bytes,
    modified: SystemTime,
}

#[derive(Debug)]
pub(crate) struct Memory {
    location: String,
    blobs: Arc<Mutex<BTreeMap<Digest, Stored>>>,
    /// Damaged blobs that were moved away from their names.
    aside: Mutex<BTreeMap<Digest, Bytes>>,
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under the lock.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    pub(crate) fn new() -> Self {
        // Two stores in memory are different places.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let location = format!("memory://{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        Memory { location, blobs: Arc::default(), aside: Mutex::default() }
    }

    async fn write(&self, digest: Digest, size: u64, chunks: Chunks, rehash: bool) -> Result<Put> {
        let exists = lock(&self.blobs)
            .get_mut(&digest)
            .filter(|stored| stored.bytes.len() as u64 == size)
            .map(|stored| stored.modified = SystemTime::now());
        if exists.is_some() {
            return Ok(Put::Exists);
        }
        // Pulling a chunk may block.
        let bytes = blocking(move || gather(chunks, Check::new(digest, size, rehash))).await?;
        let stored = Stored { bytes, modified: SystemTime::now() };
        lock(&self.blobs).insert(digest, stored);
        Ok(Put::Written)
    }

    fn read(&self, digest: Digest, range: Range<u64>) -> Result<Bytes> {
        let place = || format!("blob {digest} in artifact store `{}`", self.location);
        let blobs = lock(&self.blobs);
        let Some(stored) = blobs.get(&digest) else {
            return Err(Error::integrity(format!("{} is missing", place())));
        };
        let size = stored.bytes.len() as u64;
        if range.start > range.end || range.end > size {
            return Err(Error::integrity(format!(
                "{} has {size} bytes, asked for were {range:?}",
                place()
            )));
        }
        // Both ends are at most the length of a slice.
        Ok(stored.bytes.slice(range.start as usize..range.end as usize))
    }
}

/// All bytes, in one piece.
fn gather(chunks: Chunks, mut check: Check) -> Result<Bytes> {
    let mut pieces: Vec<Bytes> = Vec::new();
    for chunk in chunks {
        let chunk = chunk?;
        check.update(&chunk)?;
        pieces.push(chunk);
    }
    check.finish()?;
    Ok(match <[Bytes; 1]>::try_from(pieces) {
        Ok([whole]) => whole,
        Err(pieces) => {
            pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>().into()
        }
    })
}

impl ArtifactStore for Memory {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities::default()
    }

    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        Box::pin(self.write(digest, size, chunks, true))
    }

    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        Box::pin(self.write(digest, size, chunks, false))
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move { self.read(digest, range) })
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        let size = lock(&self.blobs).get(&digest).map(|stored| stored.bytes.len() as u64);
        Box::pin(async move { Ok(size) })
    }

    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            lock(&self.blobs).remove(&digest);
            Ok(())
        })
    }

    fn list(
        &self,
        first: Option<u8>,
        _leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        let blobs = lock(&self.blobs)
            .iter()
            .filter(|(digest, _)| first.is_none_or(|byte| digest.as_bytes()[0] == byte))
            .map(|(digest, stored)| BlobInfo {
                digest: *digest,
                size: stored.bytes.len() as u64,
                modified: stored.modified,
            })
            .collect();
        Box::pin(async move { Ok(blobs) })
    }

    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if let Some(stored) = lock(&self.blobs).remove(&digest) {
                lock(&self.aside).insert(digest, stored.bytes);
            }
            Ok(())
        })
    }

    fn local_path(&self, _digest: Digest) -> Option<PathBuf> {
        None
    }
}
