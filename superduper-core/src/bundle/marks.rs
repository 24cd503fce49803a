//! References in documents: to children and to blobs, with their places.

use crate::{
    address::Address,
    encode::visit_marks,
    error::{Error, Result},
    store::{BlobRow, EdgeRow},
};
use serde_json::Value;

/// What a document, result or output refers to, in its order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct References {
    pub(crate) children: Vec<EdgeRow>,
    pub(crate) blobs: Vec<BlobRow>,
}

/// Find all references.
///
/// # Errors
/// `Decode` for a mark that is no reference, with its place.
pub(crate) fn references(document: &Value) -> Result<References> {
    let mut found = References::default();
    visit_marks(document, &mut String::new(), &mut |path, mark| {
        match mark.name {
            "$ref" => {
                let child: Address =
                    mark.text.parse().map_err(|error: Error| error.context(format!("`{path}`")))?;
                found.children.push(EdgeRow { path: path.to_owned(), child });
            }
            "$blob" => {
                let (digest, size) = mark.blob(path)?;
                found.blobs.push(BlobRow { path: path.to_owned(), digest, size });
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// Replace the texts of all references to children.
pub(super) fn rename_children(value: &mut Value, rename: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_children(item, rename)),
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("$ref") {
                if let Some(renamed) = rename(text) {
                    *text = renamed;
                }
            } else {
                map.values_mut().for_each(|item| rename_children(item, rename));
            }
        }
        _ => {}
    }
}
