//! Versions that are being removed, and how components are told to be doing.

use super::fixture::*;
use superduper_core::{
    ErrorKind,
    store::{
        Expect, Finished, JobId, JobRole, MAX_EVENT_DETAIL, MetadataStore, NewJob, NewRun, Op,
        RunId, RunPurpose, RunState, StoredVersion,
    },
};

fn removal_of(name: &str, version: Option<u32>) -> Op {
    let Op::Run(run) = start_run(name) else { unreachable!("it starts a run") };
    let root = version.map_or(address(name), |version| address(name).at(version));
    Op::Run(NewRun { purpose: RunPurpose::Remove, root, ..run })
}

fn cleanup(name: &str, version: u32) -> NewJob {
    job(name, "cleanup").role(JobRole::Cleanup).target(exact(name, version, 0))
}

/// Record a removal of one version with its cleanup.
async fn remove(store: &dyn MetadataStore, name: &str, version: u32) -> (RunId, Vec<JobId>) {
    let committed =
        commit(store, vec![removal_of(name, Some(version)), jobs(vec![cleanup(name, version)])])
            .await;
    (committed.run.expect("the batch has a run"), committed.jobs)
}

async fn marks(store: &dyn MetadataStore, name: &str) -> Vec<(u32, bool)> {
    done(store.versions(address(name)).await)
        .iter()
        .map(|stored: &StoredVersion| (stored.version(), stored.removing))
        .collect()
}

fn label(name: &str, version: u32) -> Op {
    Op::Label {
        address: address(name),
        label: "prod".to_owned(),
        version: Some(version),
        at: at(5),
    }
}

/// A version whose removal is on record is marked until it is deleted, and the others are not.
pub async fn a_version_is_marked_until_it_is_deleted(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), create("b")]).await;
    let (run, ids) = remove(store, "a", 0).await;
    assert_eq!(marks(store, "a").await, [(0, true), (1, false)]);
    assert_eq!(marks(store, "b").await, [(0, false)], "a removal marks its own component");
    assert!(done(store.tree(address("a").at(0)).await)[0].removing);
    assert!(
        !done(store.snapshot(vec![address("a")]).await).components[&address("a").path()].removing
    );
    assert!(
        !done(store.list(None).await)[0].removing,
        "the component as a whole is not being removed"
    );
    let newest =
        |removing| vec![Expect::Newest { address: address("a"), state: Some((1, 0, removing)) }];
    done(try_commit(store, newest(false), vec![]).await);
    // What stood outside may be gone in part: a removal that failed leaves the mark.
    let failed = Op::EndRun { run, state: RunState::Failed, at: at(30) };
    commit(store, cancelled(&ids)).await;
    commit(store, vec![failed]).await;
    assert_eq!(marks(store, "a").await, [(0, true), (1, false)]);
    remove(store, "a", 1).await;
    done(try_commit(store, newest(true), vec![]).await);
    refused(try_commit(store, newest(false), vec![]).await, ErrorKind::Conflict);
    let delete = Op::Delete { address: address("a"), versions: vec![0, 1] };
    commit(store, vec![delete, create("a"), version("a", 1)]).await;
    assert_eq!(
        marks(store, "a").await,
        [(0, false), (1, false)],
        "a component that comes back is not being removed"
    );
    commit(store, vec![Op::Removing { address: address("a"), on: true }]).await;
    assert_eq!(
        marks(store, "a").await,
        [(0, true), (1, true)],
        "a component is removed with its versions"
    );
}

/// Nothing gets hold of a version that is being removed.
pub async fn nothing_gets_hold_of_a_marked_version(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), create("p")]).await;
    remove(store, "a", 0).await;
    let trigger = |version: u32| job("a", "go").target(exact("a", version, 0));
    for uses in [
        vec![label("a", 0)],
        vec![with_children(create("q"), &[("a", 1), ("a", 0)])],
        vec![with_children(revision("p", 0, 1), &[("a", 0)])],
        vec![start_run("p"), jobs(vec![trigger(0)])],
    ] {
        let error = try_commit(store, vec![], uses).await.expect_err("it is being removed");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(
            error.to_string().contains("a@0` is being removed"),
            "the error names the version: {error}"
        );
    }
    commit(
        store,
        vec![
            label("a", 1),
            with_children(create("q"), &[("a", 1)]),
            start_run("a"),
            jobs(vec![trigger(1)]),
        ],
    )
    .await;
    commit(store, vec![revision("a", 1, 1)]).await;
    // Its own removal goes on, and a label of it can be taken away.
    commit(store, vec![start_run("a"), jobs(vec![cleanup("a", 0)])]).await;
    commit(
        store,
        vec![Op::Label {
            address: address("a"),
            label: "none".to_owned(),
            version: None,
            at: at(6),
        }],
    )
    .await;
    remove(store, "p", 0).await;
    refused(try_commit(store, vec![], vec![revision("p", 0, 1)]).await, ErrorKind::Conflict);
    commit(store, vec![Op::Removing { address: address("a"), on: true }]).await;
    refused(try_commit(store, vec![], vec![label("a", 1)]).await, ErrorKind::Conflict);
    refused(
        try_commit(store, vec![], vec![with_children(create("r"), &[("a", 1)])]).await,
        ErrorKind::Conflict,
    );
}

/// A job that is spawned for a version that is being removed is cancelled.
pub async fn spawned_jobs_of_a_marked_version_are_cancelled(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "p", &["grow"]).await;
    commit(store, vec![create("a"), create("b")]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    remove(store, "a", 0).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(serde_json::json!(null)));
    let spawn = |name: &str| job(name, "go").key(name.to_owned());
    let claimed = |name: &str| job(name, "go").key(format!("claimed {name}")).claim(owner);
    end.spawned = vec![spawn("a"), spawn("b"), claimed("a"), claimed("b")];
    let committed = commit(store, vec![Op::Finish(Box::new(end))]).await;
    let spawned = &committed.spawned[0].1;
    assert!(job_row(store, spawned[0]).await.cancel_requested, "its version is being removed");
    assert!(!job_row(store, spawned[1]).await.cancel_requested);
    let told: Vec<_> =
        committed.claimed.iter().map(|claimed| (claimed.job, claimed.signals.cancel)).collect();
    assert_eq!(
        told,
        [(spawned[2], true), (spawned[3], false)],
        "who claims one hears of it at once"
    );
}

/// `Removable` heeds unfinished removals, and whether the versions are there.
pub async fn unfinished_removals_are_checked(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), create("c"), create("d")]).await;
    let check = async |name: &str, version: u32| {
        let expect = vec![Expect::Removable {
            versions: vec![address("d").at(0), address(name).at(version)],
        }];
        try_commit(store, expect, vec![]).await.map(|_| ())
    };
    done(check("a", 0).await);
    refused(check("absent", 0).await, ErrorKind::Conflict);
    refused(check("a", 2).await, ErrorKind::Conflict);
    let apply = commit(store, vec![start_run("a"), jobs(vec![job("a", "go")])]).await;
    done(check("a", 0).await);
    commit(store, cancelled(&apply.jobs)).await;
    let (run, ids) = remove(store, "a", 0).await;
    refused(check("a", 0).await, ErrorKind::Conflict);
    done(check("a", 1).await);
    commit(store, cancelled(&ids)).await;
    refused(check("a", 0).await, ErrorKind::Conflict);
    commit(store, vec![Op::EndRun { run, state: RunState::Cancelled, at: at(60) }]).await;
    done(check("a", 0).await);
    // The removal of a whole component, with that of one it holds.
    let committed =
        commit(store, vec![removal_of("a", None), jobs(vec![cleanup("a", 1), cleanup("c", 0)])])
            .await;
    for (name, version) in [("a", 0), ("a", 1), ("c", 0)] {
        refused(check(name, version).await, ErrorKind::Conflict);
    }
    done(check("d", 0).await);
    commit(store, cancelled(&committed.jobs)).await;
    done(check("c", 0).await);
    refused(check("a", 0).await, ErrorKind::Conflict);
}

/// `Unlabelled` heeds labels of the version alone.
pub async fn labels_of_a_version_are_checked(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), label("a", 1)]).await;
    let check = async |version: u32| {
        try_commit(
            store,
            vec![Expect::Unlabelled { address: address("a").at(version), but: None }],
            vec![],
        )
        .await
        .map(|_| ())
    };
    done(check(0).await);
    refused(check(1).await, ErrorKind::Conflict);
}

/// The health of one component is its part of the listing and of the jobs that did not succeed.
pub async fn health_is_of_the_component_and_what_it_holds(store: &dyn MetadataStore) {
    assert_eq!(done(store.health(address("a")).await), None);
    commit(store, vec![create("c"), create("other"), with_children(create("m"), &[("c", 0)])])
        .await;
    commit(store, vec![with_children(create("a"), &[("m", 0)])]).await;
    // The newest version of a child counts for those that hold it, and references of superseded
    // revisions do not.
    commit(
        store,
        vec![
            version("c", 1),
            with_children(create("b"), &[("other", 0)]),
            with_children(revision("b", 0, 1), &[("c", 1)]),
        ],
    )
    .await;
    let newest = job("c", "newest").target(exact("c", 1, 0));
    let new =
        vec![job("c", "old"), newest, job("other", "other"), job("a", "own"), job("m", "middle")];
    commit(store, vec![start_run("a"), jobs(new)]).await;
    let (listed, unhealthy) = (done(store.list(None).await), done(store.unhealthy().await));
    let names = |name: &str| match name {
        "a" => vec!["own", "middle"],
        "m" => vec!["middle"],
        "b" | "c" => vec!["newest"],
        _ => vec!["other"],
    };
    for name in ["a", "m", "b", "c", "other"] {
        let health =
            done(store.health(address(name)).await).unwrap_or_else(|| panic!("{name} is stored"));
        let line = listed.iter().find(|line| line.address.path() == address(name).path());
        assert_eq!(Some(&health.listed), line);
        let methods: Vec<&str> = health.unhealthy.iter().map(|job| job.method.as_str()).collect();
        assert_eq!(methods, names(name), "{name}");
        assert!(health.unhealthy.iter().all(|job| unhealthy.contains(job)));
    }
}

/// The detail of an event stays short, while the failure of the job is kept whole.
pub async fn details_of_events_stay_short(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let before = done(store.last_event().await);
    let text = "ä".repeat(1 << 20);
    commit(store, vec![finish(ids[0], 1, owner, Finished::Failed(failure(&text)))]).await;
    let failed =
        events_after(store, before).await.into_iter().find(|event| event.kind == "job.failed");
    let detail = failed.and_then(|event| event.detail).expect("the event has the message");
    assert!(detail.len() <= MAX_EVENT_DETAIL, "{} bytes", detail.len());
    assert!(
        detail.starts_with('ä') && detail.ends_with("bytes cut off]"),
        "what was cut off is marked"
    );
    assert_eq!(job_row(store, ids[0]).await.failure, Some(failure(&text)));
}
