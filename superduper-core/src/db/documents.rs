//! Documents that people write and that refer to stored components.

use super::Db;
use crate::{
    component::Component,
    encode::{DecodeEnv, Document},
    error::{ErrorKind, Result},
    store::StoredVersion,
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

impl Db {
    /// Read documents that people or programs write, strictly, as
    /// [`Registry::decode`](crate::Registry::decode) does; a reference `{"$ref": "Kind/identifier"}`
    /// may be to a stored component, too, also with a version or label: `acme.Layer/l1@prod`.
    ///
    /// Nothing is written. The components can be given to [`Db::apply`].
    ///
    /// # Errors
    /// Those of [`Registry::decode`](crate::Registry::decode), and those of the store.
    pub async fn decode_documents(&self, documents: &[Value]) -> Result<Vec<Box<dyn Component>>> {
        let db = self.inner();
        let mut env = DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone()));
        let mut references = BTreeSet::new();
        documents.iter().for_each(|document| collect(document, &mut references));
        for reference in references {
            let address = match self.resolve(reference).await {
                Ok(address) => address,
                // The address of another document, or a mistake that is reported with its place.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rows = db.metadata.tree(address).await?;
            for (place, row) in rows.into_iter().enumerate() {
                let key = row.address.at(row.version()).to_string();
                let StoredVersion { address, type_version, document, outputs, .. } = row;
                let document = Document { address, type_version, body: document, outputs };
                if place == 0 {
                    env.documents.insert(reference.to_owned(), document.clone());
                }
                env.documents.insert(key, document);
            }
        }
        crate::component::schema::decode(&Arc::new(env), documents)
    }
}

/// The references in a document.
fn collect<'a>(value: &'a Value, references: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}
