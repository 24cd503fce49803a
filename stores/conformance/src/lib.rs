//! What every store of superduper must do, as functions that a test calls.

pub mod artifacts;
pub mod metadata;
