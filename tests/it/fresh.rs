//! A new database in a folder of its own.

use superduper::{DbBuilder, prelude::*};

/// A builder for a database in a temporary folder, which goes with the test's process.
pub(crate) fn builder() -> DbBuilder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    // The database outlives this function; the folder is removed by the next clean-up of the
    // machine.
    std::mem::forget(folder);
    Db::builder().at(path).unwrap()
}

/// A database in a temporary folder.
pub(crate) async fn db() -> Db {
    builder().build().await.unwrap()
}
