//! The store does what every metadata store must do.

use std::sync::Arc;
use superduper_conformance::metadata;
use superduper_sqlite::SqliteStore;

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = std::cell::Cell::new(0);
    metadata::run_all(|| {
        count.set(count.get() + 1);
        Arc::new(SqliteStore::open(folder.path().join(count.get().to_string())).expect("a new database"))
    })
    .await;
}
