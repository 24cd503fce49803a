//! Jobs: their context, their order, how they are run and by whom.
//!
//! A trigger takes a [`JobContext`]. A component gives a [`JobPolicy`], a job spawns others by
//! [`Spawn`], and a [`TestContext`] stands for a job in a test. An [`Executor`] runs jobs somewhere
//! else: it gets an [`Attempt`] with a [`JobRequest`] and gives an [`AttemptEnd`].

mod abilities;
mod alarm;
mod call;
mod context;
mod effects;
mod engine;
pub(crate) mod events;
mod executor;
mod for_test;
mod instance;
mod keep;
mod layer;
mod limits;
mod notes;
mod outcome;
mod overflow;
mod panics;
mod process;
mod program;
mod record;
mod remote;
mod run_job;
#[cfg_attr(
    not(feature = "simulate"),
    allow(dead_code, unreachable_pub, reason = "what only the simulator calls")
)]
pub(crate) mod scheduler;
mod siblings;
mod signals;
mod spawn;
mod spawned;
mod waiting;

pub(crate) use crate::component::policy::Running;
pub use crate::component::policy::{JobPolicy, Placement};
pub(crate) use crate::encode::{hash_all, save_encoded};
pub use abilities::Lack;
pub(crate) use abilities::{Program, work_of, work_of_line, work_of_new};
pub use context::JobContext;
pub(crate) use context::{Identity, current, current_overlay};
pub(crate) use engine::{
    Command, Engine, RunHandle, load, load_quietly, new_row, other_workers, watch,
};
pub(crate) use executor::Threads;
pub use executor::{Attempt, AttemptEnd, Executor, ExecutorCapabilities};
pub use for_test::{TestContext, TestSpawned};
pub(crate) use instance::{Instances, references, setup_tree};
pub use layer::{JobLayer, job_layer};
pub(crate) use notes::NoteBuffer;
pub use outcome::Outcome;
pub(crate) use outcome::describe;
pub(crate) use panics::Caught;
pub use process::job_process;
#[allow(deprecated, reason = "programs may still call it by this name")]
pub use process::worker;
pub(crate) use process::{Process, is_job_process};
pub use remote::JobRequest;
pub(crate) use remote::locations;
pub(crate) use run_job::JobSpec;
pub(crate) use scheduler::{Loaded, after_completion, cancellations, conclusions};
pub(crate) use signals::CancelToken;
pub use spawn::Spawn;
pub use waiting::Waiting;
