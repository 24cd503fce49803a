//! Jobs in worker processes: the same binary, started again with a job's id.
//!
//! Invariants: only ids and the places of the stores cross to the worker; it reads its job from the store and records the outcome
//! there. It works on the stores of its parent or on none.
//! A worker is in a process group of its own and dies with its parent: it holds the read end of a pipe
//! (its standard input), and ends its group when the pipe closes. A byte in the pipe carries nothing: it says that the record
//! is worth a look. The standard error of a worker is passed on, and its log has the beginning and the end of it.

use super::{
    CancelToken, Ended, Instances, JobSpec, Placement,
    engine::is_forced,
    executor::{Attempt, Executor, ExecutorCapabilities},
    limits,
    program::Program,
    record::record,
    run_job::run_job,
    stderr::{Log, Stderr, explain},
};
use crate::unreturned::{Site, Unreturned};
use crate::{
    Db, Error, ErrorKind, FailureKind, JobFailure, Result,
    db::DbInner,
    lifecycle::BoxFuture,
    store::{Batch, Durability, JobFilter, JobId, JobRow, Op, OwnerId, RunFilter, StoreLocations},
};
use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// The variable by which a worker knows its job: `job:attempt:owner:parent`.
///
/// What a job starts inherits the variable, and is no worker: its parent is another one.
const WORKER: &str = "SUPERDUPER_WORKER";
/// The variables by which it knows the stores of its parent. A folder may have any name, so each has a variable of its own.
const METADATA: &str = "SUPERDUPER_WORKER_METADATA";
const ARTIFACTS: &str = "SUPERDUPER_WORKER_ARTIFACTS";
/// The exit code of a worker that cannot open them, as `EX_CONFIG` of `sysexits.h`.
const CANNOT_OPEN: i32 = 78;
/// How often a worker looks whether another process asked something of its job.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether the end of an attempt is on record although its worker lives.
const ENDED: Duration = Duration::from_millis(500);

/// Whether this program called [`worker`] first thing, so that it can be started again as a worker.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Whether this process is a worker.
static IS_WORKER: AtomicBool = AtomicBool::new(false);
/// The record is worth a look.
static NUDGED: Notify = Notify::const_new();

/// Whether this process is a worker: its parent looks after the database.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Acquire)
}

/// Runs jobs in worker processes.
#[derive(Debug)]
pub(crate) struct Process {
    /// The program to start; this one where absent.
    pub(crate) program: Option<PathBuf>,
}

impl Process {
    fn program(&self) -> Result<Program> {
        match &self.program {
            Some(program) => Ok(Program::At(program.clone())),
            None if PREPARED.load(Ordering::Acquire) => Program::itself(),
            None => Err(Error::new(ErrorKind::Unsupported, "this program is not prepared to be started as a worker process")
                .with_hint("mark its main function with `#[superduper::main]`, or call `superduper::worker().await?` in its first line; tests set `.program(path)`")),
        }
    }

    /// Whether jobs can be given to worker processes at all.
    pub(crate) fn check(&self, db: &DbInner) -> Result<()> {
        locations(db)?;
        self.program().map(|_| ())
    }
}

/// What a worker has to open.
fn locations(db: &DbInner) -> Result<StoreLocations> {
    let refuse = |which: &str, location: String| {
        let text = format!(
            "the executor `process` needs stores that other processes can open; the {which} of `{location}` are in memory, or their \
            store does not say how it is opened"
        );
        Error::new(ErrorKind::Unsupported, text)
            .with_hint("open a folder with `Db::open(\"my.db\")`; blobs may be at another place by `artifacts_at`")
    };
    let metadata = db.metadata.capabilities().shared.ok_or_else(|| refuse("metadata", db.metadata.location()))?;
    let artifacts = db.artifacts.capabilities().shared.ok_or_else(|| refuse("artifacts", db.artifacts.location()))?;
    Ok(StoreLocations { metadata, artifacts })
}

impl Executor for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: true, needs_shared_stores: true }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, Ended> {
        let ready = locations(&attempt.db).and_then(|stores| Ok((self.program()?, stores)));
        Box::pin(async move {
            match ready {
                Ok((program, stores)) => run(program, stores, attempt).await.unwrap_or_else(|error| Ended::Lost(JobFailure::of(&error))),
                Err(error) => Ended::Lost(JobFailure::of(&error.fatal())),
            }
        })
    }
}

async fn run(program: Program, stores: StoreLocations, attempt: Attempt) -> Result<Ended> {
    let Attempt { db, spec, cancel, .. } = attempt;
    let mut command = program.command();
    command.args(&db.options.worker_args);
    command.env(WORKER, format!("{}:{}:{}:{}", spec.row.id, spec.attempt, spec.owner, std::process::id()));
    command.env(METADATA, &stores.metadata).env(ARTIFACTS, &stores.artifacts);
    let placement = Placement::of_text(spec.row.executor.as_deref());
    limits::pass(&mut command, &placement);
    for (name, value) in &db.options.worker_env {
        command.env(name, value);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::inherit()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = spawn(command).await.map_err(|error| error.context(format_args!("starting worker `{program}`")))?;
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    // It stays open until the worker is gone.
    let lifeline = child.stdin.take();
    let log = Log { notes: db.notes.clone(), job: spec.row.id, attempt: spec.attempt };
    let stderr = child.stderr.take().map(|pipe| Stderr::follow(pipe, log));
    db.start_note_writer();
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    let limit = spec.row.timeout_ms.map(Duration::from_millis);
    let grace = placement.grace().unwrap_or(db.options.cancel_grace);
    let kills_before = limits::memory_kills();
    let kill = move || {
        if let Some(group) = group {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ignored("the group may be gone already");
        }
    };
    let nudge = || {
        use std::io::Write;
        if let Some(mut lifeline) = lifeline.as_ref() {
            lifeline.write(&[0]).ignored("a worker that is gone, or that has not read so many of them, needs none");
        }
    };
    let late = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let stopped = async {
        cancel.cancelled().await;
        if cancel.is_abandoned() {
            // Another process has the job: a mark in the store would cancel it there.
            return;
        }
        // The worker sees the mark in the store and may end by itself.
        let ops = vec![Op::RequestCancel { jobs: vec![spec.row.id] }];
        let site = Site::WORKER.run(spec.row.run).job(spec.row.id).attempt(spec.attempt);
        db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Relaxed).await.or_warn(site, "telling a job process to cancel");
        nudge();
        tokio::time::sleep(grace).await;
    };
    let asked = async {
        loop {
            cancel.changed().await;
            nudge();
        }
    };
    let mut forced = None;
    let status = tokio::select! {
        status = &mut waiting => status,
        () = late => {
            forced = Some(JobFailure::new(FailureKind::Timeout, format!("the attempt ran longer than its time limit of {:?}", limit.unwrap_or_default())));
            kill();
            waiting.await
        }
        () = stopped => {
            let text = if cancel.is_abandoned() {
                "the job was taken over by another process; the worker was killed"
            } else {
                "cancelled; the worker was killed after the grace period"
            };
            forced = Some(JobFailure::new(FailureKind::Cancelled, text));
            kill();
            waiting.await
        }
        () = asked => unreachable!("asking has no end"),
        () = ended_on_record(&db, &spec) => {
            // The worker goes on with runs that its job started and did not wait for.
            tokio::spawn(async move {
                waiting.await.or_warn(Site::WORKER.job(spec.row.id), "waiting for the end of a job process");
                kill();
                drop(lifeline);
                if let Some(stderr) = stderr {
                    stderr.finish().await;
                }
            });
            return Ok(Ended::Recorded);
        }
    };
    let status = status.map_err(|error| Error::internal(error.to_string()))?.context_io("waiting for a worker")?;
    // What the worker started must not outlive it.
    kill();
    drop(lifeline);
    let last = match stderr {
        Some(stderr) => stderr.finish().await,
        None => String::new(),
    };
    let rows = db.metadata.jobs(JobFilter { ids: Some(vec![spec.row.id]), ..JobFilter::default() }).await?;
    let recorded = rows.first().is_none_or(|row| row.owner != Some(spec.owner) || row.attempt != spec.attempt);
    if recorded {
        return Ok(Ended::Recorded);
    }
    if status.code() == Some(CANNOT_OPEN) && forced.is_none() {
        let text = match last.as_str() {
            "" => "the worker could not open the stores of its parent".to_owned(),
            last => format!("the worker could not open the stores of its parent; its standard error ended with: {last}"),
        };
        return Err(Error::new(ErrorKind::Unsupported, text).fatal());
    }
    let failure = forced.unwrap_or_else(|| limits::describe(status, &placement, kills_before));
    Ok(Ended::Lost(explain(failure, &last)))
}

/// Ends when the worker has recorded the end of its attempt.
async fn ended_on_record(db: &Arc<DbInner>, spec: &JobSpec) {
    loop {
        tokio::time::sleep(ENDED).await;
        let rows = db.metadata.jobs(JobFilter { ids: Some(vec![spec.row.id]), ..JobFilter::default() }).await;
        let by_itself = |row: &JobRow| row.lost == spec.row.lost && (row.owner.is_none() || row.attempt != spec.attempt);
        let site = Site::WORKER.run(spec.row.run).job(spec.row.id).attempt(spec.attempt);
        let rows = rows.or_warn(site, "reading whether a job process has recorded its end");
        if rows.is_some_and(|rows| rows.first().is_some_and(by_itself)) {
            return;
        }
    }
}

trait ContextIo<T> {
    fn context_io(self, context: &str) -> Result<T>;
}
impl<T> ContextIo<T> for std::io::Result<T> {
    fn context_io(self, context: &str) -> Result<T> {
        self.map_err(|error| Error::from(error).context(context))
    }
}

type SpawnRequest = (Command, oneshot::Sender<std::io::Result<Child>>);

/// Start a worker from the one thread that lives as long as this process.
///
/// The death signal of a child is tied to the thread that started it, so short-lived threads must not.
async fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: std::sync::OnceLock<mpsc::Sender<SpawnRequest>> = std::sync::OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<SpawnRequest>();
        let started = std::thread::Builder::new().name("superduper-spawn".to_owned()).spawn(move || {
            for (mut command, reply) in requests {
                reply.send(command.spawn()).ignored("the attempt is gone, and the child ends with its closed pipe");
            }
        });
        // Without the thread every request is answered by a closed channel.
        started.or_warn(Site::WORKER, "starting the thread that starts job processes");
        sender
    });
    let (reply, answer) = oneshot::channel();
    let closed = || Error::internal("the thread that starts workers is gone");
    spawner.send((command, reply)).map_err(|_| closed())?;
    answer.await.map_err(|_| closed())?.map_err(Error::from)
}

/// The first line of a program that can be a worker: where this process was started as one, run the job and exit.
///
/// `open` opens the stores that the parent uses, given what they say of themselves. A worker whose database has other stores runs
/// nothing and exits. `#[superduper::main]` calls it for you.
///
/// # Errors
/// `Internal` for a malformed request, and those of reading the job; the parent reports them as a lost worker.
pub async fn worker<F>(open: impl FnOnce(StoreLocations) -> F) -> Result<()>
where
    F: Future<Output = Result<Db>>,
{
    PREPARED.store(true, Ordering::Release);
    super::program::remember();
    let Ok(request) = std::env::var(WORKER) else { return Ok(()) };
    let bad = || Error::internal(format!("`{request}` is not a worker's request"));
    let mut parts = request.splitn(4, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(bad);
    let (job, attempt, owner, parent) = (JobId(number()?), number()?, OwnerId(number()?), number()?);
    if !is_child_of(parent)? {
        return Ok(());
    }
    IS_WORKER.store(true, Ordering::Release);
    die_with_parent();
    super::program::show_name();
    limits::apply()?;
    // A worker is nothing but a job, so what it traces is the job's log. A subscriber that is there already stays.
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), super::job_layer());
    tracing::subscriber::set_global_default(subscriber).ignored("the program has a subscriber of its own");
    let place = |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or_else(bad);
    let stores = StoreLocations { metadata: place(METADATA)?, artifacts: place(ARTIFACTS)? };
    let db = match open_stores(open, stores).await {
        Ok(db) => db,
        Err(error) => {
            tell(job, &error);
            std::process::exit(CANNOT_OPEN);
        }
    };
    let code = match work(db.inner(), job, u32::try_from(attempt).map_err(|_| bad())?, owner).await {
        Ok(()) => 0,
        Err(error) => {
            tell(job, &error);
            70
        }
    };
    // Runs that the job started and did not wait for have nobody else. Where the job's end is not on record, its parent waits for
    // this process to tell of it.
    let mut waits = code == 0;
    while waits {
        let Some(mut run) = db.inner().engine.any() else { break };
        waits = run.done.wait_for(Option::is_some).await.is_ok();
        // It leaves the list a moment before or after it tells that it is done.
        tokio::task::yield_now().await;
    }
    db.inner().flush_notes().await;
    std::process::exit(code);
}

/// Only the parent's log can still tell.
fn tell(job: JobId, error: &Error) {
    use std::io::Write;
    writeln!(std::io::stderr(), "worker for job {job}: {error:?}").ignored("there is no other place to tell it");
}

/// Open the database of the parent, and make sure that it is the one.
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

/// Whether this process was started by the one that made the request, and not by a job of a worker, which has it from there.
fn is_child_of(parent: i64) -> Result<bool> {
    let process = |id: i64| i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    let asked = process(parent);
    if rustix::process::getppid() == asked {
        return Ok(true);
    }
    if asked.is_some_and(|asked| rustix::process::test_kill_process(asked).is_ok()) {
        return Ok(false);
    }
    Err(Error::internal("the process that started this worker is gone"))
}

fn die_with_parent() {
    // Linux ends this process when the thread that started it ends; the pipe covers the rest.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .or_warn(Site::WORKER, "asking to end with the parent");
    let lifeline = std::thread::Builder::new().name("superduper-lifeline".to_owned()).spawn(|| {
        let mut buffer = [0; 64];
        while !matches!(std::io::stdin().read(&mut buffer), Ok(0) | Err(_)) {
            NUDGED.notify_one();
        }
        if let Some(pid) = rustix::process::Pid::from_raw(0).or_else(|| Some(rustix::process::getpid())) {
            rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ignored("this process exits in any case");
        }
        std::process::exit(71);
    });
    lifeline.or_warn(Site::WORKER, "starting the thread that watches the parent");
}

async fn work(db: &Arc<DbInner>, job: JobId, attempt: u32, owner: OwnerId) -> Result<()> {
    let rows = db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await?;
    let row = rows.into_iter().next().ok_or_else(|| Error::not_found(format!("job {job} is not on record")))?;
    if row.owner != Some(owner) || row.attempt != attempt || row.state.is_terminal() {
        return Err(Error::conflict(format!("attempt {attempt} of job {job} is not the current one")));
    }
    let run = db.metadata.runs(RunFilter { id: Some(row.run), ..RunFilter::default() }).await?.pop();
    let edges = db.metadata.dependencies(row.run).await?;
    let needed: Vec<JobId> = edges.iter().filter(|edge| edge.job == job && edge.parameter.is_some()).map(|edge| edge.needs).collect();
    let results: HashMap<JobId, serde_json::Value> = if needed.is_empty() {
        HashMap::new()
    } else {
        let rows = db.metadata.jobs(JobFilter { ids: Some(needed), ..JobFilter::default() }).await?;
        rows.into_iter().filter_map(|row| Some((row.id, row.result?))).collect()
    };
    let dependencies = edges
        .iter()
        .filter(|edge| edge.job == job)
        .filter_map(|edge| Some((edge.parameter.clone()?, results.get(&edge.needs).cloned().unwrap_or_default())))
        .collect();
    let waiting = edges.iter().filter(|edge| edge.needs == job).map(|edge| edge.job).collect();
    let forced = run.as_ref().is_some_and(is_forced);
    let spec = JobSpec { row, attempt, owner, dependencies, waiting, forced };
    let cancel: Arc<CancelToken> = Arc::default();
    let watch = tokio::spawn(watch_cancellation(db.clone(), job, cancel.clone()));
    // The parent keeps the time limit: it can kill, this process cannot kill its own threads.
    let mut timeless = spec.clone();
    timeless.row.timeout_ms = None;
    let draft = run_job(db, &timeless, &Arc::new(Instances::default()), cancel.clone()).await;
    watch.abort();
    db.flush_notes().await;
    let (committed, _) = record(db, &timeless.row, draft, || cancel.is_cancelled()).await?;
    if !committed.fenced.is_empty() {
        db.note_fenced(job, attempt);
        db.flush_notes().await;
    }
    Ok(())
}

async fn watch_cancellation(db: Arc<DbInner>, job: JobId, cancel: Arc<CancelToken>) {
    loop {
        tokio::time::timeout(LOOK, NUDGED.notified()).await.ignored("whichever comes first");
        let rows = db.metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await;
        let rows = rows.or_warn(Site::WORKER.job(job), "reading what is asked of a job");
        if rows.is_some_and(|rows| rows.iter().any(|row| cancel.ask_for_row(row))) {
            cancel.cancel();
            return;
        }
    }
}
