//! Value differences of documents, with paths.

use super::Change;
use crate::{
    component::FieldSpec,
    encode::{ROOT, Singles, item, member, reference, shown_at},
};
use serde_json::{Map, Value};

/// Collects the leaves in which two documents differ.
pub(crate) struct Differ<'a> {
    pub(crate) fields: &'a [FieldSpec],
    /// Where the component holds an `f32`.
    pub(crate) singles: &'a Singles,
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
            let field = self.fields.iter().find(|field| field.key == key);
            let (path, breaking) =
                field.map_or_else(|| (key.clone(), false), |field| (field.path(), field.breaking));
            self.value(path, member(ROOT, &key), (old.get(&key), new.get(&key)), breaking);
        }
    }

    fn value(
        &mut self,
        path: String,
        place: u64,
        (old, new): (Option<&Value>, Option<&Value>),
        breaking: bool,
    ) {
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
                                self.changes.push(Change {
                                    path: format!("{path}.{}", change.path),
                                    breaking,
                                    ..change
                                });
                            }
                            return;
                        }
                    }
                } else if !is_marked(a) && !is_marked(b) {
                    for key in keys(a, b) {
                        self.value(
                            format!("{path}.{key}"),
                            member(place, &key),
                            (a.get(&key), b.get(&key)),
                            breaking,
                        );
                    }
                    return;
                }
                self.push(path, place, (old, new), breaking);
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) if a.len().max(b.len()) <= 64 => {
                for index in 0..a.len().max(b.len()) {
                    self.value(
                        format!("{path}[{index}]"),
                        item(place),
                        (a.get(index), b.get(index)),
                        breaking,
                    );
                }
            }
            _ => self.push(path, place, (old, new), breaking),
        }
    }

    fn push(
        &mut self,
        path: String,
        place: u64,
        (old, new): (Option<&Value>, Option<&Value>),
        breaking: bool,
    ) {
        let secret = [old, new].into_iter().flatten().any(|value| value.get("$secret").is_some());
        let show = |value| shown_at(value, place, self.singles);
        self.changes.push(Change {
            path,
            old: old.map(show),
            new: new.map(show),
            breaking: breaking && !secret,
        });
    }
}

fn is_marked(map: &Map<String, Value>) -> bool {
    crate::encode::is_marked(map)
}

fn keys(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<String> =
        a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).cloned().collect();
    keys.sort_unstable();
    keys
}

/// The top-level keys in which two documents differ.
pub(super) fn changed_keys(old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    keys(old, new).into_iter().filter(|key| old.get(key) != new.get(key)).collect()
}
