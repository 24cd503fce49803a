//! A blob on its way: from where it can be streamed, its digest once known, the store once saved.

use super::Blob;
use crate::unreturned::Unreturned;
use crate::{
    artifact::Bytes,
    artifact::contract::{ArtifactStore, Chunks, Put},
    digest::{Digest, Hasher},
    error::{Error, ErrorKind, Result},
};
use serde_json::{Map, Value};
use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes that can be streamed more than once: memory, a file, the tensors of a model.
pub trait BlobSource: Send + Sync {
    /// The chunks, from the start. Pulling them may block; the chunks are at most a few MiB.
    ///
    /// # Errors
    /// Those of opening the source.
    fn chunks(&self) -> Result<Chunks>;

    /// Digest, size and what else the reference should hold. Reads the whole source.
    ///
    /// # Errors
    /// Those of reading the source.
    fn hash(&self) -> Result<Hashed> {
        hash_chunks(self.chunks()?)
    }

    /// Whether the bytes cannot change between `hash` and `chunks`, as memory that nobody else can
    /// write. The store then need not hash them a second time.
    fn is_immutable(&self) -> bool {
        false
    }

    /// Part of the bytes. Blocks.
    ///
    /// # Errors
    /// Those of reading the source, and one for a range outside of it.
    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let mut part = Vec::new();
        let mut at = 0;
        for chunk in self.chunks()? {
            let chunk = chunk?;
            let end = at + chunk.len() as u64;
            if end > range.start && at < range.end {
                let from = range.start.saturating_sub(at) as usize;
                let to = (range.end.min(end) - at) as usize;
                part.extend_from_slice(&chunk[from..to]);
            }
            at = end;
            if at >= range.end {
                break;
            }
        }
        Ok(part.into())
    }
}

/// Hash bytes as they come.
pub(super) fn hash_chunks(chunks: Chunks) -> Result<Hashed> {
    let mut hasher = Hasher::new();
    let mut size = 0;
    for chunk in chunks {
        let chunk = chunk?;
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok(Hashed { digest: hasher.finish(), size, extra: Map::new() })
}

/// What hashing a source gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Hashed {
    /// The digest of all bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
    /// Further members of the reference, such as the digests of tensors; a function of the bytes
    /// alone.
    pub extra: Map<String, Value>,
}

/// A blob that an artifact refers to.
pub struct BlobHandle {
    serial: u64,
    hashed: OnceLock<Hashed>,
    source: Option<Arc<dyn BlobSource>>,
    /// What the source was made of, so that a reader in the same process gets it back.
    value: Option<Arc<dyn Any + Send + Sync>>,
    store: Mutex<Option<Arc<dyn ArtifactStore>>>,
    /// Component and version that named the blob, for errors.
    owner: String,
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl BlobHandle {
    /// A blob that is not saved yet.
    pub fn new(source: Arc<dyn BlobSource>) -> Self {
        BlobHandle {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            hashed: OnceLock::new(),
            source: Some(source),
            value: None,
            store: Mutex::new(None),
            owner: String::new(),
        }
    }

    /// The blob of a value that is not saved yet.
    pub(crate) fn of_value<T: Blob>(value: Arc<T>) -> Self {
        BlobHandle { value: Some(value.clone()), ..BlobHandle::new(T::source(value)) }
    }

    /// The value that the blob was made of, if it is of this type.
    pub(crate) fn value<T: Blob>(&self) -> Option<Arc<T>> {
        self.value.clone()?.downcast().ok()
    }

    /// A blob that a stored reference names.
    pub(crate) fn stored(
        reference: Value,
        store: Option<Arc<dyn ArtifactStore>>,
        owner: String,
    ) -> Result<Self> {
        let bad =
            || Error::new(ErrorKind::Decode, format!("{reference} is not a reference to a blob"));
        let Value::Object(mut extra) = reference.clone() else { return Err(bad()) };
        let digest = extra
            .remove("$blob")
            .and_then(|digest| digest.as_str()?.parse().ok())
            .ok_or_else(bad)?;
        let size = extra.remove("size").and_then(|size| size.as_u64()).ok_or_else(bad)?;
        Ok(BlobHandle {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            hashed: OnceLock::from(Hashed { digest, size, extra }),
            source: None,
            value: None,
            store: Mutex::new(store),
            owner,
        })
    }

    /// How documents name the blob that were encoded before it was hashed. It stays the same:
    /// another thread may hash the blob while a document with this name is under way.
    pub(crate) fn name(&self) -> String {
        format!("pending:{}", self.serial)
    }

    /// All names that documents may have for it.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.name()).chain(self.digest().map(|digest| digest.to_string()))
    }

    /// The digest, once known.
    pub fn digest(&self) -> Option<Digest> {
        self.hashed.get().map(|hashed| hashed.digest)
    }

    /// Digest, size and extra members, once known.
    pub fn hashed(&self) -> Option<&Hashed> {
        self.hashed.get()
    }

    /// Hash the source, if that was not done before. Blocks.
    pub(crate) fn hash(&self) -> Result<()> {
        if self.hashed.get().is_none() {
            let source = self
                .source
                .as_ref()
                .ok_or_else(|| Error::internal("a blob has neither digest nor source"))?;
            let hashed = source.hash()?;
            self.hashed.set(hashed).ignored("another thread has hashed the same bytes");
        }
        Ok(())
    }

    /// The reference for the document, once hashed: `{"$blob": "blake3:…", "size": …}`.
    pub(crate) fn reference(&self) -> Option<Value> {
        let hashed = self.hashed.get()?;
        let extra = hashed.extra.iter().map(|(key, value)| (key.clone(), value.clone()));
        let own = [
            ("$blob".to_owned(), hashed.digest.to_string().into()),
            ("size".to_owned(), hashed.size.into()),
        ];
        // By key, whatever order `Map` keeps in this build.
        let members: BTreeMap<String, Value> = extra.chain(own).collect();
        Some(Value::Object(members.into_iter().collect()))
    }

    /// Component and version that named the blob; empty for a new one.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The source, for a blob made in this process.
    pub fn source(&self) -> Option<&Arc<dyn BlobSource>> {
        self.source.as_ref()
    }

    /// The store that has the blob.
    pub fn store(&self) -> Option<Arc<dyn ArtifactStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Make sure that a store has the blob, writing it only if it is missing there.
    pub(crate) async fn save(&self, store: &Arc<dyn ArtifactStore>) -> Result<Put> {
        let hashed = self
            .hashed
            .get()
            .ok_or_else(|| Error::internal("a blob is saved before it is hashed"))?;
        let put = match &self.source {
            Some(source) => {
                let immutable = source.is_immutable();
                let chunks = opened_late(source.clone());
                if immutable {
                    store.put_immutable(hashed.digest, hashed.size, chunks).await?
                } else {
                    store.put(hashed.digest, hashed.size, chunks).await?
                }
            }
            None => {
                if store.size(hashed.digest).await? != Some(hashed.size) {
                    let other = self.store();
                    match other.filter(|other| other.location() != store.location()) {
                        Some(other) => copy(&other, store, hashed).await?,
                        None => return Err(self.missing(hashed.digest)),
                    }
                } else {
                    Put::Exists
                }
            }
        };
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        Ok(put)
    }

    /// The error for a blob that its store does not have.
    pub fn missing(&self, digest: Digest) -> Error {
        Error::integrity(format!("blob {digest} of {} is missing", self.owned_by())).with_hint(
            "restore the file from a backup, or apply the component again with the same bytes",
        )
    }

    /// The error for a blob whose bytes are not those of its name.
    pub fn corrupted(&self, digest: Digest, what: impl fmt::Display) -> Error {
        Error::integrity(format!("blob {digest} of {} is corrupted: {what}", self.owned_by()))
            .with_hint("restore the file from a backup; remove it and apply the component again with the same bytes")
    }

    /// The error for a blob whose bytes are intact, but not those of a value of the type asked for.
    pub fn malformed(&self, digest: Digest, what: impl fmt::Display) -> Error {
        Error::new(
            ErrorKind::Decode,
            format!("blob {digest} of {} cannot be read: {what}", self.owned_by()),
        )
    }

    pub(crate) fn owned_by(&self) -> String {
        if self.owner.is_empty() { "a new component".to_owned() } else { self.owner.clone() }
    }
}

/// The size of the pieces in which a blob is read.
pub(crate) const CHUNK: u64 = 4 * 1024 * 1024;

/// The chunks of a source that is opened when the first one is pulled: a store that has the blob
/// never does.
fn opened_late(source: Arc<dyn BlobSource>) -> Chunks {
    let mut chunks: Option<Chunks> = None;
    let mut failed = false;
    Box::new(std::iter::from_fn(move || {
        if chunks.is_none() && !failed {
            match source.chunks() {
                Ok(opened) => chunks = Some(opened),
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
            }
        }
        chunks.as_mut()?.next()
    }))
}

/// Run what blocks on a thread that may block.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    crate::runtime_check::current()?;
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Error::new(ErrorKind::Cancelled, "the runtime is shutting down")
                    .with_source(error)),
            }
        }
    }
}

async fn copy(
    from: &Arc<dyn ArtifactStore>,
    to: &Arc<dyn ArtifactStore>,
    hashed: &Hashed,
) -> Result<Put> {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Result<Bytes>>(2);
    let (from, digest, size) = (from.clone(), hashed.digest, hashed.size);
    let read = tokio::spawn(async move {
        let mut at = 0;
        while at < size {
            let end = size.min(at + CHUNK);
            let chunk = from.get_range(digest, at..end).await;
            let failed = chunk.is_err();
            let sender = sender.clone();
            let sent = tokio::task::spawn_blocking(move || sender.send(chunk)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            at = end;
        }
    });
    let put = to.put(digest, size, Box::new(receiver.into_iter())).await;
    read.abort();
    put
}

impl fmt::Debug for BlobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest() {
            Some(digest) => fmt::Display::fmt(&digest, f),
            None => f.write_str(&self.name()),
        }
    }
}
