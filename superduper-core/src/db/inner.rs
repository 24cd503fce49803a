//! What the handles of a database share.

use super::{
    event_hub::EventHub,
    events::{Event, Handlers},
    note_writer::NoteWriter,
};
use crate::{
    component::{policy::Placement, registry::Registry},
    error::{Error, ErrorKind, Result},
    job::{
        Engine, Executor, Instances, NoteBuffer, Program, RunHandle, events, load, locations, watch,
    },
    store::{
        ArtifactStore, Batch, Durability, Finish, Finished, JobId, JobRow, LogLevel, LogRow,
        MetadataStore, Op, RunFilter, RunId, RunRow, Timestamp, WorkerId,
    },
    unreturned::{Site, Unreturned},
};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{OnceCell, broadcast, watch};

/// What the builder chose.
pub(crate) struct Options {
    pub(crate) executor: &'static str,
    pub(crate) cancel_grace: Duration,
    pub(crate) gc_grace: Duration,
    pub(crate) worker_args: Vec<String>,
    pub(crate) worker_env: Vec<(String, String)>,
    pub(crate) read_only: bool,
    /// This process records applies, cancels and retries, and runs no jobs.
    pub(crate) observer: bool,
}

pub(crate) struct DbInner {
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) options: Options,
    /// The runtime in which the database was opened.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) notes: Arc<NoteBuffer>,
    /// The runs that this process leads.
    pub(crate) engine: Engine,
    pub(crate) executors: HashMap<&'static str, Arc<dyn Executor>>,
    /// What jobs can be run here.
    pub(crate) program: Program,
    pub(crate) closed: AtomicBool,
    pub(crate) owner: OnceCell<WorkerId>,
    pub(crate) commits: watch::Sender<u64>,
    pub(crate) progress: broadcast::Sender<Event>,
    /// Reads events for all that follow them.
    pub(crate) hub: EventHub,
    pub(crate) handlers: Handlers,
    /// Writes what jobs note.
    pub(crate) note_writer: NoteWriter,
    /// Shared from the commit of a new run until the engine has it; exclusive while a run is handed
    /// over from the record. So what this process has claimed in a run that the engine does not
    /// have was left when that run was let go.
    pub(crate) start_gate: tokio::sync::RwLock<()>,
}

impl DbInner {
    /// This process as one that runs jobs; made known when it first takes one.
    pub(crate) async fn owner(&self) -> Result<WorkerId> {
        self.owner
            .get_or_try_init(|| self.metadata.register_worker(super::workers::this_process(self)))
            .await
            .copied()
    }

    pub(crate) fn executor(&self, name: &str) -> Result<Arc<dyn Executor>> {
        self.executors.get(name).cloned().ok_or_else(|| {
            let mut known: Vec<&str> = self.executors.keys().copied().collect();
            known.sort_unstable();
            let text =
                format!("unknown executor `{name}`; this database has: {}", known.join(", "));
            let hint = match crate::near::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it with `DbBuilder::with_executor`, or apply the component again: \
                         its jobs run where its triggers say today"
                    .to_owned(),
            };
            Error::new(ErrorKind::Unsupported, text).with_hint(hint)
        })
    }

    /// Refuse jobs that cannot run before anything is written. Executors of other processes are not
    /// checked: the process may come later.
    pub(crate) fn check_executor(self: &Arc<Self>, asked: Option<&str>) -> Result<()> {
        if asked.is_some_and(|name| name.contains(':') && !self.executors.contains_key(name)) {
            return Ok(());
        }
        let Some(executor) = self.knows_executor(asked)? else { return Ok(()) };
        if executor.capabilities().needs_shared_stores {
            locations(self)?;
        }
        executor.check(&super::Db::from_inner(self.clone()))
    }

    /// The executor of this name; `None` in an observer, since the process that runs the jobs has
    /// the executors.
    pub(crate) fn knows_executor(&self, asked: Option<&str>) -> Result<Option<Arc<dyn Executor>>> {
        match self.options.observer {
            true => Ok(None),
            false => self.executor(asked.unwrap_or(self.options.executor)).map(Some),
        }
    }

    /// Refuse a call that changes something, before it does any work.
    pub(crate) fn check_writable(&self, what: &str) -> Result<()> {
        crate::runtime_check::current()?;
        if self.options.read_only {
            return Err(crate::store::refused(what));
        }
        if self.is_closed() {
            let text = format!("cannot {what}: this database was closed");
            return Err(Error::new(ErrorKind::Unsupported, text).with_hint("open it again"));
        }
        Ok(())
    }

    /// Where a job that is tried again runs: as recorded, but where this database lacks that
    /// executor, as its trigger says today.
    pub(crate) fn placement_of(&self, job: &JobRow) -> Option<String> {
        let mut placement = Placement::of_text(job.executor.as_deref());
        let lacks = |name: &String| !self.executors.contains_key(name.as_str());
        if self.options.observer || !placement.executor.as_ref().is_some_and(lacks) {
            return job.executor.clone();
        }
        let spec = self
            .registry
            .entry(&job.target.kind)
            .ok()
            .and_then(|entry| (entry.trigger)(&job.method));
        placement.executor =
            spec.and_then(|spec| spec.executor).map(str::to_owned).filter(|name| !lacks(name));
        placement.to_text()
    }

    /// Whether other processes can use the same database.
    pub(crate) fn shared(&self) -> bool {
        self.metadata.capabilities().shared.is_some()
    }

    /// A commit returned: wake those who follow events, deliver messages.
    pub(crate) fn committed(self: &Arc<Self>) {
        self.commits.send_modify(|count| *count += 1);
        if self.handlers.any() {
            self.handlers.wake(self);
        }
    }

    pub(crate) fn announce_progress(
        self: &Arc<Self>,
        job: JobId,
        run: Option<RunId>,
        done: u64,
        total: u64,
    ) {
        self.progress.send(Event::Progress { job, run, done, total }).ignored("nobody listens");
        self.start_note_writer();
    }

    /// Logs, progress and metrics are written in groups, soon after they are made.
    pub(crate) fn start_note_writer(&self) {
        self.note_writer.start();
    }

    /// Tell in a job's log that an attempt of this process no longer counts.
    pub(crate) fn note_fenced(self: &Arc<Self>, job: JobId, attempt: u32) {
        events::fenced(job, attempt);
        let message = format!(
            "attempt {attempt} does not count: its process stood still for its lease, and the job was taken over"
        );
        self.notes.log(LogRow {
            job,
            attempt,
            at: Timestamp::now(),
            level: LogLevel::Warn,
            message,
        });
        self.start_note_writer();
    }

    /// Add a line to the log of a job that is over.
    pub(crate) fn log_of_job(self: &Arc<Self>, job: JobId, message: String) {
        self.notes.log(LogRow {
            job,
            attempt: 0,
            at: Timestamp::now(),
            level: LogLevel::Error,
            message,
        });
        self.start_note_writer();
    }

    /// Write what jobs noted so far; waits for a write that is under way.
    ///
    /// Telemetry that cannot be written waits for the next time. They must not fail a run whose
    /// results are safe. Returns whether all notes were written.
    pub(crate) async fn flush_notes(&self) -> bool {
        let waiting = self.notes.any_job();
        self.try_flush_notes()
            .await
            .or_warn(Site::RUN.job(waiting), "writing logs, progress and metrics")
            .is_some()
    }

    /// As [`DbInner::flush_notes`], where what is noted must be on record before something else is.
    pub(crate) async fn try_flush_notes(&self) -> Result<()> {
        self.note_writer.flush().await
    }

    /// Queue the jobs of processes that are gone. Returns whether there were such processes.
    pub(crate) async fn reclaim_dead(&self) -> Result<bool> {
        let owners = self.metadata.dead_workers().await?;
        if owners.is_empty() {
            return Ok(false);
        }
        let ops = vec![Op::Reclaim { owners: owners.clone(), at: Timestamp::now() }];
        let committed =
            self.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await?;
        events::took_over(&owners, committed.reclaimed.len());
        Ok(true)
    }

    /// Lead a run. If this process does not lead it yet, the run is read from the record. An
    /// observer only waits for the run.
    pub(crate) async fn attach(self: &Arc<Self>, run: RunId) -> Result<RunHandle> {
        if self.options.observer {
            return Ok(watch(self, run));
        }
        if let Some(handle) = self.engine.handle(run) {
            return Ok(handle);
        }
        let _alone = self.start_gate.write().await;
        if let Some(handle) = self.engine.handle(run) {
            return Ok(handle);
        }
        self.check_writable("lead a run")?;
        let owner = self.owner().await?;
        let mut loaded = load(self, run).await?;
        if self.give_back(owner, &loaded.changes.jobs).await? {
            loaded = load(self, run).await?;
        }
        events::led_on(run);
        Ok(self.engine.lead(self, owner, loaded, Arc::new(Instances::default()), None))
    }

    /// Give back what this process had claimed of a run that was let go: results are lost, and
    /// another attempt needs another number.
    async fn give_back(&self, owner: WorkerId, jobs: &[JobRow]) -> Result<bool> {
        let at = Timestamp::now();
        let release = |job: &JobRow| {
            let started_at = job.started_at.unwrap_or(at);
            Op::Finish(Box::new(Finish::plain(
                job.id,
                job.attempt,
                owner,
                started_at,
                at,
                Finished::Released,
            )))
        };
        let ops: Vec<Op> =
            jobs.iter().filter(|job| job.owner == Some(owner)).map(release).collect();
        if ops.is_empty() {
            return Ok(false);
        }
        self.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await?;
        Ok(true)
    }

    pub(crate) async fn run_row(&self, run: RunId) -> Result<RunRow> {
        let rows = self.metadata.runs(RunFilter { id: Some(run), ..RunFilter::default() }).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Error::not_found(format!("run {run} is not on record")))
    }
}

impl Drop for DbInner {
    fn drop(&mut self) {
        if let (Some(owner), Ok(runtime)) =
            (self.owner.get().copied(), tokio::runtime::Handle::try_current())
        {
            let metadata = self.metadata.clone();
            runtime.spawn(async move {
                // A process that ends without this is seen as gone all the same.
                metadata
                    .deregister_worker(owner)
                    .await
                    .or_warn(Site::LEASE, "saying that this process runs no more jobs");
            });
        }
    }
}
