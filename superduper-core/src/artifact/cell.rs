//! The field type for blobs: a value kept outside of its component's document.
//!
//! Invariant: no byte of a stored blob is read before `get`; what `get` gives was verified.

use super::{
    BlobHandle,
    blob::{Blob, StoredBlob},
    handle::blocking,
};
use crate::{
    artifact::Bytes,
    artifact::contract::{ArtifactStore, Put},
    digest::Digest,
    encode::{RawKey, current_env, note_blob, without_shape},
    error::Result,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::Error as _,
    ser::{Error as _, SerializeMap},
};
use serde_json::Value;
use std::{fmt, sync::Arc};
use tokio::sync::OnceCell;

/// A blob of a component: weights, a file, a table. The document holds its digest and size, the
/// artifact store its bytes.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{Artifact, Bytes};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let weights: Artifact<Bytes> = Bytes::from("0.5 0.25").into();
/// assert_eq!(&weights.get().await?[..], b"0.5 0.25");
/// # Ok::<(), superduper::Error>(()) }).unwrap();
/// ```
///
/// # Guarantees
/// Loading a component reads no byte of its blobs; [`get`](Artifact::get) reads and verifies, once
/// for all clones. Equal bytes are stored once. Bytes that are not those of the digest give
/// `Integrity`, never a value.
///
/// # Assumptions
/// A value given to [`Artifact::new`] does not change until its component is applied; a change is
/// found and refused.
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

    /// The same blob, to be read as bytes.
    pub(crate) fn as_bytes(&self) -> Artifact<Bytes> {
        Artifact::of_handle(self.0.handle.clone())
    }

    /// The value; the first call opens it, clones share it.
    ///
    /// # Errors
    /// `Integrity` for a blob that is missing or has other bytes than its digest says; `Decode` for
    /// bytes that are no `T`; `Store` for a store that cannot be read.
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

    /// Put the blob into a store, without a database; applying a component does this by itself.
    ///
    /// # Errors
    /// Those of reading the value and of the store.
    pub async fn save(&self, store: &Arc<dyn ArtifactStore>) -> Result<Put> {
        let handle = self.0.handle.clone();
        blocking(move || handle.hash()).await?;
        self.0.handle.save(store).await
    }

    /// An artifact of a store, without a database, by the reference that serializing a saved one
    /// gives. Reads nothing. `owner` is named in errors.
    ///
    /// # Errors
    /// `Decode` for a value that is no reference.
    pub fn stored(
        reference: Value,
        store: &Arc<dyn ArtifactStore>,
        owner: impl Into<String>,
    ) -> Result<Self> {
        BlobHandle::stored(reference, Some(store.clone()), owner.into())
            .map(|handle| Artifact::of_handle(Arc::new(handle)))
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

/// Equal digests, or the same blob. Two artifacts that are not hashed yet are equal only if one is
/// a clone of the other.
impl<T: Blob> PartialEq for Artifact<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.handle, &other.0.handle)
            || (self.digest().is_some() && self.digest() == other.digest())
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
        without_shape(|| self.write(serializer))
    }
}

impl<T: Blob> Artifact<T> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let handle = &self.0.handle;
        let in_session = note_blob(handle);
        let Some(hashed) = handle.hashed() else {
            if !in_session {
                return Err(S::Error::custom(
                    "artifact is not saved yet; apply its component first",
                ));
            }
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(&RawKey("$blob"), &handle.name())?;
            return map.end();
        };
        // Only `$blob` begins with `$`; the serializer of documents leaves the other keys as they
        // are.
        let mut map = serializer.serialize_map(Some(2 + hashed.extra.len()))?;
        map.serialize_entry(&RawKey("$blob"), &hashed.digest)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifact::{Bytes, Tensors},
        encode::Encoded,
    };

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_pending_blob_comes_back_in_the_same_process() {
        run(async {
            let weights: Artifact<Bytes> = Bytes::from("weights").into();
            let encoded = Encoded::of(&vec![weights.clone()]).expect("encodes in a session");
            assert!(encoded.value[0]["$blob"].as_str().expect("a name").starts_with("pending:"));
            let back: Vec<Artifact<Bytes>> = encoded.into_typed().expect("decodes");
            assert!(Arc::ptr_eq(
                &back[0].get().await.expect("a value"),
                &weights.get().await.expect("a value")
            ));
            assert_eq!(back[0], weights);
        });
    }

    #[test]
    fn outside_of_a_session_only_saved_artifacts_serialize() {
        let weights: Artifact<Bytes> = Bytes::from("weights").into();
        let error = serde_json::to_value(&weights).expect_err("it has no digest");
        assert_eq!(error.to_string(), "artifact is not saved yet; apply its component first");
        weights.0.handle.hash().expect("hashes");
        let reference = serde_json::to_value(&weights).expect("has a digest");
        assert_eq!(reference, weights.0.handle.reference().expect("has a digest"));
        let elsewhere: Artifact<Bytes> = serde_json::from_value(reference).expect("a reference");
        assert_eq!(elsewhere, weights);
        let error = run(elsewhere.get()).expect_err("there is no store");
        assert_eq!(error.kind(), crate::error::ErrorKind::NotSaved);
    }

    #[test]
    fn a_reference_encodes_equally_before_and_after_hashing() {
        let tensors = Tensors::new().with("$odd \"name\"", &[2], &[1_u8, 2]).expect("a tensor");
        let weights: Artifact<Tensors> = tensors.into();
        let mut pending = Encoded::of(&weights).expect("encodes");
        weights.0.handle.hash().expect("hashes");
        let name = pending.value["$blob"].as_str().expect("a name").to_owned();
        let named = [(name.as_str(), &weights.0.handle)].into();
        crate::encode::patch_pending(&mut pending.value, &named);
        assert_eq!(pending.value, Encoded::of(&weights).expect("encodes").value);
    }

    #[test]
    fn equality_goes_by_digest() {
        let (a, b): (Artifact<Bytes>, Artifact<Bytes>) =
            (Bytes::from("same").into(), Bytes::from("same").into());
        assert_ne!(a, b, "nobody knows yet");
        assert_eq!(a, a.clone());
        a.0.handle.hash().expect("hashes");
        b.0.handle.hash().expect("hashes");
        assert_eq!(a, b);
    }

    #[test]
    fn one_type_opens_what_another_wrote() {
        run(async {
            let tensors =
                Tensors::new().with("w", &[2, 2], &[1.0_f32, 2.0, 3.0, 4.0]).expect("a tensor");
            let encoded = Encoded::of(&Artifact::new(tensors)).expect("encodes");
            let bytes: Artifact<Bytes> = encoded.clone().into_typed().expect("decodes");
            let bytes = bytes.get().await.expect("bytes");
            let encoded = Encoded::of(&Artifact::new((*bytes).clone())).expect("encodes");
            let tensors: Artifact<Tensors> = encoded.into_typed().expect("decodes");
            let values =
                tensors.get().await.expect("tensors").to_vec::<f32>("w").await.expect("a tensor");
            assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
            let error = Artifact::<Tensors>::of_handle(Arc::new(BlobHandle::of_value(Arc::new(
                Bytes::from("no tensors at all"),
            ))))
            .get()
            .await;
            assert_eq!(error.expect_err("no tensors").kind(), crate::error::ErrorKind::Decode);
        });
    }
}
