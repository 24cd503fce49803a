//! The ends of attempts.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind, FailureKind, JobFailure,
    store::{Block, Cursor, Finished, JobSignal, JobState, MetadataStore, Op, RunState, WorkerId},
};

/// Success stores the result and frees the job.
pub async fn success_is_recorded_once(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    let before = done(store.last_event().await);
    commit(store, vec![claim(&ids, owner, false)]).await;
    assert_eq!(done(store.last_event().await), before, "taking a job is no change of its state");
    let end = |job| finish(job, 1, owner, Finished::Succeeded(json!({"x": [1, 0.5]})));
    let committed = commit(
        store,
        vec![end(ids[0]), Op::Start { job: ids[1], attempt: 1, at: at(11) }, end(ids[1])],
    )
    .await;
    assert!(committed.fenced.is_empty());
    for id in &ids {
        let row = job_row(store, *id).await;
        assert_eq!((row.state, row.owner, row.attempt), (JobState::Succeeded, None, 1));
        assert_eq!(row.result, Some(json!({"x": [1, 0.5]})));
        assert_eq!(
            (row.failure.clone(), row.started_at, row.ended_at),
            (None, Some(at(10)), Some(at(20)))
        );
        let attempts = done(store.attempts(*id).await);
        assert_eq!(attempts.len(), 1, "the last attempt is among the attempts");
        assert_eq!(
            (attempts[0].number, attempts[0].started_at, attempts[0].ended_at),
            (1, Some(at(10)), at(20))
        );
        assert_eq!((attempts[0].job, attempts[0].failure.clone()), (*id, None));
    }
    let kinds = kinds_after(store, before).await;
    assert_eq!(
        kinds,
        ["job.started", "job.succeeded", "job.started", "job.succeeded"],
        "an end stands for a start that was left out"
    );
    let again = commit(
        store,
        vec![end(ids[0]), Op::EndRun { run, state: RunState::Succeeded, at: at(30) }],
    )
    .await;
    assert_eq!(again.fenced, [ids[0]], "an attempt ends once");
}

/// Ends of other attempts and owners change nothing.
pub async fn stale_attempts_are_fenced(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let (me, other) = (register(store).await, register(store).await);
    let id = ids[0];
    let early = commit(store, vec![succeeded(id, 0, me), succeeded(id, 1, me)]).await;
    assert_eq!(early.fenced, [id, id], "what is not taken cannot be ended");
    commit(store, vec![claim(&ids, me, true)]).await;
    commit(store, vec![Op::Reclaim { owners: vec![me], at: at(15) }]).await;
    assert_eq!(
        claimed(&commit(store, vec![claim(&ids, other, true)]).await),
        [(id, 2)],
        "attempt numbers are not reused"
    );
    let before = done(store.last_event().await);
    let mut late = finish_of(id, 1, me, Finished::Succeeded(json!("late")));
    late.messages = vec![("topic".to_owned(), json!(1))];
    late.blobs = vec![blob("late")];
    late.outputs = vec![superduper_core::store::OutputRow {
        name: "o".to_owned(),
        value: json!(1),
        blobs: vec![],
    }];
    late.spawned = vec![job("a", "more")];
    let ops = vec![
        Op::Finish(Box::new(late)),
        succeeded(id, 2, me),
        succeeded(id, 1, other),
        succeeded(id, 3, other),
    ];
    assert_eq!(
        commit(store, ops).await.fenced,
        [id; 4],
        "only the owner of the current attempt can end it"
    );
    assert_eq!(done(store.last_event().await), before, "a fenced end leaves no event");
    assert!(
        done(store.messages(Cursor::default(), 10).await).is_empty(),
        "a fenced end sends no message"
    );
    assert!(done(store.referenced_blobs(None).await).is_empty());
    assert!(
        done(store.tree(address("a")).await)[0].outputs.is_empty(),
        "a fenced end sets no output"
    );
    assert_eq!(done(store.jobs(Default::default()).await).len(), 1, "a fenced end spawns no job");
    assert_eq!(state(store, id).await, JobState::Running);
    let committed =
        commit(store, vec![finish(id, 2, other, Finished::Succeeded(json!("mine")))]).await;
    assert!(committed.fenced.is_empty());
    assert_eq!(job_row(store, id).await.result, Some(json!("mine")));
}

/// What a batch decided on an end that is ignored is ignored with it; ends of other attempts count.
pub async fn what_follows_a_fenced_end_is_left_out(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["stale", "fine", "next", "skipped"]).await;
    let (me, other) = (register(store).await, register(store).await);
    commit(
        store,
        vec![claim(&ids[..2], me, true), Op::Reclaim { owners: vec![other], at: at(15) }],
    )
    .await;
    let before = done(store.last_event().await);
    let ops = vec![
        succeeded(ids[0], 7, me),
        succeeded(ids[1], 1, me),
        claim(&ids[2..3], me, true),
        Op::Settle {
            job: ids[3],
            state: JobState::Skipped,
            failure: failure("upstream"),
            at: at(20),
        },
    ];
    let committed = commit(store, ops).await;
    assert_eq!((&committed.fenced[..], committed.invalidated), (&ids[..1], true));
    assert!(committed.claimed.is_empty(), "nothing starts because of an end that does not count");
    assert_eq!(
        kinds_after(store, before).await,
        ["job.succeeded"],
        "the end of another attempt counts"
    );
    assert_eq!(state(store, ids[3]).await, JobState::Queued, "nothing is skipped because of it");
    let early = vec![
        Op::EndRun { run, state: RunState::Succeeded, at: at(21) },
        Op::Delete { address: address("a"), versions: vec![0] },
    ];
    assert!(commit(store, early).await.invalidated);
    assert_eq!(
        done(store.tree(address("a")).await).len(),
        1,
        "nothing is deleted because of an end of a run that does not count"
    );
    let committed = commit(store, vec![succeeded(ids[0], 1, me), claim(&ids[2..], me, true)]).await;
    assert!(committed.fenced.is_empty() && !committed.invalidated && committed.claimed.len() == 2);
}

/// Failure and cancellation are kept as data.
pub async fn failures_are_recorded(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["fail", "cancel"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut why = JobFailure::new(FailureKind::Panic, "boom");
    why.causes = vec!["a".into(), "b".into()];
    why.retryable = false;
    why.location = Some("src/model.rs:7:9".into());
    why.error_kind = Some(ErrorKind::Integrity);
    let stop = JobFailure::new(FailureKind::Cancelled, "asked");
    let before = done(store.last_event().await);
    let ops = vec![
        finish(ids[0], 1, owner, Finished::Failed(why.clone())),
        finish(ids[1], 1, owner, Finished::Cancelled(stop.clone())),
    ];
    commit(store, ops).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.owner, row.tries, row.result.clone()),
        (JobState::Failed, None, 1, None)
    );
    assert_eq!(row.failure, Some(why.clone()), "a failure comes back as it was");
    assert_eq!(done(store.attempts(ids[0]).await)[0].failure, Some(why));
    let row = job_row(store, ids[1]).await;
    assert_eq!((row.state, row.tries, row.failure), (JobState::Cancelled, 0, Some(stop)));
    assert_eq!(row.ended_at, Some(at(20)));
    assert_eq!(kinds_after(store, before).await, ["job.failed", "job.cancelled"]);
}

/// A retry puts the job back, not to be started before a time.
pub async fn retries_are_queued_again(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let before = done(store.last_event().await);
    commit(store, vec![finish(ids[0], 1, owner, Finished::Retry(failure("flaky"), at(500)))]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.owner, row.not_before, row.tries),
        (JobState::Queued, None, Some(at(500)), 1)
    );
    assert_eq!(
        (row.failure.clone(), row.ended_at, row.lost),
        (None, None, 0),
        "a job that is tried again has not failed"
    );
    let attempts = done(store.attempts(ids[0]).await);
    assert_eq!(
        (attempts.len(), attempts[0].number, attempts[0].failure.clone()),
        (1, 1, Some(failure("flaky")))
    );
    assert_eq!(claimed(&commit(store, vec![claim(&ids, owner, false)]).await), [(ids[0], 2)]);
    commit(store, vec![succeeded(ids[0], 2, owner)]).await;
    let attempts = done(store.attempts(ids[0]).await);
    assert_eq!(
        attempts.iter().map(|row| (row.number, row.failure.is_some())).collect::<Vec<_>>(),
        [(1, true), (2, false)]
    );
    assert_eq!(kinds_after(store, before).await, ["job.retrying", "job.started", "job.succeeded"]);
    assert_eq!(job_row(store, ids[0]).await.tries, 1);
}

/// What an orderly shutdown interrupts is no try, but takes a number.
pub async fn given_back_attempts_are_no_tries(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["unstarted", "started"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids[..1], owner, false), claim(&ids[1..], owner, true)]).await;
    let before = done(store.last_event().await);
    let ops = ids.iter().map(|id| finish(*id, 1, owner, Finished::Released)).collect();
    assert!(commit(store, ops).await.fenced.is_empty());
    for id in &ids {
        let row = job_row(store, *id).await;
        assert_eq!((row.state, row.owner, row.tries, row.lost), (JobState::Queued, None, 0, 0));
        assert!(
            done(store.attempts(*id).await).is_empty(),
            "an attempt that was given back did not end"
        );
    }
    assert_eq!(
        kinds_after(store, before).await,
        ["job.released"],
        "only the job that had started changed its state"
    );
    assert_eq!(
        claimed(&commit(store, vec![claim(&ids, owner, true)]).await),
        [(ids[0], 2), (ids[1], 2)]
    );
    assert_eq!(
        commit(store, vec![succeeded(ids[0], 1, owner)]).await.fenced,
        [ids[0]],
        "the number of a given-back attempt is stale"
    );
    let release = finish(ids[0], 2, owner, Finished::Released);
    let settle = Op::Settle {
        job: ids[0],
        state: JobState::Cancelled,
        failure: failure("asked"),
        at: at(40),
    };
    commit(store, vec![release, settle]).await;
    assert!(done(store.attempts(ids[0]).await).is_empty(), "settling is not the end of an attempt");
}

/// An attempt may find that it has to wait for something outside.
pub async fn jobs_may_end_blocked(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let before = done(store.last_event().await);
    commit(store, vec![finish(ids[0], 1, owner, Finished::Blocked(Block::new("paused")))]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.owner, row.blocked.as_deref(), row.tries),
        (JobState::Blocked, None, Some("paused"), 0)
    );
    commit(
        store,
        vec![
            Op::Block { job: ids[0], reason: None, at: at(9) },
            claim(&ids, owner, true),
            succeeded(ids[0], 2, owner),
        ],
    )
    .await;
    let row = job_row(store, ids[0]).await;
    assert_eq!((row.state, row.blocked), (JobState::Succeeded, None));
    assert_eq!(
        kinds_after(store, before).await,
        ["job.blocked", "job.unblocked", "job.started", "job.succeeded"]
    );
}

/// A wish to pause that was taken back before the attempt gave up does not block the job.
pub async fn a_pause_that_was_taken_back_blocks_nothing(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["paused", "goes_on"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    commit(store, vec![Op::Signal { jobs: ids.clone(), signal: JobSignal::Pause }]).await;
    commit(store, vec![Op::Signal { jobs: vec![ids[1]], signal: JobSignal::Continue }]).await;
    let before = done(store.last_event().await);
    commit(
        store,
        ids.iter().map(|id| finish(*id, 1, owner, Finished::Paused("paused".to_owned()))).collect(),
    )
    .await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.owner, row.blocked.as_deref(), row.pause_requested),
        (JobState::Blocked, None, Some("paused"), false)
    );
    let row = job_row(store, ids[1]).await;
    assert_eq!((row.state, row.owner, row.blocked, row.tries), (JobState::Queued, None, None, 0));
    assert_eq!(kinds_after(store, before).await, ["job.blocked", "job.released"]);
    commit(store, vec![claim(&ids[1..], owner, true), succeeded(ids[1], 2, owner)]).await;
    assert_eq!(job_row(store, ids[1]).await.state, JobState::Succeeded);
}

/// The third attempt that is lost with its process is the last.
pub async fn lost_attempts_are_counted(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["started", "waiting", "mine"]).await;
    let me = register(store).await;
    commit(store, vec![claim(&ids[2..], me, true)]).await;
    let mut gone: Vec<WorkerId> = Vec::new();
    let before = done(store.last_event().await);
    for round in 1..=3u32 {
        let owner = register(store).await;
        gone.push(owner);
        let taken =
            commit(store, vec![claim(&ids[..1], owner, true), claim(&ids[1..2], owner, false)])
                .await;
        assert_eq!(claimed(&taken), [(ids[0], round), (ids[1], round)]);
        let committed = commit(store, vec![Op::Reclaim { owners: gone.clone(), at: at(15) }]).await;
        assert_eq!(
            committed.reclaimed,
            ids[..2],
            "the jobs of owners that are gone are taken away"
        );
        let row = job_row(store, ids[0]).await;
        assert_eq!(
            (row.lost, row.owner, row.tries),
            (round, None, 0),
            "lost attempts are counted apart from tries"
        );
        let row = job_row(store, ids[1]).await;
        assert_eq!(
            (row.state, row.lost, row.owner),
            (JobState::Queued, 0, None),
            "what had not started loses no attempt"
        );
    }
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.ended_at),
        (JobState::Failed, Some(at(15))),
        "with the third lost attempt a job fails"
    );
    assert_eq!(row.failure.map(|failure| failure.kind), Some(FailureKind::WorkerLost));
    let attempts = done(store.attempts(ids[0]).await);
    assert_eq!(attempts.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(attempts.iter().all(|row| {
        row.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::WorkerLost)
    }));
    assert_eq!(
        state(store, ids[2]).await,
        JobState::Running,
        "jobs of other owners are left alone"
    );
    let expected = [
        "job.started",
        "job.lost",
        "job.started",
        "job.lost",
        "job.started",
        "job.lost",
        "job.failed",
    ];
    assert_eq!(kinds_after(store, before).await, expected);
}

/// Final is final, whatever is tried.
pub async fn final_jobs_never_change(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["ok", "fail", "cancel", "skip"]).await;
    let owner = register(store).await;
    let ops = vec![
        claim(&ids[..3], owner, true),
        succeeded(ids[0], 1, owner),
        finish(ids[1], 1, owner, Finished::Failed(failure("no"))),
        finish(ids[2], 1, owner, Finished::Cancelled(failure("no"))),
        Op::Settle { job: ids[3], state: JobState::Skipped, failure: failure("no"), at: at(21) },
    ];
    commit(store, ops).await;
    let before = done(store.jobs(Default::default()).await);
    let last = done(store.last_event().await);
    for (id, attempt) in ids.iter().zip([1, 1, 1, 0]) {
        let ops = vec![
            claim(&[*id], owner, true),
            Op::Start { job: *id, attempt, at: at(90) },
            succeeded(*id, attempt, owner),
            finish(*id, attempt, owner, Finished::Retry(failure("x"), at(90))),
            finish(*id, attempt, owner, Finished::Released),
            Op::Settle { job: *id, state: JobState::Failed, failure: failure("x"), at: at(90) },
            Op::Block { job: *id, reason: Some("x".to_owned()), at: at(9) },
            Op::Block { job: *id, reason: None, at: at(9) },
            Op::Signal { jobs: vec![*id], signal: JobSignal::Cancel },
            Op::Reclaim { owners: vec![owner], at: at(90) },
        ];
        let committed = commit(store, ops).await;
        assert!(
            committed.claimed.is_empty() && committed.reclaimed.is_empty(),
            "a final job is not taken: {committed:?}"
        );
        assert_eq!(committed.fenced.len(), 3);
    }
    assert_eq!(done(store.jobs(Default::default()).await), before, "final jobs never change");
    assert_eq!(done(store.last_event().await), last, "what is ignored leaves no event");
}
