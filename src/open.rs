//! Opening a database by folder or URL.

use std::{path::PathBuf, sync::Arc};
use superduper_core::{
    Db, DbBuilder, Error, ErrorKind, Result,
    store::{ArtifactStore, MetadataStore},
};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

/// Opens databases.
pub trait OpenDb {
    /// Open the database in a folder, or at a URL: `my.db`, `file:///data/my.db`, `memory://`.
    ///
    /// A folder that does not exist or is empty becomes a new database: one SQLite file for metadata and a
    /// folder of blobs. Several processes may open one folder at the same time.
    ///
    /// # Errors
    /// `Format` where the folder holds something else, or a database of a newer format; `Unsupported` for a URL of
    /// an unknown scheme; `UnknownKind` where two component types of the program claim one kind; `Store`.
    fn open(location: impl Into<PathBuf> + Send) -> impl Future<Output = Result<Db>> + Send;

    /// A database that lives as long as this process: for tests and trials.
    ///
    /// # Errors
    /// `UnknownKind` where two component types of the program claim one kind.
    fn in_memory() -> impl Future<Output = Result<Db>> + Send;
}

impl OpenDb for Db {
    async fn open(location: impl Into<PathBuf> + Send) -> Result<Db> {
        Db::builder().at(location)?.build().await
    }

    async fn in_memory() -> Result<Db> {
        Db::builder().in_memory().build().await
    }
}

/// Chooses stores by location on the way to a database with further options:
/// `Db::builder().at("my.db")?.parallelism(2).build().await?`.
pub trait BuildAt: Sized {
    /// The stores in a folder or at a URL; see [`OpenDb::open`]. Stores that were chosen before stay.
    ///
    /// # Errors
    /// As for [`OpenDb::open`].
    fn at(self, location: impl Into<PathBuf>) -> Result<Self>;

    /// Stores that live as long as this process.
    fn in_memory(self) -> Self;

    /// Blobs at another place: a folder, `s3://bucket/prefix`, `gs://…`, `az://…` (each by its feature).
    ///
    /// # Errors
    /// `Unsupported` for a scheme that is unknown or not built in; `Store`.
    fn artifacts_at(self, url: &str) -> Result<Self>;
}

impl BuildAt for DbBuilder {
    fn at(self, location: impl Into<PathBuf>) -> Result<Self> {
        let location = location.into();
        let Some(folder) = folder_of(&location)? else { return Ok(self.in_memory()) };
        let mut builder = self;
        if !builder.has_metadata() {
            let metadata: Arc<dyn MetadataStore> = Arc::new(SqliteStore::open(&folder)?);
            builder = builder.metadata(metadata);
        }
        if !builder.has_artifacts() {
            let artifacts: Arc<dyn ArtifactStore> = Arc::new(ObjectStore::folder(folder.join("artifacts"))?);
            builder = builder.artifacts(artifacts);
        }
        Ok(builder)
    }

    fn in_memory(self) -> Self {
        let mut builder = self;
        if !builder.has_metadata() {
            builder = builder.metadata(Arc::new(MemoryStore::new()));
        }
        if !builder.has_artifacts() {
            builder = builder.artifacts(Arc::new(ObjectStore::memory()));
        }
        builder
    }

    fn artifacts_at(self, url: &str) -> Result<Self> {
        let store = if url.contains("://") { ObjectStore::from_url(url)? } else { ObjectStore::folder(url)? };
        Ok(self.artifacts(Arc::new(store)))
    }
}

/// The folder that a location means; `None` for memory.
fn folder_of(location: &std::path::Path) -> Result<Option<PathBuf>> {
    let Some((scheme, _)) = location.to_str().and_then(|text| text.split_once("://")) else {
        return Ok(Some(location.to_owned()));
    };
    let text = location.to_string_lossy();
    match scheme {
        "memory" => Ok(None),
        "file" | "sqlite" => {
            let plain = text.replacen("sqlite://", "file://", 1);
            let path = url::Url::parse(&plain).ok().and_then(|url| url.to_file_path().ok());
            path.map(Some).ok_or_else(|| {
                Error::invalid(format!("`{text}` does not name a folder")).with_hint("write `file:///folder` with three slashes")
            })
        }
        other => Err(Error::new(ErrorKind::Unsupported, format!("databases cannot be opened at `{other}://`")).with_hint(
            "open a folder, `file:///folder` or `memory://`; blobs can live elsewhere with `Db::builder().artifacts_at(\"s3://…\")`",
        )),
    }
}
