//! Simulates processes that schedule jobs on one record.
//!
//! A world has 1 to 4 processes, each with the real
//! [`Scheduler`](superduper_core::simulate::Scheduler) of core, over the real memory store. There
//! is no real time, no thread and no runtime: a queue of events is the clock. All that may go wrong
//! comes from one source of [`Choices`]: delays before and after each call, calls that fail before
//! or after they are written, lost answers, processes that stand still or are killed, clocks that
//! are set, threads that return late, blocked and spawned jobs, signals, sweeps that take a blob of
//! a result.
//!
//! What must hold is checked outside of the scheduler, on the record alone, and after the faults
//! have ended: every run ends, every caller is told, every permit comes back, and no process wakes
//! up again and again for nothing.

mod act;
mod campaign;
mod choices;
mod coverage;
mod process;
mod record;
mod shape;
mod world;

pub use campaign::{Failure, Size, Summary, enumerate, one, random, trace};
pub use choices::{Choices, shrink};
pub use coverage::Coverage;
pub use shape::{JobShape, SHAPES, Shape};
pub use world::World;
