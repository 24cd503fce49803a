//! What every metadata store must do.
//!
//! A store's own test calls [`run_all`], and [`sharing::run_all`] if other processes can open the
//! store; each function of the modules here takes an empty store and panics, naming the rule, where
//! the store breaks it.

pub mod attempts;
pub mod audits;
pub mod blobs;
pub mod checkpoints;
pub mod components;
pub mod decisions;
pub mod deletion;
pub mod expects;
mod fixture;
pub mod forgetting;
pub mod jobs;
pub mod lines;
pub mod names;
pub mod once;
pub mod owners;
pub mod places;
pub mod reads;
pub mod removals;
pub mod sharing;
pub mod spawned;
mod suite;
pub mod telemetry;
pub mod waiting;

pub use suite::run_all;
