//! Whether this program can use what a bundle holds: kinds, type versions, fields.

use super::open::Bundle;
use crate::{
    db::Db,
    encode::{DecodeEnv, Document, Singles, encode_tree, in_decode_session},
    error::{Error, ErrorKind, Result},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Decode all components as a load would: what is imported can be loaded.
///
/// With `allow_unknown`, components of kinds that this program does not know are let in unseen, and
/// with them those that hold them. Gives where components hold an `f32`, for the plan.
pub(super) fn check_kinds(
    db: &Db,
    bundle: &Bundle,
    allow_unknown: bool,
) -> Result<HashMap<String, Singles>> {
    let registry = &db.inner().registry;
    let mut unknown = BTreeSet::new();
    let mut first = None;
    for (index, node) in bundle.nodes.iter().enumerate() {
        match registry.entry(&node.address.kind) {
            Ok(entry) if node.type_version > entry.spec.version => {
                let (theirs, ours) = (node.type_version, entry.spec.version);
                return Err(Error::new(
                    ErrorKind::Decode,
                    format!("`{}` was written by version {theirs} of its type; this program has version {ours}", node.address),
                )
                .with_hint("import it with a build that has the newer type"));
            }
            Ok(_) => {}
            Err(error) => {
                first.get_or_insert(error.context(format_args!("`{}`", node.address)));
                unknown.insert(index);
            }
        }
    }
    if let Some(error) = first.filter(|_| !allow_unknown) {
        return Err(error.with_hint("link the crate that defines the type, or `.allow_unknown()` to store what this program cannot load"));
    }
    let mut env = DecodeEnv::new(registry.clone(), Some(db.inner().artifacts.clone()));
    env.documents.extend(
        (0..bundle.nodes.len())
            .map(|index| (bundle.nodes[index].address.to_string(), document(bundle, index))),
    );
    let env = Arc::new(env);
    // The root decodes all below it. Where something unknown is in the way, its parts are decoded
    // one by one.
    let mut covered = BTreeSet::new();
    let mut singles = HashMap::new();
    for index in (0..bundle.nodes.len()).rev() {
        if covered.contains(&index) || unknown.contains(&index) {
            continue;
        }
        let below = bundle.below(index);
        if below.is_disjoint(&unknown) {
            let entry = registry.entry(&bundle.nodes[index].address.kind)?;
            let component = in_decode_session(&env, || (entry.decode)(&document(bundle, index)))?;
            // What cannot be encoded again was not written by this program; it is stored as it is.
            if let Ok(tree) = encode_tree(&*component) {
                singles.extend(
                    tree.records
                        .iter()
                        .map(|record| (record.path(), record.shape.singles().clone())),
                );
            }
            covered.extend(below);
        }
    }
    Ok(singles)
}

fn document(bundle: &Bundle, index: usize) -> Document {
    let node = &bundle.nodes[index];
    Document {
        address: node.address.clone(),
        type_version: node.type_version,
        body: node.fields.clone(),
        outputs: node
            .outputs
            .iter()
            .map(|output| (output.name.clone(), output.value.clone()))
            .collect(),
    }
}
