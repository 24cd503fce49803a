//! The store: a writer, readers and owners of one folder.

use crate::{
    commit::{commit, once, telemetry},
    error::file_failed,
    open::{self, FILE},
    owners::Owners,
    place::{self, Door, Place},
    read::{self, Readers},
    sql::{Counters, Sql},
    sweep::FileLock,
    writer::Writer,
};
use rusqlite::OpenFlags;
use std::{
    fs::{OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use superduper_core::{
    Address, BoxFuture, Digest, Error, ErrorKind, Result,
    store::{
        After, AttemptRow, AuditedRevision, Batch, ChangeCursor, CheckpointRow, Committed,
        ComponentFilter, ComponentHealth, ComponentId, ComponentLine, Cursor, Durability, EventRow,
        JobBrief, JobDependency, JobFilter, JobId, JobLine, JobRow, LabelRow, ListedComponent,
        LogEntry, LogFilter, LogHead, LogLine, MessageRow, MetadataCapabilities, MetadataStore,
        MetricFilter, MetricPoint, NewWorker, OpenMode, OutputWriter, Page, PoolPlace, Reference,
        RunChanges, RunFilter, RunId, RunLine, RunRow, Snapshot, StoredVersion, SweepLock,
        Telemetry, Worker, WorkerId, check_runtime,
    },
};

/// A read of so many rows is short.
const FEW: usize = 64;

/// Metadata in `metadata.sqlite` of a folder.
///
/// # Guarantees
/// All that [`MetadataStore`] asks of a store that is durable and shared. Any number of stores, in
/// this process or in others of this machine, may be open on one folder.
///
/// # Assumptions
/// The folder is on a local file system: file locks and shared memory do not work on most network
/// file systems. Dropping the store waits for writes under way.
#[derive(Debug)]
pub struct SqliteStore {
    // The writer comes first: it is gone before the owners' locks are released. Absent where
    // nothing is to be written.
    writer: Option<Writer>,
    shared: Arc<Shared>,
    folder: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Shared {
    readers: Readers,
    owners: Owners,
    counters: Arc<Counters>,
}

impl Shared {
    /// A short read.
    pub(crate) fn read<T>(&self, read: impl FnOnce(Sql<'_>) -> Result<T>) -> Result<T> {
        self.readers.read(&self.counters, read)
    }
}

impl SqliteStore {
    /// Open the database of a folder; make it, and the folder, where there is none. Other files in
    /// the folder are left alone.
    ///
    /// # Errors
    /// `Format` if the folder is a file, if its `metadata.sqlite` is something else, or if a newer
    /// program wrote it; nothing is changed then. `InvalidInput` if its path is too long for
    /// SQLite. `Store` if files cannot be read or written.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        SqliteStore::open_for_writing(absolute(folder.as_ref())?, OpenMode::Create)
    }

    /// Open the database of a folder, as the mode allows. No database is made in a folder that
    /// holds something else.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`]; `Format` also if a folder without a database holds other
    /// things, and if a database of an older format is opened for reading only. `NotFound` if there
    /// is no database and none is to be made.
    pub fn open_with(folder: impl AsRef<Path>, mode: OpenMode) -> Result<Self> {
        let folder = absolute(folder.as_ref())?;
        place::check(&folder).and_then(|()| place::check_vacant(&folder))?;
        match mode {
            OpenMode::Create | OpenMode::Existing => SqliteStore::open_for_writing(folder, mode),
            OpenMode::ReadOnly => {
                let door = open::open_read_only(&folder)?;
                SqliteStore::with(folder, door, |_, _, _| Ok(None))
            }
        }
    }

    fn open_for_writing(folder: PathBuf, mode: OpenMode) -> Result<Self> {
        let connection = open::open(&folder, mode)?;
        let door = Door { path: folder.join(FILE), flags: OpenFlags::SQLITE_OPEN_READ_WRITE };
        SqliteStore::with(folder, door, |folder, place, counters| {
            Writer::start(
                connection,
                open::open_write_lock(folder)?,
                place.clone(),
                counters.clone(),
            )
            .map(Some)
        })
    }

    fn with(
        folder: PathBuf,
        door: Door,
        writer: impl FnOnce(&Path, &Place, &Arc<Counters>) -> Result<Option<Writer>>,
    ) -> Result<Self> {
        let place = Place::of(folder.join(FILE))?;
        let counters = Arc::new(Counters::default());
        let writer = writer(&folder, &place, &counters)?;
        let shared =
            Shared { readers: Readers::new(door, place), owners: Owners::new(&folder), counters };
        Ok(SqliteStore { writer, shared: Arc::new(shared), folder })
    }

    /// How many SQL statements this object executed; BEGIN, COMMIT and the like are not counted.
    pub fn statements(&self) -> u64 {
        self.shared.counters.statements.load(Ordering::Relaxed)
    }

    /// How many write transactions this object began.
    pub fn transactions(&self) -> u64 {
        self.shared.counters.transactions.load(Ordering::Relaxed)
    }

    /// Read; a short read runs where it is awaited, since a change of threads costs several times
    /// what it takes.
    fn read<'a, T, F>(&'a self, is_short: bool, read: F) -> BoxFuture<'a, Result<T>>
    where
        T: Send + 'static,
        F: FnOnce(Sql<'_>) -> Result<T> + Send + 'static,
    {
        Box::pin(async move {
            if is_short {
                return self.shared.readers.read(&self.shared.counters, read);
            }
            check_runtime()?;
            let shared = self.shared.clone();
            let task =
                tokio::task::spawn_blocking(move || shared.readers.read(&shared.counters, read));
            task.await.map_err(|error| {
                Error::internal("a read of the metadata store panicked").with_source(error)
            })?
        })
    }

    fn write<'a, T, F>(&'a self, durability: Durability, work: F) -> BoxFuture<'a, Result<T>>
    where
        T: Send + 'static,
        F: FnOnce(Sql<'_>) -> Result<T> + Send + 'static,
    {
        Box::pin(async move {
            match &self.writer {
                Some(writer) => writer.submit(durability, work).await,
                None => Err(read_only()),
            }
        })
    }
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder)
        .map_err(|error| file_failed(format!("resolve `{}`", folder.display()), error))
}

fn read_only() -> Error {
    Error::new(ErrorKind::Unsupported, "write: the database was opened for reading only").fatal()
}

impl MetadataStore for SqliteStore {
    fn location(&self) -> String {
        self.folder.join(FILE).display().to_string()
    }

    fn capabilities(&self) -> MetadataCapabilities {
        MetadataCapabilities { durable: true, shared: Some(self.folder.clone()) }
    }

    fn commit(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<Committed>> {
        self.write(durability, move |sql| commit(sql, &batch))
    }

    fn record_telemetry(&self, notes: Telemetry) -> BoxFuture<'_, Result<()>> {
        self.write(Durability::Relaxed, move |sql| telemetry::write(sql, &notes))
    }

    fn snapshot(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Snapshot>> {
        self.read(addresses.len() <= FEW, move |sql| read::snapshot(sql, &addresses))
    }

    fn tree(&self, root: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>> {
        self.read(true, move |sql| read::tree(sql, &root))
    }

    fn versions(&self, address: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>> {
        self.read(false, move |sql| read::versions(sql, &address))
    }

    fn list(&self, kind: Option<String>) -> BoxFuture<'_, Result<Vec<ListedComponent>>> {
        self.read(false, move |sql| read::list(sql, kind.as_deref()))
    }

    fn referrers(&self, children: Vec<Address>) -> BoxFuture<'_, Result<Vec<Reference>>> {
        self.read(children.len() <= FEW, move |sql| read::referrers(sql, &children))
    }

    fn references(&self) -> BoxFuture<'_, Result<Vec<Reference>>> {
        self.read(false, read::references)
    }

    fn labels(&self, address: Option<Address>) -> BoxFuture<'_, Result<Vec<LabelRow>>> {
        self.read(address.is_some(), move |sql| read::labels(sql, address.as_ref()))
    }

    fn unhealthy(&self) -> BoxFuture<'_, Result<Vec<JobBrief>>> {
        self.read(false, read::unhealthy)
    }

    fn health(&self, address: Address) -> BoxFuture<'_, Result<Option<ComponentHealth>>> {
        self.read(true, move |sql| {
            read::health_of(sql, &[address]).map(|mut found| found.pop().flatten())
        })
    }

    fn health_of(
        &self,
        addresses: Vec<Address>,
    ) -> BoxFuture<'_, Result<Vec<Option<ComponentHealth>>>> {
        self.read(addresses.len() <= FEW, move |sql| read::health_of(sql, &addresses))
    }

    fn component_lines(
        &self,
        filter: ComponentFilter,
        after: Option<Address>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ComponentLine>>> {
        self.read(false, move |sql| read::component_lines(sql, &filter, after.as_ref(), limit))
    }

    fn output_writers(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Vec<OutputWriter>>> {
        self.read(false, move |sql| read::output_writers(sql, &addresses))
    }

    fn jobs(&self, filter: JobFilter) -> BoxFuture<'_, Result<Vec<JobRow>>> {
        self.read(filter.ids.as_ref().is_some_and(|ids| ids.len() <= FEW), move |sql| {
            read::jobs(sql, &filter)
        })
    }

    fn job_lines(
        &self,
        filter: JobFilter,
        after: After<JobId>,
    ) -> BoxFuture<'_, Result<Vec<JobLine>>> {
        self.read(false, move |sql| read::job_lines(sql, &filter, &after))
    }

    fn pool_places(&self, pool: String) -> BoxFuture<'_, Result<Vec<PoolPlace>>> {
        self.read(true, move |sql| read::pool_places(sql, &pool))
    }

    fn dependencies(&self, run: RunId) -> BoxFuture<'_, Result<Vec<JobDependency>>> {
        self.read(false, move |sql| read::dependencies(sql, run))
    }

    fn edges(&self, job: JobId) -> BoxFuture<'_, Result<(Vec<JobDependency>, Vec<JobDependency>)>> {
        self.read(true, move |sql| read::edges(sql, job))
    }

    fn changes(
        &self,
        run: RunId,
        after: ChangeCursor,
    ) -> BoxFuture<'_, Result<Option<RunChanges>>> {
        self.read(false, move |sql| read::changes(sql, run, after))
    }

    fn attempts(&self, job: JobId) -> BoxFuture<'_, Result<Vec<AttemptRow>>> {
        self.read(true, move |sql| read::attempts(sql, job))
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LogLine>>> {
        self.read(false, move |sql| read::logs(sql, &filter))
    }

    fn metrics(&self, filter: MetricFilter) -> BoxFuture<'_, Result<Vec<MetricPoint>>> {
        self.read(false, move |sql| read::metrics(sql, &filter))
    }

    fn checkpoints(&self, job: JobId) -> BoxFuture<'_, Result<Vec<CheckpointRow>>> {
        self.read(true, move |sql| read::checkpoints(sql, job))
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRow>>> {
        self.read(filter.id.is_some(), move |sql| read::runs(sql, &filter))
    }

    fn run_lines(
        &self,
        filter: RunFilter,
        after: After<RunId>,
    ) -> BoxFuture<'_, Result<Vec<RunLine>>> {
        self.read(false, move |sql| read::run_lines(sql, &filter, &after))
    }

    fn events(
        &self,
        after: Cursor,
        run: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Page<EventRow>>> {
        self.read(limit <= FEW, move |sql| read::events(sql, &after, run, limit))
    }

    fn last_event(&self) -> BoxFuture<'_, Result<Cursor>> {
        self.read(true, read::last_event)
    }

    fn messages(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page<MessageRow>>> {
        self.read(limit <= FEW, move |sql| read::messages(sql, &after, limit))
    }

    fn log_entries(
        &self,
        log: String,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>>> {
        self.read(limit <= FEW, move |sql| read::log_entries(sql, &log, after, limit))
    }

    fn log_head(&self, log: String) -> BoxFuture<'_, Result<LogHead>> {
        self.read(true, move |sql| once::head(sql, &log))
    }

    fn referenced_blobs(&self, first: Option<u8>) -> BoxFuture<'_, Result<Vec<(Digest, u64)>>> {
        self.read(false, move |sql| read::referenced_blobs(sql, first))
    }

    fn marked_blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>>> {
        self.read(true, read::marked_blobs)
    }

    fn blobs_of(&self, address: Address, versions: Vec<u32>) -> BoxFuture<'_, Result<Vec<Digest>>> {
        self.read(false, move |sql| read::blobs_of(sql, &address, &versions))
    }

    fn audit(
        &self,
        after: Option<(ComponentId, u32)>,
        versions: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditedRevision>>> {
        self.read(false, move |sql| read::audit(sql, after, versions))
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.read(false, read::check)
    }

    fn register_worker(&self, worker: NewWorker) -> BoxFuture<'_, Result<WorkerId>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            // Where the commit fails, the lock goes with the answer.
            let made = self
                .write(Durability::Relaxed, move |sql| shared.owners.register_worker(sql, &worker))
                .await?;
            self.shared.owners.hold(made)
        })
    }

    fn sweep_lock(&self) -> BoxFuture<'_, Result<Option<Box<dyn SweepLock>>>> {
        let path = self.folder.join("sweep.lock");
        Box::pin(async move {
            if self.writer.is_none() {
                return Err(read_only());
            }
            // Open the file each time. A lock belongs to one open file, so it also keeps out other
            // calls of this process.
            let failed = |error| file_failed(format!("lock `{}`", path.display()), error);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let count =
                "UPDATE meta SET value = value + 1 WHERE name = 'sweep_lock' RETURNING value";
            let token = self
                .write(Durability::Relaxed, |sql| {
                    sql.query_first("take the sweep lock", count, [], |row| row.get(0))
                })
                .await?;
            let token =
                token.ok_or_else(|| Error::store("the database has no number of sweep locks"))?;
            Ok(Some(Box::new(FileLock { file, path, token, shared: self.shared.clone() })
                as Box<dyn SweepLock>))
        })
    }

    fn deregister_worker(&self, owner: WorkerId) -> BoxFuture<'_, Result<()>> {
        let shared = self.shared.clone();
        self.write(Durability::Relaxed, move |sql| shared.owners.deregister_worker(sql, owner))
    }

    fn set_lease(&self, ttl: Duration) {
        self.shared.owners.set_lease(ttl);
    }

    fn lease_lapses(&self) -> u64 {
        self.shared.owners.lease_lapses()
    }

    fn live_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>> {
        let shared = self.shared.clone();
        self.read(false, move |sql| shared.owners.live(sql))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>>> {
        let shared = self.shared.clone();
        self.read(false, move |sql| shared.owners.workers(sql))
    }

    fn dead_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            let (dead, taken) = self
                .read(false, move |sql| {
                    let dead = shared.owners.dead(sql)?;
                    let any = !dead.gone.is_empty() || !dead.paused.is_empty();
                    let taken = if any { read::owners_of_taken_jobs(sql)? } else { Vec::new() };
                    Ok((dead, taken))
                })
                .await?;
            let (with_jobs, without) = dead.split(&taken.into_iter().collect());
            if !without.is_empty() && self.writer.is_some() {
                let shared = self.shared.clone();
                self.write(Durability::Relaxed, move |sql| shared.owners.reap(sql, &without))
                    .await?;
            }
            Ok(with_jobs)
        })
    }
}
