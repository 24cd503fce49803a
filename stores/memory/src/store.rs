//! The store: one mutex around the state, each call under one lock.

use crate::{
    commit::commit,
    state::{Counter, State},
};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use superduper_core::{
    Address, BoxFuture, Digest, Result,
    store::{
        After, AttemptRow, AuditedRevision, Batch, ChangeCursor, CheckpointRow, Committed,
        ComponentFilter, ComponentHealth, ComponentId, ComponentLine, Cursor, Durability, EventRow,
        JobBrief, JobDependency, JobFilter, JobId, JobLine, JobRow, LabelRow, ListedComponent,
        LogEntry, LogFilter, LogHead, LogLine, MessageRow, MetadataCapabilities, MetadataStore,
        MetricFilter, MetricPoint, NewWorker, OutputWriter, Page, PoolPlace, Reference, RunChanges,
        RunFilter, RunId, RunLine, RunRow, Snapshot, StoredVersion, SweepLock, Telemetry, Worker,
        WorkerId,
    },
};

/// Metadata in memory; it is gone with the value.
///
/// # Guarantees
/// All that [`MetadataStore`] asks of a store that is neither durable nor shared.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    /// Held by the sweep lock that is out, and by nothing else but this.
    sweeping: Arc<()>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        read: impl FnOnce(&State) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        self.with(move |state| Ok(read(state)))
    }

    /// Write; an error takes back all that was written.
    fn with<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // What a panic left behind in an earlier call is taken back first.
            state.undo();
            let outcome = work(&mut state);
            match outcome {
                Ok(_) => state.keep(),
                Err(_) => state.undo(),
            }
            outcome
        })
    }
}

/// The sweep lock of a store that no other process has: it is held as long as it lives.
#[derive(Debug)]
struct Held {
    token: i64,
    _out: Arc<()>,
}

impl SweepLock for Held {
    fn token(&self) -> i64 {
        self.token
    }

    fn holds(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(true) })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MetadataStore for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn capabilities(&self) -> MetadataCapabilities {
        MetadataCapabilities::default()
    }

    fn commit(&self, batch: Batch, _durability: Durability) -> BoxFuture<'_, Result<Committed>> {
        self.with(move |state| commit(state, batch))
    }

    fn record_telemetry(&self, notes: Telemetry) -> BoxFuture<'_, Result<()>> {
        self.with(move |state| state.record_telemetry(notes))
    }

    fn snapshot(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Snapshot>> {
        self.read(move |state| state.snapshot(&addresses))
    }

    fn tree(&self, root: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>> {
        self.read(move |state| state.tree(&root))
    }

    fn versions(&self, address: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>> {
        self.read(move |state| state.versions(&address))
    }

    fn list(&self, kind: Option<String>) -> BoxFuture<'_, Result<Vec<ListedComponent>>> {
        self.read(move |state| state.list(kind.as_deref()))
    }

    fn referrers(&self, children: Vec<Address>) -> BoxFuture<'_, Result<Vec<Reference>>> {
        self.read(move |state| state.referrers(&children))
    }

    fn references(&self) -> BoxFuture<'_, Result<Vec<Reference>>> {
        self.read(State::references)
    }

    fn labels(&self, address: Option<Address>) -> BoxFuture<'_, Result<Vec<LabelRow>>> {
        self.read(move |state| state.labels(address.as_ref()))
    }

    fn unhealthy(&self) -> BoxFuture<'_, Result<Vec<JobBrief>>> {
        self.read(State::unhealthy)
    }

    fn health(&self, address: Address) -> BoxFuture<'_, Result<Option<ComponentHealth>>> {
        self.read(move |state| state.health(&address))
    }

    fn health_of(
        &self,
        addresses: Vec<Address>,
    ) -> BoxFuture<'_, Result<Vec<Option<ComponentHealth>>>> {
        self.read(move |state| addresses.iter().map(|address| state.health(address)).collect())
    }

    fn component_lines(
        &self,
        filter: ComponentFilter,
        after: Option<Address>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ComponentLine>>> {
        self.read(move |state| state.component_lines(&filter, after, limit))
    }

    fn output_writers(&self, addresses: Vec<Address>) -> BoxFuture<'_, Result<Vec<OutputWriter>>> {
        self.read(move |state| state.output_writers(&addresses))
    }

    fn jobs(&self, filter: JobFilter) -> BoxFuture<'_, Result<Vec<JobRow>>> {
        self.read(move |state| state.filter_jobs(&filter))
    }

    fn job_lines(
        &self,
        filter: JobFilter,
        after: After<JobId>,
    ) -> BoxFuture<'_, Result<Vec<JobLine>>> {
        self.read(move |state| state.job_lines(&filter, &after))
    }

    fn pool_places(&self, pool: String) -> BoxFuture<'_, Result<Vec<PoolPlace>>> {
        self.read(move |state| state.pool_places(&pool))
    }

    fn dependencies(&self, run: RunId) -> BoxFuture<'_, Result<Vec<JobDependency>>> {
        self.read(move |state| state.dependencies_of(run))
    }

    fn edges(&self, job: JobId) -> BoxFuture<'_, Result<(Vec<JobDependency>, Vec<JobDependency>)>> {
        self.read(move |state| state.edges_of(job))
    }

    fn changes(
        &self,
        run: RunId,
        after: ChangeCursor,
    ) -> BoxFuture<'_, Result<Option<RunChanges>>> {
        self.read(move |state| state.changes(run, after))
    }

    fn attempts(&self, job: JobId) -> BoxFuture<'_, Result<Vec<AttemptRow>>> {
        self.read(move |state| {
            state.attempts.range((job, 0)..=(job, u32::MAX)).map(|(_, row)| row.clone()).collect()
        })
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<LogLine>>> {
        self.read(move |state| state.filter_logs(&filter))
    }

    fn metrics(&self, filter: MetricFilter) -> BoxFuture<'_, Result<Vec<MetricPoint>>> {
        self.read(move |state| state.filter_metrics(&filter))
    }

    fn checkpoints(&self, job: JobId) -> BoxFuture<'_, Result<Vec<CheckpointRow>>> {
        self.read(move |state| {
            state
                .checkpoints
                .range((job, 0)..=(job, u32::MAX))
                .map(|(_, kept)| kept.row.clone())
                .collect()
        })
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunRow>>> {
        self.read(move |state| state.filter_runs(&filter))
    }

    fn run_lines(
        &self,
        filter: RunFilter,
        after: After<RunId>,
    ) -> BoxFuture<'_, Result<Vec<RunLine>>> {
        self.read(move |state| state.run_lines(&filter, &after))
    }

    fn events(
        &self,
        after: Cursor,
        run: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Page<EventRow>>> {
        self.with(move |state| {
            let later = state.events.range(after.number()?.saturating_add(1)..).map(|(_, row)| row);
            let rows: Vec<EventRow> = later
                .filter(|row| run.is_none_or(|run| row.run == Some(run)))
                .take(limit)
                .cloned()
                .collect();
            let next = rows.last().map_or(after, |last| Cursor::of_number(last.seq));
            Ok(Page { rows, next })
        })
    }

    fn last_event(&self) -> BoxFuture<'_, Result<Cursor>> {
        self.read(move |state| Cursor::of_number(state.events.last_key().copied().unwrap_or(0)))
    }

    fn messages(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page<MessageRow>>> {
        self.with(move |state| {
            let first = after.number()?.saturating_add(1);
            let rows: Vec<MessageRow> =
                state.messages.range(first..).take(limit).map(|(_, row)| row.clone()).collect();
            let next = rows.last().map_or(after, |last| Cursor::of_number(last.id));
            Ok(Page { rows, next })
        })
    }

    fn log_entries(
        &self,
        log: String,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>>> {
        self.read(move |state| {
            let later =
                state.log_entries.range((log.clone(), after.saturating_add(1))..=(log, u64::MAX));
            later.take(limit).map(|(_, entry)| entry.clone()).collect()
        })
    }

    fn log_head(&self, log: String) -> BoxFuture<'_, Result<LogHead>> {
        self.read(move |state| state.log_head(&log))
    }

    fn referenced_blobs(&self, first: Option<u8>) -> BoxFuture<'_, Result<Vec<(Digest, u64)>>> {
        self.read(move |state| state.referenced_blobs(first))
    }

    fn marked_blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>>> {
        self.read(move |state| state.marked.iter().map(|(digest, ())| *digest).collect())
    }

    fn blobs_of(&self, address: Address, versions: Vec<u32>) -> BoxFuture<'_, Result<Vec<Digest>>> {
        self.read(move |state| state.blobs_of(&address, &versions))
    }

    fn audit(
        &self,
        after: Option<(ComponentId, u32)>,
        versions: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditedRevision>>> {
        self.read(move |state| state.audit(after, versions))
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn register_worker(&self, worker: NewWorker) -> BoxFuture<'_, Result<WorkerId>> {
        self.with(move |state| {
            let id = WorkerId(state.owners.last_key().map_or(1, |last| last.0 + 1));
            state.owners.set(id, Some(worker));
            Ok(id)
        })
    }

    fn sweep_lock(&self) -> BoxFuture<'_, Result<Option<Box<dyn SweepLock>>>> {
        // Under the lock of the state, so that of two calls one gets it.
        self.with(|state| {
            if Arc::strong_count(&self.sweeping) > 1 {
                return Ok(None);
            }
            let token = state.count(Counter::SweepLock);
            Ok(Some(Box::new(Held { token, _out: self.sweeping.clone() }) as Box<dyn SweepLock>))
        })
    }

    fn deregister_worker(&self, owner: WorkerId) -> BoxFuture<'_, Result<()>> {
        self.with(move |state| {
            state.owners.change(&owner, |worker| *worker = None);
            Ok(())
        })
    }

    fn live_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>> {
        self.read(|state| {
            state
                .owners
                .iter()
                .filter(|(_, worker)| worker.is_some())
                .map(|(owner, _)| *owner)
                .collect()
        })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>>> {
        let worker =
            |(id, worker): (&WorkerId, &Option<NewWorker>)| Some(Worker::of(*id, worker.clone()?));
        self.read(move |state| state.owners.iter().filter_map(worker).collect())
    }

    fn dead_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>> {
        self.read(move |state| {
            let of_places = state.places.iter().map(|((_, _, _, owner), ())| *owner);
            let taken: BTreeSet<WorkerId> =
                state.jobs.iter().filter_map(|(_, job)| job.row.owner).chain(of_places).collect();
            taken
                .into_iter()
                .filter(|owner| !state.owners.get(owner).is_some_and(Option::is_some))
                .collect()
        })
    }
}
