//! Opening the database of a folder, as the facade does.

use std::{path::Path, sync::Arc};
use superduper::{Db, DbBuilder, Result, store::StoreLocations};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

pub(crate) fn builder(folder: impl AsRef<Path>) -> Result<DbBuilder> {
    let folder = folder.as_ref();
    builder_at(folder, &folder.join("artifacts"))
}

/// With the artifacts at another place: a folder or, with the feature `s3`, a URL.
pub(crate) fn builder_at(folder: &Path, artifacts: &Path) -> Result<DbBuilder> {
    let metadata = Arc::new(SqliteStore::open(folder)?);
    let artifacts = match artifacts.to_str().filter(|url| url.contains("://")) {
        Some(url) => ObjectStore::from_url(url)?,
        None => ObjectStore::folder(artifacts)?,
    };
    Ok(Db::builder().metadata(metadata).artifacts(Arc::new(artifacts)))
}

/// What the worker program opens.
#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
pub(crate) async fn open_stores(stores: StoreLocations) -> Result<Db> {
    builder_at(&stores.metadata, &stores.artifacts)?.build().await
}

#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
pub(crate) async fn open(folder: String) -> Result<Db> {
    builder(folder)?.build().await
}
