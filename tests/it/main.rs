//! Acceptance tests at the public API, under their case ids.

mod fresh;
mod hooks;
mod process;
mod triggers;
