//! Deleting versions and components.

use super::fixture::*;
use superduper_core::{
    ErrorKind,
    store::{Cursor, Finished, JobFilter, MetadataStore, Op},
};

fn delete(name: &str, versions: &[u32]) -> Op {
    Op::Delete { address: address(name), versions: versions.to_vec() }
}

/// Without versions there is no component; a new one of that name is another one and starts at 0.
pub async fn a_removed_component_is_gone_and_starts_anew(store: &dyn MetadataStore) {
    let old =
        commit(store, vec![with_blobs(create("a"), &["x"]), version("a", 1), revision("a", 1, 1)])
            .await
            .components[0];
    commit(store, vec![Op::Removing { address: address("a"), on: true }, delete("a", &[0, 1])])
        .await;
    assert!(done(store.list(None).await).is_empty(), "a component without versions is not listed");
    assert!(done(store.tree(address("a")).await).is_empty());
    assert!(done(store.tree(exact("a", 1, 0)).await).is_empty(), "revisions go with their version");
    assert!(done(store.snapshot(vec![address("a")]).await).components.is_empty());
    assert!(
        done(store.referenced_blobs(None).await).is_empty(),
        "references to blobs go with their version"
    );
    let new = commit(store, vec![create("a")]).await.components[0];
    assert_ne!(new, old, "a component that comes back is another one");
    let found = done(store.tree(address("a")).await).remove(0);
    assert_eq!(
        (found.address, found.next_version, found.removing),
        (exact("a", 0, 0), 1, false),
        "it starts again"
    );
    commit(store, vec![delete("a", &[0]), delete("absent", &[0]), delete("a", &[5])]).await;
}

/// The other versions stay as they are.
pub async fn deleting_a_version_keeps_the_others(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), version("a", 2)]).await;
    commit(store, vec![delete("a", &[1])]).await;
    assert_eq!(done(store.list(None).await)[0].versions, [0, 2]);
    commit(store, vec![delete("a", &[2, 1])]).await;
    assert_eq!(done(store.list(None).await)[0].address, exact("a", 0, 0));
    commit(store, vec![revision("a", 0, 1), version("a", 3)]).await;
    assert_eq!(done(store.list(None).await)[0].versions, [0, 3]);
}

/// What is referenced by a current revision is not deleted.
pub async fn current_references_keep_a_version(store: &dyn MetadataStore) {
    commit(store, vec![create("c"), with_children(create("p"), &[("c", 0)])]).await;
    refused(try_commit(store, vec![], vec![delete("c", &[0])]).await, ErrorKind::InUse);
    commit(store, vec![version("p", 1)]).await;
    refused(try_commit(store, vec![], vec![delete("c", &[0])]).await, ErrorKind::InUse);
    assert_eq!(
        done(store.tree(address("p").at(0)).await).len(),
        2,
        "a refused deletion leaves everything"
    );
    commit(store, vec![version("c", 1), delete("c", &[1])]).await;
}

/// Superseded revisions that refer to a deleted version go.
pub async fn superseded_references_go_along(store: &dyn MetadataStore) {
    let ops = vec![
        create("c"),
        create("d"),
        with_blobs(with_children(create("p"), &[("c", 0), ("d", 0)]), &["old"]),
    ];
    commit(store, ops).await;
    commit(
        store,
        vec![
            with_children(revision("p", 0, 1), &[("d", 0)]),
            with_children(revision("p", 0, 2), &[("d", 0)]),
        ],
    )
    .await;
    commit(store, vec![delete("c", &[0])]).await;
    assert!(
        done(store.tree(exact("p", 0, 0)).await).is_empty(),
        "a superseded revision goes with what it refers to"
    );
    assert_eq!(done(store.tree(exact("p", 0, 1)).await).len(), 2, "other revisions stay");
    assert_eq!(done(store.tree(address("p")).await).len(), 2);
    assert!(
        done(store.referenced_blobs(None).await).is_empty(),
        "references of the dropped revision go with it"
    );
    let referrers = done(store.referrers(vec![address("d")]).await);
    assert_eq!(referrers.len(), 2, "no reference is left of the dropped revision");
}

/// Neighbouring deletions are one.
pub async fn trees_are_deleted_in_any_order(store: &dyn MetadataStore) {
    let tree = || {
        vec![
            create("c"),
            with_children(create("m"), &[("c", 0)]),
            with_children(create("p"), &[("m", 0), ("c", 0)]),
        ]
    };
    for order in [["p", "m", "c"], ["c", "m", "p"], ["m", "p", "c"]] {
        commit(store, tree()).await;
        commit(store, order.map(|name| delete(name, &[0])).to_vec()).await;
        assert!(done(store.list(None).await).is_empty());
    }
}

/// Jobs, runs and events stay, with the name of their component.
pub async fn history_outlives_its_component(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(serde_json::json!(1)));
    end.blobs = vec![blob("result")];
    let old = job_row(store, ids[0]).await.component;
    commit(store, vec![Op::Finish(Box::new(end))]).await;
    assert_eq!(done(store.referenced_blobs(None).await).len(), 1, "a result refers to its blobs");
    commit(store, vec![delete("a", &[0])]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.component, row.target.clone()),
        (old, exact("a", 0, 0)),
        "a job keeps the name of its component"
    );
    assert_eq!(row.result, Some(serde_json::json!(1)));
    assert_eq!(done(store.runs(Default::default()).await)[0].root, address("a").at(0));
    assert!(!done(store.events(Cursor::default(), Some(run), 100).await).is_empty());
    assert!(
        done(store.referenced_blobs(None).await).is_empty(),
        "results of deleted versions do not count as references"
    );
    commit(store, vec![create("a")]).await;
    assert!(
        done(store.snapshot(vec![address("a")]).await).jobs.is_empty(),
        "a new component has no jobs of an old one"
    );
    assert!(done(store.referenced_blobs(None).await).is_empty());
    let filter = JobFilter { target: Some(address("a")), ..JobFilter::default() };
    assert_eq!(
        done(store.jobs(filter).await).len(),
        1,
        "jobs are found by the name of a removed component"
    );
}

/// The mark of removal shows everywhere and can be taken back.
pub async fn removing_is_marked(store: &dyn MetadataStore) {
    commit(store, vec![create("a")]).await;
    let before = done(store.last_event().await);
    commit(store, vec![Op::Removing { address: address("a"), on: true }]).await;
    assert!(done(store.list(None).await)[0].removing);
    assert!(done(store.tree(address("a")).await)[0].removing);
    commit(store, vec![Op::Removing { address: address("a"), on: true }]).await;
    commit(store, vec![Op::Removing { address: address("a"), on: false }]).await;
    assert!(!done(store.list(None).await)[0].removing);
    commit(store, vec![delete("a", &[0])]).await;
    let expected = ["component.removing", "component.kept", "component.removed"];
    assert_eq!(
        kinds_after(store, before).await,
        expected,
        "each change of a component is an event, and nothing else is"
    );
    refused(
        try_commit(store, vec![], vec![Op::Removing { address: address("a"), on: true }]).await,
        ErrorKind::NotFound,
    );
}
