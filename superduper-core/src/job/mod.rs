//! Jobs: their context, their order, how they are run.

mod context;
mod outcome;

pub use context::JobContext;
pub(crate) use context::current_overlay;
pub use outcome::Outcome;
