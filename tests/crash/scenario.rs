//! The steps, and the process that takes them: after a crash it is started again and goes on.
//!
//! Invariant: a step is noted in the progress file only after the library said that it is done.
//! That file is outside of the folder in which faults happen: what it says was promised to a
//! caller, and must be there after any crash.

use crate::components::{Broken, Leaf, Tree, bytes};
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use superduper::{Digest, prelude::*, store::ArtifactStore};

/// How many steps there are.
pub(crate) const STEPS: usize = 9;

/// The folder of one run of the scenario.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Place(root.into())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The folder in which write points are counted.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data().join("my.db")
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.0.join("effects")
    }

    pub(crate) fn lift(&self) -> PathBuf {
        self.0.join("lift")
    }

    fn progress(&self) -> PathBuf {
        self.0.join("progress")
    }

    /// How many steps a caller was told are done.
    pub(crate) fn done(&self) -> usize {
        std::fs::read_to_string(self.progress()).unwrap_or_default().lines().count()
    }

    /// The errors that callers saw, one a line.
    pub(crate) fn errors(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join("errors")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn note(&self, file: &str, line: &str) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join(file))?;
        Ok(file.write_all(format!("{line}\n").as_bytes())?)
    }
}

/// Open the database of a place.
pub(crate) async fn open(place: &Place) -> Result<Db> {
    Db::builder().at(place.database())?.parallelism(2).gc_grace(Duration::ZERO).build().await
}

/// Take the steps that are not done yet. Where an error comes, the fault is lifted and the same
/// process goes on.
pub(crate) async fn child(place: &Place, steps: usize) -> Result<()> {
    let db = match open(place).await {
        Ok(db) => db,
        Err(error) => {
            saw(place, "open", &error)?;
            open(place).await?
        }
    };
    if let Err(error) = db.resume().await {
        saw(place, "resume", &error)?;
        db.resume().await?;
    }
    for number in place.done()..steps {
        if let Err(error) = step(&db, number).await {
            saw(place, &format!("step {number}"), &error)?;
            db.resume().await?;
            step(&db, number).await?;
        }
        place.note("progress", &format!("done {number}"))?;
    }
    // Crashes leave blobs that nobody refers to, and a loss of power brings deleted ones back.
    if let Err(error) = db.gc(false).await {
        saw(place, "gc", &error)?;
        db.gc(false).await?;
    }
    // What is left in the background ends before the process does.
    drop(db);
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

/// Keep an error, and let the calls of this process succeed from now on.
fn saw(place: &Place, when: &str, error: &Error) -> Result<()> {
    let cause =
        std::error::Error::source(error).map_or_else(String::new, |source| format!(" <- {source}"));
    let text = format!("{when}: {:?}: {error}{cause}", error.kind()).replace('\n', " | ");
    place.note("errors", &text)?;
    Ok(std::fs::write(place.lift(), "")?)
}

fn leaf(name: &str, size: i64) -> Leaf {
    let weights = Artifact::new(bytes(&format!("weights of {name} {size}"), 9000));
    Leaf { identifier: name.into(), size, note: "new".into(), weights, trained: Output::empty() }
}

fn tree(name: &str, shared: Leaf, own: &[&str]) -> Tree {
    Tree {
        identifier: name.into(),
        width: 1,
        note: "first".into(),
        shared,
        own: own.iter().map(|name| leaf(name, 1)).collect(),
        atlas: Artifact::new(bytes("the atlas that two trees have", 20_000)),
        seen: Output::empty(),
    }
}

/// One step. Taken again after it was done, it changes nothing.
async fn step(db: &Db, number: usize) -> Result<()> {
    let oak = || tree("oak", leaf("common", 1), &["acorn"]);
    match number {
        // New.
        0 => db.apply(oak()).await.map(drop),
        // The same once more.
        1 => db.apply(oak()).await.map(drop),
        // An update: a revision, with the triggers that watch.
        2 => db.apply(Tree { note: "second".into(), ..oak() }).await.map(drop),
        // A breaking change of a child, with a blob: a version of it, a revision of its parent.
        3 => db
            .apply(Tree { note: "second".into(), ..tree("oak", leaf("common", 2), &["acorn"]) })
            .await
            .map(drop),
        // Another tree with the same child and the same blob, and something of its own.
        4 => db.apply(tree("elm", leaf("common", 2), &["samara"])).await.map(drop),
        // Jobs that fail and are skipped stay so.
        5 => match db
            .apply(Broken { identifier: "broken".into(), weights: Artifact::new(bytes("b", 50)) })
            .retry_failed(false)
            .await
        {
            Err(error) if error.outcome().and_then(|outcome| outcome.job("never")).is_some() => {
                Ok(())
            }
            other => other.map(drop),
        },
        // What shares is removed; what is shared stays.
        6 => removed(db.remove::<Tree>("elm").await),
        7 => removed(db.remove::<Leaf>("samara").await),
        // A blob that nobody refers to, and its collection; crashes before may have left more.
        _ => {
            orphan(&**db.artifact_store()).await?;
            db.gc(false).await.map(drop)
        }
    }
}

async fn orphan(artifacts: &dyn ArtifactStore) -> Result<()> {
    let orphan = bytes("orphan", 4000);
    let chunk: superduper::Bytes = orphan.to_vec().into();
    artifacts.put(Digest::of(&orphan), 4000, Box::new(std::iter::once(Ok(chunk)))).await.map(drop)
}

/// A removal that was done before the crash finds nothing.
fn removed(result: Result<superduper::db::Removed>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}
