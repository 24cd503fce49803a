//! Jobs that wait for something outside, inputs, tolerated jobs, and edges that any end meets.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    FailureKind, JobFailure, VersionRef,
    store::{
        Block, BlockedUntil, Completion, Finished, JobFilter, JobId, JobRef, JobState,
        MetadataStore, Need, NewJob, Op, RunState,
    },
};

fn completion(job: JobId, end: Result<serde_json::Value, JobFailure>) -> Op {
    Op::Complete(Box::new(Completion { job, end, blobs: Vec::new(), at: at(60) }))
}

fn rejected() -> JobFailure {
    JobFailure::new(FailureKind::Error, "not this time")
}

fn blocked(name: &str) -> NewJob {
    job("a", name).blocked("a grant".to_owned())
}

/// Only a blocked job is completed, and only once; what was decided on another end is left out.
pub async fn blocked_jobs_are_completed_once(store: &dyn MetadataStore) {
    commit(store, vec![create("a")]).await;
    let made = commit(
        store,
        vec![start_run("a"), jobs(vec![blocked("yes"), blocked("no"), job("a", "queued")])],
    )
    .await;
    let (run, ids) = (made.run.expect("a run"), made.jobs);
    let done = commit(store, vec![completion(ids[0], Ok(json!({"by": "an owner"})))]).await;
    assert!(done.ignored.is_empty() && !done.invalidated);
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.result, row.failure),
        (JobState::Succeeded, Some(json!({"by": "an owner"})), None)
    );
    assert_eq!((row.attempt, row.tries, row.blocked, row.ended_at), (0, 0, None, Some(at(60))));
    commit(store, vec![completion(ids[1], Err(rejected()))]).await;
    let row = job_row(store, ids[1]).await;
    assert_eq!((row.state, row.result), (JobState::Failed, None));
    assert_eq!(row.failure.map(|failure| failure.message), Some("not this time".to_owned()));
    for job in ids {
        let end_run = Op::EndRun { run, state: RunState::Succeeded, at: at(61) };
        let again = commit(store, vec![completion(job, Ok(json!(1))), end_run]).await;
        assert_eq!(
            (again.ignored, again.invalidated),
            (vec![0, 1], true),
            "it is not blocked, or no longer"
        );
    }
}

/// The time until which a job is blocked is kept with the time at which it was blocked, until it is
/// released.
pub async fn blocks_may_have_a_time(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["wait"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let block = Block { until: Some(at(500)), ..Block::new("a report") };
    let end = finish(ids[0], 1, owner, Finished::Blocked(block));
    let Op::Finish(ended) = &end else { unreachable!("it is an end") };
    let since = ended.at;
    commit(store, vec![end]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.blocked.as_deref()), (JobState::Blocked, Some("a report")));
    assert_eq!(row.blocked_until, Some(BlockedUntil { since, until: at(500) }));
    commit(store, vec![Op::Block { job: ids[0], reason: None, at: at(70) }]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.blocked_until), (JobState::Queued, None));
}

/// A job is released at its time only from the block that had this time.
pub async fn a_release_is_of_one_block(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["wait"]).await;
    let owner = register(store).await;
    let mut spans = Vec::new();
    for (attempt, until) in [(1, at(500)), (2, at(900))] {
        commit(store, vec![claim(&ids, owner, true)]).await;
        let block = Block { until: Some(until), ..Block::new("a report") };
        commit(store, vec![finish(ids[0], attempt, owner, Finished::Blocked(block))]).await;
        spans.extend(job_row(store, ids[0]).await.blocked_until);
        if attempt == 1 {
            let release = Op::Release { job: ids[0], blocked: spans[0], at: at(501) };
            assert!(commit(store, vec![release]).await.ignored.is_empty());
            assert_eq!(state(store, ids[0]).await, JobState::Queued);
        }
    }
    let release = |blocked| vec![Op::Release { job: ids[0], blocked, at: at(901) }];
    assert_eq!(commit(store, release(spans[0])).await.ignored, [0], "that block is over");
    assert_eq!(state(store, ids[0]).await, JobState::Blocked);
    commit(store, release(spans[1])).await;
    assert_eq!(state(store, ids[0]).await, JobState::Queued);
    assert_eq!(commit(store, release(spans[1])).await.ignored, [0]);
}

/// A job that waits for what has changed since it looked is queued again.
pub async fn a_job_is_queued_again_if_a_component_that_it_read_has_changed(
    store: &dyn MetadataStore,
) {
    let owner = register(store).await;
    let (_, ids) = run_of(store, "a", &["wait"]).await;
    let mut number = 0;
    type Read = (superduper_core::Address, Option<(u32, Option<u32>)>);
    let mut ends_as = async |read: Vec<Read>, expected: JobState| {
        number += 1;
        commit(store, vec![claim(&ids, owner, true)]).await;
        let version = |(version, revision)| VersionRef { version, revision };
        let read = read.into_iter().map(|(address, seen)| (address, seen.map(version))).collect();
        let block = Block { read, ..Block::new("a grant") };
        commit(store, vec![finish(ids[0], number, owner, Finished::Blocked(block))]).await;
        let row = job_row(store, ids[0]).await;
        assert_eq!(row.state, expected);
        assert_eq!(
            (row.tries, row.owner, row.blocked.is_some()),
            (0, None, expected == JobState::Blocked),
            "no try is lost"
        );
        commit(store, vec![Op::Block { job: ids[0], reason: None, at: at(70) }]).await;
    };
    let grant = || address("grant");
    ends_as(vec![(grant(), None)], JobState::Blocked).await;
    ends_as(vec![(grant(), Some((0, Some(0))))], JobState::Queued).await;
    commit(store, vec![create("grant")]).await;
    ends_as(vec![(grant(), None)], JobState::Queued).await;
    ends_as(vec![(grant(), Some((0, Some(0))))], JobState::Blocked).await;
    commit(store, vec![revision("grant", 0, 1)]).await;
    ends_as(vec![(grant(), Some((0, Some(0))))], JobState::Queued).await;
    ends_as(
        vec![(address("a"), Some((0, Some(0)))), (grant(), Some((0, Some(1))))],
        JobState::Blocked,
    )
    .await;
    ends_as(vec![(grant(), Some((0, None)))], JobState::Blocked).await;
    ends_as(vec![(grant(), Some((1, None)))], JobState::Queued).await;
}

/// Inputs come back as they were; a key finds its job; edges are told of one job.
pub async fn spawned_jobs_have_inputs_and_edges(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["open", "after"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids[..1], owner, true)]).await;
    let input = Some(json!({"round": 3, "sites": ["a", "b"], "none": null}));
    let keyed = |key: &str| job("a", "train").key(key.to_owned());
    let needs = vec![
        Need { any_end: true, ..Need::success(JobRef::New(0)) },
        Need::success(JobRef::New(1)),
    ];
    let spawned = vec![
        keyed("x").input(input.clone()).tolerated(true),
        keyed("y").input(json!(null)),
        keyed("z").needs(needs),
    ];
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(null)));
    end.spawned = spawned;
    end.spawned_before = vec![(ids[1], 2), (ids[1], 0)];
    commit(store, vec![Op::Finish(Box::new(end))]).await;
    let by_key = async |key: &str| {
        let filter =
            JobFilter { run: Some(run), key: Some(key.to_owned()), ..JobFilter::default() };
        done(store.jobs(filter).await).pop()
    };
    let [x, y, z] = [by_key("x").await, by_key("y").await, by_key("z").await]
        .map(|row| row.expect("it was spawned"));
    assert_eq!((x.input, x.tolerated), (input, true));
    assert_eq!((y.input, y.tolerated), (Some(json!(null)), false), "null is an input");
    assert_eq!((z.input.clone(), by_key("w").await), (None, None));
    let (needs, waiting) = done(store.edges(z.id).await);
    let needs: Vec<_> = needs.into_iter().map(|edge| (edge.needs, edge.any_end)).collect();
    assert_eq!(needs, [(x.id, true), (y.id, false)]);
    let waiting: Vec<_> = waiting.into_iter().map(|edge| (edge.job, edge.any_end)).collect();
    assert_eq!(waiting, [(ids[1], false)]);
    let all = done(store.dependencies(run).await);
    assert_eq!(all.iter().filter(|edge| edge.any_end).count(), 2);
    let (_, waiting) = done(store.edges(x.id).await);
    let of_spawner = waiting.iter().find(|edge| edge.job == ids[1]).map(|edge| edge.any_end);
    assert_eq!(
        of_spawner,
        Some(true),
        "what waits for the spawner goes on without a tolerated job"
    );
}

/// A tolerated job that failed is not among those that make a component unhealthy.
pub async fn tolerated_jobs_are_not_unhealthy(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["open"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let keyed = |key: &str, tolerated| job("a", "train").key(key.to_owned()).tolerated(tolerated);
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(null)));
    end.spawned = vec![keyed("x", true), keyed("y", false)];
    let spawned = commit(store, vec![Op::Finish(Box::new(end))]).await.spawned[0].1.clone();
    commit(store, vec![claim(&spawned, owner, true)]).await;
    let failure = || JobFailure::new(FailureKind::Error, "no data");
    commit(
        store,
        spawned.iter().map(|job| finish(*job, 1, owner, Finished::Failed(failure()))).collect(),
    )
    .await;
    let failed: Vec<JobId> = done(store.unhealthy().await).into_iter().map(|job| job.id).collect();
    assert_eq!(failed, spawned[1..]);
    let health = done(store.health(address("a")).await).expect("it is stored");
    assert_eq!(health.unhealthy.iter().map(|job| job.id).collect::<Vec<_>>(), spawned[1..]);
    let snapshot = done(store.snapshot(vec![address("a")]).await);
    assert!(snapshot.jobs.iter().all(|job| job.id != spawned[0]), "an apply does not try it again");
}
