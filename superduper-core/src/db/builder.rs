//! Opening a database with chosen stores and limits.

use super::{Db, DbInner, events::Handlers, inner::Options, note_writer::NoteWriter};
use crate::{
    component::{
        callable_runtime::{CallableRuntime, Runtimes},
        registry::Registry,
    },
    error::{Error, ErrorKind, Result},
    job::{Engine, Executor, NoteBuffer, Process, Program, Threads},
    store::{ArtifactStore, MetadataStore, OpenMode, ReadOnlyArtifacts, ReadOnlyMetadata},
};
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{OnceCell, broadcast, watch};

/// Opens a database with chosen stores and limits.
#[derive(Debug, Default)]
pub struct DbBuilder {
    metadata: Option<Source<dyn MetadataStore>>,
    artifacts: Option<Source<dyn ArtifactStore>>,
    mode: OpenMode,
    registry: Option<Registry>,
    parallelism: Option<usize>,
    executor: Option<String>,
    executors: Vec<Arc<dyn Executor>>,
    only: Option<String>,
    runtimes: Runtimes,
    program: Option<PathBuf>,
    worker_args: Vec<String>,
    worker_env: Vec<(String, String)>,
    cancel_grace: Option<Duration>,
    gc_grace: Option<Duration>,
    lease: Option<Duration>,
    observer: bool,
}

/// A store, or how it is opened once it is known what opening may do.
enum Source<S: ?Sized> {
    Store(Arc<S>),
    Open(Box<dyn FnOnce(OpenMode) -> Result<Arc<S>> + Send + Sync>),
}

impl<S: ?Sized> Source<S> {
    fn open(self, mode: OpenMode) -> Result<Arc<S>> {
        match self {
            Source::Store(store) => Ok(store),
            Source::Open(open) => open(mode),
        }
    }
}

impl<S: ?Sized + fmt::Debug> fmt::Debug for Source<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Store(store) => store.fmt(f),
            Source::Open(_) => f.write_str("to be opened"),
        }
    }
}

impl DbBuilder {
    /// Where documents, versions, runs and jobs live. Required.
    pub fn metadata(mut self, store: Arc<dyn MetadataStore>) -> Self {
        self.metadata = Some(Source::Store(store));
        self
    }

    /// Where blobs live. Required.
    pub fn artifacts(mut self, store: Arc<dyn ArtifactStore>) -> Self {
        self.artifacts = Some(Source::Store(store));
        self
    }

    /// Open only what is there: a place without a database is an error, and nothing is made. Stores
    /// that were made by hand and given to [`DbBuilder::metadata`] and [`DbBuilder::artifacts`] are
    /// used as they are.
    ///
    /// For programs that work on a database which another one made: a mistyped path is not a new,
    /// empty database.
    pub fn existing(mut self) -> Self {
        if self.mode == OpenMode::Create {
            self.mode = OpenMode::Existing;
        }
        self
    }

    /// Open only what is there, and only to read it.
    ///
    /// # Guarantees
    /// No row and no blob is written, deleted or repaired, an older format is not brought forward,
    /// and this process is not listed among those that run jobs. Each call that would write is an
    /// error of kind `Unsupported`; handlers of [`Db::on_message`] get nothing, since a message is
    /// marked when it is delivered.
    ///
    /// # Assumptions
    /// SQLite needs its files `-wal` and `-shm` beside the database to read while others write, and
    /// makes them where it may.
    pub fn read_only(mut self) -> Self {
        self.mode = OpenMode::ReadOnly;
        self
    }

    /// Open the database as an observer: this process records applies, retries, removals and
    /// imports, and runs no jobs. A process that calls [`Db::work`] runs them. An awaited apply
    /// waits until that process has run its jobs.
    ///
    /// For servers, dashboards and command-line tools beside workers. No job runs in an observer,
    /// and other processes do not count it as a worker.
    pub fn observer(mut self) -> Self {
        self.observer = true;
        self
    }

    /// How the metadata store is opened when the database is built.
    #[doc(hidden)]
    pub fn open_metadata(
        mut self,
        open: impl FnOnce(OpenMode) -> Result<Arc<dyn MetadataStore>> + Send + Sync + 'static,
    ) -> Self {
        self.metadata = Some(Source::Open(Box::new(open)));
        self
    }

    /// How the artifact store is opened when the database is built.
    #[doc(hidden)]
    pub fn open_artifacts(
        mut self,
        open: impl FnOnce(OpenMode) -> Result<Arc<dyn ArtifactStore>> + Send + Sync + 'static,
    ) -> Self {
        self.artifacts = Some(Source::Open(Box::new(open)));
        self
    }

    /// Whether a metadata store was chosen.
    #[doc(hidden)]
    pub fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// Whether an artifact store was chosen.
    #[doc(hidden)]
    pub fn has_artifacts(&self) -> bool {
        self.artifacts.is_some()
    }

    /// The component types; all that are linked into the program where this is not called.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// How many attempts may run at the same time; at least 1. By default the number of cores, at
    /// least 4.
    pub fn parallelism(mut self, attempts: usize) -> Self {
        self.parallelism = Some(attempts.max(1));
        self
    }

    /// What runs jobs that do not choose for themselves: `threads` (the default) or `process`.
    pub fn executor(mut self, name: impl Into<String>) -> Self {
        self.executor = Some(name.into());
        self
    }

    /// Register an executor under [`Executor::name`].
    pub fn with_executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executors.push(executor);
        self
    }

    /// Claim only jobs that name this executor, which has to be registered. Other jobs are left to
    /// other processes, those that name no executor among them.
    pub fn claims_only(mut self, executor: impl Into<String>) -> Self {
        self.only = Some(executor.into());
        self
    }

    /// Register what runs the code of artifacts under a name: see
    /// [`Callable::from_artifact`](crate::Callable::from_artifact).
    ///
    /// It holds for this database alone. Job processes open the database themselves: for jobs that
    /// run there use [`register_runtime!`](crate::register_runtime).
    pub fn with_runtime(
        mut self,
        name: impl Into<String>,
        runtime: Arc<dyn CallableRuntime>,
    ) -> Self {
        self.runtimes.add(name.into(), runtime);
        self
    }

    /// The program that is started as a job process; this one where it is not called.
    ///
    /// A wrapper around it, such as a shell script, has to end in `exec program "$@"`: a program
    /// whose parent is another process than the one that asked for the worker takes itself for one
    /// that a job started, and runs its own `main`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// An argument for job processes.
    pub fn worker_arg(mut self, argument: impl Into<String>) -> Self {
        self.worker_args.push(argument.into());
        self
    }

    /// An environment variable for job processes.
    pub fn worker_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.worker_env.push((name.into(), value.into()));
        self
    }

    /// How long a cancelled job may go on before it is stopped by force; 10 seconds by default.
    ///
    /// A sync trigger in `threads` cannot be stopped; it is waited for.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = Some(grace);
        self
    }

    /// How old a blob that nothing refers to must be for `gc` to delete it; one minute by default.
    ///
    /// It only spares applies that are under way from uploading again; `gc` beside them is safe at
    /// any value.
    pub fn gc_grace(mut self, grace: Duration) -> Self {
        self.gc_grace = Some(grace);
        self
    }

    /// How long this process may stand still before others take its jobs over; 30 seconds by
    /// default, at least 100 milliseconds.
    ///
    /// The jobs of a process that is gone are taken over at once. This is for one that is there and
    /// does not go on: stopped by a signal, frozen by a debugger. When it goes on, what it does
    /// with jobs that were taken over no longer counts, and its waiting applies give what the new
    /// owner recorded. Only monotonic clocks are looked at. Ignored where the metadata store cannot
    /// be shared.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Open the database. Jobs of processes that are gone are queued again; no user code runs.
    ///
    /// # Errors
    /// `InvalidInput` without stores, `UnknownKind` where two types claim one kind, `Unsupported`
    /// for an unknown executor and outside of a tokio runtime, `NotFound` where
    /// [`DbBuilder::existing`] finds nothing, `Format` for what is no database, `Store`.
    pub async fn build(self) -> Result<Db> {
        let runtime = crate::runtime_check::current()?;
        let missing = |what: &str| {
            Error::invalid(format!("the database has no {what} store"))
                .with_hint("use `Db::open(…)`, or name both stores")
        };
        let metadata = self.metadata.ok_or_else(|| missing("metadata"))?;
        let artifacts = self.artifacts.ok_or_else(|| missing("artifact"))?;
        let mut registry = self.registry.map_or_else(Registry::linked, Ok)?;
        registry.add_runtimes(self.runtimes);
        let cores = std::thread::available_parallelism().map_or(4, usize::from).max(4);
        let asked = self.executor.as_deref().unwrap_or("threads");
        let (executors, executor) = executors(self.program, self.executors, asked)?;
        // Last, so that nothing is made where anything else is wrong.
        let mode = self.mode;
        let (mut metadata, mut artifacts) = (metadata.open(mode)?, artifacts.open(mode)?);
        let read_only = mode == OpenMode::ReadOnly;
        if read_only {
            (metadata, artifacts) =
                (Arc::new(ReadOnlyMetadata(metadata)), Arc::new(ReadOnlyArtifacts(artifacts)));
        } else if let Some(lease) = self.lease {
            metadata.set_lease(lease);
        }
        let (registry, only) = (Arc::new(registry), self.only.as_deref());
        let notes = Arc::new(NoteBuffer::default());
        let inner = Arc::new(DbInner {
            note_writer: NoteWriter::new(&metadata, &notes),
            metadata,
            artifacts,
            program: Program::new(registry.clone(), executors.keys().copied(), only),
            closed: AtomicBool::new(false),
            registry,
            options: Options {
                executor,
                cancel_grace: self.cancel_grace.unwrap_or(Duration::from_secs(10)),
                gc_grace: self.gc_grace.unwrap_or(Duration::from_secs(60)),
                worker_args: self.worker_args,
                worker_env: self.worker_env,
                read_only,
                observer: self.observer,
            },
            runtime,
            notes,
            engine: Engine::new(self.parallelism.unwrap_or(cores)),
            executors,
            owner: OnceCell::new(),
            commits: watch::channel(0).0,
            progress: broadcast::channel(1024).0,
            hub: super::event_hub::EventHub::new(),
            handlers: Handlers::default(),
            start_gate: tokio::sync::RwLock::default(),
        });
        inner.check_executor(None)?;
        // A job process has a parent that looks after the rest.
        if !crate::job::is_job_process() && !read_only {
            inner.reclaim_dead().await?;
        }
        Ok(Db::from_inner(inner))
    }
}

type Executors = HashMap<&'static str, Arc<dyn Executor>>;

/// All executors, by name, and the name of the one that was asked for.
fn executors(
    program: Option<PathBuf>,
    added: Vec<Arc<dyn Executor>>,
    asked: &str,
) -> Result<(Executors, &'static str)> {
    let built_in: [Arc<dyn Executor>; 2] = [Arc::new(Threads), Arc::new(Process { program })];
    let executors: HashMap<_, _> =
        built_in.into_iter().chain(added).map(|executor| (executor.name(), executor)).collect();
    let found = executors.keys().copied().find(|name| *name == asked);
    let found = found.ok_or_else(|| {
        let mut known: Vec<&str> = executors.keys().copied().collect();
        known.sort_unstable();
        Error::new(
            ErrorKind::Unsupported,
            format!("unknown executor `{asked}`; known are: {}", known.join(", ")),
        )
    })?;
    Ok((executors, found))
}
