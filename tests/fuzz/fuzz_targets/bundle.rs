//! The fuzz target `bundle`: some bytes as a tar file are imported into an empty database. They are
//! refused without a trace, or what was taken is whole.
#![no_main]

use std::{path::Path, sync::Arc};
use superduper::Db;
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;

thread_local! {
    static PLACE: (tokio::runtime::Runtime, tempfile::TempDir) = (
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        tempfile::tempdir().expect("a temporary folder"),
    );
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| PLACE.with(|(runtime, folder)| {
    let path = folder.path().join("fuzzed.tar");
    std::fs::write(&path, data).expect("written");
    runtime.block_on(import(&path));
}));

async fn import(path: &Path) {
    let builder = Db::builder().metadata(Arc::new(MemoryStore::new())).artifacts(Arc::new(ObjectStore::memory()));
    let db = builder.build().await.expect("opens");
    let imported = db.import(path).allow_unknown().await;
    match imported {
        Ok(_) => {
            let report = db.verify().await.expect("verifies");
            assert!(report.is_sound(), "{report}");
        }
        Err(error) => assert!(db.list().await.expect("lists").is_empty(), "a refused bundle left something: {error}"),
    }
}
