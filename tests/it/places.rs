//! Where a database is opened: foreign folders, texts that are no paths, folders that go away,
//! databases that are only read.

use crate::{
    process::program,
    support::{refused, says},
};
use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};
use superduper::{Keep, blocking, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "places.Note")]
struct Note {
    identifier: String,
    text: String,
    #[component(breaking)]
    edition: u32,
    blob: Option<Artifact<Bytes>>,
}

fn note(identifier: &str) -> Note {
    Note { identifier: identifier.into(), text: "x".into(), edition: 1, blob: None }
}

/// Names below a folder, with the bytes of files.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, bytes);
        }
    }
    found
}

#[tokio::test]
async fn b17_a_foreign_folder_or_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    let before = content(folder.path());
    for mode in ["create", "existing", "read only"] {
        let builder = Db::builder().at(folder.path()).unwrap();
        let builder = match mode {
            "create" => builder,
            "existing" => builder.existing(),
            _ => builder.read_only(),
        };
        says(
            &refused(builder.build().await),
            ErrorKind::Format,
            &["is not a component database", "`src`", "nothing was changed"],
        );
    }
    says(
        &refused(Db::open(folder.path().join("src/main.rs")).await),
        ErrorKind::Format,
        &["it is a file"],
    );
    assert_eq!(content(folder.path()), before);
}

#[tokio::test]
async fn b17_new_and_empty_folders_and_interrupted_creations_become_databases() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["missing", "empty", "mounted", "interrupted"] {
        let path = folder.path().join(name);
        match name {
            "missing" => {}
            "mounted" => std::fs::create_dir_all(path.join("lost+found")).unwrap(),
            "interrupted" => {
                std::fs::create_dir(&path).unwrap();
                for file in ["write.lock", "metadata.sqlite.new", "metadata.sqlite.new-journal"] {
                    std::fs::write(path.join(file), "").unwrap();
                }
            }
            _ => std::fs::create_dir(&path).unwrap(),
        }
        Db::open(&path).await.unwrap().apply(note(name)).await.unwrap();
        // Files that come later are none of ours.
        std::fs::write(path.join("README.txt"), "mine").unwrap();
        assert_eq!(Db::open(&path).await.unwrap().list().await.unwrap().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn b17_what_is_no_path_is_refused_with_a_hint() {
    for (text, kind, parts) in [
        ("~/x", ErrorKind::InvalidInput, ["`~`", "./~/x"]),
        ("~", ErrorKind::InvalidInput, ["`~`", "./~"]),
        ("~someone/x", ErrorKind::InvalidInput, ["`~`", "./~someone"]),
        ("sqlite:x", ErrorKind::InvalidInput, ["`sqlite:`", "file:///folder"]),
        ("file:x", ErrorKind::InvalidInput, ["`file:`", "file:///folder"]),
        ("file://x", ErrorKind::InvalidInput, ["does not name a folder", "three slashes"]),
        ("memory:", ErrorKind::InvalidInput, ["`memory:`", "`memory://`"]),
        ("memory://x", ErrorKind::InvalidInput, ["no names", "`memory://`"]),
        (":memory:", ErrorKind::InvalidInput, ["SQLite", "memory://"]),
        ("s3:bucket", ErrorKind::InvalidInput, ["`s3:`", "./s3:bucket"]),
        ("s3://bucket", ErrorKind::Unsupported, ["`s3://`", "artifacts_at"]),
        ("postgres://host/x", ErrorKind::Unsupported, ["`postgres://`", "open a folder"]),
        ("C:\\x", ErrorKind::InvalidInput, ["Windows", "./C:"]),
        ("", ErrorKind::InvalidInput, ["empty", "my.db"]),
    ] {
        says(&refused(Db::open(text).await), kind, &parts);
        assert!(text.is_empty() || !Path::new(text).exists(), "{text} was made");
    }
    for text in ["~/x", "s3:bucket", "file:x", ""] {
        says(&refused(Db::builder().artifacts_at(text)), ErrorKind::InvalidInput, &[]);
        assert!(text.is_empty() || !Path::new(text).exists(), "{text} was made");
    }
}

#[tokio::test]
async fn b17_a_path_too_long_for_sqlite_is_refused_and_the_longest_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let of_length = |bytes: usize| {
        let mut path = base.clone();
        while path.as_os_str().len() + 202 < bytes {
            path.push("d".repeat(200));
        }
        path.push("e".repeat(bytes - path.as_os_str().len() - 1));
        assert_eq!(path.as_os_str().len(), bytes);
        path
    };
    let error = refused(Db::open(of_length(600)).await);
    says(&error, ErrorKind::InvalidInput, &["has 600 bytes", "at most 484", "shorter"]);
    says(&refused(Db::open(of_length(485)).await), ErrorKind::InvalidInput, &["has 485 bytes"]);
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0, "nothing was made");
    let db = Db::open(of_length(484)).await.unwrap();
    db.apply(note("a")).await.unwrap();
    assert!(db.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn b17_a_folder_deleted_moved_or_replaced_while_open_fails_applies() {
    for what in ["deleted", "moved", "replaced"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.db");
        let db = Db::open(&path).await.unwrap();
        db.apply(note("a")).await.unwrap();
        match what {
            "deleted" => std::fs::remove_dir_all(&path).unwrap(),
            _ => std::fs::rename(&path, folder.path().join("away")).unwrap(),
        }
        if what == "replaced" {
            Db::open(&path).await.unwrap().apply(note("other")).await.unwrap();
        }
        // Also one that would change nothing, and reads: what they tell is not there.
        for identifier in ["b", "a"] {
            let parts = [
                if what == "replaced" { "replaced by another one" } else { "moved or deleted" },
                "open the database again",
            ];
            says(&refused(db.apply(note(identifier)).await), ErrorKind::Store, &parts);
        }
        says(&refused(db.list().await), ErrorKind::Store, &["since this program opened it"]);
        drop(db);
        assert_eq!(path.exists(), what == "replaced", "{what}: nothing was made anew");
        let left = if what == "deleted" { continue } else { folder.path().join("away") };
        assert_eq!(Db::open(left).await.unwrap().list().await.unwrap().len(), 1, "{what}");
    }
}

#[tokio::test]
async fn b17_a_folder_whose_name_is_no_text_works_with_job_processes() {
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"raw-\xff\xfe"[..], b"colon:s 100%20?#", b"new\nline"] {
        let path = folder.path().join(std::ffi::OsString::from_vec(name.to_vec()));
        let db = Db::builder()
            .at(&path)
            .unwrap()
            .executor("process")
            .program(program())
            .build()
            .await
            .unwrap();
        let applied = db.apply(crate::process::task("t", "fine")).await.unwrap();
        assert_ne!(applied.result::<u32>("work").unwrap(), std::process::id());
        assert!(db.verify().await.unwrap().is_sound());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "a second database was made"
        );
    }
}

#[tokio::test]
async fn b17_existing_opens_what_is_there_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.db");
    let existing = |path: &Path| Db::builder().existing().at(path).unwrap().build();
    says(
        &refused(existing(&path).await),
        ErrorKind::NotFound,
        &["no database in", "no such folder"],
    );
    says(
        &refused(Db::builder().at(&path).unwrap().read_only().build().await),
        ErrorKind::NotFound,
        &["no database in"],
    );
    says(
        &refused(existing(folder.path()).await),
        ErrorKind::NotFound,
        &["no database in", "has no database"],
    );
    says(
        &refused(Db::builder().existing().in_memory().build().await),
        ErrorKind::NotFound,
        &["in memory"],
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    Db::open(&path).await.unwrap().apply(note("a")).await.unwrap();
    let db = existing(&path).await.unwrap();
    db.apply(note("b")).await.unwrap();
    assert_eq!(db.list().await.unwrap().len(), 2);
    let elsewhere = folder.path().join("elsewhere");
    let opened =
        Db::builder().at(&path).unwrap().artifacts_at(&elsewhere).unwrap().existing().build().await;
    says(&refused(opened), ErrorKind::NotFound, &["no artifacts in", "mounted"]);
    assert!(!elsewhere.exists());
}

/// The text of each call that must be refused.
async fn refusals(db: &Db, bundle: PathBuf) -> Vec<Error> {
    let job = superduper::store::JobId(1);
    vec![
        refused(db.apply(note("new")).await),
        refused(db.apply(note("a")).await),
        refused(db.apply(note("a")).detach().await),
        refused(db.remove::<Note>("a").await),
        refused(db.rename("places.Note/a", "places.Note/b").await),
        refused(db.label("places.Note/a", "prod").await),
        refused(db.move_label("places.Note/a", "prod", None).await),
        refused(db.unlabel("places.Note/a", "prod").await),
        refused(db.rollback("places.Note/a", 0_u32).await),
        refused(db.prune_all(Keep::last(1)).await),
        refused(db.gc(false).await),
        refused(db.verify().repair(true).await),
        refused(db.import(bundle).await),
        refused(db.resume().await),
        refused(db.retry(job).await),
        refused(db.cancel(job).await),
        refused(db.unblock(job).await),
        refused(db.block(job, "no").await),
    ]
}

#[tokio::test]
async fn b17_a_database_opened_for_reading_is_read_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bundle) = (folder.path().join("my.db"), folder.path().join("a.tar"));
    {
        let db = Db::open(&path).await.unwrap();
        for edition in 1..=2 {
            let blob = Some(Artifact::new(Bytes::from(vec![7_u8; 300])));
            db.apply(Note { edition, blob, ..note("a") }).await.unwrap();
        }
        db.label("places.Note/a@0", "first").await.unwrap();
        db.export("places.Note/a", &bundle).await.unwrap();
    }
    // What a crash leaves must stay as it is.
    std::fs::create_dir_all(path.join("artifacts/incoming")).unwrap();
    std::fs::write(path.join("artifacts/incoming/leftover"), "half").unwrap();
    let of_sqlite = |path: &Path| {
        path.ends_with("metadata.sqlite-shm") || path.ends_with("metadata.sqlite-wal")
    };
    let without = |content: BTreeMap<PathBuf, Vec<u8>>| {
        content.into_iter().filter(|(path, _)| !of_sqlite(path)).collect::<BTreeMap<_, _>>()
    };
    let before = without(content(&path));
    let db = Db::builder().at(&path).unwrap().read_only().build().await.unwrap();
    assert_eq!(db.list().await.unwrap()[0].versions, [0, 1]);
    let loaded: Note = db.load("a@first").await.unwrap();
    assert_eq!((loaded.edition, loaded.blob.unwrap().get().await.unwrap().len()), (1, 300));
    assert!(db.verify().await.unwrap().is_sound());
    assert!(
        db.plan(Note { edition: 3, ..note("a") }).await.unwrap().to_string().contains("edition")
    );
    assert!(db.gc(true).await.unwrap().blobs.is_empty());
    db.export("places.Note/a", folder.path().join("b.tar")).await.unwrap();
    assert!(
        db.plan_import(&bundle).await.is_ok()
            && db.prune_all(Keep::last(1)).dry_run().await.is_ok()
    );
    for error in refusals(&db, bundle).await {
        says(&error, ErrorKind::Unsupported, &["opened for reading only", "read_only()"]);
    }
    // What another process writes meanwhile is seen.
    let writer = Db::open(&path).await.unwrap();
    writer.apply(note("b")).await.unwrap();
    assert_eq!(db.list().await.unwrap().len(), 2);
    writer.remove::<Note>("b").await.unwrap();
    drop((writer, db));
    let after = without(content(&path));
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().filter(|path| !path.ends_with("sweep.lock")).collect::<Vec<_>>()
    );
    assert!(path.join("artifacts/incoming/leftover").exists());
}

#[tokio::test]
async fn b17_an_older_format_is_not_brought_forward_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    drop(Db::open(&path).await.unwrap());
    let connection = rusqlite::Connection::open(path.join("metadata.sqlite")).unwrap();
    connection.execute_batch("PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(connection);
    let before = std::fs::read(path.join("metadata.sqlite")).unwrap();
    let error = refused(Db::builder().at(&path).unwrap().read_only().build().await);
    says(&error, ErrorKind::Format, &["has format 1", "without `read_only()`"]);
    assert_eq!(std::fs::read(path.join("metadata.sqlite")).unwrap(), before);
}

#[test]
fn fault_21_a_database_without_a_runtime_is_an_error() {
    /// A runtime that is none of tokio's.
    fn wait<T>(work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
            std::thread::yield_now();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let parts = ["outside of a tokio runtime", "#[tokio::main]", "superduper::blocking"];
    says(&refused(wait(Db::open(folder.path().join("none.db")))), ErrorKind::Unsupported, &parts);
    says(&refused(wait(Db::in_memory())), ErrorKind::Unsupported, &parts);
    assert!(!folder.path().join("none.db").exists());
    for place in ["memory", "folder"] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let db = match place {
            "memory" => runtime.block_on(Db::in_memory()).unwrap(),
            _ => runtime.block_on(Db::open(folder.path().join("my.db"))).unwrap(),
        };
        let blob = Some(Artifact::new(Bytes::from("bytes")));
        let with_blob = Note { blob, ..note("a") };
        let loaded: Note = runtime.block_on(async {
            db.apply(with_blob.clone()).await.unwrap();
            db.load("a").await.unwrap()
        });
        for error in [
            refused(wait(db.apply(note("b")).into_future())),
            refused(wait(
                db.apply(Note { edition: 2, ..with_blob.clone() }).detach().into_future(),
            )),
            refused(wait(db.remove::<Note>("a").into_future())),
            refused(wait(db.gc(false))),
            refused(wait(db.resume().into_future())),
            refused(wait(db.wait(superduper::store::JobId(1), std::time::Duration::ZERO))),
            refused(wait(db.events().next())),
            refused(wait(db.export("places.Note/a", folder.path().join("x.tar")).into_future())),
        ] {
            says(&error, ErrorKind::Unsupported, &parts);
        }
        if place == "folder" {
            says(&refused(wait(db.list())), ErrorKind::Unsupported, &parts);
            says(&refused(wait(loaded.blob.unwrap().get())), ErrorKind::Unsupported, &parts);
        }
        // A handler is received by the runtime in which the database was opened.
        db.on_message("topic", |_| async { Ok::<(), Error>(()) });
    }
}

#[test]
fn fault_21_a_blocking_database_inside_a_runtime_is_an_error() {
    let parts = ["used by async code", "superduper::Db", "spawn_blocking"];
    let outside = blocking::Db::in_memory().unwrap();
    outside.apply(note("a")).unwrap();
    for threads in [1, 2] {
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            _ => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
        };
        let other = blocking::Db::in_memory().unwrap();
        runtime.block_on(async {
            says(&refused(blocking::Db::in_memory()), ErrorKind::Unsupported, &parts);
            says(&refused(outside.list()), ErrorKind::Unsupported, &parts);
            says(&refused(outside.run(async |db| db.list().await)), ErrorKind::Unsupported, &parts);
            let in_task = tokio::spawn(async move {
                let error = refused(other.list());
                // It is dropped here, too.
                drop(other);
                error
            });
            says(&in_task.await.unwrap(), ErrorKind::Unsupported, &parts);
            // Where waiting is allowed, it works.
            let listed = tokio::task::spawn_blocking(|| {
                let db = blocking::Db::in_memory()?;
                db.apply(note("b"))?;
                db.list()
            });
            assert_eq!(listed.await.unwrap().unwrap().len(), 1);
        });
    }
    assert_eq!(outside.list().unwrap().len(), 1);
}
