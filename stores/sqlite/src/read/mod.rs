//! Reading: connections of their own, so that reads wait for no writer.
//!
//! Invariant: all statements of one read see the same commit; reads begin after the commits that
//! returned before.

mod audit;
mod blobs;
mod components;
mod history;
mod jobs;
mod lines;
mod readers;
mod telemetry;

pub(crate) use audit::*;
pub(crate) use blobs::*;
pub(crate) use components::*;
pub(crate) use history::*;
pub(crate) use jobs::*;
pub(crate) use lines::*;
pub(crate) use readers::Readers;
pub(crate) use telemetry::*;
