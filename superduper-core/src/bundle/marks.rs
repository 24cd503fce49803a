//! References in documents: to children and to blobs, with their places.

use crate::{
    Address, Digest, Result,
    encode::mark_of,
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
    walk(document, &mut String::new(), &mut found)?;
    Ok(found)
}

fn walk(value: &Value, path: &mut String, found: &mut References) -> Result<()> {
    let length = path.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, path, found)?;
                path.truncate(length);
            }
        }
        Value::Object(map) => match mark_of(map) {
            Some(("$ref", text)) => {
                let child: Address = text.parse().map_err(|error: crate::Error| error.context(format_args!("`{path}`")))?;
                found.children.push(EdgeRow { path: path.clone(), child });
            }
            Some(("$blob", text)) => {
                let size = map.get("size").and_then(Value::as_u64);
                let (Ok(digest), Some(size)) = (text.parse::<Digest>(), size) else {
                    return Err(crate::Error::new(
                        crate::ErrorKind::Decode,
                        format!("`{path}` is not a reference to a blob, with its digest and size"),
                    ));
                };
                found.blobs.push(BlobRow { path: path.clone(), digest, size });
            }
            Some(_) => {}
            None => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_unstable();
                for key in keys {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    walk(&map[key], path, found)?;
                    path.truncate(length);
                }
            }
        },
        _ => {}
    }
    Ok(())
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
