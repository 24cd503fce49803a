//! A value as JSON, with the blobs it refers to.

use super::{DecodeEnv, Stored, in_decode_session};
use crate::{
    artifact::BlobHandle,
    artifact::contract::ArtifactStore,
    component::registry::Registry,
    error::{Error, ErrorKind, Result},
    json::{check_readable, nesting, with_stack_for},
    store::BlobRow,
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

    /// Encode a value that is only written here. Where its type can be read, [`Encoded::checked`]
    /// finds more.
    ///
    /// # Errors
    /// `Encode`, with the path, for what JSON cannot hold: a non-finite float, equal keys of a map,
    /// `Some` of what is null; for what is nested deeper than
    /// [`MAX_NESTING`](crate::schema::MAX_NESTING).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        super::round_trip::encode_written(value)
    }

    /// Encode a value, and see that reading it gives the same value again; `postinit` of components
    /// in it does not run.
    ///
    /// # Errors
    /// As for [`Encoded::of`]; `Encode`, with the path, where the value is read back as another
    /// one.
    pub fn checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<Self> {
        super::round_trip::encode_checked(value, super::round_trip::registry_here(), false)
    }

    /// Encode the state of a job, for [`JobContext::checkpoint`](crate::JobContext::checkpoint): as
    /// [`Encoded::checked`], but infinity and NaN are kept, bit for bit.
    ///
    /// # Errors
    /// As for [`Encoded::checked`], except for floats. As keys of maps they are refused, too.
    pub fn of_state<T: Serialize + DeserializeOwned>(value: &T) -> Result<Self> {
        super::round_trip::encode_checked(value, super::round_trip::registry_here(), true)
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
        super::save_encoded(store, self, "value").await
    }

    /// Read back a value that was saved.
    ///
    /// # Errors
    /// `Decode` where it is no `T`.
    pub fn read<T: DeserializeOwned>(
        value: Value,
        store: Option<Arc<dyn ArtifactStore>>,
    ) -> Result<T> {
        decode_value(value, &Arc::new(DecodeEnv::new(Registry::global(), store)), "a saved value")
    }

    /// Read the value back in the same process, with blobs that may not be saved yet.
    pub(crate) fn into_typed<T: DeserializeOwned>(self) -> Result<T> {
        let env = DecodeEnv::for_blobs(self.blobs);
        decode_value(self.value, &Arc::new(env), "a result")
    }
}

/// An item of a set, as the order of items goes by it. Takes no part in the current session.
pub(crate) fn sort_key<T: Serialize + ?Sized>(item: &T) -> Result<Value> {
    // Whether floats are marked is of no account for an order.
    super::session::encode_value(item, true).map(|(encoded, _)| encoded.value)
}

/// Decode a stored result or output; `owner` is named in errors about its blobs.
pub(crate) fn decode_value<T: DeserializeOwned>(
    value: Value,
    env: &Arc<DecodeEnv>,
    owner: &str,
) -> Result<T> {
    check_readable(&value, owner)?;
    in_decode_session(env, || {
        super::decode::name_owner(owner.to_owned(), &value);
        with_stack_for(nesting(&value), || {
            not_a::<T, _>(serde_path_to_error::deserialize(Stored::new(value)))
        })
    })
}

/// Decode a stored value as the content of an `Option`, also where it is null.
pub(crate) fn decode_some<T: DeserializeOwned>(
    value: Value,
    env: &Arc<DecodeEnv>,
    owner: &str,
) -> Result<T> {
    check_readable(&value, owner)?;
    in_decode_session(env, || {
        super::decode::name_owner(owner.to_owned(), &value);
        with_stack_for(nesting(&value), || {
            not_a::<T, _>(serde_path_to_error::deserialize(super::decode::Content(Stored::new(
                value,
            ))))
        })
    })
}

fn not_a<T, R>(
    read: std::result::Result<R, serde_path_to_error::Error<serde_json::Error>>,
) -> Result<R> {
    read.map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let at = if path == "." { String::new() } else { format!(" at `{path}`") };
        Error::new(
            ErrorKind::Decode,
            format!("stored value is not a `{}`{at}: {error}", std::any::type_name::<T>()),
        )
    })
}
