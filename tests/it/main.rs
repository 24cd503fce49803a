//! Acceptance tests at the public API. Test names carry the id of the case they pin.

mod apply;
mod artifacts;
mod bad_input;
mod callables;
mod children;
mod encoding;
mod fresh;
mod hooks;
mod joining;
mod loading;
mod plans;
mod policies;
mod process;
mod properties;
mod remove;
mod schema;
mod support;
mod tidy;
mod triggers;
mod upkeep;
