//! The field type for blobs: a value kept outside of its component's document.
//!
//! Invariant: no byte of a stored blob is read before `get`; what `get` gives was verified.

use super::{
    BlobHandle,
    blob::{Blob, StoredBlob},
};
use crate::{
    Digest, Result,
    encode::{RawKey, current_env, note_blob},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::Error as _,
    ser::{Error as _, SerializeMap},
};
use serde_json::Value;
use std::{fmt, sync::Arc};
use tokio::sync::OnceCell;

/// A blob of a component: weights, a file, a table. The document holds its digest and size, the artifact store its bytes.
///
/// ```
/// use superduper::{Artifact, Bytes};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let weights: Artifact<Bytes> = Bytes::from("0.5 0.25").into();
/// assert_eq!(&weights.get().await?[..], b"0.5 0.25");
/// # superduper::Result::Ok(()) }).unwrap();
/// ```
///
/// # Guarantees
/// Loading a component reads no byte of its blobs; [`get`](Artifact::get) reads and verifies, once for all clones.
/// Equal bytes are stored once. Bytes that are not those of the digest give `Integrity`, never a value.
///
/// # Assumptions
/// A value given to [`Artifact::new`] does not change until its component is applied; a change is found and refused.
pub struct Artifact<T: Blob>(Arc<Cell<T>>);

struct Cell<T> {
    handle: Arc<BlobHandle>,
    value: OnceCell<Arc<T>>,
}

impl<T: Blob> Artifact<T> {
    /// An artifact of a value that is not saved yet.
    pub fn new(value: T) -> Self {
        let value = Arc::new(value);
        let handle = Arc::new(BlobHandle::of_value(value.clone()));
        Artifact(Arc::new(Cell { handle, value: OnceCell::new_with(Some(value)) }))
    }

    fn of_handle(handle: Arc<BlobHandle>) -> Self {
        Artifact(Arc::new(Cell { handle, value: OnceCell::new() }))
    }

    /// The value; the first call opens it, clones share it.
    ///
    /// # Errors
    /// `Integrity` for a blob that is missing or has other bytes than its digest says; `Decode` for bytes that
    /// are no `T`; `Store` for a store that cannot be read.
    pub async fn get(&self) -> Result<Arc<T>> {
        let open = || async {
            if let Some(value) = self.0.handle.value::<T>() {
                return Ok(value);
            }
            let blob = StoredBlob::of(self.0.handle.clone()).await?;
            T::open(blob).await.map(Arc::new)
        };
        self.0.value.get_or_try_init(open).await.cloned()
    }

    /// The digest of the bytes: known once the artifact was hashed or loaded.
    pub fn digest(&self) -> Option<Digest> {
        self.0.handle.digest()
    }

    /// The number of bytes: known once the artifact was hashed or loaded.
    pub fn size(&self) -> Option<u64> {
        self.0.handle.hashed().map(|hashed| hashed.size)
    }

    /// Whether an artifact store has the blob.
    pub fn is_saved(&self) -> bool {
        self.0.handle.store().is_some()
    }
}

impl<T: Blob> From<T> for Artifact<T> {
    fn from(value: T) -> Self {
        Artifact::new(value)
    }
}

/// A clone shares the blob and the opened value.
impl<T: Blob> Clone for Artifact<T> {
    fn clone(&self) -> Self {
        Artifact(self.0.clone())
    }
}

/// Equal digests, or the same blob. Two artifacts that are not hashed yet are equal only if one is a clone of the other.
impl<T: Blob> PartialEq for Artifact<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.handle, &other.0.handle) || (self.digest().is_some() && self.digest() == other.digest())
    }
}

impl<T: Blob> Eq for Artifact<T> {}

impl<T: Blob> fmt::Debug for Artifact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({:?}", self.0.handle)?;
        if let Some(size) = self.size() {
            write!(f, ", {size} bytes")?;
        }
        f.write_str(")")
    }
}

impl<T: Blob> Serialize for Artifact<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let handle = &self.0.handle;
        let in_session = note_blob(handle);
        let Some(hashed) = handle.hashed() else {
            if !in_session {
                return Err(S::Error::custom("artifact is not saved yet; apply its component first"));
            }
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(&RawKey("$blob"), &handle.name())?;
            return map.end();
        };
        // Only `$blob` begins with `$`; the serializer of documents leaves the other keys as they are.
        let mut map = serializer.serialize_map(Some(2 + hashed.extra.len()))?;
        map.serialize_entry(&RawKey("$blob"), &handle.name())?;
        map.serialize_entry("size", &hashed.size)?;
        for (key, value) in &hashed.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, T: Blob> Deserialize<'de> for Artifact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reference = Value::deserialize(deserializer)?;
        current_env().blob(reference).map(Artifact::of_handle).map_err(D::Error::custom)
    }
}
