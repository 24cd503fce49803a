//! Optimizers, and their state as plain data.
//!
//! An optimizer is configuration: a small struct that serializes as a field of a component. What it
//! remembers between steps is an [`OptimizerState`], named by parameter, so that a training can be
//! saved and continued. candle's own optimizers hide their moments.

mod adamw;
mod optimizer;
mod sgd;
mod state;
#[cfg(test)]
mod tests;

pub use adamw::AdamW;
pub use optimizer::Optimizer;
pub use sgd::Sgd;
pub use state::OptimizerState;
