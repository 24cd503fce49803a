//! Versions, revisions, trees and outputs.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    Address, ErrorKind, VersionRef,
    store::{Finished, MetadataStore, Op, OutputRow, PutAction, StoredVersion},
};

async fn newest(store: &dyn MetadataStore, name: &str) -> StoredVersion {
    let tree = done(store.tree(address(name)).await);
    tree.into_iter().next().unwrap_or_else(|| panic!("`{name}` was stored but is not there"))
}

/// The first version is 0.0; versions and revisions count from there.
pub async fn create_version_and_revision_are_numbered(store: &dyn MetadataStore) {
    let first = commit(store, vec![create("a")]).await;
    let second =
        commit(store, vec![revision("a", 0, 1), version("a", 1), revision("a", 1, 1)]).await;
    assert_eq!(first.components.len(), 1, "a commit tells the component of each put");
    assert_eq!(
        second.components,
        vec![first.components[0]; 3],
        "versions and revisions belong to the same component"
    );
    let found = newest(store, "a").await;
    assert_eq!(found.component, first.components[0]);
    assert_eq!(
        found.address,
        exact("a", 1, 1),
        "the newest version at its newest revision is read where none is named"
    );
    assert_eq!(found.document, document("a", 1, 1));
    assert!(found.newest);
    assert_eq!(found.next_version, 2);
    assert_eq!(found.uuid, put(PutAction::Revision, "a", 1, 1).uuid);
    assert_eq!(found.content_hash, put(PutAction::Revision, "a", 1, 1).content_hash);
    assert_eq!(
        (found.created_at, found.updated_at),
        (at(100), at(101)),
        "a revision keeps the time of its version"
    );
    let all = done(store.versions(address("a")).await);
    let addresses: Vec<Address> = all.iter().map(|version| version.address.clone()).collect();
    assert_eq!(
        addresses,
        [exact("a", 0, 1), exact("a", 1, 1)],
        "versions are ascending, each at its newest revision"
    );
    assert_eq!(all.iter().map(|version| version.newest).collect::<Vec<_>>(), [false, true]);
    assert!(done(store.tree(address("absent")).await).is_empty(), "the tree of nothing is empty");
    assert!(
        done(store.tree(address("a").at(7)).await).is_empty(),
        "the tree of an unknown version is empty"
    );
    assert!(
        done(store.tree(exact("a", 1, 7)).await).is_empty(),
        "the tree of an unknown revision is empty"
    );
}

/// Numbers must be the next ones.
pub async fn numbers_out_of_order_are_refused(store: &dyn MetadataStore) {
    let lone = Op::Put(put(PutAction::Revision, "a", 0, 1));
    refused(try_commit(store, vec![], vec![lone]).await, ErrorKind::Conflict);
    refused(try_commit(store, vec![], vec![version("a", 0)]).await, ErrorKind::Conflict);
    refused(
        try_commit(store, vec![], vec![Op::Put(put(PutAction::Create, "a", 1, 0))]).await,
        ErrorKind::Conflict,
    );
    commit(store, vec![create("a")]).await;
    for op in [
        create("a"),
        version("a", 0),
        version("a", 2),
        revision("a", 0, 0),
        revision("a", 0, 2),
        revision("a", 1, 1),
    ] {
        refused(try_commit(store, vec![], vec![op]).await, ErrorKind::Conflict);
    }
    let mut unnumbered = put(PutAction::Version, "a", 1, 0);
    unnumbered.address = address("a");
    refused(try_commit(store, vec![], vec![Op::Put(unnumbered)]).await, ErrorKind::InvalidInput);
    assert_eq!(newest(store, "a").await.address, exact("a", 0, 0));
}

/// A deleted version leaves a gap for good.
pub async fn version_numbers_are_not_reused(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), version("a", 1)]).await;
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![1] }]).await;
    assert_eq!(
        newest(store, "a").await.address,
        exact("a", 0, 0),
        "the newest version is the newest that is left"
    );
    assert_eq!(newest(store, "a").await.next_version, 2);
    refused(try_commit(store, vec![], vec![version("a", 1)]).await, ErrorKind::Conflict);
    commit(store, vec![version("a", 2)]).await;
    assert_eq!(newest(store, "a").await.address, exact("a", 2, 0));
}

/// Old revisions can be read by their address.
pub async fn superseded_revisions_keep_their_document(store: &dyn MetadataStore) {
    commit(store, vec![create("a"), revision("a", 0, 1), revision("a", 0, 2)]).await;
    for number in 0..3 {
        let tree = done(store.tree(exact("a", 0, number)).await);
        assert_eq!(tree.len(), 1, "revision {number} is kept");
        assert_eq!(
            tree[0].document,
            document("a", 0, number),
            "revision {number} keeps its document"
        );
        assert_eq!(tree[0].address, exact("a", 0, number));
        assert_eq!(tree[0].newest, number == 2, "only the newest revision is the newest");
        assert_eq!(tree[0].updated_at, at(i64::from(number)));
        assert_eq!(tree[0].content_hash, put(PutAction::Revision, "a", 0, number).content_hash);
    }
    assert_eq!(
        done(store.tree(address("a").at(0)).await)[0].address,
        exact("a", 0, 2),
        "without a revision the newest is read"
    );
}

/// `owes_jobs` and `content_of` belong to a version.
pub async fn owing_jobs_is_kept_per_version(store: &dyn MetadataStore) {
    let mut first = put(PutAction::Create, "a", 0, 0);
    first.owes_jobs = true;
    let mut second = put(PutAction::Version, "a", 1, 0);
    second.content_of = Some(0);
    commit(store, vec![Op::Put(first), Op::Put(second)]).await;
    let read = async || done(store.versions(address("a")).await);
    let owes = |versions: &[StoredVersion]| {
        versions.iter().map(|version| version.owes_jobs).collect::<Vec<_>>()
    };
    let versions = read().await;
    assert_eq!(owes(&versions), [true, false]);
    assert_eq!(
        versions.iter().map(|version| version.content_of).collect::<Vec<_>>(),
        [None, Some(0)]
    );
    commit(
        store,
        vec![
            Op::SetJobsPending { address: address("a").at(0), pending: false },
            Op::SetJobsPending { address: address("a"), pending: true },
        ],
    )
    .await;
    assert_eq!(owes(&read().await), [false, true], "without a version the newest is meant");
    assert!(done(store.list(None).await)[0].owes_jobs);
    refused(
        try_commit(
            store,
            vec![],
            vec![Op::SetJobsPending { address: address("b"), pending: true }],
        )
        .await,
        ErrorKind::NotFound,
    );
}

/// A shared child is read once, and the root comes first.
pub async fn trees_hold_each_version_once(store: &dyn MetadataStore) {
    let ops = vec![
        create("leaf"),
        with_children(create("left"), &[("leaf", 0)]),
        with_children(create("right"), &[("leaf", 0)]),
        with_children(create("root"), &[("left", 0), ("right", 0), ("leaf", 0)]),
        create("stranger"),
    ];
    commit(store, ops).await;
    let tree = done(store.tree(address("root")).await);
    let mut names: Vec<String> =
        tree.iter().map(|version| version.address.identifier.clone()).collect();
    assert_eq!(names[0], "root", "the version that was asked for comes first");
    names.sort();
    assert_eq!(
        names,
        ["leaf", "left", "right", "root"],
        "a tree has every version below its root once"
    );
    commit(store, vec![version("leaf", 1), revision("leaf", 1, 1)]).await;
    let tree = done(store.tree(address("left")).await);
    assert_eq!(
        tree[1].address,
        exact("leaf", 0, 0),
        "a reference names a version and follows no newer one"
    );
    assert!(!tree[1].newest);
    assert_eq!(tree[1].next_version, 2);
}

/// Each revision has its own references.
pub async fn edges_belong_to_a_revision(store: &dyn MetadataStore) {
    commit(store, vec![create("x"), create("y"), with_children(create("p"), &[("x", 0)])]).await;
    commit(store, vec![with_children(revision("p", 0, 1), &[("y", 0)]), revision("y", 0, 1)]).await;
    let old = done(store.tree(exact("p", 0, 0)).await);
    assert_eq!(old[1].address, exact("x", 0, 0), "an old revision keeps its references");
    let new = done(store.tree(address("p")).await);
    assert_eq!(
        new[1].address,
        exact("y", 0, 1),
        "a reference leads to the newest revision of its version"
    );
    let referrers = done(store.referrers(vec![address("x")]).await);
    assert_eq!(referrers.len(), 1);
    assert_eq!(
        (referrers[0].parent.clone(), referrers[0].child.clone()),
        (exact("p", 0, 0), address("x").at(0))
    );
    assert_eq!(
        (referrers[0].path.as_str(), referrers[0].current),
        ("children[0]", false),
        "a superseded reference says so"
    );
    let referrers = done(store.referrers(vec![address("y").at(0), address("y").at(3)]).await);
    assert_eq!(referrers.len(), 1);
    assert!(referrers[0].current);
    assert!(
        done(store.referrers(vec![address("y").at(3)]).await).is_empty(),
        "a version in the address is heeded"
    );
}

/// A reference needs a stored child, stored earlier or in the same batch.
pub async fn edges_need_a_child(store: &dyn MetadataStore) {
    refused(
        try_commit(store, vec![], vec![with_children(create("p"), &[("absent", 0)])]).await,
        ErrorKind::NotFound,
    );
    commit(store, vec![create("c")]).await;
    refused(
        try_commit(store, vec![], vec![with_children(create("p"), &[("c", 1)])]).await,
        ErrorKind::NotFound,
    );
    assert!(done(store.tree(address("p")).await).is_empty(), "a refused batch leaves nothing");
    commit(store, vec![with_children(create("p"), &[("c", 0)])]).await;
}

/// Outputs are shared by the revisions of a version and can be copied to another version.
pub async fn outputs_belong_to_the_version(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(null)));
    let output =
        |name: &str, value| OutputRow { name: name.to_owned(), value, blobs: vec![blob(name)] };
    end.outputs = vec![output("weights", json!({"w": 1})), output("index", json!(2))];
    commit(store, vec![Op::Finish(Box::new(end)), revision("a", 0, 1), version("a", 1)]).await;
    let outputs = async |at: Address| done(store.tree(at).await).remove(0).outputs;
    for number in 0..2 {
        let found = outputs(exact("a", 0, number)).await;
        assert_eq!(
            serde_json::Value::Object(found),
            json!({"weights": {"w": 1}, "index": 2}),
            "outputs belong to the version"
        );
    }
    assert!(outputs(address("a")).await.is_empty(), "a new version starts without outputs");
    let copy = |names: &[&str]| {
        let outputs = names.iter().map(|name| (*name).to_owned()).collect();
        Op::CopyOutputs { address: address("a"), from: 0, to: 1, outputs }
    };
    refused(try_commit(store, vec![], vec![copy(&["index", "absent"])]).await, ErrorKind::Conflict);
    assert!(outputs(address("a")).await.is_empty(), "a copy that fails leaves nothing");
    commit(store, vec![copy(&["index"])]).await;
    assert_eq!(outputs(address("a")).await.len(), 1, "only what is named is copied");
    assert_eq!(done(store.blobs_of(address("a"), vec![1]).await), [digest("index")]);
    commit(store, vec![copy(&["weights", "index"])]).await;
    assert_eq!(
        outputs(address("a")).await.len(),
        2,
        "outputs can be copied to another version, in place of what they were"
    );
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![0] }]).await;
    let blobs = done(store.blobs_of(address("a"), vec![1]).await);
    assert_eq!(blobs.len(), 2, "copied outputs refer to their blobs themselves");
    refused(try_commit(store, vec![], vec![copy(&["index"])]).await, ErrorKind::NotFound);
}

/// Which jobs set outputs is on record, in the order in which they ended; it outlives their
/// versions, not their component.
pub async fn setters_of_outputs_are_kept(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["fit", "publish", "index"]).await;
    run_of(store, "b", &["fit"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true), version("a", 1)]).await;
    let end = |id, names: &[&str]| {
        let mut end = finish_of(id, 1, owner, Finished::Succeeded(json!(null)));
        end.outputs = names
            .iter()
            .map(|name| OutputRow { name: (*name).to_owned(), value: json!(1), blobs: Vec::new() })
            .collect();
        Op::Finish(Box::new(end))
    };
    commit(store, vec![end(ids[2], &["index"])]).await;
    commit(store, vec![end(ids[1], &[]), end(ids[0], &["weights", "score"])]).await;
    let read = async |names: &[&str]| {
        let addresses = names.iter().map(|name| address(name)).collect();
        let writers = done(store.output_writers(addresses).await);
        writers
            .into_iter()
            .map(|writer| (writer.job, writer.target, writer.method, writer.outputs))
            .collect::<Vec<_>>()
    };
    let of = |id, method: &str, names: &[&str]| {
        (
            id,
            exact("a", 0, 0),
            method.to_owned(),
            names.iter().map(|name| (*name).to_owned()).collect(),
        )
    };
    let all = [of(ids[2], "index", &["index"]), of(ids[0], "fit", &["weights", "score"])];
    assert_eq!(read(&["b", "a", "absent"]).await, all);
    assert!(read(&["b"]).await.is_empty());
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![0] }]).await;
    assert_eq!(read(&["a"]).await, all, "history outlives its version");
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![1] }, create("a")]).await;
    assert!(read(&["a"]).await.is_empty(), "a component that comes back has no history");
}

/// Documents and names come back as they were.
pub async fn values_round_trip(store: &dyn MetadataStore) {
    let mut op = put(PutAction::Create, "", 0, 0);
    op.address = Address {
        version: Some(VersionRef { version: 0, revision: Some(0) }),
        ..Address::new("k", "ä 'x\" \u{1F980}")
    };
    op.document = json!({"i": i64::MIN, "u": u64::MAX, "f": 0.1 + 0.2, "g": 1e-308, "t": "a\u{0}\n\"", "n": null, "l": [[], {}], "ü": true});
    let expected = op.document.clone();
    let name = op.address.unversioned();
    commit(store, vec![Op::Put(op)]).await;
    let found = done(store.tree(name.clone()).await).remove(0);
    assert_eq!(found.document, expected, "a document comes back bit by bit");
    assert_eq!(found.address.unversioned(), name);
}
