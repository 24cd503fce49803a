//! A plan and its parts: what a reader sees of it, and what carrying it out needs.

use super::Overwrite;
use crate::{
    address::Address,
    component::{
        policy::{JobPolicy, Placement},
        trigger::TriggerSpec,
    },
    digest::Digest,
    encode::{Singles, Tree},
    store::{Expect, JobId, JobRole, JobState, RunId, RunPurpose},
};
use serde_json::Value;
use std::sync::Arc;

/// What happens to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is stored for the first time, as version 0.
    Create,
    /// A breaking change: it gets another version.
    NewVersion,
    /// Another change: its newest version gets another revision.
    Update,
    /// Nothing.
    Unchanged,
    /// Versions of it are removed.
    Remove,
}

/// A value that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where, from the component: `layers[2].size`, through children too.
    pub path: String,
    /// The stored value; `None` where there is none.
    pub old: Option<Value>,
    /// The new value; `None` where it goes.
    pub new: Option<Value>,
    /// Whether the field is breaking.
    pub breaking: bool,
}

/// What happens to one component of the tree.
#[derive(Debug, Clone)]
pub struct PlannedComponent {
    /// Kind, identifier, and the version and revision it will have.
    pub address: Address,
    /// What happens.
    pub action: Action,
    /// The version and revision it has now.
    pub from: Option<Address>,
    /// The older version that had the same content.
    pub content_of: Option<u32>,
    /// Hash of kind, identifier and breaking fields.
    pub uuid: Digest,
    /// Hash of all declared content.
    pub content_hash: Digest,
    /// The values that change.
    pub changes: Vec<Change>,
    /// The components it holds, by index, with their paths.
    pub children: Vec<(String, usize)>,
    pub(crate) document: Value,
    /// The document is a stored one, written by this version of its type, and is stored again as it
    /// is.
    pub(crate) verbatim: Option<u32>,
    /// Where the document holds an `f32`.
    pub(crate) singles: Singles,
}

impl PlannedComponent {
    /// The document that would be stored: a JSON object with the stored fields.
    ///
    /// - a blob: `{"$blob": "blake3:…", "size": 12}`, with the size in bytes;
    /// - a child component: `{"$ref": "Kind/identifier"}`;
    /// - an inline component: `{"$kind": …, "$version": …, "$body": …}`.
    pub fn document(&self) -> &Value {
        &self.document
    }
}

/// Something that a planned job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNeed {
    /// The job.
    pub job: NeededJob,
    /// The parameter that takes its result.
    pub parameter: Option<String>,
}

/// A job that a planned job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeededJob {
    /// Another job of the plan, by index.
    Planned(usize),
    /// A job on record.
    Recorded(JobId),
}

/// A job of the plan.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Kind, identifier, version and revision of its component.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// What it waits for.
    pub needs: Vec<PlannedNeed>,
    /// The job that it tries again.
    pub retry_of: Option<JobId>,
    /// For a spawned job that is tried again, its key.
    pub key: Option<String>,
    pub(crate) spec: Option<&'static TriggerSpec>,
    /// How the component wants it to be run.
    pub(crate) policy: Option<Box<JobPolicy>>,
}

impl PlannedJob {
    /// Executor, pool and limits.
    pub(crate) fn placement(&self) -> Placement {
        let executor = self.spec.and_then(|spec| spec.executor);
        match &self.policy {
            Some(policy) => policy.placement(executor),
            None => Placement { executor: executor.map(str::to_owned), ..Placement::default() },
        }
    }
}

/// A trigger for which there will be no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The component.
    pub component: Address,
    /// The trigger.
    pub trigger: String,
    /// Why.
    pub reason: String,
    /// Its outputs that stand, where it need not run again.
    pub outputs: Vec<String>,
    /// The version of equal content that they are copied from; `None` where they are this version's
    /// own.
    pub from: Option<u32>,
}

/// An unfinished job whose trigger or hook the type no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleJob {
    /// The component.
    pub component: Address,
    /// The job.
    pub job: JobId,
    /// The trigger or hook.
    pub method: String,
    /// Its state.
    pub state: JobState,
}

/// Outputs that go from one version of a component to the planned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The component, by index.
    pub(crate) component: usize,
    pub(crate) from: u32,
    pub(crate) outputs: Vec<String>,
}

/// What an apply or a removal would do. Print it, or give it to `apply_plan`.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) purpose: RunPurpose,
    pub(crate) root: Address,
    pub(crate) components: Vec<PlannedComponent>,
    pub(crate) jobs: Vec<PlannedJob>,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) notes: Vec<String>,
    pub(crate) joins: Vec<RunId>,
    pub(crate) expect: Vec<Expect>,
    pub(crate) sweep_epoch: u64,
    pub(crate) owes_jobs: bool,
    pub(crate) clears_owed: Vec<Address>,
    pub(crate) copies: Vec<Copied>,
    pub(crate) overwrites: Vec<Overwrite>,
    pub(crate) stale: Vec<StaleJob>,
    pub(crate) tree: Option<Arc<Tree>>,
    pub(crate) removal: Option<Removal>,
}

/// What a removal deletes once its cleanup jobs are done.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Removal {
    pub(crate) versions: Vec<(Address, Vec<u32>)>,
    pub(crate) whole: Vec<Address>,
    pub(crate) force: bool,
    /// Unfinished jobs, which are cancelled first. Runs of older programs do not have them: those
    /// waited before they recorded a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) live: Vec<JobId>,
    /// Children that stay, with the reason.
    #[serde(skip)]
    pub(crate) held: Vec<(Address, String)>,
    /// The label of the removed version that goes with it; taken away in the first commit.
    #[serde(skip)]
    pub(crate) label: Option<String>,
}

impl Removal {
    /// The versions that go, each with its version number.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.versions
            .iter()
            .flat_map(|(address, versions)| versions.iter().map(|version| address.at(*version)))
    }
}

impl Removal {
    /// What the run of a removal deletes, from its row.
    ///
    /// # Errors
    /// `Integrity` where the row cannot be read.
    pub(crate) fn of(run: &crate::store::RunRow) -> crate::error::Result<Self> {
        let what = format!("what the removal of `{}` by run {} is to delete", run.root, run.id);
        let data = crate::json::check_readable(&run.data, &what)?;
        serde_json::from_value(data.clone()).map_err(|error| {
            crate::error::Error::integrity(format!("{what} cannot be read")).with_source(error)
        })
    }
}

impl Plan {
    /// The component that is applied or removed, with its version.
    pub fn root(&self) -> &Address {
        &self.root
    }

    /// The components, children before parents.
    pub fn components(&self) -> &[PlannedComponent] {
        &self.components
    }

    /// The jobs; what a job needs comes before it.
    pub fn jobs(&self) -> &[PlannedJob] {
        &self.jobs
    }

    /// The triggers for which there will be no job.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Outputs on record that jobs of the plan would set again. Where one belongs to a version with
    /// a label, the plan is refused.
    pub fn overwrites(&self) -> &[Overwrite] {
        &self.overwrites
    }

    /// Unfinished jobs whose trigger or hook the type no longer has. The apply ends them as
    /// skipped, unless another process that runs jobs is alive: its program may have the trigger.
    pub fn stale(&self) -> &[StaleJob] {
        &self.stale
    }

    /// Unfinished runs that the apply would join.
    pub fn joins(&self) -> &[RunId] {
        &self.joins
    }

    /// What a reader should know beside: changed bodies of callables, reverts.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The values that change, seen from the root: a change in a child has the child's path in
    /// front.
    pub fn changes(&self) -> &[Change] {
        self.components.last().map_or(&[], |root| &root.changes)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.stale.is_empty()
            && self.components.iter().all(|component| component.action == Action::Unchanged)
            && self.clears_owed.is_empty()
    }

    /// What happens to a component of the tree, by `Kind/identifier`.
    pub fn component(&self, path: &str) -> Option<&PlannedComponent> {
        self.components.iter().find(|component| component.address.path() == path)
    }
}
