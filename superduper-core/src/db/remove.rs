//! Removing components: refuse what is in use, clean up, delete rows, collect blobs.
//!
//! Invariant: a removal with something to wait for, a cleanup or a job that is still at work, is on
//! record as a run before anything of it happens. From that commit on nothing else can use what
//! goes, and any process that resumes the run finishes it.

use super::{
    Applied, Db, DbInner, Run,
    agreed::check_agreed,
    apply::new_jobs,
    launch::Launch,
    removal::{Children, gather},
    retry::Retry,
};
use crate::future::BoxFuture;
use crate::{
    address::Address,
    component::ComponentType,
    digest::Digest,
    error::{Error, ErrorKind, Result},
    job::Outcome,
    locator::Locator,
    plan::{Action, Plan, Removal, build_removal},
    store::{
        Batch, Expect, JobSignal, NewRun, Op, RunFilter, RunPurpose, RunRow, RunState, Timestamp,
    },
};
use std::{collections::BTreeSet, future::IntoFuture, sync::Arc};

/// A removal under construction; await it.
///
/// # Guarantees
/// - From the commit that records it until it is done, what goes is marked: labels, references,
///   applies and jobs of it are refused with `Conflict`, and other removals of it wait for this
///   one.
/// - Dropping the future does not stop a removal that is on record. One whose process died is
///   finished by [`Db::resume`], also if it was still waiting for jobs that it cancelled.
/// - What goes is deleted in one commit after all `cleanup` succeeded. Where one fails, nothing is
///   deleted and the mark stays, since part of what stood outside may be gone: remove again, or
///   [`force`](Remove::force) it.
#[must_use = "a removal does nothing until it is awaited"]
pub struct Remove {
    db: Db,
    target: Result<Locator>,
    /// The version, where it was named beside the target.
    version: Option<u32>,
    /// Kinds under which the component may have been stored before its type was renamed.
    aliases: &'static [&'static str],
    children: Children,
    force: bool,
    exclusive: bool,
    unless: Option<String>,
    /// The label that goes with the version.
    label: Option<String>,
    /// The digest of the plan that was agreed on.
    agreed: Option<Digest>,
    /// What the audit log calls it.
    action: &'static str,
}

/// What a removal did.
#[derive(Debug, Clone)]
pub struct Removed {
    /// The versions that are gone, those included that another removal took while this one waited
    /// for it.
    pub versions: Vec<Address>,
    /// The outcome of the cleanup jobs; `None` where there were none.
    pub outcome: Option<Outcome>,
    /// The children that stay because something else needs them, with the reason; only after
    /// [`Remove::with_unshared_children`].
    pub held: Vec<(Address, String)>,
}

impl Db {
    /// Remove a component with all its versions: `cleanup` runs, then rows and blobs go. With a
    /// version, as in `churn@3`, that version only.
    pub fn remove<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Remove {
        let remove = self.removal(Locator::of::<T>(name));
        Remove { aliases: T::SPEC.aliases, ..remove }
    }

    /// Remove a component by its address; with a version or a label in it, that version only.
    pub fn remove_dyn(&self, address: impl TryInto<Locator, Error = impl Into<Error>>) -> Remove {
        self.removal(address.try_into().map_err(Into::into))
    }

    fn removal(&self, target: Result<Locator>) -> Remove {
        Remove {
            db: self.clone(),
            target,
            version: None,
            aliases: &[],
            children: Children::Leave,
            force: false,
            exclusive: false,
            unless: None,
            label: None,
            agreed: None,
            action: "remove",
        }
    }

    /// What removing a component would do. Writes nothing.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where something else refers to it, naming it.
    pub async fn plan_remove<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Plan> {
        self.remove::<T>(name).plan().await
    }
}

impl Remove {
    /// Remove the components that it holds too, directly or not, with all their versions.
    ///
    /// If something else refers to one of them, nothing is removed: the call is refused with
    /// `InUse`, also with
    /// [`force`](Remove::force). [`with_unshared_children`](Remove::with_unshared_children) leaves such a child instead.
    pub fn recursive(mut self) -> Self {
        self.children = Children::All;
        self
    }

    /// Remove those of the components that it holds, directly or not, that nothing else needs;
    /// leave the others.
    ///
    /// A child stays if something that stays refers to it, or if one of its versions has a label;
    /// so does what such a child holds. The children that stay are in the plan's text and in
    /// [`Removed::held`], each with the reason.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::prelude::*;
    ///
    /// #[derive(Component, Clone)]
    /// #[component(kind = "example.Encoder")]
    /// struct Encoder {
    ///     identifier: String,
    /// }
    ///
    /// #[derive(Component)]
    /// #[component(kind = "example.Classifier")]
    /// struct Classifier {
    ///     identifier: String,
    ///     encoders: Vec<Encoder>,
    /// }
    ///
    /// # async fn example(db: superduper::Db) -> Result<()> {
    /// let encoder = |name: &str| Encoder { identifier: name.into() };
    /// db.apply(Classifier { identifier: "old".into(), encoders: vec![encoder("shared"), encoder("own")] }).await?;
    /// db.apply(Classifier { identifier: "new".into(), encoders: vec![encoder("shared")] }).await?;
    ///
    /// let removed = db.remove::<Classifier>("old").with_unshared_children().await?;
    /// assert_eq!(removed.versions.len(), 2, "`old` and `own`");
    /// let (child, why) = &removed.held[0];
    /// assert_eq!(child.to_string(), "example.Encoder/shared");
    /// assert!(why.contains("example.Classifier/new"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_unshared_children(mut self) -> Self {
        self.children = Children::Unshared;
        self
    }

    /// Go on where `setup` or `cleanup` fails, and where the program does not know the type.
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Remove one version only.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Refuse, with `Conflict` and before anything is written, where today's plan is not the one
    /// with this [`Plan::digest`].
    pub fn expect(mut self, digest: Digest) -> Self {
        self.agreed = Some(digest);
        self
    }

    /// Refuse, with `Conflict`, where a run of the component is unfinished; else its jobs are
    /// cancelled.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// What the audit log calls it.
    pub(crate) fn action(mut self, action: &'static str) -> Self {
        self.action = action;
        self
    }

    /// Refuse, with `Conflict`, where the component has this label, also if the whole component
    /// would go and its labels with it.
    pub fn unless_labelled(mut self, label: impl Into<String>) -> Self {
        self.unless = Some(label.into());
        self
    }

    /// Take this label away from the version in the first commit of the removal.
    ///
    /// Without this, a version with a label is not removed alone. A program that marks a version by
    /// a label, prepares its removal and then removes it can so keep the mark until the version is
    /// gone. Other labels still keep the version.
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What awaiting it would do.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where something else refers to it, or where one version has a label,
    /// naming it.
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
        let target = self.target.as_ref().map_err(Error::copied)?;
        let first = match self.plan_of(target.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => error,
            planned => return planned,
        };
        for alias in self.aliases {
            let mut target = target.clone();
            (*alias).clone_into(&mut target.address.kind);
            match self.plan_of(target).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                planned => return planned,
            }
        }
        Err(first)
    }

    async fn plan_of(&self, target: Locator) -> Result<Plan> {
        let address = self.db.resolve(target).await?;
        let address = self.version.map_or(address.clone(), |version| address.at(version));
        let (inputs, held) =
            gather(self.db.inner(), &address, self.children, self.force, self.label.as_deref())
                .await?;
        let whole =
            inputs.iter().any(|input| input.whole && input.address.path() == address.path());
        let label = match &self.label {
            // The labels of a whole component go with it.
            Some(label) if !whole => {
                let points_at = self.db.labelled(&address, label).await?;
                let version = address.version.map(|at| at.version);
                Some(label.clone()).filter(|_| points_at == version)
            }
            _ => None,
        };
        Ok(build_removal(address, &inputs, self.force, held, label))
    }

    async fn run(self) -> Result<Removed> {
        self.db.inner().check_writable("remove")?;
        let mut done = Removed { versions: Vec::new(), outcome: None, held: Vec::new() };
        let target = self.target.as_ref().map_err(Error::copied)?;
        let mut retry = Retry::new(format!("removing `{target}`"));
        loop {
            let plan = match self.plan().await {
                // Another removal took what was left of it.
                Err(error) if error.kind() == ErrorKind::NotFound && !done.versions.is_empty() => {
                    return Ok(done);
                }
                plan => plan?,
            };
            check_agreed(self.db.inner(), &plan, self.agreed).await?;
            let (removal, seen) = (removal_of(&plan)?, plan.expect.clone());
            let refused = match start(self.db.clone(), plan, self.action).await {
                Ok(run) => {
                    let outcome = run.wait().await.map_err(explain)?;
                    done.versions.extend(removal.addresses());
                    let outcome = outcome.filter(|outcome| !outcome.jobs.is_empty());
                    return Ok(Removed {
                        outcome: outcome.or(done.outcome),
                        held: removal.held,
                        ..done
                    });
                }
                Err(error) => error,
            };
            let is_conflict = refused.kind() == ErrorKind::Conflict;
            if is_conflict && !self.exclusive && self.joined(&removal, &mut done).await? {
                continue;
            }
            retry.again(self.db.inner(), refused, seen, &[]).await?;
        }
    }

    /// Wait for an unfinished removal that takes some of this one's versions; gives whether there
    /// is one.
    async fn joined(&self, removal: &Removal, done: &mut Removed) -> Result<bool> {
        let db = self.db.inner();
        let wanted: BTreeSet<String> =
            removal.addresses().map(|version| version.to_string()).collect();
        for run in
            db.unfinished_runs().await?.into_iter().filter(|run| run.purpose == RunPurpose::Remove)
        {
            let Ok(other) = serde_json::from_value::<Removal>(run.data.clone()) else { continue };
            let shared: Vec<Address> =
                other.addresses().filter(|version| wanted.contains(&version.to_string())).collect();
            if shared.is_empty() {
                continue;
            }
            let outcome = super::run::outcome_of(db, &db.attach(run.id).await?).await?;
            if outcome.run.state == RunState::Running && self.force {
                // This program cannot run its cleanups: by force, this removal goes on without
                // them.
                let audit = self.db.audit("cancel", format!("run {}", run.id));
                super::cancel::cancel(db, run.id, None, audit).await?;
            }
            match outcome.into_result() {
                Ok(outcome) => {
                    done.versions.extend(shared);
                    done.outcome = Some(outcome);
                }
                // By force this one goes on where that one had to stop.
                Err(_) if self.force => {}
                Err(error) => return Err(explain(error)),
            }
            return Ok(true);
        }
        Ok(false)
    }
}

fn explain(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::JobFailed | ErrorKind::Cancelled) {
        return error;
    }
    error.with_hint(
        "nothing was deleted, and it stays marked as being removed; call `db.remove` again to try once more, \
        with `.force()` to go on without a successful cleanup",
    )
}

impl IntoFuture for Remove {
    type Output = Result<Removed>;
    type IntoFuture = BoxFuture<'static, Result<Removed>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn removal_of(plan: &Plan) -> Result<Removal> {
    plan.removal
        .clone()
        .ok_or_else(|| Error::internal("the plan of a removal has lost what it removes"))
}

/// Carry out the plan of a removal.
pub(super) async fn start(db: Db, plan: Plan, action: &'static str) -> Result<Run> {
    let inner = db.inner().clone();
    let audit = db.audit(action, &plan.root);
    let removal = removal_of(&plan)?;
    let applied = Applied::of_plan(&plan, plan.root.clone(), Action::Remove);
    let expect = plan.expect.clone();
    let at = Timestamp::now();
    let candidates = blobs(&inner, &removal).await?;
    let unlabels = removal.label.clone().map(|label| Op::Label {
        address: plan.root.unversioned(),
        label,
        version: None,
        at,
    });
    if plan.jobs.is_empty() && removal.live.is_empty() {
        let deletes = removal.versions.iter().map(|(address, versions)| Op::Delete {
            address: address.clone(),
            versions: versions.clone(),
        });
        let mut ops: Vec<Op> = unlabels.into_iter().chain(deletes).collect();
        ops.extend(audit);
        inner.commit_once(Batch { expect, ops }).await?;
        inner.committed();
        inner.sweep(candidates).await?;
        return Ok(Run::new(inner, None, Vec::new(), applied));
    }
    for job in &plan.jobs {
        inner.check_executor(job.spec.and_then(|spec| spec.executor))?;
    }
    let mut data = serde_json::to_value(&removal)?;
    data["blobs"] = serde_json::to_value(&candidates)?;
    let removing =
        removal.whole.iter().map(|address| Op::Removing { address: address.clone(), on: true });
    let mut ops: Vec<Op> = unlabels.into_iter().chain(removing).collect();
    // Where jobs are at work on what goes, who leads the run tells those who run them, and waits
    // for their ends.
    let starts = removal.live.is_empty();
    if !starts {
        ops.push(Op::Signal { jobs: removal.live.clone(), signal: JobSignal::Cancel });
    }
    let run = (
        NewRun::new(RunPurpose::Remove, plan.root.clone(), at).data(data),
        new_jobs(&plan.jobs, at),
    );
    let launch = Launch { expect, ops, run: Some(run), audit, instances: Arc::default(), starts };
    let handle = inner
        .launch(launch)
        .await?
        .1
        .ok_or_else(|| Error::internal("a removal was recorded without a run"))?;
    Ok(Run::new(inner, Some(handle.run), vec![handle], applied))
}

async fn blobs(db: &Arc<DbInner>, removal: &Removal) -> Result<Vec<crate::digest::Digest>> {
    let mut digests = BTreeSet::new();
    for (address, versions) in &removal.versions {
        digests.extend(db.metadata.blobs_of(address.clone(), versions.clone()).await?);
    }
    Ok(digests.into_iter().collect())
}

impl DbInner {
    /// Delete the blobs that a finished removal left without references.
    pub(crate) async fn sweep_after_removal(self: &Arc<Self>, run: &RunRow) -> Result<()> {
        let digests = crate::json::check_readable(
            &run.data,
            format_args!("the blobs of removal run {}", run.id),
        )?
        .get("blobs")
        .cloned();
        // Where none are named there is nothing to sweep.
        let digests: Option<Vec<crate::digest::Digest>> =
            digests.map(serde_json::from_value).transpose()?;
        self.sweep(digests.unwrap_or_default()).await
    }

    /// Finish removals that a crash left with their jobs done but their run open; `resume` drives
    /// the rest.
    pub(crate) async fn unfinished_runs(&self) -> Result<Vec<RunRow>> {
        self.metadata.runs(RunFilter { unfinished: true, ..RunFilter::default() }).await
    }
}
