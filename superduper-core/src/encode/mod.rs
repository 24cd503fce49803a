//! From components to documents and back.
//!
//! Encoding walks a component with serde inside a thread-local *session*: each component met on the
//! way registers itself and leaves a reference, each artifact registers its blob. No session is ever
//! held over an await, nested sessions are saved and restored, and a panic in user code ends one cleanly.

mod decode;
mod serializer;
mod session;
mod tree;

pub(crate) use decode::decode_body;
pub use decode::{DecodeEnv, Document, deserialize_typed};
pub(crate) use decode::{current_env, decode_boxed, decode_inline_boxed, in_decode_session};
pub(crate) use session::RawKey;
pub use session::{Inline, serialize_component};
pub(crate) use session::{encode_tree, note_blob};
pub use tree::{BlobUse, ChildUse, Record, Tree};
pub(crate) use tree::{hash_body, hashes, is_marked, mark_of, patch_pending, secrets};

use crate::{
    Error, ErrorKind, Result,
    artifact::BlobHandle,
    registry::Registry,
    store::{ArtifactStore, BlobRow},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::Arc;

/// Marks a value that is not written at all when it is a field.
pub(crate) const RUNTIME_MARK: &str = "$superduper::Runtime";
/// Marks an output: not written, allowed only as a direct field of a component.
pub(crate) const OUTPUT_MARK: &str = "$superduper::Output";

/// The deepest tree of components that can be encoded, loaded and applied.
pub const MAX_DEPTH: usize = 4096;

/// A result or output as JSON, with the blobs it refers to.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub(crate) value: Value,
    pub(crate) blobs: Vec<Arc<BlobHandle>>,
}

impl Encoded {
    /// The result of a method that returns nothing.
    pub fn null() -> Self {
        Encoded { value: Value::Null, blobs: Vec::new() }
    }

    /// Encode a value.
    ///
    /// # Errors
    /// `Encode` for a non-finite float, with its path, and for what JSON cannot hold.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        session::encode_value(value)
    }

    /// The value; blobs that are not saved have provisional names in it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Put its blobs into a store; gives the value with their digests, and the digests with sizes.
    ///
    /// # Errors
    /// Those of reading the blobs and of the store.
    pub async fn save(self, store: &Arc<dyn ArtifactStore>) -> Result<(Value, Vec<BlobRow>)> {
        crate::job::save_encoded(store, self, "value").await
    }

    /// Read back a value that was saved.
    ///
    /// # Errors
    /// `Decode` where it is no `T`.
    pub fn read<T: DeserializeOwned>(value: Value, store: Option<Arc<dyn ArtifactStore>>) -> Result<T> {
        decode_value(value, &Arc::new(DecodeEnv::new(Registry::global(), store)), "a saved value")
    }

    /// Read the value back in the same process, with blobs that may not be saved yet.
    pub(crate) fn into_typed<T: DeserializeOwned>(self) -> Result<T> {
        let env = DecodeEnv::for_blobs(self.blobs);
        decode_value(self.value, &Arc::new(env), "a result")
    }
}

/// Decode a stored result or output; `owner` is named in errors about its blobs.
pub(crate) fn decode_value<T: DeserializeOwned>(value: Value, env: &Arc<DecodeEnv>, owner: &str) -> Result<T> {
    in_decode_session(env, || {
        decode::name_owner(owner.to_owned(), &value);
        serde_path_to_error::deserialize(serializer::unescape(value)).map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            let at = if path == "." { String::new() } else { format!(" at `{path}`") };
            Error::new(ErrorKind::Decode, format!("stored value is not a `{}`{at}: {error}", std::any::type_name::<T>()))
        })
    })
}
