//! State that `setup` makes and nothing stores.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, marker::PhantomData, sync::OnceLock};

/// A field that `setup` fills and that is never stored: a client, a connection, a loaded model.
///
/// It needs no attribute, no `Serialize`, and takes no part in the component's identity.
pub struct Runtime<T>(OnceLock<T>);

impl<T> Runtime<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        Runtime(OnceLock::new())
    }

    /// Fill the cell; a value that is already there stays.
    pub fn set(&self, value: T) -> &T {
        self.0.get_or_init(|| value)
    }

    /// The value.
    ///
    /// # Errors
    /// `NotSetUp` while `setup` has not filled the cell.
    pub fn get(&self) -> Result<&T> {
        self.0.get().ok_or_else(|| {
            Error::new(
                ErrorKind::NotSetUp,
                format!("runtime state `{}` is not set", std::any::type_name::<T>()),
            )
            .with_hint("fill it in `setup`; outside of a job, run `db.setup(&component)` first")
        })
    }

    /// Whether the cell is filled.
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}

impl<T> Default for Runtime<T> {
    fn default() -> Self {
        Runtime::new()
    }
}

impl<T> fmt::Debug for Runtime<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Runtime(set)" } else { "Runtime(empty)" })
    }
}

/// Cloning makes an empty cell: runtime state belongs to one instance.
impl<T> Clone for Runtime<T> {
    fn clone(&self) -> Self {
        Runtime::new()
    }
}

impl<T> Serialize for Runtime<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit_struct(crate::encode::RUNTIME_MARK)
    }
}

impl<'de, T> Deserialize<'de> for Runtime<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        absent(deserializer).map(|()| Runtime::new())
    }
}

/// Accept null and, because it asks for an option, a missing field.
pub(crate) fn absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    struct Absent(PhantomData<()>);
    impl<'de> serde::de::Visitor<'de> for Absent {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("nothing: this field is never stored")
        }
        fn visit_none<E>(self) -> Result<(), E> {
            Ok(())
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            serde::de::IgnoredAny::deserialize(deserializer).map(|_| ())
        }
    }
    deserializer.deserialize_option(Absent(PhantomData))
}
