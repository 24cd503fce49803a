//! What the worker program needs of the custom classes.

mod made;
mod more;
mod types;

pub(crate) use made::exported;
