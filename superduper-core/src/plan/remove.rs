//! The plan of a removal: cleanup jobs, parents before children, then the versions that go.

use super::{Action, NeededJob, Plan, PlannedComponent, PlannedJob, PlannedNeed, Removal};
use crate::{
    address::Address,
    encode::Singles,
    store::{Expect, JobId, JobRole, JobRow, RunPurpose, StoredVersion},
};

/// What is known of a component that is to be removed.
#[derive(Debug, Clone)]
pub(crate) struct RemoveInput {
    /// Kind and identifier.
    pub(crate) address: Address,
    /// The versions that go, ascending.
    pub(crate) versions: Vec<StoredVersion>,
    /// Whether all versions go.
    pub(crate) whole: bool,
    /// Versions that need a cleanup: `on_create` was attempted, and no cleanup succeeded yet.
    pub(crate) cleanup: Vec<u32>,
    /// Its unfinished jobs, which are cancelled first.
    pub(crate) live: Vec<JobRow>,
    /// The newest version, for the check that nothing moved.
    pub(crate) newest: (u32, u32, bool),
    /// Superseded revisions of others that are forgotten with it.
    pub(crate) forgets: Vec<Address>,
}

/// Plan a removal; `inputs` has parents before children, `held` the children that stay, `label` the
/// label that goes with a version.
pub(crate) fn build_removal(
    root: Address,
    inputs: &[RemoveInput],
    force: bool,
    held: Vec<(Address, String)>,
    label: Option<String>,
) -> Plan {
    let live = inputs.iter().flat_map(|input| input.live.iter().map(|job| job.id)).collect();
    let mut builder = Builder { live, label: label.clone(), ..Builder::default() };
    for input in inputs {
        builder.add(input);
    }
    let Builder { live, mut components, jobs, mut notes, mut expect, versions, going, .. } =
        builder;
    // A version may be referred to by others that go too; only references from outside stop the
    // removal.
    expect.push(Expect::Unreferenced { children: going.clone() });
    expect.push(Expect::Removable { versions: going });
    notes.extend(held.iter().map(|(child, why)| format!("`{child}` stays: {why}")));
    // As in every plan, the root comes last.
    components.reverse();
    let whole =
        inputs.iter().filter(|input| input.whole).map(|input| input.address.clone()).collect();
    Plan {
        purpose: RunPurpose::Remove,
        root,
        components,
        jobs,
        left_out: Vec::new(),
        notes,
        joins: Vec::new(),
        expect,
        sweep_epoch: 0,
        owes_jobs: false,
        clears_owed: Vec::new(),
        copies: Vec::new(),
        overwrites: Vec::new(),
        stale: Vec::new(),
        tree: None,
        removal: Some(Removal { versions, whole, force, live, held, label }),
    }
}

/// Gathers what a removal takes, component by component.
#[derive(Default)]
struct Builder {
    /// The unfinished jobs of all components.
    live: Vec<JobId>,
    components: Vec<PlannedComponent>,
    jobs: Vec<PlannedJob>,
    notes: Vec<String>,
    expect: Vec<Expect>,
    versions: Vec<(Address, Vec<u32>)>,
    /// Each version that goes, by its address.
    going: Vec<Address>,
    /// The label that goes with a version.
    label: Option<String>,
}

impl Builder {
    fn add(&mut self, input: &RemoveInput) {
        self.expect
            .push(Expect::Newest { address: input.address.clone(), state: Some(input.newest) });
        let earlier = self.jobs.len();
        let mut before: Option<usize> = None;
        for stored in input.versions.iter().rev() {
            let at = input.address.at(stored.version());
            self.going.push(at.clone());
            if !input.whole {
                self.expect.push(Expect::Unlabelled { address: at, but: self.label.clone() });
            }
            self.components.push(removed(stored));
            if input.cleanup.contains(&stored.version()) {
                let needs = self.needs(earlier, before);
                before = Some(self.jobs.len());
                self.jobs.push(cleanup(stored, needs));
            }
        }
        self.note(input);
        self.versions.push((
            input.address.clone(),
            input.versions.iter().map(StoredVersion::version).collect(),
        ));
    }

    /// What a cleanup waits for: that of the version `before`, or for the first of its component
    /// the `earlier` cleanups, those of what held it.
    fn needs(&self, earlier: usize, before: Option<usize>) -> Vec<PlannedNeed> {
        let after = |job| PlannedNeed { job, parameter: None };
        match before {
            Some(job) => vec![after(NeededJob::Planned(job))],
            None if earlier > 0 => (0..earlier).map(|job| after(NeededJob::Planned(job))).collect(),
            // Nothing is torn down before everything that is still at work has stopped.
            None => self.live.iter().map(|job| after(NeededJob::Recorded(*job))).collect(),
        }
    }

    fn note(&mut self, input: &RemoveInput) {
        for job in &input.live {
            self.notes.push(format!(
                "job {} (`{}` of `{}`) is {} and will be cancelled",
                job.id, job.method, job.target, job.state
            ));
        }
        for other in &input.forgets {
            self.notes.push(format!(
                "`{other}`, a superseded revision that refers to `{}`, is forgotten",
                input.address
            ));
        }
    }
}

fn removed(stored: &StoredVersion) -> PlannedComponent {
    PlannedComponent {
        address: stored.address.clone(),
        action: Action::Remove,
        from: Some(stored.address.clone()),
        content_of: None,
        uuid: stored.uuid,
        content_hash: stored.content_hash,
        changes: Vec::new(),
        children: Vec::new(),
        document: stored.document.clone(),
        verbatim: None,
        singles: Singles::default(),
    }
}

fn cleanup(stored: &StoredVersion, needs: Vec<PlannedNeed>) -> PlannedJob {
    PlannedJob {
        target: stored.address.clone(),
        role: JobRole::Cleanup,
        method: "cleanup".to_owned(),
        needs,
        retry_of: None,
        key: None,
        spec: None,
        policy: None,
    }
}
