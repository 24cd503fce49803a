//! `#[source]` and `#[component(source)]`: `capture` finds the text of an item in its file, `scan`
//! splits the file into pieces, `expand` writes what was found.
//!
//! Invariant: a source that cannot be captured is absent and never an error.

mod capture;
mod expand;
mod scan;

pub(crate) use expand::{attribute, of_type};
