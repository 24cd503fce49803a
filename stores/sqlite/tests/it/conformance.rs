//! The store does what every metadata store must do.

use std::sync::Arc;
use superduper_conformance::metadata;
use superduper_sqlite::SqliteStore;

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = std::cell::Cell::new(0);
    metadata::run_all(async || {
        count.set(count.get() + 1);
        Arc::new(
            SqliteStore::open(folder.path().join(count.get().to_string())).expect("a new database"),
        ) as _
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_of_several_processes() {
    let open = async |folder: &tempfile::TempDir| {
        Arc::new(SqliteStore::open(folder.path()).expect("a database")) as _
    };
    let start = |folder: &tempfile::TempDir, role: &str| {
        crate::sharing::start_child(folder.path(), &format!("conformance {role}"))
    };
    metadata::sharing::run_all(async || tempfile::tempdir().expect("a folder"), open, start).await;
}
