//! Documents of many megabytes cost time where they are read, and only there.

use crate::support::*;
use rusqlite::Connection;
use serde_json::json;
use std::time::{Duration, Instant};
use superduper_core::store::{Batch, Durability, Expect, MetadataStore, Op};
use superduper_sqlite::SqliteStore;

/// So many components beside the one with the long document.
const MANY: usize = 400;

fn long(op: Op, megabytes: usize) -> Op {
    let Op::Put(mut put) = op else { panic!("only a put has a document") };
    put.document = json!({"text": "x".repeat(megabytes << 20)});
    Op::Put(put)
}

fn delete(name: &str) -> Op {
    Op::Delete { address: address(name), versions: vec![0] }
}

/// A store with many components around one with a long document; gives their names.
async fn around_a_long_document(folder: &std::path::Path) -> (SqliteStore, Vec<String>) {
    let store = SqliteStore::open(folder).expect("a new database");
    let names: Vec<String> = (0..MANY).map(|number| format!("c{number}")).collect();
    let mut ops: Vec<Op> = names[..MANY / 2].iter().map(|name| create(name, &[])).collect();
    ops.push(long(create("long", &[]), 40));
    ops.extend(names[MANY / 2..].iter().map(|name| create(name, &[])));
    commit(&store, ops).await;
    (store, names)
}

/// How long it takes SQLite to read the long document once.
fn reading(folder: &std::path::Path) -> Duration {
    let sql = Connection::open(folder.join("metadata.sqlite")).expect("our file");
    let text = "SELECT substr(document, -1) FROM version WHERE length(document) > 1000000";
    let begun = Instant::now();
    let _end: String = sql.query_row(text, [], |row| row.get(0)).expect("the long document");
    begun.elapsed()
}

#[tokio::test]
async fn fault_22_a_removal_does_not_read_a_long_document_at_each_lookup() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, names) = around_a_long_document(folder.path()).await;
    let once = reading(folder.path());
    let children: Vec<_> = names.iter().map(|name| address(name).at(0)).collect();
    let begun = Instant::now();
    assert!(store.referrers(children.clone()).await.expect("references").is_empty());
    let expect = vec![
        Expect::Unreferenced { children: children.clone() },
        Expect::Removable { versions: children },
    ];
    let ops = names.iter().map(|name| delete(name)).collect();
    store.commit(Batch { expect, ops }, Durability::Relaxed).await.expect("deletes");
    let took = begun.elapsed();
    assert_eq!(store.list(None).await.expect("lists").len(), 1);
    // It was read more than once for each component; now for those that become its neighbours.
    assert!(took < once * 100, "removing {MANY} took {took:?}, reading the document once {once:?}");
}

/// How long it takes to look up and check what refers to the children of a parent with a document
/// of so many megabytes.
async fn references(megabytes: usize) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    let names: Vec<String> = (0..MANY).map(|number| format!("c{number}")).collect();
    let children: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut ops: Vec<Op> = names.iter().map(|name| create(name, &[])).collect();
    ops.push(long(create("parent", &children), megabytes));
    commit(&store, ops).await;
    let mut going: Vec<_> = names.iter().map(|name| address(name).at(0)).collect();
    let begun = Instant::now();
    assert_eq!(store.referrers(going.clone()).await.expect("references").len(), MANY);
    going.push(address("parent").at(0));
    let expect = vec![Expect::Unreferenced { children: going }];
    let mut ops: Vec<Op> = names.iter().map(|name| delete(name)).collect();
    ops.push(delete("parent"));
    store.commit(Batch { expect, ops }, Durability::Relaxed).await.expect("deletes");
    begun.elapsed()
}

#[tokio::test]
async fn fault_22_a_parent_with_a_long_document_is_read_once_for_all_its_children() {
    let (plain, long) = (references(0).await, references(40).await);
    assert!(long < plain * 30, "{long:?} with a document of 40 MB, {plain:?} without");
}

#[tokio::test]
async fn fault_22_the_health_of_one_component_takes_no_listing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    commit(&store, (0..3000).map(|number| create(&format!("c{number}"), &[])).collect()).await;
    let begun = Instant::now();
    store.list(None).await.expect("lists");
    let listing = begun.elapsed();
    let start = store.statements();
    let begun = Instant::now();
    for number in 0..10 {
        assert!(store.health(address(&format!("c{number}"))).await.expect("reads").is_some());
    }
    assert!(begun.elapsed() < listing * 5, "ten took {:?}, a listing {listing:?}", begun.elapsed());
    assert_eq!(store.statements() - start, 20);
}

#[tokio::test]
async fn a_database_of_format_2_gets_the_indexes_that_came_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    commit(&store, vec![create("a", &[])]).await;
    drop(store);
    let sql = Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    let schema = |sql: &Connection| -> Vec<String> {
        let mut statement = sql
            .prepare("SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
            .expect("a statement");
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("rows")
    };
    let new = schema(&sql);
    // The programs that wrote format 2 made none, the first alone, or both.
    for indexes in
        ["DROP INDEX version_key; DROP INDEX run_removal;", "DROP INDEX run_removal;", ""]
    {
        let back = "PRAGMA user_version = 2; UPDATE meta SET value = 2 WHERE name = 'format';";
        sql.execute_batch(&format!("{indexes}{WITHOUT_FORMAT_3}{back}"))
            .expect("as an older program made it");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    drop(
                        SqliteStore::open(folder.path())
                            .expect("one of them makes the indexes, all open"),
                    )
                });
            }
        });
        assert_eq!(schema(&sql), new);
        let format: i64 =
            sql.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
        assert_eq!(format, 3);
    }
    let store = SqliteStore::open(folder.path()).expect("opens");
    commit(&store, vec![delete("a")]).await;
}
