//! What the fuzz targets do with their input.
//!
//! The bodies are plain functions without any fuzzer: the acceptance tests run them on the
//! committed corpora and on mutations of those, with any compiler.

pub mod access;
pub mod bodies;
