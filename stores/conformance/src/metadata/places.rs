//! Places in pools, which all processes share.

use super::fixture::*;
use superduper_core::store::{
    Committed, Finish, Finished, JobId, MetadataStore, NewWorker, Op, Pool, WorkerId,
};

fn pool(limit: u32) -> Option<Pool> {
    Some(Pool { name: "p".to_owned(), limit })
}

fn claim_in_pool(jobs: &[JobId], owner: WorkerId, limit: u32) -> Op {
    Op::Claim { jobs: jobs.to_vec(), owner, start: true, pool: pool(limit), at: at(10) }
}

/// The jobs of a run, each with a placement in the pool.
async fn pooled(store: &dyn MetadataStore, names: &[&str]) -> Vec<JobId> {
    let (run, _) = run_of(store, "a", &["first"]).await;
    let executor = Some("{\"pool\":[\"p\",2]}".to_owned());
    let jobs = names.iter().map(|name| job("a", name).executor(executor.clone())).collect();
    commit(store, vec![Op::Jobs { run: Some(run), jobs }]).await.jobs
}

fn taken(committed: &Committed) -> Vec<JobId> {
    committed.claimed.iter().map(|claimed| claimed.job).collect()
}

/// A claim takes as many jobs as the pool has free places, those of the lowest ids. It returns the
/// other jobs as full.
pub async fn pools_limit_claims_of_all_owners(store: &dyn MetadataStore) {
    let ids = pooled(store, &["one", "two", "three", "four"]).await;
    let (me, other) = (register(store).await, register(store).await);
    let first = commit(store, vec![claim_in_pool(&ids[1..2], other, 2)]).await;
    assert_eq!((taken(&first), first.full), (vec![ids[1]], vec![]));
    let second = commit(store, vec![claim_in_pool(&[ids[3], ids[2], ids[0]], me, 2)]).await;
    assert_eq!(taken(&second), [ids[0]], "one place is left, for the lowest id");
    assert_eq!(second.full, [ids[2], ids[3]]);
    let third = commit(store, vec![claim_in_pool(&ids[2..], me, 2)]).await;
    assert_eq!(
        (taken(&third), third.ignored),
        (vec![], vec![0]),
        "a claim of which nothing was taken is ignored"
    );
    // An end frees its place for a claim behind it in the same batch.
    let fourth =
        commit(store, vec![succeeded(ids[1], 1, other), claim_in_pool(&ids[2..], me, 2)]).await;
    assert_eq!((taken(&fourth), fourth.full), (vec![ids[2]], vec![ids[3]]));
    // The claim names the limit.
    let fifth = commit(store, vec![claim_in_pool(&ids[3..], me, 3)]).await;
    assert_eq!(taken(&fifth), [ids[3]]);
}

/// The place of a late attempt is taken until its thread has returned, or its owner is reclaimed.
pub async fn late_attempts_keep_their_place(store: &dyn MetadataStore) {
    let ids = pooled(store, &["one", "two", "three"]).await;
    let (me, other) = (register(store).await, register(store).await);
    commit(store, vec![claim_in_pool(&ids[..1], other, 1)]).await;
    let late =
        Finish { late: true, ..finish_of(ids[0], 1, other, Finished::Failed(failure("late"))) };
    let after =
        commit(store, vec![Op::Finish(Box::new(late)), claim_in_pool(&ids[1..2], me, 1)]).await;
    assert_eq!((taken(&after), after.full), (vec![], vec![ids[1]]));
    let after = commit(
        store,
        vec![
            Op::ReturnPlace { job: ids[0], attempt: 1, owner: other },
            claim_in_pool(&ids[1..2], me, 1),
        ],
    )
    .await;
    assert_eq!(taken(&after), [ids[1]]);
    // A late attempt whose owner is gone together with its thread.
    let late = Finish { late: true, ..finish_of(ids[1], 1, me, Finished::Failed(failure("late"))) };
    commit(store, vec![Op::Finish(Box::new(late))]).await;
    done(store.deregister_worker(me).await);
    assert_eq!(done(store.dead_workers().await), [me], "an owner that left a place behind is told");
    let after = commit(
        store,
        vec![Op::Reclaim { owners: vec![me], at: at(20) }, claim_in_pool(&ids[2..], other, 1)],
    )
    .await;
    assert_eq!(taken(&after), [ids[2]]);
    assert!(done(store.dead_workers().await).is_empty());
}

/// A job that is recorded with a claim is queued if its pool is full.
pub async fn jobs_recorded_with_a_claim_count(store: &dyn MetadataStore) {
    let (run, _) = run_of(store, "a", &["first"]).await;
    let owner = register(store).await;
    let new = |name: &str| {
        job("a", name).claim(owner).pool(pool(1)).executor("{\"pool\":[\"p\",1]}".to_owned())
    };
    let committed =
        commit(store, vec![Op::Jobs { run: Some(run), jobs: vec![new("one"), new("two")] }]).await;
    assert_eq!(taken(&committed), committed.jobs[..1]);
    let row = job_row(store, committed.jobs[1]).await;
    assert_eq!((row.owner, row.attempt), (None, 0));
    let after = commit(
        store,
        vec![succeeded(committed.jobs[0], 1, owner), claim_in_pool(&committed.jobs[1..], owner, 1)],
    )
    .await;
    assert_eq!(taken(&after), committed.jobs[1..]);
}

/// The kinds of a program are listed with its worker, as long as the worker lives.
pub async fn workers_are_told_with_their_kinds(store: &dyn MetadataStore) {
    let kinds = vec!["a.One".to_owned(), "a.Two".to_owned()];
    let mut new = NewWorker::new();
    new.kinds = kinds.clone();
    new.artifacts = Some("s3://bucket/prefix".to_owned());
    new.host = Some("node-7".to_owned());
    new.pid = Some(4711);
    new.program = Some("/usr/bin/trainer".to_owned());
    new.executors = vec!["process".to_owned(), "threads".to_owned()];
    let (one, two) = (done(store.register_worker(new).await), register(store).await);
    let workers = done(store.workers().await);
    let told: Vec<_> = workers
        .iter()
        .map(|worker| (worker.id, worker.kinds.clone(), worker.artifacts.as_deref()))
        .collect();
    assert_eq!(told, [(one, kinds, Some("s3://bucket/prefix")), (two, vec![], None)]);
    let worker = &workers[0];
    assert_eq!(
        (worker.host.as_deref(), worker.pid, worker.program.as_deref()),
        (Some("node-7"), Some(4711), Some("/usr/bin/trainer"))
    );
    assert_eq!(worker.executors, ["process", "threads"]);
    done(store.deregister_worker(one).await);
    assert_eq!(done(store.workers().await).len(), 1);
}
