//! Reading: components, documents, listings, jobs, logs.

use super::{Db, DbInner};
use crate::unreturned::{Site, Unreturned};
use crate::{
    address::Address,
    component::Component,
    encode::{DecodeEnv, Document, decode_value, in_decode_session},
    error::{Error, ErrorKind, Result},
    locator::Locator,
    store::{
        AttemptRow, CheckpointRow, ComponentHealth, JobBrief, JobFilter, JobId, JobRole, JobRow,
        JobState, ListedComponent, RunFilter, RunRow, StoredVersion,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// How a component is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// All its jobs and those of its children succeeded.
    Ready,
    /// Some of its jobs, or of its children's, are not final.
    Pending(Vec<JobBrief>),
    /// Some of its jobs, or of its children's, failed, were cancelled or skipped.
    Degraded(Vec<JobBrief>),
    /// It was applied without its jobs.
    OwesJobs,
    /// It is being removed.
    Removing,
}

/// A line of `db.list()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Kind and identifier, with the newest version and revision.
    pub address: Address,
    /// All versions, ascending.
    pub versions: Vec<u32>,
    /// How its newest version is doing.
    pub status: Status,
    /// Whether this program has a type for it that can read its row.
    pub known: bool,
    /// The row as stored.
    pub row: ListedComponent,
}

impl Listed {
    /// What brings the component to [`Status::Ready`], in words, with the call; `None` where it is
    /// ready and this program knows it.
    ///
    /// Jobs that are queued or running need nothing but a process that runs them.
    pub fn hint(&self) -> Option<String> {
        let path = self.address.path();
        if !self.known {
            let kind = &self.address.kind;
            return Some(format!(
                "this program has no type of kind `{kind}` that reads it: run one that has it, or call \
                 `db.remove_dyn(\"{path}\").force()`"
            ));
        }
        match &self.status {
            Status::Ready => None,
            Status::OwesJobs => Some(format!("apply `{path}` to run its jobs")),
            Status::Removing => Some(format!("remove `{path}` again, or call `db.resume()`")),
            Status::Degraded(jobs) => jobs.first().map(|job| {
                let (target, id) = (job.target.path(), job.id);
                format!("job {id} (`{}` of `{target}`) is {}: apply `{target}` again, or call `db.retry({id})`", job.method, job.state)
            }),
            Status::Pending(jobs) => {
                let blocked = jobs.iter().find(|job| job.state == JobState::Blocked);
                let job = blocked.or(jobs.first())?;
                let (method, target, id) = (&job.method, job.target.path(), job.id);
                Some(match blocked {
                    Some(_) => format!("job {id} (`{method}` of `{target}`) is blocked: `db.unblock({id})` or `db.cancel({id})`"),
                    None => format!("job {id} (`{method}` of `{target}`) is {}: if no process runs it, call `db.resume()`", job.state),
                })
            }
        }
    }
}

/// The state in the first line, then a line for each job that it is due to.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, jobs): (&str, &[JobBrief]) = match self {
            Status::Ready => ("ready", &[]),
            Status::Pending(jobs) => ("pending", jobs),
            Status::Degraded(jobs) => ("degraded", jobs),
            Status::OwesJobs => ("applied without its jobs", &[]),
            Status::Removing => ("being removed", &[]),
        };
        f.write_str(text)?;
        jobs.iter().try_for_each(|job| write!(f, "\n  {job}"))
    }
}

impl Db {
    /// Load a component of any registered type: `Kind/identifier`, `Kind/identifier@3` or, by a
    /// label, `Kind/identifier@prod`.
    ///
    /// # Errors
    /// As for [`Db::load`]; `UnknownKind` for a kind this program has no type for.
    pub async fn load_dyn(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Box<dyn Component>> {
        let address = self.resolve(address).await?;
        let tree = self.inner().metadata.tree(address.clone()).await?;
        if tree.is_empty() {
            return Err(self.not_found(&address.kind, &address.to_string()).await);
        }
        let entry = *self.inner().registry.entry(&address.kind)?;
        decode_stored(self.inner(), tree, |document| (entry.decode)(document))
    }

    /// Run `setup` of a component that was loaded or built, children first; jobs do it by
    /// themselves.
    ///
    /// # Errors
    /// Those of `setup`.
    pub async fn setup(&self, component: &impl crate::component::AsComponent) -> Result<()> {
        use crate::job::{Identity, JobContext, setup_tree};
        let component = component.as_component();
        let encoding = super::Encoding::of(component)?;
        let uuid = encoding.tree().root().uuid;
        for record in &encoding.tree().records {
            crate::component::secret::check_all(
                &record.path(),
                &crate::encode::secrets(&record.body),
            )?;
        }
        let db = self.inner();
        let identity = Identity {
            target: Address::new(component.kind(), component.identifier()),
            uuid,
            run: None,
            job: None,
            attempt: 1,
            key: None,
            input: None,
            owner: None,
        };
        let env = Arc::new(DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone())));
        let ctx = JobContext::new(
            identity,
            Arc::downgrade(db),
            env,
            HashMap::new(),
            Arc::default(),
            db.notes.clone(),
        );
        crate::panics::Caught("setup", Box::pin(ctx.scope(setup_tree(component, &ctx)))).await
    }

    pub(crate) async fn not_found(&self, kind: &str, name: &str) -> Error {
        let error =
            Error::new(ErrorKind::NotFound, format!("no component `{name}` of kind `{kind}`"));
        let listed = self
            .inner()
            .metadata
            .list(None)
            .await
            .or_warn(Site::RUN, "listing components for a hint")
            .unwrap_or_default();
        let identifier =
            name.split('/').next_back().unwrap_or(name).split('@').next().unwrap_or(name);
        if let Some(found) = listed
            .iter()
            .find(|found| found.address.kind == kind && found.address.identifier == identifier)
        {
            let versions: Vec<String> = found.versions.iter().map(ToString::to_string).collect();
            return error.with_hint(format!("it has the versions {}", versions.join(", ")));
        }
        let near = listed
            .iter()
            .filter(|found| {
                found.address.identifier == identifier
                    || (found.address.kind == kind
                        && strsim::levenshtein(&found.address.identifier, identifier) <= 2)
            })
            .map(|found| format!("`{}`", found.address.path()))
            .take(3)
            .collect::<Vec<_>>();
        if near.is_empty() {
            error
        } else {
            error.with_hint(format!("there is {}", near.join(", ")))
        }
    }

    /// All components with their versions and how they are doing, by kind and identifier.
    ///
    /// Rows of kinds that this program does not know, and rows it cannot read, are listed too.
    ///
    /// # Errors
    /// `Store`.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let db = self.inner();
        let rows = db.metadata.list(None).await?;
        let mut unhealthy = db.metadata.unhealthy().await?;
        unhealthy.retain(|job| counts(db, job));
        let spread = if unhealthy.is_empty() {
            HashMap::new()
        } else {
            spread_upwards(unhealthy, db.metadata.references().await?)
        };
        Ok(rows
            .into_iter()
            .map(|row| {
                let jobs = spread.get(&row.address.path()).cloned().unwrap_or_default();
                Listed {
                    address: row.address.clone(),
                    versions: row.versions.clone(),
                    status: status(&row, jobs),
                    known: db
                        .registry
                        .entry(&row.address.kind)
                        .is_ok_and(|entry| entry.spec.version >= row.type_version),
                    row,
                }
            })
            .collect())
    }

    /// How a component is doing, with the jobs that say so.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn status(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Status> {
        let address = self.resolve(target).await?;
        match self.inner().metadata.health(address.unversioned()).await? {
            Some(health) => Ok(status_of(self.inner(), health)),
            None => Err(self.not_found(&address.kind, &address.to_string()).await),
        }
    }

    /// The stored document of a component, of any kind, known here or not.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn show(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Value> {
        let address = self.resolve(address).await?;
        let tree = self.inner().metadata.tree(address.clone()).await?;
        match tree.into_iter().next() {
            Some(stored) => Ok(document_json(&stored)),
            None => Err(self.not_found(&address.kind, &address.to_string()).await),
        }
    }

    /// The versions of a component, ascending, each at its newest revision.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn versions(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Vec<StoredVersion>> {
        let address = self.resolve(target).await?;
        let versions = self.inner().metadata.versions(address.unversioned()).await?;
        if versions.is_empty() {
            Err(self.not_found(&address.kind, &address.to_string()).await)
        } else {
            Ok(versions)
        }
    }

    /// Jobs on record, oldest first.
    ///
    /// # Errors
    /// `Store`.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>> {
        self.inner().metadata.jobs(filter).await
    }

    /// One job.
    ///
    /// # Errors
    /// `NotFound`, `Store`.
    pub async fn job(&self, id: JobId) -> Result<JobRow> {
        let rows = self.jobs(JobFilter { ids: Some(vec![id]), ..JobFilter::default() }).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Error::not_found(format!("job {id} is not on record")))
    }

    /// The ended attempts of a job.
    ///
    /// # Errors
    /// `Store`.
    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRow>> {
        self.inner().metadata.attempts(job).await
    }

    /// The checkpoints of a job, ascending.
    ///
    /// # Errors
    /// `Store`.
    pub async fn checkpoints(&self, job: JobId) -> Result<Vec<CheckpointRow>> {
        self.inner().metadata.checkpoints(job).await
    }

    /// Read back a result, output or checkpoint.
    ///
    /// # Errors
    /// `Decode` where it is no `T`.
    pub fn decode<T: serde::de::DeserializeOwned>(&self, value: Value, name: &str) -> Result<T> {
        let db = self.inner();
        decode_value(
            value,
            &Arc::new(DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone()))),
            name,
        )
    }

    /// Runs on record, oldest first.
    ///
    /// # Errors
    /// `Store`.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>> {
        self.inner().metadata.runs(filter).await
    }
}

/// Decode the first version of a tree, with the others as its children.
pub(crate) fn decode_stored<T>(
    db: &Arc<DbInner>,
    tree: Vec<StoredVersion>,
    decode: impl FnOnce(&Document) -> Result<T>,
) -> Result<T> {
    let mut env = DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone()));
    let mut rows = tree.into_iter().map(|stored| {
        let key = stored.address.at(stored.version()).to_string();
        let StoredVersion { address, type_version, document, outputs, .. } = stored;
        (key, Document { address, type_version, body: document, outputs })
    });
    let (_, root) = rows.next().ok_or_else(|| Error::internal("a stored tree is empty"))?;
    env.documents.extend(rows);
    in_decode_session(&Arc::new(env), || decode(&root))
}

fn document_json(stored: &StoredVersion) -> Value {
    json!({
        "_format": 1,
        "kind": stored.address.kind,
        "version": stored.type_version,
        "address": stored.address,
        "uuid": stored.uuid.to_hex(),
        "content_hash": stored.content_hash.to_hex(),
        "content_of": stored.content_of,
        "fields": stored.document,
        "outputs": stored.outputs,
    })
}

/// Whether nothing will run a trigger or hook again: its type, which this program has, has lost it.
pub(super) fn is_of_the_past(db: &DbInner, kind: &str, role: JobRole, method: &str) -> bool {
    let Ok(entry) = db.registry.entry(kind) else { return false };
    match role {
        JobRole::Trigger => (entry.trigger)(method).is_none(),
        JobRole::OnCreate | JobRole::Cleanup => !(entry.lifecycle)(),
    }
}

/// Whether a job that did not succeed counts: one that ended does not if nothing will run it again.
fn counts(db: &DbInner, job: &JobBrief) -> bool {
    !job.state.is_terminal() || !is_of_the_past(db, &job.target.kind, job.role, &job.method)
}

/// How a component is doing whose health a store told.
pub(super) fn status_of(db: &DbInner, mut health: ComponentHealth) -> Status {
    health.unhealthy.retain(|job| counts(db, job));
    status(&health.listed, health.unhealthy)
}

/// Which jobs make which components unhealthy: their own and those of all they hold, in the
/// versions that they hold.
fn spread_upwards(
    unhealthy: Vec<JobBrief>,
    references: Vec<crate::store::Reference>,
) -> HashMap<String, Vec<JobBrief>> {
    let mut parents: HashMap<String, Vec<Address>> = HashMap::new();
    for reference in references {
        parents.entry(reference.child.to_string()).or_default().push(reference.parent);
    }
    let mut spread: HashMap<String, Vec<JobBrief>> = HashMap::new();
    for job in unhealthy {
        let mut seen = HashSet::new();
        let mut stack = vec![job.target.clone()];
        while let Some(address) = stack.pop() {
            if !seen.insert(address.path()) {
                continue;
            }
            let version = address.at(address.version.map_or(0, |at| at.version));
            stack.extend(parents.get(&version.to_string()).into_iter().flatten().cloned());
            spread.entry(address.path()).or_default().push(job.clone());
        }
    }
    spread
}

fn status(row: &ListedComponent, jobs: Vec<JobBrief>) -> Status {
    let (broken, open): (Vec<JobBrief>, Vec<JobBrief>) =
        jobs.into_iter().partition(|job| job.state.is_terminal());
    if row.removing {
        Status::Removing
    } else if !broken.is_empty() {
        Status::Degraded(broken)
    } else if !open.is_empty() {
        Status::Pending(open)
    } else if row.owes_jobs {
        Status::OwesJobs
    } else {
        Status::Ready
    }
}
