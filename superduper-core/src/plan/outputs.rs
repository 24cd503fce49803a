//! What is on record of a component's outputs, and what follows from it: which triggers need not
//! run again, because a version of equal content has what they set, and which jobs would overwrite
//! what is recorded.
//!
//! A store keeps with each success which outputs the job set. For outputs that were imported, or
//! set before stores kept that, the bodies of the triggers tell; an output of which nobody is known
//! to be the setter is *unclaimed*.

use super::PlannedJob;
use crate::{
    address::Address,
    component::trigger::{Event, TriggerSpec},
    encode::Record,
    store::{JobId, JobRole, JobRow, JobState, OutputWriter, StoredVersion},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Outputs on record that a plan's job would set again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwrite {
    /// The version whose outputs they are.
    pub component: Address,
    /// The trigger or hook.
    pub trigger: String,
    /// The outputs, by name.
    pub outputs: Vec<String>,
    /// Whether it is known to set them. Where nothing is on record of who set an output, each
    /// trigger that could counts.
    pub certain: bool,
    /// The labels of the version; with one, the plan is refused.
    pub labels: Vec<String>,
}

/// A trigger that need not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its outputs that are on record.
    pub(crate) outputs: Vec<String>,
    /// The job whose result stands for its own, where one is on record.
    pub(crate) job: Option<JobId>,
    /// That job is not final yet.
    pub(crate) unfinished: bool,
}

/// What a plan has to know of the outputs of one component.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputFacts {
    /// The newest other version of equal content.
    pub(crate) content_of: Option<u32>,
    /// The version whose outputs stand for those of the planned one: the planned one itself, or one
    /// of equal content.
    pub(crate) source: Option<u32>,
    /// The triggers that need not run, by name.
    pub(crate) kept: BTreeMap<String, Kept>,
    /// The triggers that are known to set outputs.
    pub(crate) setters: BTreeSet<String>,
    /// Outputs of the source that nothing in today's type sets.
    pub(crate) loose: Vec<String>,
    /// What is on record in the version that is planned, where that is stored already.
    pub(crate) stored: RecordedOutputs,
}

/// The outputs of a stored version and who sets them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordedOutputs {
    outputs: Vec<String>,
    claims: Vec<(JobRole, String, Vec<String>)>,
    unclaimed: Vec<String>,
    /// Triggers of which this version's own record tells what they set.
    known: BTreeSet<String>,
    labels: Vec<String>,
    /// Results of triggers that have no job in this version.
    pub(crate) results: BTreeMap<String, JobId>,
}

/// All that is on record of the outputs of one version.
pub(crate) struct OutputRecord<'a> {
    pub(crate) version: &'a StoredVersion,
    /// Whether a newer revision of the version is stored.
    pub(crate) superseded: bool,
    /// The jobs that set outputs of the component, of any version.
    pub(crate) writers: &'a [OutputWriter],
    /// The jobs of the version that nothing spawned, ascending.
    pub(crate) jobs: &'a [JobRow],
    /// Results of triggers that have no job in the version, by name.
    pub(crate) results: &'a HashMap<String, JobId>,
}

impl OutputRecord<'_> {
    /// Who set an output: as recorded for this version, else for any version, else as the triggers'
    /// bodies say.
    fn claimants(&self, output: &str, triggers: &[&'static TriggerSpec]) -> Vec<(JobRole, String)> {
        let of = |here: bool| -> Vec<(JobRole, String)> {
            let sets = self
                .writers
                .iter()
                .filter(|writer| writer.outputs.iter().any(|name| name == output));
            let at = self.version.version();
            let mut found: Vec<(JobRole, String)> = sets
                .filter(|writer| {
                    !here || writer.target.version.is_some_and(|version| version.version == at)
                })
                .map(|writer| (writer.role, writer.method.clone()))
                .collect();
            found.sort_by(|a, b| (a.0.name(), &a.1).cmp(&(b.0.name(), &b.1)));
            found.dedup();
            found
        };
        let recorded = [of(true), of(false)].into_iter().find(|found| !found.is_empty());
        recorded.unwrap_or_else(|| {
            let named = triggers.iter().filter(|trigger| trigger.sets.contains(&output));
            named.map(|trigger| (JobRole::Trigger, trigger.name.to_owned())).collect()
        })
    }

    /// The triggers of a type that are known to set outputs.
    pub(crate) fn setters(&self, triggers: &[&'static TriggerSpec]) -> BTreeSet<String> {
        let written = |name: &str| {
            self.writers
                .iter()
                .any(|writer| writer.role == JobRole::Trigger && writer.method == name)
        };
        let applied = triggers.iter().filter(|trigger| trigger.event == Event::Apply);
        let sets = applied.filter(|trigger| !trigger.sets.is_empty() || written(trigger.name));
        sets.map(|trigger| trigger.name.to_owned()).collect()
    }

    /// The triggers whose outputs this version has for its content. `itself`: it is the version
    /// that is planned.
    pub(crate) fn kept(
        &self,
        triggers: &[&'static TriggerSpec],
        itself: bool,
    ) -> BTreeMap<String, Kept> {
        let setters = self.setters(triggers);
        let mut kept = BTreeMap::new();
        for trigger in triggers.iter().filter(|trigger| trigger.event == Event::Apply) {
            let claims = |output: &&String| {
                self.claimants(output, triggers)
                    .contains(&(JobRole::Trigger, trigger.name.to_owned()))
            };
            let outputs: Vec<String> =
                self.version.outputs.keys().filter(claims).cloned().collect();
            let job = self
                .jobs
                .iter()
                .rev()
                .find(|job| job.role == JobRole::Trigger && job.method == trigger.name);
            let (stands, job, unfinished) = match job {
                Some(job) if !job.state.is_terminal() => {
                    (itself && setters.contains(trigger.name), Some(job.id), true)
                }
                Some(job) => (
                    !outputs.is_empty()
                        && job.state == JobState::Succeeded
                        && self.is_of_content(job),
                    Some(job.id),
                    false,
                ),
                // They were copied or imported.
                None => {
                    let settled = !self.version.owes_jobs || self.version.content_of.is_some();
                    (!outputs.is_empty() && settled, self.results.get(trigger.name).copied(), false)
                }
            };
            if stands {
                kept.insert(trigger.name.to_owned(), Kept { outputs, job, unfinished });
            }
        }
        kept
    }

    /// Whether what a job of the version set belongs to the revision that is looked at.
    fn is_of_content(&self, job: &JobRow) -> bool {
        let revision = job.target.version.and_then(|at| at.revision).unwrap_or(0);
        let wanted = self.version.revision();
        // A revision that a trigger does not watch leaves what it set as it is; one without jobs
        // owes it.
        if self.superseded {
            revision <= wanted
        } else {
            revision == wanted || !self.version.owes_jobs
        }
    }

    /// Outputs that nothing sets which a new version of today's type runs.
    pub(crate) fn loose(&self, record: &Record) -> Vec<String> {
        let runs = |(role, method): &(JobRole, String)| match role {
            JobRole::Trigger => record
                .triggers
                .iter()
                .any(|trigger| trigger.event == Event::Apply && trigger.name == method),
            _ => record.lifecycle,
        };
        let outputs = self.version.outputs.keys();
        outputs
            .filter(|output| !self.claimants(output, &record.triggers).iter().any(runs))
            .cloned()
            .collect()
    }

    /// What jobs of this version may overwrite.
    pub(crate) fn recorded(
        &self,
        triggers: &[&'static TriggerSpec],
        labels: Vec<String>,
    ) -> RecordedOutputs {
        let mut recorded = RecordedOutputs { labels, ..RecordedOutputs::default() };
        for output in self.version.outputs.keys() {
            recorded.outputs.push(output.clone());
            let mut claimants = self.claimants(output, triggers);
            if claimants.is_empty() {
                recorded.unclaimed.push(output.clone());
            }
            for trigger in triggers.iter().filter(|trigger| trigger.sets.contains(&output.as_str()))
            {
                let claim = (JobRole::Trigger, trigger.name.to_owned());
                if !claimants.contains(&claim) {
                    claimants.push(claim);
                }
            }
            for (role, method) in claimants {
                match recorded
                    .claims
                    .iter_mut()
                    .find(|claim| (claim.0, &claim.1) == (role, &method))
                {
                    Some(claim) => claim.2.push(output.clone()),
                    None => recorded.claims.push((role, method, vec![output.clone()])),
                }
            }
        }
        let at = self.version.version();
        let here = self
            .writers
            .iter()
            .filter(|writer| writer.target.version.is_some_and(|version| version.version == at));
        recorded.known = here.map(|writer| writer.method.clone()).collect();
        recorded.results = self.results.iter().map(|(name, job)| (name.clone(), *job)).collect();
        recorded
    }
}

impl RecordedOutputs {
    /// The outputs on record that a trigger or hook sets, and whether that is certain; `None` where
    /// it leaves them alone.
    pub(crate) fn set_by(
        &self,
        role: JobRole,
        method: &str,
        spec: Option<&TriggerSpec>,
    ) -> Option<(Vec<String>, bool)> {
        if let Some(claim) = self.claims.iter().find(|claim| claim.0 == role && claim.1 == method) {
            return Some((claim.2.clone(), true));
        }
        let may = spec.is_some_and(|spec| spec.context)
            && !self.known.contains(method)
            && !self.unclaimed.is_empty();
        may.then(|| (self.unclaimed.clone(), false))
    }

    /// What a job of the version would overwrite.
    pub(crate) fn overwritten_by(
        &self,
        component: &Address,
        role: JobRole,
        method: &str,
        spec: Option<&TriggerSpec>,
    ) -> Option<Overwrite> {
        let (outputs, certain) = self.set_by(role, method, spec)?;
        let (component, trigger, labels) =
            (component.clone(), method.to_owned(), self.labels.clone());
        Some(Overwrite { component, trigger, outputs, certain, labels })
    }

    /// What planned jobs of the version, and copies to it, would overwrite.
    pub(super) fn overwritten(
        &self,
        component: &Address,
        jobs: &[PlannedJob],
        copied: &[(String, Vec<String>)],
    ) -> Vec<Overwrite> {
        // A spawned job that is tried again has set nothing so far.
        let jobs = jobs.iter().filter(|job| job.key.is_none() && job.method != super::ADOPT);
        let mut found: Vec<Overwrite> = jobs
            .filter_map(|job| self.overwritten_by(component, job.role, &job.method, job.spec))
            .collect();
        for (trigger, outputs) in copied {
            let outputs: Vec<String> =
                outputs.iter().filter(|output| self.outputs.contains(output)).cloned().collect();
            if !outputs.is_empty() {
                let (component, trigger, labels) =
                    (component.clone(), trigger.clone(), self.labels.clone());
                found.push(Overwrite { component, trigger, outputs, certain: true, labels });
            }
        }
        found
    }
}

/// Names in backquotes, for a text.
pub(crate) fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// `its output` or `its outputs`, with the names.
pub(crate) fn its_outputs(names: &[String]) -> String {
    format!("its output{} {}", if names.len() == 1 { "" } else { "s" }, quoted(names))
}
