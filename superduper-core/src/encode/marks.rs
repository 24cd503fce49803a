//! The references in a document, result or output, with their places.

use super::tree::mark_of;
use crate::{
    digest::Digest,
    error::{Error, ErrorKind, Result},
};
use serde_json::{Map, Value};

/// A reference: its mark, such as `$blob`, the text of the mark, and the object that holds it.
pub(crate) struct Mark<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) object: &'a Map<String, Value>,
}

impl Mark<'_> {
    /// The digest and the size of a reference to a blob.
    ///
    /// # Errors
    /// `Decode`, with the place, where one of them is missing.
    pub(crate) fn blob(&self, path: &str) -> Result<(Digest, u64)> {
        let size = self.object.get("size").and_then(Value::as_u64);
        match (self.text.parse::<Digest>(), size) {
            (Ok(digest), Some(size)) => Ok((digest, size)),
            _ => {
                let text =
                    format!("`{path}` is not a reference to a blob, with its digest and size");
                Err(Error::new(ErrorKind::Decode, text))
            }
        }
    }
}

/// Visit all references in the order of their places; `path` is where the value stands.
pub(crate) fn visit_marks(
    value: &Value,
    path: &mut String,
    visit: &mut dyn FnMut(&str, Mark<'_>) -> Result<()>,
) -> Result<()> {
    let length = path.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                visit_marks(item, path, visit)?;
                path.truncate(length);
            }
        }
        Value::Object(object) => {
            if let Some((name, text)) = mark_of(object) {
                return visit(path, Mark { name, text, object });
            }
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable();
            for key in keys {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                visit_marks(&object[key], path, visit)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}
