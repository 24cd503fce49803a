//! Calls that are tried again beside other writers and sweeps: import, removal and renaming.

use crate::support::{Database, busy::Busy, databases, refused, says};
use std::{
    future::IntoFuture,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use superduper::{
    BoxFuture, Bytes, Db,
    prelude::*,
    store::{Batch, Op},
};

/// More often than anything is tried where nothing moves.
const MOVES: usize = 24;
const WRITERS: usize = 8;
/// How long the writers of a storm write at most.
const STORM: Duration = Duration::from_secs(2);
const PATH: &str = "retries.Memo/m";

#[derive(Component, Clone)]
#[component(kind = "retries.Memo")]
struct Memo {
    identifier: String,
    #[component(breaking)]
    text: String,
    data: Artifact<Bytes>,
}

fn memo(name: &str, text: &str) -> Memo {
    Memo {
        identifier: name.into(),
        text: text.into(),
        data: Bytes::from(format!("data of {text}")).into(),
    }
}

/// A bundle with one version of the component, which no test writes.
async fn bundle() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("memo.bundle");
    let db = Db::in_memory().await.expect("opens");
    db.apply(memo("m", "imported")).await.expect("applies");
    db.export(PATH, &path).await.expect("exports");
    (folder, path)
}

/// A sweep that deletes a blob.
async fn sweep(db: &Db, text: &str) {
    db.apply(memo("passing", text)).await.expect("applies");
    db.remove::<Memo>("passing").await.expect("removes");
}

#[derive(Clone, Copy, Debug)]
enum Rival {
    Writes,
    Sweeps,
}

impl Rival {
    fn act(self, db: Db, turn: usize) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match self {
                Rival::Writes => {
                    drop(db.apply(memo("m", &format!("turn {turn}"))).await.expect("applies"))
                }
                Rival::Sweeps => sweep(&db, &format!("swept {turn}")).await,
            }
        })
    }
}

/// Let another program get in between plan and commit, so many times.
async fn disturb(on: &Database, rival: Rival, disturbed: fn(&Op) -> bool) -> Arc<AtomicUsize> {
    let (db, turns) = (on.rival().await, Arc::new(AtomicUsize::new(0)));
    let count = turns.clone();
    on.metadata.before_commits(move |batch: &Batch| {
        let picked = batch.ops.iter().any(disturbed) && count.load(Ordering::SeqCst) < MOVES;
        picked.then(|| rival.act(db.clone(), count.fetch_add(1, Ordering::SeqCst)))
    });
    turns
}

#[tokio::test]
async fn e19_an_import_goes_on_while_others_write_or_sweep() {
    let (_folder, path) = bundle().await;
    for rival in [Rival::Writes, Rival::Sweeps] {
        for on in databases().await {
            on.db.apply(memo("m", "before")).await.expect("applies");
            let turns = disturb(&on, rival, |op| matches!(op, Op::Put(_))).await;
            let imported = on
                .db
                .import(&path)
                .await
                .unwrap_or_else(|error| panic!("beside one who {rival:?}: {error}"));
            assert_eq!(turns.load(Ordering::SeqCst), MOVES, "{rival:?}");
            let loaded: Memo = on.db.load("m").await.expect("loads");
            assert_eq!(
                (loaded.text.as_str(), imported.version()),
                ("imported", on.newest(PATH).await.0),
                "{rival:?}"
            );
            assert!(on.db.verify().await.expect("verifies").is_sound(), "{rival:?}");
        }
    }
}

#[tokio::test]
async fn e19_a_removal_goes_on_while_others_write() {
    for on in databases().await {
        on.db.apply(memo("m", "before")).await.expect("applies");
        let turns = disturb(&on, Rival::Writes, |op| matches!(op, Op::Delete { .. })).await;
        on.db.remove::<Memo>("m").await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(turns.load(Ordering::SeqCst), MOVES);
        assert!(on.versions(PATH).await.is_empty());
        assert!(on.db.verify().await.expect("verifies").is_sound());
    }
}

#[tokio::test]
async fn e19_a_renaming_goes_on_while_others_write() {
    for on in databases().await {
        on.db.apply(memo("m", "before")).await.expect("applies");
        let turns = disturb(&on, Rival::Writes, |op| matches!(op, Op::Rename { .. })).await;
        on.db.rename(PATH, "retries.Memo/renamed").await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(turns.load(Ordering::SeqCst), MOVES);
        assert!(on.versions(PATH).await.is_empty());
        assert_eq!(on.versions("retries.Memo/renamed").await.len(), MOVES + 1);
    }
}

/// Deleting very many blobs, or on a slow disk, takes its time.
#[tokio::test]
async fn e19_an_import_waits_for_a_sweep_of_its_blobs() {
    let (_folder, path) = bundle().await;
    for on in databases().await {
        on.db.apply(memo("other", "imported")).await.expect("applies");
        on.artifacts.deletions.close();
        let remover = on.db.clone();
        let removal = tokio::spawn(async move { remover.remove::<Memo>("other").await });
        on.artifacts.deletions.reached().await;
        let import = tokio::spawn(on.db.import(&path).into_future());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!import.is_finished(), "{:?}", import.await.expect("no panic").err());
        on.artifacts.deletions.open();
        removal.await.expect("no panic").expect("removes");
        import.await.expect("no panic").expect("imports");
        assert!(on.db.verify().await.expect("verifies").is_sound());
    }
}

/// A call beside eight writers of its component and one who sweeps. It is done, at the latest when
/// they are.
async fn storm(on: &Database, what: &str, call: impl Future<Output = Result<()>>) {
    let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let goes_on = {
        let over = over.clone();
        move || !over.load(Ordering::SeqCst) && begun.elapsed() < STORM
    };
    let mut others = Vec::new();
    for writer in 0..WRITERS {
        let (db, goes_on) = (on.rival().await, goes_on.clone());
        others.push(tokio::spawn(async move {
            for turn in 0.. {
                if !goes_on() {
                    return;
                }
                match db.apply(memo("m", &format!("writer {writer}, turn {turn}"))).await {
                    Err(error) if error.kind() != ErrorKind::Conflict => panic!("{error}"),
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }));
    }
    let sweeper = on.rival().await;
    others.push(tokio::spawn(async move {
        for turn in 0.. {
            if !goes_on() {
                return;
            }
            sweep(&sweeper, &format!("sweep {turn}")).await;
        }
    }));
    let called = call.await;
    over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.expect("no panic");
    }
    called.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(on.db.verify().await.expect("verifies").is_sound(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e19_import_removal_and_renaming_in_a_storm_get_done() {
    let (_folder, path) = bundle().await;
    for on in databases().await {
        let db = on.db.clone();
        db.apply(memo("m", "before")).await.expect("applies");
        storm(&on, "import", async { db.import(&path).await.map(drop) }).await;
        storm(&on, "remove", async { db.remove::<Memo>("m").await.map(drop) }).await;
        db.apply(memo("m", "again")).await.expect("applies");
        storm(&on, "rename", async { db.rename(PATH, "retries.Memo/renamed").await.map(drop) })
            .await;
    }
}

#[tokio::test]
async fn e19_what_stands_in_the_way_is_named() {
    for on in databases().await {
        let run = on.db.apply(Busy { identifier: "b".into() }).detach().await.expect("applies");
        let id = format!("run {}", run.id().expect("a run"));
        let renamed = refused(on.db.rename("support.Busy/b", "support.Busy/c").await);
        says(&renamed, ErrorKind::Conflict, &[&id, "support.Busy/b", "is not finished"]);
        let removed = refused(on.db.remove::<Busy>("b").exclusive().await);
        says(&removed, ErrorKind::Conflict, &[&id, "support.Busy/b", "is not finished"]);
        run.cancel().await.expect("cancels");
    }
}
