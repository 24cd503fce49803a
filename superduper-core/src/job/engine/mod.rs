//! The engine of a process: the shell around the [`Scheduler`](super::scheduler::Scheduler), and
//! the outside's hold on it.
//!
//! The scheduler decides, and has no clock and no IO. Here is what moves its inputs and effects:
//! one task per process, which starts calls of the store and attempts as tasks of their own and
//! hands their answers in.

mod act;
mod attempt;
mod book;
mod handle;
mod load;
mod removal;
mod shell;
mod watch;

pub(crate) use book::new_row;
pub(crate) use handle::{Command, Engine, RunHandle};
pub(crate) use load::{load, load_quietly, other_workers};
pub(crate) use removal::is_forced;
pub(crate) use watch::watch;
