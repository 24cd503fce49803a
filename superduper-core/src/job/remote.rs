//! Running an attempt that another process has claimed.
//!
//! Invariant: the process that claimed the job keeps the claim; this one only records the end,
//! which the store ignores if the attempt is not the current one any more.

use super::{
    CancelToken, Instances, JobSpec, Placement, engine::is_forced, executor::AttemptEnd,
    record::record, run_job::run_job,
};
use crate::{
    address::Address,
    db::{Db, DbInner},
    error::{Error, ErrorKind, Result},
    store::{JobDependency, JobFilter, JobId, RunFilter, RunId, StoreLocations, WorkerId},
    unreturned::{Site, Unreturned},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How often a process looks whether something is asked of the job that it runs.
const LOOK: Duration = Duration::from_millis(100);

/// What a process needs to run an attempt that another process has claimed. It holds no secrets,
/// and can be sent as JSON.
///
/// ```no_run
/// # extern crate superduper_core as superduper;
/// use superduper::{Db, Result, job::JobRequest};
///
/// /// The process that the executor started; `text` is the JSON of `attempt.request()?`.
/// async fn run(text: &str, open: impl AsyncFn(&JobRequest) -> Result<Db>) -> Result<()> {
///     let request: JobRequest = serde_json::from_str(text)?;
///     let db = open(&request).await?;
///     request.run(&db).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobRequest {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The process that has claimed the job.
    pub worker: WorkerId,
    /// Kind, identifier, version and revision of the component.
    pub target: Address,
    /// The trigger or hook.
    pub method: String,
    /// The executor, pool and limits of the job. [`JobRequest::run`] keeps `grace_ms` and
    /// `stall_ms`; the executor enforces `memory` (bytes) and `cpu_s` (seconds).
    pub placement: Placement,
    /// The time limit of the attempt in milliseconds. [`JobRequest::run`] keeps it.
    pub time_limit_ms: Option<u64>,
    /// Where the stores are.
    pub stores: StoreLocations,
}

impl JobRequest {
    pub(super) fn of(db: &DbInner, spec: &JobSpec) -> Result<Self> {
        Ok(JobRequest {
            job: spec.row.id,
            attempt: spec.attempt,
            worker: spec.owner,
            target: spec.row.target.clone(),
            method: spec.row.method.clone(),
            placement: Placement::of_text(spec.row.executor.as_deref()),
            time_limit_ms: spec.row.timeout_ms,
            stores: locations(db)?,
        })
    }

    /// Run the attempt in this process, on a database that this process has opened with
    /// [`JobRequest::stores`], and record its end. This returns when the runs have ended that this
    /// process has begun to lead in the meantime: a job may start runs without waiting for them.
    ///
    /// The answer is for the executor: [`AttemptEnd::recorded`], or [`AttemptEnd::unable`] if this
    /// program lacks something that the job needs.
    ///
    /// # Errors
    /// `Unsupported` if the database uses other stores; `NotFound` if the job does not exist;
    /// `Conflict` if the attempt is not the current one; `Store`.
    pub async fn run(&self, db: &Db) -> Result<AttemptEnd> {
        check_stores(db, &self.stores)?;
        let db = db.inner();
        let others = db.engine.led();
        let spec = read_job(db, (self.job, self.attempt, self.worker)).await?;
        let cancel: Arc<CancelToken> = Arc::default();
        let watch = tokio::spawn(watch_signals(db.clone(), self.clone(), cancel.clone()));
        let ended = run_and_record(db, &spec, &cancel).await;
        watch.abort();
        if ended? {
            return Ok(AttemptEnd::unable());
        }
        finish_runs(db, &others).await;
        Ok(AttemptEnd::recorded())
    }
}

/// The places of the stores that another process opens.
pub(crate) fn locations(db: &DbInner) -> Result<StoreLocations> {
    let refuse = |which: &str, location: String| {
        let text = format!(
            "another process cannot open the {which} of this database: `{location}` is in memory, or its store gives no location that \
            other processes can open"
        );
        Error::new(ErrorKind::Unsupported, text)
            .with_hint("open a folder with `Db::open(\"my.db\")`; blobs may be at another place by `artifacts_at`")
    };
    let metadata = db
        .metadata
        .capabilities()
        .shared
        .ok_or_else(|| refuse("metadata", db.metadata.location()))?;
    let artifacts = db
        .artifacts
        .capabilities()
        .shared
        .ok_or_else(|| refuse("artifacts", db.artifacts.location()))?;
    Ok(StoreLocations { metadata, artifacts })
}

/// Make sure that the stores of a database are those that were asked for.
pub(super) fn check_stores(db: &Db, stores: &StoreLocations) -> Result<()> {
    let is = |which: &str, opened: Option<PathBuf>, wanted: &Path| match opened {
        Some(opened) if opened == wanted => Ok(()),
        opened => {
            let opened = opened.map_or_else(
                || "a private place".to_owned(),
                |opened| format!("`{}`", opened.display()),
            );
            let text = format!(
                "this process opened the {which} at {opened}, but the job needs `{}`",
                wanted.display()
            );
            Err(Error::new(ErrorKind::Unsupported, text)
                .with_hint("open the stores at both places that the request names"))
        }
    };
    is("metadata", db.metadata().capabilities().shared, &stores.metadata)?;
    is("artifacts", db.artifact_store().capabilities().shared, &stores.artifacts)
}

/// Run an attempt and record its end. Whether nothing ran, since this program lacks something that
/// the job needs.
pub(super) async fn run_and_record(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    cancel: &Arc<CancelToken>,
) -> Result<bool> {
    let result = run_job(db, spec, &Arc::new(Instances::default()), cancel.clone()).await;
    db.flush_notes().await;
    if result.lacks {
        return Ok(true);
    }
    let (committed, _) = record(db, &spec.row, result, || cancel.is_cancelled()).await?;
    if !committed.fenced.is_empty() {
        db.note_fenced(spec.row.id, spec.attempt);
        db.flush_notes().await;
    }
    Ok(false)
}

/// Wait for the runs that a job started here: they have no other process. `others` were led here
/// before.
pub(super) async fn finish_runs(db: &Arc<DbInner>, others: &HashSet<RunId>) {
    while let Some(mut run) = db.engine.any_but(others) {
        if run.done.wait_for(Option::is_some).await.is_err() {
            break;
        }
        // A run leaves the list a moment before or after it tells that it is done.
        tokio::task::yield_now().await;
    }
    db.flush_notes().await;
}

/// Read a job with the results that it needs of other jobs.
pub(super) async fn read_job(
    db: &Arc<DbInner>,
    (job, attempt, owner): (JobId, u32, WorkerId),
) -> Result<JobSpec> {
    let rows = db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await?;
    let row = rows
        .into_iter()
        .next()
        .ok_or_else(|| Error::not_found(format!("job {job} is not on record")))?;
    if row.owner != Some(owner) || row.attempt != attempt || row.state.is_terminal() {
        return Err(Error::conflict(format!(
            "attempt {attempt} of job {job} is not the current one"
        )));
    }
    let run =
        db.metadata.runs(RunFilter { id: Some(row.run), ..RunFilter::default() }).await?.pop();
    let (needs, waiting) = db.metadata.edges(job).await?;
    let needed: Vec<JobId> =
        needs.iter().filter(|edge| edge.parameter.is_some()).map(|edge| edge.needs).collect();
    let results: HashMap<JobId, Value> = if needed.is_empty() {
        HashMap::new()
    } else {
        let rows =
            db.metadata.jobs(JobFilter { ids: Some(needed), ..JobFilter::default() }).await?;
        rows.into_iter().filter_map(|row| Some((row.id, row.result?))).collect()
    };
    let dependencies = needs
        .iter()
        .filter_map(|edge| {
            Some((edge.parameter.clone()?, results.get(&edge.needs).cloned().unwrap_or_default()))
        })
        .collect();
    // A job of another run that waits for this one does not wait for what this one spawns.
    let waiting = in_run(db, row.run, waiting).await?;
    let forced = run.as_ref().is_some_and(is_forced);
    Ok(JobSpec { row, attempt, owner, dependencies, waiting, forced, is_own: false })
}

/// The jobs among these edges that belong to a run.
async fn in_run(db: &DbInner, run: RunId, edges: Vec<JobDependency>) -> Result<Vec<JobId>> {
    if edges.is_empty() {
        return Ok(Vec::new());
    }
    let ids = Some(edges.into_iter().map(|edge| edge.job).collect());
    let rows = db.metadata.jobs(JobFilter { ids, ..JobFilter::default() }).await?;
    Ok(rows.into_iter().filter(|row| row.run == run).map(|row| row.id).collect())
}

/// Pass on the signals to a job, and give its attempt up if another process has taken the job over.
async fn watch_signals(db: Arc<DbInner>, request: JobRequest, cancel: Arc<CancelToken>) {
    let JobRequest { job, attempt, worker, .. } = request;
    loop {
        tokio::time::sleep(LOOK).await;
        let rows =
            db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await;
        let Some(rows) = rows.or_warn(Site::WORKER.job(job), "reading what is asked of a job")
        else {
            continue;
        };
        let Some(row) =
            rows.first().filter(|row| row.owner == Some(worker) && row.attempt == attempt)
        else {
            cancel.abandon();
            return;
        };
        if cancel.ask_for_row(row) {
            cancel.cancel();
            return;
        }
    }
}
