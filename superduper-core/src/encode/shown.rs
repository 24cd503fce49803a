//! Values of documents as people read them: secrets masked, references short.

use super::{ROOT, Singles, in_order, item, member};
use serde_json::{Map, Value};

/// A value as plans show it: secrets masked, references short.
pub(crate) fn shown(value: &Value) -> Value {
    shown_at(value, ROOT, &Singles::default())
}

/// A value at a place of a document as plans show it: numbers of 32 bits as short as they are.
pub(crate) fn shown_at(value: &Value, place: u64, singles: &Singles) -> Value {
    match value {
        Value::Object(map) if map.contains_key("$secret") => Value::String("***".to_owned()),
        Value::Object(map) if map.contains_key("$callable") => map["$callable"].clone(),
        Value::Object(map) => match reference(map) {
            Some(text) => Value::String(text.to_owned()),
            None => {
                let mut members = Map::new();
                in_order(map, |key, value| {
                    members.insert(key.clone(), shown_at(value, member(place, key), singles));
                });
                Value::Object(members)
            }
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|value| shown_at(value, item(place), singles)).collect())
        }
        Value::Number(number) if number.is_f64() && singles.contains(place) => {
            number.as_f64().and_then(single).map_or_else(|| value.clone(), Value::from)
        }
        other => other.clone(),
    }
}

/// The number whose text is the shortest one of a 32-bit number.
fn single(number: f64) -> Option<f64> {
    let short = number as f32;
    (f64::from(short) == number).then(|| short.to_string().parse().ok()).flatten()
}

/// The fields of a document as they are shown, by name.
pub(crate) fn shown_fields(document: &Value, singles: &Singles) -> Vec<(String, Value)> {
    let Value::Object(map) = document else { return Vec::new() };
    let mut fields = Vec::with_capacity(map.len());
    in_order(map, |key, value| {
        fields.push((key.clone(), shown_at(value, member(ROOT, key), singles)))
    });
    fields
}

/// The address in a reference to a child.
pub(crate) fn reference(map: &Map<String, Value>) -> Option<&str> {
    map.get("$ref").and_then(Value::as_str)
}
