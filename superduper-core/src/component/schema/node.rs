//! What the values of a type look like in a document.

use crate::component::registry::Registration;

/// What the values of a type look like in a document.
#[derive(Clone, Debug)]
pub enum Node {
    /// Nothing is known of it.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// The least one.
        min: i64,
        /// The largest one.
        max: u64,
    },
    /// A number.
    Number {
        /// Whether an `f32` must be able to hold it.
        single: bool,
    },
    /// A text.
    Text,
    /// A text of one character.
    Char,
    /// The identifier of a component.
    Identifier,
    /// `null`, or what is inside.
    Option(Box<Node>),
    /// A list, of this length where there is one.
    List {
        /// What each of its items is.
        item: Box<Node>,
        /// How many there are.
        length: Option<usize>,
    },
    /// A list of these values.
    Tuple(Vec<Node>),
    /// An object with any keys of this kind.
    Map {
        /// What each key is.
        key: Key,
        /// What each value is.
        value: Box<Node>,
    },
    /// An object with these members, all required.
    Record(Vec<(&'static str, Node)>),
    /// A component of this type, or a reference to one.
    Child(Registration),
    /// A component of any kind, or a reference to one.
    AnyChild,
    /// A reference to a blob.
    Artifact,
    /// A reference to a secret.
    Secret,
    /// The name of a callable.
    Callable,
    /// A type with a schema of its own.
    #[cfg(feature = "schemars")]
    Foreign(Box<super::foreign::Foreign>),
}

/// The keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Any text.
    Text,
    /// One character.
    Char,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// The least one.
        min: i64,
        /// The largest one.
        max: u64,
    },
}

impl Node {
    /// The whole numbers of a type with this range, as far as JSON holds them.
    pub(super) fn integer(min: i128, max: u128) -> Node {
        let (min, max) = range(min, max);
        Node::Integer { min, max }
    }
}

/// A range of whole numbers, as far as JSON holds them.
pub(super) fn range(min: i128, max: u128) -> (i64, u64) {
    (i64::try_from(min).unwrap_or(i64::MIN), u64::try_from(max).unwrap_or(u64::MAX))
}
