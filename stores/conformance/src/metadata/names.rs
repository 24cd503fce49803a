//! Labels and new names.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    Digest, ErrorKind,
    store::{Cursor, Expect, JobFilter, JobId, MetadataStore, Op, RunId, StoredVersion},
};

fn label(name: &str, label: &str, version: Option<u32>) -> Op {
    Op::Label { address: address(name), label: label.to_owned(), version, at: at(5) }
}

fn expect(name: &str, label: &str, version: Option<u32>) -> Vec<Expect> {
    vec![Expect::Label { address: address(name), label: label.to_owned(), version }]
}

async fn labels(store: &dyn MetadataStore) -> Vec<String> {
    let rows = done(store.labels(None).await);
    rows.into_iter().map(|row| format!("{} {}", row.address, row.label)).collect()
}

/// A label points at one version, moves, and is listed.
pub async fn labels_move(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), create("b")]).await;
    let before = done(store.last_event().await);
    commit(
        store,
        vec![label("a", "prod", Some(0)), label("a", "test", Some(1)), label("b", "prod", Some(0))],
    )
    .await;
    let path = |name: &str| address(name).path();
    assert_eq!(
        labels(store).await,
        [
            format!("{}@0 prod", path("a")),
            format!("{}@1 test", path("a")),
            format!("{}@0 prod", path("b"))
        ],
        "labels are listed by component and name"
    );
    commit(
        store,
        vec![label("a", "prod", Some(1)), label("a", "test", None), label("a", "none", None)],
    )
    .await;
    assert_eq!(
        labels(store).await,
        [format!("{}@1 prod", path("a")), format!("{}@0 prod", path("b"))]
    );
    assert_eq!(done(store.labels(Some(address("b"))).await).len(), 1);
    assert_eq!(
        kinds_after(store, before).await,
        ["component.labelled"; 5],
        "each move is an event, and nothing else is"
    );
    refused(
        try_commit(store, vec![], vec![label("a", "prod", Some(7))]).await,
        ErrorKind::NotFound,
    );
    refused(
        try_commit(store, vec![], vec![label("absent", "prod", Some(0))]).await,
        ErrorKind::NotFound,
    );
    assert_eq!(labels(store).await.len(), 2);
}

/// A commit can depend on where a label points.
pub async fn labels_are_checked(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1)]).await;
    let first = expect("a", "prod", None);
    done(try_commit(store, first.clone(), vec![label("a", "prod", Some(0))]).await);
    refused(try_commit(store, first, vec![label("a", "prod", Some(1))]).await, ErrorKind::Conflict);
    done(try_commit(store, expect("a", "prod", Some(0)), vec![label("a", "prod", Some(1))]).await);
    refused(try_commit(store, expect("a", "prod", Some(0)), vec![]).await, ErrorKind::Conflict);
    let but = |version: u32, but: Option<&str>| {
        let but = but.map(str::to_owned);
        vec![Expect::Unlabelled { address: exact("a", version, 0), but }]
    };
    let unlabelled = |version: u32| but(version, None);
    done(try_commit(store, unlabelled(0), vec![]).await);
    refused(try_commit(store, unlabelled(1), vec![]).await, ErrorKind::Conflict);
    done(try_commit(store, but(1, Some("prod")), vec![]).await);
    refused(try_commit(store, but(1, Some("test")), vec![]).await, ErrorKind::Conflict);
    done(try_commit(store, vec![], vec![label("a", "test", Some(1))]).await);
    refused(try_commit(store, but(1, Some("prod")), vec![]).await, ErrorKind::Conflict);
}

/// A labelled version is not deleted alone; labels go with their component.
pub async fn labels_keep_their_version(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1), label("a", "prod", Some(0))]).await;
    let delete =
        |versions: &[u32]| Op::Delete { address: address("a"), versions: versions.to_vec() };
    refused(try_commit(store, vec![], vec![delete(&[0])]).await, ErrorKind::InUse);
    commit(store, vec![delete(&[1])]).await;
    commit(store, vec![delete(&[0])]).await;
    assert!(labels(store).await.is_empty());
    commit(store, vec![create("a")]).await;
    assert!(labels(store).await.is_empty(), "a component that comes back has no labels");
}

/// Everything that names a component has its new name.
pub async fn renaming_keeps_everything(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["go"]).await;
    commit(
        store,
        vec![
            revision("a", 0, 1),
            with_children(create("p"), &[("a", 0)]),
            label("a", "prod", Some(0)),
        ],
    )
    .await;
    let old = done(store.tree(address("a")).await).remove(0);
    let rename =
        |from: &str, to: &str| Op::Rename { from: address(from), to: address(to), at: at(6) };
    let rewrite = |name: &str, revision: u32, value: &str| Op::Rewrite {
        address: exact(name, 0, revision),
        document: json!({"now": value}),
        uuid: Digest::of(value.as_bytes()),
        content_hash: Digest::of(b"content"),
    };
    refused(try_commit(store, vec![], vec![rename("a", "p")]).await, ErrorKind::Conflict);
    refused(try_commit(store, vec![], vec![rename("absent", "q")]).await, ErrorKind::NotFound);
    let before = done(store.last_event().await);
    commit(
        store,
        vec![
            rewrite("a", 0, "old"),
            rewrite("a", 1, "new"),
            rewrite("p", 0, "parent"),
            rename("a", "b"),
        ],
    )
    .await;
    assert_eq!(kinds_after(store, before).await, ["component.renamed"]);
    documents_are_those_written_again(store, &old).await;
    what_belongs_to_it_follows(store, run, ids[0]).await;
    commit(store, vec![create("a")]).await;
    assert_ne!(
        done(store.tree(address("a")).await)[0].component,
        old.component,
        "the old name is free"
    );
}

/// After the renaming from `a` to `b`.
async fn documents_are_those_written_again(store: &dyn MetadataStore, old: &StoredVersion) {
    assert!(done(store.tree(address("a")).await).is_empty(), "nothing is left under the old name");
    let new = done(store.tree(address("b")).await).remove(0);
    assert_eq!(
        (new.component, new.address.clone(), new.created_at),
        (old.component, exact("b", 0, 1), old.created_at)
    );
    assert_eq!((&new.document, new.uuid), (&json!({"now": "new"}), Digest::of(b"new")));
    let first = done(store.tree(exact("b", 0, 0)).await).remove(0);
    assert_eq!((first.document, first.uuid), (json!({"now": "old"}), Digest::of(b"old")));
    let parent = done(store.tree(address("p")).await);
    assert_eq!((parent.len(), &parent[0].document), (2, &json!({"now": "parent"})));
}

/// After the renaming from `a` to `b`: references, jobs, runs, labels and events.
async fn what_belongs_to_it_follows(store: &dyn MetadataStore, run: RunId, job: JobId) {
    assert_eq!(done(store.referrers(vec![address("b")]).await).len(), 1);
    assert_eq!(job_row(store, job).await.target, exact("b", 0, 0), "jobs follow");
    assert_eq!(
        done(store.jobs(JobFilter { target: Some(address("b")), ..JobFilter::default() }).await)
            .len(),
        1
    );
    assert_eq!(
        done(store.runs(Default::default()).await)[0].root.path(),
        address("b").path(),
        "run {run} follows"
    );
    assert_eq!(done(store.labels(None).await)[0].address, address("b").at(0), "labels follow");
    assert!(!done(store.events(Cursor::default(), Some(run), 10).await).is_empty());
}
