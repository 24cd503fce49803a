//! What a removal would take: the component, the children that go with it, and why others stay.

use super::DbInner;
use crate::{
    address::Address,
    error::{Error, ErrorKind, Result},
    plan::RemoveInput,
    store::{JobFilter, JobRole, JobRow, JobState, Reference, StoredVersion},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What happens to the components that a removed one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Children {
    /// They stay.
    Leave,
    /// They go; where something else refers to one, nothing goes.
    All,
    /// Those go that nothing else needs.
    Unshared,
}

/// A component that may go.
struct Candidate {
    address: Address,
    /// The versions that would go, ascending.
    versions: Vec<StoredVersion>,
    /// Whether that is all of them.
    whole: bool,
    /// The newest version, for the check that nothing moved.
    newest: (u32, u32, bool),
}

impl Candidate {
    async fn read(db: &Arc<DbInner>, address: &Address, version: Option<u32>) -> Result<Self> {
        let all = db.metadata.versions(address.clone()).await?;
        let Some(newest) = all.last() else {
            return Err(Error::not_found(format!("no component `{address}`")));
        };
        let newest = (newest.version(), newest.revision(), newest.removing);
        let whole = version.is_none_or(|version| all.len() == 1 && newest.0 == version);
        let versions: Vec<_> = all
            .into_iter()
            .filter(|stored| version.is_none_or(|version| stored.version() == version))
            .collect();
        if versions.is_empty() {
            return Err(Error::not_found(format!(
                "no component `{}`",
                address.at(version.unwrap_or(0))
            )));
        }
        Ok(Candidate { address: address.clone(), versions, whole, newest })
    }

    fn has(&self, version: Option<u32>) -> bool {
        self.versions.iter().any(|stored| Some(stored.version()) == version)
    }

    /// Whether a job is one of this component, not of a former one of the same name.
    fn owns(&self, job: &JobRow) -> bool {
        job.component == self.versions[0].component
    }

    /// The versions that need a cleanup: `on_create` was attempted, and no cleanup succeeded yet.
    async fn uncleaned(&self, db: &Arc<DbInner>) -> Result<Vec<u32>> {
        let roles = Some(vec![JobRole::OnCreate, JobRole::Cleanup]);
        let target = Some(self.address.clone());
        let jobs = db.metadata.jobs(JobFilter { target, roles, ..JobFilter::default() }).await?;
        let of = |job: &&JobRow, number: u32| {
            self.owns(job) && job.target.version.is_some_and(|at| at.version == number)
        };
        let attempted = |number: u32| {
            jobs.iter()
                .filter(|job| of(job, number))
                .any(|job| job.role == JobRole::OnCreate && job.attempt > 0)
        };
        let cleaned = |number: u32| {
            jobs.iter()
                .filter(|job| of(job, number))
                .any(|job| job.role == JobRole::Cleanup && job.state == JobState::Succeeded)
        };
        Ok(self
            .versions
            .iter()
            .map(|stored| stored.version())
            .filter(|number| attempted(*number) && !cleaned(*number))
            .collect())
    }

    /// The unfinished jobs of the versions that would go, apart from cleanups.
    async fn unfinished(&self, db: &Arc<DbInner>) -> Result<Vec<JobRow>> {
        let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
        let target = Some(self.address.clone());
        let mut jobs =
            db.metadata.jobs(JobFilter { target, states, ..JobFilter::default() }).await?;
        jobs.retain(|job| {
            job.role != JobRole::Cleanup
                && self.owns(job)
                && job.target.version.is_some_and(|at| self.has(Some(at.version)))
        });
        Ok(jobs)
    }
}

/// Candidates by `Kind/identifier`.
type Going = BTreeMap<String, Candidate>;

fn leaves(going: &Going, reference: &Reference) -> bool {
    let version = reference.parent.version.map(|at| at.version);
    going.get(&reference.parent.path()).is_some_and(|candidate| candidate.has(version))
}

/// Everything that is known of what would go, parents before children; and the children that stay,
/// with the reasons.
pub(super) async fn gather(
    db: &Arc<DbInner>,
    root: &Address,
    children: Children,
    force: bool,
    label: Option<&str>,
) -> Result<(Vec<RemoveInput>, Vec<(Address, String)>)> {
    let (mut going, order) = candidates(db, root, children != Children::Leave).await?;
    refuse_labelled(db, root, &going, label).await?;
    let all = going.values().flat_map(|candidate| {
        candidate.versions.iter().map(|stored| candidate.address.at(stored.version()))
    });
    let references = db.metadata.referrers(all.collect()).await?;
    let mut held = Vec::new();
    if children == Children::Unshared {
        held = keep_shared(db, &root.path(), &mut going, &references).await?;
    }
    refuse_used(&root.path(), &going, &references)?;
    let mut inputs = Vec::with_capacity(going.len());
    for path in parents_first(order, &going, &references) {
        let Some(candidate) = going.get(&path) else { continue };
        let forgets = forgotten(&going, &references, &path);
        inputs.push(describe(db, candidate, forgets, force).await?);
    }
    Ok((inputs, held))
}

/// The component and, where asked for, all that it holds, directly or not; with the order in which
/// they were found.
async fn candidates(
    db: &Arc<DbInner>,
    root: &Address,
    with_children: bool,
) -> Result<(Going, Vec<String>)> {
    let mut going = Going::new();
    let mut order: Vec<String> = Vec::new();
    let mut queue = vec![(root.unversioned(), root.version.map(|at| at.version))];
    while let Some((address, version)) = queue.pop() {
        if going.contains_key(&address.path()) {
            continue;
        }
        let candidate = Candidate::read(db, &address, version).await?;
        if with_children {
            let children: BTreeSet<String> = candidate
                .versions
                .iter()
                .flat_map(|stored| crate::job::references(&stored.document))
                .collect();
            for child in children {
                let child: Address = child.parse()?;
                queue.push((child.unversioned(), None));
            }
        }
        order.push(address.path());
        going.insert(address.path(), candidate);
    }
    Ok((going, order))
}

/// A version with a label does not go alone, unless it is the label `but`.
async fn refuse_labelled(
    db: &Arc<DbInner>,
    root: &Address,
    going: &Going,
    but: Option<&str>,
) -> Result<()> {
    let Some(candidate) = going.get(&root.path()).filter(|candidate| !candidate.whole) else {
        return Ok(());
    };
    let labels = db.metadata.labels(Some(candidate.address.clone())).await?;
    let mut labels = labels.into_iter().filter(|row| Some(row.label.as_str()) != but);
    match labels.find(|row| candidate.has(row.address.version.map(|at| at.version))) {
        Some(row) => Err(Error::new(
            ErrorKind::InUse,
            format!("`{}` is labelled `{}`", row.address, row.label),
        )
        .with_hint("move the label to another version or take it away first")),
        None => Ok(()),
    }
}

/// Take the children out that something else needs, and what they hold; gives them with the
/// reasons.
async fn keep_shared(
    db: &Arc<DbInner>,
    root: &str,
    going: &mut Going,
    references: &[Reference],
) -> Result<Vec<(Address, String)>> {
    let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in db.metadata.labels(None).await? {
        reasons.entry(row.address.path()).or_default().insert(format!(
            "version {} is labelled `{}`",
            version(&row.address),
            row.label
        ));
    }
    let mut held = Vec::new();
    loop {
        for reference in
            references.iter().filter(|reference| reference.current && !leaves(going, reference))
        {
            let why = format!("it is used by `{}` (`{}`)", reference.parent, reference.path);
            reasons.entry(reference.child.path()).or_default().insert(why);
        }
        let before = held.len();
        for (path, reasons) in std::mem::take(&mut reasons) {
            if path != root
                && let Some(candidate) = going.remove(&path)
            {
                held.push((candidate.address, reasons.into_iter().collect::<Vec<_>>().join(", ")));
            }
        }
        // What a child that stays holds is needed by it.
        if held.len() == before {
            held.sort_by_key(|(address, _)| address.path());
            return Ok(held);
        }
    }
}

fn version(address: &Address) -> u32 {
    address.version.map_or(0, |at| at.version)
}

fn refuse_used(root: &str, going: &Going, references: &[Reference]) -> Result<()> {
    let outside = |reference: &&Reference| {
        reference.current
            && !leaves(going, reference)
            && going.contains_key(&reference.child.path())
    };
    let blocking: Vec<&Reference> = references.iter().filter(outside).collect();
    let Some(first) = blocking.first() else { return Ok(()) };
    let mut parents: Vec<String> = blocking
        .iter()
        .map(|reference| format!("`{}` (`{}`)", reference.parent, reference.path))
        .collect();
    parents.sort();
    parents.dedup();
    let hint = match first.child.path() == root {
        true => "remove those first, or apply them without it",
        false => {
            "remove those first, or apply them without it; `.with_unshared_children()` leaves what others use"
        }
    };
    Err(Error::new(
        ErrorKind::InUse,
        format!("`{}` cannot be removed: it is used by {}", first.child.path(), parents.join(", ")),
    )
    .with_hint(hint))
}

/// The superseded revisions of others that are forgotten with a component.
fn forgotten(going: &Going, references: &[Reference], path: &str) -> Vec<Address> {
    let mut forgets: Vec<Address> = Vec::new();
    for reference in
        references.iter().filter(|reference| !reference.current && reference.child.path() == path)
    {
        if !leaves(going, reference) && !forgets.contains(&reference.parent) {
            forgets.push(reference.parent.clone());
        }
    }
    forgets
}

/// Parents before children, else in the order they were found.
fn parents_first(order: Vec<String>, going: &Going, references: &[Reference]) -> Vec<String> {
    let place: HashMap<&str, usize> =
        order.iter().enumerate().map(|(place, path)| (path.as_str(), place)).collect();
    let mut children: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); order.len()];
    let mut parents = vec![0_usize; order.len()];
    for reference in references {
        let (parent, child) = (reference.parent.path(), reference.child.path());
        if let (Some(parent), Some(child)) = (place.get(parent.as_str()), place.get(child.as_str()))
            && parent != child
            && children[*parent].insert(*child)
        {
            parents[*child] += 1;
        }
    }
    let mut free: BTreeSet<usize> = (0..order.len()).filter(|place| parents[*place] == 0).collect();
    let mut left: BTreeSet<usize> = (0..order.len()).collect();
    let mut sorted = Vec::with_capacity(order.len());
    // Superseded revisions may refer in a circle; then the first one that was found comes first.
    while let Some(next) = free.pop_first().or_else(|| left.first().copied()) {
        if !left.remove(&next) {
            continue;
        }
        sorted.push(order[next].clone());
        for child in &children[next] {
            parents[*child] = parents[*child].saturating_sub(1);
            if parents[*child] == 0 {
                free.insert(*child);
            }
        }
    }
    sorted.retain(|path| going.contains_key(path));
    sorted
}

async fn describe(
    db: &Arc<DbInner>,
    candidate: &Candidate,
    forgets: Vec<Address>,
    force: bool,
) -> Result<RemoveInput> {
    let Candidate { address, versions, whole, newest } = candidate;
    let cleanup = candidate.uncleaned(db).await?;
    let live = candidate.unfinished(db).await?;
    let known = db.registry.knows(&address.kind);
    if !cleanup.is_empty() && !known && !force {
        let error = db
            .registry
            .entry(&address.kind)
            .err()
            .unwrap_or_else(|| Error::internal("an unknown kind is known"));
        return Err(error.context(format_args!("`{address}` needs a cleanup")));
    }
    let cleanup = if known { cleanup } else { Vec::new() };
    Ok(RemoveInput {
        address: address.clone(),
        versions: versions.clone(),
        whole: *whole,
        cleanup,
        live,
        newest: *newest,
        forgets,
    })
}
