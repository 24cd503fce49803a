//! How one component is doing, as a store tells it.

use super::{JobBrief, ListedComponent, Reference};
use std::collections::{HashMap, HashSet};

/// One component of a listing, with the jobs that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentHealth {
    /// Its line in the listing.
    pub listed: ListedComponent,
    /// The newest jobs that did not succeed, of the component and of what it holds.
    pub unhealthy: Vec<JobBrief>,
}

/// A component and what it holds, directly or not, by `Kind/identifier`.
pub(super) fn below(path: &str, references: &[Reference]) -> HashSet<String> {
    let mut children: HashMap<String, Vec<String>> = HashMap::new();
    for reference in references {
        children.entry(reference.parent.path()).or_default().push(reference.child.path());
    }
    let mut found = HashSet::new();
    let mut stack = vec![path.to_owned()];
    while let Some(path) = stack.pop() {
        stack.extend(children.get(&path).into_iter().flatten().cloned());
        found.insert(path);
        stack.retain(|next| !found.contains(next));
    }
    found
}
