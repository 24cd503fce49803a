//! Closing schemas: where a struct is, no other members may be.
//!
//! `unevaluatedProperties` is put where a value is described, not on the definitions: the
//! definition of a struct may be one part of a value, as of a tagged enum.

use serde_json::{Map, Value, json};

/// What a schema says of the members of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    /// It names some.
    Named,
    /// Any are fine, or the schema has a rule of its own.
    Free,
    /// It is not about objects.
    None,
}

/// Close the schema of a value.
pub(super) fn close(schema: &mut Value, types: &Map<String, Value>) {
    close_inside(schema, types);
    if members(schema, types, 0) == Members::Named
        && let Value::Object(schema) = schema
    {
        schema.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}

/// Close the schemas of the values inside of a value.
pub(super) fn close_inside(schema: &mut Value, types: &Map<String, Value>) {
    let Value::Object(map) = schema else { return };
    limit(map);
    for (keyword, part) in map.iter_mut() {
        match (keyword.as_str(), part) {
            ("properties" | "patternProperties", Value::Object(members)) => {
                members.values_mut().for_each(|member| close(member, types));
            }
            ("prefixItems", Value::Array(items)) => {
                items.iter_mut().for_each(|item| close(item, types));
            }
            ("items" | "additionalProperties", item) => close(item, types),
            ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => {
                parts.iter_mut().for_each(|part| close_inside(part, types));
            }
            _ => {}
        }
    }
}

fn members(schema: &Value, types: &Map<String, Value>, depth: usize) -> Members {
    let Value::Object(map) = schema else {
        return if *schema == Value::Bool(true) { Members::Free } else { Members::None };
    };
    if depth > 16 {
        return Members::Free;
    }
    let own = ["additionalProperties", "unevaluatedProperties", "patternProperties"];
    if own.iter().any(|keyword| map.contains_key(*keyword)) {
        return Members::Free;
    }
    let of = |part: &Value| members(part, types, depth + 1);
    let mut known = Vec::new();
    if map.contains_key("properties") {
        known.push(Members::Named);
    }
    if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next())
    {
        known.push(types.get(&decoded(name)).map_or(Members::Free, of));
    }
    if let Some(Value::Array(parts)) = map.get("allOf") {
        known.extend(parts.iter().map(of));
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(Value::Array(parts)) = map.get(keyword) else { continue };
        let parts: Vec<Members> = parts.iter().map(of).collect();
        // One that is free takes all members, and one that names them must not forbid that.
        known.push(match () {
            () if parts.contains(&Members::Free) => return Members::Free,
            () if parts.contains(&Members::Named) => Members::Named,
            () => Members::None,
        });
    }
    if known.contains(&Members::Named) {
        return Members::Named;
    }
    if known.contains(&Members::Free) {
        return Members::Free;
    }
    let about_others = match map.get("type") {
        Some(Value::String(one)) => one != "object",
        Some(Value::Array(some)) => !some.contains(&json!("object")),
        _ => map.contains_key("enum") || map.contains_key("const"),
    };
    if about_others || !known.is_empty() { Members::None } else { Members::Free }
}

/// The name in a `$ref`.
pub(super) fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace("~1", "/").replace("~0", "~")
}

/// Give a number the range of its type, which schemars names as a format.
fn limit(map: &mut Map<String, Value>) {
    let range = match map.get("format").and_then(Value::as_str) {
        Some("int8") => (json!(i8::MIN), json!(i8::MAX)),
        Some("int16") => (json!(i16::MIN), json!(i16::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64" | "int") => (json!(i64::MIN), json!(i64::MAX)),
        Some("int128") => (json!(i64::MIN), json!(u64::MAX)),
        Some("uint8") => (json!(u8::MIN), json!(u8::MAX)),
        Some("uint16") => (json!(u16::MIN), json!(u16::MAX)),
        Some("uint32") => (json!(u32::MIN), json!(u32::MAX)),
        Some("uint64" | "uint" | "uint128") => (json!(u64::MIN), json!(u64::MAX)),
        Some("float") => (json!(f64::from(f32::MIN)), json!(f64::from(f32::MAX))),
        _ => return,
    };
    if !["minimum", "exclusiveMinimum"].iter().any(|keyword| map.contains_key(*keyword)) {
        map.insert("minimum".to_owned(), range.0);
    }
    if !["maximum", "exclusiveMaximum"].iter().any(|keyword| map.contains_key(*keyword)) {
        map.insert("maximum".to_owned(), range.1);
    }
}
