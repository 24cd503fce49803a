//! `#[serde(with = "superduper::sorted")]`: sets and maps without an order of their own, written in one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Write the items in the order of their canonical text, so that equal sets have equal documents.
///
/// # Errors
/// Those of the items.
pub fn serialize<C, S>(items: &C, serializer: S) -> Result<S::Ok, S::Error>
where
    for<'a> &'a C: IntoIterator<Item: Serialize>,
    S: Serializer,
{
    let mut texts: Vec<(Vec<u8>, Value)> = Vec::new();
    for item in items {
        let value = serde_json::to_value(item).map_err(serde::ser::Error::custom)?;
        let mut text = Vec::new();
        crate::digest::write_canonical(&value, &mut text);
        texts.push((text, value));
    }
    texts.sort_by(|a, b| a.0.cmp(&b.0));
    serializer.collect_seq(texts.into_iter().map(|(_, value)| value))
}

/// Read the items back.
///
/// # Errors
/// Those of the items.
pub fn deserialize<'de, C, D>(deserializer: D) -> Result<C, D::Error>
where
    C: Deserialize<'de>,
    D: Deserializer<'de>,
{
    C::deserialize(deserializer)
}
