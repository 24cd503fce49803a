//! What a job process does: it opens the stores of its parent, runs its job, and records the end.
//!
//! Invariant: the end of the attempt is on record before this process ends, or its parent tells why
//! it is not.

use super::{
    lifeline,
    request::{CANNOT_OPEN, LACKS, Request},
    strays,
};
use crate::unreturned::{Site, Unreturned};
use crate::{
    component::policy::Placement,
    db::{Db, DbInner},
    error::{Error, Result},
    job::{
        CancelToken, limits, program,
        remote::{check_stores, finish_runs, read_job, run_and_record},
    },
    store::{JobFilter, JobId, JobRow, JobSignal, StoreLocations},
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How often a job process looks whether another process asked something of its job.
const LOOK: Duration = Duration::from_millis(100);
/// The exit code of a job process that could not record the end of its attempt, as `EX_SOFTWARE` of
/// `sysexits.h`.
const FAILED: i32 = 70;

/// Whether this program called [`job_process`] first thing, so that it can be started again as a
/// job process.
static PREPARED: AtomicBool = AtomicBool::new(false);
/// Whether this process is a job process.
static IS_JOB_PROCESS: AtomicBool = AtomicBool::new(false);
/// Notified when the parent says that the record of the job may have changed.
static NUDGED: Notify = Notify::const_new();

/// Whether this process is a job process: its parent looks after the database.
pub(crate) fn is_job_process() -> bool {
    IS_JOB_PROCESS.load(Ordering::Acquire)
}

pub(super) fn is_prepared() -> bool {
    PREPARED.load(Ordering::Acquire)
}

/// The first line of a program that can be a job process: if this process was started as a job
/// process, run the job and exit.
///
/// `open` is given the places of the stores that the parent uses, and opens them. A job process
/// whose database has other stores runs nothing and exits. `#[superduper::main]` calls it for you.
///
/// # Guarantees
/// - A job process ends when its parent does, or when the parent gives its attempt up.
/// - What a job starts ends with its job process. Processes of the same process group always do. On
///   Linux, so do processes that left the group (`setsid`), also if the job process crashed or was
///   killed. Exceptions: a process that left the group *and* cleared its environment, if the job
///   process was killed from outside or called `exit`; and processes that left the group, if the
///   job process and its parent are killed at the same moment.
/// - Standard output and standard error are passed on to those of the parent, and are in the job's
///   log by lines, after `stdout: ` and `stderr: `. For each attempt and each of the two, the log
///   has the first 64 KiB and the last 64 KiB, with one line between them that says how many bytes
///   are left out. A line counts as 32 bytes more than its text. A line longer than 4096 bytes is
///   cut, and says how many bytes are missing. Empty lines are left out. What is not UTF-8 is
///   replaced by U+FFFD. Of a line that is rewritten with carriage returns, the last state is kept.
///
/// # Errors
/// `Internal` for a malformed request, and those of reading the job; the parent reports them as a
/// lost job process.
pub async fn job_process<F>(open: impl FnOnce(StoreLocations) -> F) -> Result<()>
where
    F: Future<Output = Result<Db>>,
{
    PREPARED.store(true, Ordering::Release);
    program::remember();
    let Some(request) = Request::of_this_process()? else { return Ok(()) };
    if !is_child_of(request.parent)? {
        return Ok(());
    }
    IS_JOB_PROCESS.store(true, Ordering::Release);
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

/// [`job_process`] under its former name.
///
/// # Errors
/// As for [`job_process`].
#[deprecated(note = "call `job_process`: a worker is a process that claims jobs")]
pub async fn worker<F>(open: impl FnOnce(StoreLocations) -> F) -> Result<()>
where
    F: Future<Output = Result<Db>>,
{
    job_process(open).await
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
    // A job process is nothing but a job, so what it traces is the job's log. A subscriber that is
    // there already stays.
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::registry(),
        crate::job::job_layer(),
    );
    tracing::subscriber::set_global_default(subscriber)
        .ignored("the program has a subscriber of its own");
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
    finish_runs(db, &HashSet::new()).await;
    0
}

/// Print an error, which the parent puts into the job's log. There is no other way to report it.
fn tell(job: JobId, error: &Error) {
    use std::io::Write;
    writeln!(std::io::stderr(), "worker for job {job}: {error:?}")
        .ignored("there is no other place to tell it");
}

/// Open the database, and make sure that its stores are those of the parent.
async fn open_stores<F>(
    open: impl FnOnce(StoreLocations) -> F,
    stores: StoreLocations,
) -> Result<Db>
where
    F: Future<Output = Result<Db>>,
{
    let db = open(stores.clone()).await?;
    check_stores(&db, &stores)?;
    Ok(db)
}

/// Whether the process that made the request started this process. A program that a job starts
/// inherits the request, too.
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

/// Run the job and record its end. Whether nothing ran, since this program lacks something that the
/// job needs.
async fn work(db: &Arc<DbInner>, request: &Request, cancel: &Arc<CancelToken>) -> Result<bool> {
    let mut spec = read_job(db, (request.job, request.attempt, request.owner)).await?;
    spec.row = without_limits(spec.row);
    let watch = tokio::spawn(watch_signals(db.clone(), request.job, cancel.clone()));
    let ended = run_and_record(db, &spec, cancel).await;
    watch.abort();
    ended
}

/// The job without its time limits. The parent keeps those: it can kill this process, and notices
/// if this process is stopped.
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
        let rows =
            db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await;
        let rows = rows.or_warn(Site::WORKER.job(job), "reading what is asked of a job");
        if rows.is_some_and(|rows| rows.iter().any(|row| cancel.ask_for_row(row))) {
            cancel.cancel();
            return;
        }
        if lifeline::is_closing() {
            // The store queues a job that pauses without a wish on record.
            cancel.send(JobSignal::Pause);
        }
    }
}
