//! References to blobs and the protocol of their deletion.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    Digest, ErrorKind,
    store::{Expect, Finished, JobId, JobRow, JobState, MetadataStore, Op, OutputRow},
};

async fn referenced(store: &dyn MetadataStore) -> Vec<Digest> {
    let mut all: Vec<Digest> =
        done(store.referenced_blobs(None).await).into_iter().map(|(digest, _)| digest).collect();
    all.sort();
    all
}

async fn rows(store: &dyn MetadataStore, ids: &[JobId]) -> Vec<JobRow> {
    let mut rows = Vec::new();
    for id in ids {
        rows.push(job_row(store, *id).await);
    }
    rows
}

fn digests(names: &[&str]) -> Vec<Digest> {
    let mut all: Vec<Digest> = names.iter().map(|name| digest(name)).collect();
    all.sort();
    all
}

/// Documents of all revisions, outputs and results count.
pub async fn references_follow_versions_outputs_and_results(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(
        store,
        vec![claim(&ids, owner, true), with_blobs(revision("a", 0, 1), &["doc", "shared"])],
    )
    .await;
    commit(
        store,
        vec![
            with_blobs(revision("a", 0, 2), &["newer"]),
            with_blobs(version("a", 1), &["v1", "shared"]),
        ],
    )
    .await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.blobs = vec![blob("result")];
    end.outputs = vec![OutputRow {
        name: "o".to_owned(),
        value: json!(1),
        blobs: vec![blob("output"), blob("shared")],
    }];
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
    assert_eq!(
        referenced(store).await,
        digests(&["v1", "shared"]),
        "references go with their version"
    );
}

/// A blob that is marked for deletion is not named until it is swept, and a blob that is named is
/// not marked.
pub async fn marked_blobs_are_not_named(store: &dyn MetadataStore) {
    commit(store, vec![with_blobs(create("a"), &["used"])]).await;
    let mut marked = mark(store, &["used", "orphan", "other"]).await;
    marked.sort();
    assert_eq!(marked, digests(&["orphan", "other"]), "only blobs without a reference are marked");
    let mut left = done(store.marked_blobs().await);
    left.sort();
    assert_eq!(
        left,
        digests(&["orphan", "other"]),
        "marked blobs are on record until they are swept"
    );
    assert_eq!(referenced(store).await, digests(&["used"]), "a marked blob is not referenced");
    refused(
        try_commit(store, vec![], vec![with_blobs(create("b"), &["fresh", "orphan"])]).await,
        ErrorKind::Conflict,
    );
    assert_eq!(referenced(store).await, digests(&["used"]));
    let (_, ids) = run_of(store, "c", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.blobs = vec![blob("other")];
    let left_out = commit(store, vec![Op::Finish(Box::new(end.clone()))]).await;
    assert_eq!(
        (left_out.swept, left_out.fenced),
        (vec![ids[0]], vec![]),
        "an end that names a marked blob is left out"
    );
    commit(store, vec![confirm(store, &["orphan", "other", "used"]).await]).await;
    assert!(done(store.marked_blobs().await).is_empty());
    assert_eq!(referenced(store).await, digests(&["used"]), "only marked blobs are forgotten");
    commit(store, vec![with_blobs(create("b"), &["orphan"]), Op::Finish(Box::new(end))]).await;
    assert_eq!(
        referenced(store).await,
        digests(&["used", "orphan", "other"]),
        "after the sweep a blob can be named again"
    );
}

/// An end whose blobs a sweep took, or may have taken, is left out; the other ends of the batch
/// count.
pub async fn ends_that_name_swept_blobs_are_left_out(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go", "other", "plain", "late"]).await;
    let owner = register(store).await;
    commit(store, vec![with_blobs(create("b"), &["used"]), claim(&ids[..3], owner, true)]).await;
    let epoch = done(store.snapshot(vec![]).await).sweep_epoch;
    let end = |index: usize, blobs: &[&str], sweep_epoch| {
        let mut end = finish_of(ids[index], 1, owner, Finished::Succeeded(json!(1)));
        end.outputs = vec![OutputRow {
            name: "o".to_owned(),
            value: json!(1),
            blobs: blobs.iter().map(|name| blob(name)).collect(),
        }];
        end.sweep_epoch = sweep_epoch;
        Op::Finish(Box::new(end))
    };
    mark(store, &["gone", "marked"]).await;
    commit(store, vec![confirm(store, &["gone"]).await]).await;
    let before = rows(store, &ids).await;
    for (name, seen) in [("gone", epoch), ("marked", epoch + 1)] {
        let batch = vec![end(0, &["used", name], Some(seen)), claim(&ids[3..], owner, true)];
        let left_out = commit(store, batch).await;
        assert_eq!(
            (left_out.swept, left_out.fenced, left_out.invalidated),
            (vec![ids[0]], vec![], true),
            "{name}"
        );
        assert!(left_out.claimed.is_empty(), "what may have been decided on it is left out, too");
    }
    assert_eq!(rows(store, &ids).await, before, "nothing is written of an end that is left out");
    assert_eq!(referenced(store).await, digests(&["used"]));
    let plain = Op::Finish(Box::new(finish_of(ids[2], 1, owner, Finished::Succeeded(json!(3)))));
    let mixed =
        commit(store, vec![end(0, &["gone"], Some(epoch)), end(1, &["used"], Some(epoch)), plain])
            .await;
    assert_eq!(
        (mixed.swept, mixed.fenced),
        (vec![ids[0]], vec![]),
        "a blob to which something refers was not swept"
    );
    let states: Vec<JobState> = rows(store, &ids).await.iter().map(|row| row.state).collect();
    assert_eq!(
        states,
        [JobState::Running, JobState::Succeeded, JobState::Succeeded, JobState::Queued]
    );
    let again = commit(store, vec![end(0, &["gone"], Some(epoch + 1))]).await;
    assert!(again.swept.is_empty() && !again.invalidated, "looked for after the sweep");
    assert_eq!(referenced(store).await, digests(&["used", "gone"]));
}

/// A plan that was made before a sweep does not commit after it.
pub async fn sweeps_are_counted(store: &dyn MetadataStore) {
    let epoch = async || done(store.snapshot(vec![address("a")]).await).sweep_epoch;
    let before = epoch().await;
    assert_eq!(
        done(store.snapshot(vec![]).await).sweep_epoch,
        before,
        "an empty snapshot has the epoch, too"
    );
    let check =
        async |at| try_commit(store, vec![Expect::SweepEpoch(at)], vec![]).await.map(|_| ());
    done(check(before).await);
    mark(store, &["x"]).await;
    assert_eq!(epoch().await, before, "only a completed sweep counts");
    done(check(before).await);
    commit(store, vec![confirm(store, &["x"]).await]).await;
    assert_ne!(epoch().await, before);
    refused(check(before).await, ErrorKind::Conflict);
    done(check(epoch().await).await);
}

/// Marks and confirmations are refused once another call has taken a newer lock.
pub async fn a_lost_sweep_lock_counts_no_more(store: &dyn MetadataStore) {
    let first = done(store.sweep_lock().await).expect("nothing sweeps");
    assert!(done(first.holds().await));
    let (old, digests) = (first.token(), vec![digest("x")]);
    commit(store, vec![Op::MarkForDeletion { digests: digests.clone(), lock: old }]).await;
    drop(first);
    let second = done(store.sweep_lock().await).expect("nothing sweeps");
    assert!(second.token() > old, "each lock has a higher number");
    for op in [
        Op::MarkForDeletion { digests: digests.clone(), lock: old },
        Op::ConfirmDeleted { digests: digests.clone(), lock: old },
    ] {
        refused(try_commit(store, vec![], vec![op]).await, ErrorKind::Conflict);
    }
    assert_eq!(done(store.marked_blobs().await), digests, "they belong to the next holder");
    commit(store, vec![Op::ConfirmDeleted { digests, lock: second.token() }]).await;
    assert!(done(store.marked_blobs().await).is_empty());
}

/// At most one call holds the sweep lock. Dropping the lock frees it.
pub async fn the_sweep_lock_is_exclusive(store: &dyn MetadataStore) {
    let right = done(store.sweep_lock().await);
    assert!(right.is_some());
    assert!(done(store.sweep_lock().await).is_none(), "the lock is held");
    drop(right);
    assert!(done(store.sweep_lock().await).is_some());
    let again = done(store.sweep_lock().await);
    assert!(again.is_some(), "a dropped lock is free");
}
