//! Snapshots, filters and listings.

use super::fixture::*;
use superduper_core::{
    Address,
    store::{
        Finished, JobFilter, JobId, JobRole, JobState, MetadataStore, Op, RunFilter, RunId,
        RunState,
    },
};

/// A snapshot has the newest versions, and the newest job of each of their methods.
pub async fn snapshots_hold_the_newest(store: &dyn MetadataStore) {
    let (_, old) = run_of(store, "a", &["start", "go"]).await;
    let hook = job("a", "go").role(JobRole::OnCreate);
    let committed = commit(store, vec![start_run("a"), jobs(vec![job("a", "go"), hook])]).await;
    let (run, new) = (committed.run.expect("a run"), committed.jobs);
    commit(store, vec![create("b"), revision("b", 0, 1)]).await;
    let owner = register(store).await;
    commit(
        store,
        vec![
            claim(&new[..1], owner, true),
            finish(new[0], 1, owner, Finished::Failed(failure("no"))),
        ],
    )
    .await;
    let found = done(
        store
            .snapshot(vec![address("b"), address("a").at(0), address("absent"), address("a")])
            .await,
    );
    let mut keys: Vec<&str> = found.components.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["test.Kind/a", "test.Kind/b"], "components are told by kind and identifier");
    assert_eq!(found.components["test.Kind/b"].address, exact("b", 0, 1));
    assert_eq!(found.components["test.Kind/b"].document, document("b", 0, 1));
    let jobs_found: Vec<JobId> = found.jobs.iter().map(|job| job.id).collect();
    assert_eq!(
        jobs_found,
        [old[0], new[0], new[1]],
        "the newest job of each trigger and hook, ascending"
    );
    let brief = &found.jobs[1];
    assert_eq!(
        (brief.run, brief.target.clone(), brief.role),
        (run, exact("a", 0, 0), JobRole::Trigger)
    );
    assert_eq!(
        (brief.method.as_str(), brief.state, brief.failure.clone()),
        ("go", JobState::Failed, Some(failure("no")))
    );
    commit(store, vec![version("a", 1)]).await;
    let found = done(store.snapshot(vec![address("a")]).await);
    assert_eq!(found.components["test.Kind/a"].address, exact("a", 1, 0));
    assert!(found.jobs.is_empty(), "jobs of older versions are not told");
}

/// A snapshot of many addresses.
pub async fn snapshots_take_many_addresses(store: &dyn MetadataStore) {
    let names: Vec<String> = (0..500).map(|n| format!("c{n}")).collect();
    commit(store, names.iter().map(|name| create(name)).collect()).await;
    let owned: Vec<Address> = (0..1000).map(|n| address(&format!("c{n}"))).collect();
    let found = done(store.snapshot(owned).await);
    assert_eq!(found.components.len(), 500);
    for name in names {
        let stored = &found.components[&format!("test.Kind/{name}")];
        assert_eq!(stored.document, document(&name, 0, 0));
    }
}

/// The newest job of each method of a newest version, if it did not succeed.
pub async fn unhealthy_is_the_newest_job_that_did_not_succeed(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["ok", "failed", "mended", "queued", "broken"]).await;
    let owner = register(store).await;
    let fail = |id, attempt| finish(id, attempt, owner, Finished::Failed(failure("no")));
    let ops = vec![
        claim(&[ids[0], ids[1], ids[2], ids[4]], owner, true),
        succeeded(ids[0], 1, owner),
        fail(ids[1], 1),
        fail(ids[2], 1),
        succeeded(ids[4], 1, owner),
    ];
    commit(store, ops).await;
    let again =
        commit(store, vec![start_run("a"), jobs(vec![job("a", "mended"), job("a", "broken")])])
            .await
            .jobs;
    commit(
        store,
        vec![claim(&again, owner, true), succeeded(again[0], 1, owner), fail(again[1], 1)],
    )
    .await;
    let unhealthy =
        async || done(store.unhealthy().await).into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(unhealthy().await, [ids[1], ids[3], again[1]]);
    commit(store, vec![create("b"), version("a", 1)]).await;
    assert!(unhealthy().await.is_empty(), "jobs of older versions do not count");
}

/// Filters combine; limits take the newest; rows ascend.
pub async fn jobs_are_filtered(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two", "three"]).await;
    commit(store, vec![version("a", 1)]).await;
    let mut newer = job("a", "one");
    newer.target = exact("a", 1, 0);
    let second = commit(store, vec![create("b"), start_run("b"), jobs(vec![job("b", "x"), newer])])
        .await
        .jobs;
    let owner = register(store).await;
    commit(store, vec![claim(&ids[..2], owner, true), succeeded(ids[0], 1, owner)]).await;
    let read = async |filter: JobFilter| {
        done(store.jobs(filter).await).into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let base = JobFilter::default;
    assert_eq!(read(base()).await, [ids[0], ids[1], ids[2], second[0], second[1]]);
    assert_eq!(read(JobFilter { run: Some(run), ..base() }).await, ids);
    assert_eq!(
        read(JobFilter { run: Some(run), limit: Some(2), ..base() }).await,
        ids[1..],
        "a limit takes the newest, ascending"
    );
    assert_eq!(
        read(JobFilter { target: Some(address("a")), ..base() }).await,
        [ids[0], ids[1], ids[2], second[1]]
    );
    assert_eq!(read(JobFilter { target: Some(address("a").at(1)), ..base() }).await, [second[1]]);
    let states = |states: &[JobState]| Some(states.to_vec());
    assert_eq!(read(JobFilter { states: states(&[JobState::Running]), ..base() }).await, [ids[1]]);
    let open = states(&[JobState::Queued, JobState::Running]);
    assert_eq!(
        read(JobFilter { states: open.clone(), ..base() }).await,
        [ids[1], ids[2], second[0], second[1]]
    );
    assert_eq!(
        read(JobFilter { states: states(&[JobState::Succeeded]), ..base() }).await,
        [ids[0]]
    );
    assert_eq!(read(JobFilter { states: open, run: Some(run), ..base() }).await, ids[1..]);
    let some = Some(vec![second[0], ids[2], ids[2], JobId(999)]);
    assert_eq!(read(JobFilter { ids: some.clone(), ..base() }).await, [ids[2], second[0]]);
    assert_eq!(read(JobFilter { ids: some, run: Some(run), ..base() }).await, [ids[2]]);
    assert!(read(JobFilter { ids: Some(vec![]), ..base() }).await.is_empty());
}

/// Runs by id, state and component.
pub async fn runs_are_filtered(store: &dyn MetadataStore) {
    let (first, open) = run_of(store, "a", &["go"]).await;
    let second = commit(
        store,
        vec![create("b"), start_run("b"), jobs(vec![job("a", "go"), job("a", "too")])],
    )
    .await
    .run
    .expect("a run");
    let (third, _) = run_of(store, "c", &[]).await;
    commit(store, cancelled(&open)).await;
    commit(store, vec![Op::EndRun { run: first, state: RunState::Cancelled, at: at(9) }]).await;
    let read = async |filter: RunFilter| {
        done(store.runs(filter).await).into_iter().map(|run| run.id).collect::<Vec<RunId>>()
    };
    let base = RunFilter::default;
    assert_eq!(read(base()).await, [first, second, third]);
    assert_eq!(read(RunFilter { id: Some(second), ..base() }).await, [second]);
    assert_eq!(read(RunFilter { unfinished: true, ..base() }).await, [second, third]);
    assert_eq!(
        read(RunFilter { component: Some(address("a")), ..base() }).await,
        [first, second],
        "a run is told once"
    );
    assert_eq!(
        read(RunFilter { component: Some(address("b")), unfinished: true, ..base() }).await,
        [second]
    );
    assert_eq!(read(RunFilter { limit: Some(2), ..base() }).await, [second, third]);
    assert!(read(RunFilter { id: Some(RunId(99)), ..base() }).await.is_empty());
}

/// Components are listed by kind, then identifier.
pub async fn listings_are_sorted(store: &dyn MetadataStore) {
    let kinds =
        [("test.B", "a"), ("test.A", "b"), ("test.A", "a"), ("test.A.C", "x"), ("test.A-", "y")];
    for (kind, name) in kinds {
        let Op::Put(mut put) = create(name) else { continue };
        put.address.kind = kind.to_owned();
        commit(store, vec![Op::Put(put)]).await;
    }
    let all = done(store.list(None).await);
    let mut expected: Vec<(&str, &str)> = kinds.to_vec();
    expected.sort_unstable();
    let found: Vec<(&str, &str)> =
        all.iter().map(|line| (&*line.address.kind, &*line.address.identifier)).collect();
    assert_eq!(found, expected);
    let one = done(store.list(Some("test.A".to_owned())).await);
    assert_eq!(one.iter().map(|line| &*line.address.identifier).collect::<Vec<_>>(), ["a", "b"]);
    commit(store, vec![create("z"), version("z", 1), revision("z", 1, 1)]).await;
    let line = done(store.list(Some("test.Kind".to_owned())).await).remove(0);
    assert_eq!((line.address, line.versions), (exact("z", 1, 1), vec![0, 1]));
    assert_eq!((line.created_at, line.updated_at, line.type_version), (at(0), at(101), 1));
    assert!(done(store.versions(address("absent")).await).is_empty());
}

/// References of the newest revisions of the newest versions.
pub async fn references_are_listed(store: &dyn MetadataStore) {
    commit(
        store,
        vec![create("x"), create("y"), with_children(create("p"), &[("x", 0), ("y", 0)])],
    )
    .await;
    commit(
        store,
        vec![
            with_children(revision("p", 0, 1), &[("x", 0)]),
            with_children(create("q"), &[("p", 0)]),
        ],
    )
    .await;
    let line = |parent, child| (parent, child);
    let read = async || {
        let rows = done(store.references().await);
        assert!(rows.iter().all(|row| row.current));
        rows.into_iter().map(|row| (row.parent, row.child)).collect::<Vec<_>>()
    };
    assert_eq!(
        read().await,
        [line(exact("p", 0, 1), address("x").at(0)), line(exact("q", 0, 0), address("p").at(0))]
    );
    commit(store, vec![with_children(version("p", 1), &[("y", 0)])]).await;
    assert_eq!(
        read().await,
        [line(exact("p", 1, 0), address("y").at(0)), line(exact("q", 0, 0), address("p").at(0))]
    );
}
