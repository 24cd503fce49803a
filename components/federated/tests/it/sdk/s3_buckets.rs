//! Exported trainings in a bucket.

#[allow(dead_code, reason = "only a part of the service is used here")]
#[path = "../../../../train/tests/it/s3_server.rs"]
mod s3_server;

use super::exported;
use crate::support::*;
use s3_server::{KEY, SECRET, Server};
use serde_json::Value;
use std::time::{Duration, Instant};
use superduper::Secret;
use superduper_federated::FederatedTraining;
use superduper_train::S3Path;

/// Run a test in a process of its own, in which no proxy is used; gives whether this is that process.
fn without_proxy(test: &str) -> bool {
    if std::env::var_os("SUPERDUPER_TEST_ALONE").is_some() {
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs([("SUPERDUPER_TEST_ALONE", "1"), ("NO_PROXY", "*"), ("no_proxy", "*")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    false
}

/// A path in the bucket of a service; the keys are in files beside the database.
fn path_at(place: &Place, endpoint: &str, bucket: &str) -> S3Path {
    let key = |name: &str, value: &str| {
        let path = place.folder.path().join(name);
        std::fs::write(&path, value).unwrap();
        Secret::file(path.display().to_string())
    };
    S3Path {
        endpoint: endpoint.to_owned(),
        region: "here-1".into(),
        bucket: bucket.to_owned(),
        path: "jobs/scans".into(),
        access_key: key("access", KEY),
        secret_key: key("secret", SECRET),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c06_a_bundle_in_a_bucket_is_replaced_as_a_whole() {
    if !without_proxy("sdk::s3_buckets::c06_a_bundle_in_a_bucket_is_replaced_as_a_whole") {
        return;
    }
    let (place, server) = (Place::new(), Server::start());
    let db = place.open().await;
    let at = path_at(&place, &server.endpoint, "models");
    let mut hashes = Vec::new();
    for rounds in [1, 2] {
        let preview = exported("bucket").rounds(rounds).preview(&db).await.unwrap();
        let done = preview.export(at.clone()).await.unwrap();
        assert_eq!(done.place, "s3://models/jobs/scans");
        let read = FederatedTraining::from_bundle(&db, at.clone()).await.unwrap();
        assert_eq!(read.federation.num_rounds, rounds);
        assert_eq!(read.preview(&db).await.unwrap().hash(), preview.hash());
        hashes.push(preview.hash().to_owned());
    }
    // What names the files comes after them, each time.
    let order = server.state().order.clone();
    let metas: Vec<usize> =
        (0..order.len()).filter(|place| order[*place] == "jobs/scans/meta.json").collect();
    assert_eq!(metas.len(), 2);
    let of = |hash: &str| {
        let begin = format!("jobs/scans/{hash}/");
        (0..order.len()).filter(|place| order[*place].starts_with(&begin)).collect::<Vec<_>>()
    };
    assert!(of(&hashes[0]).iter().all(|place| *place < metas[0]));
    assert!(of(&hashes[1]).iter().all(|place| (metas[0]..metas[1]).contains(place)));
    // What is something else stays as it is.
    let other = b"{\"name\": \"another tool's\"}".to_vec();
    server.state().put("jobs/scans/meta.json", other.clone());
    let preview = exported("bucket").preview(&db).await.unwrap();
    let error = preview.export(at).await.unwrap_err().to_string();
    assert!(error.contains("is not an exported training, and is not replaced"), "{error}");
    assert_eq!(server.state().objects["jobs/scans/meta.json"].0, other);
    assert!(serde_json::from_slice::<Value>(&other).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_reached_is_named() {
    if !without_proxy("sdk::s3_buckets::a_bucket_that_cannot_be_reached_is_named") {
        return;
    }
    let (place, server) = (Place::new(), Server::start());
    let db = place.open().await;
    let preview = exported("away").preview(&db).await.unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let error = preview.export(path_at(&place, &format!("http://{nobody}"), "models")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("exporting to `s3://models/jobs/scans`"), "{error}");
    assert!(!error.contains(SECRET) && !error.contains(KEY), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let error = preview.export(path_at(&place, &server.endpoint, "nowhere")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("there is no bucket `nowhere`"), "{error}");
}
