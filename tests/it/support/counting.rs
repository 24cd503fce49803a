//! Stores that count what is asked of them.

use super::gate::Gate;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::SystemTime,
};
use superduper::{
    Address, BoxFuture, Bytes, Digest, Error, Result,
    store::{
        ArtifactCapabilities, ArtifactStore, AttemptRow, AuditedRevision, Batch, BlobInfo,
        ChangeCursor, Chunks, Committed, ComponentId, Cursor, Durability, EventRow, JobDependency,
        JobFilter, JobId, JobRow, ListedComponent, LogEntry, LogFilter, LogHead, LogLine,
        MessageRow, MetadataCapabilities, MetadataStore, MetricFilter, MetricPoint, Op, Page, Put,
        Reference, RunChanges, RunFilter, RunRow, Snapshot, StoredVersion, Telemetry, WorkerId,
    },
};

/// The orders in which events and messages became visible.
#[derive(Debug, Default)]
struct Late {
    events: Order,
    messages: Order,
}

/// The numbers of rows in the order in which they became visible; a cursor is a place in it.
#[derive(Debug, Default)]
struct Order {
    visible: Vec<i64>,
    held: BTreeSet<i64>,
}

impl Order {
    fn page<T>(
        &mut self,
        all: Vec<T>,
        number: impl Fn(&T) -> i64,
        is_wanted: impl Fn(&T) -> bool,
        (after, limit): (Cursor, usize),
    ) -> Result<Page<T>> {
        for seq in
            all.iter().map(&number).filter(|seq| !self.visible.contains(seq)).collect::<Vec<_>>()
        {
            // Every third one is seen by the second look only, after those behind it.
            if seq % 3 != 0 || !self.held.insert(seq) {
                self.visible.push(seq);
            }
        }
        let begin = usize::try_from(after.number()?).unwrap_or(0);
        let mut by_number: BTreeMap<i64, T> =
            all.into_iter().map(|row| (number(&row), row)).collect();
        let (mut rows, mut next) = (Vec::new(), after);
        for (place, seq) in self.visible.iter().enumerate().skip(begin) {
            if rows.len() == limit {
                break;
            }
            if let Some(row) = by_number.remove(seq).filter(|row| is_wanted(row)) {
                rows.push(row);
                next = Cursor::of_number(place as i64 + 1);
            }
        }
        Ok(Page { rows, next })
    }
}

type Hook = Arc<dyn Fn(&Batch) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

/// What happens before a commit.
struct BeforeCommit(Hook);

impl std::fmt::Debug for BeforeCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforeCommit")
    }
}

/// Whether an operation is one that is to fail.
type IsOne = fn(&Op) -> bool;

/// Metadata of another store, with its commits counted.
#[derive(Debug)]
pub(crate) struct CountingMetadata {
    inner: Arc<dyn MetadataStore>,
    commits: AtomicUsize,
    listings: AtomicUsize,
    /// Reads of events, and of the newest one.
    event_reads: AtomicUsize,
    /// Rows of jobs that were read as changes of a run.
    changed_rows: AtomicUsize,
    broken: AtomicBool,
    unreadable: AtomicBool,
    /// So many reads of jobs, and of trees, fail from now on.
    failing_jobs: AtomicUsize,
    failing_trees: AtomicUsize,
    /// So many commits of ends fail from now on, and whether they are written all the same.
    failing_ends: AtomicUsize,
    ends_are_written: AtomicBool,
    /// How many claims find that another process was quicker; it is gone again before anybody
    /// looks.
    lost_claims: AtomicUsize,
    /// Whether what jobs note can be written.
    noteless: AtomicBool,
    /// Which operations make their commit fail.
    failing: Mutex<Option<IsOne>>,
    /// What happens before a commit that it picks.
    before: Mutex<Option<BeforeCommit>>,
    /// Operations whose commits lose their answers, and how many still do.
    losing: Mutex<Option<(IsOne, usize)>>,
    /// The order in which events and messages became visible, where that is another one than that
    /// of their numbers.
    late: Mutex<Option<Late>>,
    /// Where commits that marked blobs wait before they answer.
    pub(crate) marks: Gate,
    /// Where commits wait that hold ends of attempts.
    pub(crate) ends: Gate,
    /// Where commits wait that hold new versions.
    pub(crate) puts: Gate,
}

impl CountingMetadata {
    pub(crate) fn new(inner: Arc<dyn MetadataStore>) -> Arc<Self> {
        let (commits, lost_claims) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(CountingMetadata {
            inner,
            commits,
            listings: AtomicUsize::new(0),
            event_reads: AtomicUsize::new(0),
            changed_rows: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            failing_jobs: AtomicUsize::new(0),
            failing_trees: AtomicUsize::new(0),
            failing_ends: AtomicUsize::new(0),
            ends_are_written: AtomicBool::new(false),
            lost_claims,
            noteless: AtomicBool::new(false),
            failing: Mutex::new(None),
            before: Mutex::new(None),
            losing: Mutex::new(None),
            late: Mutex::new(None),
            marks: Gate::new(),
            ends: Gate::new(),
            puts: Gate::new(),
        })
    }

    /// The store itself, for another program that is neither counted nor held up.
    pub(crate) fn inner(&self) -> Arc<dyn MetadataStore> {
        self.inner.clone()
    }

    /// Let commits with such operations fail from now on.
    pub(crate) fn fail_commits(&self, failing: fn(&Op) -> bool) {
        *self.failing.lock().expect("no panic") = Some(failing);
    }

    /// Let the answers to the next commits with such operations be lost: the commits are written.
    pub(crate) fn lose_answers(&self, losing: fn(&Op) -> bool, times: usize) {
        *self.losing.lock().expect("no panic") = Some((losing, times));
    }

    /// Whether the answer to this batch is to be lost.
    fn loses(&self, batch: &Batch) -> bool {
        match &mut *self.losing.lock().expect("no panic") {
            Some((losing, left)) if *left > 0 && batch.ops.iter().any(*losing) => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Let every third event and message become visible later than those behind it.
    pub(crate) fn reorder(&self) {
        *self.late.lock().expect("no panic") = Some(Late::default());
    }

    /// Let something happen before each commit for which there is something.
    pub(crate) fn before_commits(
        &self,
        hook: impl Fn(&Batch) -> Option<BoxFuture<'static, ()>> + Send + Sync + 'static,
    ) {
        *self.before.lock().expect("no panic") = Some(BeforeCommit(Arc::new(hook)));
    }

    /// How many batches and notes were written.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// How often events, or the place behind the newest one, were read so far.
    pub(crate) fn event_reads(&self) -> usize {
        self.event_reads.load(Ordering::SeqCst)
    }

    /// How many rows of jobs were read as changes of a run.
    pub(crate) fn changed_rows(&self) -> usize {
        self.changed_rows.load(Ordering::SeqCst)
    }

    /// How often all components were listed.
    pub(crate) fn listings(&self) -> usize {
        self.listings.load(Ordering::SeqCst)
    }

    /// Let the next claims find that another process was quicker, which is gone again before
    /// anybody looks.
    pub(crate) fn lose_claims(&self, claims: usize) {
        self.lost_claims.store(claims, Ordering::SeqCst);
    }

    /// How many of these claims are still to come.
    pub(crate) fn claims_to_lose(&self) -> usize {
        self.lost_claims.load(Ordering::SeqCst)
    }

    /// Let jobs be read no more, or again.
    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.unreadable.store(unreadable, Ordering::SeqCst);
    }

    /// Let the next reads of jobs, and of trees, fail.
    pub(crate) fn fail_reads(&self, jobs: usize, trees: usize) {
        self.failing_jobs.store(jobs, Ordering::SeqCst);
        self.failing_trees.store(trees, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub(crate) fn reads_to_fail(&self) -> usize {
        self.failing_jobs.load(Ordering::SeqCst) + self.failing_trees.load(Ordering::SeqCst)
    }

    /// Let the next commits of ends fail: before they are written, or after, so that only the
    /// answer is lost.
    pub(crate) fn fail_ends(&self, ends: usize, written: bool) {
        self.ends_are_written.store(written, Ordering::SeqCst);
        self.failing_ends.store(ends, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub(crate) fn ends_to_fail(&self) -> usize {
        self.failing_ends.load(Ordering::SeqCst)
    }

    fn fails(left: &AtomicUsize) -> bool {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Let what jobs note be written no more, or again.
    pub(crate) fn set_noteless(&self, noteless: bool) {
        self.noteless.store(noteless, Ordering::SeqCst);
    }

    /// Let every commit fail, or none.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)+) => {$(
        fn $name(&self, $($arg: $ty),*) -> BoxFuture<'_, Result<$out>> {
            self.inner.$name($($arg),*)
        }
    )+};
}

impl MetadataStore for CountingMetadata {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn capabilities(&self) -> MetadataCapabilities {
        self.inner.capabilities()
    }
    fn commit(&self, mut batch: Batch, durability: Durability) -> BoxFuture<'_, Result<Committed>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let one_less = |left: usize| left.checked_sub(1);
        batch.ops.retain(|op| {
            !matches!(op, Op::Claim { .. })
                || self
                    .lost_claims
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                    .is_err()
        });
        if self.broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Error::store("write: the disk is on fire")) });
        }
        if self
            .failing
            .lock()
            .expect("no panic")
            .is_some_and(|failing| batch.ops.iter().any(failing))
        {
            return Box::pin(async { Err(Error::store("write: the ink is dry")) });
        }
        let before =
            self.before.lock().expect("no panic").as_ref().and_then(|before| (before.0)(&batch));
        Box::pin(async move {
            if let Some(before) = before {
                before.await;
            }
            if batch.ops.iter().any(|op| matches!(op, Op::Finish(_))) {
                self.ends.pass().await;
                if Self::fails(&self.failing_ends) {
                    if self.ends_are_written.load(Ordering::SeqCst) {
                        self.inner.commit(batch, durability).await?;
                    }
                    return Err(Error::store("write: the cable came loose"));
                }
            }
            if batch.ops.iter().any(|op| matches!(op, Op::Put(_))) {
                self.puts.pass().await;
            }
            let is_lost = self.loses(&batch);
            let marks = batch.ops.iter().any(|op| matches!(op, Op::MarkForDeletion { .. }));
            let committed = self.inner.commit(batch, durability).await;
            if marks {
                self.marks.pass().await;
            }
            if is_lost {
                committed.and(Err(Error::store("read the answer: the cable came loose")))
            } else {
                committed
            }
        })
    }
    fn record_telemetry(&self, notes: Telemetry) -> BoxFuture<'_, Result<()>> {
        if self.noteless.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Error::store("write: no paper left")) });
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.record_telemetry(notes)
    }
    fn tree(&self, root: Address) -> BoxFuture<'_, Result<Vec<StoredVersion>>> {
        if Self::fails(&self.failing_trees) {
            return Box::pin(async { Err(Error::store("read: the disk is under water")) });
        }
        self.inner.tree(root)
    }
    fn jobs(&self, filter: JobFilter) -> BoxFuture<'_, Result<Vec<JobRow>>> {
        if self.unreadable.load(Ordering::SeqCst) || Self::fails(&self.failing_jobs) {
            return Box::pin(async { Err(Error::store("read: the disk is under water")) });
        }
        self.inner.jobs(filter)
    }
    fn changes(
        &self,
        run: superduper::store::RunId,
        after: ChangeCursor,
    ) -> BoxFuture<'_, Result<Option<RunChanges>>> {
        if self.unreadable.load(Ordering::SeqCst) || Self::fails(&self.failing_jobs) {
            return Box::pin(async { Err(Error::store("read: the disk is under water")) });
        }
        Box::pin(async move {
            let changes = self.inner.changes(run, after).await?;
            let rows = changes.as_ref().map_or(0, |changes| changes.jobs.len());
            self.changed_rows.fetch_add(rows, Ordering::SeqCst);
            Ok(changes)
        })
    }
    fn events(
        &self,
        after: Cursor,
        run: Option<superduper::store::RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Page<EventRow>>> {
        self.event_reads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if self.late.lock().expect("no panic").is_none() {
                return self.inner.events(after, run, limit).await;
            }
            let all = self.inner.events(Cursor::default(), None, usize::MAX).await?.rows;
            let mut late = self.late.lock().expect("no panic");
            let order = &mut late.as_mut().expect("it reorders").events;
            let mut page = order.page(
                all,
                |row| row.seq,
                |row| run.is_none_or(|run| row.run == Some(run)),
                (after, limit),
            )?;
            for row in &mut page.rows {
                let place = order.visible.iter().position(|seq| *seq == row.seq).unwrap_or(0);
                row.cursor = Cursor::of_number(place as i64 + 1);
            }
            Ok(page)
        })
    }
    fn last_event(&self) -> BoxFuture<'_, Result<Cursor>> {
        self.event_reads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if let Some(late) = &*self.late.lock().expect("no panic") {
                return Ok(Cursor::of_number(late.events.visible.len() as i64));
            }
            self.inner.last_event().await
        })
    }
    fn messages(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page<MessageRow>>> {
        Box::pin(async move {
            if self.late.lock().expect("no panic").is_none() {
                return self.inner.messages(after, limit).await;
            }
            let all = self.inner.messages(Cursor::default(), usize::MAX).await?.rows;
            let mut late = self.late.lock().expect("no panic");
            late.as_mut().expect("it reorders").messages.page(
                all,
                |row| row.id,
                |_| true,
                (after, limit),
            )
        })
    }
    fn list(&self, kind: Option<String>) -> BoxFuture<'_, Result<Vec<ListedComponent>>> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        self.inner.list(kind)
    }
    delegate! {
        snapshot(addresses: Vec<Address>) -> Snapshot;
        versions(address: Address) -> Vec<StoredVersion>;
        health(address: Address) -> Option<superduper::store::ComponentHealth>;
        health_of(addresses: Vec<Address>) -> Vec<Option<superduper::store::ComponentHealth>>;
        component_lines(filter: superduper::store::ComponentFilter, after: Option<Address>, limit: usize) -> Vec<superduper::store::ComponentLine>;
        job_lines(filter: JobFilter, after: superduper::store::After<JobId>) -> Vec<superduper::store::JobLine>;
        run_lines(filter: RunFilter, after: superduper::store::After<superduper::store::RunId>) -> Vec<superduper::store::RunLine>;
        pool_places(pool: String) -> Vec<superduper::store::PoolPlace>;
        referrers(children: Vec<Address>) -> Vec<Reference>;
        references() -> Vec<Reference>;
        labels(address: Option<Address>) -> Vec<superduper::store::LabelRow>;
        unhealthy() -> Vec<superduper::store::JobBrief>;
        output_writers(addresses: Vec<Address>) -> Vec<superduper::store::OutputWriter>;
        dependencies(run: superduper::store::RunId) -> Vec<JobDependency>;
        edges(job: superduper::store::JobId) -> (Vec<JobDependency>, Vec<JobDependency>);
        attempts(job: JobId) -> Vec<AttemptRow>;
        logs(filter: LogFilter) -> Vec<LogLine>;
        metrics(filter: MetricFilter) -> Vec<MetricPoint>;
        checkpoints(job: JobId) -> Vec<superduper::store::CheckpointRow>;
        runs(filter: RunFilter) -> Vec<RunRow>;
        log_entries(log: String, after: u64, limit: usize) -> Vec<LogEntry>;
        log_head(log: String) -> LogHead;
        referenced_blobs(first: Option<u8>) -> Vec<(Digest, u64)>;
        audit(after: Option<(ComponentId, u32)>, versions: usize) -> Vec<AuditedRevision>;
        check() -> Vec<String>;
        marked_blobs() -> Vec<Digest>;
        sweep_lock() -> Option<Box<dyn superduper::store::SweepLock>>;
        blobs_of(address: Address, versions: Vec<u32>) -> Vec<Digest>;
        register_worker(worker: superduper::store::NewWorker) -> WorkerId;
        deregister_worker(owner: WorkerId) -> ();
        dead_workers() -> Vec<WorkerId>;
        live_workers() -> Vec<WorkerId>;
        workers() -> Vec<superduper::store::Worker>;
    }
}

/// Blobs of another store, with reads and writes counted.
#[derive(Debug)]
pub(crate) struct CountingArtifacts {
    inner: Arc<dyn ArtifactStore>,
    puts: AtomicUsize,
    written: AtomicUsize,
    reads: AtomicUsize,
    /// Where deletions wait.
    pub(crate) deletions: Gate,
}

impl CountingArtifacts {
    pub(crate) fn new(inner: Arc<dyn ArtifactStore>) -> Arc<Self> {
        Arc::new(CountingArtifacts {
            inner,
            puts: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            deletions: Gate::new(),
        })
    }

    /// How many blobs were offered.
    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    /// How many blobs were written, because they were not there before.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    /// How many ranges were read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn count<'a>(&'a self, put: BoxFuture<'a, Result<Put>>) -> BoxFuture<'a, Result<Put>> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let put = put.await?;
            if put == Put::Written {
                self.written.fetch_add(1, Ordering::SeqCst);
            }
            Ok(put)
        })
    }
}

impl ArtifactStore for CountingArtifacts {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn capabilities(&self) -> ArtifactCapabilities {
        self.inner.capabilities()
    }
    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        self.count(self.inner.put(digest, size, chunks))
    }
    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        self.count(self.inner.put_immutable(digest, size, chunks))
    }
    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get_range(digest, range)
    }
    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.inner.size(digest)
    }
    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.deletions.pass().await;
            self.inner.delete(digest).await
        })
    }
    fn list(
        &self,
        first: Option<u8>,
        leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.inner.list(first, leftovers_before)
    }
    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.inner.quarantine(digest)
    }
    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        // Reads that go around the store would not be counted.
        let _ = digest;
        None
    }
}
