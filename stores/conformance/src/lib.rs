//! What every store and every executor of superduper must do, as functions that a test calls.

// The macros of components name this crate.
extern crate superduper_core as superduper;

pub mod artifacts;
pub mod executors;
pub mod metadata;
