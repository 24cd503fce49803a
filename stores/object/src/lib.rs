//! Artifacts of superduper in a folder, in memory or in an object store.
//!
//! Invariant: a blob is visible under its name only when all of its bytes are stored, and the name
//! is the BLAKE3 digest of the bytes. The layout is the same everywhere: `blake3/ab/abcd…`.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod blocking;
mod folder;
mod memory;
#[cfg(feature = "cloud")]
mod remote;
mod url;

pub use crate::url::folder_of_url;
use folder::Folder;
use memory::Memory;
#[cfg(feature = "cloud")]
use remote::Remote;
use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};
use superduper_core::{
    BoxFuture, Bytes, Digest, Result,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};

/// An artifact store in a folder, in memory, or in S3, Google Cloud Storage or Azure Blob Storage.
///
/// ```
/// use superduper_core::{Digest, store::ArtifactStore};
/// use superduper_object::ObjectStore;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = ObjectStore::memory();
/// let digest = Digest::of(b"weights");
/// store.put(digest, 7, Box::new(std::iter::once(Ok("weights".into())))).await?;
/// assert_eq!(&store.get_range(digest, 0..3).await?[..], b"wei");
/// # Ok::<(), superduper_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct ObjectStore(Backend);

#[derive(Debug)]
enum Backend {
    Folder(Folder),
    Memory(Memory),
    #[cfg(feature = "cloud")]
    Remote(Remote),
}

impl ObjectStore {
    /// Open a folder; it is created if it is missing.
    ///
    /// # Guarantees
    /// When a put returns, the bytes and the name of the blob are on disk: file and folders are
    /// synchronized.
    ///
    /// # Errors
    /// `Store` for a folder that cannot be created or read.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self> {
        Folder::open(path.as_ref()).map(|folder| ObjectStore(Backend::Folder(folder)))
    }

    /// Open a folder as it is. Nothing is made: a folder that is missing has no blobs and takes
    /// none.
    ///
    /// # Errors
    /// `Store` where the path cannot be resolved.
    pub fn folder_as_it_is(path: impl AsRef<Path>) -> Result<Self> {
        Folder::as_it_is(path.as_ref()).map(|folder| ObjectStore(Backend::Folder(folder)))
    }

    /// An empty store in memory, for tests and for components that need not outlive the process.
    pub fn memory() -> Self {
        ObjectStore(Backend::Memory(Memory::new()))
    }

    /// The code for the stores of clouds, on a store of the crate `object_store` that is in memory:
    /// for tests.
    #[doc(hidden)]
    #[cfg(feature = "cloud")]
    pub fn cloud_in_memory() -> Self {
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        let location = format!("cloud-in-memory://{:p}", std::sync::Arc::as_ptr(&store));
        ObjectStore(Backend::Remote(Remote::cloud(store, Default::default(), location, None)))
    }

    /// Open `file:///folder`, `memory://`, and with the features `aws`, `gcp`, `azure` also
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`. Credentials and
    /// endpoints come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`,
    /// `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no URL; `Unsupported` for a scheme that this build lacks,
    /// naming the feature.
    pub fn from_url(url: &str) -> Result<Self> {
        url::open(url)
    }

    fn backend(&self) -> &dyn ArtifactStore {
        match &self.0 {
            Backend::Folder(folder) => folder,
            Backend::Memory(memory) => memory,
            #[cfg(feature = "cloud")]
            Backend::Remote(remote) => remote,
        }
    }
}

impl ArtifactStore for ObjectStore {
    fn location(&self) -> String {
        self.backend().location()
    }
    fn capabilities(&self) -> ArtifactCapabilities {
        self.backend().capabilities()
    }
    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        self.backend().put(digest, size, chunks)
    }
    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        self.backend().put_immutable(digest, size, chunks)
    }
    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.backend().get_range(digest, range)
    }
    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.backend().size(digest)
    }
    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.backend().delete(digest)
    }
    fn list(
        &self,
        first: Option<u8>,
        leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.backend().list(first, leftovers_before)
    }
    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.backend().quarantine(digest)
    }
    fn now(&self) -> BoxFuture<'_, Result<SystemTime>> {
        self.backend().now()
    }
    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        self.backend().local_path(digest)
    }
}

/// Checks what passes by against the name and length it was announced with.
struct Check {
    hasher: Option<superduper_core::Hasher>,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl Check {
    /// `rehash` is false for memory whose digest was taken just before.
    fn new(digest: Digest, size: u64, rehash: bool) -> Self {
        Check { hasher: rehash.then(superduper_core::Hasher::new), digest, size, seen: 0 }
    }

    fn update(&mut self, chunk: &[u8]) -> Result<()> {
        self.seen += chunk.len() as u64;
        if self.seen > self.size {
            return Err(
                self.refuse(format_args!("it gave more than the {} bytes announced", self.size))
            );
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(chunk);
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        if self.seen != self.size {
            return Err(
                self.refuse(format_args!("it gave {} bytes instead of {}", self.seen, self.size))
            );
        }
        match self.hasher.as_ref().map(superduper_core::Hasher::finish) {
            Some(found) if found != self.digest => {
                Err(self.refuse(format_args!("its bytes have the digest {found}")))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, what: std::fmt::Arguments<'_>) -> superduper_core::Error {
        superduper_core::Error::integrity(format!(
            "the source of blob {} changed while it was saved: {what}",
            self.digest
        ))
        .with_hint(
            "leave files and values alone while their component is applied, then apply it again",
        )
    }
}
