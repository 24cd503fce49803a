//! Nodes as JSON Schema.

use super::callables::callables;
use super::{Node, kind::reference_to};
use serde_json::{Map, Value, json};

/// The definitions that kinds share.
pub(super) const ARTIFACT: &str = "superduper.Artifact";
pub(super) const SECRET: &str = "superduper.Secret";
pub(super) const CALLABLE: &str = "superduper.Callable";
pub(super) const COMPONENT: &str = "superduper.Component";

/// The schema of a node.
pub(super) fn render(node: &Node) -> Value {
    match node {
        Node::Any => json!({}),
        Node::Null => json!({"type": "null"}),
        Node::Bool => json!({"type": "boolean"}),
        Node::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Node::Number { single: false } => json!({"type": "number"}),
        Node::Number { single: true } => {
            json!({"type": "number", "minimum": f64::from(f32::MIN), "maximum": f64::from(f32::MAX)})
        }
        Node::Text => json!({"type": "string"}),
        Node::Char => json!({"type": "string", "minLength": 1, "maxLength": 1}),
        Node::Identifier => json!({
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[^/@\\u0000-\\u001f\\u007f-\\u009f]+$",
        }),
        Node::Option(inner) => match render(inner) {
            // All values are allowed, null too.
            Value::Object(any) if any.is_empty() => json!({}),
            inner => json!({"anyOf": [inner, {"type": "null"}]}),
        },
        Node::List { item, length } => render_list(item, *length),
        Node::Tuple(items) => json!({
            "type": "array",
            "prefixItems": items.iter().map(render).collect::<Vec<_>>(),
            "items": false,
            "minItems": items.len(),
        }),
        Node::Map { key, value } => render_map(key.pattern(), value),
        Node::Record(members) => json!({
            "type": "object",
            "properties": members
                .iter()
                .map(|(key, node)| ((*key).to_owned(), render(node)))
                .collect::<Map<_, _>>(),
            "required": members.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            "additionalProperties": false,
        }),
        Node::Child(entry) => json!({"anyOf": [
            {"$ref": reference_to(entry.kind)},
            stored(Some(entry.kind)),
        ]}),
        Node::AnyChild => json!({"$ref": reference_to(COMPONENT)}),
        Node::Artifact => json!({"$ref": reference_to(ARTIFACT)}),
        Node::Secret => json!({"$ref": reference_to(SECRET)}),
        Node::Callable => json!({"$ref": reference_to(CALLABLE)}),
        #[cfg(feature = "schemars")]
        Node::Foreign(foreign) => foreign.schema.clone(),
    }
}

/// A list, of any length where none is given.
fn render_list(item: &Node, length: Option<usize>) -> Value {
    let mut list = json!({"type": "array", "items": render(item)});
    if let Some(length) = length {
        list["minItems"] = json!(length);
        list["maxItems"] = json!(length);
    }
    list
}

/// A map whose keys match a pattern, where one is given.
fn render_map(keys: Option<String>, value: &Node) -> Value {
    let mut map = json!({"type": "object", "additionalProperties": render(value)});
    if let Some(keys) = keys {
        map["propertyNames"] = json!({"pattern": keys});
    }
    map
}

/// A reference to a component that is stored, or that is another one of the documents.
fn stored(kind: Option<&str>) -> Value {
    let kind = kind.map_or_else(|| "[^/@:\\s]+".to_owned(), pattern_of);
    let pattern = format!(
        "^{kind}/[^/@\\u0000-\\u001f\\u007f-\\u009f]+(@[^/@\\u0000-\\u001f\\u007f-\\u009f]+)?$"
    );
    json!({
        "type": "object",
        "properties": {"$ref": {"type": "string", "pattern": pattern}},
        "required": ["$ref"],
        "additionalProperties": false,
    })
}

/// A regular expression for exactly this text.
fn pattern_of(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\^$.|?*+()[]{}".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// A parameter of a callable that a runtime runs.
fn parameter() -> Value {
    json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "ty": {"type": "string"}},
        "required": ["name", "ty"],
        "additionalProperties": false,
    })
}

/// A definition that kinds share; `kinds` are all that a program knows.
pub(super) fn shared(name: &str, kinds: &mut dyn Iterator<Item = &'static str>) -> Value {
    match name {
        ARTIFACT => json!({
            "type": "object",
            "properties": {
                "$blob": {"type": "string", "pattern": "^(blake3:)?[0-9a-fA-F]{64}$"},
                "size": {"type": "integer", "minimum": 0, "maximum": u64::MAX},
            },
            "required": ["$blob", "size"],
            "description": "A blob in the artifact store, by its digest. Other members belong to its format.",
        }),
        SECRET => {
            let place = json!({"type": "string", "pattern": "^(env|file):[\\s\\S]+$"});
            json!({
                "anyOf": [place, {
                    "type": "object",
                    "properties": {"$secret": place},
                    "required": ["$secret"],
                    "additionalProperties": false,
                }],
                "description": "Where the value is, `env:NAME` or `file:path`; never the value.",
            })
        }
        CALLABLE => {
            let names = json!({"enum": callables()});
            json!({
                "anyOf": [names, {
                    "type": "object",
                    "properties": {"$callable": names, "code": {"type": "string"}},
                    "required": ["$callable"],
                    "additionalProperties": false,
                }, {
                    "type": "object",
                    "properties": {
                        "$runtime": {"type": "string"},
                        "artifact": shared(ARTIFACT, kinds),
                        "params": {"type": "array", "items": parameter()},
                    },
                    "required": ["$runtime", "artifact"],
                    "additionalProperties": false,
                }],
                "description": "A callable of this program, by name, or code that a runtime runs.",
            })
        }
        _ => {
            let mut any: Vec<Value> =
                kinds.map(|kind| json!({"$ref": reference_to(kind)})).collect();
            any.push(stored(None));
            json!({"anyOf": any, "description": "A component of any kind."})
        }
    }
}
