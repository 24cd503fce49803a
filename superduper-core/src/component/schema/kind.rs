//! One kind: its fields with their nodes, and its schema.

use super::{
    FieldPart, FieldType, Maker, Node, Role,
    defaults::in_document,
    render::{ARTIFACT, CALLABLE, COMPONENT, SECRET, render, shared},
};
use crate::{
    component::registry::{Registration, Registry},
    error::Result,
};
use serde_json::{Map, Value, json};
use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// The keyword of a schema that says that a change of the field makes a new version.
const BREAKING: &str = "x-superduper-breaking";
/// The keyword of a schema with the schema of what triggers put into an output.
const OUTPUT: &str = "x-superduper-output";

/// One kind.
pub(crate) struct KindForm {
    pub(super) entry: Registration,
    /// The key that names the kind in a document.
    pub(super) kind_key: &'static str,
    pub(super) fields: Vec<FieldForm>,
    /// The fields whose members stand in the document.
    pub(super) flat: Vec<FieldForm>,
    /// What users' types share.
    #[cfg(feature = "schemars")]
    pub(super) types: super::foreign::Types,
    schema: OnceLock<Value>,
}

/// One field.
pub(super) struct FieldForm {
    pub(super) part: FieldPart,
    pub(super) ty: FieldType,
    pub(super) node: Node,
}

/// The kinds that were looked at so far, by type.
#[derive(Clone, Default)]
pub(crate) struct KindForms(Arc<Mutex<HashMap<TypeId, Arc<KindForm>>>>);

impl KindForms {
    fn get(&self, registry: &Registry, entry: &Registration) -> Arc<KindForm> {
        let id = (entry.type_id)();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        known.unwrap_or_else(|| {
            let form = Arc::new(KindForm::new(registry, entry));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, form.clone());
            form
        })
    }
}

impl Registry {
    /// The JSON Schema (2020-12) of the documents of a kind, as [`Registry::decode`] reads them.
    ///
    /// It has what the derive sees: the doc comments of the struct and its fields (`title` is the
    /// first paragraph, `description` the rest), which fields are required, the defaults as values,
    /// the kinds of children, artifacts, secrets, and the callables of this program. A field with
    /// `#[component(breaking)]` has the keyword `x-superduper-breaking: true`. An `Output` is
    /// `readOnly`, and no document may have it; the schema of its value is in
    /// `x-superduper-output`.
    ///
    /// The types of fields need not do anything for it. Numbers, texts, containers of the standard
    /// library, components and superduper's own types have their schemas. With the feature
    /// `schemars` a type with `schemars::JsonSchema` has that one, closed to unknown members. All
    /// other types may be anything.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::{Registry, prelude::*};
    ///
    /// /// A small model.
    /// #[derive(Component)]
    /// #[component(kind = "doc.Small")]
    /// struct Small {
    ///     identifier: String,
    ///     /// The learning rate.
    ///     #[component(breaking)]
    ///     lr: f64,
    /// }
    ///
    /// let schema = Registry::linked()?.schema("doc.Small")?;
    /// let small = &schema["$defs"]["doc.Small"];
    /// assert_eq!(small["title"], "A small model.");
    /// assert_eq!(
    ///     small["properties"]["lr"],
    ///     json!({"type": "number", "title": "The learning rate.", "x-superduper-breaking": true})
    /// );
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// `UnknownKind`, with the kinds of this program.
    pub fn schema(&self, kind: &str) -> Result<Value> {
        let entry = self.entry(kind)?;
        let mut definitions = Map::new();
        let mut open = vec![*entry];
        while let Some(entry) = open.pop() {
            let key = definition_of(entry.kind);
            if definitions.contains_key(&key) {
                continue;
            }
            let form = self.form(&entry);
            definitions.insert(key, form.schema().clone());
            let mut uses = Uses::default();
            form.nodes().for_each(|node| uses.add(node));
            for name in uses.shared() {
                if !definitions.contains_key(name) {
                    definitions.insert(name.to_owned(), shared(name, &mut self.kinds()));
                }
            }
            open.append(&mut uses.children);
            if uses.component {
                open.extend(self.entries());
            }
        }
        Ok(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": entry.kind,
            "$ref": reference_to(entry.kind),
            "$defs": definitions,
        }))
    }

    pub(crate) fn form(&self, entry: &Registration) -> Arc<KindForm> {
        self.forms.get(self, entry)
    }
}

impl KindForm {
    fn new(registry: &Registry, entry: &Registration) -> Self {
        let pointer = format!("{}/$defs", reference_to(entry.kind).trim_start_matches('#'));
        let mut maker = Maker::new(registry, pointer);
        let parts = parts_of(entry);
        let mut fields: Vec<FieldForm> =
            parts.into_iter().map(|part| FieldForm::new(part, entry, &mut maker)).collect();
        #[cfg(feature = "schemars")]
        let types = super::foreign::Types::new(
            maker.generator,
            fields.iter_mut().map(|field| &mut field.node),
        );
        let flat = fields.extract_if(.., |field| field.part.role == Role::Flat).collect();
        let has_kind = fields.iter().any(|field| field.part.key == "kind");
        KindForm {
            entry: *entry,
            kind_key: if has_kind { "$kind" } else { "kind" },
            fields,
            flat,
            #[cfg(feature = "schemars")]
            types,
            schema: OnceLock::new(),
        }
    }

    /// The field that a document has under this key.
    pub(super) fn field(&self, key: &str) -> Option<&FieldForm> {
        self.fields.iter().find(|field| field.part.key == key && field.part.role != Role::Absent)
    }

    /// The keys that a document may have.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let stored = self.fields.iter().filter(|field| field.part.role == Role::Stored);
        std::iter::once(self.kind_key).chain(stored.map(|field| field.part.key))
    }

    /// Whether a document may have members that are not known here.
    pub(super) fn is_open(&self) -> bool {
        !self.flat.is_empty() && self.flat_schema().is_none()
    }

    /// The schema of the only flattened field, where it has one.
    fn flat_schema(&self) -> Option<Value> {
        match self.flat.as_slice() {
            [only] if !matches!(only.node, Node::Any | Node::Map { .. }) => {
                Some(render(&only.node))
            }
            _ => None,
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.fields.iter().chain(&self.flat).map(|field| &field.node)
    }

    fn schema(&self) -> &Value {
        self.schema.get_or_init(|| self.make_schema())
    }

    fn make_schema(&self) -> Value {
        let parts = self.entry.parts;
        let whole = parts.default.and_then(in_document);
        let mut properties = Map::new();
        properties.insert(self.kind_key.to_owned(), json!({"const": self.entry.kind}));
        let mut required = vec![self.kind_key];
        for field in self.fields.iter().filter(|field| field.part.role != Role::Absent) {
            properties.insert(field.part.key.to_owned(), field.schema(whole.as_ref()));
            required.extend(field.part.required.then_some(field.part.key));
        }
        let mut schema = Map::new();
        describe(&mut schema, parts.doc);
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema.insert("required".to_owned(), json!(required));
        match self.flat_schema() {
            Some(flat) => {
                schema.insert("allOf".to_owned(), json!([open(flat)]));
                schema.insert("unevaluatedProperties".to_owned(), json!(false));
            }
            None if self.is_open() => {}
            None => {
                schema.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        #[cfg(feature = "schemars")]
        if !self.types.schemas.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(self.types.schemas.clone()));
        }
        Value::Object(schema)
    }
}

/// A schema that stands beside others: what it does not know, they may.
fn open(mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema
        && schema.get("unevaluatedProperties") == Some(&Value::Bool(false))
    {
        schema.remove("unevaluatedProperties");
    }
    schema
}

impl FieldForm {
    fn new(part: FieldPart, entry: &Registration, maker: &mut Maker<'_>) -> Self {
        let unknown = FieldType { node: |_| Node::Any, check: None };
        let ty = part.ty.map_or(unknown, |ty| ty());
        let is_identifier = part.key == entry.spec.identifier && part.role == Role::Stored;
        let node = if is_identifier { Node::Identifier } else { (ty.node)(maker) };
        // An alias of `Option` does not show what it is.
        let required = part.required && !matches!(node, Node::Option(_));
        FieldForm { part: FieldPart { required, ..part }, ty, node }
    }

    fn schema(&self, whole: Option<&Value>) -> Value {
        let FieldPart { key, doc, role, breaking, default, .. } = self.part;
        let mut schema = match (role, render(&self.node)) {
            (Role::Output, value) => Map::from_iter([
                ("readOnly".to_owned(), json!(true)),
                ("not".to_owned(), json!({})),
                (OUTPUT.to_owned(), value),
            ]),
            (_, Value::Object(schema)) => schema,
            (_, other) => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        describe(&mut schema, doc);
        let default = default.and_then(in_document).or_else(|| whole?.get(key).cloned());
        if let Some(default) = default.filter(|_| !self.part.required) {
            schema.insert("default".to_owned(), default);
        }
        if breaking {
            schema.insert(BREAKING.to_owned(), json!(true));
        }
        Value::Object(schema)
    }
}

/// The fields as the derive wrote them; of a type without it, those that it says are stored.
fn parts_of(entry: &Registration) -> Vec<FieldPart> {
    if !entry.parts.fields.is_empty() {
        return entry.parts.fields.to_vec();
    }
    let stored = entry.spec.fields.iter().map(|field| FieldPart {
        name: field.name,
        key: field.key,
        doc: "",
        role: Role::Stored,
        breaking: field.breaking,
        required: field.key == entry.spec.identifier,
        aliases: &[],
        default: None,
        ty: None,
    });
    stored.collect()
}

/// The first paragraph of a doc comment as title, the rest as description.
fn describe(schema: &mut Map<String, Value>, doc: &str) {
    let lines: Vec<&str> =
        doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    let text = lines.join("\n");
    let text = text.trim();
    let (title, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    if !title.is_empty() {
        schema.insert("title".to_owned(), json!(title.replace('\n', " ")));
    }
    if !rest.trim().is_empty() {
        schema.insert("description".to_owned(), json!(rest.trim()));
    }
}

/// What the fields of a kind refer to.
#[derive(Default)]
struct Uses {
    children: Vec<Registration>,
    component: bool,
    shared: BTreeMap<&'static str, ()>,
}

impl Uses {
    fn add(&mut self, node: &Node) {
        match node {
            Node::Option(inner) => self.add(inner),
            Node::List { item, .. } => self.add(item),
            Node::Tuple(items) => items.iter().for_each(|item| self.add(item)),
            Node::Map { value, .. } => self.add(value),
            Node::Record(members) => members.iter().for_each(|(_, node)| self.add(node)),
            Node::Child(entry) => self.children.push(*entry),
            Node::AnyChild => {
                self.component = true;
                self.shared.insert(COMPONENT, ());
            }
            Node::Artifact => {
                self.shared.insert(ARTIFACT, ());
            }
            Node::Secret => {
                self.shared.insert(SECRET, ());
            }
            Node::Callable => {
                self.shared.insert(CALLABLE, ());
            }
            _ => {}
        }
    }

    fn shared(&self) -> impl Iterator<Item = &'static str> {
        self.shared.keys().copied()
    }
}

/// The name of a kind among the definitions. Names of users' types have no dot.
fn definition_of(kind: &str) -> String {
    if kind.contains('.') { kind.to_owned() } else { format!("component.{kind}") }
}

/// The `$ref` to the definition of a kind, or to one that kinds share.
pub(super) fn reference_to(kind: &str) -> String {
    let mut text = "#/$defs/".to_owned();
    for byte in definition_of(kind).bytes() {
        match byte {
            b'~' => text.push_str("~0"),
            b'/' => text.push_str("~1"),
            byte if byte.is_ascii_alphanumeric() || b"-._!$&'()*+,;=:@".contains(&byte) => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
