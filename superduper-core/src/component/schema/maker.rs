//! Makes the nodes of one kind, and collects what they refer to.

use super::{Node, described::of_primitive};
use crate::component::{
    ComponentType,
    registry::{Registration, Registry},
};
use std::any::TypeId;

/// Makes the nodes of one kind, and collects what they refer to.
pub struct Maker<'a> {
    pub(super) registry: &'a Registry,
    /// Schemas of users' types, with the definitions that they share.
    #[cfg(feature = "schemars")]
    pub(super) generator: schemars::SchemaGenerator,
}

impl<'a> Maker<'a> {
    /// For the kind whose definitions are at this JSON pointer.
    pub(super) fn new(registry: &'a Registry, definitions: String) -> Self {
        #[cfg(not(feature = "schemars"))]
        drop(definitions);
        Maker {
            registry,
            #[cfg(feature = "schemars")]
            generator: super::foreign::generator(definitions),
        }
    }

    /// A component of this type.
    pub fn child<T: ComponentType>(&mut self) -> Node {
        Node::Child(Registration::of::<T>(T::__kind()))
    }

    /// A type that is known only when the program runs.
    pub(super) fn by_type(&mut self, id: TypeId) -> Node {
        match self.registry.of_type(id) {
            Some(entry) => Node::Child(*entry),
            None => of_primitive(id).unwrap_or(Node::Any),
        }
    }
}

impl std::fmt::Debug for Maker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maker")
    }
}
