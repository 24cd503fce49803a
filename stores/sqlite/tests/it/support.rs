//! Batches for the tests of this store.

use serde_json::json;
use superduper_core::{
    Address, Digest, VersionRef,
    store::{
        Batch, Committed, Durability, EdgeRow, Expect, Finish, Finished, JobId, JobRef, JobRole,
        MetadataStore, Need, NewJob, NewRun, Op, PutAction, PutVersion, RunPurpose, Timestamp,
        WorkerId,
    },
};
use superduper_sqlite::SqliteStore;

pub(crate) fn address(name: &str) -> Address {
    Address::new("test.Kind", name)
}

pub(crate) fn exact(name: &str) -> Address {
    Address { version: Some(VersionRef { version: 0, revision: Some(0) }), ..address(name) }
}

pub(crate) fn create(name: &str, children: &[&str]) -> Op {
    let edge = |(index, child): (usize, &&str)| EdgeRow {
        path: format!("children[{index}]"),
        child: address(child).at(0),
    };
    Op::Put(PutVersion {
        address: exact(name),
        action: PutAction::Create,
        uuid: Digest::of(name.as_bytes()),
        content_hash: Digest::of(name.as_bytes()),
        type_version: 1,
        document: json!({"name": name}),
        edges: children.iter().enumerate().map(edge).collect(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: Timestamp(1),
    })
}

pub(crate) fn run(name: &str) -> Op {
    Op::Run(NewRun::new(RunPurpose::Apply, address(name).at(0), Timestamp(1)))
}

/// Takes away what format 3 added.
pub(crate) const WITHOUT_FORMAT_3: &str = "DROP TABLE pool_place; ALTER TABLE lease DROP COLUMN kinds; ALTER TABLE lease DROP COLUMN artifacts; DROP TABLE job_change; \
    ALTER TABLE job DROP COLUMN input; ALTER TABLE job DROP COLUMN tolerated; ALTER TABLE job DROP COLUMN blocked_since; \
    ALTER TABLE job DROP COLUMN blocked_until; DROP INDEX job_dependency_needs; DROP TABLE commit_token; DROP TABLE log_entry; DELETE FROM meta WHERE name = 'sweep_lock'; \
    ALTER TABLE job_dependency DROP COLUMN any_end; ALTER TABLE job DROP COLUMN progressed_at; \
    ALTER TABLE run DROP COLUMN actor; ALTER TABLE run DROP COLUMN origin; ALTER TABLE run DROP COLUMN note; ALTER TABLE run DROP COLUMN jobs; \
    ALTER TABLE lease DROP COLUMN host; ALTER TABLE lease DROP COLUMN program; ALTER TABLE lease DROP COLUMN executors; \
    DROP INDEX job_component; DROP INDEX job_component_run; DROP INDEX run_root; DROP INDEX message_job;";

pub(crate) fn job(name: &str, method: &str, needs: &[usize]) -> NewJob {
    NewJob::new(exact(name), JobRole::Trigger, method, Timestamp(1))
        .needs(needs.iter().map(|index| Need::success(JobRef::New(*index))).collect())
}

pub(crate) fn claim(job: JobId, owner: WorkerId) -> Op {
    Op::Claim { jobs: vec![job], owner, start: true, pool: None, at: Timestamp(2) }
}

pub(crate) fn succeeded(job: JobId, owner: WorkerId) -> Op {
    Op::Finish(Box::new(Finish {
        job,
        attempt: 1,
        owner,
        started_at: Timestamp(2),
        at: Timestamp(3),
        end: Finished::Succeeded(json!(null)),
        outputs: Vec::new(),
        blobs: Vec::new(),
        sweep_epoch: None,
        spawned: Vec::new(),
        spawned_before: Vec::new(),
        messages: Vec::new(),
        late: false,
    }))
}

/// The batch of an apply of one new component with two jobs, one after the other.
pub(crate) fn apply(name: &str) -> Batch {
    let jobs = vec![job(name, "start", &[]), job(name, "go", &[0])];
    Batch {
        expect: vec![Expect::Newest { address: address(name), state: None }, Expect::SweepEpoch(0)],
        ops: vec![create(name, &[]), run(name), Op::Jobs { run: None, jobs }],
    }
}

pub(crate) async fn commit(store: &SqliteStore, ops: Vec<Op>) -> Committed {
    store
        .commit(Batch { expect: Vec::new(), ops }, Durability::Relaxed)
        .await
        .expect("the batch is valid")
}
