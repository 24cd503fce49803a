//! Finding out at compile time what is known of the type of a field, without asking the user to
//! say it.
//!
//! `(&&&&Probe::<T>(PhantomData)).of()` picks the first of these that the type has: a node of its own
//! here, `schemars::JsonSchema`, serde's `Deserialize`, nothing. It decides where it is written:
//! for a type parameter it knows only the bounds, so what is left is looked up by `TypeId`.

use super::{Described, FieldType, Maker, Node, Reader};
use crate::error::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{any::TypeId, marker::PhantomData};

/// A type under examination.
pub struct Probe<T: ?Sized>(pub PhantomData<T>);

/// A type that is described here.
pub trait ViaDescribed {
    /// What is known of the type.
    fn of(&self) -> FieldType;
}
impl<T: Described> ViaDescribed for &&&Probe<T> {
    fn of(&self) -> FieldType {
        FieldType { node: T::node, check: None }
    }
}

/// A type that brings a schema of its own.
pub trait ViaForeign {
    /// What is known of the type.
    fn of(&self) -> FieldType;
}
#[cfg(feature = "schemars")]
impl<T: schemars::JsonSchema + DeserializeOwned> ViaForeign for &&Probe<T> {
    fn of(&self) -> FieldType {
        FieldType { node: super::foreign::node::<T>, check: Some(check::<T>) }
    }
}

/// A type that can be read.
pub trait ViaSerde {
    /// What is known of the type.
    fn of(&self) -> FieldType;
}
impl<T: DeserializeOwned + 'static> ViaSerde for &Probe<T> {
    fn of(&self) -> FieldType {
        FieldType { node: by_type::<T>, check: Some(check::<T>) }
    }
}

/// Any other type.
pub trait ViaNothing {
    /// What is known of the type.
    fn of(&self) -> FieldType;
}
impl<T: 'static> ViaNothing for Probe<T> {
    fn of(&self) -> FieldType {
        FieldType { node: by_type::<T>, check: None }
    }
}

/// A default that was made: `(&&Made(&value)).stored()`.
pub struct Made<'a, T>(pub &'a T);

/// A default that can be stored.
pub trait ViaStored {
    /// The default as it is stored.
    fn stored(&self) -> Result<Value>;
}
impl<T: Serialize> ViaStored for &Made<'_, T> {
    fn stored(&self) -> Result<Value> {
        super::default_value(self.0)
    }
}

/// A default that cannot, which is an error when it is compiled.
pub trait ViaNotStored {
    /// The default as it is stored.
    fn stored(&self) -> Result<Value>;
}
impl<T> ViaNotStored for Made<'_, T> {
    fn stored(&self) -> Result<Value> {
        Err(Error::internal("a default cannot be stored"))
    }
}

fn check<T: DeserializeOwned>(reader: Reader<'_, '_>) -> Result<(), serde_json::Error> {
    T::deserialize(reader).map(drop)
}

fn by_type<T: 'static>(maker: &mut Maker<'_>) -> Node {
    maker.by_type(TypeId::of::<T>())
}
