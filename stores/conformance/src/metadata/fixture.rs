//! Short ways to write batches and to read what became of them.

use serde_json::{Value, json};
use superduper_core::{
    Address, Digest, ErrorKind, FailureKind, JobFailure, Result, VersionRef,
    store::{
        Batch, BlobRow, Committed, Cursor, Durability, EdgeRow, EventRow, Expect, Finish, Finished,
        JobFilter, JobId, JobRole, JobRow, JobState, MetadataStore, NewJob, NewRun, Op, PutAction,
        PutVersion, RunId, RunPurpose, Timestamp, WorkerId,
    },
};

/// A time that differs from every other one of these.
pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + ms)
}

pub(super) fn address(name: &str) -> Address {
    Address::new("test.Kind", name)
}

pub(super) fn exact(name: &str, version: u32, revision: u32) -> Address {
    Address { version: Some(VersionRef { version, revision: Some(revision) }), ..address(name) }
}

pub(super) fn document(name: &str, version: u32, revision: u32) -> Value {
    json!({"name": name, "version": version, "revision": revision})
}

pub(super) fn put(action: PutAction, name: &str, version: u32, revision: u32) -> PutVersion {
    PutVersion {
        address: exact(name, version, revision),
        action,
        uuid: Digest::of(format!("{name} {version}").as_bytes()),
        content_hash: Digest::of(format!("{name} {version} {revision}").as_bytes()),
        type_version: 1,
        document: document(name, version, revision),
        edges: Vec::new(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: at(i64::from(version) * 100 + i64::from(revision)),
    }
}

pub(super) fn create(name: &str) -> Op {
    Op::Put(put(PutAction::Create, name, 0, 0))
}

pub(super) fn version(name: &str, number: u32) -> Op {
    Op::Put(put(PutAction::Version, name, number, 0))
}

pub(super) fn revision(name: &str, version: u32, number: u32) -> Op {
    Op::Put(put(PutAction::Revision, name, version, number))
}

/// The same put with references to children, at `children[0]`, `children[1]`, …
pub(super) fn with_children(op: Op, children: &[(&str, u32)]) -> Op {
    let Op::Put(mut put) = op else { panic!("only a put has children") };
    let edge = |(index, (name, version)): (usize, &(&str, u32))| EdgeRow {
        path: format!("children[{index}]"),
        child: address(name).at(*version),
    };
    put.edges = children.iter().enumerate().map(edge).collect();
    Op::Put(put)
}

pub(super) fn with_blobs(op: Op, names: &[&str]) -> Op {
    let Op::Put(mut put) = op else { panic!("only a put has blobs") };
    put.blobs = names.iter().map(|name| blob(name)).collect();
    Op::Put(put)
}

pub(super) fn blob(name: &str) -> BlobRow {
    BlobRow { path: format!("blobs.{name}"), digest: digest(name), size: name.len() as u64 }
}

pub(super) fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub(super) fn start_run(name: &str) -> Op {
    let run = NewRun::new(RunPurpose::Apply, address(name).at(0), at(1));
    Op::Run(run.data(json!({"of": name})))
}

pub(super) fn job(name: &str, method: &str) -> NewJob {
    NewJob::new(exact(name, 0, 0), JobRole::Trigger, method, at(2))
}

pub(super) fn jobs(jobs: Vec<NewJob>) -> Op {
    Op::Jobs { run: None, jobs }
}

pub(super) fn claim(jobs: &[JobId], owner: WorkerId, start: bool) -> Op {
    Op::Claim { jobs: jobs.to_vec(), owner, start, pool: None, at: at(10) }
}

pub(super) fn finish_of(job: JobId, attempt: u32, owner: WorkerId, end: Finished) -> Finish {
    Finish {
        job,
        attempt,
        owner,
        started_at: at(10),
        at: at(20),
        end,
        outputs: Vec::new(),
        blobs: Vec::new(),
        sweep_epoch: None,
        spawned: Vec::new(),
        spawned_before: Vec::new(),
        messages: Vec::new(),
        late: false,
    }
}

pub(super) fn finish(job: JobId, attempt: u32, owner: WorkerId, end: Finished) -> Op {
    Op::Finish(Box::new(finish_of(job, attempt, owner, end)))
}

pub(super) fn succeeded(job: JobId, attempt: u32, owner: WorkerId) -> Op {
    finish(job, attempt, owner, Finished::Succeeded(json!({"done": job.0})))
}

pub(super) fn failure(message: &str) -> JobFailure {
    JobFailure::new(FailureKind::Error, message)
}

pub(super) async fn try_commit(
    store: &dyn MetadataStore,
    expect: Vec<Expect>,
    ops: Vec<Op>,
) -> Result<Committed> {
    store.commit(Batch { expect, ops }, Durability::Relaxed).await
}

#[track_caller]
pub(super) fn done<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store refused what it must accept: {error:?}"),
    }
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("the store must refuse this with {kind:?}, but answered {value:?}"),
        Err(error) => assert_eq!(
            error.kind(),
            kind,
            "the store must refuse this with {kind:?}, but said {error:?}"
        ),
    }
}

pub(super) async fn commit(store: &dyn MetadataStore, ops: Vec<Op>) -> Committed {
    done(try_commit(store, Vec::new(), ops).await)
}

/// The jobs that a commit claimed, with their attempt numbers.
pub(super) fn claimed(committed: &Committed) -> Vec<(JobId, u32)> {
    committed.claimed.iter().map(|claimed| (claimed.job, claimed.attempt)).collect()
}

/// The number of a sweep lock that is free again: marks and confirmations under it count until the
/// next one is taken.
pub(super) async fn sweep_token(store: &dyn MetadataStore) -> i64 {
    done(store.sweep_lock().await).expect("nothing sweeps").token()
}

pub(super) async fn mark(store: &dyn MetadataStore, names: &[&str]) -> Vec<Digest> {
    let lock = sweep_token(store).await;
    commit(
        store,
        vec![Op::MarkForDeletion {
            digests: names.iter().map(|name| digest(name)).collect(),
            lock,
        }],
    )
    .await
    .marked
}

pub(super) async fn confirm(store: &dyn MetadataStore, names: &[&str]) -> Op {
    let lock = sweep_token(store).await;
    Op::ConfirmDeleted { digests: names.iter().map(|name| digest(name)).collect(), lock }
}

pub(super) async fn register(store: &dyn MetadataStore) -> WorkerId {
    done(store.register_worker(Default::default()).await)
}

/// A component with a run of jobs named after methods.
pub(super) async fn run_of(
    store: &dyn MetadataStore,
    name: &str,
    methods: &[&str],
) -> (RunId, Vec<JobId>) {
    let new = methods.iter().map(|method| job(name, method)).collect();
    let committed = commit(store, vec![create(name), start_run(name), jobs(new)]).await;
    (committed.run.expect("the batch has a run"), committed.jobs)
}

pub(super) async fn job_row(store: &dyn MetadataStore, id: JobId) -> JobRow {
    let rows = done(store.jobs(JobFilter { ids: Some(vec![id]), ..JobFilter::default() }).await);
    rows.into_iter().next().unwrap_or_else(|| panic!("job {id} is not on record"))
}

pub(super) async fn state(store: &dyn MetadataStore, id: JobId) -> JobState {
    job_row(store, id).await.state
}

pub(super) async fn events_after(store: &dyn MetadataStore, after: Cursor) -> Vec<EventRow> {
    done(store.events(after, None, 10_000).await).rows
}

pub(super) async fn kinds_after(store: &dyn MetadataStore, after: Cursor) -> Vec<String> {
    events_after(store, after).await.into_iter().map(|event| event.kind).collect()
}

/// Cancel jobs that no worker has claimed.
pub(super) fn cancelled(jobs: &[superduper_core::store::JobId]) -> Vec<Op> {
    let failure =
        superduper_core::JobFailure::new(superduper_core::FailureKind::Cancelled, "cancelled");
    let settle = |job: &superduper_core::store::JobId| Op::Settle {
        job: *job,
        state: superduper_core::store::JobState::Cancelled,
        failure: failure.clone(),
        at: at(8),
    };
    jobs.iter().map(settle).collect()
}
