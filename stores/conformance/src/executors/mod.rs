//! What every executor must do.
//!
//! An executor's own test calls [`run_all`]. The program that runs the jobs must link this crate:
//! `use superduper_conformance as _`. The executors `threads` and `process` pass the same tests.

mod probe;
mod suite;

pub use probe::Probe;
pub use suite::run_all;
