//! Removing components: refuse what is in use, clean up, delete rows, collect blobs.

use super::{
    Db, DbInner, Run,
    apply::{Applied, new_jobs, start_run},
};
use crate::{
    Address, Error, ErrorKind, Result,
    component::ComponentType,
    job::{Instances, Outcome},
    lifecycle::BoxFuture,
    plan::{Action, Plan, Removal, RemoveInput, build_removal},
    store::{
        Batch, Durability, Expect, JobFilter, JobId, JobRole, JobRow, JobState, NewRun, Op, Reference, RunFilter, RunId, RunPurpose,
        RunRow, Timestamp,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::IntoFuture,
    sync::Arc,
};

/// How often a removal plans again after others moved the state.
const ATTEMPTS: usize = 16;

/// A removal under construction; await it.
#[must_use = "a removal does nothing until it is awaited"]
pub struct Remove {
    db: Db,
    address: Address,
    /// Kinds under which the component may have been stored before its type was renamed.
    aliases: &'static [&'static str],
    recursive: bool,
    force: bool,
    exclusive: bool,
    unless: Option<String>,
}

/// What a removal did.
#[derive(Debug, Clone)]
pub struct Removed {
    /// The versions that are gone.
    pub versions: Vec<Address>,
    /// The outcome of its cleanup jobs; `None` where there were none.
    pub outcome: Option<Outcome>,
}

impl Db {
    /// Remove a component with all its versions: `cleanup` runs, then rows and blobs go.
    pub fn remove<T: ComponentType>(&self, identifier: &str) -> Remove {
        Remove { aliases: T::SPEC.aliases, ..self.remove_dyn(Address::new(T::__kind(), identifier)) }
    }

    /// Remove a component by its address; with a version in it, that version only.
    pub fn remove_dyn(&self, address: Address) -> Remove {
        Remove { db: self.clone(), address, aliases: &[], recursive: false, force: false, exclusive: false, unless: None }
    }

    /// What removing a component would do. Writes nothing.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where something else refers to it, naming it.
    pub async fn plan_remove<T: ComponentType>(&self, identifier: &str) -> Result<Plan> {
        self.remove::<T>(identifier).plan().await
    }
}

impl Remove {
    /// Remove the components it holds too, unless something else refers to them.
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Go on where `setup` or `cleanup` fails, and where the program does not know the type.
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Remove one version only.
    pub fn version(mut self, version: u32) -> Self {
        self.address = self.address.at(version);
        self
    }

    /// Refuse, with `Conflict`, where a run of the component is unfinished; else its jobs are cancelled.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Refuse, with `Conflict`, where the component has this label, also if the whole component would go and its labels with it.
    pub fn unless_labelled(mut self, label: impl Into<String>) -> Self {
        self.unless = Some(label.into());
        self
    }

    /// What awaiting it would do.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where something else refers to it, naming it.
    pub async fn plan(&self) -> Result<Plan> {
        let mut plan = self.plan_any().await?;
        let address = plan.root.unversioned();
        if self.exclusive {
            plan.expect.push(Expect::NoRun { address: address.clone(), but: None });
        }
        if let Some(label) = &self.unless {
            plan.expect.push(Expect::Label { address, label: label.clone(), version: None });
        }
        Ok(plan)
    }

    async fn plan_any(&self) -> Result<Plan> {
        let first = match self.plan_of(self.address.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => error,
            planned => return planned,
        };
        for alias in self.aliases {
            match self.plan_of(Address { kind: (*alias).to_owned(), ..self.address.clone() }).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                planned => return planned,
            }
        }
        Err(first)
    }

    async fn plan_of(&self, address: Address) -> Result<Plan> {
        let inputs = gather(self.db.inner(), &address, self.recursive, self.force).await?;
        Ok(build_removal(address, &inputs, self.force))
    }

    async fn run(self) -> Result<Removed> {
        self.db.inner().check_writable("remove")?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let plan = self.plan().await?;
            let versions = plan.components().iter().map(|component| component.address.clone()).collect();
            match start(self.db.clone(), plan).await {
                Ok(run) => return Ok(Removed { versions, outcome: run.wait().await.map_err(explain)? }),
                Err(error) if error.kind() == ErrorKind::Conflict => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("a removal was tried no time")))
    }
}

fn explain(error: Error) -> Error {
    error.with_hint("nothing was removed; call `db.remove` again to try once more, with `.force()` to go on without a successful cleanup")
}

impl IntoFuture for Remove {
    type Output = Result<Removed>;
    type IntoFuture = BoxFuture<'static, Result<Removed>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Everything that is known of what would go; parents before children.
async fn gather(db: &Arc<DbInner>, root: &Address, recursive: bool, force: bool) -> Result<Vec<RemoveInput>> {
    let one_version = root.version.map(|at| at.version);
    let mut going: BTreeMap<String, RemoveInput> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut queue = vec![(root.unversioned(), one_version)];
    while let Some((address, version)) = queue.pop() {
        if going.contains_key(&address.path()) {
            continue;
        }
        let input = describe(db, &address, version, force).await?;
        if recursive {
            let children: BTreeSet<String> = input.versions.iter().flat_map(|stored| crate::job::references(&stored.document)).collect();
            for child in children {
                let child: Address = child.parse()?;
                queue.push((child.unversioned(), None));
            }
        }
        order.push(address.path());
        going.insert(address.path(), input);
    }
    let references = referrers(db, &going).await?;
    let leaves = |reference: &Reference| {
        let input = going.get(&reference.parent.path());
        let version = reference.parent.version.map(|at| at.version);
        input.is_some_and(|input| input.versions.iter().any(|stored| Some(stored.version()) == version))
    };
    let blocking: Vec<&Reference> = references.iter().filter(|reference| reference.current && !leaves(reference)).collect();
    if let Some(first) = blocking.first() {
        let mut parents: Vec<String> = blocking.iter().map(|reference| format!("`{}` (`{}`)", reference.parent, reference.path)).collect();
        parents.sort();
        parents.dedup();
        return Err(Error::new(
            ErrorKind::InUse,
            format!("`{}` cannot be removed: it is used by {}", first.child.path(), parents.join(", ")),
        )
        .with_hint("remove those first, or apply them without it"));
    }
    let forgotten: Vec<&Reference> = references.iter().filter(|reference| !reference.current && !leaves(reference)).collect();
    for reference in forgotten {
        if let Some(input) = going.get_mut(&reference.child.path())
            && !input.forgets.contains(&reference.parent)
        {
            input.forgets.push(reference.parent.clone());
        }
    }
    // Parents before children, else in the order they were found.
    let inside: Vec<(String, String)> = references.iter().map(|reference| (reference.parent.path(), reference.child.path())).collect();
    let mut sorted = Vec::with_capacity(order.len());
    while !order.is_empty() {
        let free =
            order.iter().position(|path| !inside.iter().any(|(parent, child)| child == path && parent != path && order.contains(parent)));
        sorted.push(order.remove(free.unwrap_or(0)));
    }
    Ok(sorted.into_iter().filter_map(|path| going.remove(&path)).collect())
}

async fn referrers(db: &Arc<DbInner>, going: &BTreeMap<String, RemoveInput>) -> Result<Vec<Reference>> {
    let children = going.values().flat_map(|input| input.versions.iter().map(|stored| input.address.at(stored.version()))).collect();
    db.metadata.referrers(children).await
}

async fn describe(db: &Arc<DbInner>, address: &Address, version: Option<u32>, force: bool) -> Result<RemoveInput> {
    let all = db.metadata.versions(address.clone()).await?;
    let Some(newest) = all.last() else {
        return Err(Error::not_found(format!("no component `{address}`")));
    };
    let state = (newest.version(), newest.revision(), newest.removing);
    let whole = version.is_none_or(|version| all.len() == 1 && newest.version() == version);
    let versions: Vec<_> = all.into_iter().filter(|stored| version.is_none_or(|version| stored.version() == version)).collect();
    if versions.is_empty() {
        return Err(Error::not_found(format!("no component `{}`", address.at(version.unwrap_or(0)))));
    }
    let hooks = Some(vec![JobRole::OnCreate, JobRole::Cleanup]);
    let jobs = db.metadata.jobs(JobFilter { target: Some(address.clone()), roles: hooks, ..JobFilter::default() }).await?;
    let open = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
    let open = db.metadata.jobs(JobFilter { target: Some(address.clone()), states: open, ..JobFilter::default() }).await?;
    let component = versions[0].component;
    let of = |job: &&JobRow, number: u32| job.component == component && job.target.version.is_some_and(|at| at.version == number);
    let attempted = |number: u32| jobs.iter().filter(|job| of(job, number)).any(|job| job.role == JobRole::OnCreate && job.attempt > 0);
    let cleaned =
        |number: u32| jobs.iter().filter(|job| of(job, number)).any(|job| job.role == JobRole::Cleanup && job.state == JobState::Succeeded);
    let known = db.registry.knows(&address.kind);
    let cleanup: Vec<u32> =
        versions.iter().map(|stored| stored.version()).filter(|number| attempted(*number) && !cleaned(*number)).collect();
    if !cleanup.is_empty() && !known && !force {
        let error = db.registry.entry(&address.kind).err().unwrap_or_else(|| Error::internal("an unknown kind is known"));
        return Err(error.context(format_args!("`{address}` needs a cleanup")));
    }
    let cleanup = if known { cleanup } else { Vec::new() };
    let live = open
        .into_iter()
        .filter(|job| {
            job.role != JobRole::Cleanup && job.component == component && versions.iter().any(|stored| of(&job, stored.version()))
        })
        .collect();
    Ok(RemoveInput { address: address.clone(), versions, whole, cleanup, live, newest: state, forgets: Vec::new() })
}

/// Carry out the plan of a removal.
pub(super) async fn start(db: Db, plan: Plan) -> Result<Run> {
    let inner = db.inner().clone();
    let removal = plan.removal.clone().ok_or_else(|| Error::internal("the plan of a removal has lost what it removes"))?;
    let applied = Applied {
        address: plan.root.clone(),
        action: Action::Remove,
        components: plan.components.iter().map(|component| (component.address.clone(), component.action)).collect(),
        outcome: None,
    };
    let mut expect = plan.expect.clone();
    if stop_live_jobs(&inner, &removal, &expect).await? {
        // The mark is set now; the rest of the conditions stands.
        for condition in &mut expect {
            if let Expect::Newest { address, state: Some(state) } = condition
                && removal.whole.contains(address)
            {
                state.2 = true;
            }
        }
    }
    let at = Timestamp::now();
    let candidates = blobs(&inner, &removal).await?;
    if plan.jobs.is_empty() {
        let ops = removal
            .versions
            .iter()
            .map(|(address, versions)| Op::Delete { address: address.clone(), versions: versions.clone() })
            .collect();
        inner.metadata.commit(Batch { expect, ops }, Durability::Full).await?;
        inner.committed();
        inner.sweep(candidates).await?;
        return Ok(Run::new(inner, None, Vec::new(), applied));
    }
    for job in &plan.jobs {
        inner.check_executor(job.spec.and_then(|spec| spec.executor))?;
    }
    let owner = inner.owner().await?;
    let mut data = serde_json::to_value(&removal)?;
    data["blobs"] = serde_json::to_value(&candidates)?;
    let jobs = new_jobs(&inner, &plan.jobs, owner, at);
    let mut ops: Vec<Op> = removal.whole.iter().map(|address| Op::Removing { address: address.clone(), on: true }).collect();
    ops.push(Op::Run(NewRun { purpose: RunPurpose::Remove, root: plan.root.clone(), data: data.clone(), at }));
    ops.push(Op::Jobs { run: None, jobs: jobs.clone() });
    let starting = inner.driver_gate.read().await;
    let committed = inner.commit_run(Batch { expect, ops }).await?;
    inner.committed();
    let run = committed.run.ok_or_else(|| Error::internal("a removal was recorded without a run"))?;
    let handle = start_run(&inner, run, &plan, data, jobs, &committed.jobs, Arc::new(Instances::default()), Default::default(), at).await?;
    drop(starting);
    Ok(Run::new(inner, Some(run), vec![handle], applied))
}

/// Mark the components as being removed and cancel their unfinished jobs; gives whether there were any.
async fn stop_live_jobs(db: &Arc<DbInner>, removal: &Removal, expect: &[Expect]) -> Result<bool> {
    let live = &removal.live;
    if live.is_empty() {
        return Ok(false);
    }
    let rows = db.metadata.jobs(JobFilter { ids: Some(live.clone()), ..JobFilter::default() }).await?;
    let runs: BTreeSet<RunId> = rows.iter().map(|job| job.run).collect();
    let ops = removal.whole.iter().map(|address| Op::Removing { address: address.clone(), on: true }).collect();
    db.metadata.commit(Batch { expect: expect.to_vec(), ops }, Durability::Full).await?;
    let goes = |job: &JobRow| {
        let version = job.target.version.map_or(0, |at| at.version);
        removal.versions.iter().any(|(address, versions)| address.path() == job.target.path() && versions.contains(&version))
    };
    let mut asked: BTreeSet<JobId> = BTreeSet::new();
    // What is left of the runs after this component's jobs are gone goes on.
    let mut pause = 5;
    loop {
        let mut open: BTreeSet<JobId> = BTreeSet::new();
        for run in &runs {
            let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
            let rows = db.metadata.jobs(JobFilter { run: Some(*run), states, ..JobFilter::default() }).await?;
            // Jobs that were spawned meanwhile too.
            open.extend(rows.iter().filter(|job| live.contains(&job.id) || goes(job)).map(|job| job.id));
        }
        if open.is_empty() {
            return Ok(true);
        }
        let new: Vec<JobId> = open.difference(&asked).copied().collect();
        if !new.is_empty() {
            asked.extend(new.iter().copied());
            super::steer::cancel_jobs(db, new).await?;
        }
        for run in &runs {
            // A run that nobody drives has to be driven to its end.
            db.attach(*run).await?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        pause = (pause * 2).min(200);
    }
}

async fn blobs(db: &Arc<DbInner>, removal: &Removal) -> Result<Vec<crate::Digest>> {
    let mut digests = BTreeSet::new();
    for (address, versions) in &removal.versions {
        digests.extend(db.metadata.blobs_of(address.clone(), versions.clone()).await?);
    }
    Ok(digests.into_iter().collect())
}

impl DbInner {
    /// Delete the blobs that a finished removal left without references.
    pub(crate) async fn sweep_after_removal(self: &Arc<Self>, run: &RunRow) -> Result<()> {
        let digests = run.data.get("blobs").cloned().unwrap_or_default();
        let digests: Vec<crate::Digest> = serde_json::from_value(digests).unwrap_or_default();
        self.sweep(digests).await
    }

    /// Finish removals that a crash left with their jobs done but their run open; `resume` drives the rest.
    pub(crate) async fn unfinished_runs(&self) -> Result<Vec<RunRow>> {
        self.metadata.runs(RunFilter { unfinished: true, ..RunFilter::default() }).await
    }
}
