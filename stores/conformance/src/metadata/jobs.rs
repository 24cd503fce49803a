//! Recording, taking and settling jobs.

use super::fixture::*;
use std::collections::BTreeSet;
use superduper_core::{
    ErrorKind,
    store::{
        Cursor, JobId, JobRef, JobRole, JobSignal, JobState, MetadataStore, Need, NewJob, Op,
        RunId, RunState, WorkerId,
    },
};

/// Ids ascend; all that a job is recorded with comes back.
pub async fn jobs_are_recorded_in_order(store: &dyn MetadataStore) {
    let (_, first) = run_of(store, "a", &["start"]).await;
    let need = |job, parameter: Option<&str>| Need {
        job,
        parameter: parameter.map(str::to_owned),
        any_end: false,
    };
    let full = job("a", "full")
        .role(JobRole::OnCreate)
        .retry_of(first[0])
        .executor("process".to_owned())
        .retries(3)
        .backoff_ms(1500)
        .timeout_ms(600_000)
        .needs(vec![need(JobRef::New(2), Some("go")), need(JobRef::Id(first[0]), None)]);
    let mut many = vec![job("a", "zero"), full, job("a", "two")];
    many[0].target.version = Some(superduper_core::VersionRef { version: 0, revision: None });
    many.extend(
        (3..100).map(|n| job("a", &format!("m{n}")).needs(vec![need(JobRef::New(n - 1), None)])),
    );
    let committed = commit(store, vec![revision("a", 0, 1), start_run("a"), jobs(many)]).await;
    assert!(
        committed.jobs.is_sorted() && committed.jobs.len() == 100,
        "ids of jobs recorded together ascend"
    );
    let run = committed.run.expect("a run");
    full_job_comes_back(store, committed.jobs[1], run, first[0]).await;
    assert_eq!(
        job_row(store, committed.jobs[0]).await.target,
        exact("a", 0, 1),
        "without a revision the newest is meant"
    );
    let dependencies = done(store.dependencies(run).await);
    assert_eq!(dependencies.len(), 99);
    let of_full: BTreeSet<_> = dependencies
        .iter()
        .filter(|line| line.job == committed.jobs[1])
        .map(|line| (line.needs, line.parameter.as_deref()))
        .collect();
    assert_eq!(
        of_full,
        BTreeSet::from([(committed.jobs[2], Some("go")), (first[0], None)]),
        "dependencies may cross runs"
    );
    let added =
        commit(store, vec![Op::Jobs { run: Some(run), jobs: vec![job("a", "late")] }]).await;
    assert_eq!(job_row(store, added.jobs[0]).await.run, run, "jobs can be added to an older run");
}

/// The row of the job that says everything a new job can say.
async fn full_job_comes_back(store: &dyn MetadataStore, id: JobId, run: RunId, retried: JobId) {
    let row = job_row(store, id).await;
    assert_eq!(
        (row.role, row.method.as_str(), row.state),
        (JobRole::OnCreate, "full", JobState::Queued)
    );
    assert_eq!(
        (row.executor.as_deref(), row.retries, row.backoff_ms, row.timeout_ms),
        (Some("process"), 3, 1500, Some(600_000))
    );
    assert_eq!((row.retry_of, row.run, row.target), (Some(retried), run, exact("a", 0, 0)));
    assert_eq!(
        (row.attempt, row.tries, row.lost, row.owner, row.cancel_requested),
        (0, 0, 0, None, false)
    );
    assert_eq!((row.result, row.failure, row.started_at, row.ended_at), (None, None, None, None));
    assert_eq!((row.created_at, row.not_before, row.progress, row.key), (at(2), None, None, None));
}

/// Jobs refer to what exists.
pub async fn jobs_need_what_they_name(store: &dyn MetadataStore) {
    commit(store, vec![create("a")]).await;
    let with = async |change: &dyn Fn(&mut NewJob)| {
        let mut new = job("a", "go");
        change(&mut new);
        try_commit(store, vec![], vec![start_run("a"), jobs(vec![new])]).await.map(|_| ())
    };
    refused(with(&|job| job.target = exact("b", 0, 0)).await, ErrorKind::NotFound);
    refused(with(&|job| job.target = exact("a", 1, 0)).await, ErrorKind::NotFound);
    refused(with(&|job| job.target = exact("a", 0, 1)).await, ErrorKind::NotFound);
    refused(with(&|job| job.target = address("a")).await, ErrorKind::InvalidInput);
    refused(with(&|job| job.retry_of = Some(JobId(77))).await, ErrorKind::NotFound);
    refused(
        with(&|job| job.needs = vec![Need::success(JobRef::Id(JobId(77)))]).await,
        ErrorKind::NotFound,
    );
    refused(
        with(&|job| job.needs = vec![Need::success(JobRef::New(1))]).await,
        ErrorKind::InvalidInput,
    );
    let unknown_run = Op::Jobs { run: Some(RunId(77)), jobs: vec![job("a", "go")] };
    refused(try_commit(store, vec![], vec![unknown_run]).await, ErrorKind::NotFound);
    refused(
        try_commit(store, vec![], vec![jobs(vec![job("a", "go")])]).await,
        ErrorKind::InvalidInput,
    );
    refused(try_commit(store, vec![], vec![start_run("b")]).await, ErrorKind::NotFound);
    done(with(&|_| {}).await);
}

/// A taken job is not taken again.
pub async fn claims_are_exclusive(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two", "three"]).await;
    let (me, other) = (register(store).await, register(store).await);
    assert_ne!(me, other, "owners are told apart");
    let taken = commit(store, vec![claim(&[ids[1], ids[0], JobId(999)], me, false)]).await;
    assert_eq!(
        claimed(&taken),
        [(ids[1], 1), (ids[0], 1)],
        "claims are told in the order asked for, with attempt numbers from 1"
    );
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.owner, row.attempt, row.started_at),
        (JobState::Queued, Some(me), 1, None)
    );
    let rest = commit(store, vec![claim(&ids, other, true)]).await;
    assert_eq!(claimed(&rest), [(ids[2], 1)], "a job that is taken is left alone");
    let row = job_row(store, ids[2]).await;
    assert_eq!(
        (row.state, row.owner, row.started_at),
        (JobState::Running, Some(other), Some(at(10)))
    );
    assert!(commit(store, vec![claim(&ids, me, true)]).await.claimed.is_empty());
}

/// Concurrent claims of the same jobs share them out.
pub async fn concurrent_claims_give_a_job_once(store: &dyn MetadataStore) {
    let methods: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
    let (_, ids) = run_of(store, "a", &methods).await;
    let take = async |owner: WorkerId, ids: &[JobId]| {
        let mut mine = Vec::new();
        for chunk in ids.chunks(7) {
            mine.extend(claimed(&commit(store, vec![claim(chunk, owner, true)]).await));
        }
        mine
    };
    let (one, two) = (register(store).await, register(store).await);
    let reversed: Vec<JobId> = ids.iter().rev().copied().collect();
    let (mine, yours) = tokio::join!(take(one, &ids), take(two, &reversed));
    let all: BTreeSet<JobId> = mine.iter().chain(&yours).map(|(id, _)| *id).collect();
    assert_eq!(
        (all.len(), mine.len() + yours.len()),
        (50, 50),
        "every job is taken by exactly one owner"
    );
}

/// A job may be recorded as running or as blocked.
pub async fn jobs_can_be_born_taken(store: &dyn MetadataStore) {
    commit(store, vec![create("a")]).await;
    let owner = register(store).await;
    let before = done(store.last_event().await);
    let new = vec![
        job("a", "now").claim(owner),
        job("a", "later").blocked("a grant".to_owned()),
        job("a", "queued"),
    ];
    let committed = commit(store, vec![start_run("a"), jobs(new)]).await;
    assert_eq!(
        claimed(&committed),
        [(committed.jobs[0], 1)],
        "a job that is born taken is told as claimed"
    );
    let row = job_row(store, committed.jobs[0]).await;
    assert_eq!(
        (row.state, row.owner, row.attempt, row.started_at),
        (JobState::Running, Some(owner), 1, Some(at(2)))
    );
    let row = job_row(store, committed.jobs[1]).await;
    assert_eq!((row.state, row.blocked.as_deref()), (JobState::Blocked, Some("a grant")));
    assert!(
        commit(store, vec![claim(&committed.jobs[1..2], owner, true)]).await.claimed.is_empty(),
        "a blocked job is not taken"
    );
    assert_eq!(
        kinds_after(store, before).await,
        ["run.started", "job.added", "job.started", "job.blocked"]
    );
    let end = commit(store, vec![succeeded(committed.jobs[0], 1, owner)]).await;
    assert!(end.fenced.is_empty());
}

/// `Start` heeds the attempt.
pub async fn starting_is_fenced(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let start = |attempt| Op::Start { job: ids[0], attempt, at: at(12) };
    commit(store, vec![start(0), start(1)]).await;
    assert_eq!(
        state(store, ids[0]).await,
        JobState::Queued,
        "a job that is not taken does not start"
    );
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, false), start(2)]).await;
    assert_eq!(state(store, ids[0]).await, JobState::Queued, "another attempt does not start");
    let before = done(store.last_event().await);
    commit(store, vec![start(1), start(1)]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.started_at), (JobState::Running, Some(at(12))));
    assert_eq!(kinds_after(store, before).await, ["job.started"], "a job starts once");
}

/// `Settle` ends jobs that no worker holds.
pub async fn settling_spares_taken_and_final_jobs(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["skip", "cancel", "fail", "taken"]).await;
    let owner = register(store).await;
    commit(
        store,
        vec![
            claim(&ids[3..], owner, false),
            Op::Block { job: ids[1], reason: Some("x".to_owned()), at: at(9) },
        ],
    )
    .await;
    let settle =
        |job, state, why: &str| Op::Settle { job, state, failure: failure(why), at: at(30) };
    let before = done(store.last_event().await);
    let ops = vec![
        settle(ids[0], JobState::Skipped, "upstream"),
        settle(ids[1], JobState::Cancelled, "asked"),
        settle(ids[2], JobState::Failed, "broken"),
        settle(ids[3], JobState::Cancelled, "taken"),
        settle(ids[0], JobState::Failed, "again"),
    ];
    commit(store, ops).await;
    for (id, expected, why) in [
        (ids[0], JobState::Skipped, "upstream"),
        (ids[1], JobState::Cancelled, "asked"),
        (ids[2], JobState::Failed, "broken"),
    ] {
        let row = job_row(store, id).await;
        assert_eq!((row.state, row.ended_at), (expected, Some(at(30))));
        assert_eq!(row.failure, Some(failure(why)), "a settled job says why");
        assert!(done(store.attempts(id).await).is_empty(), "a job that never ran has no attempts");
    }
    assert_eq!(state(store, ids[3]).await, JobState::Queued, "a job that is taken is not settled");
    let events = events_after(store, before).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["job.skipped", "job.cancelled", "job.failed"]);
    assert!(events.iter().all(|event| event.run == Some(run)));
    assert_eq!(
        events[2].detail.as_deref(),
        Some("broken"),
        "the event of a failure carries its message"
    );
    for bad in [JobState::Succeeded, JobState::Running, JobState::Queued, JobState::Blocked] {
        refused(
            try_commit(store, vec![], vec![settle(ids[3], bad, "")]).await,
            ErrorKind::InvalidInput,
        );
    }
}

/// Only queued jobs that no worker holds are blocked, and only blocked ones are released.
pub async fn blocking_and_releasing(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "taken"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids[1..], owner, false)]).await;
    let before = done(store.last_event().await);
    let block =
        |job, reason: Option<&str>| Op::Block { job, reason: reason.map(str::to_owned), at: at(9) };
    commit(store, vec![block(ids[0], None), block(ids[1], Some("no"))]).await;
    assert_eq!(state(store, ids[1]).await, JobState::Queued, "a job that is taken is not blocked");
    commit(store, vec![block(ids[0], Some("a grant"))]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.blocked.as_deref()), (JobState::Blocked, Some("a grant")));
    assert!(commit(store, vec![claim(&ids[..1], owner, true)]).await.claimed.is_empty());
    commit(store, vec![block(ids[0], None)]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.blocked), (JobState::Queued, None));
    assert_eq!(kinds_after(store, before).await, ["job.blocked", "job.unblocked"]);
    assert_eq!(claimed(&commit(store, vec![claim(&ids[..1], owner, true)]).await), [(ids[0], 1)]);
}

/// The mark stays while the job is not final.
pub async fn cancel_requests_stay_until_the_end(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true), succeeded(ids[1], 1, owner)]).await;
    commit(
        store,
        vec![Op::Signal { jobs: vec![ids[0], ids[1], JobId(999)], signal: JobSignal::Cancel }],
    )
    .await;
    assert!(job_row(store, ids[0]).await.cancel_requested);
    assert!(!job_row(store, ids[1]).await.cancel_requested, "a final job is not asked to stop");
    let retry = superduper_core::store::Finished::Retry(failure("again"), at(99));
    commit(store, vec![finish(ids[0], 1, owner, retry)]).await;
    assert!(job_row(store, ids[0]).await.cancel_requested, "the request outlives an attempt");
}

/// A run ends once, with its state.
pub async fn runs_end_once(store: &dyn MetadataStore) {
    let (run, _) = run_of(store, "a", &[]).await;
    let before = done(store.last_event().await);
    let end = |state, ms| Op::EndRun { run, state, at: at(ms) };
    refused(
        try_commit(store, vec![], vec![end(RunState::Running, 5)]).await,
        ErrorKind::InvalidInput,
    );
    commit(store, vec![end(RunState::Failed, 60), end(RunState::Succeeded, 61)]).await;
    let row = done(store.runs(Default::default()).await).remove(0);
    assert_eq!(
        (row.id, row.state, row.ended_at, row.created_at),
        (run, RunState::Failed, Some(at(60)), at(1))
    );
    assert_eq!((row.root, row.data), (address("a").at(0), serde_json::json!({"of": "a"})));
    let events = events_after(store, before).await;
    assert_eq!(events.len(), 1, "a run ends once");
    assert_eq!(
        (events[0].kind.as_str(), events[0].run, events[0].job),
        ("run.ended", Some(run), None)
    );
}

/// Events have growing places, in the order of the operations.
pub async fn events_are_in_order(store: &dyn MetadataStore) {
    assert_eq!(done(store.last_event().await), Cursor::default(), "an empty store has no event");
    let (run, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let (other, _) = run_of(store, "b", &[]).await;
    commit(store, vec![succeeded(ids[1], 1, owner), succeeded(ids[0], 1, owner)]).await;
    commit(store, vec![Op::EndRun { run, state: RunState::Succeeded, at: at(70) }]).await;
    let all = events_after(store, Cursor::default()).await;
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "the places of events grow");
    let last = done(store.last_event().await);
    assert_eq!(done(store.events(Cursor::default(), None, 10_000).await).next, last);
    assert!(events_after(store, last).await.is_empty());
    let line =
        |event: &superduper_core::store::EventRow| (event.kind.clone(), event.run, event.job);
    let text = |kind: &str, run, job| (kind.to_owned(), Some(run), job);
    let expected = [
        text("component.applied", run, None),
        text("run.started", run, None),
        text("job.added", run, None),
        text("job.started", run, Some(ids[0])),
        text("job.started", run, Some(ids[1])),
        text("component.applied", other, None),
        text("run.started", other, None),
        text("job.succeeded", run, Some(ids[1])),
        text("job.succeeded", run, Some(ids[0])),
        text("run.ended", run, None),
    ];
    assert_eq!(
        all.iter().map(line).collect::<Vec<_>>(),
        expected,
        "each change is an event, in order"
    );
    assert_eq!(
        all[0].detail.as_deref(),
        Some("test.Kind/a@0.0"),
        "the event of a component names it"
    );
    assert_eq!(all[0].at, at(0), "an event has the time of its operation");
    let first = done(store.events(Cursor::default(), None, 2).await).next;
    let of_run = done(store.events(first, Some(run), 3).await).rows;
    assert_eq!(
        of_run,
        [all[2].clone(), all[3].clone(), all[4].clone()],
        "events are filtered by run and limited"
    );
    let eight = done(store.events(Cursor::default(), None, 8).await).next;
    let kept: Cursor =
        serde_json::from_value(serde_json::json!(eight)).expect("a cursor can be kept");
    assert_eq!(done(store.events(kept, None, 10).await).rows, all[8..]);
    assert_eq!(events_after(store, Cursor::default()).await, all, "events do not change");
}
