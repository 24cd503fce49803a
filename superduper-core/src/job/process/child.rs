//! What a job process does: it opens the stores of its parent, runs its job, and records the end.
//!
//! Invariant: the end of the attempt is on record before this process ends, or its parent tells why it is not.

use super::{
    lifeline,
    request::{CANNOT_OPEN, LACKS, Request},
    strays,
};
use crate::unreturned::{Site, Unreturned};
use crate::{
    Db, Error, ErrorKind, Result,
    db::DbInner,
    job::{CancelToken, Instances, JobSpec, Placement, engine::is_forced, limits, program, record::record, run_job::run_job},
    store::{JobDependency, JobFilter, JobId, JobRow, RunFilter, RunId, StoreLocations, Wish},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How often a job process looks whether another process asked something of its job.
const LOOK: Duration = Duration::from_millis(100);
/// The exit code of a job process that could not record the end of its attempt, as `EX_SOFTWARE` of `sysexits.h`.
const FAILED: i32 = 70;

/// Whether this program called [`worker`] first thing, so that it can be started again as a job process.
static PREPARED: AtomicBool = AtomicBool::new(false);
/// Whether this process is a job process.
static IS_WORKER: AtomicBool = AtomicBool::new(false);
/// Notified when the parent says that the record of the job may have changed.
static NUDGED: Notify = Notify::const_new();

/// Whether this process is a job process: its parent looks after the database.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Acquire)
}

pub(super) fn is_prepared() -> bool {
    PREPARED.load(Ordering::Acquire)
}

/// The first line of a program that can be a job process: if this process was started as a job process, run the job and exit.
///
/// `open` is given the places of the stores that the parent uses, and opens them. A job process whose database has other
/// stores runs nothing and exits. `#[superduper::main]` calls it for you.
///
/// # Guarantees
/// - A job process ends when its parent does, or when the parent gives its attempt up.
/// - What a job starts ends with its job process. Processes of the same process group always do. On Linux, so do processes that
///   left the group (`setsid`), also if the job process crashed or was killed. Exceptions: a process that left the group *and*
///   cleared its environment, if the job process was killed from outside or called `exit`; and processes that left the group,
///   if the job process and its parent are killed at the same moment.
/// - Standard output and standard error are passed on to those of the parent, and are in the job's log by lines, after
///   `stdout: ` and `stderr: `. For each attempt and each of the two, the log has the first 64 KiB and the last 64 KiB, with
///   one line between them that says how many bytes are left out. A line counts as 32 bytes more than its text. A line longer
///   than 4096 bytes is cut, and says how many bytes are missing. Empty lines are left out. What is not UTF-8 is replaced by
///   U+FFFD. Of a line that is rewritten with carriage returns, the last state is kept.
///
/// # Errors
/// `Internal` for a malformed request, and those of reading the job; the parent reports them as a lost job process.
pub async fn worker<F>(open: impl FnOnce(StoreLocations) -> F) -> Result<()>
where
    F: Future<Output = Result<Db>>,
{
    PREPARED.store(true, Ordering::Release);
    program::remember();
    let Some(request) = Request::of_this_process()? else { return Ok(()) };
    if !is_child_of(request.parent)? {
        return Ok(());
    }
    IS_WORKER.store(true, Ordering::Release);
    let cancel = begin(&request)?;
    let code = match open_stores(open, Request::stores()?).await {
        Ok(db) => obey(&db, &request, &cancel).await,
        Err(error) => {
            tell(request.job, &error);
            CANNOT_OPEN
        }
    };
    strays::end_own();
    std::process::exit(code);
}

/// Tie this process to its parent, and limit it, before any code of its job runs.
fn begin(request: &Request) -> Result<Arc<CancelToken>> {
    let cancel: Arc<CancelToken> = Arc::default();
    let stream = lifeline::hold(request, &NUDGED)?;
    if let Some(limit) = limits::stall() {
        lifeline::tell(stream, limit, cancel.clone())?;
    }
    program::show_name();
    limits::apply()?;
    // A job process is nothing but a job, so what it traces is the job's log. A subscriber that is there already stays.
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), crate::job::job_layer());
    tracing::subscriber::set_global_default(subscriber).ignored("the program has a subscriber of its own");
    Ok(cancel)
}

/// Run the job, and the runs that it started. Returns the exit code.
async fn obey(db: &Db, request: &Request, cancel: &Arc<CancelToken>) -> i32 {
    let db = db.inner();
    let lacks = match work(db, request, cancel).await {
        Ok(lacks) => lacks,
        Err(error) => {
            // The end of the job is not on record, so the parent waits for the end of this process.
            tell(request.job, &error);
            db.flush_notes().await;
            return FAILED;
        }
    };
    if lacks {
        db.flush_notes().await;
        return LACKS;
    }
    // Runs that the job started and did not wait for have no other process.
    while let Some(mut run) = db.engine.any() {
        if run.done.wait_for(Option::is_some).await.is_err() {
            break;
        }
        // A run leaves the list a moment before or after it tells that it is done.
        tokio::task::yield_now().await;
    }
    db.flush_notes().await;
    0
}

/// Print an error, which the parent puts into the job's log. There is no other way to report it.
fn tell(job: JobId, error: &Error) {
    use std::io::Write;
    writeln!(std::io::stderr(), "worker for job {job}: {error:?}").ignored("there is no other place to tell it");
}

/// Open the database, and make sure that its stores are those of the parent.
async fn open_stores<F>(open: impl FnOnce(StoreLocations) -> F, stores: StoreLocations) -> Result<Db>
where
    F: Future<Output = Result<Db>>,
{
    let db = open(stores.clone()).await?;
    let is = |which: &str, opened: Option<PathBuf>, wanted: &Path| match opened {
        Some(opened) if opened == wanted => Ok(()),
        opened => {
            let opened = opened.map_or_else(|| "a place of its own".to_owned(), |opened| format!("`{}`", opened.display()));
            let text = format!("the worker has its {which} in {opened}, its parent has them in `{}`", wanted.display());
            Err(Error::new(ErrorKind::Unsupported, text).with_hint("open what the closure of `worker` is given, both places"))
        }
    };
    is("metadata", db.metadata().capabilities().shared, &stores.metadata)?;
    is("artifacts", db.artifact_store().capabilities().shared, &stores.artifacts)?;
    Ok(db)
}

/// Whether the process that made the request started this process. A program that a job starts inherits the request, too.
fn is_child_of(parent: u32) -> Result<bool> {
    let asked = i32::try_from(parent).ok().and_then(rustix::process::Pid::from_raw);
    if rustix::process::getppid() == asked {
        return Ok(true);
    }
    if asked.is_some_and(|asked| rustix::process::test_kill_process(asked).is_ok()) {
        return Ok(false);
    }
    Err(Error::internal("the process that started this worker is gone"))
}

/// Run the job and record its end. Whether nothing ran, since this program lacks something that the job needs.
async fn work(db: &Arc<DbInner>, request: &Request, cancel: &Arc<CancelToken>) -> Result<bool> {
    let spec = read_job(db, request).await?;
    let watch = tokio::spawn(watch_signals(db.clone(), request.job, cancel.clone()));
    let draft = run_job(db, &spec, &Arc::new(Instances::default()), cancel.clone()).await;
    watch.abort();
    db.flush_notes().await;
    if draft.lacks {
        return Ok(true);
    }
    let (committed, _) = record(db, &spec.row, draft, || cancel.is_cancelled()).await?;
    if !committed.fenced.is_empty() {
        db.note_fenced(request.job, request.attempt);
        db.flush_notes().await;
    }
    Ok(false)
}

/// Read the job with the results that it needs of other jobs.
async fn read_job(db: &Arc<DbInner>, request: &Request) -> Result<JobSpec> {
    let Request { job, attempt, owner, .. } = *request;
    let rows = db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await?;
    let row = rows.into_iter().next().ok_or_else(|| Error::not_found(format!("job {job} is not on record")))?;
    if row.owner != Some(owner) || row.attempt != attempt || row.state.is_terminal() {
        return Err(Error::conflict(format!("attempt {attempt} of job {job} is not the current one")));
    }
    let run = db.metadata.runs(RunFilter { id: Some(row.run), ..RunFilter::default() }).await?.pop();
    let (needs, waiting) = db.metadata.edges(job).await?;
    let needed: Vec<JobId> = needs.iter().filter(|edge| edge.parameter.is_some()).map(|edge| edge.needs).collect();
    let results: HashMap<JobId, Value> = if needed.is_empty() {
        HashMap::new()
    } else {
        let rows = db.metadata.jobs(JobFilter { ids: Some(needed), ..JobFilter::default() }).await?;
        rows.into_iter().filter_map(|row| Some((row.id, row.result?))).collect()
    };
    let dependencies =
        needs.iter().filter_map(|edge| Some((edge.parameter.clone()?, results.get(&edge.needs).cloned().unwrap_or_default()))).collect();
    // A job of another run that waits for this one does not wait for what this one spawns.
    let waiting = in_run(db, row.run, waiting).await?;
    let forced = run.as_ref().is_some_and(is_forced);
    Ok(JobSpec { row: without_limits(row), attempt, owner, dependencies, waiting, forced })
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

/// The job without its time limits. The parent keeps those: it can kill this process, and notices if this process is stopped.
fn without_limits(mut row: JobRow) -> JobRow {
    let mut placement = Placement::of_text(row.executor.as_deref());
    if placement.stall_ms.take().is_some() {
        row.executor = placement.to_text();
    }
    row.timeout_ms = None;
    row
}

async fn watch_signals(db: Arc<DbInner>, job: JobId, cancel: Arc<CancelToken>) {
    loop {
        tokio::time::timeout(LOOK, NUDGED.notified()).await.ignored("whichever comes first");
        let rows = db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await;
        let rows = rows.or_warn(Site::WORKER.job(job), "reading what is asked of a job");
        if rows.is_some_and(|rows| rows.iter().any(|row| cancel.ask_for_row(row))) {
            cancel.cancel();
            return;
        }
        if lifeline::is_closing() {
            // The store queues a job that pauses without a wish on record.
            cancel.ask(Wish::Pause);
        }
    }
}
