//! Stores of a database that was opened for reading only.
//!
//! Invariant: no call reaches a method of the stores that may write, whatever the database above
//! does.

use super::{
    After, ArtifactCapabilities, ArtifactStore, AttemptRow, AuditedRevision, Batch, BlobInfo,
    ChangeCursor, CheckpointRow, Chunks, Committed, ComponentFilter, ComponentHealth, ComponentId,
    ComponentLine, Cursor, Durability, EventRow, JobBrief, JobDependency, JobFilter, JobId,
    JobLine, JobRow, JobState, LabelRow, ListedComponent, LogEntry, LogFilter, LogHead, LogLine,
    MessageRow, MetadataCapabilities, MetadataStore, MetricFilter, MetricPoint, OutputWriter, Page,
    PoolPlace, Put, Reference, RunChanges, RunFilter, RunId, RunLine, RunRow, Snapshot,
    StoredVersion, SweepLock, Telemetry, WorkerId,
};
use crate::{
    address::Address,
    artifact::Bytes,
    digest::Digest,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};
use std::{collections::BTreeSet, ops::Range, path::PathBuf, sync::Arc, time::SystemTime};

/// The error of a call that would write.
pub(crate) fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what}: the database was opened for reading only"))
        .with_hint("open it without `read_only()` to change it")
        .fatal()
}

fn refuse<T>(what: &'static str) -> BoxFuture<'static, Result<T>> {
    Box::pin(async move { Err(refused(what)) })
}

/// A metadata store whose rows are only read.
#[derive(Debug)]
pub(crate) struct ReadOnlyMetadata(pub(crate) Arc<dyn MetadataStore>);

macro_rules! read {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> BoxFuture<'_, Result<$answer>> {
            self.0.$name($($argument),*)
        }
    )*};
}

impl MetadataStore for ReadOnlyMetadata {
    fn location(&self) -> String {
        self.0.location()
    }

    fn capabilities(&self) -> MetadataCapabilities {
        self.0.capabilities()
    }

    fn commit(&self, _batch: Batch, _durability: Durability) -> BoxFuture<'_, Result<Committed>> {
        refuse("write")
    }

    /// What hooks log that only look, as those of `refresh` do, is dropped.
    fn record_telemetry(&self, _notes: Telemetry) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    read! {
        snapshot(addresses: Vec<Address>) -> Snapshot;
        tree(root: Address) -> Vec<StoredVersion>;
        versions(address: Address) -> Vec<StoredVersion>;
        list(kind: Option<String>) -> Vec<ListedComponent>;
        referrers(children: Vec<Address>) -> Vec<Reference>;
        references() -> Vec<Reference>;
        labels(address: Option<Address>) -> Vec<LabelRow>;
        unhealthy() -> Vec<JobBrief>;
        health(address: Address) -> Option<ComponentHealth>;
        health_of(addresses: Vec<Address>) -> Vec<Option<ComponentHealth>>;
        component_lines(filter: ComponentFilter, after: Option<Address>, limit: usize) -> Vec<ComponentLine>;
        output_writers(addresses: Vec<Address>) -> Vec<OutputWriter>;
        jobs(filter: JobFilter) -> Vec<JobRow>;
        job_lines(filter: JobFilter, after: After<JobId>) -> Vec<JobLine>;
        pool_places(pool: String) -> Vec<PoolPlace>;
        dependencies(run: RunId) -> Vec<JobDependency>;
        edges(job: JobId) -> (Vec<JobDependency>, Vec<JobDependency>);
        changes(run: RunId, after: ChangeCursor) -> Option<RunChanges>;
        attempts(job: JobId) -> Vec<AttemptRow>;
        logs(filter: LogFilter) -> Vec<LogLine>;
        metrics(filter: MetricFilter) -> Vec<MetricPoint>;
        checkpoints(job: JobId) -> Vec<CheckpointRow>;
        runs(filter: RunFilter) -> Vec<RunRow>;
        run_lines(filter: RunFilter, after: After<RunId>) -> Vec<RunLine>;
        events(after: Cursor, run: Option<RunId>, limit: usize) -> Page<EventRow>;
        last_event() -> Cursor;
        log_entries(log: String, after: u64, limit: usize) -> Vec<LogEntry>;
        log_head(log: String) -> LogHead;
        messages(after: Cursor, limit: usize) -> Page<MessageRow>;
        referenced_blobs(first: Option<u8>) -> Vec<(Digest, u64)>;
        marked_blobs() -> Vec<Digest>;
        blobs_of(address: Address, versions: Vec<u32>) -> Vec<Digest>;
        audit(after: Option<(ComponentId, u32)>, versions: usize) -> Vec<AuditedRevision>;
        check() -> Vec<String>;
        live_workers() -> Vec<WorkerId>;
        workers() -> Vec<super::Worker>;
    }

    fn sweep_lock(&self) -> BoxFuture<'_, Result<Option<Box<dyn SweepLock>>>> {
        refuse("sweep")
    }

    fn register_worker(&self, _worker: super::NewWorker) -> BoxFuture<'_, Result<WorkerId>> {
        refuse("run jobs")
    }

    fn deregister_worker(&self, _owner: WorkerId) -> BoxFuture<'_, Result<()>> {
        refuse("write")
    }

    /// From the rows: a store may forget dead owners without jobs when it is asked.
    fn dead_workers(&self) -> BoxFuture<'_, Result<Vec<WorkerId>>> {
        Box::pin(async move {
            let states = Some(vec![JobState::Queued, JobState::Blocked, JobState::Running]);
            let open = self.0.jobs(JobFilter { states, ..JobFilter::default() }).await?;
            let live = self.0.live_workers().await?;
            let owners: BTreeSet<WorkerId> = open.iter().filter_map(|job| job.owner).collect();
            Ok(owners.into_iter().filter(|owner| !live.contains(owner)).collect())
        })
    }
}

/// An artifact store whose blobs are only read.
#[derive(Debug)]
pub(crate) struct ReadOnlyArtifacts(pub(crate) Arc<dyn ArtifactStore>);

impl ArtifactStore for ReadOnlyArtifacts {
    fn location(&self) -> String {
        self.0.location()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        self.0.capabilities()
    }

    fn put<'a>(
        &'a self,
        _digest: Digest,
        _size: u64,
        _chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        refuse("store a blob")
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.0.get_range(digest, range)
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.0.size(digest)
    }

    fn delete(&self, _digest: Digest) -> BoxFuture<'_, Result<()>> {
        refuse("delete a blob")
    }

    /// Leftovers of interrupted puts stay.
    fn list(
        &self,
        first: Option<u8>,
        _leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.0.list(first, None)
    }

    fn quarantine(&self, _digest: Digest) -> BoxFuture<'_, Result<()>> {
        refuse("move a blob aside")
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        self.0.local_path(digest)
    }
}
