//! `#[triggers]`: `ast` reads the methods, `valid` and `cycle` hold every rule, `expand` writes the
//! table; `attribute` is where they meet.

mod ast;
mod attribute;
mod cycle;
mod duration;
mod expand;
mod valid;

pub(crate) use attribute::{misplaced, triggers};
