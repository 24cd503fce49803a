//! What is on disk: reopening, foreign files, newer formats, damaged rows.

use crate::support::*;
use rusqlite::Connection;
use std::path::Path;
use superduper_core::{
    Digest, ErrorKind,
    store::{
        BlobRow, Durability, JobId, JobSignal, MetadataStore, Op, RunFilter, RunId, RunState,
        Timestamp, check_readable,
    },
};
use superduper_sqlite::SqliteStore;

fn bytes_of(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries =
        std::fs::read_dir(folder).expect("the folder exists").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("a file")))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new").join("my.db");
    let store = SqliteStore::open(&path).expect("a missing folder is made");
    let committed = store.commit(apply("a"), Durability::Full).await.expect("the batch is valid");
    let owner = store.register_worker(Default::default()).await.expect("an owner");
    commit(&store, vec![claim(committed.jobs[0], owner), succeeded(committed.jobs[0], owner)])
        .await;
    let read = async |store: &SqliteStore| {
        let jobs = store.jobs(Default::default()).await.expect("jobs");
        let tree = store.tree(address("a")).await.expect("a tree");
        let runs = store.runs(RunFilter::default()).await.expect("runs");
        (
            jobs,
            tree,
            runs,
            store
                .events(superduper_core::store::Cursor::default(), None, 100)
                .await
                .expect("events"),
        )
    };
    let before = read(&store).await;
    drop(store);
    let store = SqliteStore::open(&path).expect("the folder has a database");
    assert_eq!(read(&store).await, before);
    assert_eq!((before.0.len(), before.1.len(), before.2.len(), before.3.len()), (2, 1, 1, 5));
    assert!(store.location().ends_with("metadata.sqlite"));
    assert_eq!(store.capabilities().shared.as_deref(), Some(&*path));
}

#[tokio::test]
async fn a_folder_with_other_files_is_fine() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("notes.txt"), "mine").expect("a file");
    let store = SqliteStore::open(folder.path()).expect("other files do no harm");
    assert!(store.list(None).await.expect("a listing").is_empty());
    assert_eq!(std::fs::read_to_string(folder.path().join("notes.txt")).expect("a file"), "mine");
}

#[test]
fn foreign_files_are_refused_and_left_alone() {
    let other_database = |path: &Path| {
        let connection = Connection::open(path).expect("a file");
        connection
            .execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")
            .expect("a table");
    };
    let text = |path: &Path| {
        std::fs::write(path, "not a database, but long enough to have a header ".repeat(20))
            .expect("a file")
    };
    let empty = |path: &Path| std::fs::write(path, "").expect("a file");
    for name in ["other database", "text", "empty"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metadata.sqlite");
        match name {
            "other database" => other_database(&path),
            "text" => text(&path),
            _ => empty(&path),
        }
        let before = bytes_of(folder.path());
        let error = SqliteStore::open(folder.path()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Format, "{name}: {error:?}");
        assert!(
            error.to_string().contains("metadata.sqlite") && error.hint().is_some(),
            "{name}: {error}"
        );
        assert_eq!(bytes_of(folder.path()), before, "{name}: nothing is changed");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.db");
    std::fs::write(&file, "x").expect("a file");
    let error = SqliteStore::open(&file).expect_err("a file is no folder");
    assert_eq!(error.kind(), ErrorKind::Format, "{error:?}");
}

#[test]
fn newer_formats_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(SqliteStore::open(folder.path()).expect("a new database"));
    let file = folder.path().join("metadata.sqlite");
    Connection::open(&file)
        .and_then(|connection| connection.execute_batch("PRAGMA user_version = 1000"))
        .expect("our file");
    let before = bytes_of(folder.path());
    let error = SqliteStore::open(folder.path()).expect_err("the format is newer");
    assert_eq!(error.kind(), ErrorKind::Format, "{error:?}");
    assert!(
        error.to_string().contains("format 1000") && error.to_string().contains("metadata.sqlite"),
        "{error}"
    );
    assert_eq!(bytes_of(folder.path()), before, "nothing is changed");
}

/// A database as the first format had it, with one applied component.
async fn first_format(folder: &Path) {
    let store = SqliteStore::open(folder).expect("a new database");
    store.commit(apply("a"), Durability::Full).await.expect("the batch is valid");
    drop(store);
    let back = "DROP TABLE label; DROP TABLE metric; DROP TABLE checkpoint; ALTER TABLE artifact_ref DROP COLUMN checkpoint; \
        PRAGMA user_version = 1; UPDATE meta SET value = 1 WHERE name = 'format';";
    let back = format!("{WITHOUT_FORMAT_3}{back}");
    Connection::open(folder.join("metadata.sqlite"))
        .and_then(|sql| sql.execute_batch(&back))
        .expect("our file");
}

#[tokio::test]
async fn an_older_format_is_brought_forward_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    first_format(folder.path()).await;
    let backup = folder.path().join("metadata.sqlite.format-1");
    let store = SqliteStore::open(folder.path()).expect("an older format");
    assert_eq!(store.tree(address("a")).await.expect("a tree").len(), 1);
    drop(store);
    let old = Connection::open(&backup).expect("the old database is kept");
    let format: i64 = old.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
    let rows: i64 =
        old.query_row("SELECT count(*) FROM version", [], |row| row.get(0)).expect("a number");
    assert_eq!((format, rows), (1, 1));
    let kept = std::fs::metadata(&backup).and_then(|meta| meta.modified()).expect("a file");
    drop(SqliteStore::open(folder.path()).expect("opens again"));
    assert_eq!(
        std::fs::metadata(&backup).and_then(|meta| meta.modified()).expect("a file"),
        kept,
        "one migration, one backup"
    );
}

#[tokio::test]
async fn a_failing_migration_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    first_format(folder.path()).await;
    let file = folder.path().join("metadata.sqlite");
    // The second statement of the step finds its name taken.
    Connection::open(&file)
        .and_then(|sql| sql.execute_batch("CREATE TABLE metric (mine)"))
        .expect("our file");
    let error = SqliteStore::open(folder.path()).expect_err("a step fails");
    assert!(error.to_string().contains("from format 1 to format 3"), "{error}");
    let sql = Connection::open(&file).expect("our file");
    let tables: i64 = sql
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'label'", [], |row| row.get(0))
        .expect("a number");
    let format: i64 = sql.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
    assert_eq!((tables, format), (0, 1), "the whole step is taken back");
    sql.execute_batch("DROP TABLE metric").expect("ours no longer");
    drop(sql);
    let store = SqliteStore::open(folder.path()).expect("goes on where it stopped");
    assert_eq!(store.tree(address("a")).await.expect("a tree").len(), 1);
}

#[tokio::test]
async fn many_open_an_older_format_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    first_format(folder.path()).await;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                drop(SqliteStore::open(folder.path()).expect("one of them migrates, all open"))
            });
        }
    });
}

#[test]
fn an_interrupted_creation_is_no_obstacle() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("metadata.sqlite.new"), "half a file").expect("a file");
    drop(SqliteStore::open(folder.path()).expect("a draft is made anew"));
    assert!(!folder.path().join("metadata.sqlite.new").exists());
}

#[tokio::test]
async fn a_damaged_row_hides_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    store.commit(apply("bad"), Durability::Full).await.expect("the batch is valid");
    commit(&store, vec![create("parent", &["bad"]), create("good", &[])]).await;
    let other = Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    let damage = "UPDATE version SET document = '{\"cut off', uuid = x'00' WHERE component = 1; \
        UPDATE run SET data = 'no'; UPDATE job SET state = 4, failure = 'no', method = cast(x'ff' AS TEXT); UPDATE event SET kind = 99;";
    other.execute_batch(damage).expect("valid SQL");
    assert_eq!(store.list(None).await.expect("a listing").len(), 3);
    assert_eq!(store.versions(address("bad")).await.expect("versions").len(), 1);
    assert_eq!(
        store
            .snapshot(vec![address("bad"), address("good")])
            .await
            .expect("a snapshot")
            .components
            .len(),
        2
    );
    assert_eq!(store.jobs(Default::default()).await.expect("jobs").len(), 2);
    assert_eq!(store.runs(Default::default()).await.expect("runs").len(), 1);
    assert_eq!(store.unhealthy().await.expect("jobs").len(), 1);
    assert_eq!(
        store
            .events(superduper_core::store::Cursor::default(), None, 10)
            .await
            .expect("events")
            .len(),
        5
    );
    assert_eq!(store.tree(address("good")).await.expect("a tree").len(), 1);
    for (name, count) in [("bad", 1), ("parent", 2)] {
        let tree = store.tree(address(name)).await.expect("the others are told");
        let damaged: Vec<_> =
            tree.iter().filter(|stored| check_readable(&stored.document, "it").is_err()).collect();
        assert_eq!((tree.len(), damaged.len()), (count, 1));
        let error = check_readable(&damaged[0].document, &damaged[0].address)
            .expect_err("the document is damaged");
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
        assert!(error.to_string().contains("test.Kind/bad@0.0 cannot be read: EOF"), "{error}");
    }
    let runs = store.runs(Default::default()).await.expect("runs");
    assert!(check_readable(&runs[0].data, "it").is_err(), "{runs:?}");
    assert_eq!(
        store.check().await.expect("checks"),
        ["what is recorded of run 1 cannot be read: expected ident at line 1 column 2"]
    );
}

/// The check of references looks at versions in another way than SQLite's own; both count the same.
#[tokio::test]
async fn rows_that_refer_to_nothing_are_counted_as_sqlite_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("opens");
    let blob = |name: &str| BlobRow {
        path: name.to_owned(),
        digest: Digest::of(name.as_bytes()),
        size: 1,
    };
    for name in ["child", "parent", "other"] {
        let Op::Put(mut put) = create(name, if name == "parent" { &["child"] } else { &[] }) else {
            panic!("a put")
        };
        put.blobs = vec![blob("one"), blob("two"), blob(name)];
        commit(
            &store,
            vec![
                Op::Put(put),
                run(name),
                Op::Jobs { run: None, jobs: vec![job(name, "a", &[]), job(name, "b", &[0])] },
            ],
        )
        .await;
    }
    assert!(store.check().await.expect("checks").is_empty());
    let other = Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    let one = Digest::of(b"one").to_hex();
    let damage = format!(
        "PRAGMA foreign_keys = OFF; DELETE FROM version WHERE component < 3; DELETE FROM artifact WHERE digest = unhex('{one}'); \
        DELETE FROM job WHERE id = 1; INSERT INTO label VALUES (77, 'x', 0, 0);"
    );
    other.execute_batch(&damage).expect("damaged");
    let text = "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2";
    let mut statement = other.prepare(text).expect("a statement");
    let line = |row: &rusqlite::Row<'_>| {
        let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{count} rows of `{table}` refer to rows of `{parent}` that do not exist"))
    };
    let sqlites: Vec<String> =
        statement.query_map([], line).and_then(Iterator::collect).expect("rows");
    let ours = store.check().await.expect("checks");
    assert_eq!(ours, sqlites);
    for wanted in [
        "6 rows of `artifact_ref` refer to rows of `version`",
        "3 rows of `artifact_ref` refer to rows of `artifact`",
    ] {
        assert!(ours.iter().any(|line| line.starts_with(wanted)), "{wanted:?} is not in {ours:?}");
    }
    assert_eq!(ours.len(), 6, "{ours:?}");
}

#[tokio::test]
async fn changes_without_an_event_are_kept_until_their_run_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a new database");
    let owner = store.register_worker(Default::default()).await.expect("an owner");
    let (first, second) = (commit_run(&store, "a").await, commit_run(&store, "b").await);
    let sql = Connection::open(folder.path().join("metadata.sqlite")).expect("our file");
    let rows = || {
        sql.query_row("SELECT count(*) FROM job_change", [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    let ahead = |job: JobId| Op::Claim {
        jobs: vec![job],
        owner,
        start: false,
        pool: None,
        at: Timestamp(2),
    };
    for (run, jobs) in [&first, &second] {
        commit(&store, vec![ahead(jobs[0])]).await;
        commit(&store, vec![succeeded(jobs[0], owner), ahead(jobs[1])]).await;
        let refused = commit(
            &store,
            vec![Op::EndRun { run: *run, state: RunState::Succeeded, at: Timestamp(4) }],
        )
        .await;
        assert!(refused.invalidated, "one job is left");
    }
    assert_eq!(rows(), 4, "one row a commit");
    for ((run, jobs), left) in [(&first, 2), (&second, 0)] {
        // The mark is of the same commit.
        let ask = Op::Signal { jobs: vec![jobs[1]], signal: JobSignal::Cancel };
        commit(
            &store,
            vec![
                ask,
                succeeded(jobs[1], owner),
                Op::EndRun { run: *run, state: RunState::Succeeded, at: Timestamp(5) },
            ],
        )
        .await;
        assert_eq!(rows(), left);
    }
}

async fn commit_run(store: &SqliteStore, name: &str) -> (RunId, Vec<JobId>) {
    let committed = store.commit(apply(name), Durability::Full).await.expect("the batch is valid");
    (committed.run.expect("the batch has a run"), committed.jobs)
}
