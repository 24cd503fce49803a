//! What an import would do: pure, made from the bundle and a snapshot.
//!
//! Each component becomes what an apply of it would make: new, unchanged, a revision or a version.
//! In addition nothing that is stored is overwritten: where outputs differ, or two versions of one
//! component come along, they become versions.

use super::{
    marks::rename_children,
    open::{Bundle, Node},
};
use crate::{
    address::{Address, VersionRef},
    component::registry::Registry,
    encode::Singles,
    error::{Error, Result},
    plan::{Action, Change, Differ, NeededJob, Plan, PlannedComponent, PlannedJob, PlannedNeed},
    store::{Expect, JobRole, RunPurpose, Snapshot, StoredVersion, being_removed},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is stored of the components of a bundle.
pub(super) struct Stored {
    pub(super) snapshot: Snapshot,
    /// All versions of those that exist, by `Kind/identifier`.
    pub(super) versions: HashMap<String, Vec<StoredVersion>>,
}

/// The newest version of a component as the plan leaves it so far.
#[derive(Clone, Copy)]
struct Head {
    newest: (u32, u32),
    next_version: u32,
    /// Whether a component of the bundle is that version: it gets no revision of another one then.
    taken: bool,
}

impl Head {
    fn of(newest: &StoredVersion) -> Self {
        Head {
            newest: (newest.version(), newest.revision()),
            next_version: newest.next_version,
            taken: false,
        }
    }
}

/// What becomes of a component.
struct Fate {
    action: Action,
    /// The version and revision it will have.
    at: (u32, u32),
    /// The version and revision it has now.
    from: Option<Address>,
    content_of: Option<u32>,
    changes: Vec<Change>,
}

impl Fate {
    fn of(action: Action, at: (u32, u32), from: Option<&StoredVersion>) -> Self {
        let from = from.map(|stored| stored.address.clone());
        Fate { action, at, from, content_of: None, changes: Vec::new() }
    }
}

impl Stored {
    /// Whether jobs of the newest version of a component were left out for now.
    pub(super) fn owes(&self, path: &str) -> bool {
        self.snapshot.components.get(path).is_some_and(|stored| stored.owes_jobs)
    }

    fn versions_of(&self, path: &str) -> &[StoredVersion] {
        self.versions.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// The stored version that is the same as a component of the bundle.
    ///
    /// Which of several versions is the newest matters; an older one may be any that is stored.
    fn standing_for(
        &self,
        node: &Node,
        document: &Value,
        head: Head,
        is_last: bool,
    ) -> Option<&StoredVersion> {
        let path = node.address.path();
        let same = |stored: &StoredVersion| {
            !stored.removing && stored.document == *document && fits(stored, node)
        };
        match self.snapshot.components.get(&path) {
            Some(newest)
                if (newest.version(), newest.revision()) == head.newest
                    && !head.taken
                    && same(newest) =>
            {
                Some(newest)
            }
            _ if !is_last => self.versions_of(&path).iter().find(|stored| same(stored)),
            _ => None,
        }
    }
}

/// Plan an import; components of the plan are those of the bundle, in its order.
pub(super) fn plan(
    bundle: &Bundle,
    stored: &Stored,
    registry: &Registry,
    jobs: bool,
) -> Result<Plan> {
    let mut planner = Planner {
        bundle,
        stored,
        registry,
        components: Vec::new(),
        heads: HashMap::new(),
        notes: Vec::new(),
    };
    let last: BTreeMap<String, usize> =
        bundle.nodes.iter().enumerate().map(|(index, node)| (node.address.path(), index)).collect();
    for (index, node) in bundle.nodes.iter().enumerate() {
        let component = planner.decide(node, last.get(&node.address.path()) == Some(&index))?;
        planner.components.push(component);
    }
    let Planner { components, notes, .. } = planner;
    let state = |stored: &StoredVersion| (stored.version(), stored.revision(), stored.removing);
    let expect = last.keys().zip(last.values()).map(|(path, index)| Expect::Newest {
        address: bundle.nodes[*index].address.unversioned(),
        state: stored.snapshot.components.get(path).map(state),
    });
    let root = components
        .last()
        .map(|root| root.address.clone())
        .ok_or_else(|| Error::internal("a bundle is empty"))?;
    Ok(Plan {
        purpose: RunPurpose::Apply,
        root,
        jobs: if jobs { hooks(&components, registry) } else { Vec::new() },
        left_out: Vec::new(),
        notes,
        joins: Vec::new(),
        expect: expect.collect(),
        sweep_epoch: stored.snapshot.sweep_epoch,
        owes_jobs: !jobs,
        clears_owed: Vec::new(),
        copies: Vec::new(),
        overwrites: Vec::new(),
        stale: Vec::new(),
        tree: None,
        removal: None,
        components,
    })
}

struct Planner<'a> {
    bundle: &'a Bundle,
    stored: &'a Stored,
    registry: &'a Registry,
    components: Vec<PlannedComponent>,
    heads: HashMap<String, Head>,
    notes: Vec<String>,
}

impl Planner<'_> {
    /// `is_last`: it is the newest version of its component in the bundle.
    fn decide(&mut self, node: &Node, is_last: bool) -> Result<PlannedComponent> {
        let stored = self.stored;
        let newest = stored.snapshot.components.get(&node.address.path());
        if let Some(newest) = newest.filter(|newest| newest.removing) {
            return Err(being_removed(&newest.address.at(newest.version())));
        }
        let document = self.target_document(node);
        let Fate { action, at: (version, revision), from, content_of, changes } =
            self.fate(node, newest, &document, is_last);
        Ok(PlannedComponent {
            address: Address {
                version: Some(VersionRef { version, revision: Some(revision) }),
                ..node.address.clone()
            },
            action,
            from,
            content_of,
            uuid: node.uuid,
            content_hash: node.content_hash,
            changes,
            children: node.children.clone(),
            document,
            verbatim: None,
            singles: self.singles(node).cloned().unwrap_or_default(),
        })
    }

    /// What becomes of a component, from its newest version and its document.
    fn fate(
        &mut self,
        node: &Node,
        newest: Option<&StoredVersion>,
        document: &Value,
        is_last: bool,
    ) -> Fate {
        let path = node.address.path();
        let head = self.heads.get(&path).copied().or_else(|| newest.map(Head::of));
        let Some(head) = head else {
            self.heads.insert(path, Head { newest: (0, 0), next_version: 1, taken: true });
            return Fate::of(Action::Create, (0, 0), None);
        };
        if let Some(known) = self.stored.standing_for(node, document, head, is_last) {
            let at = (known.version(), known.revision());
            if at == head.newest {
                self.heads.insert(path, Head { taken: true, ..head });
            }
            return Fate::of(Action::Unchanged, at, Some(known));
        }
        let changes = newest.map(|newest| self.changes(newest, node, document)).unwrap_or_default();
        if newest.is_some_and(|newest| self.updates(newest, node, head, &changes)) {
            let at = (head.newest.0, head.newest.1 + 1);
            self.heads.insert(path, Head { newest: at, taken: true, ..head });
            return Fate { changes, ..Fate::of(Action::Update, at, newest) };
        }
        let at = (head.next_version, 0);
        let content_of = self
            .stored
            .versions_of(&path)
            .iter()
            .rev()
            .find(|older| older.document == *document)
            .map(StoredVersion::version);
        self.heads
            .insert(path, Head { newest: at, next_version: head.next_version + 1, taken: true });
        Fate { content_of, changes, ..Fate::of(Action::NewVersion, at, newest) }
    }

    /// Whether the newest version gets another revision; otherwise the component becomes a version
    /// of its own, and a note says why where only its outputs differ.
    fn updates(
        &mut self,
        newest: &StoredVersion,
        node: &Node,
        head: Head,
        changes: &[Change],
    ) -> bool {
        let may = !head.taken
            && self.registry.knows(&node.address.kind)
            && !changes.iter().any(|change| change.breaking);
        if may && !fits(newest, node) {
            self.notes.push(format!("`{}`: its outputs differ from those stored, so that it becomes a version of its own", node.address.path()));
            return false;
        }
        may
    }

    fn singles(&self, node: &Node) -> Option<&Singles> {
        self.bundle.singles.get(&node.address.path())
    }

    /// The document with the versions that its children have, or get, here.
    fn target_document(&self, node: &Node) -> Value {
        let names: HashMap<String, &Address> = node
            .children
            .iter()
            .map(|(_, child)| {
                (self.bundle.nodes[*child].address.to_string(), &self.components[*child].address)
            })
            .collect();
        let mut document = node.fields.clone();
        rename_children(&mut document, &|text| {
            let address = names.get(text)?;
            Some(address.at(address.version.map_or(0, |at| at.version)).to_string())
        });
        document
    }

    fn changes(&self, newest: &StoredVersion, node: &Node, document: &Value) -> Vec<Change> {
        let fields =
            self.registry.entry(&node.address.kind).map_or(&[][..], |entry| entry.spec.fields);
        let child = |text: &str| {
            let is = |index: usize| {
                let address = &self.components[index].address;
                address.at(address.version.map_or(0, |at| at.version)).to_string() == text
            };
            let found = node.children.iter().find(|(_, index)| is(*index));
            found.map(|(_, index)| self.components[*index].changes.clone()).unwrap_or_default()
        };
        let (none, singles) = (Singles::default(), self.singles(node));
        let mut differ = Differ {
            fields,
            singles: singles.unwrap_or(&none),
            child: &child,
            changes: Vec::new(),
        };
        differ.compare(&newest.document, document);
        differ.changes
    }
}

/// Whether a stored version can stand for a component of a bundle: its outputs are the same, or
/// there are none to bring.
fn fits(stored: &StoredVersion, node: &Node) -> bool {
    node.outputs.is_empty()
        || (stored.outputs.len() == node.outputs.len()
            && node
                .outputs
                .iter()
                .all(|output| stored.outputs.get(&output.name) == Some(&output.value)))
}

/// `on_create` of each new version, parents after children.
fn hooks(components: &[PlannedComponent], registry: &Registry) -> Vec<PlannedJob> {
    let mut jobs: Vec<PlannedJob> = Vec::new();
    // For each component the jobs that its parents wait for.
    let mut frontier: Vec<BTreeSet<usize>> = Vec::with_capacity(components.len());
    for component in components {
        let below: BTreeSet<usize> = component
            .children
            .iter()
            .flat_map(|(_, child)| frontier[*child].iter().copied())
            .collect();
        let is_new = matches!(component.action, Action::Create | Action::NewVersion);
        if !is_new
            || !registry.entry(&component.address.kind).is_ok_and(|entry| (entry.lifecycle)())
        {
            frontier.push(below);
            continue;
        }
        frontier.push(BTreeSet::from([jobs.len()]));
        jobs.push(PlannedJob {
            target: component.address.clone(),
            role: JobRole::OnCreate,
            method: "on_create".to_owned(),
            needs: below
                .into_iter()
                .map(|job| PlannedNeed { job: NeededJob::Planned(job), parameter: None })
                .collect(),
            retry_of: None,
            key: None,
            spec: None,
            policy: None,
        });
    }
    jobs
}
