//! Results on record: of a version by its address, and those that an apply gives without running
//! anything.

use super::{Db, DbInner};
use crate::{
    address::Address,
    db::Applied,
    encode::{DecodeEnv, decode_value},
    error::{Error, Result},
    locator::Locator,
    near,
    store::{JobBrief, JobFilter, JobId, JobRole, JobRow, JobState, Snapshot, StoredVersion},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// So many versions are followed to the one whose job gave a result.
const HOPS: usize = 16;

/// Results on record, by trigger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    results: BTreeMap<String, (JobId, Value)>,
    env: Option<Arc<DecodeEnv>>,
}

impl Recorded {
    /// The result of a trigger, if it is on record.
    pub(crate) fn result<T: DeserializeOwned>(&self, trigger: &str) -> Option<Result<T>> {
        let ((job, value), env) = (self.results.get(trigger)?, self.env.as_ref()?);
        Some(decode(value.clone(), env, *job, trigger))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.results.keys().map(String::as_str)
    }

    fn add(&mut self, db: &DbInner, job: JobRow) {
        self.env.get_or_insert_with(|| env(db));
        self.results.insert(job.method, (job.id, job.result.unwrap_or_default()));
    }
}

fn env(db: &DbInner) -> Arc<DecodeEnv> {
    Arc::new(DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone())))
}

fn decode<T: DeserializeOwned>(
    value: Value,
    env: &Arc<DecodeEnv>,
    job: JobId,
    trigger: &str,
) -> Result<T> {
    decode_value(value, env, &format!("the result of job {job}"))
        .map_err(|error| error.context(format_args!("result of `{trigger}`")))
}

/// The jobs of a component's triggers that a plan found done, for [`fill`].
pub(super) fn earlier(snapshot: &Snapshot, address: &Address) -> Vec<(String, JobId)> {
    let version = address.version.map(|at| at.version);
    let is_done = |job: &&JobBrief| {
        job.role == JobRole::Trigger
            && job.key.is_none()
            && job.state == JobState::Succeeded
            && job.target.path() == address.path()
            && job.target.version.map(|at| at.version) == version
    };
    snapshot.jobs.iter().filter(is_done).map(|job| (job.method.clone(), job.id)).collect()
}

/// Read the results of those triggers that had run before and did not run again.
pub(super) async fn fill(db: &Arc<DbInner>, applied: &mut Applied) -> Result<()> {
    let ids: Vec<JobId> = applied
        .earlier
        .iter()
        .filter(|(method, _)| applied.own_job(method).is_none())
        .map(|(_, job)| *job)
        .collect();
    if !ids.is_empty() {
        for job in db.metadata.jobs(JobFilter { ids: Some(ids), ..JobFilter::default() }).await? {
            applied.recorded.add(db, job);
        }
    }
    // The outputs of these were copied from another version, and the result is there.
    let path = applied.address.path();
    let copied: Vec<(String, Address)> = applied
        .left_out
        .iter()
        .filter(|left| left.component.path() == path)
        .filter_map(|left| Some((left.trigger.clone(), applied.address.at(left.from?))))
        .collect();
    for (trigger, address) in copied {
        if let Some(job) = find(db, &address, &trigger).await?.0 {
            applied.recorded.add(db, job);
        }
    }
    Ok(())
}

impl Db {
    /// The result of a trigger of a stored version: `db.result::<f64>("acme.Model/churn@prod",
    /// "evaluate")`.
    ///
    /// Without a version the newest one is meant. Where outputs of a version were copied from
    /// another one, as by a rollback, the result is that of the job which made them.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// let accuracy: f64 = db.result("acme.Model/churn@prod", "evaluate").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for what is not stored, and for a trigger that has not succeeded there; `Decode`
    /// where the result is no `T`; `Store`.
    pub async fn result<T: DeserializeOwned>(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        trigger: &str,
    ) -> Result<T> {
        let address = self.resolve(target).await?;
        let db = self.inner();
        let (found, newest) = find(db, &address, trigger).await?;
        if let Some(job) = found {
            return decode(job.result.unwrap_or_default(), &env(db), job.id, trigger);
        }
        let Some(stored) = db.metadata.tree(address.clone()).await?.into_iter().next() else {
            return Err(self.not_found(&address.kind, &address.to_string()).await);
        };
        Err(no_result(self, &stored, trigger, newest))
    }
}

fn no_result(db: &Db, stored: &StoredVersion, trigger: &str, newest: Option<JobRow>) -> Error {
    let address = &stored.address;
    if let Some(job) = newest {
        let text = format!(
            "`{trigger}` of `{address}` has no result: its job {} is {}",
            job.id, job.state
        );
        return Error::not_found(text)
            .with_hint(format!("`db.run(\"{address}\", \"{trigger}\")` runs it"));
    }
    let entry = db.inner().registry.entry(&address.kind);
    let triggers = entry.map(|entry| (entry.triggers)()).unwrap_or_default();
    if triggers.contains(&trigger) {
        let text = format!("`{trigger}` of `{address}` has no result: it has not run");
        return Error::not_found(text)
            .with_hint(format!("`db.run(\"{address}\", \"{trigger}\")` runs it"));
    }
    let error = Error::not_found(format!("`{address}` has no trigger `{trigger}`"));
    match near::hint(trigger, triggers) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The newest job of a trigger that succeeded for a version, or for the one that it has its content
/// of; beside it the version's newest job of that name, whatever became of it.
async fn find(
    db: &Arc<DbInner>,
    address: &Address,
    trigger: &str,
) -> Result<(Option<JobRow>, Option<JobRow>)> {
    let mut next = Some(address.clone());
    let mut newest = None;
    for _ in 0..HOPS {
        let Some(at) = next else { break };
        let Some(stored) = db.metadata.tree(at.clone()).await?.into_iter().next() else { break };
        let jobs = jobs_of(db, &stored, trigger).await?;
        if let Some(job) = jobs.iter().rev().find(|job| job.state == JobState::Succeeded) {
            return Ok((Some(job.clone()), newest));
        }
        newest = newest.or_else(|| jobs.into_iter().next_back());
        next = stored.content_of.map(|version| at.at(version));
    }
    Ok((None, newest))
}

/// The jobs of a trigger of a version, ascending. Spawned jobs are not the trigger's own.
async fn jobs_of(db: &Arc<DbInner>, stored: &StoredVersion, trigger: &str) -> Result<Vec<JobRow>> {
    let of_trigger = |job: &JobRow| {
        job.key.is_none() && job.method == trigger && job.component == stored.component
    };
    if stored.newest {
        // The newest version's newest jobs are at hand, however many it spawned.
        let snapshot = db.metadata.snapshot(vec![stored.address.unversioned()]).await?;
        let newest = earlier(&snapshot, &stored.address);
        if let Some((_, job)) = newest.iter().find(|(method, _)| method == trigger) {
            let filter = JobFilter { ids: Some(vec![*job]), ..JobFilter::default() };
            return db.metadata.jobs(filter).await;
        }
    }
    let filter = JobFilter {
        target: Some(stored.address.at(stored.version())),
        roles: Some(vec![JobRole::Trigger]),
        ..JobFilter::default()
    };
    let mut jobs = db.metadata.jobs(filter).await?;
    jobs.retain(of_trigger);
    Ok(jobs)
}
