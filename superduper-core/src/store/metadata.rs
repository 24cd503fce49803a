//! The contract of a metadata store.

use super::{
    batch::{Batch, Committed, Durability},
    component_lines::{ComponentFilter, ComponentLine},
    cursor::{Cursor, Page},
    health::ComponentHealth,
    journal::{LogEntry, LogHead},
    lines::{After, JobLine, PoolPlace, RunLine},
    rows::*,
    telemetry::{LogFilter, LogLine, MetricFilter, MetricPoint},
};
use crate::{address::Address, digest::Digest, error::Result, future::BoxFuture};
use std::{path::PathBuf, time::Duration};

/// What a store can do beyond the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataCapabilities {
    /// Rows outlive the process.
    pub durable: bool,
    /// Other processes can open the same store; with what they pass to `Db::open`.
    pub shared: Option<PathBuf>,
}

/// Which jobs to read; the fields that are set must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// These jobs.
    pub ids: Option<Vec<JobId>>,
    /// Jobs of this run.
    pub run: Option<RunId>,
    /// Spawned jobs with this key. A key is unique in its run; without `run`, jobs of several runs
    /// may match.
    pub key: Option<String>,
    /// Jobs of this component, of any version or, if the address has one, of that version; jobs of
    /// removed components of the same name included.
    pub target: Option<Address>,
    /// Jobs that do one of these things.
    pub roles: Option<Vec<JobRole>>,
    /// Jobs in one of these states.
    pub states: Option<Vec<JobState>>,
    /// Jobs of components of this kind.
    pub kind: Option<String>,
    /// Jobs of this trigger or hook.
    pub method: Option<String>,
    /// Jobs that count in this pool when they run.
    pub pool: Option<String>,
    /// Jobs that this worker holds.
    pub owner: Option<WorkerId>,
    /// At most so many, the newest; the answer is in ascending order all the same.
    pub limit: Option<usize>,
}

/// Which runs to read; the fields that are set must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// This run.
    pub id: Option<RunId>,
    /// Unfinished runs only.
    pub unfinished: bool,
    /// Runs with a job of this component or rooted at it. A store SHOULD answer without reading
    /// the other runs and their jobs.
    pub component: Option<Address>,
    /// Runs in one of these states.
    pub states: Option<Vec<RunState>>,
    /// Runs that an actor of this name recorded.
    pub actor: Option<String>,
    /// At most so many, the newest; the answer is in ascending order all the same.
    pub limit: Option<usize>,
}

/// A place in the changes of a run, made by a store and understood by that store alone. The default
/// is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCursor {
    /// The last event before it.
    pub event: i64,
    /// The last change without an event before it.
    pub silent: i64,
    /// The last job before it.
    pub job: i64,
}

/// A run, and what changed in it since a place, all at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct RunChanges {
    /// The run.
    pub run: RunRow,
    /// The jobs of the run that are new or changed, ascending.
    pub jobs: Vec<JobRow>,
    /// All that these jobs wait for, also jobs of other runs, ascending by job and by what it
    /// needs.
    pub dependencies: Vec<JobDependency>,
    /// The place behind all of this.
    pub cursor: ChangeCursor,
}

/// A held sweep lock. It is released when this value is dropped.
pub trait SweepLock: Send + Sync + std::fmt::Debug {
    /// The number of the lock: higher than that of every lock before it.
    fn token(&self) -> i64;
    /// Whether the lock is still held. A store with leases MUST return `false` as soon as another
    /// process can take the lock. Blobs that were marked under a lost lock belong to the next
    /// holder.
    fn holds(&self) -> BoxFuture<'_, Result<bool>>;
}

/// What running jobs say about themselves; losing the last of it in a crash is no harm.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// Log lines.
    pub logs: Vec<LogRow>,
    /// Jobs with steps done and steps in total.
    pub progress: Vec<(JobId, u64, u64)>,
    /// Numbers measured; a later one of the same job, name and step takes the place of an earlier
    /// one, and what is not finite is left out.
    pub metrics: Vec<MetricRow>,
}

/// Where documents, versions, runs, jobs and events live.
///
/// - A commit MUST be atomic and serializable: its conditions are checked and its operations
///   written as if no other commit ran at the same time, whichever process it comes from.
///   Contention MUST be waited out, not reported.
/// - With [`Durability::Full`] a durable store MUST survive a loss of power once the call returns.
/// - A row MUST NOT refer to a row that does not exist. Version numbers MUST NOT be reused while
///   their component exists.
/// - A job MUST only change its state as [`JobState::may_become`] allows; of all attempts of a job
///   at most one can finish it.
/// - Every change of a run's, job's or component's state MUST append an event in the same commit.
///   The jobs that one operation adds to a run make one event `job.added`, and the jobs of a run
///   that one [`Op::Signal`](super::Op::Signal) reaches, and that were not signalled so before,
///   make one event `job.signalled`; [`event_of_jobs`](super::event_of_jobs) makes both.
/// - A report of progress of a job that is not final MUST append an event `job.progressed` unless
///   the last one of that job is less than [`MIN_PROGRESS_MS`](super::MIN_PROGRESS_MS) old.
/// - A version is *being removed* while its component is ([`Op::Removing`](super::Op::Removing)),
///   and from the commit that records a run of [`RunPurpose::Remove`] rooted at that version until
///   the version is deleted, whatever became of the run. Nothing MUST get hold of it any more: see
///   [`Op::Put`](super::Op::Put), [`Op::Jobs`](super::Op::Jobs) and
///   [`Op::Label`](super::Op::Label), and [`being_removed`](super::being_removed) for the error.
/// - Owners hold leases. An owner whose process is gone MUST be told by `dead_workers` at the next
///   call. One that stood still for its lease, by the monotonic clocks of both sides alone, SHOULD
///   be told once that was observed; it may go on as an owner afterwards, with other attempts. A
///   store that is not shared has nobody to tell it to.
/// - Reads MUST see all commits that returned before the read began. No read fails because of the
///   content of one row: a document, output, result, message, checkpoint or run whose value cannot
///   be read is told with the mark of
///   [`unreadable`](super::unreadable) in its place, never with `null`. What a commit wrote MUST be
///   readable.
pub trait MetadataStore: Send + Sync + std::fmt::Debug {
    /// The store's file or URL, without secrets.
    fn location(&self) -> String;
    /// What the store can do.
    fn capabilities(&self) -> MetadataCapabilities;

    /// Write a batch.
    fn commit(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<Committed>>;
    /// Write logs, progress and metrics, with [`Durability::Relaxed`].
    fn record_telemetry(&self, notes: Telemetry) -> BoxFuture<'_, Result<()>>;

    /// What a plan needs: the newest versions of these components and their newest jobs. Of jobs
    /// that others spawned, which may be many, only those that did not succeed and were not tried
    /// again.
    fn snapshot(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Snapshot>>;
    /// A version with all versions below it, each once, the asked one first; empty if there is
    /// none. Without a version in the address the newest, without a revision the newest of that
    /// version.
    fn tree(&self, root: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>>;
    /// All versions of a component, ascending, each at its newest revision.
    fn versions(&self, address: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>>;
    /// All components, by kind and identifier; optionally of one kind.
    fn list(&self, kind: Option<String>) -> BoxFuture<'_, Result<Vec<ListedComponent>>>;
    /// References to versions of these components (or to these versions, where the address has
    /// one), from any revision of other versions.
    fn referrers(&self, children: Vec<Address>) -> BoxFuture<'_, Result<Vec<Reference>>>;
    /// References of the newest revisions of all newest versions, to whatever version.
    fn references(&self) -> BoxFuture<'_, Result<Vec<Reference>>>;
    /// Labels by kind, identifier and label; optionally of one component.
    fn labels(&self, address: Option<Address>) -> BoxFuture<'_, Result<Vec<LabelRow>>>;
    /// The newest job of each trigger or hook of all newest versions, if it did not succeed; of
    /// spawned jobs those that did not succeed and were not tried again.
    fn unhealthy(&self) -> BoxFuture<'_, Result<Vec<JobBrief>>>;
    /// The line of one component in [`list`](Self::list), and those jobs of
    /// [`unhealthy`](Self::unhealthy) that are its own or belong to what its newest version holds,
    /// directly or not; `None` if there is no such component.
    ///
    /// A store SHOULD answer without reading what does not belong to the component; this default
    /// reads everything.
    fn health(&self, address: Address) -> BoxFuture<'_, Result<Option<ComponentHealth>>> {
        Box::pin(async move {
            let listed = self.list(Some(address.kind.clone())).await?;
            let Some(listed) =
                listed.into_iter().find(|listed| listed.address.path() == address.path())
            else {
                return Ok(None);
            };
            let references = self.references().await?;
            let below = super::health::below(&address.path(), &references);
            let unhealthy = self
                .unhealthy()
                .await?
                .into_iter()
                .filter(|job| below.contains(&job.target.path()))
                .collect();
            Ok(Some(ComponentHealth { listed, unhealthy }))
        })
    }

    /// [`health`](Self::health) of many components, in the order of the addresses.
    ///
    /// A store SHOULD answer with as many queries as for one component; this default asks for each.
    fn health_of(
        &self,
        addresses: Vec<Address>,
    ) -> BoxFuture<'_, Result<Vec<Option<ComponentHealth>>>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(addresses.len());
            for address in addresses {
                found.push(self.health(address).await?);
            }
            Ok(found)
        })
    }
    /// At most `limit` components, by kind and identifier (byte by byte), after one of this name.
    /// [`ComponentFilter::health`] need not be looked at. A store SHOULD find the first line
    /// without reading those before it.
    fn component_lines(
        &self,
        filter: ComponentFilter,
        after: Option<Address>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ComponentLine>>>;

    /// The jobs that set outputs of these components, of any version, in the order in which they
    /// ended. A job that ended before stores kept this may be missing. The names are the detail of
    /// the job's event `job.succeeded`, separated by `, `.
    fn output_writers(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Vec<OutputWriter>>>;

    /// Jobs, ascending.
    fn jobs(&self, filter: JobFilter) -> BoxFuture<'_, Result<Vec<JobRow>>>;
    /// Jobs as lines, by id; the `limit` of the filter is not looked at. No input, result or long
    /// text SHOULD be read, and the first line SHOULD be found without reading those before it.
    fn job_lines(
        &self,
        filter: JobFilter,
        after: After<JobId>,
    ) -> BoxFuture<'_, Result<Vec<JobLine>>>;
    /// The places of a pool that are taken, by job and attempt.
    fn pool_places(&self, pool: String) -> BoxFuture<'_, Result<Vec<PoolPlace>>>;
    /// Which jobs of a run wait for which, also for jobs of other runs.
    fn dependencies(&self, run: RunId) -> BoxFuture<'_, Result<Vec<JobDependency>>>;
    /// The dependencies of a job: first those in which the job waits, then those in which other
    /// jobs wait for it. Both are empty for an unknown job. A store SHOULD NOT read the rest of the
    /// run.
    fn edges(&self, job: JobId) -> BoxFuture<'_, Result<(Vec<JobDependency>, Vec<JobDependency>)>>;
    /// What changed in a run since a place in its changes; from the beginning all of it. `None`:
    /// there is no such run.
    ///
    /// A job is changed when its row is, apart from its progress and the name of its component, or
    /// when it waits for one more job. All that is told MUST be of one moment. A store MAY tell
    /// jobs that did not change; it SHOULD read in proportion to what did.
    fn changes(&self, run: RunId, after: ChangeCursor)
    -> BoxFuture<'_, Result<Option<RunChanges>>>;
    /// Ended attempts of a job, ascending, the last one included.
    fn attempts(&self, job: JobId) -> BoxFuture<'_, Result<Vec<AttemptRow>>>;
    /// What a job logged, oldest first. The ids of a job's lines MUST ascend and MUST NOT change.
    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LogLine>>>;
    /// What jobs measured, by job, name and step. A series with more numbers than
    /// [`MetricFilter::points`] MUST be gathered in [`MetricFilter::buckets`] from its first step
    /// to its last one, of those that were asked for. A store SHOULD do so without taking the whole
    /// series into memory.
    fn metrics(&self, filter: MetricFilter) -> BoxFuture<'_, Result<Vec<MetricPoint>>>;
    /// The checkpoints of a job, ascending. They go with the version that the job belongs to.
    fn checkpoints(&self, job: JobId) -> BoxFuture<'_, Result<Vec<CheckpointRow>>>;
    /// Runs, ascending.
    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRow>>>;
    /// Runs as lines, by id; the `limit` of the filter is not looked at. The first line SHOULD be
    /// found without reading those before it, and the jobs of a run that has ended SHOULD NOT be
    /// counted again.
    fn run_lines(
        &self,
        filter: RunFilter,
        after: After<RunId>,
    ) -> BoxFuture<'_, Result<Vec<RunLine>>>;
    /// At most `limit` events after a cursor, of one run or of all. All readers MUST see the same
    /// order. An event that becomes visible late MUST come after the events that readers may have
    /// seen, whatever its number. A cursor of another store MUST be refused with `InvalidInput`.
    fn events(
        &self,
        after: Cursor,
        run: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Page<EventRow>>>;
    /// The place behind the newest event.
    fn last_event(&self) -> BoxFuture<'_, Result<Cursor>>;
    /// At most `limit` messages that are not delivered, after a cursor; the rules are those of
    /// [`events`](Self::events).
    fn messages(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page<MessageRow>>>;
    /// At most `limit` entries of an append-only log whose number is greater than `after`. Numbers
    /// begin at 1. An unknown log is empty.
    fn log_entries(
        &self,
        log: String,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>>>;
    /// The head of an append-only log: [`LogHead::EMPTY`] if the log has no entry.
    fn log_head(&self, log: String) -> BoxFuture<'_, Result<LogHead>>;

    /// The blobs that a stored version, output, live result or checkpoint refers to, each once,
    /// with its size; of a digest's first byte, where one is given, so that memory does not grow
    /// with their number.
    fn referenced_blobs(&self, first: Option<u8>) -> BoxFuture<'_, Result<Vec<(Digest, u64)>>>;
    /// Blobs that are marked for deletion and not yet deleted.
    fn marked_blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>>>;
    /// Take the sweep lock. `None` while another caller, in this or another process, holds it. The
    /// lock is released when the value is dropped and when its process ends. Marked blobs that the
    /// new holder did not mark belong to a sweep that crashed or lost its lock; the new holder
    /// completes that sweep.
    fn sweep_lock(&self) -> BoxFuture<'_, Result<Option<Box<dyn SweepLock>>>>;
    /// The blobs that these versions refer to, by documents, outputs and results.
    fn blobs_of(&self, address: Address, versions: Vec<u32>) -> BoxFuture<'_, Result<Vec<Digest>>>;

    /// Stored revisions with the rows that were derived from their documents, ascending by
    /// component, version and revision: those of at most so many versions, which come after a
    /// version. What cannot be read is told, not an error.
    fn audit(
        &self,
        after: Option<(ComponentId, u32)>,
        versions: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditedRevision>>>;
    /// What the store finds wrong with itself, below the level of rows; empty where nothing is.
    fn check(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// Register this process as a worker. It counts as alive until
    /// [`deregister_worker`](Self::deregister_worker), or until the process ends.
    fn register_worker(&self, worker: NewWorker) -> BoxFuture<'_, Result<WorkerId>>;
    /// How long owners that are enlisted from now on may stand still before others may take their
    /// jobs over; 30 seconds unless this is called, never below 100 milliseconds. Ignored by a
    /// store that is not shared.
    fn set_lease(&self, _ttl: Duration) {}
    /// How often the owners of this object stood still for their lease, so that their jobs may have
    /// been taken over. It MUST have risen before a process that was paused gets its first answer.
    /// It does no IO.
    fn lease_lapses(&self) -> u64 {
        0
    }
    /// The owner takes no more jobs.
    fn deregister_worker(&self, owner: WorkerId) -> BoxFuture<'_, Result<()>>;
    /// Owners of taken jobs that are no longer alive, or stood still for their lease.
    fn dead_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>>;
    /// Owners that are alive, with jobs or without, those of this object included, ascending. One
    /// that stood still for its lease is none as long as it does.
    fn live_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>>;
    /// The owners that [`live_workers`](Self::live_workers) returns, with what they say of
    /// themselves.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>>>;
}
