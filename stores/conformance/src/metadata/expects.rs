//! Conditions and atomicity.

use super::fixture::*;
use superduper_core::{
    ErrorKind,
    store::{
        Cursor, Expect, JobFilter, JobId, JobRole, MetadataStore, NewRun, Op, RunFilter, RunId,
        RunPurpose, RunState,
    },
};

async fn is_empty(store: &dyn MetadataStore) -> bool {
    done(store.list(None).await).is_empty()
        && done(store.runs(RunFilter::default()).await).is_empty()
        && done(store.jobs(JobFilter::default()).await).is_empty()
        && done(store.last_event().await) == Cursor::default()
        && done(store.referenced_blobs(None).await).is_empty()
}

/// A batch whose condition fails leaves nothing.
pub async fn a_failed_condition_writes_nothing(store: &dyn MetadataStore) {
    let expect = vec![
        Expect::Newest { address: address("a"), state: None },
        Expect::Newest { address: address("other"), state: Some((0, 0, false)) },
    ];
    let ops = vec![with_blobs(create("a"), &["b"]), start_run("a"), jobs(vec![job("a", "go")])];
    refused(try_commit(store, expect, ops).await, ErrorKind::Conflict);
    assert!(is_empty(store).await, "a batch whose condition fails must write nothing");
}

/// A batch that fails at its last operation leaves nothing.
pub async fn a_failed_operation_writes_nothing(store: &dyn MetadataStore) {
    let ops = vec![
        with_blobs(create("a"), &["b"]),
        start_run("a"),
        jobs(vec![job("a", "go")]),
        jobs(vec![job("absent", "go")]),
    ];
    refused(try_commit(store, vec![], ops).await, ErrorKind::NotFound);
    assert!(is_empty(store).await, "a batch that fails must leave nothing");
    // The store is usable afterwards, and numbers are as if the batch had never been.
    let committed =
        commit(store, vec![create("a"), start_run("a"), jobs(vec![job("a", "go")])]).await;
    assert_eq!(committed.jobs.len(), 1);
    let (before, kinds) =
        (done(store.last_event().await), kinds_after(store, Cursor::default()).await);
    let ops = vec![
        version("a", 1),
        revision("a", 1, 1),
        Op::Removing { address: address("a"), on: true },
        create("a"),
    ];
    refused(try_commit(store, vec![], ops).await, ErrorKind::Conflict);
    assert_eq!(done(store.last_event().await), before);
    assert_eq!(
        kinds_after(store, Cursor::default()).await,
        kinds,
        "a batch that fails leaves no event"
    );
    let found = done(store.tree(address("a")).await).remove(0);
    assert_eq!(
        (found.address, found.removing, found.next_version),
        (exact("a", 0, 0), false, 1),
        "a batch that fails is undone"
    );
}

/// `Newest` compares version, revision and the mark of removal.
pub async fn newest_is_checked(store: &dyn MetadataStore) {
    let check = async |state| {
        let expect = vec![Expect::Newest { address: address("a"), state }];
        try_commit(store, expect, vec![]).await.map(|_| ())
    };
    done(check(None).await);
    refused(check(Some((0, 0, false))).await, ErrorKind::Conflict);
    commit(store, vec![create("a"), version("a", 1), revision("a", 1, 1)]).await;
    done(check(Some((1, 1, false))).await);
    for state in [
        None,
        Some((0, 0, false)),
        Some((1, 0, false)),
        Some((1, 2, false)),
        Some((2, 0, false)),
        Some((1, 1, true)),
    ] {
        refused(check(state).await, ErrorKind::Conflict);
    }
    commit(store, vec![Op::Removing { address: address("a"), on: true }]).await;
    done(check(Some((1, 1, true))).await);
    refused(check(Some((1, 1, false))).await, ErrorKind::Conflict);
    let error = check(None).await.expect_err("the component exists");
    assert!(error.to_string().contains("test.Kind/a"), "a conflict names what moved: {error}");
}

/// `Unreferenced` heeds current references from outside of the list.
pub async fn unreferenced_is_checked(store: &dyn MetadataStore) {
    let ops = vec![
        create("c"),
        create("d"),
        with_children(create("p"), &[("c", 0)]),
        with_children(create("q"), &[("d", 0)]),
    ];
    commit(store, ops).await;
    commit(store, vec![with_children(revision("p", 0, 1), &[("d", 0)])]).await;
    let check = async |children: Vec<_>| {
        try_commit(store, vec![Expect::Unreferenced { children }], vec![]).await.map(|_| ())
    };
    done(check(vec![address("c").at(0)]).await);
    done(check(vec![address("p").at(0)]).await);
    refused(check(vec![address("d").at(0)]).await, ErrorKind::Conflict);
    refused(check(vec![address("d").at(0), address("p").at(0)]).await, ErrorKind::Conflict);
    done(check(vec![address("d").at(0), address("p").at(0), address("q").at(0)]).await);
    commit(store, vec![with_children(version("q", 1), &[("d", 0)])]).await;
    refused(
        check(vec![address("d").at(0), address("p").at(0), address("q").at(0)]).await,
        ErrorKind::Conflict,
    );
    done(check(vec![address("d"), address("p"), address("q")]).await);
}

/// `NoRun` heeds roots and jobs of unfinished runs.
pub async fn unfinished_runs_are_checked(store: &dyn MetadataStore) {
    commit(store, vec![create("other"), create("idle")]).await;
    let committed =
        commit(store, vec![create("a"), start_run("a"), jobs(vec![job("other", "go")])]).await;
    let run = committed.run.expect("the batch has a run");
    let check = async |name: &str, but: Option<RunId>| {
        let expect = vec![Expect::NoRun { address: address(name), but }];
        try_commit(store, expect, vec![]).await.map(|_| ())
    };
    for name in ["a", "other"] {
        refused(check(name, None).await, ErrorKind::Conflict);
        done(check(name, Some(run)).await);
    }
    done(check("idle", None).await);
    done(check("absent", None).await);
    let end = Op::EndRun { run, state: RunState::Cancelled, at: at(50) };
    commit(store, vec![end.clone()]).await;
    refused(check("a", None).await, ErrorKind::Conflict);
    commit(store, cancelled(&committed.jobs)).await;
    // Who was to record the end may be gone; nothing of the run is left to do.
    done(check("a", None).await);
    done(check("other", None).await);
    commit(store, vec![end]).await;
    done(check("a", None).await);

    let Op::Run(removal) = start_run("a") else { unreachable!("it starts a run") };
    let removal = Op::Run(NewRun { purpose: RunPurpose::Remove, ..removal });
    let cleanup = job("a", "cleanup").role(JobRole::Cleanup);
    let committed = commit(store, vec![removal, jobs(vec![cleanup])]).await;
    commit(store, cancelled(&committed.jobs)).await;
    refused(check("a", None).await, ErrorKind::Conflict);
    let run = committed.run.expect("the batch has a run");
    commit(store, vec![Op::EndRun { run, state: RunState::Cancelled, at: at(60) }]).await;
    done(check("a", None).await);
}

/// Of many commits with the same condition one succeeds.
pub async fn commits_are_serialized(store: &dyn MetadataStore) {
    commit(store, vec![create("a")]).await;
    for round in 0..5u32 {
        let attempt = || {
            let expect =
                vec![Expect::Newest { address: address("a"), state: Some((0, round, false)) }];
            try_commit(store, expect, vec![revision("a", 0, round + 1)])
        };
        let (one, two, three, four) = tokio::join!(attempt(), attempt(), attempt(), attempt());
        let outcomes = [one, two, three, four];
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            1,
            "one of several equal commits succeeds: {outcomes:?}"
        );
        for outcome in outcomes.into_iter().filter(Result::is_err) {
            refused(outcome, ErrorKind::Conflict);
        }
    }
    let missing =
        done(store.jobs(JobFilter { ids: Some(vec![JobId(1)]), ..JobFilter::default() }).await);
    assert!(missing.is_empty());
}
