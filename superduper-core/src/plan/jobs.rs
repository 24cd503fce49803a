//! Which jobs an apply runs, and what each of them waits for.

use super::{
    ApplyOptions, Copied, LeftOut, NeededJob, Overwrite, PlannedComponent, PlannedJob, PlannedNeed,
    StaleJob,
    outputs::{Kept, OutputFacts, its_outputs},
};
use crate::{
    component::trigger::{Event, TriggerSpec, Watch},
    encode::{Record, Tree},
    store::{JobBrief, JobId, JobRole, JobState, RunId, Snapshot},
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
    /// Its content differs from that of the newest version, or that of a child does.
    pub(super) content: bool,
    /// It stands for an older version, which its parent was stored with.
    pub(super) pinned: bool,
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
    /// What is on record of outputs, by component path.
    facts: &'a HashMap<String, OutputFacts>,
    /// The newest recorded jobs, by component path.
    recorded: HashMap<String, Vec<&'a JobBrief>>,
    /// For each component the planned jobs that its parents wait for.
    frontier: Vec<Rc<[usize]>>,
    /// For each component the unfinished recorded jobs that its parents wait for.
    unfinished: Vec<Rc<[JobId]>>,
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) joins: BTreeSet<RunId>,
    pub(super) clears_owed: Vec<crate::address::Address>,
    pub(super) copies: Vec<Copied>,
    pub(super) overwrites: Vec<Overwrite>,
    pub(super) stale: Vec<StaleJob>,
}

impl<'a> JobPlanner<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        snapshot: &'a Snapshot,
        components: &'a [PlannedComponent],
        touched: &'a [Touched],
        options: ApplyOptions,
        facts: &'a HashMap<String, OutputFacts>,
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
            facts,
            recorded,
            frontier: Vec::with_capacity(components.len()),
            unfinished: Vec::with_capacity(components.len()),
            jobs: Vec::new(),
            left_out: Vec::new(),
            joins: BTreeSet::new(),
            clears_owed: Vec::new(),
            copies: Vec::new(),
            overwrites: Vec::new(),
            stale: Vec::new(),
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
                let below: BTreeSet<usize> = children
                    .iter()
                    .flat_map(|(_, child)| self.frontier[*child].iter().copied())
                    .collect();
                below.into_iter().collect()
            } else {
                planned.into()
            };
            self.frontier.push(frontier);
            let waits = if unfinished.is_empty() {
                let below: BTreeSet<JobId> = children
                    .iter()
                    .flat_map(|(_, child)| self.unfinished[*child].iter().copied())
                    .collect();
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
        let touched = &self.touched[index];
        if touched.pinned {
            return Vec::new();
        }
        let fresh = touched.new;
        let recorded: Vec<&JobBrief> = if fresh {
            Vec::new()
        } else {
            self.recorded.get(&record.path()).cloned().unwrap_or_default()
        };
        let owes = !fresh
            && self.snapshot.components.get(&record.path()).is_some_and(|stored| stored.owes_jobs);
        let unfinished = self.unfinished_of(index, record, &recorded);
        let unfinished_ids = unfinished.iter().map(|job| job.id).collect();
        let component = &self.components[index];
        let facts = self.facts.get(&record.path());
        let scope =
            Scope { index, record, component, touched, fresh, owes, recorded, unfinished, facts };
        if self.options.only_root && index + 1 < self.components.len() {
            return unfinished_ids;
        }
        if !self.options.jobs {
            self.copy_outputs(&scope, &[]);
            return unfinished_ids;
        }
        self.joins.extend(scope.unfinished.iter().map(|job| job.run));
        if owes {
            self.clears_owed.push(record.address());
        }
        let first = self.jobs.len();
        let runs = self.plan_jobs(&scope);
        let copied = self.copy_outputs(&scope, &runs);
        if let Some(facts) = facts.filter(|_| !fresh) {
            let found = facts.stored.overwritten(&component.address, &self.jobs[first..], &copied);
            self.overwrites.extend(found);
        }
        unfinished_ids
    }

    /// Plan the hook and the triggers; gives the triggers with a word whether each has to run.
    fn plan_jobs(&mut self, scope: &Scope<'a>) -> Vec<(&'static str, bool)> {
        let record = scope.record;
        let wanted = scope.wanted(self.options);
        let kept = keep(record, &wanted, scope.fresh, scope.facts);
        let on_create = self.plan_on_create(scope);
        // Why a wanted trigger gets no job.
        let mut reasons: Vec<Option<String>> = vec![None; record.triggers.len()];
        let mut planned: Vec<Option<usize>> = vec![None; record.triggers.len()];
        for position in topological(&record.triggers) {
            let trigger = record.triggers[position];
            let mut needs = Vec::new();
            match scope.needs(position, &planned, &kept, &reasons) {
                Ok(found) => needs = found,
                Err(reason) => reasons[position] = Some(reason),
            }
            if !wanted[position] {
                continue;
            }
            if let Some(kept) = kept[position] {
                let from = scope
                    .facts
                    .and_then(|facts| facts.source)
                    .filter(|source| Some(*source) != scope.own_version());
                self.left_out.push(scope.left_out(
                    trigger,
                    why_kept(kept, from),
                    kept.outputs.clone(),
                    from,
                ));
                continue;
            }
            if let Some(reason) = &reasons[position] {
                self.left_out.push(scope.left_out(trigger, reason.clone(), Vec::new(), None));
                continue;
            }
            needs.extend(
                on_create.map(|job| PlannedNeed { job: NeededJob::Planned(job), parameter: None }),
            );
            planned[position] = Some(self.plan_trigger(scope, trigger, needs));
        }
        self.heal_spawned(scope.index, record, &scope.recorded);
        record
            .triggers
            .iter()
            .enumerate()
            .map(|(place, trigger)| (trigger.name, wanted[place] && kept[place].is_none()))
            .collect()
    }

    /// Plan the job of a trigger, which tries again what failed.
    fn plan_trigger(
        &mut self,
        scope: &Scope<'a>,
        trigger: &'static TriggerSpec,
        mut needs: Vec<PlannedNeed>,
    ) -> usize {
        let before = scope.newest(JobRole::Trigger, trigger.name);
        let retry_of = before.filter(|job| failed(job)).map(|job| job.id);
        // Unfinished jobs of this version in an earlier run come first, whatever becomes of them.
        for job in &scope.unfinished {
            if !needs.iter().any(|need| need.job == NeededJob::Recorded(job.id)) {
                needs.push(PlannedNeed { job: NeededJob::Recorded(job.id), parameter: None });
            }
        }
        let (role, method) = (JobRole::Trigger, trigger.name);
        self.push(scope.index, role, method, Some(trigger), needs, retry_of, None)
    }

    fn plan_on_create(&mut self, scope: &Scope<'a>) -> Option<usize> {
        let created = scope.recorded.iter().copied().find(|job| job.role == JobRole::OnCreate);
        let again = self.options.retry_failed && created.is_some_and(failed);
        let owed = scope.owes && created.is_none_or(failed);
        let create =
            scope.record.lifecycle && (scope.fresh || scope.touched.missing || owed || again);
        create.then(|| {
            let retry_of = created.filter(|job| failed(job)).map(|job| job.id);
            let method = if self.options.adopt { ADOPT } else { "on_create" };
            self.push(scope.index, JobRole::OnCreate, method, None, Vec::new(), retry_of, None)
        })
    }

    /// The unfinished jobs of a component that its type can still run; the others are noted as
    /// stale.
    fn unfinished_of(
        &mut self,
        index: usize,
        record: &Record,
        recorded: &[&'a JobBrief],
    ) -> Vec<&'a JobBrief> {
        let (known, gone): (Vec<&JobBrief>, Vec<&JobBrief>) =
            recorded.iter().copied().filter(|job| !job.state.is_terminal()).partition(|job| {
                match job.role {
                    JobRole::Trigger => {
                        record.triggers.iter().any(|trigger| trigger.name == job.method)
                    }
                    _ => record.lifecycle,
                }
            });
        for job in gone.into_iter().filter(|_| self.options.jobs && !self.options.only_root) {
            self.joins.insert(job.run);
            self.stale.push(StaleJob {
                component: self.components[index].address.clone(),
                job: job.id,
                method: job.method.clone(),
                state: job.state,
            });
        }
        known
    }

    /// Copy outputs from the version of equal content: those of kept triggers, and to a new version
    /// what nothing sets there. `runs` has the triggers with a job of their own. Gives what goes
    /// into a stored version, by trigger.
    fn copy_outputs(
        &mut self,
        scope: &Scope<'a>,
        runs: &[(&str, bool)],
    ) -> Vec<(String, Vec<String>)> {
        let Scope { index, component, fresh, .. } = *scope;
        let source = scope.facts.and_then(|facts| Some((facts, facts.source?)));
        let Some((facts, from)) = source.filter(|(_, from)| Some(*from) != scope.own_version())
        else {
            return Vec::new();
        };
        let is_left_out = |name: &str| {
            self.left_out
                .iter()
                .any(|left| left.component == component.address && left.trigger == name)
        };
        let goes = |name: &str| match runs.iter().find(|(other, _)| *other == name) {
            Some((_, runs)) if fresh => !runs,
            _ => fresh || is_left_out(name),
        };
        let copied: Vec<(String, Vec<String>)> = facts
            .kept
            .iter()
            .filter(|(name, kept)| !kept.outputs.is_empty() && goes(name))
            .map(|(name, kept)| (name.clone(), kept.outputs.clone()))
            .collect();
        let loose = facts.loose.iter().filter(|_| fresh).cloned();
        let outputs: BTreeSet<String> =
            copied.iter().flat_map(|(_, outputs)| outputs.iter().cloned()).chain(loose).collect();
        if !outputs.is_empty() {
            self.copies.push(Copied {
                component: index,
                from,
                outputs: outputs.into_iter().collect(),
            });
        }
        copied
    }

    /// Failed jobs that other jobs had spawned are tried again under their keys.
    fn heal_spawned(&mut self, index: usize, record: &Record, recorded: &[&JobBrief]) {
        if !self.options.retry_failed {
            return;
        }
        for job in recorded {
            let trigger =
                record.triggers.iter().copied().find(|trigger| trigger.name == job.method);
            if let (true, Some(key), Some(trigger)) =
                (failed(job) && job.role == JobRole::Trigger, &job.key, trigger)
            {
                self.push(
                    index,
                    JobRole::Trigger,
                    trigger.name,
                    Some(trigger),
                    Vec::new(),
                    Some(job.id),
                    Some(key.clone()),
                );
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site shape for three kinds of job; a struct would repeat PlannedJob"
    )]
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
            needs.extend(
                self.frontier[*child]
                    .iter()
                    .map(|job| PlannedNeed { job: NeededJob::Planned(*job), parameter: None }),
            );
            needs.extend(
                self.unfinished[*child]
                    .iter()
                    .map(|job| PlannedNeed { job: NeededJob::Recorded(*job), parameter: None }),
            );
        }
        let mut seen = std::collections::HashSet::new();
        needs.retain(|need| need.parameter.is_some() || seen.insert(need.job));
        let record = &self.tree.records[index];
        let place =
            spec.and_then(|spec| record.triggers.iter().position(|other| other.name == spec.name));
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

fn failed(job: &JobBrief) -> bool {
    matches!(job.state, JobState::Failed | JobState::Cancelled | JobState::Skipped)
}

/// One component while its jobs are planned.
struct Scope<'a> {
    index: usize,
    record: &'a Record,
    component: &'a PlannedComponent,
    touched: &'a Touched,
    /// It is new, or a new version.
    fresh: bool,
    /// Its jobs were left out so far.
    owes: bool,
    recorded: Vec<&'a JobBrief>,
    unfinished: Vec<&'a JobBrief>,
    facts: Option<&'a OutputFacts>,
}

impl<'a> Scope<'a> {
    /// The newest recorded job of a trigger or hook.
    fn newest(&self, role: JobRole, method: &str) -> Option<&'a JobBrief> {
        self.recorded
            .iter()
            .copied()
            .find(|job| job.role == role && job.method == method && job.key.is_none())
    }

    /// The version that is planned, where it is stored already.
    fn own_version(&self) -> Option<u32> {
        self.component.address.version.map(|at| at.version).filter(|_| !self.fresh)
    }

    /// Which triggers are to run, as far as outputs on record do not stand for them.
    fn wanted(&self, options: ApplyOptions) -> Vec<bool> {
        let Scope { record, touched, facts, .. } = *self;
        let wants = |trigger: &TriggerSpec| {
            if trigger.event != Event::Apply || options.adopt {
                return false;
            }
            let job = self.newest(JobRole::Trigger, trigger.name);
            let at_revision = job.is_some_and(|job| {
                job.state == JobState::Succeeded
                    && job.target.version == self.component.address.version
            });
            let heals = options.retry_failed && job.is_some_and(failed);
            self.fresh
                || touched.missing
                || (self.owes && !at_revision)
                || heals
                || watches(trigger, record, &touched.keys)
        };
        let mut wanted: Vec<bool> = record.triggers.iter().map(|trigger| wants(trigger)).collect();
        let has_result = |name: &str| {
            facts.is_some_and(|facts| {
                facts.kept.contains_key(name) || facts.stored.results.contains_key(name)
            })
        };
        let never_ran = |position: usize| {
            let name = record.triggers[position].name;
            record.unmet[position].is_empty()
                && self.newest(JobRole::Trigger, name).is_none()
                && !has_result(name)
        };
        while include_dependents(&record.triggers, &mut wanted)
            | include_missing(&record.triggers, &mut wanted, never_ran)
        {}
        wanted
    }

    /// What the job of a trigger waits for, or why there is none.
    fn needs(
        &self,
        position: usize,
        planned: &[Option<usize>],
        kept: &[Option<&Kept>],
        reasons: &[Option<String>],
    ) -> Result<Vec<PlannedNeed>, String> {
        let record = self.record;
        if let Some(field) = record.unmet[position].first() {
            return Err(format!("it requires `{field}`, which is not set"));
        }
        let mut needs = Vec::new();
        for dependency in record.triggers[position].depends_on {
            let Some(other) =
                record.triggers.iter().position(|other| other.name == dependency.name)
            else {
                continue;
            };
            let recorded = |job| PlannedNeed {
                job: NeededJob::Recorded(job),
                parameter: Some(dependency.name.to_owned()),
            };
            if let Some(Kept { job, unfinished, .. }) = kept[other] {
                match job {
                    Some(job) if dependency.parameter || *unfinished => needs.push(recorded(*job)),
                    None if dependency.parameter => {
                        return Err(format!(
                            "it needs the result of `{}`, which is not on record",
                            dependency.name
                        ));
                    }
                    _ => {}
                }
                needs.extend(self.before(other, planned));
            } else if let Some(job) = planned[other] {
                let parameter = dependency.parameter.then(|| dependency.name.to_owned());
                needs.push(PlannedNeed { job: NeededJob::Planned(job), parameter });
            } else if reasons[other].is_some() {
                if !(dependency.parameter && dependency.optional) {
                    return Err(format!("it needs `{}`, which is left out", dependency.name));
                }
                needs.extend(self.before(other, planned));
            } else if let Some(job) = self.newest(JobRole::Trigger, dependency.name) {
                if failed(job) {
                    return Err(format!(
                        "it needs `{}`, which is {} (job {})",
                        dependency.name, job.state, job.id
                    ));
                }
                needs.push(recorded(job.id));
            } else if let Some(job) =
                self.facts.and_then(|facts| facts.stored.results.get(dependency.name))
            {
                needs.push(recorded(*job));
            }
        }
        Ok(needs)
    }

    /// The planned jobs that a trigger without a job of its own would have waited for: what comes
    /// after it still comes after them.
    fn before(&self, position: usize, planned: &[Option<usize>]) -> Vec<PlannedNeed> {
        let triggers = &self.record.triggers;
        let (mut seen, mut open, mut found) =
            (vec![false; triggers.len()], vec![position], Vec::new());
        while let Some(at) = open.pop() {
            for dependency in triggers[at].depends_on {
                let Some(other) = triggers.iter().position(|other| other.name == dependency.name)
                else {
                    continue;
                };
                if std::mem::replace(&mut seen[other], true) {
                    continue;
                }
                match planned[other] {
                    Some(job) => {
                        found.push(PlannedNeed { job: NeededJob::Planned(job), parameter: None })
                    }
                    None => open.push(other),
                }
            }
        }
        found
    }

    fn left_out(
        &self,
        trigger: &TriggerSpec,
        reason: String,
        outputs: Vec<String>,
        from: Option<u32>,
    ) -> LeftOut {
        LeftOut {
            component: self.component.address.clone(),
            trigger: trigger.name.to_owned(),
            reason,
            outputs,
            from,
        }
    }
}

/// Why a trigger need not run.
fn why_kept(kept: &Kept, from: Option<u32>) -> String {
    match (from, kept.job) {
        (_, Some(job)) if kept.unfinished => format!("job {job}, which is unfinished, does it"),
        (None, _) => format!("{} {} on record", its_outputs(&kept.outputs), are(&kept.outputs)),
        (Some(version), _) => format!(
            "version {version}, of equal content, has {}, copied from there",
            its_outputs(&kept.outputs)
        ),
    }
}

fn are(names: &[String]) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}

/// Of the wanted triggers those that need not run. One runs all the same where another that sets
/// outputs runs before it, or where a trigger of a new version takes a result of it that is not on
/// record.
fn keep<'f>(
    record: &Record,
    wanted: &[bool],
    fresh: bool,
    facts: Option<&'f OutputFacts>,
) -> Vec<Option<&'f Kept>> {
    let triggers = &record.triggers;
    let mut kept: Vec<Option<&Kept>> = vec![None; triggers.len()];
    let Some(facts) = facts else { return kept };
    for (position, trigger) in triggers.iter().enumerate() {
        kept[position] = facts
            .kept
            .get(trigger.name)
            .filter(|_| wanted[position] && record.unmet[position].is_empty());
    }
    let position = |name: &str| triggers.iter().position(|trigger| trigger.name == name);
    loop {
        let runs = |place: usize, kept: &[Option<&Kept>]| {
            wanted[place] && kept[place].is_none() && record.unmet[place].is_empty()
        };
        let mut renewed: Vec<bool> = (0..triggers.len())
            .map(|place| runs(place, &kept) && facts.setters.contains(triggers[place].name))
            .collect();
        for place in topological(triggers) {
            let depends = || {
                triggers[place]
                    .depends_on
                    .iter()
                    .filter_map(|dependency| position(dependency.name))
                    .any(|other| renewed[other])
            };
            renewed[place] = renewed[place] || (wanted[place] && depends());
        }
        let mut again: BTreeSet<usize> =
            (0..triggers.len()).filter(|place| kept[*place].is_some() && renewed[*place]).collect();
        for place in (0..triggers.len()).filter(|place| fresh && runs(*place, &kept)) {
            let takes = triggers[place].depends_on.iter().filter(|dependency| dependency.parameter);
            let lacking = takes.filter_map(|dependency| position(dependency.name));
            again.extend(
                lacking.filter(|other| kept[*other].is_some_and(|kept| kept.job.is_none())),
            );
        }
        if again.is_empty() {
            return kept;
        }
        again.into_iter().for_each(|place| kept[place] = None);
    }
}

fn watches(trigger: &TriggerSpec, record: &Record, changed: &[String]) -> bool {
    if changed.is_empty() {
        return false;
    }
    let hit = |name: &str| {
        let mut fields = record.fields.iter().filter(|field| field.is_meant_by(name)).peekable();
        match fields.peek() {
            Some(_) => fields.any(|field| changed.iter().any(|other| other == field.key)),
            None => changed.iter().any(|other| other == name),
        }
    };
    match trigger.watch {
        Watch::Any => true,
        Watch::Fields(fields) => {
            fields.iter().any(|field| hit(field)) || trigger.requires.iter().any(|field| hit(field))
        }
    }
}

/// Whoever depends on a job that runs again runs again too. Gives whether there was one more.
fn include_dependents(triggers: &[&'static TriggerSpec], wanted: &mut [bool]) -> bool {
    let mut grew = false;
    for index in 0..triggers.len() {
        if wanted[index] || triggers[index].event != Event::Apply {
            continue;
        }
        let depends = triggers[index].depends_on.iter().any(|dependency| {
            triggers
                .iter()
                .zip(&*wanted)
                .any(|(other, wanted)| *wanted && other.name == dependency.name)
        });
        wanted[index] |= depends;
        grew |= depends;
    }
    grew
}

/// What a job depends on, and this version never ran, runs before it: after a rollback, or for a
/// trigger that a later build has added. Gives whether there was one more.
fn include_missing(
    triggers: &[&'static TriggerSpec],
    wanted: &mut [bool],
    never_ran: impl Fn(usize) -> bool,
) -> bool {
    let mut grew = false;
    for index in 0..triggers.len() {
        if wanted[index] || triggers[index].event != Event::Apply || !never_ran(index) {
            continue;
        }
        let needed = triggers.iter().zip(&*wanted).any(|(other, wanted)| {
            *wanted
                && other.depends_on.iter().any(|dependency| dependency.name == triggers[index].name)
        });
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
                && triggers[*index].depends_on.iter().all(|dependency| {
                    position(dependency.name).is_none_or(|other| placed[other] || other == *index)
                })
        });
        let Some(next) = next.or_else(|| placed.iter().position(|placed| !placed)) else { break };
        placed[next] = true;
        order.push(next);
    }
    order
}
