//! What every component can do without a database: encode, decode, name itself, show itself.

use crate::{
    address::Address,
    component::{AsComponent, Component, ComponentType, registry::Registry},
    digest::Digest,
    encode::{DecodeEnv, Document, Tree, decode_body, encode_tree, in_decode_session},
    error::{Error, ErrorKind, Result},
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};

/// An encoded component: the documents of its tree, children first, and its blobs.
#[derive(Debug, Clone)]
pub struct Encoding {
    tree: Arc<Tree>,
}

impl Encoding {
    /// Encode a component and hash its blobs.
    pub(crate) fn of(component: &dyn Component) -> Result<Self> {
        let mut tree = encode_tree(component)?;
        tree.finish()?;
        Ok(Encoding { tree: Arc::new(tree) })
    }

    /// The records, children before parents, the component itself last.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The component's own document.
    pub fn document(&self) -> &Value {
        &self.tree.root().body
    }

    /// Digests and sizes of all blobs.
    pub fn blobs(&self) -> Vec<(Digest, u64)> {
        self.tree
            .blobs
            .iter()
            .filter_map(|blob| blob.hashed().map(|hashed| (hashed.digest, hashed.size)))
            .collect()
    }

    /// All documents as one JSON value.
    pub fn to_json(&self) -> Value {
        let documents: Vec<Value> = self
            .tree
            .records
            .iter()
            .map(|record| {
                json!({
                    "_format": 1,
                    "kind": record.kind,
                    "version": record.type_version,
                    "identifier": record.identifier,
                    "uuid": record.uuid.to_hex(),
                    "content_hash": record.content_hash.to_hex(),
                    "fields": record.body,
                })
            })
            .collect();
        Value::Array(documents)
    }
}

/// What every component can do without a database.
pub trait ComponentExt {
    /// Documents and blobs.
    ///
    /// # Errors
    /// `Encode` for what cannot be stored, with the field's path.
    fn encode(&self) -> Result<Encoding>;
    /// Kind and identifier.
    fn address(&self) -> Address;
    /// Hash of kind, identifier and breaking fields.
    ///
    /// # Errors
    /// As for `encode`.
    fn uuid(&self) -> Result<Digest>;
    /// The content label `Kind:identifier:uuid`; the same before and after apply.
    ///
    /// # Errors
    /// As for `encode`.
    fn huuid(&self) -> Result<String>;
    /// The tree of components as text.
    ///
    /// # Errors
    /// As for `encode`.
    fn show(&self) -> Result<String>;
    /// A component from its encoding; `postinit` runs.
    ///
    /// # Errors
    /// `Decode` where the encoding is of another kind, or a field does not fit.
    fn decode(encoding: &Encoding) -> Result<Self>
    where
        Self: ComponentType + Sized;
}

impl<T: AsComponent + ?Sized> ComponentExt for T {
    fn encode(&self) -> Result<Encoding> {
        Encoding::of(self.as_component())
    }

    fn address(&self) -> Address {
        let component = self.as_component();
        Address::new(component.kind(), component.identifier())
    }

    fn uuid(&self) -> Result<Digest> {
        Ok(self.encode()?.tree.root().uuid)
    }

    fn huuid(&self) -> Result<String> {
        Ok(self.encode()?.tree.root().huuid())
    }

    fn show(&self) -> Result<String> {
        let encoding = self.encode()?;
        let records = &encoding.tree.records;
        let mut text = String::new();
        let mut seen = HashSet::new();
        let mut stack = vec![(records.len().saturating_sub(1), String::new(), 0_usize)];
        while let Some((index, label, depth)) = stack.pop() {
            let record = &records[index];
            let again = !seen.insert(index);
            let pad = "  ".repeat(depth.min(40));
            text.push_str(&format!(
                "{pad}{label}{}{}\n",
                record.huuid(),
                if again { " (see above)" } else { "" }
            ));
            if again {
                continue;
            }
            for (key, value) in crate::encode::shown_fields(&record.body, record.shape.singles()) {
                if key != "identifier"
                    && !record
                        .children
                        .iter()
                        .any(|child| child.path.split(['.', '[']).next() == Some(&key))
                {
                    text.push_str(&format!("{pad}  {key}: {value}\n"));
                }
            }
            for child in record.children.iter().rev() {
                stack.push((child.index, format!("{}: ", child.path), depth + 1));
            }
        }
        Ok(text)
    }

    fn decode(encoding: &Encoding) -> Result<Self>
    where
        Self: ComponentType + Sized,
    {
        let env = decode_env(&encoding.tree, &Registry::global());
        in_decode_session(&Arc::new(env), || decode_body::<Self>(&encoding.tree.root().document()))
    }
}

/// Decode documents in the form of [`Encoding::to_json`], whoever wrote them; the last one is the
/// root. Nothing is believed of them: this is the door for fuzzing.
///
/// # Errors
/// `Decode` for what is no list of documents; those of decoding.
#[doc(hidden)]
pub fn decode_documents(documents: &[Value]) -> Result<Box<dyn Component>> {
    let registry = Registry::global();
    let documents = documents.iter().map(document).collect::<Result<Vec<_>>>()?;
    let root = documents
        .last()
        .cloned()
        .ok_or_else(|| Error::new(ErrorKind::Decode, "there is no document"))?;
    let mut env = DecodeEnv::new(registry.clone(), None);
    for document in documents {
        // As references name it: in a tree that is not stored, and in one that is.
        env.documents.insert(document.address.path(), document.clone());
        env.documents.insert(document.address.at(0).to_string(), document);
    }
    in_decode_session(&Arc::new(env), || (registry.entry(&root.address.kind)?.decode)(&root))
}

fn document(value: &Value) -> Result<Document> {
    let text = |name: &str| {
        let found = value.get(name).and_then(Value::as_str);
        found.ok_or_else(|| {
            Error::new(ErrorKind::Decode, format!("a document has no text `{name}`"))
        })
    };
    let address: Address = format!("{}/{}", text("kind")?, text("identifier")?).parse()?;
    let number = |name: &str| {
        value.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
    };
    let outputs = value.get("outputs").and_then(Value::as_object).cloned().unwrap_or_default();
    let body = value.get("fields").cloned().unwrap_or_default();
    Ok(Document { address, type_version: number("version").unwrap_or(1), body, outputs })
}

/// What decoding the root of an encoded tree refers to.
pub(crate) fn decode_env(tree: &Tree, registry: &Arc<Registry>) -> DecodeEnv {
    let mut env = DecodeEnv::new(registry.clone(), None).with_blobs(&tree.blobs);
    let children = tree.records.iter().rev().skip(1);
    env.documents.extend(children.map(|record| (record.path(), record.document())));
    env
}
