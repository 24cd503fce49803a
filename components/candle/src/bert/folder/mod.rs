//! A folder as sentence-transformers writes it, read key by key.
//!
//! Invariant: what the folder says and this crate does not do is an error that names file and key,
//! never another vector. `docs/embedding.md` lists every key.

mod added;
mod config;
mod files;
mod modules;
mod read;
mod sentences;
mod tokenizer;

pub(super) use read::read;
