//! Applying a component: encode, plan, upload, commit, run.

use super::{
    Applied, Db, DbInner, Run,
    agreed::check_agreed,
    encoding::decode_env,
    launch::Launch,
    planning::{Intent, plan_tree, refuse_overwrites},
    read::decode_stored,
    recorded,
    retry::Retry,
    stale::end_stale,
};
use crate::future::BoxFuture;
use crate::{
    address::{Address, VersionRef},
    bundle::references,
    component::Component,
    digest::Digest,
    encode::{DecodeEnv, Record, Tree, check_copy, check_stable, encode_tree, in_decode_session},
    error::{Error, Result},
    job::{Command, Instances, Running, current, hash_all},
    locator::Locator,
    plan::{Action, ApplyOptions, NeededJob, Plan, PlannedJob, PlannedNeed},
    store::{
        Batch, BlobRow, Durability, EdgeRow, Expect, JobId, JobRef, Need, NewJob, NewRun, Op,
        PutAction, PutVersion, RunPurpose, Snapshot, StoredVersion, Timestamp,
    },
};
use std::{future::IntoFuture, sync::Arc};

/// An apply under construction; await it.
///
/// Awaited, it waits for its jobs and gives [`Applied`]. Where a job fails, the error is of kind
/// [`JobFailed`](crate::ErrorKind::JobFailed) and has the whole outcome attached; what was stored stays stored.
#[must_use = "an apply does nothing until it is awaited"]
pub struct Apply {
    db: Db,
    source: Source,
    options: ApplyOptions,
    conditions: Conditions,
}

enum Source {
    Tree(Result<Tree>),
    Plan(Box<Plan>),
    /// Go back to a version of this component.
    Back(Box<Result<Locator>>, VersionRef),
}

/// On what an apply is refused.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    exclusive: bool,
    /// The digest of the plan that was agreed on.
    agreed: Option<Digest>,
}

impl Apply {
    pub(super) fn new(db: Db, component: &dyn Component) -> Self {
        let tree = db.inner().registry.check(component).and_then(|()| encode_tree(component));
        Apply::of(db, Source::Tree(tree))
    }

    /// Drop the component that was given.
    pub(super) fn drop_given<T>(&self, component: T) {
        match &self.source {
            Source::Tree(Err(_)) => crate::json::drop_refused(component),
            _ => drop(component),
        }
    }

    pub(super) fn of_plan(db: Db, plan: Plan) -> Self {
        Apply::of(db, Source::Plan(Box::new(plan)))
    }

    pub(super) fn of_rollback(db: Db, target: Result<Locator>, version: VersionRef) -> Self {
        let options = ApplyOptions { only_root: true, ..ApplyOptions::default() };
        Apply { options, ..Apply::of(db, Source::Back(Box::new(target), version)) }
    }

    fn of(db: Db, source: Source) -> Self {
        let (options, conditions) = (ApplyOptions::default(), Conditions::default());
        Apply { db, source, options, conditions }
    }

    /// Make a new version, also where the content is that of the newest one, and run all triggers
    /// of it: a nightly training on the same declaration.
    ///
    /// The versions before keep what their triggers made. What the component holds is applied as
    /// usual.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// use superduper::prelude::*;
    ///
    /// #[derive(Component)]
    /// struct Model {
    ///     identifier: String,
    ///     weights: Output<f64>,
    /// }
    ///
    /// #[triggers]
    /// impl Model {
    ///     #[trigger("apply")]
    ///     fn fit(&self, ctx: &JobContext) -> Result<()> {
    ///         ctx.set(&self.weights, 0.5)
    ///     }
    /// }
    ///
    /// let model = Model { identifier: "m".into(), weights: Output::empty() };
    /// let first = db.apply(&model).await?;
    /// let nightly = db.apply(&model).again().await?;
    /// assert_eq!((first.version(), nightly.version()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn again(mut self) -> Self {
        self.options.again = true;
        self
    }

    /// Whether jobs are planned. Without, the version owes its jobs, and the next plain apply plans
    /// them.
    pub fn jobs(mut self, jobs: bool) -> Self {
        self.options.jobs = jobs;
        self
    }

    /// Whether jobs of the component that failed, were cancelled or skipped are planned again, as
    /// by default.
    pub fn retry_failed(mut self, retry: bool) -> Self {
        self.options.retry_failed = retry;
        self
    }

    /// Take over what exists outside already: store the components as usual, but run neither
    /// `on_create` nor triggers.
    ///
    /// `on_create` counts as done: `cleanup` runs when the component is removed. Later changes run
    /// triggers as usual.
    pub fn adopt(mut self) -> Self {
        self.options.adopt = true;
        self
    }

    /// Refuse, as a conflict and before anything is written, while a run of the component is
    /// unfinished.
    pub fn exclusive(mut self) -> Self {
        self.conditions.exclusive = true;
        self
    }

    /// Refuse, as a conflict and before anything is written, where today's plan is not the one with
    /// this [`Plan::digest`]: what was agreed on is what is done, or nothing is.
    ///
    /// The error names what is stored now. The condition holds until the commit: a state that moves
    /// between planning and writing is refused too.
    pub fn expect(mut self, digest: Digest) -> Self {
        self.conditions.agreed = Some(digest);
        self
    }

    /// Do not wait for the jobs: awaited, this gives a [`Run`].
    pub fn detach(self) -> Detach {
        Detach(self)
    }

    /// What awaiting it would do. Writes nothing.
    ///
    /// # Errors
    /// As for [`Db::plan`].
    pub async fn plan(self) -> Result<Plan> {
        let Apply { db, source, options, .. } = self;
        match source {
            Source::Plan(plan) => Ok(*plan),
            source => {
                let plan = Planner::of(&db, source, options).await?.plan(db.inner()).await?.0;
                plan.jobs.iter().try_for_each(|job| {
                    db.inner().knows_executor(job.placement().executor.as_deref()).map(drop)
                })?;
                Ok(plan)
            }
        }
    }

    pub(super) async fn start(self) -> Result<Run> {
        let (handle, db) = (self.db.clone(), self.db.inner().clone());
        db.check_writable(self.source.verb())?;
        let run = match self.source {
            Source::Plan(plan) if plan.purpose == RunPurpose::Remove => {
                check_agreed(&db, &plan, self.conditions.agreed).await?;
                super::remove::start(self.db, *plan, "remove").await
            }
            Source::Plan(plan) if plan.tree.is_none() => {
                Err(Error::invalid(format!("the plan of importing `{}` has no blobs", plan.root))
                    .with_hint("give the bundle to `db.import(path)`, which makes the plan again"))
            }
            Source::Plan(plan) => {
                refuse_overwrites(&plan.overwrites)?;
                check_agreed(&db, &plan, self.conditions.agreed).await?;
                // The conditions alone, before any blob is uploaded; a plan without work has no
                // other commit.
                db.metadata
                    .commit(
                        Batch { expect: plan.expect.clone(), ops: Vec::new() },
                        Durability::Relaxed,
                    )
                    .await?;
                let snapshot = Snapshot::default();
                let audit = handle.audit("apply", &plan.root);
                commit_plan(&db, &plan, &snapshot, audit)
                    .await?
                    .ok_or_else(|| Error::internal("a plan lost its components"))
            }
            source => {
                let planner = Planner::of(&handle, source, self.options).await?;
                start_planned(&handle, &planner, self.conditions).await
            }
        };
        Ok(run?.started_by(&handle))
    }

    /// Wait for the jobs too. Where jobs of triggers that are gone were ended, what had waited for
    /// them runs now.
    async fn finish(self) -> Result<Applied> {
        if matches!(self.source, Source::Plan(_)) {
            return self.start().await?.finish().await;
        }
        let (db, conditions) = (self.db.clone(), self.conditions);
        db.inner().check_writable(self.source.verb())?;
        let planner = Planner::of(&db, self.source, self.options).await?;
        let run = start_planned(&db, &planner, conditions).await?;
        let ended_stale = run.ended_stale();
        let applied = run.finish().await?;
        if !ended_stale {
            return Ok(applied);
        }
        // Not a second new version.
        let Planner::Apply(tree, options) = planner else { return Ok(applied) };
        let planner = Planner::Apply(tree, ApplyOptions { again: false, ..options });
        // What was agreed on is done; this is what had waited for it.
        let conditions = Conditions { agreed: None, ..conditions };
        let outcome = start_planned(&db, &planner, conditions).await?.finish().await?.outcome;
        Ok(Applied { outcome: outcome.or(applied.outcome.clone()), ..applied })
    }
}

impl Source {
    /// What a database that cannot be written says it cannot do.
    fn verb(&self) -> &'static str {
        match self {
            Source::Tree(_) | Source::Plan(_) => "apply",
            Source::Back(..) => "roll back",
        }
    }
}

/// Plan and commit until no other writer comes in between.
async fn start_planned(handle: &Db, planner: &Planner, conditions: Conditions) -> Result<Run> {
    let db = handle.inner();
    let (mut retry, mut first) = (None, None);
    loop {
        let (mut plan, snapshot) = planner.plan(db).await?;
        check_agreed(db, &plan, conditions.agreed).await?;
        refuse_overwrites(&plan.overwrites)?;
        if conditions.exclusive {
            refuse_unfinished(&mut plan, &snapshot)?;
            // Who was quicker counts as unfinished, also where its jobs have ended by now.
            let newest = newest_job(&plan, &snapshot);
            if newest > *first.get_or_insert(newest) {
                let path = plan.root.path();
                return Err(Error::conflict(format!(
                    "another apply of `{path}` had an unfinished job at the same time"
                )));
            }
        }
        let audit = handle.audit(planner.action(), &plan.root);
        let refused = match commit_plan(db, &plan, &snapshot, audit).await {
            Ok(Some(run)) => return Ok(run),
            Ok(None) => return Err(Error::internal("a plan lost its components")),
            Err(error) => error,
        };
        let blobs = blobs_of(&plan);
        let retry =
            retry.get_or_insert_with(|| Retry::new(format!("applying `{}`", plan.root.path())));
        retry.again(db, refused, (plan.expect, plan.sweep_epoch), &blobs).await?;
    }
}

/// Makes the plan of an apply or rollback, again each time the state has moved.
enum Planner {
    Apply(Arc<Tree>, ApplyOptions),
    Back(Address, ApplyOptions),
}

impl Planner {
    async fn of(db: &Db, source: Source, options: ApplyOptions) -> Result<Self> {
        match source {
            Source::Tree(tree) => Ok(Planner::Apply(prepare(db.inner(), tree?).await?, options)),
            Source::Back(target, version) => {
                let address = db.resolve((*target)?).await?;
                Ok(Planner::Back(Address { version: Some(version), ..address }, options))
            }
            Source::Plan(_) => Err(Error::internal("a plan is planned again")),
        }
    }

    /// What the audit log calls it.
    fn action(&self) -> &'static str {
        match self {
            Planner::Apply(..) => "apply",
            Planner::Back(..) => "rollback",
        }
    }

    async fn plan(&self, db: &Arc<DbInner>) -> Result<(Plan, Snapshot)> {
        match self {
            Planner::Apply(tree, options) => {
                plan_tree(db, tree, &Intent { options: *options, ..Intent::default() }).await
            }
            Planner::Back(wanted, options) => {
                let stored = db.metadata.tree(wanted.clone()).await?;
                if stored.is_empty() {
                    return Err(Error::not_found(format!("no component `{wanted}`")));
                }
                let entry = *db.registry.entry(&wanted.kind)?;
                let component =
                    decode_stored(db, stored.clone(), |document| (entry.decode)(document))
                        .map_err(|error| {
                            error.context(format_args!(
                                "`{wanted}` cannot be read by its type of today"
                            ))
                        })?;
                let tree = encode_tree(&*component)?;
                drop(component);
                let tree = Arc::new(finish(tree).await?);
                plan_tree(
                    db,
                    &tree,
                    &Intent {
                        options: *options,
                        stored: Some(&stored),
                        back: true,
                        ..Intent::default()
                    },
                )
                .await
            }
        }
    }
}

fn blobs_of(plan: &Plan) -> Vec<Digest> {
    let handles = plan.tree.iter().flat_map(|tree| &tree.blobs);
    handles.filter_map(|blob| blob.digest()).collect()
}

impl IntoFuture for Apply {
    type Output = Result<Applied>;
    type IntoFuture = BoxFuture<'static, Result<Applied>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if current().is_some() {
                return Err(Error::invalid(
                    "an apply inside a job would wait for a slot that the job holds",
                )
                .with_hint("use `db.apply(component).detach()` inside jobs"));
            }
            self.finish().await
        })
    }
}

/// An apply that does not wait for its jobs; await it to get the [`Run`].
#[must_use = "an apply does nothing until it is awaited"]
pub struct Detach(Apply);

impl IntoFuture for Detach {
    type Output = Result<Run>;
    type IntoFuture = BoxFuture<'static, Result<Run>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.start())
    }
}

/// The newest job of the root of a plan.
fn newest_job(plan: &Plan, snapshot: &Snapshot) -> Option<JobId> {
    let path = plan.root.path();
    snapshot.jobs.iter().filter(|job| job.target.path() == path).map(|job| job.id).max()
}

/// Refuse a plan while jobs of its root are unfinished, now and when it is committed.
fn refuse_unfinished(plan: &mut Plan, snapshot: &Snapshot) -> Result<()> {
    let path = plan.root.path();
    if let Some(job) =
        snapshot.jobs.iter().find(|job| job.target.path() == path && !job.state.is_terminal())
    {
        return Err(Error::conflict(format!(
            "`{path}` has an unfinished job: {} (`{}`) is {}",
            job.id, job.method, job.state
        )));
    }
    plan.expect.push(Expect::NoRun { address: plan.root.unversioned(), but: None });
    Ok(())
}

/// Bring an encoded tree into the form that is stored: blobs hashed, `postinit` run on a decoded
/// copy.
async fn prepare(db: &Arc<DbInner>, tree: Tree) -> Result<Arc<Tree>> {
    for record in &tree.records {
        db.registry
            .entry(record.kind)
            .map_err(|error| error.context(format_args!("`{}`", record.path())))?;
    }
    let given = finish(tree).await?;
    // First without `postinit`: the copy is what was given, or something was lost.
    let env = decode_env(&given, &db.registry).without_postinit();
    let (copy, env) = encode_copy(db, &given, env)?;
    let copy = finish(copy).await?;
    check_copy(&given, &copy)?;
    if !env.left_postinit_out() {
        return Ok(Arc::new(copy));
    }
    let made = finish(encode_copy(db, &given, decode_env(&given, &db.registry))?.0).await?;
    let same = given.records.len() == made.records.len()
        && given.records.iter().zip(&made.records).all(|(a, b)| a.body == b.body);
    if !same {
        // `postinit` changed something: a second round tells whether it always does.
        let again = finish(encode_copy(db, &made, decode_env(&made, &db.registry))?.0).await?;
        check_stable(&made, &again)?;
    }
    Ok(Arc::new(made))
}

fn encode_copy(db: &Arc<DbInner>, tree: &Tree, env: DecodeEnv) -> Result<(Tree, Arc<DecodeEnv>)> {
    let entry = db.registry.entry(tree.root().kind)?;
    let env = Arc::new(env);
    let copy = in_decode_session(&env, || (entry.decode)(&tree.root().document()))?;
    Ok((encode_tree(&*copy)?, env))
}

pub(super) async fn finish(mut tree: Tree) -> Result<Tree> {
    let names: Vec<(String, Arc<crate::artifact::BlobHandle>)> =
        tree.blobs.iter().map(|blob| (blob.name(), blob.clone())).collect();
    hash_all(&tree.blobs).await?;
    tree.finish_with(&names);
    Ok(tree)
}

/// Upload what is missing, write everything in one transaction, start the run.
async fn commit_plan(
    db: &Arc<DbInner>,
    plan: &Plan,
    snapshot: &Snapshot,
    audit: Option<Op>,
) -> Result<Option<Run>> {
    let Some(tree) = plan.tree.as_ref() else { return Ok(None) };
    let Some(root) = plan.components.last() else { return Ok(None) };
    for job in &plan.jobs {
        db.check_executor(job.placement().executor.as_deref())?;
    }
    let applied = Applied {
        earlier: recorded::earlier(snapshot, &root.address),
        ..Applied::of_plan(plan, root.address.clone(), root.action)
    };
    let at = Timestamp::now();
    let (mut ops, names_blobs) = put_changed(db, plan, tree, at).await?;
    let mut expect = plan.expect.clone();
    if names_blobs {
        expect.push(Expect::SweepEpoch(plan.sweep_epoch));
    }
    ops.extend(
        plan.clears_owed
            .iter()
            .map(|address| Op::SetJobsPending { address: address.clone(), pending: false }),
    );
    if ops.is_empty() && plan.jobs.is_empty() {
        return join(db, plan, applied, audit).await.map(Some);
    }
    let run = (!plan.jobs.is_empty()).then(|| {
        let run = NewRun::new(plan.purpose, plan.root.clone(), at);
        (run, new_jobs(&plan.jobs, at))
    });
    let instances = match &run {
        Some(_) => instances_of(plan, tree, snapshot),
        None => Instances::default(),
    };
    let (committed, handle) = db
        .launch(Launch { expect, ops, run, audit, instances: Arc::new(instances), starts: true })
        .await?;
    // Who did it is on record already.
    let ended_stale = end_stale(db, plan, None).await?;
    let Some(handle) = handle else {
        return Ok(Some(Run::new(db.clone(), None, Vec::new(), applied)));
    };
    Ok(Some(
        Run::new(db.clone(), committed.run, vec![handle], applied)
            .with_recorded(committed.jobs)
            .with_ended_stale(ended_stale),
    ))
}

/// Upload the blobs of the components that change. Gives the operations that store these
/// components, and whether any of them names a blob.
async fn put_changed(
    db: &Arc<DbInner>,
    plan: &Plan,
    tree: &Tree,
    at: Timestamp,
) -> Result<(Vec<Op>, bool)> {
    let changed = |index: &usize| plan.components[*index].action != Action::Unchanged;
    let indexes: Vec<usize> = (0..plan.components.len()).filter(changed).collect();
    let mut ops = Vec::with_capacity(indexes.len() + 3);
    let mut names_blobs = false;
    for index in indexes {
        let record = &tree.records[index];
        let component = &plan.components[index];
        let is_stored = component.verbatim.is_some();
        names_blobs |= is_stored;
        for blob in record.blobs.iter().filter(|_| !is_stored) {
            blob.handle.save(&db.artifacts).await.map_err(|error| {
                error.context(format_args!("`{}`: field `{}`", record.path(), blob.path))
            })?;
            names_blobs = true;
        }
        ops.push(Op::Put(put(plan, index, record, at)?));
        let copies = plan.copies.iter().filter(|copied| copied.component == index);
        ops.extend(copies.map(|copied| Op::CopyOutputs {
            address: component.address.unversioned(),
            from: copied.from,
            to: component.address.version.map_or(0, |at| at.version),
            outputs: copied.outputs.clone(),
        }));
    }
    Ok((ops, names_blobs))
}

/// Where there is nothing to write, join the unfinished runs.
async fn join(db: &Arc<DbInner>, plan: &Plan, applied: Applied, audit: Option<Op>) -> Result<Run> {
    let ended_stale = end_stale(db, plan, audit).await?;
    let mut handles = Vec::new();
    for run in &plan.joins {
        handles.push(db.attach(*run).await?);
    }
    handles.iter().for_each(|handle| handle.tell(Command::Look));
    Ok(Run::new(db.clone(), plan.joins.first().copied(), handles, applied)
        .with_ended_stale(ended_stale))
}

/// What jobs of a plan run on, as far as the plan has it.
fn instances_of(plan: &Plan, tree: &Tree, snapshot: &Snapshot) -> Instances {
    let instances = Instances::default();
    let mut from_store: Vec<bool> = Vec::with_capacity(plan.components.len());
    for (index, component) in plan.components.iter().enumerate() {
        let record = &tree.records[index];
        let stored = snapshot.components.get(&record.path());
        let keeps = matches!(component.action, Action::Unchanged | Action::Update);
        // A plan made earlier does not carry outputs, and none those of another version: such
        // instances are read from the store, and with them whatever holds them.
        let of_version = |stored: &&StoredVersion| {
            Some(stored.version()) == component.address.version.map(|at| at.version)
        };
        let is_copied = plan.copies.iter().any(|copied| copied.component == index);
        let holds_one = component.children.iter().any(|(_, child)| from_store[*child]);
        from_store.push(is_copied || holds_one || (keeps && stored.filter(of_version).is_none()));
        if from_store[index] {
            continue;
        }
        let outputs =
            stored.filter(|_| keeps).map(|stored| stored.outputs.clone()).unwrap_or_default();
        let type_version = if let Some(stored) = component.verbatim {
            stored
        } else if component.action == Action::Unchanged {
            stored.map_or(record.type_version, |stored| stored.type_version)
        } else {
            record.type_version
        };
        instances.add(
            component.address.clone(),
            component.uuid,
            type_version,
            component.document.clone(),
            outputs,
        );
    }
    instances
}

fn put(plan: &Plan, index: usize, record: &Record, at: Timestamp) -> Result<PutVersion> {
    let component = &plan.components[index];
    let (edges, blobs) = match component.verbatim {
        Some(_) => {
            let found = references(&component.document)?;
            (found.children, found.blobs)
        }
        None => (edges(plan, record), blob_rows(record)),
    };
    Ok(PutVersion {
        address: component.address.clone(),
        action: match component.action {
            Action::Create => PutAction::Create,
            Action::NewVersion => PutAction::Version,
            _ => PutAction::Revision,
        },
        uuid: component.uuid,
        content_hash: component.content_hash,
        type_version: component.verbatim.unwrap_or(record.type_version),
        document: component.document.clone(),
        edges,
        blobs,
        content_of: component.content_of,
        owes_jobs: plan.owes_jobs,
        at,
    })
}

fn edges(plan: &Plan, record: &Record) -> Vec<EdgeRow> {
    let edge = |child: &crate::encode::ChildUse| {
        let address = &plan.components[child.index].address;
        EdgeRow {
            path: child.path.clone(),
            child: address.at(address.version.map_or(0, |at| at.version)),
        }
    };
    record.children.iter().map(edge).collect()
}

fn blob_rows(record: &Record) -> Vec<BlobRow> {
    let row = |blob: &crate::encode::BlobUse| {
        let hashed = blob.handle.hashed()?;
        Some(BlobRow { path: blob.path.clone(), digest: hashed.digest, size: hashed.size })
    };
    record.blobs.iter().filter_map(row).collect()
}

/// The rows of planned jobs.
pub(crate) fn new_jobs(planned: &[PlannedJob], at: Timestamp) -> Vec<NewJob> {
    let row = |job: &PlannedJob| {
        let Running { executor, retries, backoff_ms, timeout_ms } =
            Running::of(job.policy.as_deref(), job.spec);
        let need = |need: &PlannedNeed| Need {
            job: match need.job {
                NeededJob::Planned(index) => JobRef::New(index),
                NeededJob::Recorded(id) => JobRef::Id(id),
            },
            parameter: need.parameter.clone(),
            any_end: false,
        };
        NewJob {
            key: job.key.clone(),
            retry_of: job.retry_of,
            executor,
            retries,
            backoff_ms,
            timeout_ms,
            needs: job.needs.iter().map(need).collect(),
            ..NewJob::new(job.target.clone(), job.role, job.method.clone(), at)
        }
    };
    planned.iter().map(row).collect()
}
