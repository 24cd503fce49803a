//! Types and documents: what the registry knows of a type, and how components are written down.
//!
//! A [`Registry`] gives the JSON Schema of a kind and reads documents strictly; each [`Mistake`] in
//! a document has its place. A [`TypeSpec`] lists the fields of a type, a [`TriggerSpec`] describes
//! one of its triggers; the macros write both. [`source_of`] gives the captured text of a type. A
//! [`Callable`](crate::Callable) is a [`Function`] of the program or an artifact that a
//! [`CallableRuntime`] runs. [`Encoded`] is a component as its documents, a [`Tree`].

pub use crate::{
    component::{
        FieldSpec, Flattened, TypeSpec, VisitChildren,
        callable::{Function, Param},
        callable_runtime::{CallableRuntime, RuntimeCall},
        lifecycle::HookFuture,
        registry::{Registry, RegistryBuilder},
        schema::Mistake,
        settings::HoldsSettings,
        source::{MissingSource, Source, missing_sources_of, source_of, source_of_fn},
        trigger::{
            Dependency, Event as TriggerEvent, Requirement, TriggerOutput, TriggerSpec, Watch,
        },
    },
    encode::{BlobUse, ChildUse, Encoded, MAX_DEPTH, Record, Tree},
    json::MAX_NESTING,
};
