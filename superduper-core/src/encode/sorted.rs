//! `#[serde(with = "superduper::sorted")]`: a set in an order that does not depend on the process.
//!
//! Hash sets iterate in an order of their own in every process, so a component that holds one would
//! look changed each time it is applied. Hash maps need nothing: the keys of a document are sorted.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use std::collections::{BTreeSet, HashSet};

/// A collection whose items can be written in order: the sets of the standard library, or one of your
/// own.
///
/// A bound on `&C: IntoIterator` would do, but the compiler gives up on it in programs that link a
/// crate with an `impl` of `IntoIterator` for references to itself.
pub trait Items {
    /// An item.
    type Item;

    /// All items, in any order.
    fn items(&self) -> impl Iterator<Item = &Self::Item>;
}

impl<T, S> Items for HashSet<T, S> {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

impl<T> Items for BTreeSet<T> {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

impl<T> Items for Vec<T> {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

/// Write the items in the order of their canonical JSON.
///
/// # Errors
/// Those of writing an item.
pub fn serialize<C, S>(items: &C, serializer: S) -> Result<S::Ok, S::Error>
where
    C: Items,
    C::Item: Serialize,
    S: Serializer,
{
    let mut sorted = Vec::new();
    for item in items.items() {
        // As documents are written: `serde_json` writes numbers in another way in some builds.
        let value = crate::encode::sort_key(item).map_err(S::Error::custom)?;
        let mut key = Vec::new();
        crate::digest::write_canonical(&value, &mut key);
        sorted.push((key, item));
    }
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    serializer.collect_seq(sorted.into_iter().map(|(_, item)| item))
}

/// Read the items.
///
/// # Errors
/// Those of reading an item.
pub fn deserialize<'de, C, T, D>(deserializer: D) -> Result<C, D::Error>
where
    C: FromIterator<T> + IntoIterator<Item = T>,
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Vec::deserialize(deserializer).map(|items| items.into_iter().collect())
}
