//! Models in an object store.

use crate::{
    s3_server::{KEY, SECRET, Server},
    support::*,
};
use std::time::{Duration, Instant};
use superduper::prelude::*;
use superduper_train::{S3Path, SavePath, load_model_from, prelude::*};

/// Run in a process with the credentials in its environment; gives whether this is that process.
fn with_credentials(test: &str, isolation: Isolation) -> bool {
    let which = if isolation == Thread { "thread" } else { "process" };
    let variables = [
        ("SUPERDUPER_TEST_KEY", KEY),
        ("SUPERDUPER_TEST_SECRET", SECRET),
        ("SUPERDUPER_TEST_WRONG", "AKIA-WRONG"),
        ("NO_PROXY", "*"),
    ];
    again(&format!("s3::{test}::{which}"), &variables)
}

fn place_at(endpoint: &str, path: &str) -> S3Path {
    S3Path {
        endpoint: endpoint.to_owned(),
        region: "here-1".into(),
        bucket: "models".into(),
        path: path.to_owned(),
        access_key: Secret::env("SUPERDUPER_TEST_KEY"),
        secret_key: Secret::env("SUPERDUPER_TEST_SECRET"),
    }
}

/// Whether any file below a folder holds a text.
fn is_written_somewhere(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        let holds =
            |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if path.is_dir() {
            is_written_somewhere(&path, text)
        } else {
            std::fs::read(path).is_ok_and(holds)
        }
    })
}

both! {
    async fn e13_models_and_checkpoints_are_in_the_object_store_that_was_asked_for(isolation: Isolation) {
        let server = Server::start();
        let which = if isolation == Thread { "thread" } else { "process" };
        let test = format!("s3::e13_models_and_checkpoints_are_in_the_object_store_that_was_asked_for::{which}");
        let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "here-1"), ("NO_PROXY", "*")];
        if !again(&test, &[&keys[..], &[("AWS_ENDPOINT", &*server.endpoint), ("AWS_ALLOW_HTTP", "true")]].concat()) {
            let keys = server.keys();
            assert!(keys.len() > 1 && keys.iter().all(|key| key.starts_with("team/blake3/")), "{keys:?}");
            return;
        }
        let place = Place::new();
        let db = place.db_with("s3://models/team".as_ref()).await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 6), TrainSpec::new().id("e13")).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Completed, "{}", text(&info));
        let model: Walk = run.load().await.unwrap();
        db.apply(&model).await.unwrap();
        assert_eq!(weights(&model).await.len(), 512);
        let report = db.verify().await.unwrap();
        assert!(report.is_sound(), "{report}");
        assert!(!place.path("db/artifacts").exists());
        for secret in [KEY, SECRET] {
            assert!(!is_written_somewhere(place.folder.path(), secret), "no key is stored");
        }
    }

    async fn j03_models_are_written_to_an_object_store(isolation: Isolation) {
        if !with_credentials("j03_models_are_written_to_an_object_store", isolation) {
            return;
        }
        let (place, server) = (Place::new(), Server::start());
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let spec = TrainSpec::new().id("a").save_path(place_at(&server.endpoint, "/base/team/"));
        let spec = spec.save_with_id(true).model_name("dat").extra_path_arg("v 1");
        server.state().busy = 2;
        let run = trainer.train(Walk::new("loop", 2), spec).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Completed, "{}", text(&info));
        let path = info.path.clone().unwrap();
        assert_eq!(path.to_string(), "s3://models/base/team/a/dat/v 1");
        assert_eq!(db.get_model_future("a").await.unwrap().info().await.unwrap().path, Some(path.clone()), "by the id, too");
        let order = server.state().order.clone();
        assert_eq!(order.len(), 2, "{order:?}");
        assert!(order[0].starts_with("base/team/a/dat/v%201/blobs/"), "{order:?}");
        assert_eq!(order[1], "base/team/a/dat/v%201/model.json", "after all that it names");
        let by_hand: Walk = load_model_from(path.clone()).await.unwrap();
        let through: Walk = run.load().await.unwrap();
        assert_eq!((by_hand.trace.clone(), weights(&by_hand).await), (through.trace.clone(), weights(&through).await));
        for secret in [KEY, SECRET] {
            assert!(!format!("{info:?}{path:?}{run:?}").contains(secret));
            assert!(!is_written_somewhere(place.folder.path(), secret), "no key is stored");
        }
        let damaged = vec![0; 512];
        server.state().put(&order[0], damaged);
        let damaged: Walk = load_model_from(path.clone()).await.unwrap();
        assert_eq!(damaged.weights.unwrap().get().await.unwrap_err().kind(), ErrorKind::Integrity);
        server.state().objects.remove(&order[1]);
        assert_eq!(load_model_from::<Walk>(path).await.err().unwrap().kind(), ErrorKind::NotFound);
    }

    async fn j04_only_objects_that_nobody_changed_are_deleted(isolation: Isolation) {
        if !with_credentials("j04_only_objects_that_nobody_changed_are_deleted", isolation) {
            return;
        }
        let (place, server) = (Place::new(), Server::start());
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let train = async |path: &str| {
            let spec = TrainSpec::new().id(path).save_path(place_at(&server.endpoint, path)).wait();
            let run = trainer.train(Walk::new("loop", 2), spec).await.unwrap();
            assert_eq!(run.info().await.unwrap().status, Status::Completed, "{}", text(&run.info().await.unwrap()));
            run
        };
        let whole = train("whole").await;
        let touched = train("touched").await;
        let changed = train("changed").await;
        server.state().put("whole/of somebody else", b"x".to_vec());
        // Another state with the same bytes is still what the job wrote; one with other bytes of
        // the same length is not.
        let bytes = server.state().objects["touched/model.json"].0.clone();
        server.state().put("touched/model.json", bytes.clone());
        let other: Vec<u8> = bytes.iter().map(|byte| if *byte == b'2' { b'3' } else { *byte }).collect();
        server.state().put("changed/model.json", other);
        for run in [whole, touched, changed] {
            run.purge().await.unwrap();
            assert!(run.info().await.unwrap().purged);
        }
        assert_eq!(server.keys(), ["changed/model.json", "whole/of somebody else"]);
    }

    async fn a_large_model_goes_in_parts(isolation: Isolation) {
        if !with_credentials("a_large_model_goes_in_parts", isolation) {
            return;
        }
        let (place, server) = (Place::new(), Server::start());
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        server.state().refuse_part = Some(2);
        let run = trainer.train(Walk::new("big", 0), TrainSpec::new().save_path(place_at(&server.endpoint, "big")).wait()).await.unwrap();
        let info = run.info().await.unwrap();
        assert_eq!(info.status, Status::Errored);
        assert!(text(&info).contains("cannot write to `s3://models/big`") && text(&info).contains("EntityTooSmall"), "{}", text(&info));
        assert!(server.state().uploads.is_empty() && server.keys().is_empty(), "what was begun is aborted");
        server.state().refuse_part = None;
        let run = run.resume().await.unwrap();
        assert_eq!(run.wait().await.unwrap().status, Status::Completed);
        {
            let state = server.state();
            assert!(state.uploads.is_empty());
            assert_eq!((state.parts, state.largest_body), (3, 8 << 20), "one of the first try, two of the second");
        }
        let model: Walk = load_model_from(run.info().await.unwrap().path.unwrap()).await.unwrap();
        assert_eq!(weights(&model).await, vec![7; 16 << 20]);
        run.purge().await.unwrap();
        assert!(server.keys().is_empty());
    }

    async fn a_place_that_cannot_be_written_to_fails_the_job_soon(isolation: Isolation) {
        if !with_credentials("a_place_that_cannot_be_written_to_fails_the_job_soon", isolation) {
            return;
        }
        let (place, server) = (Place::new(), Server::start());
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let good = place_at(&server.endpoint, "p");
        let no_bucket = S3Path { bucket: "elsewhere".into(), ..good.clone() };
        let wrong = S3Path { access_key: Secret::env("SUPERDUPER_TEST_WRONG"), ..good.clone() };
        // A port that was just free.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let down = S3Path { endpoint: format!("http://{port}"), ..good.clone() };
        for (path, expected) in [
            (no_bucket, "there is no bucket `elsewhere`"),
            (wrong, "the credentials are refused"),
            (down, "the service does not answer as it should"),
        ] {
            let begun = Instant::now();
            let run = trainer.train(Walk::new("loop", 2), TrainSpec::new().save_path(path.clone()).wait()).await.unwrap();
            let info = run.info().await.unwrap();
            assert_eq!(info.status, Status::Errored);
            let text = text(&info);
            assert!(text.contains(&format!("cannot reach `s3://{}/p` at `{}`: {expected}", path.bucket, path.endpoint)), "{text}");
            assert!(!text.contains("AKIA"), "{text}");
            assert_eq!(info.progress, None, "it is known before the training");
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        }
        assert!(!is_written_somewhere(place.folder.path(), "AKIA"), "no key is stored, though the service repeats it");
        assert!(server.keys().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j05_an_upload_under_way_is_canceled_between_parts() {
    let variables =
        [("SUPERDUPER_TEST_KEY", KEY), ("SUPERDUPER_TEST_SECRET", SECRET), ("NO_PROXY", "*")];
    if !again("s3::j05_an_upload_under_way_is_canceled_between_parts", &variables) {
        return;
    }
    let (place, server) = (Place::new(), Server::start());
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    server.state().slow = Duration::from_millis(300);
    let spec = TrainSpec::new().save_path(place_at(&server.endpoint, "big"));
    let run = trainer.train(Walk::new("big", 0), spec).await.unwrap();
    until("the upload is begun", async || !server.state().uploads.is_empty()).await;
    run.cancel().await.unwrap();
    let info = run.wait().await.unwrap();
    assert_eq!(info.status, Status::Cancelled, "{}", text(&info));
    let state = server.state();
    assert!(
        state.uploads.is_empty() && state.objects.is_empty() && state.parts <= 1,
        "{} parts",
        state.parts
    );
}

#[tokio::test]
async fn j03_a_missing_secret_and_an_unusable_place_are_refused_before_the_start() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let refused = async |path: S3Path| {
        trainer.train(Walk::new("loop", 1), TrainSpec::new().save_path(path)).await.unwrap_err()
    };
    let good = S3Path {
        access_key: Secret::env("PATH"),
        secret_key: Secret::env("PATH"),
        ..place_at("http://127.0.0.1:1", "a")
    };
    let missing =
        refused(S3Path { secret_key: Secret::env("SUPERDUPER_TEST_ABSENT"), ..good.clone() }).await;
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(
        missing.to_string().contains(
            "the secret key of `s3://models/a`: secret `env:SUPERDUPER_TEST_ABSENT` cannot be read"
        ),
        "{missing}"
    );
    assert!(missing.hint().is_some_and(|hint| hint.contains("SUPERDUPER_TEST_ABSENT")));
    for endpoint in ["ftp://a", "http://", "https://me:word@host", "http://a?key=word", "a"] {
        let error = refused(S3Path { endpoint: endpoint.to_owned(), ..good.clone() }).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{endpoint}");
        assert!(!error.to_string().contains("word"), "{error}");
    }
    for (bucket, path) in
        [("", "a"), ("a/b", "a"), ("..", "a"), ("models", "a/../b"), ("models", "a\\b")]
    {
        let error =
            refused(S3Path { bucket: bucket.into(), path: path.into(), ..good.clone() }).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bucket} {path}");
    }
    let escape = TrainSpec::new().save_path(good).model_name("../b");
    assert_eq!(
        trainer.train(Walk::new("loop", 1), escape).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
    let read = load_model_from::<Walk>(SavePath::from(place.path("nowhere"))).await.err().unwrap();
    assert_eq!(read.kind(), ErrorKind::NotFound);
}
