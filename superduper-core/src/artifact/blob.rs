//! How a value becomes a blob, and how it is opened again.

use super::{
    BlobHandle, BlobSource, Bytes, Hashed,
    handle::{CHUNK, blocking},
};
use crate::{
    artifact::contract::{ArtifactStore, Chunks},
    digest::{Digest, Hasher},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};
use serde_json::Value;
use std::{fmt, io::Write, ops::Range, path::PathBuf, sync::Arc};

/// A type whose values can be blobs.
///
/// - `source` MUST give equal bytes for equal values, in every process and build.
/// - `open` MUST give no value whose bytes were not verified: by [`StoredBlob::read_all`],
///   [`StoredBlob::copy_to`], or by digests of parts that the source put into [`Hashed::extra`]. It
///   SHOULD read as little as it can.
pub trait Blob: Sized + Send + Sync + 'static {
    /// The bytes of the value, to be streamed into a store.
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource>;

    /// Make the value from a stored blob.
    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>>;
}

/// A blob that can be read: from its store, or from its source while it is not saved.
#[derive(Clone)]
pub struct StoredBlob {
    handle: Arc<BlobHandle>,
    hashed: Hashed,
    store: Option<Arc<dyn ArtifactStore>>,
}

impl StoredBlob {
    /// Give access to the blob of a handle; hashes it, if that was not done before, but reads
    /// nothing from a store.
    pub(crate) async fn of(handle: Arc<BlobHandle>) -> Result<Self> {
        let store = handle.store();
        if store.is_none() && handle.source().is_none() {
            let name = format!("{handle:?}");
            return Err(Error::new(
                ErrorKind::NotSaved,
                format!("no artifact store is at hand for blob {name}"),
            )
            .with_hint("load the component with `db.load`, which knows where its blobs are"));
        }
        let hashed = match handle.hashed() {
            Some(hashed) => hashed.clone(),
            None => {
                let handle = handle.clone();
                blocking(move || handle.hash().map(|()| handle.hashed().cloned()))
                    .await?
                    .ok_or_else(|| Error::internal("a blob has no digest after it was hashed"))?
            }
        };
        Ok(StoredBlob { handle, hashed, store })
    }

    /// The digest of all bytes.
    pub fn digest(&self) -> Digest {
        self.hashed.digest
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.hashed.size
    }

    /// A further member of the reference, that the source added when the blob was hashed.
    pub fn extra(&self, key: &str) -> Option<&Value> {
        self.hashed.extra.get(key)
    }

    /// The store's own file of the blob, where there is one. Its bytes are not verified.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.store.as_ref()?.local_path(self.digest())
    }

    /// The error for bytes that are not those of the digest.
    pub fn corrupted(&self, what: impl fmt::Display) -> Error {
        self.handle.corrupted(self.digest(), what)
    }

    /// The error for bytes that are intact, but no value of the type asked for.
    pub fn malformed(&self, what: impl fmt::Display) -> Error {
        self.handle.malformed(self.digest(), what)
    }

    /// Read part of the blob. The bytes are as many as asked for, but NOT verified.
    ///
    /// # Errors
    /// `Integrity` for a blob that is missing or too short; `Store` for a store that cannot be
    /// read.
    pub async fn read_range(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end < range.start || range.end > self.size() {
            return Err(Error::internal(format!(
                "bytes {range:?} of a blob of {} bytes",
                self.size()
            )));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let bytes = match (&self.store, self.handle.source()) {
            (Some(store), _) => match store.get_range(self.digest(), range).await {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.explain(store, error).await),
            },
            (None, Some(source)) => {
                let source = source.clone();
                blocking(move || source.read(range)).await?
            }
            (None, None) => return Err(self.handle.missing(self.digest())),
        };
        if bytes.len() as u64 != length {
            return Err(
                self.corrupted(format_args!("{length} bytes were asked for, {} came", bytes.len()))
            );
        }
        Ok(bytes)
    }

    /// Read and verify the whole blob.
    ///
    /// # Errors
    /// As [`read_range`](StoredBlob::read_range); `Integrity` too for bytes that are not those of
    /// the digest.
    pub async fn read_all(&self) -> Result<Bytes> {
        self.check_size().await?;
        let bytes = self.read_range(0..self.size()).await?;
        let (digest, bytes) = blocking(move || Ok((Digest::of(&bytes), bytes))).await?;
        self.check_digest(digest)?;
        Ok(bytes)
    }

    /// Stream the whole blob into a writer and verify it; in case of an error the writer has had
    /// wrong or incomplete data.
    ///
    /// # Errors
    /// As [`read_all`](StoredBlob::read_all), and those of the writer.
    pub async fn copy_to<W: Write + Send + 'static>(&self, mut writer: W) -> Result<W> {
        self.check_size().await?;
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < self.size() {
            let end = self.size().min(at + CHUNK);
            let chunk = self.read_range(at..end).await?;
            (writer, hasher) = blocking(move || {
                hasher.update(&chunk);
                writer.write_all(&chunk)?;
                Ok((writer, hasher))
            })
            .await?;
            at = end;
        }
        self.check_digest(hasher.finish())?;
        Ok(writer)
    }

    /// Find out early that the blob is missing or has another length than its reference says.
    pub(crate) async fn check_size(&self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        match store.size(self.digest()).await? {
            None => Err(self.handle.missing(self.digest())),
            Some(size) if size != self.size() => {
                Err(self.corrupted(format_args!("it has {size} bytes instead of {}", self.size())))
            }
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn check_digest(&self, found: Digest) -> Result<()> {
        if found == self.digest() {
            Ok(())
        } else {
            Err(self.corrupted(format_args!("its bytes have the digest {found}")))
        }
    }

    /// Say of a store's `Integrity` error what is wrong and whose blob it is.
    async fn explain(&self, store: &Arc<dyn ArtifactStore>, error: Error) -> Error {
        if error.kind() != ErrorKind::Integrity {
            return error.context(format_args!(
                "blob {} of {}",
                self.digest(),
                self.handle.owned_by()
            ));
        }
        match store.size(self.digest()).await {
            Ok(None) => self.handle.missing(self.digest()),
            Ok(Some(size)) if size != self.size() => {
                self.corrupted(format_args!("it has {size} bytes instead of {}", self.size()))
            }
            _ => self.corrupted(error),
        }
    }
}

impl fmt::Debug for StoredBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBlob({:?}, {} bytes)", self.digest(), self.size())
    }
}

impl Blob for Bytes {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        value
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move { blob.read_all().await })
    }
}

impl BlobSource for Bytes {
    fn chunks(&self) -> Result<Chunks> {
        Ok(Box::new(pieces(self.clone(), 0).map(Ok)))
    }

    fn is_immutable(&self) -> bool {
        true
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let outside = || Error::internal("a range outside of the bytes");
        let start = usize::try_from(range.start).map_err(|_| outside())?;
        let end = usize::try_from(range.end).map_err(|_| outside())?;
        if start > end || end > self.len() { Err(outside()) } else { Ok(self.slice(start..end)) }
    }
}

/// Cut bytes into pieces that stay in the processor's cache while they are hashed and written. `at`
/// is their place in the blob: the pieces end at multiples of their size, which is cheaper to
/// write.
pub(super) fn pieces(mut bytes: Bytes, at: u64) -> impl Iterator<Item = Bytes> + Send {
    const PIECE: usize = 1024 * 1024;
    let mut next = PIECE - at as usize % PIECE;
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (length, all) = (next.min(bytes.len()), bytes.len());
        next = PIECE;
        let piece = bytes.slice(0..length);
        bytes = bytes.slice(length..all);
        Some(piece)
    })
}
