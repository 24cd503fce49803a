//! Databases of each kind for a test, and what tests look at.

pub(crate) mod alone;
pub(crate) mod at_once;
pub(crate) mod busy;
mod counting;
mod gate;
pub(crate) mod until;

use counting::{CountingArtifacts, CountingMetadata};
use std::{fmt::Write, path::PathBuf, sync::Arc};
use superduper::{
    Address, Db, Error, Registry, Result,
    prelude::*,
    store::{ArtifactStore, JobFilter, JobRow, JobState, MetadataStore, RunFilter},
};

/// A database under test, with its stores at hand.
pub(crate) struct Database {
    pub(crate) db: Db,
    pub(crate) metadata: Arc<CountingMetadata>,
    pub(crate) artifacts: Arc<CountingArtifacts>,
    /// The folder, for the kind that has one.
    folder: Option<tempfile::TempDir>,
}

/// One empty database of each kind: in memory, and in a folder.
pub(crate) async fn databases() -> Vec<Database> {
    vec![in_memory().await, in_folder().await]
}

/// An empty database in memory.
pub(crate) async fn in_memory() -> Database {
    let plain = Db::in_memory().await.expect("a database in memory opens");
    Database::over(plain.metadata().clone(), plain.artifact_store().clone(), None, None).await
}

/// An empty database in a folder of its own.
pub(crate) async fn in_folder() -> Database {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = Db::open(folder.path().join("my.db")).await.expect("a database in a folder opens");
    Database::over(plain.metadata().clone(), plain.artifact_store().clone(), Some(folder), None)
        .await
}

/// A database in a folder that another handle has open, too.
pub(crate) async fn in_folder_at(path: &std::path::Path) -> Database {
    let plain = Db::open(path).await.expect("a database in a folder opens");
    Database::over(plain.metadata().clone(), plain.artifact_store().clone(), None, None).await
}

impl Database {
    async fn over(
        metadata: Arc<dyn MetadataStore>,
        artifacts: Arc<dyn ArtifactStore>,
        folder: Option<tempfile::TempDir>,
        registry: Option<Registry>,
    ) -> Self {
        let (metadata, artifacts) =
            (CountingMetadata::new(metadata), CountingArtifacts::new(artifacts));
        let mut builder = Db::builder()
            .metadata(metadata.clone())
            .artifacts(artifacts.clone())
            .gc_grace(std::time::Duration::ZERO);
        if let Some(registry) = registry {
            builder = builder.registry(registry);
        }
        let db = builder.build().await.expect("a database over two stores opens");
        Database { db, metadata, artifacts, folder }
    }

    /// The same stores as another program sees them: one with these types.
    pub(crate) async fn program(&self, registry: Registry) -> Db {
        let builder = Db::builder()
            .metadata(self.metadata.clone())
            .artifacts(self.artifacts.clone())
            .registry(registry);
        builder.build().await.expect("another program opens the same stores")
    }

    /// Another program on the same stores, which is neither counted nor held up.
    pub(crate) async fn rival(&self) -> Db {
        let builder = Db::builder()
            .metadata(self.metadata.inner())
            .artifacts(self.artifacts.clone())
            .gc_grace(std::time::Duration::ZERO);
        builder.build().await.expect("another program opens the same stores")
    }

    /// Whether the database outlives this value, so that it can be opened again.
    pub(crate) fn is_durable(&self) -> bool {
        self.db.metadata().capabilities().durable
    }

    /// The same folder opened anew; the same database where nothing is durable.
    pub(crate) async fn reopened(self) -> Self {
        if !self.is_durable() {
            return self;
        }
        let folder = self.folder;
        drop(self.db);
        let path = folder
            .as_ref()
            .map(|folder| folder.path().join("my.db"))
            .expect("a durable database has a folder");
        let plain = Db::open(path).await.expect("the folder opens again");
        Database::over(plain.metadata().clone(), plain.artifact_store().clone(), folder, None).await
    }

    /// The folder of blobs, for a database in a folder.
    pub(crate) fn artifact_folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("my.db/artifacts"))
    }

    /// The folder of a database in a folder, to open it once more.
    pub(crate) fn metadata_folder(&self) -> PathBuf {
        self.folder
            .as_ref()
            .map(|folder| folder.path().join("my.db"))
            .expect("a database in a folder")
    }

    /// Version numbers of a component.
    pub(crate) async fn versions(&self, address: &str) -> Vec<u32> {
        match self.db.versions(address).await {
            Ok(versions) => {
                versions.iter().map(superduper::store::StoredVersion::version).collect()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("versions of {address}: {error}"),
        }
    }

    /// Newest version and revision of a component.
    pub(crate) async fn newest(&self, address: &str) -> (u32, u32) {
        let versions = self.db.versions(address).await.expect("it is stored");
        let newest = versions.last().expect("a component has a version");
        (newest.version(), newest.revision())
    }

    /// All jobs on record.
    pub(crate) async fn jobs(&self) -> Vec<JobRow> {
        self.db.jobs(JobFilter::default()).await.expect("jobs")
    }

    /// Methods of all jobs on record with their states, in order.
    pub(crate) async fn job_states(&self) -> Vec<(String, JobState)> {
        self.jobs().await.into_iter().map(|job| (job.method, job.state)).collect()
    }

    /// How often a method of a component succeeded.
    pub(crate) async fn successes(&self, path: &str, method: &str) -> usize {
        let jobs = self.jobs().await;
        jobs.iter()
            .filter(|job| {
                job.target.path() == path
                    && job.method == method
                    && job.state == JobState::Succeeded
            })
            .count()
    }

    /// Everything that is stored, as text: equal texts are equal databases.
    pub(crate) async fn dump(&self) -> String {
        let store = self.db.metadata();
        let mut text = String::new();
        for line in store.list(None).await.expect("a list") {
            writeln!(text, "{line:?}").expect("text");
            for version in &line.versions {
                let newest = store.tree(line.address.at(*version)).await.expect("a tree");
                let revision = newest.first().map_or(0, superduper::store::StoredVersion::revision);
                for revision in 0..=revision {
                    let address = format!("{}@{version}.{revision}", line.address.path());
                    let tree =
                        store.tree(address.parse().expect("an address")).await.expect("a tree");
                    writeln!(text, "  {:?}", tree.first()).expect("text");
                }
            }
        }
        let mut references = store.references().await.expect("references");
        references.sort_by_key(|reference| format!("{reference:?}"));
        writeln!(text, "{references:#?}").expect("text");
        writeln!(text, "{:#?}", store.jobs(JobFilter::default()).await.expect("jobs"))
            .expect("text");
        for run in store.runs(RunFilter::default()).await.expect("runs") {
            writeln!(text, "{run:?} {:?}", store.dependencies(run.id).await.expect("dependencies"))
                .expect("text");
        }
        writeln!(
            text,
            "{:#?}",
            store
                .events(superduper::store::Cursor::default(), None, usize::from(u16::MAX))
                .await
                .expect("events")
        )
        .expect("text");
        writeln!(
            text,
            "{:?}",
            store.messages(superduper::store::Cursor::default(), 1000).await.expect("messages")
        )
        .expect("text");
        writeln!(text, "{:?}", sorted(store.referenced_blobs(None).await.expect("blobs")))
            .expect("text");
        let blobs = self.db.artifact_store().list(None, None).await.expect("blobs");
        writeln!(
            text,
            "{:#?}",
            sorted(blobs.into_iter().map(|blob| (blob.digest, blob.size, blob.modified)).collect())
        )
        .expect("text");
        if let Some(folder) = self.artifact_folder() {
            let mut files = Vec::new();
            walk(&folder, &mut files);
            files.sort();
            writeln!(text, "{files:#?}").expect("text");
        }
        text
    }

    /// How many blobs there are.
    pub(crate) async fn blob_count(&self) -> usize {
        self.db.artifact_store().list(None, None).await.expect("blobs").len()
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

fn walk(folder: &std::path::Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            let meta = std::fs::metadata(&path).expect("a file");
            files.push(format!("{} {} {:?}", path.display(), meta.len(), meta.modified()));
        }
    }
}

/// An address from its text.
pub(crate) fn at(text: &str) -> Address {
    text.parse().expect("an address")
}

/// The error of a result that must be one.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error,
    }
}

/// Check that a text has all of these parts.
#[track_caller]
pub(crate) fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Compare with a file of `tests/it/golden`; with `UPDATE_GOLDEN=1` write it.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; look at it and run again with UPDATE_GOLDEN=1");
}

/// Write a file that can be started, by a process of its own.
///
/// A file that this process wrote can be "busy" when it is started: another test may start a
/// process in that moment, which holds the open file until it runs its own program.
pub(crate) fn write_program(path: &std::path::Path, content: &[u8]) {
    use std::io::Write as _;
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("a shell starts");
    child.stdin.take().expect("it is piped").write_all(content).expect("the shell reads");
    assert!(child.wait().expect("the shell ends").success(), "`{}` is written", path.display());
}

/// Write `tracing` events inside of jobs to their logs, in this process from now on.
pub(crate) fn trace_jobs() {
    use tracing_subscriber::layer::SubscriberExt;
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(superduper::job::job_layer());
        tracing::subscriber::set_global_default(subscriber).expect("nothing else sets one");
    });
}
