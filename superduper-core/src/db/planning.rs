//! From an encoded tree to the plan of an apply, a repair or a rollback: what is stored is read
//! here, what follows from it is decided in `plan/`.
//!
//! A plan is drafted first. Only where it makes a new version, or has jobs for a version with
//! outputs, is the record of outputs read and the plan made again: an apply without either reads no
//! more than the snapshot.

use super::{DbInner, apply::finish, read::decode_stored};
use crate::{
    address::Address,
    component::{callable_runtime::check_runtimes, trigger::TriggerSpec},
    encode::{Record, Tree, encode_tree},
    error::{Error, ErrorKind, Result},
    plan::{
        Action, ApplyOptions, Draft, OutputFacts, OutputRecord, Overwrite, Plan, PlanInput,
        Repairs, build, quoted,
    },
    store::{
        Expect, JobFilter, JobId, JobRole, JobRow, JobState, OutputWriter, Snapshot, StoredVersion,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// So many versions are followed to the one whose job gave a result.
const HOPS: usize = 16;

/// What kind of plan is made.
#[derive(Default)]
pub(super) struct Intent<'a> {
    pub(super) options: ApplyOptions,
    pub(super) repairs: Repairs,
    /// For a repair or rollback the stored tree, the root first: its components stand for
    /// themselves.
    pub(super) stored: Option<&'a [StoredVersion]>,
    /// Whether the root of that tree becomes the next version.
    pub(super) back: bool,
}

/// Read what is stored and plan.
pub(super) async fn plan_tree(
    db: &Arc<DbInner>,
    tree: &Arc<Tree>,
    intent: &Intent<'_>,
) -> Result<(Plan, Snapshot)> {
    if !db.options.observer {
        // The process that runs the jobs has the runtimes.
        check_runtimes(tree, db.registry.runtimes())?;
    }
    let snapshot = db.metadata.snapshot(tree.records.iter().map(Record::address).collect()).await?;
    refuse_old_kinds(db, tree, &snapshot).await?;
    let pins = match intent.stored {
        Some(stored) => older_of(&stored[1.min(stored.len())..], &snapshot),
        None => deliberate_pins(db, tree, &snapshot).await?,
    };
    let back = intent.stored.filter(|_| intent.back).and_then(<[StoredVersion]>::first);
    let none = HashMap::new();
    let mut input = PlanInput {
        snapshot: &snapshot,
        registry: &db.registry,
        options: intent.options,
        repairs: &intent.repairs,
        pins: &pins,
        back,
        facts: &none,
    };
    let draft = build(tree, &input)?;
    let facts = Reader { db, tree, snapshot: &snapshot, options: intent.options, back }
        .facts(&draft)
        .await?;
    let plan = if facts.is_empty() {
        draft.plan
    } else {
        input.facts = &facts;
        build(tree, &input)?.plan
    };
    Ok((plan, snapshot))
}

/// Refuse a plan whose jobs would change what a label points at.
pub(super) fn refuse_overwrites(overwrites: &[Overwrite]) -> Result<()> {
    let Some(Overwrite { component, trigger, outputs, certain, labels }) =
        overwrites.iter().find(|found| !found.labels.is_empty())
    else {
        return Ok(());
    };
    let (would, outputs, labels) =
        (if *certain { "would" } else { "may" }, quoted(outputs), quoted(labels));
    let version = component.at(component.version.map_or(0, |at| at.version));
    let text = format!(
        "`{trigger}` {would} overwrite {outputs} of `{version}`, which has the label {labels}"
    );
    Err(Error::new(ErrorKind::InUse, text)
        .with_hint("make a new version with `db.apply(…).again()`, or take the label away with `db.unlabel` first"))
}

/// A component that is stored under a former kind of its type must not be made a second time under
/// the new one.
async fn refuse_old_kinds(db: &Arc<DbInner>, tree: &Tree, snapshot: &Snapshot) -> Result<()> {
    let mut former: Vec<(Address, Address)> = Vec::new();
    for record in
        tree.records.iter().filter(|record| !snapshot.components.contains_key(&record.path()))
    {
        let aliases = db.registry.entry(record.kind)?.spec.aliases;
        former.extend(
            aliases
                .iter()
                .map(|alias| (Address::new(*alias, record.identifier.as_str()), record.address())),
        );
    }
    if former.is_empty() {
        return Ok(());
    }
    let found = db.metadata.snapshot(former.iter().map(|(old, _)| old.clone()).collect()).await?;
    match former.iter().find(|(old, _)| found.components.contains_key(&old.path())) {
        Some((old, new)) => Err(Error::invalid(format!(
            "`{new}` is stored as `{old}`, under the former kind of its type"
        ))
        .with_hint(format!(
            "call `db.rename(\"{old}\", \"{new}\")` once; its versions, outputs and jobs come along"
        ))),
        None => Ok(()),
    }
}

/// Those of the versions that are not the newest of their component.
fn older_of(stored: &[StoredVersion], snapshot: &Snapshot) -> HashMap<String, Vec<StoredVersion>> {
    let mut older: HashMap<String, Vec<StoredVersion>> = HashMap::new();
    for version in stored {
        let newest = snapshot.components.get(&version.address.path());
        if newest.is_some_and(|newest| newest.version() != version.version()) {
            older.entry(version.address.path()).or_default().push(version.clone());
        }
    }
    older
}

/// Older versions that a stored parent was given although a newer one existed, as by a rollback:
/// with the same content they stand.
///
/// A parent that merely has not been applied since its child got a new version follows the child.
async fn deliberate_pins(
    db: &Arc<DbInner>,
    tree: &Tree,
    snapshot: &Snapshot,
) -> Result<HashMap<String, Vec<StoredVersion>>> {
    let mut pins: HashMap<String, Vec<StoredVersion>> = HashMap::new();
    let mut seen = HashSet::new();
    for record in tree.records.iter().filter(|record| !record.children.is_empty()) {
        let Some(parent) = snapshot.components.get(&record.path()) else { continue };
        for reference in crate::job::references(&parent.document) {
            let Ok(child) = reference.parse::<Address>() else { continue };
            let newest = snapshot.components.get(&child.path());
            let moved_on = newest
                .is_some_and(|newest| Some(newest.version()) != child.version.map(|at| at.version));
            if !moved_on || !seen.insert((reference, parent.address.clone())) {
                continue;
            }
            let below = db.metadata.tree(child).await?;
            for version in older_of(&below, snapshot).into_values().flatten() {
                let known = pins
                    .get(&version.address.path())
                    .is_some_and(|pins| pins.iter().any(|pin| pin.address == version.address));
                if !known && existed_then(db, parent, &version).await? {
                    pins.entry(version.address.path()).or_default().push(version);
                }
            }
        }
    }
    Ok(pins)
}

/// Whether a newer version than a child's existed when the parent was stored.
async fn existed_then(
    db: &Arc<DbInner>,
    parent: &StoredVersion,
    child: &StoredVersion,
) -> Result<bool> {
    let versions = db.metadata.versions(child.address.unversioned()).await?;
    let Some(next) = versions.iter().find(|version| version.version() > child.version()) else {
        return Ok(false);
    };
    // Of one millisecond: a parent that went back knew of it.
    Ok(next.created_at < parent.updated_at
        || (next.created_at == parent.updated_at && parent.content_of.is_some()))
}

/// Reads what a plan has to know of outputs.
struct Reader<'a> {
    db: &'a Arc<DbInner>,
    tree: &'a Arc<Tree>,
    snapshot: &'a Snapshot,
    options: ApplyOptions,
    back: Option<&'a StoredVersion>,
}

impl Reader<'_> {
    /// The facts of those components of a draft for which they matter.
    async fn facts(&self, draft: &Draft) -> Result<HashMap<String, OutputFacts>> {
        let mut wanted = Vec::new();
        let targets: HashSet<&Address> = draft.plan.jobs.iter().map(|job| &job.target).collect();
        for (index, component) in draft.plan.components.iter().enumerate() {
            let Some(stored) = self
                .snapshot
                .components
                .get(&component.address.path())
                .filter(|_| !draft.pinned[index])
            else {
                continue;
            };
            let has_jobs = targets.contains(&component.address);
            let others = match component.action {
                Action::NewVersion => self.equal_versions(index, stored, true).await?,
                // An update that goes back to the content of another version; one that only follows
                // a child does not.
                Action::Update if has_jobs && draft.content[index] && stored.next_version > 1 => {
                    self.equal_versions(index, stored, false).await?
                }
                _ => Vec::new(),
            };
            if !others.is_empty()
                || (has_jobs
                    && component.action != Action::NewVersion
                    && !stored.outputs.is_empty())
            {
                wanted.push((index, stored, others));
            }
        }
        let addresses: Vec<Address> =
            wanted.iter().map(|(_, stored, _)| stored.address.unversioned()).collect();
        let writers = if addresses.is_empty() {
            Vec::new()
        } else {
            self.db.metadata.output_writers(addresses).await?
        };
        let mut facts = HashMap::new();
        for (index, stored, others) in wanted {
            let path = stored.address.path();
            let writers: Vec<OutputWriter> =
                writers.iter().filter(|writer| writer.target.path() == path).cloned().collect();
            facts.insert(path, self.facts_of(draft, index, stored, &others, &writers).await?);
        }
        Ok(facts)
    }

    async fn facts_of(
        &self,
        draft: &Draft,
        index: usize,
        stored: &StoredVersion,
        others: &[StoredVersion],
        writers: &[OutputWriter],
    ) -> Result<OutputFacts> {
        let record = &self.tree.records[index];
        let action = draft.plan.components[index].action;
        let is_root = index + 1 == self.tree.records.len();
        let mut facts = OutputFacts {
            content_of: others.first().map(StoredVersion::version),
            ..OutputFacts::default()
        };
        if action != Action::NewVersion {
            let history = History::read(self.db, stored, record).await?;
            let of_stored = history.record(stored, false, writers);
            facts.setters = of_stored.setters(&record.triggers);
            let labels = labels_of(self.db, stored).await?;
            facts.stored = of_stored.recorded(&record.triggers, labels);
            if action == Action::Unchanged && !draft.content[index] {
                facts.source = Some(stored.version());
                facts.kept = of_stored.kept(&record.triggers, true);
            }
        }
        // What runs again, or follows a child that was made again, is not taken from before.
        if !draft.content[index] || (is_root && self.options.again) {
            return Ok(facts);
        }
        for other in others {
            let superseded = self.back.is_some() && !self.is_newest_revision(other).await?;
            let history = History::read(self.db, other, record).await?;
            let of_other = history.record(other, superseded, writers);
            let kept = of_other.kept(&record.triggers, false);
            let setters = of_other.setters(&record.triggers);
            let loose = of_other.loose(record);
            if kept.is_empty() && loose.is_empty() {
                continue;
            }
            let is_whole = kept.len() == setters.len();
            if is_whole || facts.source.is_none() {
                (facts.source, facts.kept, facts.setters, facts.loose) =
                    (Some(other.version()), kept, setters, loose);
            }
            if is_whole {
                break;
            }
        }
        Ok(facts)
    }

    /// Other versions of equal content, children by content, the newest first.
    async fn equal_versions(
        &self,
        index: usize,
        stored: &StoredVersion,
        is_new: bool,
    ) -> Result<Vec<StoredVersion>> {
        let record = &self.tree.records[index];
        let is_root = index + 1 == self.tree.records.len();
        if let Some(back) = self.back.filter(|_| is_root) {
            return Ok(vec![back.clone()]);
        }
        let mut versions = self.db.metadata.versions(stored.address.unversioned()).await?;
        versions.retain(|version| {
            !version.removing
                && version.uuid == record.uuid
                && (is_new || version.version() != stored.version())
        });
        let mut equal = Vec::new();
        for version in versions.into_iter().rev() {
            if self.is_equal(&version, record).await {
                equal.push(version);
            }
        }
        Ok(equal)
    }

    /// Whether a stored version has the content of a record. The hash on record may be older than
    /// its children's revisions.
    async fn is_equal(&self, version: &StoredVersion, record: &Record) -> bool {
        let encode = async {
            let stored = self.db.metadata.tree(version.address.at(version.version())).await?;
            let entry = *self.db.registry.entry(record.kind)?;
            let component = decode_stored(self.db, stored, |document| (entry.decode)(document))?;
            let tree = encode_tree(&*component)?;
            drop(component);
            finish(tree).await
        };
        // A version that today's type cannot read is not what is applied.
        encode.await.is_ok_and(|tree| tree.root().content_hash == record.content_hash)
    }

    async fn is_newest_revision(&self, version: &StoredVersion) -> Result<bool> {
        let newest = self.db.metadata.tree(version.address.at(version.version())).await?;
        Ok(newest.first().is_some_and(|newest| newest.revision() == version.revision()))
    }
}

/// The jobs of a version, and the results that came from elsewhere.
pub(super) struct History {
    pub(super) jobs: Vec<JobRow>,
    pub(super) results: HashMap<String, JobId>,
}

impl History {
    pub(super) async fn read(
        db: &Arc<DbInner>,
        version: &StoredVersion,
        record: &Record,
    ) -> Result<Self> {
        let jobs = jobs_of(db, version).await?;
        let is_taken =
            |trigger: &TriggerSpec| record.triggers.iter().any(|other| takes(other, trigger.name));
        let ran =
            |name: &str| jobs.iter().any(|job| job.role == JobRole::Trigger && job.method == name);
        let mut lacking: Vec<&str> = record
            .triggers
            .iter()
            .filter(|trigger| is_taken(trigger))
            .map(|trigger| trigger.name)
            .collect();
        lacking.retain(|name| !ran(name));
        let mut history = History { jobs, results: HashMap::new() };
        if !version.outputs.is_empty() {
            history.add_taken(db, record, &lacking).await?;
            lacking.retain(|name| !history.results.contains_key(*name));
            history.add_earlier(db, version, lacking).await?;
        }
        Ok(history)
    }

    /// Add results that were taken here: what took a result when it ran names the job that gave it.
    async fn add_taken(
        &mut self,
        db: &Arc<DbInner>,
        record: &Record,
        lacking: &[&str],
    ) -> Result<()> {
        for name in lacking {
            let took = |method: &str| {
                record.triggers.iter().any(|other| other.name == method && takes(other, name))
            };
            let Some(job) = self
                .jobs
                .iter()
                .rev()
                .find(|job| job.role == JobRole::Trigger && took(&job.method))
            else {
                continue;
            };
            let edges = db.metadata.dependencies(job.run).await?;
            let edge = edges
                .into_iter()
                .find(|edge| edge.job == job.id && edge.parameter.as_deref() == Some(*name));
            self.results.extend(edge.map(|edge| ((*name).to_owned(), edge.needs)));
        }
        Ok(())
    }

    /// Add results of the version of equal content, and of the one that this had its content from.
    async fn add_earlier(
        &mut self,
        db: &Arc<DbInner>,
        version: &StoredVersion,
        mut lacking: Vec<&str>,
    ) -> Result<()> {
        let mut next = version.content_of;
        for _ in 0..HOPS {
            let Some(number) = next.filter(|_| !lacking.is_empty()) else { break };
            let address = version.address.at(number);
            let older = db.metadata.tree(address.clone()).await?.into_iter().next();
            let filter = JobFilter {
                target: Some(address),
                roles: Some(vec![JobRole::Trigger]),
                ..JobFilter::default()
            };
            let jobs = db.metadata.jobs(filter).await?;
            for job in jobs.into_iter().rev().filter(|job| job.component == version.component) {
                let gave = job.key.is_none()
                    && job.state == JobState::Succeeded
                    && lacking.contains(&job.method.as_str());
                if gave {
                    self.results.entry(job.method.clone()).or_insert(job.id);
                }
            }
            lacking.retain(|name| !self.results.contains_key(*name));
            next = older.and_then(|older| older.content_of);
        }
        Ok(())
    }

    /// The job whose result a trigger takes: the newest one of that method, if it succeeded or is
    /// unfinished; the one on record elsewhere, if the method never ran here.
    pub(super) fn giver(&self, method: &str) -> Option<JobId> {
        match self.jobs.iter().rev().find(|job| job.method == method) {
            Some(job) => (job.role == JobRole::Trigger
                && (job.state == JobState::Succeeded || !job.state.is_terminal()))
            .then_some(job.id),
            None => self.results.get(method).copied(),
        }
    }

    pub(super) fn record<'a>(
        &'a self,
        version: &'a StoredVersion,
        superseded: bool,
        writers: &'a [OutputWriter],
    ) -> OutputRecord<'a> {
        OutputRecord { version, superseded, writers, jobs: &self.jobs, results: &self.results }
    }
}

/// Whether a trigger takes the result of another one.
fn takes(trigger: &TriggerSpec, name: &str) -> bool {
    trigger.depends_on.iter().any(|needed| needed.parameter && needed.name == name)
}

/// Refuse to try jobs again that would change what a label points at; gives what must hold when
/// they are recorded.
///
/// They ended without success, so they have set nothing themselves: earlier jobs of the same
/// triggers may have.
pub(super) async fn check_retried(db: &Arc<DbInner>, jobs: &[&JobRow]) -> Result<Vec<Expect>> {
    let mut versions: HashMap<Address, Vec<&JobRow>> = HashMap::new();
    for job in jobs.iter().filter(|job| job.key.is_none() && job.role != JobRole::Cleanup) {
        let number = job.target.version.map_or(0, |at| at.version);
        versions.entry(job.target.at(number)).or_default().push(job);
    }
    let mut found = Vec::new();
    for (address, jobs) in versions {
        let stored = db.metadata.tree(address.clone()).await?.into_iter().next();
        let Some(version) = stored.filter(|version| !version.outputs.is_empty()) else { continue };
        let writers = db.metadata.output_writers(vec![address.unversioned()]).await?;
        let (history, none) = (jobs_of(db, &version).await?, HashMap::new());
        let spec = |method: &str| {
            db.registry.entry(&address.kind).ok().and_then(|entry| (entry.trigger)(method))
        };
        let specs: Vec<_> = history.iter().filter_map(|job| spec(&job.method)).collect();
        let record = OutputRecord {
            version: &version,
            superseded: false,
            writers: &writers,
            jobs: &history,
            results: &none,
        };
        let recorded = record.recorded(&specs, labels_of(db, &version).await?);
        found.extend(jobs.iter().filter_map(|job| {
            recorded.overwritten_by(&address, job.role, &job.method, spec(&job.method))
        }));
    }
    refuse_overwrites(&found)?;
    Ok(found
        .into_iter()
        .map(|overwrite| Expect::Unlabelled { address: overwrite.component, but: None })
        .collect())
}

/// The jobs of a version that nothing spawned, ascending.
async fn jobs_of(db: &Arc<DbInner>, version: &StoredVersion) -> Result<Vec<JobRow>> {
    let roles = Some(vec![JobRole::Trigger, JobRole::OnCreate]);
    let target = Some(version.address.at(version.version()));
    let mut jobs = db.metadata.jobs(JobFilter { target, roles, ..JobFilter::default() }).await?;
    jobs.retain(|job| job.key.is_none() && job.component == version.component);
    Ok(jobs)
}

/// The labels that point at a version.
pub(super) async fn labels_of(db: &Arc<DbInner>, version: &StoredVersion) -> Result<Vec<String>> {
    let labels = db.metadata.labels(Some(version.address.unversioned())).await?;
    let number = Some(version.version());
    Ok(labels
        .into_iter()
        .filter(|row| row.address.version.map(|at| at.version) == number)
        .map(|row| row.label)
        .collect())
}
