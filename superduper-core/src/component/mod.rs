//! What a user writes: component types, their fields, hooks and triggers, and the registry of types.

pub(crate) mod callable;
pub(crate) mod callable_runtime;
pub(crate) mod derived;
pub(crate) mod fields;
pub(crate) mod lifecycle;
pub(crate) mod observed;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod registry;
pub(crate) mod runtime;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod source;
mod traits;
pub(crate) mod trigger;

pub use traits::{
    AsComponent, Component, ComponentType, FieldSpec, Flattened, Migrate, TriggerCall, TypeSpec,
    VisitChildren, downcast,
};
