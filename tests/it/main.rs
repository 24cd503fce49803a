//! Acceptance tests at the public API. Test names carry the id of the case they pin.

mod apply;
mod artifacts;
mod bad_input;
mod bundle;
mod bundle_fuzz;
mod bundle_refused;
mod callables;
mod children;
mod drift;
mod encoding;
mod fresh;
mod hooks;
mod joining;
mod loading;
mod names;
mod plans;
mod process;
mod properties;
mod remove;
mod samples;
mod schema;
mod support;
mod tidy;
mod triggers;
mod upkeep;
mod verify;
