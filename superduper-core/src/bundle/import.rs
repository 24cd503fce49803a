//! Importing: the components of a bundle are stored as an apply of them would store them, their
//! outputs included.

use super::{
    blob_name,
    kinds::check_kinds,
    open::Bundle,
    plan::{Stored, plan},
};
use crate::{
    address::Address,
    artifact::blocking,
    db::{Applied, Db, Launch, Retry, Run, check_agreed, new_jobs},
    digest::Digest,
    error::{Error, Result},
    future::BoxFuture,
    job::current,
    plan::{Action, Plan},
    store::{EdgeRow, Expect, NewRun, Op, PutAction, PutVersion, RunPurpose, Timestamp},
};
use std::{
    collections::{BTreeSet, HashMap},
    future::IntoFuture,
    path::PathBuf,
    sync::Arc,
};

/// An import under construction; await it.
#[must_use = "an import does nothing until it is awaited"]
pub struct Import {
    db: Db,
    path: PathBuf,
    refuse_existing: bool,
    allow_unknown: bool,
    jobs: bool,
    /// The digest of the plan that was agreed on.
    agreed: Option<Digest>,
}

impl Db {
    /// Store the components of a bundle, with their outputs and blobs; see [`Db::export`].
    ///
    /// A component that is here already becomes what an apply would make of it: it stays unchanged,
    /// gets a revision or a new version. Outputs that are stored are never overwritten: where the
    /// bundle brings others, that is a new version. `on_create` of new versions runs; triggers do
    /// not, since what they made comes along.
    ///
    /// # Guarantees
    /// - Everything is verified before anything is written, and all rows commit in one transaction.
    /// - Nothing outside of the bundle is read, and memory does not grow with its blobs.
    /// - A bundle that is replaced while it is read counts as one of the two: a tar file as it was,
    ///   a folder as it is then.
    /// - What is imported can be loaded: it is decoded by this program's types, older documents
    ///   migrated as by a load. Documents are stored as they are, so that a later export gives the
    ///   same bundle.
    ///
    /// # Errors
    /// `NotFound`; `Format` for what is not a bundle, or is one of a newer format; `Integrity` for
    /// one that is incomplete, changed or damaged; `UnknownKind`; `Decode` where a type here is
    /// older or differs; `Conflict` while a component is being removed; `JobFailed`; `Store`.
    pub fn import(&self, path: impl Into<PathBuf>) -> Import {
        Import {
            db: self.clone(),
            path: path.into(),
            refuse_existing: false,
            allow_unknown: false,
            jobs: true,
            agreed: None,
        }
    }

    /// What importing a bundle would do. Reads all of it but writes nothing.
    ///
    /// # Errors
    /// As for [`Db::import`].
    pub async fn plan_import(&self, path: impl Into<PathBuf>) -> Result<Plan> {
        self.import(path).plan().await
    }
}

impl Import {
    /// Refuse a bundle that would change a component that is here, naming all of them; equal ones
    /// are fine.
    pub fn refuse_existing(mut self) -> Self {
        self.refuse_existing = true;
        self
    }

    /// Let in components of kinds that this program does not know: they are stored, listed and
    /// exported, not loaded.
    pub fn allow_unknown(mut self) -> Self {
        self.allow_unknown = true;
        self
    }

    /// Whether `on_create` of new versions runs, as by default. Without, the new versions owe their
    /// jobs: the next plain apply of them plans all, triggers too.
    pub fn jobs(mut self, jobs: bool) -> Self {
        self.jobs = jobs;
        self
    }

    /// Refuse, with `Conflict` and before anything is written, where today's plan is not the one
    /// with this [`Plan::digest`].
    pub fn expect(mut self, digest: Digest) -> Self {
        self.agreed = Some(digest);
        self
    }

    /// What awaiting it would do. Reads all of the bundle but writes nothing.
    ///
    /// # Errors
    /// As for [`Db::import`].
    pub async fn plan(&self) -> Result<Plan> {
        let planning = async {
            let bundle = self.open().await?;
            self.plan_once(&bundle).await.map(|(plan, _)| plan)
        };
        planning.await.map_err(|error| error.context(self.place()))
    }

    fn place(&self) -> String {
        format!("import of `{}`", self.path.display())
    }

    /// Read and verify the bundle. A folder that is replaced meanwhile is read again: a tar file,
    /// which is opened once, stays as it was.
    async fn open(&self) -> Result<Arc<Bundle>> {
        let (mut retry, mut replaced) = (Retry::new("reading it"), 0_u32);
        let mut bundle = loop {
            let path = self.path.clone();
            let bundle = blocking(move || {
                let bundle = Bundle::open(&path)?;
                bundle.check_blobs()?;
                Ok(bundle)
            });
            match bundle.await {
                Ok(bundle) => break bundle,
                // Each time another bundle took its place.
                Err(refused) => retry.again(self.db.inner(), refused, replaced, &[]).await?,
            }
            replaced += 1;
        };
        bundle.singles = check_kinds(&self.db, &bundle, self.allow_unknown)?;
        Ok(Arc::new(bundle))
    }

    async fn plan_once(&self, bundle: &Bundle) -> Result<(Plan, Stored)> {
        let metadata = &self.db.inner().metadata;
        let names: BTreeSet<Address> =
            bundle.nodes.iter().map(|node| node.address.unversioned()).collect();
        let snapshot = metadata.snapshot(names.into_iter().collect()).await?;
        let mut versions = HashMap::new();
        for (path, newest) in &snapshot.components {
            versions.insert(path.clone(), metadata.versions(newest.address.unversioned()).await?);
        }
        let stored = Stored { snapshot, versions };
        let plan = plan(bundle, &stored, &self.db.inner().registry, self.jobs)?;
        if self.refuse_existing {
            let differs = plan.components.iter().filter(|component| {
                matches!(component.action, Action::Update | Action::NewVersion)
            });
            let names: BTreeSet<String> =
                differs.map(|component| format!("`{}`", component.address.path())).collect();
            if !names.is_empty() {
                let names: Vec<String> = names.into_iter().collect();
                return Err(Error::conflict(format!("there are components of the same name with other content: {}", names.join(", ")))
                    .with_hint("remove them first, or import without `.refuse_existing()` to make new versions of them"));
            }
        }
        Ok((plan, stored))
    }

    async fn run(self) -> Result<Run> {
        self.db.inner().check_writable("write components")?;
        let mut bundle = self.open().await?;
        let (mut retry, mut replaced) = (None, 0_u32);
        loop {
            let (plan, stored) = self.plan_once(&bundle).await?;
            check_agreed(self.db.inner(), &plan, self.agreed).await?;
            let refused = match commit(&self.db, &bundle, &plan, &stored).await {
                Ok(run) => return Ok(run),
                Err(error) => error,
            };
            let blobs: Vec<Digest> = bundle.blobs.keys().copied().collect();
            let retry =
                retry.get_or_insert_with(|| Retry::new(format!("storing `{}`", plan.root.path())));
            retry
                .again(self.db.inner(), refused, (plan.expect, plan.sweep_epoch, replaced), &blobs)
                .await?;
            if bundle.source.is_replaced() {
                bundle = self.open().await?;
                replaced += 1;
            }
        }
    }
}

impl IntoFuture for Import {
    type Output = Result<Applied>;
    type IntoFuture = BoxFuture<'static, Result<Applied>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if self.jobs && current().is_some() {
                return Err(Error::invalid(
                    "an import inside a job would wait for a slot that the job holds",
                )
                .with_hint("use `db.import(path).jobs(false)` inside jobs"));
            }
            let place = self.place();
            self.run().await.map_err(|error| error.context(place))?.finish().await
        })
    }
}

/// Upload the blobs, write everything in one transaction, start the run.
async fn commit(db: &Db, bundle: &Bundle, plan: &Plan, stored: &Stored) -> Result<Run> {
    let inner = db.inner();
    if !plan.jobs.is_empty() {
        inner.check_executor(None)?;
    }
    let action = plan.components.last().map_or(Action::Unchanged, |root| root.action);
    let applied = Applied::of_plan(plan, plan.root.clone(), action);
    let at = Timestamp::now();
    let ops = ops(bundle, plan, stored, at);
    for (digest, size) in &bundle.blobs {
        // Also of components that are here: a blob that was lost comes back. One that is intact is
        // not touched then.
        if ops.is_empty() && inner.artifacts.size(*digest).await? == Some(*size) {
            continue;
        }
        let chunks = bundle.source.chunks(&blob_name(*digest))?;
        inner
            .artifacts
            .put(*digest, *size, chunks)
            .await
            .map_err(|error| bundle.source.explain(error))?;
    }
    if ops.is_empty() {
        return Ok(Run::new(inner.clone(), None, Vec::new(), applied));
    }
    let mut expect = plan.expect.clone();
    expect.push(Expect::SweepEpoch(plan.sweep_epoch));
    let run = (!plan.jobs.is_empty()).then(|| {
        let run = NewRun::new(RunPurpose::Apply, plan.root.clone(), at);
        (run, new_jobs(&plan.jobs, at))
    });
    let (committed, handle) = inner
        .launch(Launch {
            expect,
            ops,
            run,
            audit: db.audit("import", &plan.root),
            instances: Arc::default(),
            starts: true,
        })
        .await?;
    Ok(Run::new(inner.clone(), committed.run, handle.into_iter().collect(), applied).started_by(db))
}

/// What stores the components that are not here, children first.
fn ops(bundle: &Bundle, plan: &Plan, stored: &Stored, at: Timestamp) -> Vec<Op> {
    let mut ops = Vec::new();
    for (node, component) in bundle.nodes.iter().zip(&plan.components) {
        let action = match component.action {
            Action::Create => PutAction::Create,
            Action::NewVersion => PutAction::Version,
            Action::Update => PutAction::Revision,
            Action::Unchanged | Action::Remove => continue,
        };
        let edges = node.children.iter().map(|(path, child)| {
            let child = &plan.components[*child].address;
            EdgeRow {
                path: path.clone(),
                child: child.at(child.version.map_or(0, |at| at.version)),
            }
        });
        ops.push(Op::Put(PutVersion {
            address: component.address.clone(),
            action,
            uuid: node.uuid,
            content_hash: node.content_hash,
            type_version: node.type_version,
            document: component.document.clone(),
            edges: edges.collect(),
            blobs: node.blobs.clone(),
            content_of: component.content_of,
            // A revision leaves the debts of its version as they are.
            owes_jobs: plan.owes_jobs
                || (action == PutAction::Revision && stored.owes(&node.address.path())),
            at,
        }));
        if !node.outputs.is_empty() {
            ops.push(Op::SetOutputs {
                address: component.address.clone(),
                outputs: node.outputs.clone(),
            });
        }
    }
    ops
}
