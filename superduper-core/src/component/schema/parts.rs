//! What the derive writes of a component type for its schema: plain data, and functions that say
//! what the types of the fields are.
//!
//! Invariant: nothing here runs before a schema or a strict decode asks for it.

use super::{Maker, Node};
use crate::{encode::Stored, error::Result};
use serde_json::Value;

/// What the derive writes of a type.
#[derive(Debug, Clone, Copy)]
pub struct TypeParts {
    /// The doc comment of the struct.
    pub doc: &'static str,
    /// The default of the whole struct, for `#[serde(default)]` on it.
    pub default: Option<DefaultOf>,
    /// All fields, those included that are not stored.
    pub fields: &'static [FieldPart],
}

impl TypeParts {
    /// Of a type without the derive.
    pub const UNKNOWN: TypeParts = TypeParts { doc: "", default: None, fields: &[] };
}

/// What the derive writes of a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldPart {
    /// The name in the Rust source.
    pub name: &'static str,
    /// The name in the document.
    pub key: &'static str,
    /// The doc comment.
    pub doc: &'static str,
    /// Its part in the document.
    pub role: Role,
    /// Whether a change makes a new version.
    pub breaking: bool,
    /// Whether a document must have it.
    pub required: bool,
    /// Former names, which stored rows may have.
    pub aliases: &'static [&'static str],
    /// What it is where a document does not have it.
    pub default: Option<DefaultOf>,
    /// Its type; that of the value for an `Output`.
    pub ty: Option<fn() -> FieldType>,
}

/// The part of a field in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A member of the document.
    Stored,
    /// Its members are members of the document.
    Flat,
    /// Triggers make it.
    Output,
    /// It is in no document: `Runtime`, `skip`.
    Absent,
}

/// Makes the default of a field or of a whole struct, as it is stored.
pub(crate) type DefaultOf = fn() -> Result<Value>;

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldType {
    /// What its values look like.
    pub node: fn(&mut Maker<'_>) -> Node,
    /// Reads a value and forgets it, for types whose values can be wrong in ways that the node does
    /// not know.
    pub check: Option<Check>,
}

/// Reads a value and forgets it.
pub(crate) type Check = fn(Reader<'_, '_>) -> std::result::Result<(), serde_json::Error>;

/// What reads the fields of components, so that nothing is compiled twice.
pub(crate) type Reader<'a, 'b> = serde_path_to_error::Deserializer<'a, 'b, Stored>;

impl FieldType {
    /// A field that functions of the user read and write.
    pub const fn custom(check: Check) -> Self {
        FieldType { node: |_| Node::Any, check: Some(check) }
    }
}
