//! Which jobs an apply runs, and what each of them waits for.

use super::{ApplyOptions, LeftOut, NeededJob, PlannedComponent, PlannedJob, PlannedNeed};
use crate::{
    encode::{Record, Tree},
    store::{JobBrief, JobId, JobRole, JobState, RunId, Snapshot},
    trigger::{Event, TriggerSpec, Watch},
};
use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

/// The method of a job that stands for an `on_create` that is not run.
pub(crate) const ADOPT: &str = "adopt";

/// What changed in a component.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    /// It is new, or a new version.
    pub(super) new: bool,
    /// The top-level keys that changed, or whose children changed.
    pub(super) keys: Vec<String>,
    /// It is stored as declared but is not there outside.
    pub(super) missing: bool,
}

impl Touched {
    pub(super) fn any(&self) -> bool {
        self.new || self.missing || !self.keys.is_empty()
    }
}

/// Plans the jobs of a tree, children first.
pub(super) struct JobPlanner<'a> {
    tree: &'a Tree,
    snapshot: &'a Snapshot,
    components: &'a [PlannedComponent],
    touched: &'a [Touched],
    options: ApplyOptions,
    /// The newest recorded jobs, by component path.
    recorded: HashMap<String, Vec<&'a JobBrief>>,
    /// For each component the planned jobs that its parents wait for.
    frontier: Vec<Rc<[usize]>>,
    /// For each component the unfinished recorded jobs that its parents wait for.
    unfinished: Vec<Rc<[JobId]>>,
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) joins: BTreeSet<RunId>,
    pub(super) clears_owed: Vec<crate::Address>,
}

impl<'a> JobPlanner<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        snapshot: &'a Snapshot,
        components: &'a [PlannedComponent],
        touched: &'a [Touched],
        options: ApplyOptions,
    ) -> Self {
        let mut recorded: HashMap<String, Vec<&JobBrief>> = HashMap::new();
        for job in &snapshot.jobs {
            recorded.entry(job.target.path()).or_default().push(job);
        }
        JobPlanner {
            tree,
            snapshot,
            components,
            touched,
            options,
            recorded,
            frontier: Vec::with_capacity(components.len()),
            unfinished: Vec::with_capacity(components.len()),
            jobs: Vec::new(),
            left_out: Vec::new(),
            joins: BTreeSet::new(),
            clears_owed: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) {
        for index in 0..self.components.len() {
            let first = self.jobs.len();
            let unfinished = self.plan_component(index);
            let planned: Vec<usize> = (first..self.jobs.len()).collect();
            let children = &self.components[index].children;
            // A component without jobs of its own passes on those of its children.
            let frontier = if planned.is_empty() {
                let below: BTreeSet<usize> = children.iter().flat_map(|(_, child)| self.frontier[*child].iter().copied()).collect();
                below.into_iter().collect()
            } else {
                planned.into()
            };
            self.frontier.push(frontier);
            let waits = if unfinished.is_empty() {
                let below: BTreeSet<JobId> = children.iter().flat_map(|(_, child)| self.unfinished[*child].iter().copied()).collect();
                below.into_iter().collect()
            } else {
                unfinished.into()
            };
            self.unfinished.push(waits);
        }
    }

    /// Plan the jobs of one component; gives its unfinished recorded jobs.
    fn plan_component(&mut self, index: usize) -> Vec<JobId> {
        let record = &self.tree.records[index];
        let component = &self.components[index];
        let touched = &self.touched[index];
        let fresh = touched.new;
        let recorded: Vec<&JobBrief> = if fresh { Vec::new() } else { self.recorded.get(&record.path()).cloned().unwrap_or_default() };
        let stored = self.snapshot.components.get(&record.path());
        let owes = !fresh && stored.is_some_and(|stored| stored.owes_jobs);
        let unfinished: Vec<&JobBrief> = recorded.iter().copied().filter(|job| !job.state.is_terminal()).collect();
        let unfinished_ids = unfinished.iter().map(|job| job.id).collect();
        if !self.options.jobs {
            return unfinished_ids;
        }
        self.joins.extend(unfinished.iter().map(|job| job.run));
        if owes {
            self.clears_owed.push(record.address());
        }
        let newest = |role: JobRole, method: &str| {
            recorded.iter().copied().find(|job| job.role == role && job.method == method && job.key.is_none())
        };
        let failed = |job: &JobBrief| matches!(job.state, JobState::Failed | JobState::Cancelled | JobState::Skipped);
        let heal = |job: Option<&JobBrief>| self.options.retry_failed && job.is_some_and(failed);

        let created = recorded.iter().copied().find(|job| job.role == JobRole::OnCreate);
        let create = record.lifecycle && {
            let job = created;
            fresh || touched.missing || (owes && job.is_none_or(failed)) || heal(job)
        };
        let mut wanted: Vec<bool> = record
            .triggers
            .iter()
            .map(|trigger| {
                if trigger.event != Event::Apply || self.options.adopt {
                    return false;
                }
                let job = newest(JobRole::Trigger, trigger.name);
                let at_revision =
                    job.is_some_and(|job| job.state == JobState::Succeeded && job.target.version == component.address.version);
                fresh || touched.missing || (owes && !at_revision) || heal(job) || watches(trigger, record, &touched.keys)
            })
            .collect();
        let never_ran =
            |position: usize| record.unmet[position].is_empty() && newest(JobRole::Trigger, record.triggers[position].name).is_none();
        while include_dependents(&record.triggers, &mut wanted) | include_missing(&record.triggers, &mut wanted, never_ran) {}
        let order = topological(&record.triggers);
        // Why a wanted trigger gets no job.
        let mut reasons: Vec<Option<String>> = vec![None; record.triggers.len()];
        let mut planned: Vec<Option<usize>> = vec![None; record.triggers.len()];
        let on_create = create.then(|| {
            let retry_of = created.filter(|job| failed(job)).map(|job| job.id);
            let method = if self.options.adopt { ADOPT } else { "on_create" };
            self.push(index, JobRole::OnCreate, method, None, Vec::new(), retry_of, None)
        });
        for position in order {
            let trigger = record.triggers[position];
            if let Some(field) = record.unmet[position].first() {
                reasons[position] = Some(format!("it requires `{field}`, which is not set"));
            }
            let mut needs = Vec::new();
            for dependency in trigger.depends_on {
                let Some(other) = record.triggers.iter().position(|other| other.name == dependency.name) else { continue };
                let parameter = dependency.parameter.then(|| dependency.name.to_owned());
                if let Some(job) = planned[other] {
                    needs.push(PlannedNeed { job: NeededJob::Planned(job), parameter });
                } else if reasons[other].is_some() {
                    if !(dependency.parameter && dependency.optional) && reasons[position].is_none() {
                        reasons[position] = Some(format!("it needs `{}`, which is left out", dependency.name));
                    }
                } else if let Some(job) = newest(JobRole::Trigger, dependency.name) {
                    if failed(job) {
                        reasons[position] = Some(format!("it needs `{}`, which is {} (job {})", dependency.name, job.state, job.id));
                    } else {
                        needs.push(PlannedNeed { job: NeededJob::Recorded(job.id), parameter: Some(dependency.name.to_owned()) });
                    }
                }
            }
            if !wanted[position] {
                continue;
            }
            if let Some(reason) = &reasons[position] {
                self.left_out.push(LeftOut {
                    component: component.address.clone(),
                    trigger: trigger.name.to_owned(),
                    reason: reason.clone(),
                });
                continue;
            }
            if let Some(job) = on_create {
                needs.push(PlannedNeed { job: NeededJob::Planned(job), parameter: None });
            }
            let before = newest(JobRole::Trigger, trigger.name);
            let retry_of = before.filter(|job| failed(job)).map(|job| job.id);
            // Unfinished jobs of this version in an earlier run come first, whatever becomes of them.
            for job in &unfinished {
                if !needs.iter().any(|need| need.job == NeededJob::Recorded(job.id)) {
                    needs.push(PlannedNeed { job: NeededJob::Recorded(job.id), parameter: None });
                }
            }
            planned[position] = Some(self.push(index, JobRole::Trigger, trigger.name, Some(trigger), needs, retry_of, None));
        }
        self.heal_spawned(index, record, &recorded);
        unfinished_ids
    }

    /// Failed jobs that other jobs had spawned are tried again under their keys.
    fn heal_spawned(&mut self, index: usize, record: &Record, recorded: &[&JobBrief]) {
        if !self.options.retry_failed {
            return;
        }
        for job in recorded {
            let failed = matches!(job.state, JobState::Failed | JobState::Cancelled | JobState::Skipped);
            let trigger = record.triggers.iter().copied().find(|trigger| trigger.name == job.method);
            if let (true, Some(key), Some(trigger)) = (failed && job.role == JobRole::Trigger, &job.key, trigger) {
                self.push(index, JobRole::Trigger, trigger.name, Some(trigger), Vec::new(), Some(job.id), Some(key.clone()));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call site shape for three kinds of job; a struct would repeat PlannedJob")]
    fn push(
        &mut self,
        index: usize,
        role: JobRole,
        method: &str,
        spec: Option<&'static TriggerSpec>,
        mut needs: Vec<PlannedNeed>,
        retry_of: Option<JobId>,
        key: Option<String>,
    ) -> usize {
        let component = &self.components[index];
        for (_, child) in &component.children {
            needs.extend(self.frontier[*child].iter().map(|job| PlannedNeed { job: NeededJob::Planned(*job), parameter: None }));
            needs.extend(self.unfinished[*child].iter().map(|job| PlannedNeed { job: NeededJob::Recorded(*job), parameter: None }));
        }
        let mut seen = std::collections::HashSet::new();
        needs.retain(|need| need.parameter.is_some() || seen.insert(need.job));
        let record = &self.tree.records[index];
        let place = spec.and_then(|spec| record.triggers.iter().position(|other| other.name == spec.name));
        let policy = place.and_then(|place| record.policies[place].clone()).map(Box::new);
        self.jobs.push(PlannedJob {
            target: component.address.clone(),
            role,
            method: method.to_owned(),
            needs,
            retry_of,
            key,
            spec,
            policy,
        });
        self.jobs.len() - 1
    }
}

fn watches(trigger: &TriggerSpec, record: &Record, changed: &[String]) -> bool {
    if changed.is_empty() {
        return false;
    }
    let hit = |name: &str| {
        let key = record.fields.iter().find(|field| field.name == name).map_or(name, |field| field.key);
        changed.iter().any(|other| other == key)
    };
    match trigger.watch {
        Watch::Any => true,
        Watch::Fields(fields) => fields.iter().any(|field| hit(field)) || trigger.requires.iter().any(|field| hit(field)),
    }
}

/// Whoever depends on a job that runs again runs again too. Gives whether there was one more.
fn include_dependents(triggers: &[&'static TriggerSpec], wanted: &mut [bool]) -> bool {
    let mut grew = false;
    for index in 0..triggers.len() {
        if wanted[index] || triggers[index].event != Event::Apply {
            continue;
        }
        let depends = triggers[index]
            .depends_on
            .iter()
            .any(|dependency| triggers.iter().zip(&*wanted).any(|(other, wanted)| *wanted && other.name == dependency.name));
        wanted[index] |= depends;
        grew |= depends;
    }
    grew
}

/// What a job depends on, and this version never ran, runs before it: after a rollback, or for a trigger that a later
/// build has added. Gives whether there was one more.
fn include_missing(triggers: &[&'static TriggerSpec], wanted: &mut [bool], never_ran: impl Fn(usize) -> bool) -> bool {
    let mut grew = false;
    for index in 0..triggers.len() {
        if wanted[index] || triggers[index].event != Event::Apply || !never_ran(index) {
            continue;
        }
        let needed = triggers
            .iter()
            .zip(&*wanted)
            .any(|(other, wanted)| *wanted && other.depends_on.iter().any(|dependency| dependency.name == triggers[index].name));
        wanted[index] |= needed;
        grew |= needed;
    }
    grew
}

/// Dependencies first, else in the order of the source; the macro has refused cycles.
fn topological(triggers: &[&'static TriggerSpec]) -> Vec<usize> {
    let mut order = Vec::with_capacity(triggers.len());
    let mut placed = vec![false; triggers.len()];
    let position = |name: &str| triggers.iter().position(|trigger| trigger.name == name);
    while order.len() < triggers.len() {
        let next = (0..triggers.len()).find(|index| {
            !placed[*index]
                && triggers[*index]
                    .depends_on
                    .iter()
                    .all(|dependency| position(dependency.name).is_none_or(|other| placed[other] || other == *index))
        });
        let Some(next) = next.or_else(|| placed.iter().position(|placed| !placed)) else { break };
        placed[next] = true;
        order.push(next);
    }
    order
}
