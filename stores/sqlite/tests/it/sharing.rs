//! Several stores and processes on one folder.

use crate::support::*;
use std::{
    path::Path,
    process::{Child, Command},
    time::Duration,
};
use superduper_core::store::{Durability, MetadataStore, Op, Timestamp};
use superduper_sqlite::SqliteStore;

const FOLDER: &str = "SUPERDUPER_TEST_FOLDER";
const ROLE: &str = "SUPERDUPER_TEST_ROLE";

/// Start this test binary again; it runs [`child`] alone.
pub(crate) fn start_child(folder: &Path, role: &str) -> Child {
    let program = std::env::current_exe().expect("a test has a program");
    let mut command = Command::new(program);
    command.args(["--exact", "sharing::child", "--nocapture"]).env(FOLDER, folder).env(ROLE, role);
    command.spawn().expect("the program starts")
}

/// The lock of a sweep ends with its file, and once another call has a higher number.
#[tokio::test]
async fn a_sweep_lock_whose_file_was_deleted_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.db");
    let (one, two) = (
        SqliteStore::open(&path).expect("a new folder"),
        SqliteStore::open(&path).expect("a shared database"),
    );
    let lock = async |store: &SqliteStore| store.sweep_lock().await.expect("asks");
    let (file, aside) = (path.join("sweep.lock"), folder.path().join("aside"));

    let first = lock(&one).await.expect("nothing sweeps");
    assert!(first.holds().await.expect("asks"));
    std::fs::rename(&file, &aside).expect("the lock has a file");
    assert!(!first.holds().await.expect("asks"), "its file has no name");

    let second = lock(&two).await.expect("the old file locks nothing");
    assert!(second.holds().await.expect("asks"));
    assert!(!first.holds().await.expect("asks"), "its file was replaced");

    std::fs::rename(&aside, &file).expect("the old file is put back");
    assert!(!first.holds().await.expect("asks"), "another call has a higher number");
    assert!(!second.holds().await.expect("asks"), "its file was replaced");
}

/// What a child process does; nothing in the test run itself.
#[tokio::test]
async fn child() {
    let (Ok(folder), Ok(role)) = (std::env::var(FOLDER), std::env::var(ROLE)) else { return };
    let store = SqliteStore::open(&folder).expect("a shared database");
    if let Some(role) = role.strip_prefix("conformance ") {
        return superduper_conformance::metadata::sharing::child(&store, role).await;
    }
    if role == "stand" {
        store.set_lease(Duration::from_millis(400));
        let owner = store.register_worker(Default::default()).await.expect("an owner");
        let committed =
            store.commit(apply("paused"), Durability::Full).await.expect("the batch is valid");
        commit(&store, vec![claim(committed.jobs[0], owner)]).await;
        std::fs::write(Path::new(&folder).join("taken"), committed.jobs[0].to_string())
            .expect("a file");
        while store.lease_lapses() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let late = commit(&store, vec![succeeded(committed.jobs[0], owner)]).await;
        let next = commit(&store, vec![claim(committed.jobs[0], owner)]).await;
        std::fs::write(
            Path::new(&folder).join("late"),
            format!("{} {}", late.fenced.len(), next.claimed[0].attempt),
        )
        .expect("a file");
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    for n in 0..50 {
        store
            .commit(apply(&format!("{role}-{n}")), Durability::Relaxed)
            .await
            .expect("contention is waited out");
    }
}

#[test]
fn contention_is_waited_out() {
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let folder = folder.path();
            scope.spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let store = SqliteStore::open(folder).expect("a database, new or in use");
                runtime.block_on(async {
                    for n in 0..100 {
                        let durability =
                            if n % 10 == 0 { Durability::Full } else { Durability::Relaxed };
                        store
                            .commit(apply(&format!("{thread}-{n}")), durability)
                            .await
                            .expect("contention is waited out");
                    }
                });
            });
        }
    });
    let store = SqliteStore::open(folder.path()).expect("a database");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    assert_eq!(runtime.block_on(store.list(None)).expect("a listing").len(), 800);
    assert_eq!(runtime.block_on(store.jobs(Default::default())).expect("jobs").len(), 1600);
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .expect("a program `kill`");
    assert!(status.success());
}

/// Poll for something that happens soon; gives how long it took.
async fn soon(what: &str, mut happened: impl AsyncFnMut() -> bool) -> Duration {
    let begun = std::time::Instant::now();
    while !happened().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn an_owner_that_stands_still_for_its_lease_can_be_robbed_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    let mut child = start_child(folder.path(), "stand");
    soon("taking a job", async || folder.path().join("taken").exists()).await;
    for _ in 0..50 {
        assert!(
            store.dead_workers().await.expect("owners").is_empty(),
            "an owner that beats is alive"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // No time of day matters: the owner's row is of another century.
    let other =
        rusqlite::Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    other.execute("UPDATE lease SET created_at = ?1", [i64::MAX]).expect("a row");
    assert!(store.dead_workers().await.expect("owners").is_empty());
    signal(&child, "-STOP");
    let taken = soon("the end of the lease", async || {
        !store.dead_workers().await.expect("owners").is_empty()
    })
    .await;
    assert!(
        taken >= Duration::from_millis(250),
        "a lease of 400 ms, last beaten up to 100 ms ago, lasted {taken:?}"
    );
    other.execute("UPDATE lease SET created_at = 0", []).expect("a row");
    assert!(store.live_workers().await.expect("owners").is_empty(), "it stands still");
    let dead = store.dead_workers().await.expect("owners");
    assert_eq!(
        commit(&store, vec![Op::Reclaim { owners: dead.clone(), at: Timestamp(9) }])
            .await
            .reclaimed
            .len(),
        1
    );
    assert!(
        store.dead_workers().await.expect("owners").is_empty(),
        "an owner without jobs is of no interest"
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("owners")).expect("the folder of locks").count(),
        1,
        "it may go on"
    );
    signal(&child, "-CONT");
    soon("its late end", async || folder.path().join("late").exists()).await;
    let late = std::fs::read_to_string(folder.path().join("late")).expect("a file");
    assert_eq!(late, "1 2", "the late end was fenced, and the owner took the job anew");
    assert!(
        store.dead_workers().await.expect("owners").is_empty(),
        "an owner that goes on is alive again"
    );
    child.kill().expect("it runs");
    child.wait().expect("it ran");
    assert_eq!(store.dead_workers().await.expect("owners"), dead, "and dies like any other");
}

#[tokio::test]
async fn other_programs_locks_are_waited_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    let other =
        rusqlite::Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    let release = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        other.execute_batch("COMMIT").expect("nothing to commit");
    });
    store.commit(apply("a"), Durability::Full).await.expect("the lock is waited out");
    release.await.expect("the other program ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_commits_share_a_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = std::sync::Arc::new(SqliteStore::open(folder.path()).expect("a new database"));
    let before = store.transactions();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            // Every tenth batch fails, since its component exists already.
            let batch = apply(&if n % 10 == 9 { "c0".to_owned() } else { format!("c{n}") });
            tokio::spawn(async move { store.commit(batch, Durability::Full).await.is_ok() })
        })
        .collect();
    let mut succeeded = 0;
    for task in tasks {
        succeeded += usize::from(task.await.expect("the task ran"));
    }
    assert_eq!(
        store.list(None).await.expect("a listing").len(),
        succeeded,
        "a failing batch takes back only itself"
    );
    assert!((180..=181).contains(&succeeded), "{succeeded}");
    assert!(store.transactions() - before < 150, "commits that wait share a transaction");
}

#[tokio::test]
async fn a_lock_file_without_an_owner_stops_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    // As after an enlisting whose commit failed: its file is locked, and its id is given again.
    std::fs::create_dir(folder.path().join("owners")).expect("a folder");
    let file = std::fs::File::create(folder.path().join("owners/1.lock")).expect("a file");
    file.lock().expect("nobody else has it");
    let enlisted =
        tokio::time::timeout(Duration::from_secs(20), store.register_worker(Default::default()))
            .await
            .expect("it does not wait");
    let owner = enlisted.expect("an owner");
    assert_ne!(owner.0, 1);
    assert!(store.dead_workers().await.expect("owners").is_empty());
    store.commit(apply("a"), Durability::Full).await.expect("the writer goes on");
}
