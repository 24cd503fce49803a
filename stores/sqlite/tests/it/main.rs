//! Tests of the SQLite store: the shared conformance suite, and what only a file can do.

mod conformance;
mod documents;
mod files;
mod sharing;
mod statements;
mod support;
