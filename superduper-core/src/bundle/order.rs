//! The order of components in a bundle.
//!
//! Invariant: children come before parents, and the order depends on the content only: on the
//! places of the children in the documents, and on which version of a component is the older one.

use super::marks::references;
use crate::{error::Result, store::StoredVersion};
use std::collections::{BTreeMap, HashMap};

/// The places of the versions of a tree, root first in `tree`, in the order of a bundle; the root
/// comes last.
pub(super) fn order(tree: &[StoredVersion]) -> Result<Vec<usize>> {
    let key = |stored: &StoredVersion| stored.address.at(stored.version()).to_string();
    let places: HashMap<String, usize> =
        tree.iter().enumerate().map(|(place, stored)| (key(stored), place)).collect();
    let mut children = Vec::with_capacity(tree.len());
    let mut versions: BTreeMap<String, BTreeMap<u32, usize>> = BTreeMap::new();
    for (place, stored) in tree.iter().enumerate() {
        let found = references(&stored.document)
            .map_err(|error| error.context(format_args!("`{}`", stored.address)))?;
        let below: Vec<usize> = found
            .children
            .iter()
            .filter_map(|edge| places.get(&edge.child.to_string()).copied())
            .collect();
        children.push(below);
        versions.entry(stored.address.path()).or_default().insert(stored.version(), place);
    }
    // Where a component is there in several versions, the older ones come first if nothing speaks
    // against it.
    let several = versions
        .into_values()
        .filter(|versions| versions.len() > 1)
        .flat_map(BTreeMap::into_values);
    let mut sorted = Vec::with_capacity(tree.len());
    let mut seen = vec![false; tree.len()];
    for start in several.chain(std::iter::once(0)).take_while(|_| !tree.is_empty()) {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        // An explicit stack: trees may be deeper than the thread's.
        let mut stack = vec![(start, 0)];
        while let Some((place, next)) = stack.pop() {
            match children[place].get(next) {
                Some(child) => {
                    stack.push((place, next + 1));
                    if !std::mem::replace(&mut seen[*child], true) {
                        stack.push((*child, 0));
                    }
                }
                None => sorted.push(place),
            }
        }
    }
    Ok(sorted)
}
