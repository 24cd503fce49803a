//! Value differences of documents, with paths.

use super::Change;
use crate::component::FieldSpec;
use serde_json::{Map, Value};

/// Collects the leaves in which two documents differ.
pub(crate) struct Differ<'a> {
    pub(crate) fields: &'a [FieldSpec],
    /// The changes inside a child, for a reference whose version moved.
    pub(crate) child: &'a dyn Fn(&str) -> Vec<Change>,
    pub(crate) changes: Vec<Change>,
}

impl Differ<'_> {
    /// Compare two bodies of a component.
    pub(crate) fn compare(&mut self, old: &Value, new: &Value) {
        let empty = Map::new();
        let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
        for key in keys(old, new) {
            let breaking = self.fields.iter().any(|field| field.breaking && field.key == key);
            self.value(key.clone(), old.get(&key), new.get(&key), breaking);
        }
    }

    fn value(&mut self, path: String, old: Option<&Value>, new: Option<&Value>, breaking: bool) {
        if old == new {
            return;
        }
        match (old, new) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                if let (Some(from), Some(to)) = (reference(a), reference(b)) {
                    if from.split('@').next() == to.split('@').next() {
                        let inside = (self.child)(to);
                        if !inside.is_empty() {
                            for change in inside {
                                self.changes.push(Change { path: format!("{path}.{}", change.path), breaking, ..change });
                            }
                            return;
                        }
                    }
                } else if !is_marked(a) && !is_marked(b) {
                    for key in keys(a, b) {
                        self.value(format!("{path}.{key}"), a.get(&key), b.get(&key), breaking);
                    }
                    return;
                }
                self.push(path, old, new, breaking);
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) if a.len().max(b.len()) <= 64 => {
                for index in 0..a.len().max(b.len()) {
                    self.value(format!("{path}[{index}]"), a.get(index), b.get(index), breaking);
                }
            }
            _ => self.push(path, old, new, breaking),
        }
    }

    fn push(&mut self, path: String, old: Option<&Value>, new: Option<&Value>, breaking: bool) {
        let secret = [old, new].into_iter().flatten().any(|value| value.get("$secret").is_some());
        self.changes.push(Change { path, old: old.map(shown), new: new.map(shown), breaking: breaking && !secret });
    }
}

/// A value as plans show it: secrets masked, references short.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.contains_key("$secret") => Value::String("***".to_owned()),
        Value::Object(map) if map.contains_key("$callable") => map["$callable"].clone(),
        Value::Object(map) => match reference(map) {
            Some(text) => Value::String(text.to_owned()),
            None => Value::Object(map.iter().map(|(key, value)| (key.clone(), shown(value))).collect()),
        },
        Value::Array(items) => Value::Array(items.iter().map(shown).collect()),
        other => other.clone(),
    }
}

/// The fields of a document as they are shown, by name.
pub(crate) fn shown_fields(document: &Value) -> Vec<(String, Value)> {
    let Value::Object(map) = document else { return Vec::new() };
    let mut fields: Vec<(String, Value)> = map.iter().map(|(key, value)| (key.clone(), shown(value))).collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn reference(map: &Map<String, Value>) -> Option<&str> {
    map.get("$ref").and_then(Value::as_str)
}

fn is_marked(map: &Map<String, Value>) -> bool {
    crate::encode::is_marked(map)
}

fn keys(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<String> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).cloned().collect();
    keys.sort_unstable();
    keys
}

/// The path of the first place where two documents differ.
pub(crate) fn first_difference(left: &Value, right: &Value) -> String {
    let mut differ = Differ { fields: &[], child: &|_| Vec::new(), changes: Vec::new() };
    differ.compare(left, right);
    differ.changes.into_iter().next().map(|change| change.path).unwrap_or_default()
}

/// The top-level keys in which two documents differ.
pub(super) fn changed_keys(old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    keys(old, new).into_iter().filter(|key| old.get(key) != new.get(key)).collect()
}
