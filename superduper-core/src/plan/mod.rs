//! What an apply or a removal would do: pure data, made without writing anything.
//!
//! Invariant: a plan is a function of the component and the state it was read from; planning twice
//! gives the same text. It carries what it read, so that applying it can refuse a state that moved.

mod build;
mod diff;
mod digest;
mod jobs;
mod outputs;
mod planned;
mod remove;
mod render;

pub(crate) use build::{ApplyOptions, Draft, PlanInput, Repair, Repairs, build};
pub(crate) use diff::Differ;
pub(crate) use jobs::ADOPT;
pub use outputs::Overwrite;
pub(crate) use outputs::{OutputFacts, OutputRecord, its_outputs, quoted};
pub use planned::{
    Action, Change, LeftOut, NeededJob, Plan, PlannedComponent, PlannedJob, PlannedNeed, StaleJob,
};
pub(crate) use planned::{Copied, Removal};
pub(crate) use remove::{RemoveInput, build_removal};
