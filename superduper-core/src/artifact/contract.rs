//! The contract of an artifact store.

use crate::{artifact::Bytes, digest::Digest, error::Result, future::BoxFuture};
use std::{ops::Range, path::PathBuf, time::SystemTime};

/// The bytes of a blob, in chunks; pulling the next one may block.
pub type Chunks = Box<dyn Iterator<Item = Result<Bytes>> + Send>;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The blob was written.
    Written,
    /// The blob was there already; nothing was written.
    Exists,
}

/// A blob in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// What a store can do beyond the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactCapabilities {
    /// Blobs outlive the process.
    pub durable: bool,
    /// Other processes can open the same store; with what they pass to `DbBuilder::artifacts_at`, a
    /// folder or a URL without secrets. `None` where they cannot: jobs in job processes are
    /// refused then.
    pub shared: Option<PathBuf>,
    /// Blobs are plain files of this machine.
    pub local_files: bool,
}

/// Where blobs live: immutable, named by the BLAKE3 digest of their bytes.
///
/// - `put` MUST be atomic: at no moment, also not after a crash or a full disk, does a blob exist
///   under its name with other bytes than the whole of it. When `put` returns, a durable store MUST
///   have the blob on disk.
/// - `put` of a blob that exists in its full length MUST pull no chunk and write no byte of it; it
///   SHOULD refresh the time of the blob, so that a concurrent collection of garbage sees it in
///   use. One of another length is replaced.
/// - `put` MUST refuse a source whose bytes do not have the digest or size that was announced.
/// - A `put` that fails or is dropped MUST leave nothing under the blob's name.
/// - `get_range` MUST give `Integrity` for a blob that is missing or shorter than asked for; it
///   need not verify the digest.
/// - `delete` of a missing blob MUST succeed.
/// - Memory use MUST NOT grow with the size of a blob.
pub trait ArtifactStore: Send + Sync + std::fmt::Debug {
    /// The store's folder or URL, without secrets.
    fn location(&self) -> String;
    /// What the store can do.
    fn capabilities(&self) -> ArtifactCapabilities;
    /// Write a blob.
    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>>;
    /// Write a blob from memory that cannot have changed since its digest was taken in this
    /// process: as `put`, but the store need not take the digest again.
    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        self.put(digest, size, chunks)
    }
    /// Read part of a blob: as many bytes as asked for.
    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>>;
    /// The length of a blob, if it exists.
    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>>;
    /// Remove a blob.
    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>>;
    /// The blobs, by digest; of a digest's first byte, where one is given, so that memory does not
    /// grow with their number. What is left of interrupted puts is removed if it is older than
    /// `leftovers_before`; puts under way MUST NOT be disturbed, however slow they are.
    fn list(
        &self,
        first: Option<u8>,
        leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>>;
    /// The current time of the clock that sets [`BlobInfo::modified`]. The age of a blob is always
    /// measured by this clock. A remote store may write a small object to read its server's clock.
    /// The default is the clock of this machine.
    fn now(&self) -> BoxFuture<'_, Result<SystemTime>> {
        Box::pin(async { Ok(SystemTime::now()) })
    }
    /// Move a blob away from its name and keep its bytes beside it, so that a later put writes it
    /// anew. It is no longer read or listed. Of a missing blob it MUST succeed.
    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>>;
    /// The file that holds a blob, for stores with [`ArtifactCapabilities::local_files`].
    fn local_path(&self, digest: Digest) -> Option<PathBuf>;
}
