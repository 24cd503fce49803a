//! Defaults of fields as values of a document.

use super::DefaultOf;
use crate::{component::ComponentType, encode::Encoded, error::Result, panics::caught};
use serde::Serialize;
use serde_json::{Map, Value};

/// The default of a field, as it is stored.
///
/// # Errors
/// Those of encoding it.
pub fn default_value<T: Serialize>(value: &T) -> Result<Value> {
    Ok(Encoded::of(value)?.value().clone())
}

/// The default of a whole component, as it is stored.
///
/// # Errors
/// Those of encoding it.
pub fn default_body<T: ComponentType>(component: &T) -> Result<Value> {
    struct Body<'a, T>(&'a T);
    impl<T: ComponentType> Serialize for Body<'_, T> {
        fn serialize<S: serde::Serializer>(
            &self,
            serializer: S,
        ) -> std::result::Result<S::Ok, S::Error> {
            self.0.__serialize_body(serializer)
        }
    }
    default_value(&Body(component))
}

/// The value as a document has it. None where the default cannot be made, or has no place in a
/// document: it holds an artifact that is not saved.
pub(super) fn in_document(default: DefaultOf) -> Option<Value> {
    to_document(caught(|| "a default".to_owned(), default).ok()?)
}

/// A stored value in the form of documents.
fn to_document(value: Value) -> Option<Value> {
    match value {
        Value::Array(items) => {
            items.into_iter().map(to_document).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Value::Object(map) => {
            if map.get("$blob").is_some_and(|name| name.as_str().is_some_and(is_pending)) {
                return None;
            }
            if let (Some(kind), Some(Value::Object(body))) = (map.get("$kind"), map.get("$body")) {
                let key = if body.contains_key("kind") { "$kind" } else { "kind" };
                let mut component = Map::from_iter([(key.to_owned(), kind.clone())]);
                for (key, value) in body {
                    component.insert(key.clone(), to_document(value.clone())?);
                }
                return Some(Value::Object(component));
            }
            let members = map.into_iter().map(|(key, value)| {
                // Keys of users that begin with `$` are stored with another one in front.
                let key = if key.starts_with("$$") { key[1..].to_owned() } else { key };
                Some((key, to_document(value)?))
            });
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        scalar => Some(scalar),
    }
}

fn is_pending(name: &str) -> bool {
    name.starts_with("pending:")
}
