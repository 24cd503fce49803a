//! Opening the database of a folder, as the facade does.

use std::{path::Path, sync::Arc};
use superduper::{Db, DbBuilder, Result};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

pub(crate) fn builder(folder: impl AsRef<Path>) -> Result<DbBuilder> {
    let folder = folder.as_ref();
    let metadata = Arc::new(SqliteStore::open(folder)?);
    let artifacts = Arc::new(ObjectStore::folder(folder.join("artifacts"))?);
    Ok(Db::builder().metadata(metadata).artifacts(artifacts))
}

#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
pub(crate) async fn open(folder: String) -> Result<Db> {
    builder(folder)?.build().await
}
