//! How many SQL statements the usual batches and reads take.

use crate::support::*;
use superduper_core::store::{Durability, MetadataStore, Op, RunState, Timestamp};
use superduper_sqlite::SqliteStore;

#[tokio::test]
async fn usual_batches_take_few_statements() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    let owner = store.register_worker(Default::default()).await.expect("an owner");
    let start = store.statements();
    let applied = store.commit(apply("a"), Durability::Full).await.expect("the batch is valid");
    let of_apply = store.statements() - start;
    assert!(of_apply <= 7, "an apply of one component with two jobs took {of_apply} statements");

    commit(&store, vec![claim(applied.jobs[0], owner)]).await;
    let start = store.statements();
    let next =
        commit(&store, vec![succeeded(applied.jobs[0], owner), claim(applied.jobs[1], owner)])
            .await;
    let of_finish = store.statements() - start;
    assert_eq!(next.claimed.len(), 1);
    assert!(of_finish <= 3, "an end with the claim of the next job took {of_finish} statements");

    let start = store.statements();
    let run = applied.run.expect("the batch has a run");
    commit(
        &store,
        vec![
            succeeded(applied.jobs[1], owner),
            Op::EndRun { run, state: RunState::Succeeded, at: Timestamp(4) },
        ],
    )
    .await;
    let of_end = store.statements() - start;
    assert!(of_end <= 4, "an end with the end of the run took {of_end} statements");
}

#[tokio::test]
async fn reads_take_few_statements() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    store.commit(apply("a"), Durability::Relaxed).await.expect("the batch is valid");
    let names: Vec<String> = (0..1000).map(|n| format!("c{n}")).collect();
    let children: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut ops: Vec<Op> = names.iter().map(|name| create(name, &[])).collect();
    ops.push(create("root", &children));
    commit(&store, ops).await;

    let start = store.statements();
    assert!(
        store.snapshot(vec![address("absent")]).await.expect("a snapshot").components.is_empty()
    );
    assert_eq!(store.statements() - start, 1, "a snapshot of what is not there");
    let start = store.statements();
    assert_eq!(store.snapshot(vec![address("a")]).await.expect("a snapshot").jobs.len(), 2);
    assert_eq!(store.statements() - start, 2, "a snapshot of a component with jobs");
    let start = store.statements();
    let many =
        store.snapshot(names.iter().map(|name| address(name)).collect()).await.expect("a snapshot");
    assert_eq!(
        (many.components.len(), store.statements() - start),
        (1000, 2),
        "a snapshot of 1000 components"
    );
    let start = store.statements();
    let tree = store.tree(address("root")).await.expect("a tree");
    assert_eq!((tree.len(), store.statements() - start), (1001, 1), "a tree of 1001 components");
}
