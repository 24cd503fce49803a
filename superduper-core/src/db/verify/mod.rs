//! Checking a database: blobs against their digests, rows against documents, jobs against runs.
//!
//! Invariant: it deletes no data. What it repairs is derived from what is there: references from
//! documents, the end of an interrupted sweep; a damaged blob is moved aside, so that its intact
//! bytes can come back.

mod blobs;
mod check;
mod documents;
mod jobs;
mod report;

pub use check::Verify;
pub use report::{Finding, Severity, VerifyReport};
