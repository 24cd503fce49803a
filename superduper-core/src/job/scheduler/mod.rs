//! The jobs of a process as a pure state machine: what to claim, start, record and read next.
//!
//! [`Scheduler`] knows all runs of one process, [`RunState`] the jobs of one run. Neither has a
//! clock, does IO, draws random numbers or starts tasks: [`Scheduler::on`] takes an input,
//! [`Scheduler::decide`] says what follows. So the same inputs give the same effects, and a
//! simulator can meet every order of events.
//!
//! Invariants: every job is in one [`Phase`], which one function changes together with all indexes
//! of phases; one call of the store per run is in flight at most; an attempt starts only where its
//! claim is on record.

mod answer;
mod attempts;
mod check;
mod closing;
mod commit;
mod config;
mod entry;
mod fault;
mod graph;
mod messages;
#[cfg(test)]
mod oracle;
mod permits;
mod phase;
mod rows;
mod run_state;
mod timing;
mod top;

pub use closing::{after_completion, cancellations, conclusions};
pub use config::{Abilities, Config, Now, Work};
pub use fault::Fault;
pub use messages::{Effect, Input, Loaded, Report};
pub use phase::{Phase, PhaseName, Start, Step};
pub use run_state::RunState;
pub use top::Scheduler;
