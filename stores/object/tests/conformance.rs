//! Every backend passes the shared suite.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use superduper_conformance::artifacts;
use superduper_core::ErrorKind;
use superduper_object::ObjectStore;

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    artifacts::run_all(|| Arc::new(ObjectStore::memory())).await;
}

/// The code for the stores of clouds, without a cloud.
#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn cloud_in_memory() {
    artifacts::run_all(|| Arc::new(ObjectStore::cloud_in_memory())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folder() {
    let (place, next) = (tempfile::tempdir().expect("a folder"), AtomicUsize::new(0));
    let new = || {
        ObjectStore::folder(place.path().join(next.fetch_add(1, Ordering::SeqCst).to_string()))
            .expect("a store")
    };
    artifacts::run_all(|| Arc::new(new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_url() {
    let (place, next) = (tempfile::tempdir().expect("a folder"), AtomicUsize::new(0));
    let url =
        || format!("file://{}/{}", place.path().display(), next.fetch_add(1, Ordering::SeqCst));
    artifacts::run_all(|| Arc::new(ObjectStore::from_url(&url()).expect("a store"))).await;
}

/// S3 and whatever speaks it, where a server is given: `s3://bucket` with the usual `AWS_…`
/// variables.
#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let Ok(bucket) = std::env::var("SUPERDUPER_TEST_S3") else {
        eprintln!("skipped: s3 (set SUPERDUPER_TEST_S3 to a bucket URL)");
        return;
    };
    let next = AtomicUsize::new(0);
    let start = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_nanos();
    let url = || format!("{bucket}/test-{start}/{}", next.fetch_add(1, Ordering::SeqCst));
    artifacts::run_all(|| Arc::new(ObjectStore::from_url(&url()).expect("a store"))).await;
}

#[test]
fn urls_that_cannot_be_opened_say_why() {
    #[cfg(not(feature = "aws"))]
    {
        let error = ObjectStore::from_url("s3://bucket/weights").expect_err("no such feature");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`aws`"), "{error}");
    }
    let error = ObjectStore::from_url("ftp://host/weights").expect_err("no such scheme");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = ObjectStore::from_url("just/a/path").expect_err("no URL");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("hint: "), "{error}");
}
