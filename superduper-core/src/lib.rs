//! Components, plans, durable jobs and the store traits of superduper.
//!
//! This crate knows no store and no machine-learning framework; programs use the facade crate
//! `superduper`, which adds both.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

extern crate self as superduper;

pub mod address;
pub mod artifact;
pub mod bundle;
mod component;
pub mod db;
mod digest;
mod encode;
mod error;
mod error_codes;
mod future;
pub mod job;
mod json;
mod locator;
mod near;
mod panics;
pub mod plan;
mod runtime_check;
pub mod schema;
mod secret_mask;
pub mod store;
pub mod unreturned;
pub mod verify;

#[doc(inline)]
pub use address::{Address, VersionRef};
#[doc(inline)]
pub use artifact::{Artifact, Bytes, Dtype, File, Folder, TensorData, TensorInfo, Tensors};
pub use component::callable::Callable;
pub use component::lifecycle::Lifecycle;
pub use component::observed::Observed;
pub use component::output::Output;
pub use component::registry::Registry;
pub use component::runtime::Runtime;
pub use component::secret::Secret;
pub use component::settings::Settings;
pub use component::{AsComponent, Component, ComponentType, Migrate, downcast};
#[doc(inline)]
pub use db::{ComponentExt, Db, DbBuilder, Event, EventStream, Keep, Run, Status};
pub use digest::{Digest, Hasher};
pub use encode::{Encoded, Inline, sorted};
pub use error::{BoxError, Error, ErrorKind, FailureKind, JobFailure, Result, ResultExt};
pub use future::BoxFuture;
#[allow(deprecated, reason = "programs may still call it by this name")]
#[doc(inline)]
pub use job::worker;
#[doc(inline)]
pub use job::{JobContext, JobPolicy, Outcome, Spawn, job_process};
pub use locator::Locator;
#[doc(inline)]
pub use plan::Action;
pub use serde_json::{Value, json};
#[doc(inline)]
pub use store::{Actor, JobSignal};
pub use superduper_derive::{Component, Settings, callable, source, trigger, triggers};

/// The scheduler, for the simulator; it may change in any release.
#[cfg(feature = "simulate")]
#[doc(hidden)]
pub mod simulate {
    pub use crate::job::scheduler::*;
}

/// What the macros write refers to this module; it may change in any release.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "schemars")]
    pub use crate::component::schema::Foreign;
    pub use crate::{
        component::TriggerCall,
        component::callable::{Args, FunctionEntry},
        component::callable_runtime::RuntimeEntry,
        component::derived::{
            StoredField, StoredObject, TextDefault, check_builder, finish_builder, flattened_field,
            hooks_of, in_option, is_component, stored_field, stored_object, takes_result,
            text_default,
        },
        component::fields::{Known, OfKnown, has_field},
        component::lifecycle::{Hook, Hooks, Look, probe},
        component::output::OutputCell,
        component::registry::{Registration, registered_kind},
        component::schema::{
            Described, DescribedKey, FieldPart, FieldType, Key, Maker, Node, Role, TypeParts,
            default_body, default_value, probe as types,
        },
        component::settings::{
            check_keys, finish_settings, join_fields, join_parts, settings_in_place,
        },
        component::source::{Captured, Owner, SourceEntry, type_of},
        component::trigger::{Dependency, Encode, Event, RequiredField, Run, TakesResult, Trigger},
        db::encoding::decode_documents,
        encode::{
            DecodeEnv, Document, Encoded, Spread, SpreadFields, Stored, deserialize_typed,
            serialize_component,
        },
        locator::locator_of,
    };
    pub use inventory;
    pub use serde;
}

/// What a program that defines components needs in scope.
pub mod prelude {
    pub use crate::{
        Address, Artifact, BoxError, Bytes, Callable, Component, ComponentExt, Db, Dtype, Error,
        ErrorKind, File, Folder, JobContext, Lifecycle, Observed, Output, Result, ResultExt,
        Runtime, Secret, Settings, Tensors, Value, callable, json, register, source, trigger,
        triggers,
    };
}
