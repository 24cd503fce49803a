//! From an encoded tree and a snapshot to the plan of an apply.

use super::{
    Action, Change, Plan, PlannedComponent,
    diff::{Differ, changed_keys},
    jobs::{JobPlanner, Touched},
    outputs::OutputFacts,
};
use crate::{
    address::{Address, VersionRef},
    component::registry::Registry,
    encode::{DecodeEnv, Document, Record, Tree, encode_tree, in_decode_session},
    error::Result,
    json::check_readable,
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
    /// The root gets a new version whatever changed, and all its triggers run.
    pub(crate) again: bool,
    /// The components below the root get no jobs.
    pub(crate) only_root: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        ApplyOptions {
            jobs: true,
            retry_failed: true,
            adopt: false,
            again: false,
            only_root: false,
        }
    }
}

/// What a plan is made from, beside the encoded tree.
pub(crate) struct PlanInput<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) options: ApplyOptions,
    pub(crate) repairs: &'a Repairs,
    /// Older versions that components of the tree stand for where their content is the same, by
    /// `Kind/identifier`.
    pub(crate) pins: &'a HashMap<String, Vec<StoredVersion>>,
    /// The stored version that the root goes back to.
    pub(crate) back: Option<&'a StoredVersion>,
    /// What is on record of outputs, by `Kind/identifier`.
    pub(crate) facts: &'a HashMap<String, OutputFacts>,
}

/// A plan, and what it was made of.
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    /// For each component whether its content differs from that of the newest version, or that of a
    /// child does.
    pub(crate) content: Vec<bool>,
    /// For each component whether it stands for an older version.
    pub(crate) pinned: Vec<bool>,
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

/// Plan an apply, a repair or a rollback.
pub(crate) fn build(tree: &Arc<Tree>, input: &PlanInput<'_>) -> Result<Draft> {
    let mut builder = Builder::new(tree, input);
    for record in &tree.records {
        builder.add(record)?;
    }
    let Builder { components, touched, mut expect, notes, .. } = builder;
    let root = components.last().map_or_else(|| tree.root().address(), |root| root.address.clone());
    let mut planner =
        JobPlanner::new(tree, input.snapshot, &components, &touched, input.options, input.facts);
    planner.run();
    let JobPlanner { jobs, left_out, joins, clears_owed, copies, overwrites, stale, .. } = planner;
    let unlabelled = overwrites.iter().filter(|overwrite| overwrite.labels.is_empty());
    expect.extend(
        unlabelled.map(|overwrite| Expect::Unlabelled {
            address: overwrite.component.clone(),
            but: None,
        }),
    );
    let plan = Plan {
        purpose: RunPurpose::Apply,
        root,
        components,
        jobs,
        left_out,
        notes,
        joins: joins.into_iter().collect(),
        expect,
        sweep_epoch: input.snapshot.sweep_epoch,
        owes_jobs: !input.options.jobs,
        clears_owed,
        copies,
        overwrites,
        stale,
        tree: Some(tree.clone()),
        removal: None,
    };
    let content = touched.iter().map(|touched| touched.content).collect();
    let pinned = touched.iter().map(|touched| touched.pinned).collect();
    Ok(Draft { plan, content, pinned })
}

/// Decides what happens to each component, children first.
struct Builder<'a> {
    tree: &'a Tree,
    input: &'a PlanInput<'a>,
    by_path: HashMap<String, usize>,
    components: Vec<PlannedComponent>,
    touched: Vec<Touched>,
    expect: Vec<Expect>,
    notes: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(tree: &'a Tree, input: &'a PlanInput<'a>) -> Self {
        let records = tree.records.iter().enumerate();
        Builder {
            tree,
            input,
            by_path: records.map(|(index, record)| (record.path(), index)).collect(),
            components: Vec::with_capacity(tree.records.len()),
            touched: Vec::with_capacity(tree.records.len()),
            expect: Vec::with_capacity(tree.records.len()),
            notes: Vec::new(),
        }
    }

    /// Decide what happens to the next component, and note what a reader should know.
    fn add(&mut self, record: &Record) -> Result<()> {
        let input = self.input;
        let stored = input.snapshot.components.get(&record.path());
        let (mut component, mut touch) = self.decide(record, stored)?;
        if component.action == Action::NewVersion && component.content_of.is_none() {
            component.content_of =
                input.facts.get(&record.path()).and_then(|facts| facts.content_of);
        }
        self.expect.push(Expect::Newest {
            address: record.address(),
            state: stored.map(|stored| (stored.version(), stored.revision(), stored.removing)),
        });
        if let Some(stored) = stored.filter(|_| input.back.is_none()) {
            if let Err(error) = check_readable(
                &stored.document,
                format_args!("the stored document of `{}`", stored.address),
            ) {
                self.notes.push(format!("{error}; this apply replaces it"));
            }
            note_callables(&stored.document, record, &mut self.notes);
        }
        match input.repairs.0.get(&record.path()) {
            Some(_) if touch.pinned => {
                self.notes.push(format!(
                    "`{}` is not the newest version; it is not mended: refresh `{}`",
                    component.address,
                    record.path()
                ));
            }
            Some(Repair::Missing) => touch.missing = true,
            Some(Repair::Keys(keys)) => touch.keys.extend(keys.iter().cloned()),
            None => {}
        }
        self.components.push(component);
        self.touched.push(touch);
        Ok(())
    }

    fn decide(
        &self,
        record: &Record,
        stored: Option<&StoredVersion>,
    ) -> Result<(PlannedComponent, Touched)> {
        let mut document = record.body.clone();
        version_references(&mut document, &|path| {
            self.components.get(*self.by_path.get(path)?)?.address.version.map(|at| at.version)
        });
        let Some(stored) = stored else {
            let component = planned(record, Action::Create, at(record, 0, 0), document);
            return Ok((component, Touched { new: true, content: true, ..Touched::default() }));
        };
        let is_root = self.components.len() + 1 == self.tree.records.len();
        let back = self.input.back.filter(|_| is_root);
        if let Some(going) =
            [Some(stored), back].into_iter().flatten().find(|stored| stored.removing)
        {
            return Err(being_removed(&going.address.at(going.version())));
        }
        if let Some(back) = back {
            return Ok(self.go_back(record, stored, back));
        }
        let pins = self.input.pins.get(&record.path()).map(Vec::as_slice).unwrap_or_default();
        if let Some(pin) =
            pins.iter().find(|pin| !pin.removing && self.says_the_same(record, pin, &document))
        {
            let component =
                planned(record, Action::Unchanged, pin.address.clone(), pin.document.clone());
            let touch = Touched { pinned: true, ..Touched::default() };
            return Ok((PlannedComponent { from: Some(pin.address.clone()), ..component }, touch));
        }
        Ok(self.compare(record, stored, document, is_root && self.input.options.again))
    }

    /// Compare a component with its newest version.
    fn compare(
        &self,
        record: &Record,
        stored: &StoredVersion,
        document: Value,
        again: bool,
    ) -> (PlannedComponent, Touched) {
        let from = Some(stored.address.clone());
        let children = record.children.iter();
        let below: Vec<String> = children
            .filter(|child| self.touched[child.index].any())
            .map(|child| child.path.split(['.', '[']).next().unwrap_or_default().to_owned())
            .collect();
        let below_content = record.children.iter().any(|child| self.touched[child.index].content);
        let next = || at(record, stored.next_version, 0);
        let is_damaged = check_readable(&stored.document, "it").is_err();
        let old = self.comparable(record, stored, &document, is_damaged);
        if old == document {
            let touch =
                Touched { new: again, keys: below, content: below_content, ..Touched::default() };
            let component = if again {
                planned(record, Action::NewVersion, next(), document)
            } else {
                planned(record, Action::Unchanged, stored.address.clone(), stored.document.clone())
            };
            return (PlannedComponent { from, ..component }, touch);
        }
        let changes = self.changes(record, &old, &document);
        let is_mended = is_damaged && record.content_hash == stored.content_hash;
        let mut keys = if is_mended { Vec::new() } else { changed_keys(&old, &document) };
        keys.extend(below);
        let content =
            below_content || !is_mended && without_versions(&old) != without_versions(&document);
        let touch = Touched { keys, content, ..Touched::default() };
        let is_breaking = changes.iter().any(|change| change.breaking)
            && !(is_damaged && record.uuid == stored.uuid);
        if again || is_breaking {
            let component = planned(record, Action::NewVersion, next(), document);
            return (
                PlannedComponent { from, changes, ..component },
                Touched { new: true, ..touch },
            );
        }
        let component = planned(
            record,
            Action::Update,
            at(record, stored.version(), stored.revision() + 1),
            document,
        );
        (PlannedComponent { from, changes, ..component }, touch)
    }

    /// The document of the newest version, as far as it can be compared with `document`.
    ///
    /// A type that gained a defaulted field writes more than it did: what today's type makes of the
    /// row is compared.
    fn comparable(
        &self,
        record: &Record,
        stored: &StoredVersion,
        document: &Value,
        is_damaged: bool,
    ) -> Value {
        if stored.document == *document {
            document.clone()
        } else if is_damaged {
            // An apply mends it: all fields are new, and whether it is another version only the
            // hash on record tells.
            Value::Null
        } else {
            as_written_today(stored, record, self.tree, self.input.registry)
                .unwrap_or_else(|| stored.document.clone())
        }
    }

    /// Whether the document of a stored version says the same as one of today's type.
    fn says_the_same(&self, record: &Record, stored: &StoredVersion, document: &Value) -> bool {
        stored.document == *document
            || as_written_today(stored, record, self.tree, self.input.registry)
                .is_some_and(|today| today == *document)
    }

    /// The root becomes what a stored version is, document and hashes as they are.
    fn go_back(
        &self,
        record: &Record,
        newest: &StoredVersion,
        back: &StoredVersion,
    ) -> (PlannedComponent, Touched) {
        let component = planned(
            record,
            Action::NewVersion,
            at(record, newest.next_version, 0),
            back.document.clone(),
        );
        let component = PlannedComponent {
            from: Some(newest.address.clone()),
            content_of: Some(back.version()),
            uuid: back.uuid,
            content_hash: back.content_hash,
            changes: self.changes(record, &newest.document, &back.document),
            verbatim: Some(back.type_version),
            ..component
        };
        (component, Touched { new: true, content: true, ..Touched::default() })
    }

    fn changes(&self, record: &Record, old: &Value, new: &Value) -> Vec<Change> {
        let child_changes = |text: &str| -> Vec<Change> {
            let path = text.split('@').next().unwrap_or_default();
            self.by_path
                .get(path)
                .and_then(|index| self.components.get(*index))
                .map(|child| child.changes.clone())
                .unwrap_or_default()
        };
        let mut differ = Differ {
            fields: record.fields,
            singles: record.shape.singles(),
            child: &child_changes,
            changes: Vec::new(),
        };
        differ.compare(old, new);
        differ.changes
    }
}

fn at(record: &Record, version: u32, revision: u32) -> Address {
    Address { version: Some(VersionRef { version, revision: Some(revision) }), ..record.address() }
}

/// A component of the plan without anything to compare it with.
fn planned(record: &Record, action: Action, address: Address, document: Value) -> PlannedComponent {
    PlannedComponent {
        address,
        action,
        from: None,
        content_of: None,
        uuid: record.uuid,
        content_hash: record.content_hash,
        changes: Vec::new(),
        children: record.children.iter().map(|child| (child.path.clone(), child.index)).collect(),
        document,
        verbatim: None,
        singles: record.shape.singles().clone(),
    }
}

/// A document without the versions of its references.
fn without_versions(document: &Value) -> Value {
    let mut document = document.clone();
    strip_versions(&mut document, &mut HashMap::new());
    document
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
fn as_written_today(
    stored: &StoredVersion,
    record: &Record,
    tree: &Tree,
    registry: &Arc<Registry>,
) -> Option<Value> {
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
    let document = Document {
        address: record.address(),
        type_version: stored.type_version,
        body,
        outputs: serde_json::Map::new(),
    };
    let component =
        in_decode_session(&Arc::new(env), || (registry.entry(record.kind)?.decode)(&document))
            .ok()?;
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
                if let (Some(Value::String(name)), Some(Value::String(code))) =
                    (map.get("$callable"), map.get("code"))
                {
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
        if now.iter().any(|(other, same, newer)| *other == path && *same == name && *newer != code)
        {
            notes.push(format!(
                "`{}`: the body of callable `{name}` in `{path}` changed; no job runs for it",
                record.path()
            ));
        }
    }
}
