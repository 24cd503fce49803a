//! One trigger of a stored version, as a run of its own.

use super::{
    Db, DbInner, Retry, Run,
    apply::{finish, new_jobs},
    launch::Launch,
    planning::{History, labels_of, refuse_overwrites},
    read::decode_stored,
};
use crate::{
    address::Address,
    component::trigger::TriggerSpec,
    encode::{Record, Tree, encode_tree},
    error::{Error, Result},
    job::{Outcome, current},
    locator::Locator,
    plan::{NeededJob, Overwrite, PlannedJob, PlannedNeed, its_outputs},
    store::{Expect, JobRole, NewRun, RunPurpose, StoredVersion, Timestamp, being_removed},
};
use std::sync::Arc;

impl Db {
    /// Run one trigger of a stored version, alone, and wait for it: publish a version again,
    /// evaluate an old one.
    ///
    /// The version is the newest, or the one that the address or its label names. Parameters take
    /// the results on record, also those of the version that a rollback copied from. What depends
    /// on the trigger does not run.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
    /// let outcome = db.run("acme.Model/churn@prod", "publish").await?;
    /// let place: String = outcome.result("publish")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for what is not stored and a trigger that the type does not have; `InvalidInput`
    /// for a trigger whose outputs are on record, whose required fields are not set, or that takes
    /// a result which is not on record; `InUse` where it may overwrite outputs of a version with a
    /// label; `Conflict` while the component is being removed; `JobFailed` where it fails.
    pub async fn run(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        trigger: &str,
    ) -> Result<Outcome> {
        if current().is_some() {
            return Err(Error::invalid(
                "a run inside a job would wait for a slot that the job holds",
            )
            .with_hint("use `db.run_detached(address, trigger)` inside jobs"));
        }
        let outcome = self.run_detached(target, trigger).await?.wait().await?;
        outcome.ok_or_else(|| Error::internal("a run of a trigger has no outcome"))
    }

    /// Like [`Db::run`], without waiting.
    ///
    /// # Errors
    /// As for [`Db::run`], apart from the trigger's own failure.
    pub async fn run_detached(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        trigger: &str,
    ) -> Result<Run> {
        self.inner().check_writable("run a trigger")?;
        let address = self.resolve(target).await?;
        let mut retry = Retry::new(format!("running `{trigger}` of `{address}`"));
        loop {
            let launch = self.plan_run(&address, trigger).await?;
            let seen = launch.expect.clone();
            let (committed, handle) = match self.inner().launch(launch).await {
                Ok(launched) => launched,
                Err(refused) => {
                    retry.again(self.inner(), refused, seen, &[]).await?;
                    continue;
                }
            };
            let handle =
                handle.ok_or_else(|| Error::internal("a trigger was recorded without a run"))?;
            return Ok(Run::resumed(self.inner().clone(), handle.run, handle)
                .with_recorded(committed.jobs)
                .started_by(self));
        }
    }

    async fn plan_run(&self, address: &Address, trigger: &str) -> Result<Launch> {
        let db = self.inner();
        let stored = db.metadata.tree(address.clone()).await?;
        let Some(version) = stored.first().cloned() else {
            return Err(self.not_found(&address.kind, &address.to_string()).await);
        };
        let tree = encoded(db, stored).await?;
        let record = tree.root();
        let place = place_of(record, trigger)?;
        if let Some(field) = record.unmet[place].first() {
            return Err(Error::invalid(format!(
                "`{trigger}` of `{}` requires `{field}`, which is not set",
                version.address
            )));
        }
        let newest = db
            .metadata
            .snapshot(vec![address.unversioned()])
            .await?
            .components
            .remove(&address.path());
        let newest =
            newest.ok_or_else(|| Error::not_found(format!("no component `{}`", address.path())))?;
        if let Some(going) = [&newest, &version].into_iter().find(|stored| stored.removing) {
            return Err(being_removed(&going.address.at(going.version())));
        }
        let history = History::read(db, &version, record).await?;
        let mut expect = vec![Expect::Newest {
            address: address.unversioned(),
            state: Some((newest.version(), newest.revision(), false)),
        }];
        if let Some(overwrite) =
            overwritten(db, &version, record, record.triggers[place], &history).await?
        {
            refuse_overwrites(std::slice::from_ref(&overwrite))?;
            expect.push(Expect::Unlabelled { address: overwrite.component, but: None });
        }
        let job = planned_job(&version, record, place, &history)?;
        db.check_executor(job.placement().executor.as_deref())?;
        let at = Timestamp::now();
        let jobs = new_jobs(std::slice::from_ref(&job), at);
        let root = version.address.clone();
        let run = NewRun::new(RunPurpose::Apply, root, at);
        Ok(Launch {
            expect,
            ops: Vec::new(),
            run: Some((run, jobs)),
            audit: self.audit("run", format_args!("{trigger} of {address}")),
            instances: Arc::default(),
            starts: true,
        })
    }
}

/// A stored tree as its types of today write it.
async fn encoded(db: &Arc<DbInner>, stored: Vec<StoredVersion>) -> Result<Tree> {
    let kind = stored.first().map(|root| root.address.kind.clone()).unwrap_or_default();
    let entry = *db.registry.entry(&kind)?;
    let component = decode_stored(db, stored, |document| (entry.decode)(document))?;
    let tree = encode_tree(&*component)?;
    drop(component);
    finish(tree).await
}

fn place_of(record: &Record, trigger: &str) -> Result<usize> {
    record.triggers.iter().position(|spec| spec.name == trigger).ok_or_else(|| {
        let known: Vec<String> =
            record.triggers.iter().map(|spec| format!("`{}`", spec.name)).collect();
        let error = Error::not_found(format!("`{}` has no trigger `{trigger}`", record.kind));
        if known.is_empty() {
            error
        } else {
            error.with_hint(format!("its triggers are {}", known.join(", ")))
        }
    })
}

/// What the trigger may overwrite; an error where it is known to.
async fn overwritten(
    db: &Arc<DbInner>,
    version: &StoredVersion,
    record: &Record,
    spec: &TriggerSpec,
    history: &History,
) -> Result<Option<Overwrite>> {
    if version.outputs.is_empty() {
        return Ok(None);
    }
    let writers = db.metadata.output_writers(vec![version.address.unversioned()]).await?;
    let recorded = history
        .record(version, false, &writers)
        .recorded(&record.triggers, labels_of(db, version).await?);
    match recorded.overwritten_by(&version.address, JobRole::Trigger, spec.name, Some(spec)) {
        Some(Overwrite { outputs, certain: true, .. }) => {
            let are = if outputs.len() == 1 { "is" } else { "are" };
            let text = format!(
                "`{}` does not run again: {} of `{}` {are} on record",
                spec.name,
                its_outputs(&outputs),
                version.address
            );
            Err(Error::invalid(text).with_hint("make a new version with `db.apply(…).again()`"))
        }
        overwrite => Ok(overwrite),
    }
}

/// The job, with the results that its parameters take.
fn planned_job(
    version: &StoredVersion,
    record: &Record,
    place: usize,
    history: &History,
) -> Result<PlannedJob> {
    let spec = record.triggers[place];
    let mut needs = Vec::new();
    for dependency in spec.depends_on {
        let is_left_out = record
            .triggers
            .iter()
            .position(|other| other.name == dependency.name)
            .is_some_and(|other| !record.unmet[other].is_empty());
        match history.giver(dependency.name) {
            Some(job) => needs.push(PlannedNeed {
                job: NeededJob::Recorded(job),
                parameter: Some(dependency.name.to_owned()),
            }),
            None if dependency.optional && is_left_out => {}
            None => {
                let text = format!(
                    "`{}` of `{}` needs `{}`, which has not succeeded there",
                    spec.name, version.address, dependency.name
                );
                return Err(Error::invalid(text).with_hint(format!(
                    "`db.run(\"{}\", \"{}\")` first",
                    version.address, dependency.name
                )));
            }
        }
    }
    // What is under way for this version comes first, whatever becomes of it.
    for job in history.jobs.iter().filter(|job| !job.state.is_terminal()) {
        if !needs.iter().any(|need| need.job == NeededJob::Recorded(job.id)) {
            needs.push(PlannedNeed { job: NeededJob::Recorded(job.id), parameter: None });
        }
    }
    Ok(PlannedJob {
        target: version.address.clone(),
        role: JobRole::Trigger,
        method: spec.name.to_owned(),
        needs,
        retry_of: None,
        key: None,
        spec: Some(spec),
        policy: record.policies[place].clone().map(Box::new),
    })
}
