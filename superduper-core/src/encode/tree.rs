//! An encoded tree of components: records, their references to each other and to blobs, their
//! hashes.

use super::{Document, shape::Shape};
use crate::{
    address::Address,
    artifact::BlobHandle,
    component::{Component, FieldSpec, policy::JobPolicy, trigger::TriggerSpec},
    digest::{Digest, Hasher},
    error::Result,
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// A child component at a place in its parent's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildUse {
    /// The place, as `layers[2].norm`.
    pub path: String,
    /// The child's index in [`Tree::records`].
    pub index: usize,
    /// `Kind/identifier` of the child, as its parent's document names it.
    pub address: String,
}

/// A blob at a place in a document.
#[derive(Debug, Clone)]
pub struct BlobUse {
    /// The place.
    pub path: String,
    /// The blob.
    pub handle: Arc<BlobHandle>,
}

/// One component of an encoded tree.
#[derive(Debug, Clone)]
pub struct Record {
    /// The wire name of its type.
    pub kind: &'static str,
    /// Its identifier.
    pub identifier: String,
    /// The version of the type's document.
    pub type_version: u32,
    /// The declared fields; children as `{"$ref": "Kind/identifier"}`, blobs as `{"$blob": …}`.
    pub body: Value,
    /// BLAKE3 of kind, identifier and breaking fields.
    pub uuid: Digest,
    /// BLAKE3 of all declared content, children by content.
    pub content_hash: Digest,
    /// The children, in document order.
    pub children: Vec<ChildUse>,
    /// The blobs, in document order.
    pub blobs: Vec<BlobUse>,
    /// The type's stored fields.
    pub fields: &'static [FieldSpec],
    /// Whether the type has hooks.
    pub lifecycle: bool,
    /// The type's triggers.
    pub triggers: Vec<&'static TriggerSpec>,
    /// For each trigger the required fields that are not set.
    pub unmet: Vec<Vec<&'static str>>,
    /// For each trigger how it is run, where the component says so itself.
    pub policies: Vec<Option<JobPolicy>>,
    /// What the document does not tell of the component's fields.
    pub(crate) shape: Shape,
}

/// An encoded tree: children before parents, the root last.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The components.
    pub records: Vec<Record>,
    /// All blobs met.
    pub blobs: Vec<Arc<BlobHandle>>,
}

impl Record {
    pub(super) fn new(
        component: &dyn Component,
        body: Value,
        shape: Shape,
        children: Vec<ChildUse>,
        blobs: Vec<BlobUse>,
    ) -> Self {
        let triggers = component.__trigger_specs();
        let unmet = triggers.iter().map(|trigger| component.__unmet(trigger.name)).collect();
        let policies = triggers.iter().map(|trigger| component.__policy(trigger.name)).collect();
        Record {
            kind: component.kind(),
            identifier: component.identifier().to_owned(),
            type_version: component.__spec().version,
            body,
            uuid: Digest::from_bytes([0; 32]),
            content_hash: Digest::from_bytes([0; 32]),
            children,
            blobs,
            fields: component.__spec().fields,
            lifecycle: component.__has_lifecycle(),
            triggers,
            unmet,
            policies,
            shape,
        }
    }

    /// `Kind/identifier`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind, self.identifier)
    }

    /// The component's address, without a version.
    pub fn address(&self) -> Address {
        Address::new(self.kind, self.identifier.as_str())
    }

    /// `Kind:identifier:uuid`.
    pub fn huuid(&self) -> String {
        format!("{}:{}:{}", self.kind, self.identifier, self.uuid.short())
    }

    /// The component as the decoder takes it: without version and outputs.
    pub(crate) fn document(&self) -> Document {
        Document {
            address: self.address(),
            type_version: self.type_version,
            body: self.body.clone(),
            outputs: serde_json::Map::new(),
        }
    }
}

impl Tree {
    /// The component that was encoded.
    pub fn root(&self) -> &Record {
        self.records.last().unwrap_or_else(|| unreachable!("a tree has its root"))
    }

    /// Hash all blobs that are not hashed yet, put their digests into the bodies, and hash the
    /// records.
    ///
    /// Reads whole blobs: call it where blocking is allowed.
    ///
    /// # Errors
    /// Those of reading a blob's source.
    pub fn finish(&mut self) -> Result<()> {
        let names: Vec<(String, Arc<BlobHandle>)> =
            self.blobs.iter().map(|blob| (blob.name(), blob.clone())).collect();
        for handle in &self.blobs {
            handle.hash()?;
        }
        self.finish_with(&names);
        Ok(())
    }

    /// [`Tree::finish`] for blobs that are hashed; `names` are the names they had in the bodies.
    pub(crate) fn finish_with(&mut self, names: &[(String, Arc<BlobHandle>)]) {
        let pending: HashMap<&str, &Arc<BlobHandle>> =
            names.iter().map(|(name, handle)| (name.as_str(), handle)).collect();
        for index in 0..self.records.len() {
            if !pending.is_empty() && !self.records[index].blobs.is_empty() {
                patch_pending(&mut self.records[index].body, &pending);
            }
            let (before, rest) = self.records.split_at_mut(index);
            let record = &mut rest[0];
            let children: HashMap<&str, usize> =
                record.children.iter().map(|child| (child.address.as_str(), child.index)).collect();
            let child = |text: &str| {
                children.get(text).map(|index| (before[*index].uuid, before[*index].content_hash))
            };
            (record.uuid, record.content_hash) =
                hashes(record.kind, &record.identifier, record.fields, &record.body, &child);
        }
    }
}

/// The uuid and the content hash of a document; `child` gives those of a child by the text of its
/// reference.
pub(crate) fn hashes(
    kind: &str,
    identifier: &str,
    fields: &[FieldSpec],
    body: &Value,
    child: &dyn Fn(&str) -> Option<(Digest, Digest)>,
) -> (Digest, Digest) {
    let breaking: Vec<&str> =
        fields.iter().filter(|field| field.breaking).map(|field| field.key).collect();
    let uuid = hash_body(
        (kind, identifier),
        body,
        |key| breaking.contains(&key),
        |text| child(text).map(|(uuid, _)| uuid),
        false,
    );
    let content = hash_body(
        (kind, identifier),
        body,
        |_| true,
        |text| child(text).map(|(_, content)| content),
        true,
    );
    (uuid, content)
}

/// The hash of those of a document's fields that are wanted; a reference counts as the hash of its
/// child.
pub(crate) fn hash_body(
    (kind, identifier): (&str, &str),
    body: &Value,
    wanted: impl Fn(&str) -> bool,
    child: impl Fn(&str) -> Option<Digest>,
    secrets: bool,
) -> Digest {
    let mut out = Vec::with_capacity(512);
    crate::digest::write_canonical(&Value::from(vec![kind, identifier]), &mut out);
    if let Value::Object(fields) = body {
        let mut keys: Vec<&String> = fields.keys().filter(|key| wanted(key)).collect();
        keys.sort_unstable();
        for key in keys {
            crate::digest::write_canonical(&Value::String(key.clone()), &mut out);
            let mut substitute = |mark: &str, text: &str, out: &mut Vec<u8>| match mark {
                "$ref" => {
                    if let Some(digest) = child(text) {
                        out.extend_from_slice(digest.as_bytes());
                    }
                    true
                }
                "$secret" => !secrets,
                // The name is the identity; the digest of the body beside it only serves notes in
                // plans.
                "$callable" => {
                    out.extend_from_slice(text.as_bytes());
                    true
                }
                _ => false,
            };
            write_substituted(&fields[key], &mut substitute, &mut out);
        }
    }
    let mut hasher = Hasher::new();
    hasher.update(&out);
    hasher.finish()
}

type Substitute<'a> = dyn FnMut(&str, &str, &mut Vec<u8>) -> bool + 'a;

fn write_substituted(value: &Value, substitute: &mut Substitute<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_substituted(item, substitute, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Object(map) => {
            if let Some((mark, text)) = mark_of(map)
                && substitute(mark, text, out)
            {
                return;
            }
            out.push(b'{');
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            for key in keys {
                crate::digest::write_string(key, out);
                out.push(b':');
                write_substituted(&map[key], substitute, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        scalar => crate::digest::write_canonical(scalar, out),
    }
}

/// The mark of an object that superduper wrote: `$ref`, `$blob`, `$secret`, `$callable`. User keys
/// are escaped.
pub(crate) fn mark_of(map: &serde_json::Map<String, Value>) -> Option<(&'static str, &str)> {
    if !map.keys().any(|key| key.starts_with('$')) {
        return None;
    }
    for mark in ["$ref", "$blob", "$secret", "$callable"] {
        if let Some(Value::String(text)) = map.get(mark) {
            return Some((mark, text));
        }
    }
    None
}

/// Whether superduper wrote the object, not the user.
pub(crate) fn is_marked(map: &serde_json::Map<String, Value>) -> bool {
    mark_of(map).is_some()
}

#[derive(Default)]
pub(super) struct Marks {
    pub(super) refs: Vec<(String, String)>,
    pub(super) blobs: Vec<(String, String)>,
    pub(super) secrets: Vec<(String, String)>,
}

/// The secrets of a body, with their paths and where they are read from.
pub(crate) fn secrets(body: &Value) -> Vec<(String, String)> {
    find_marks(body).secrets
}

/// All references and blobs of a body, with their paths.
pub(super) fn find_marks(body: &Value) -> Marks {
    let mut marks = Marks::default();
    walk(body, &Place::Root, &mut marks);
    marks
}

/// Visit the members of an object by key: what is made of a document must not depend on a feature
/// of `serde_json`.
pub(crate) fn in_order<'a>(
    map: &'a serde_json::Map<String, Value>,
    mut visit: impl FnMut(&'a String, &'a Value),
) {
    if map.keys().is_sorted() {
        return map.iter().for_each(|(key, item)| visit(key, item));
    }
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    members.into_iter().for_each(|(key, item)| visit(key, item));
}

/// The value with the members of its objects by key.
pub(crate) fn in_key_order(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(in_key_order).collect()),
        Value::Object(map) => {
            let mut members: Vec<(String, Value)> =
                map.into_iter().map(|(key, item)| (key, in_key_order(item))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        other => other,
    }
}

/// A place in a document; made into a text only where something is found there.
pub(super) enum Place<'a> {
    Root,
    Item(&'a Place<'a>, usize),
    Field(&'a Place<'a>, &'a str),
}

impl Place<'_> {
    fn write(&self, path: &mut String) {
        match self {
            Place::Root => {}
            Place::Item(outer, index) => {
                outer.write(path);
                path.push_str(&format!("[{index}]"));
            }
            Place::Field(outer, key) => {
                outer.write(path);
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
        }
    }

    pub(super) fn to_path(&self) -> String {
        let mut path = String::new();
        self.write(&mut path);
        path
    }
}

fn walk(value: &Value, place: &Place<'_>, marks: &mut Marks) {
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| walk(item, &Place::Item(place, index), marks)),
        Value::Object(map) => match mark_of(map) {
            Some(("$ref", text)) => marks.refs.push((place.to_path(), text.to_owned())),
            Some(("$blob", text)) => marks.blobs.push((place.to_path(), text.to_owned())),
            Some(("$secret", text)) => marks.secrets.push((place.to_path(), text.to_owned())),
            _ => in_order(map, |key, item| walk(item, &Place::Field(place, key), marks)),
        },
        _ => {}
    }
}

/// Replace the provisional names of blobs by their references.
pub(crate) fn patch_pending(value: &mut Value, pending: &HashMap<&str, &Arc<BlobHandle>>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| patch_pending(item, pending)),
        Value::Object(map) => {
            if let Some(("$blob", name)) = mark_of(map) {
                if let Some(reference) = pending.get(name).and_then(|handle| handle.reference()) {
                    *value = reference;
                }
            } else {
                map.values_mut().for_each(|item| patch_pending(item, pending));
            }
        }
        _ => {}
    }
}
