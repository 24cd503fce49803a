//! What is there and what should be there, in words.

use super::callables::callables;
use super::{Node, check::names};
use serde_json::Value;

/// What should be there.
pub(super) fn expected(node: &Node) -> String {
    match node {
        Node::Any => "any value".to_owned(),
        Node::Null => "null".to_owned(),
        Node::Bool => "`true` or `false`".to_owned(),
        Node::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Node::Number { single: false } => "a number".to_owned(),
        Node::Number { single: true } => "a number that an f32 can hold".to_owned(),
        Node::Text => "a text".to_owned(),
        Node::Char => "a text of one character".to_owned(),
        Node::Identifier => {
            "an identifier: a text without `/`, `@` and control characters".to_owned()
        }
        Node::Option(inner) => format!("{}, or null", expected(inner)),
        Node::List { length: None, .. } => "a list".to_owned(),
        Node::List { length: Some(length), .. } => format!("a list of {length} values"),
        Node::Tuple(items) => format!("a list of {} values", items.len()),
        Node::Map { .. } => "an object".to_owned(),
        Node::Record(members) => {
            let keys: Vec<String> = members.iter().map(|(key, _)| format!("`{key}`")).collect();
            format!("an object with {}", keys.join(" and "))
        }
        Node::Child(entry) => format!("a component of the kind `{}`", entry.kind),
        Node::AnyChild => "a component: an object with `kind`".to_owned(),
        Node::Artifact => {
            "a reference to a blob: `{\"$blob\": \"blake3:…\", \"size\": …}`".to_owned()
        }
        Node::Secret => "`env:NAME` or `file:path`, never the value".to_owned(),
        Node::Callable => {
            let known = callables();
            format!("the name of a callable of this program: {}", names(known))
        }
        #[cfg(feature = "schemars")]
        Node::Foreign(foreign) => foreign.expected(),
    }
}

/// What is there. Texts are cut; what may be a secret is not to be shown at all.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "found null".to_owned(),
        Value::String(text) if text.chars().count() > 40 => {
            let start: String = text.chars().take(40).collect();
            format!("found the text {:?}", format!("{start}…"))
        }
        Value::String(text) => format!("found the text {text:?}"),
        Value::Array(items) => format!("found a list of {}", items.len()),
        Value::Object(_) => "found an object".to_owned(),
        scalar => format!("found `{scalar}`"),
    }
}
