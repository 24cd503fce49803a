//! References to blobs and the protocol of their deletion.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    Digest, ErrorKind,
    store::{Expect, Finished, MetadataStore, Op, OutputRow},
};

async fn referenced(store: &dyn MetadataStore) -> Vec<Digest> {
    let mut all: Vec<Digest> = done(store.referenced_blobs(None).await).into_iter().map(|(digest, _)| digest).collect();
    all.sort();
    all
}

fn digests(names: &[&str]) -> Vec<Digest> {
    let mut all: Vec<Digest> = names.iter().map(|name| digest(name)).collect();
    all.sort();
    all
}

/// Documents of all revisions, outputs and results count.
pub async fn references_follow_versions_outputs_and_results(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = enlist(store).await;
    commit(store, vec![claim(&ids, owner, true), with_blobs(revision("a", 0, 1), &["doc", "shared"])]).await;
    commit(store, vec![with_blobs(revision("a", 0, 2), &["newer"]), with_blobs(version("a", 1), &["v1", "shared"])]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.blobs = vec![blob("result")];
    end.outputs = vec![OutputRow { name: "o".to_owned(), value: json!(1), blobs: vec![blob("output"), blob("shared")] }];
    commit(store, vec![Op::Finish(Box::new(end))]).await;
    let all = ["doc", "shared", "newer", "v1", "result", "output"];
    assert_eq!(referenced(store).await, digests(&all), "each referenced blob is told once");
    let sizes = done(store.referenced_blobs(None).await);
    assert!(sizes.contains(&(digest("result"), 6)), "with its size");
    let of = async |versions: Vec<u32>| {
        let mut found = done(store.blobs_of(address("a"), versions).await);
        found.sort();
        found
    };
    assert_eq!(of(vec![0]).await, digests(&["doc", "shared", "newer", "result", "output"]));
    assert_eq!(of(vec![1]).await, digests(&["v1", "shared"]));
    assert_eq!(of(vec![0, 1]).await, digests(&all));
    assert!(done(store.blobs_of(address("absent"), vec![0]).await).is_empty());
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![0] }]).await;
    assert_eq!(referenced(store).await, digests(&["v1", "shared"]), "references go with their version");
}

/// What is doomed is not named until it is swept; what is named is not doomed.
pub async fn doomed_blobs_are_not_named(store: &dyn MetadataStore) {
    commit(store, vec![with_blobs(create("a"), &["used"])]).await;
    let doomed = commit(store, vec![Op::Doom { digests: vec![digest("used"), digest("orphan"), digest("other")] }]).await.doomed;
    let mut doomed = doomed;
    doomed.sort();
    assert_eq!(doomed, digests(&["orphan", "other"]), "only what nothing refers to is doomed");
    let mut left = done(store.doomed_blobs().await);
    left.sort();
    assert_eq!(left, digests(&["orphan", "other"]), "doomed blobs are on record until they are swept");
    assert_eq!(referenced(store).await, digests(&["used"]), "a doomed blob is not referenced");
    refused(try_commit(store, vec![], vec![with_blobs(create("b"), &["fresh", "orphan"])]).await, ErrorKind::Conflict);
    assert_eq!(referenced(store).await, digests(&["used"]));
    let (_, ids) = run_of(store, "c", &["go"]).await;
    let owner = enlist(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.blobs = vec![blob("other")];
    refused(try_commit(store, vec![], vec![Op::Finish(Box::new(end.clone()))]).await, ErrorKind::Conflict);
    commit(store, vec![Op::Swept { digests: vec![digest("orphan"), digest("other"), digest("used")] }]).await;
    assert!(done(store.doomed_blobs().await).is_empty());
    assert_eq!(referenced(store).await, digests(&["used"]), "only doomed blobs are forgotten");
    commit(store, vec![with_blobs(create("b"), &["orphan"]), Op::Finish(Box::new(end))]).await;
    assert_eq!(referenced(store).await, digests(&["used", "orphan", "other"]), "after the sweep a blob can be named anew");
}

/// A plan that was made before a sweep does not commit after it.
pub async fn sweeps_are_counted(store: &dyn MetadataStore) {
    let epoch = async || done(store.snapshot(vec![address("a")]).await).sweep_epoch;
    let before = epoch().await;
    assert_eq!(done(store.snapshot(vec![]).await).sweep_epoch, before, "an empty snapshot has the epoch, too");
    let check = async |at| try_commit(store, vec![Expect::SweepEpoch(at)], vec![]).await.map(|_| ());
    done(check(before).await);
    commit(store, vec![Op::Doom { digests: vec![digest("x")] }]).await;
    assert_eq!(epoch().await, before, "only a completed sweep counts");
    done(check(before).await);
    commit(store, vec![Op::Swept { digests: vec![digest("x")] }]).await;
    assert_ne!(epoch().await, before);
    refused(check(before).await, ErrorKind::Conflict);
    done(check(epoch().await).await);
}
