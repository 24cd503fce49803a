//! Components, plans, durable jobs and the store traits of superduper.
//!
//! This crate knows no store and no machine-learning framework; programs use the facade crate
//! `superduper`, which adds both.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

extern crate self as superduper;

pub mod address;
mod artifact;
mod bundle;
mod callable;
mod component;
mod db;
mod derived;
mod digest;
mod encode;
mod error;
mod error_codes;
mod fields;
mod job;
mod json;
mod lifecycle;
mod locator;
mod observed;
mod output;
mod panics;
mod plan;
mod registry;
mod runtime;
mod runtime_check;
mod secret;
pub mod sorted;
pub mod store;
mod trigger;
pub mod unreturned;

pub use address::{Address, VersionRef};
pub use artifact::{
    Artifact, Blob, BlobHandle, BlobSource, Bytes, Dtype, Element, File, Hashed, StoredBlob, TensorData, TensorInfo, Tensors,
};
pub use bundle::{Export, Exported, Import};
pub use callable::{Callable, Function, Param};
pub use component::{AsComponent, Component, ComponentType, FieldSpec, Migrate, TypeSpec, VisitChildren, downcast};
pub use db::{
    AUDIT_LOG, Actor, Applied, Apply, Cancel, ComponentExt, Db, DbBuilder, Detach, Difference, Drift, Drifted, Encoding, Event,
    EventStream, Finding, GcReport, Keep, Listed, Message, Prune, Pruned, Remove, Removed, Resume, Run, Severity, Status, Verify,
    VerifyReport,
};
pub use digest::{Digest, Hasher};
pub use encode::{BlobUse, ChildUse, Encoded, Inline, MAX_DEPTH, Record, Tree};
pub use error::{BoxError, Error, ErrorKind, FailureKind, JobFailure, Result, ResultExt};
pub use job::{
    Attempt, AttemptEnd, Executor, ExecutorCapabilities, JobContext, JobLayer, JobPolicy, JobRequest, Outcome, Placement, Spawn, Waiting,
    job_layer, worker,
};
pub use json::MAX_NESTING;
pub use lifecycle::{BoxFuture, HookFuture, Lifecycle};
pub use locator::Locator;
pub use observed::Observed;
pub use output::Output;
pub use plan::{Action, Change, LeftOut, NeededJob, Overwrite, Plan, PlannedComponent, PlannedJob, PlannedNeed, StaleJob};
pub use registry::{Registry, RegistryBuilder};
pub use runtime::Runtime;
pub use secret::Secret;
pub use serde_json::{Value, json};
pub use store::JobSignal;
pub use superduper_derive::{Component, callable, trigger, triggers};
pub use trigger::{Dependency, Event as TriggerEvent, Requirement, TriggerOutput, TriggerSpec, Watch};

/// The scheduler, for the simulator; it may change in any release.
#[cfg(feature = "simulate")]
#[doc(hidden)]
pub mod simulate {
    pub use crate::job::scheduler::*;
}

/// What the macros write refers to this module; it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        callable::{Args, FunctionEntry},
        component::TriggerCall,
        db::decode_documents,
        derived::{
            StoredField, check_builder, finish_builder, hooks_of, in_option, is_component, stored_field, stored_object, takes_result,
        },
        encode::{DecodeEnv, Document, Encoded, deserialize_typed, serialize_component},
        fields::{Known, OfKnown, has_field},
        lifecycle::{Hook, Hooks, Look, probe},
        output::OutputCell,
        registry::{Registration, registered_kind},
        trigger::{Dependency, Encode, Event, RequiredField, Run, TakesResult, Trigger},
    };
    pub use inventory;
    pub use serde;
}

/// What a program that defines components needs in scope.
pub mod prelude {
    pub use crate::{
        Address, Artifact, BoxError, Bytes, Callable, Component, ComponentExt, Db, Dtype, Error, ErrorKind, File, JobContext, Lifecycle,
        Observed, Output, Result, ResultExt, Runtime, Secret, Tensors, Value, callable, json, register, trigger, triggers,
    };
}
