//! The store does what every metadata store must do.

use std::sync::Arc;
use superduper_conformance::metadata;
use superduper_memory::MemoryStore;

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    metadata::run_all(async || Arc::new(MemoryStore::new()) as _).await;
}
