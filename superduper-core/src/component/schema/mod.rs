//! What documents of components look like, and reading documents that people write.
//!
//! [`Registry::schema`](crate::Registry::schema) says in JSON Schema which documents a kind has,
//! [`Registry::decode`](crate::Registry::decode) reads them. The derive writes plain data for it
//! ([`TypeParts`]); everything else is here. Stored rows are not read by this module: they may be
//! older than the program, so they are read leniently, by `encode`.
//!
//! Invariant: schema and check are made of the same [`Node`]s, so a document that the schema
//! refuses is refused by `decode`.

mod callables;
mod check;

mod decode;
mod defaults;
mod described;
mod expected;
#[cfg(feature = "schemars")]
mod foreign;
mod keys;
mod kind;
mod maker;
mod mistake;
mod node;
mod parts;
pub mod probe;
mod reading;
mod render;

pub(crate) use decode::decode;
pub use defaults::{default_body, default_value};
pub use described::{Described, DescribedKey};
#[cfg(feature = "schemars")]
pub use foreign::Foreign;
pub(crate) use kind::KindForms;
pub use maker::Maker;
pub use mistake::Mistake;
pub(crate) use mistake::{Report, near};
pub use node::{Key, Node};
pub(crate) use parts::{Check, DefaultOf, Reader};
pub use parts::{FieldPart, FieldType, Role, TypeParts};
