//! Infinity and NaN in the states of checkpoints: marks with their bits.
//!
//! Invariant: a float comes back bit for bit, also the bits of a NaN. A mark is an object of one
//! key that begins with `$`; keys of users that do are escaped, so no user data looks like it.

use serde::de::{Error as _, Visitor};
use serde_json::{Error, Map, Value};

const F32: &str = "$f32";
const F64: &str = "$f64";

pub(super) fn mark_f32(value: f32) -> Value {
    mark(F32, format!("{:08x}", value.to_bits()))
}

pub(super) fn mark_f64(value: f64) -> Value {
    mark(F64, format!("{:016x}", value.to_bits()))
}

fn mark(key: &str, bits: String) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), Value::String(bits))]))
}

/// Whether a float inside of a stored value is marked.
pub(super) fn has_marks(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_marks),
        Value::Object(map) => is_mark(map) || map.values().any(has_marks),
        _ => false,
    }
}

/// Whether a stored object is the mark of a float.
pub(super) fn is_mark(map: &Map<String, Value>) -> bool {
    map.len() == 1 && (map.contains_key(F32) || map.contains_key(F64))
}

/// Give the float of a mark to a visitor.
pub(super) fn visit_mark<'de, V: Visitor<'de>>(
    map: &Map<String, Value>,
    visitor: V,
) -> Result<V::Value, Error> {
    let bits = |key| map.get(key).and_then(Value::as_str);
    let single = bits(F32).and_then(|bits| u32::from_str_radix(bits, 16).ok());
    let double = bits(F64).and_then(|bits| u64::from_str_radix(bits, 16).ok());
    match (single, double) {
        (Some(bits), _) => visitor.visit_f32(f32::from_bits(bits)),
        (None, Some(bits)) => visitor.visit_f64(f64::from_bits(bits)),
        (None, None) => Err(Error::custom("the mark of a float has no bits")),
    }
}
