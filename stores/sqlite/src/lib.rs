//! Metadata of superduper in one SQLite file.
//!
//! [`SqliteStore`] keeps components, versions, runs, jobs and events in `metadata.sqlite` of a
//! folder, in WAL mode. One thread writes; requests that wait for it share a transaction and its
//! fsync. Reads go to a few connections of their own. Several processes may use one folder: writers
//! queue on the file lock `write.lock`.
//!
//! Invariants: nothing is written outside of a `BEGIN IMMEDIATE` transaction held under
//! `write.lock`; a file that is not of this format is never changed; `database is locked` never
//! reaches a caller.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod codec;
mod commit;
mod error;
mod heartbeat;
mod open;
mod owners;
mod place;
mod read;
mod sql;
mod store;
mod sweep;
mod writer;

pub use store::SqliteStore;
