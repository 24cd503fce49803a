//! Tests of the SQLite store: the shared conformance suite, and what only a file can do.

mod conformance;
mod files;
mod sharing;
mod statements;
mod support;
