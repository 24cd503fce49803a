//! Opening a database by folder or URL.

use crate::place::{Place, StorePlace};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use superduper_core::{
    Db, DbBuilder, Error, Result,
    store::{ArtifactStore, OpenMode},
};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

/// Opens databases.
pub trait OpenDb {
    /// Open the database in a folder, or at a URL: `my.db`, `file:///data/my.db`, `memory://`.
    ///
    /// A folder that does not exist or is empty becomes a new database: one SQLite file for
    /// metadata and a folder of blobs. Several processes may open one folder at the same time. A
    /// program that only works on a database that is there opens it with [`DbBuilder::existing`],
    /// one that only reads with [`DbBuilder::read_only`].
    ///
    /// # Errors
    /// `Format` where the folder holds something else, or a database of a newer format;
    /// `InvalidInput` for what is no path, such as `~/my.db`, and for one that is too long for
    /// SQLite; `Unsupported` for a URL of an unknown scheme, and outside of a tokio runtime;
    /// `UnknownKind` where two component types of the program claim one kind; `Store`. Nothing is
    /// made then.
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
/// `Db::builder().at("my.db")?.parallelism(2).build().await?`. Stores are opened by
/// [`DbBuilder::build`]:
///
/// ```
/// use superduper::prelude::*;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let folder = std::env::temp_dir().join(format!("superduper-open-{}", std::process::id()));
/// let missing = Db::builder().at(&folder)?.existing().build().await;
/// assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
///
/// Db::open(&folder).await?; // makes it
/// let db = Db::builder().at(&folder)?.read_only().build().await?;
/// assert!(db.list().await?.is_empty());
/// assert_eq!(db.gc(false).await.unwrap_err().kind(), ErrorKind::Unsupported);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Error>(()) })?;
/// # Ok::<(), Error>(())
/// ```
pub trait BuildAt: Sized {
    /// The stores in a folder or at a URL; see [`OpenDb::open`]. Stores that were chosen before
    /// stay.
    ///
    /// # Errors
    /// `InvalidInput` for what is no path; `Unsupported` for a URL of an unknown scheme. What is
    /// there is looked at by [`DbBuilder::build`].
    fn at(self, location: impl Into<PathBuf>) -> Result<Self>;

    /// Stores that live as long as this process.
    fn in_memory(self) -> Self;

    /// Blobs at another place: a folder, `s3://bucket/prefix`, `gs://…`, `az://…` (each by its
    /// feature). Jobs in job processes keep theirs there too; keys are read from the
    /// environment, which they inherit.
    ///
    /// # Errors
    /// `InvalidInput` for what is no path; `Unsupported` for a scheme that is unknown or not built
    /// in; `Store`.
    fn artifacts_at(self, location: impl Into<PathBuf>) -> Result<Self>;
}

impl BuildAt for DbBuilder {
    fn at(self, location: impl Into<PathBuf>) -> Result<Self> {
        let location: PathBuf = location.into();
        let folder = match Place::of_database(&location)? {
            Place::Memory => return Ok(self.in_memory()),
            Place::Folder(folder) => folder,
        };
        let mut builder = self;
        if !builder.has_metadata() {
            let folder = folder.clone();
            builder = builder
                .open_metadata(move |mode| Ok(Arc::new(SqliteStore::open_with(&folder, mode)?)));
        }
        if !builder.has_artifacts() {
            // It belongs to the database: where that is there, this may be made.
            builder = builder.open_artifacts(move |mode| {
                open_folder(&folder.join("artifacts"), mode != OpenMode::ReadOnly)
            });
        }
        Ok(builder)
    }

    fn in_memory(self) -> Self {
        let mut builder = self;
        if !builder.has_metadata() {
            builder = builder.open_metadata(|mode| match mode {
                OpenMode::Create => Ok(Arc::new(MemoryStore::new())),
                OpenMode::Existing | OpenMode::ReadOnly => {
                    Err(Error::not_found("no database in memory: it would be a new, empty one")
                        .with_hint("leave out `existing()` and `read_only()`, or open a folder"))
                }
            });
        }
        if !builder.has_artifacts() {
            builder = builder.artifacts(Arc::new(ObjectStore::memory()));
        }
        builder
    }

    fn artifacts_at(self, location: impl Into<PathBuf>) -> Result<Self> {
        let location: PathBuf = location.into();
        Ok(match StorePlace::of_artifacts(&location)? {
            StorePlace::Url(url) => self.artifacts(Arc::new(ObjectStore::from_url(&url)?)),
            StorePlace::Folder(folder) => self.open_artifacts(move |mode| {
                if mode != OpenMode::Create && !folder.is_dir() {
                    return Err(Error::not_found(format!(
                        "no artifacts in `{}`: there is no such folder",
                        folder.display()
                    ))
                    .with_hint("check the path, and whether its disk is mounted"));
                }
                open_folder(&folder, mode == OpenMode::Create)
            }),
        })
    }
}

fn open_folder(folder: &Path, make: bool) -> Result<Arc<dyn ArtifactStore>> {
    Ok(Arc::new(if make {
        ObjectStore::folder(folder)?
    } else {
        ObjectStore::folder_as_it_is(folder)?
    }))
}
