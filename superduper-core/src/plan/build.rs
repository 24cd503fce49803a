//! From an encoded tree and a snapshot to the plan of an apply.

use super::{
    Action, Change, Plan, PlannedComponent,
    diff::{Differ, changed_keys},
    jobs::{JobPlanner, Touched},
};
use crate::{
    Address, Result, VersionRef,
    encode::{DecodeEnv, Document, Record, Tree, encode_tree, in_decode_session},
    registry::Registry,
    store::{Expect, RunPurpose, Snapshot, StoredVersion, being_removed},
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// What the caller of apply chose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApplyOptions {
    pub(crate) jobs: bool,
    pub(crate) retry_failed: bool,
    pub(crate) adopt: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        ApplyOptions { jobs: true, retry_failed: true, adopt: false }
    }
}

/// What has to be done again for components whose declaration did not change, by `Kind/identifier`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repairs(pub(crate) HashMap<String, Repair>);

/// What is not outside as it is declared.
#[derive(Debug, Clone)]
pub(crate) enum Repair {
    /// The whole of it: it is created again.
    Missing,
    /// These top-level keys.
    Keys(Vec<String>),
}

/// Plan an apply.
pub(crate) fn build(
    tree: &Arc<Tree>,
    snapshot: &Snapshot,
    registry: &Arc<Registry>,
    options: ApplyOptions,
    repairs: &Repairs,
) -> Result<Plan> {
    let mut components: Vec<PlannedComponent> = Vec::with_capacity(tree.records.len());
    let mut touched: Vec<Touched> = Vec::with_capacity(tree.records.len());
    let mut expect = Vec::with_capacity(tree.records.len());
    let mut notes = Vec::new();
    let by_path: HashMap<String, usize> = tree.records.iter().enumerate().map(|(index, record)| (record.path(), index)).collect();
    for record in &tree.records {
        let stored = snapshot.components.get(&record.path());
        let (component, mut touch) = decide(record, stored, tree, registry, &components, &touched, &by_path)?;
        expect.push(Expect::Newest {
            address: record.address(),
            state: stored.map(|stored| (stored.version(), stored.revision(), stored.removing)),
        });
        if let Some(stored) = stored {
            note_callables(&stored.document, record, &mut notes);
        }
        match repairs.0.get(&record.path()) {
            Some(Repair::Missing) => touch.missing = true,
            Some(Repair::Keys(keys)) => touch.keys.extend(keys.iter().cloned()),
            None => {}
        }
        components.push(component);
        touched.push(touch);
    }
    let root = components.last().map_or_else(|| tree.root().address(), |root| root.address.clone());
    let mut planner = JobPlanner::new(tree, snapshot, &components, &touched, options);
    planner.run();
    let JobPlanner { jobs, left_out, joins, clears_owed, .. } = planner;
    Ok(Plan {
        purpose: RunPurpose::Apply,
        root,
        components,
        jobs,
        left_out,
        notes,
        joins: joins.into_iter().collect(),
        expect,
        sweep_epoch: snapshot.sweep_epoch,
        owes_jobs: !options.jobs,
        clears_owed,
        tree: Some(tree.clone()),
        removal: None,
    })
}

fn decide(
    record: &Record,
    stored: Option<&StoredVersion>,
    tree: &Tree,
    registry: &Arc<Registry>,
    components: &[PlannedComponent],
    touched: &[Touched],
    by_path: &HashMap<String, usize>,
) -> Result<(PlannedComponent, Touched)> {
    let mut document = record.body.clone();
    version_references(&mut document, &|path| components.get(*by_path.get(path)?)?.address.version.map(|at| at.version));
    let children: Vec<(String, usize)> = record.children.iter().map(|child| (child.path.clone(), child.index)).collect();
    let below: Vec<String> = children
        .iter()
        .filter(|(_, index)| touched[*index].any())
        .map(|(path, _)| path.split(['.', '[']).next().unwrap_or_default().to_owned())
        .collect();
    let planned = |action, address, from, changes, document| PlannedComponent {
        address,
        action,
        from,
        content_of: None,
        uuid: record.uuid,
        content_hash: record.content_hash,
        changes,
        children: children.clone(),
        document,
    };
    let at = |version, revision| Address { version: Some(VersionRef { version, revision: Some(revision) }), ..record.address() };
    let Some(stored) = stored else {
        return Ok((planned(Action::Create, at(0, 0), None, Vec::new(), document), Touched { new: true, ..Touched::default() }));
    };
    if stored.removing {
        return Err(being_removed(&stored.address.at(stored.version())));
    }
    let from = Some(stored.address.clone());
    if document == stored.document {
        let touch = Touched { keys: below, ..Touched::default() };
        return Ok((planned(Action::Unchanged, stored.address.clone(), from, Vec::new(), document), touch));
    }
    // A type that gained a defaulted field writes more than it did: compare what today's type makes of the row.
    let old = as_written_today(stored, record, tree, registry).unwrap_or_else(|| stored.document.clone());
    if old == document {
        let touch = Touched { keys: below, ..Touched::default() };
        return Ok((planned(Action::Unchanged, stored.address.clone(), from, Vec::new(), stored.document.clone()), touch));
    }
    let child_changes = |text: &str| -> Vec<Change> {
        let path = text.split('@').next().unwrap_or_default();
        by_path.get(path).and_then(|index| components.get(*index)).map(|child| child.changes.clone()).unwrap_or_default()
    };
    let mut differ = Differ { fields: record.fields, child: &child_changes, changes: Vec::new() };
    differ.compare(&old, &document);
    let changes = differ.changes;
    let mut keys = changed_keys(&old, &document);
    keys.extend(below);
    if changes.iter().any(|change| change.breaking) {
        let address = at(stored.next_version, 0);
        return Ok((planned(Action::NewVersion, address, from, changes, document), Touched { new: true, keys, missing: false }));
    }
    let address = at(stored.version(), stored.revision() + 1);
    Ok((planned(Action::Update, address, from, changes, document), Touched { keys, ..Touched::default() }))
}

/// Put versions on the references of a document.
fn version_references(value: &mut Value, version: &dyn Fn(&str) -> Option<u32>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| version_references(item, version)),
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("$ref") {
                if let Some(version) = version(text) {
                    text.push_str(&format!("@{version}"));
                }
            } else {
                map.values_mut().for_each(|item| version_references(item, version));
            }
        }
        _ => {}
    }
}

/// The stored document as today's type writes it, with the stored versions on its references.
///
/// `None` where today's type cannot read it; the plan then compares the raw document.
fn as_written_today(stored: &StoredVersion, record: &Record, tree: &Tree, registry: &Arc<Registry>) -> Option<Value> {
    if stored.type_version > record.type_version {
        return None;
    }
    let mut body = stored.document.clone();
    let mut versions = HashMap::new();
    strip_versions(&mut body, &mut versions);
    let mut env = DecodeEnv::new(registry.clone(), None).with_blobs(&tree.blobs);
    for other in &tree.records {
        if versions.contains_key(&other.path()) {
            add_with_children(&mut env, tree, other);
        }
    }
    let document = Document { address: record.address(), type_version: stored.type_version, body, outputs: serde_json::Map::new() };
    let component = in_decode_session(&Arc::new(env), || (registry.entry(record.kind)?.decode)(&document)).ok()?;
    let mut again = encode_tree(&*component).ok()?;
    let mut body = std::mem::take(&mut again.records.last_mut()?.body);
    version_references(&mut body, &|path| versions.get(path).copied());
    Some(body)
}

fn add_with_children(env: &mut DecodeEnv, tree: &Tree, record: &Record) {
    let mut stack = vec![record];
    while let Some(record) = stack.pop() {
        let path = record.path();
        if env.documents.contains_key(&path) {
            continue;
        }
        env.documents.insert(path, record.document());
        stack.extend(record.children.iter().map(|child| &tree.records[child.index]));
    }
}

fn strip_versions(value: &mut Value, versions: &mut HashMap<String, u32>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| strip_versions(item, versions)),
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("$ref") {
                if let Some((path, version)) = text.split_once('@') {
                    let (path, version) = (path.to_owned(), version.parse().unwrap_or(0));
                    versions.insert(path.clone(), version);
                    *text = path;
                }
            } else {
                map.values_mut().for_each(|item| strip_versions(item, versions));
            }
        }
        _ => {}
    }
}

/// A changed body of a callable makes no version; the plan says so all the same.
fn note_callables(old: &Value, record: &Record, notes: &mut Vec<String>) {
    fn walk<'a>(value: &'a Value, path: &mut String, found: &mut Vec<(String, &'a str, &'a str)>) {
        let length = path.len();
        match value {
            Value::Object(map) => {
                if let (Some(Value::String(name)), Some(Value::String(code))) = (map.get("$callable"), map.get("code")) {
                    found.push((path.clone(), name, code));
                    return;
                }
                for (key, item) in map {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    walk(item, path, found);
                    path.truncate(length);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    walk(item, path, found);
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }
    let mut before = Vec::new();
    walk(old, &mut String::new(), &mut before);
    if before.is_empty() {
        return;
    }
    let mut now = Vec::new();
    walk(&record.body, &mut String::new(), &mut now);
    for (path, name, code) in before {
        if now.iter().any(|(other, same, newer)| *other == path && *same == name && *newer != code) {
            notes.push(format!("`{}`: the body of callable `{name}` in `{path}` changed; no job runs for it", record.path()));
        }
    }
}
