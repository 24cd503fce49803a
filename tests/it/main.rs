//! Acceptance tests at the public API. Test names carry the id of the case they pin.

mod apply;
mod artifacts;
mod bad_input;
mod callables;
mod children;
mod encoding;
mod fresh;
mod fuzz;
mod graphs;
mod hooks;
mod joining;
mod loading;
mod plans;
mod process;
mod properties;
mod remove;
mod schema;
mod sharing;
mod support;
mod tidy;
mod triggers;
mod upkeep;
