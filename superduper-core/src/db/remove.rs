//! Removing components: refuse what is in use, clean up, delete rows, collect blobs.
//!
//! Invariant: a removal with something to wait for, a cleanup or a job that is still at work, is on record as a run before
//! anything of it happens. From that commit on nothing else can use what goes, and any process that
//! resumes the run finishes it.

use super::{
    Db, DbInner, Run,
    apply::{Applied, new_jobs},
    launch::Launch,
    removal::{Children, gather},
    retry::Retry,
};
use crate::{
    Address, Error, ErrorKind, Result,
    component::ComponentType,
    job::Outcome,
    lifecycle::BoxFuture,
    plan::{Action, Plan, Removal, build_removal},
    store::{Batch, Expect, JobSignal, NewRun, Op, RunFilter, RunPurpose, RunRow, RunState, Timestamp},
};
use std::{collections::BTreeSet, future::IntoFuture, sync::Arc};

/// A removal under construction; await it.
///
/// # Guarantees
/// - From the commit that records it until it is done, what goes is marked: labels, references, applies and jobs of it are
///   refused with `Conflict`, and other removals of it wait for this one.
/// - Dropping the future does not stop a removal that is on record. One whose process died is finished by
///   [`Db::resume`], also if it was still waiting for jobs that it cancelled.
/// - What goes is deleted in one commit after all `cleanup` succeeded. Where one fails, nothing is deleted and the mark
///   stays, since part of what stood outside may be gone: remove again, or [`force`](Remove::force) it.
#[must_use = "a removal does nothing until it is awaited"]
pub struct Remove {
    db: Db,
    address: Address,
    /// Kinds under which the component may have been stored before its type was renamed.
    aliases: &'static [&'static str],
    children: Children,
    force: bool,
    exclusive: bool,
    unless: Option<String>,
    /// What the audit log calls it.
    action: &'static str,
}

/// What a removal did.
#[derive(Debug, Clone)]
pub struct Removed {
    /// The versions that are gone, those included that another removal took while this one waited for it.
    pub versions: Vec<Address>,
    /// The outcome of the cleanup jobs; `None` where there were none.
    pub outcome: Option<Outcome>,
    /// The children that stay because something else needs them, with the reason; only after
    /// [`Remove::with_unshared_children`].
    pub held: Vec<(Address, String)>,
}

impl Db {
    /// Remove a component with all its versions: `cleanup` runs, then rows and blobs go.
    pub fn remove<T: ComponentType>(&self, identifier: &str) -> Remove {
        Remove { aliases: T::SPEC.aliases, ..self.remove_dyn(Address::new(T::__kind(), identifier)) }
    }

    /// Remove a component by its address; with a version in it, that version only.
    pub fn remove_dyn(&self, address: Address) -> Remove {
        Remove {
            db: self.clone(),
            address,
            aliases: &[],
            children: Children::Leave,
            force: false,
            exclusive: false,
            unless: None,
            action: "remove",
        }
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
    /// Remove the components that it holds too, directly or not, with all their versions.
    ///
    /// If something else refers to one of them, nothing is removed: the call is refused with `InUse`, also with
    /// [`force`](Remove::force). [`with_unshared_children`](Remove::with_unshared_children) leaves such a child instead.
    pub fn recursive(mut self) -> Self {
        self.children = Children::All;
        self
    }

    /// Remove those of the components that it holds, directly or not, that nothing else needs; leave the others.
    ///
    /// A child stays if something that stays refers to it, or if one of its versions has a label; so does what such a
    /// child holds. The children that stay are in the plan's text and in [`Removed::held`], each with the reason.
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
        self.address = self.address.at(version);
        self
    }

    /// Refuse, with `Conflict`, where a run of the component is unfinished; else its jobs are cancelled.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// What the audit log calls it.
    pub(crate) fn action(mut self, action: &'static str) -> Self {
        self.action = action;
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
    /// `NotFound`; `InUse` where something else refers to it, or where one version has a label, naming it.
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
        let (inputs, held) = gather(self.db.inner(), &address, self.children, self.force).await?;
        Ok(build_removal(address, &inputs, self.force, held))
    }

    async fn run(self) -> Result<Removed> {
        self.db.inner().check_writable("remove")?;
        let mut done = Removed { versions: Vec::new(), outcome: None, held: Vec::new() };
        let mut retry = Retry::new(format!("removing `{}`", self.address));
        loop {
            let plan = match self.plan().await {
                // Another removal took what was left of it.
                Err(error) if error.kind() == ErrorKind::NotFound && !done.versions.is_empty() => return Ok(done),
                plan => plan?,
            };
            let (removal, seen) = (removal_of(&plan)?, plan.expect.clone());
            let refused = match start(self.db.clone(), plan, self.action).await {
                Ok(run) => {
                    let outcome = run.wait().await.map_err(explain)?;
                    done.versions.extend(removal.addresses());
                    let outcome = outcome.filter(|outcome| !outcome.jobs.is_empty());
                    return Ok(Removed { outcome: outcome.or(done.outcome), held: removal.held, ..done });
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

    /// Wait for an unfinished removal that takes some of this one's versions; gives whether there is one.
    async fn joined(&self, removal: &Removal, done: &mut Removed) -> Result<bool> {
        let db = self.db.inner();
        let wanted: BTreeSet<String> = removal.addresses().map(|version| version.to_string()).collect();
        for run in db.unfinished_runs().await?.into_iter().filter(|run| run.purpose == RunPurpose::Remove) {
            let Ok(other) = serde_json::from_value::<Removal>(run.data.clone()) else { continue };
            let shared: Vec<Address> = other.addresses().filter(|version| wanted.contains(&version.to_string())).collect();
            if shared.is_empty() {
                continue;
            }
            let outcome = super::run::outcome_of(db, &db.attach(run.id).await?).await?;
            if outcome.run.state == RunState::Running && self.force {
                // This program cannot run its cleanups: by force, this removal goes on without them.
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
    plan.removal.clone().ok_or_else(|| Error::internal("the plan of a removal has lost what it removes"))
}

/// Carry out the plan of a removal.
pub(super) async fn start(db: Db, plan: Plan, action: &'static str) -> Result<Run> {
    let inner = db.inner().clone();
    let audit = db.audit(action, &plan.root);
    let removal = removal_of(&plan)?;
    let applied = Applied {
        address: plan.root.clone(),
        action: Action::Remove,
        components: plan.components.iter().map(|component| (component.address.clone(), component.action)).collect(),
        left_out: plan.left_out.clone(),
        outcome: None,
    };
    let expect = plan.expect.clone();
    let at = Timestamp::now();
    let candidates = blobs(&inner, &removal).await?;
    if plan.jobs.is_empty() && removal.live.is_empty() {
        let mut ops: Vec<Op> = removal
            .versions
            .iter()
            .map(|(address, versions)| Op::Delete { address: address.clone(), versions: versions.clone() })
            .collect();
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
    let mut ops: Vec<Op> = removal.whole.iter().map(|address| Op::Removing { address: address.clone(), on: true }).collect();
    // Where jobs are at work on what goes, who leads the run tells those who run them, and waits for their ends.
    let starts = removal.live.is_empty();
    if !starts {
        ops.push(Op::Signal { jobs: removal.live.clone(), signal: JobSignal::Cancel });
    }
    let run = (NewRun { purpose: RunPurpose::Remove, root: plan.root.clone(), data, at }, new_jobs(&plan.jobs, at));
    let launch = Launch { expect, ops, run: Some(run), audit, instances: Arc::default(), starts };
    let handle = inner.launch(launch).await?.1.ok_or_else(|| Error::internal("a removal was recorded without a run"))?;
    Ok(Run::new(inner, Some(handle.run), vec![handle], applied))
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
        let digests = crate::json::check_readable(&run.data, format_args!("the blobs of removal run {}", run.id))?.get("blobs").cloned();
        // Where none are named there is nothing to sweep.
        let digests: Option<Vec<crate::Digest>> = digests.map(serde_json::from_value).transpose()?;
        self.sweep(digests.unwrap_or_default()).await
    }

    /// Finish removals that a crash left with their jobs done but their run open; `resume` drives the rest.
    pub(crate) async fn unfinished_runs(&self) -> Result<Vec<RunRow>> {
        self.metadata.runs(RunFilter { unfinished: true, ..RunFilter::default() }).await
    }
}
