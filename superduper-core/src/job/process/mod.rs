//! Jobs in job processes: the same binary, started again with a job's id.
//!
//! Invariants: only ids and the places of the stores cross to the job process; it reads its job
//! from the store and records the outcome there. It works on the stores of its parent or on none.
//! It does not outlive its parent, and the processes that it starts do not outlive it. Its output
//! is in the job's log, up to a limit.

mod child;
mod executor;
mod lifeline;
mod output;
mod parent;
mod request;
mod spawn;
mod strays;

pub(crate) use child::is_job_process;
pub use child::job_process;
#[allow(deprecated, reason = "programs may still call it by this name")]
pub use child::worker;
pub(crate) use executor::Process;
