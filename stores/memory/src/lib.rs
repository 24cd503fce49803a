//! Metadata of superduper in memory: the reference that other stores are compared with.
//!
//! Everything lives in plain sorted maps behind one mutex. A commit writes into the maps and
//! remembers what it replaced; a batch that fails is undone, so that it leaves nothing.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod commit;
mod lines;
mod read;
mod state;
mod store;
mod table;
mod telemetry;

pub use store::MemoryStore;
