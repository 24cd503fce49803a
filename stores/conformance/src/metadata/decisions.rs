//! What an engine decides on: the answers to its commits, and what changed in a run.

use super::fixture::*;
use serde_json::json;
use superduper_core::store::{
    ChangeCursor, Claimed, Finished, JobId, JobRef, JobSignal, JobSignals, JobState, MetadataStore,
    Need, Op, RunChanges, RunId, RunState,
};

fn settle(job: JobId, state: JobState) -> Op {
    Op::Settle { job, state, failure: failure("upstream"), at: at(30) }
}

/// A job that another process claimed meanwhile may succeed: what needs it must not be skipped
/// because of a decision that did not hold.
pub async fn what_follows_an_ignored_settlement_is_left_out(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["taken", "needs_it", "fine", "more"]).await;
    let (me, other) = (register(store).await, register(store).await);
    commit(store, vec![claim(&ids[..1], other, true), claim(&ids[2..3], me, true)]).await;
    let before = done(store.last_event().await);
    let ops = vec![
        settle(ids[0], JobState::Cancelled),
        settle(ids[1], JobState::Skipped),
        succeeded(ids[2], 1, me),
        claim(&ids[3..], me, true),
        Op::EndRun { run, state: RunState::Cancelled, at: at(31) },
    ];
    let committed = commit(store, ops).await;
    assert!(committed.invalidated && committed.claimed.is_empty(), "{committed:?}");
    assert_eq!(committed.ignored, [0, 1, 3, 4], "the end of an attempt counts all the same");
    assert_eq!(
        state(store, ids[1]).await,
        JobState::Queued,
        "nothing is skipped because of a job that is not cancelled"
    );
    assert_eq!(kinds_after(store, before).await, ["job.succeeded"]);
}

/// Two processes decide the same, or one does so twice: that invalidates nothing.
pub async fn a_settlement_that_holds_already_is_fulfilled(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let before = done(store.last_event().await);
    commit(store, vec![settle(ids[0], JobState::Cancelled)]).await;
    let again =
        commit(store, vec![settle(ids[0], JobState::Cancelled), settle(ids[1], JobState::Skipped)])
            .await;
    assert!(!again.invalidated && again.ignored.is_empty(), "{again:?}");
    assert_eq!(
        kinds_after(store, before).await,
        ["job.cancelled", "job.skipped"],
        "a job ends once"
    );
    let other = commit(store, vec![settle(ids[0], JobState::Skipped)]).await;
    assert!(other.invalidated, "a job that ended in another way does not");
}

/// The answer lists each operation that changed nothing, by its place.
pub async fn ignored_operations_are_listed(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two", "three"]).await;
    let me = register(store).await;
    let rewrite = Op::Rewrite {
        address: exact("a", 0, 7),
        document: json!({}),
        uuid: digest("a"),
        content_hash: digest("a"),
    };
    let ops = vec![
        claim(&ids[..2], me, false),
        claim(&ids[..1], me, true),
        Op::Start { job: ids[0], attempt: 2, at: at(11) },
        Op::Block { job: ids[0], reason: Some("x".to_owned()), at: at(9) },
        Op::Block { job: ids[2], reason: None, at: at(9) },
        rewrite,
        claim(&[ids[2], ids[0]], me, true),
        Op::Start { job: ids[0], attempt: 1, at: at(12) },
        Op::Signal { jobs: vec![JobId(999)], signal: JobSignal::Cancel },
        succeeded(ids[1], 7, me),
        succeeded(ids[1], 1, me),
    ];
    let committed = commit(store, ops).await;
    assert_eq!(committed.ignored, [1, 2, 3, 4, 5, 8, 9]);
    assert_eq!(
        claimed(&committed),
        [(ids[0], 1), (ids[1], 1), (ids[2], 1)],
        "a claim takes those that are free"
    );
    let late = commit(
        store,
        vec![
            create("b"),
            succeeded(ids[1], 1, me),
            create("c"),
            settle(ids[0], JobState::Failed),
            create("d"),
        ],
    )
    .await;
    assert_eq!((late.ignored, late.components.len()), (vec![1, 3], 3));
}

/// Another process may have had the job since it was read.
pub async fn claims_tell_tries_losses_and_signals(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let (me, other) = (register(store).await, register(store).await);
    let retry = Finished::Retry(failure("flaky"), at(20));
    commit(store, vec![claim(&ids[..1], other, true), finish(ids[0], 1, other, retry)]).await;
    commit(
        store,
        vec![claim(&ids[..1], other, true), Op::Reclaim { owners: vec![other], at: at(15) }],
    )
    .await;
    commit(
        store,
        vec![
            Op::Signal { jobs: vec![ids[0]], signal: JobSignal::Cancel },
            Op::Signal { jobs: ids.clone(), signal: JobSignal::Pause },
        ],
    )
    .await;
    commit(store, vec![Op::Signal { jobs: vec![ids[1]], signal: JobSignal::Stop }]).await;
    let committed =
        commit(store, vec![claim(&ids[..1], me, true), claim(&ids[1..], me, false)]).await;
    let signals = |cancel, stop| JobSignals { cancel, stop, pause: true };
    let expected = [
        Claimed { job: ids[0], attempt: 3, tries: 1, lost: 1, signals: signals(true, false) },
        Claimed { job: ids[1], attempt: 1, tries: 0, lost: 0, signals: signals(false, true) },
    ];
    assert_eq!(committed.claimed, expected);
    assert_eq!(job_row(store, ids[1]).await.signals(), signals(false, true));
}

/// Which of the spawned jobs were there before.
pub async fn known_spawned_jobs_are_told(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let me = register(store).await;
    commit(store, vec![claim(&ids, me, true)]).await;
    let spawn = async |id: JobId, keys: &[&str]| {
        let mut end = finish_of(id, 1, me, Finished::Succeeded(json!(null)));
        end.spawned = keys.iter().map(|key| job("a", "more").key((*key).to_owned())).collect();
        commit(store, vec![Op::Finish(Box::new(end))]).await
    };
    let first = spawn(ids[0], &["x"]).await;
    assert!(first.known.is_empty());
    let second = spawn(ids[1], &["x", "y"]).await;
    assert_eq!(second.known, first.spawned[0].1, "a key that is known gives the old job");
    assert_eq!(second.spawned[0].1[0], second.known[0]);
}

async fn changes(store: &dyn MetadataStore, run: RunId, after: ChangeCursor) -> RunChanges {
    done(store.changes(run, after).await).expect("the run is on record")
}

/// From the beginning all of a run is told, and nothing twice after it.
pub async fn changes_begin_with_everything(store: &dyn MetadataStore) {
    let (other, first) = run_of(store, "a", &["of_another_run"]).await;
    let need = Need::success;
    let second = job("a", "two").needs(vec![need(JobRef::New(0)), need(JobRef::Id(first[0]))]);
    let committed = commit(store, vec![start_run("a"), jobs(vec![job("a", "one"), second])]).await;
    let run = committed.run.expect("a run");
    let all = changes(store, run, ChangeCursor::default()).await;
    assert_eq!((all.run.id, all.run.state), (run, RunState::Running));
    assert_eq!(all.jobs.iter().map(|row| row.id).collect::<Vec<_>>(), committed.jobs);
    assert_eq!(all.jobs[0], job_row(store, committed.jobs[0]).await);
    let dependencies: Vec<_> = all.dependencies.iter().map(|line| (line.job, line.needs)).collect();
    assert_eq!(
        dependencies,
        [(committed.jobs[1], first[0]), (committed.jobs[1], committed.jobs[0])]
    );
    let rest = changes(store, run, all.cursor).await;
    assert_eq!((rest.jobs, rest.dependencies), (vec![], vec![]));
    assert_eq!(done(store.changes(RunId(999), ChangeCursor::default()).await), None);
    commit(store, cancelled(&first)).await;
    let rest = changes(store, run, all.cursor).await;
    assert!(rest.jobs.is_empty(), "changes of other runs are not told");
    assert_eq!(changes(store, other, all.cursor).await.jobs.len(), 1);
}

/// Each change of a job is told, whether it is an event or not.
pub async fn every_change_of_a_job_is_told(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two", "three", "four"]).await;
    let (me, other) = (register(store).await, register(store).await);
    let mut after = changes(store, run, ChangeCursor::default()).await.cursor;
    let mut spawning = finish_of(ids[2], 1, me, Finished::Succeeded(json!(1)));
    spawning.spawned = vec![job("a", "more").key("k".to_owned())];
    spawning.spawned_before = vec![(ids[3], 0)];
    let block = |reason: Option<&str>| Op::Block {
        job: ids[0],
        reason: reason.map(str::to_owned),
        at: at(9),
    };
    let spawned = JobId(ids[3].0 + 1);
    let steps: Vec<(&str, Op, Vec<JobId>)> = vec![
        ("a claim ahead of the start", claim(&ids[..2], other, false), ids[..2].to_vec()),
        ("a start", Op::Start { job: ids[1], attempt: 1, at: at(11) }, vec![ids[1]]),
        (
            "a job that is given back before its start",
            finish(ids[0], 1, other, Finished::Released),
            vec![ids[0]],
        ),
        ("a signal", Op::Signal { jobs: vec![ids[0]], signal: JobSignal::Cancel }, vec![ids[0]]),
        (
            "another signal",
            Op::Signal { jobs: ids[..2].to_vec(), signal: JobSignal::Pause },
            ids[..2].to_vec(),
        ),
        (
            "a signal that is taken back",
            Op::Signal { jobs: ids[..1].to_vec(), signal: JobSignal::Continue },
            vec![ids[0]],
        ),
        ("a claim", claim(&ids[2..3], me, true), vec![ids[2]]),
        ("an end that spawns", Op::Finish(Box::new(spawning)), vec![ids[2], ids[3], spawned]),
        ("a second claim ahead", claim(&ids[..1], other, false), vec![ids[0]]),
        ("a worker that died", Op::Reclaim { owners: vec![other], at: at(15) }, ids[..2].to_vec()),
        ("a block", block(Some("x")), vec![ids[0]]),
        ("another reason", block(Some("y")), vec![ids[0]]),
        ("a release", block(None), vec![ids[0]]),
        ("a settlement", settle(ids[0], JobState::Cancelled), vec![ids[0]]),
        (
            "an added job",
            Op::Jobs { run: Some(run), jobs: vec![job("a", "late")] },
            vec![JobId(spawned.0 + 1)],
        ),
    ];
    for (name, op, expected) in steps {
        commit(store, vec![op]).await;
        let told = told_after(name, store, run, after, &expected).await;
        if name == "an end that spawns" {
            assert_eq!(
                told.dependencies.iter().map(|line| (line.job, line.needs)).collect::<Vec<_>>(),
                [(ids[3], spawned)]
            );
        }
        after = told.cursor;
    }
    assert!(changes(store, run, after).await.jobs.is_empty(), "nothing is told twice");
}

/// The changes after a step: these jobs, as they are on record.
async fn told_after(
    step: &str,
    store: &dyn MetadataStore,
    run: RunId,
    after: ChangeCursor,
    expected: &[JobId],
) -> RunChanges {
    let told = changes(store, run, after).await;
    assert_eq!(told.jobs.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{step}");
    for row in &told.jobs {
        assert_eq!(*row, job_row(store, row.id).await, "{step}");
    }
    told
}

/// With the end of a run a store may forget what changed without an event: every job of the run has
/// ended since. Nobody misses a change because of it, neither of this run nor of another one.
pub async fn the_end_of_a_run_hides_no_change(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two"]).await;
    let (other, others) = run_of(store, "b", &["three", "four"]).await;
    let me = register(store).await;
    let begin = changes(store, run, ChangeCursor::default()).await.cursor;
    let begin_other = changes(store, other, ChangeCursor::default()).await.cursor;
    commit(store, vec![Op::Signal { jobs: others[..1].to_vec(), signal: JobSignal::Pause }]).await;
    commit(store, vec![claim(&ids, me, false)]).await;
    commit(store, vec![Op::Signal { jobs: ids.clone(), signal: JobSignal::Cancel }]).await;
    let told = async |run: RunId, after: ChangeCursor| {
        let told = changes(store, run, after).await;
        (told.jobs.iter().map(|row| row.id).collect::<Vec<_>>(), told.cursor)
    };
    let (jobs, middle) = told(other, begin_other).await;
    assert_eq!(jobs, others[..1]);
    let ops = vec![
        finish(ids[0], 1, me, Finished::Released),
        succeeded(ids[1], 1, me),
        settle(ids[0], JobState::Cancelled),
        Op::EndRun { run, state: RunState::Cancelled, at: at(40) },
    ];
    assert!(commit(store, ops).await.ignored.is_empty());
    let ended = changes(store, run, begin).await;
    assert_eq!(ended.run.state, RunState::Cancelled);
    let states: Vec<_> = ended.jobs.iter().map(|row| (row.id, row.state)).collect();
    assert_eq!(
        states,
        [(ids[0], JobState::Cancelled), (ids[1], JobState::Succeeded)],
        "from a place before the end"
    );
    assert_eq!(told(run, ended.cursor).await.0, [], "nothing is told twice");
    assert_eq!(
        changes(store, run, ChangeCursor::default()).await.jobs,
        ended.jobs,
        "from the beginning"
    );
    commit(store, vec![Op::Signal { jobs: ids, signal: JobSignal::Cancel }]).await;
    assert_eq!(told(run, ended.cursor).await.0, [], "final jobs do not change");
    assert_eq!(told(other, middle).await.0, [], "the end of one run is no change of another");
    commit(store, vec![claim(&others[1..], me, false)]).await;
    let (jobs, last) = told(other, middle).await;
    assert_eq!(jobs, others[1..], "the places of what was forgotten do not come back");
    assert_eq!(
        told(other, begin_other).await.0,
        others,
        "what another run forgot is not lost to this one"
    );
    assert_eq!(told(other, last).await.0, []);
}
