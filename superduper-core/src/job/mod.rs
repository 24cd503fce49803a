//! Jobs: their context, their order, how they are run and by whom.

mod abilities;
mod alarm;
mod call;
mod context;
mod effects;
mod engine;
pub(crate) mod events;
mod executor;
mod instance;
mod keep;
mod layer;
mod limits;
mod notes;
mod outcome;
mod overflow;
mod panics;
mod policy;
mod process;
mod program;
mod record;
mod run_job;
#[cfg_attr(not(feature = "simulate"), allow(dead_code, unreachable_pub, reason = "what only the simulator calls"))]
pub(crate) mod scheduler;
mod signals;
mod spawned;

pub(crate) use abilities::{Program, work_of, work_of_new};
pub use context::JobContext;
pub(crate) use context::{Identity, current, current_overlay};
pub(crate) use effects::{hash_all, save_encoded};
pub(crate) use engine::{Command, Engine, RunHandle, load, load_quietly, new_row, other_workers, watch};
pub use executor::{Attempt, Executor, ExecutorCapabilities};
pub(crate) use executor::{Ended, Threads};
pub(crate) use instance::{Instances, references, setup_tree};
pub use keep::Asked;
pub use layer::{JobLayer, job_layer};
pub(crate) use notes::NoteBuffer;
pub use outcome::Outcome;
pub(crate) use outcome::describe;
pub(crate) use panics::Caught;
pub(crate) use policy::Running;
pub use policy::{JobPolicy, Placement};
pub use process::worker;
pub(crate) use process::{Process, is_worker};
pub(crate) use run_job::JobSpec;
pub(crate) use scheduler::{Loaded, cancellations};
pub(crate) use signals::CancelToken;
