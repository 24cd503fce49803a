//! Where models are written to outside of the artifact store.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::{SavePath, prelude::*};

both! {
    async fn j03_every_piece_of_the_path_counts(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let folder = place.path("data");
        // "a" and "dat" occur in the base path, which is no reason to drop them.
        let spec = TrainSpec::new().id("a").save_path(&folder).save_with_id(true).model_name("dat").extra_path_arg("v1");
        let run = trainer.train(Walk::new("loop", 2), spec).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Completed, "{}", text(&info));
        let path = folder.join("a").join("dat").join("v1");
        assert_eq!(info.path.as_ref().and_then(SavePath::as_folder), Some(path.as_path()));
        assert_eq!(db.get_model_future("a").await.unwrap().info().await.unwrap().path, Some(SavePath::from(&path)));
        let by_hand: Walk = load_model(&path).await.unwrap();
        let through: Walk = run.load().await.unwrap();
        assert_eq!((by_hand.trace.clone(), weights(&by_hand).await), (through.trace.clone(), weights(&through).await));
        let blob = std::fs::read_dir(path.join("blobs")).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&blob, vec![0; 512]).unwrap();
        let damaged: Walk = load_model(&path).await.unwrap();
        let error = damaged.weights.unwrap().get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        assert_eq!(weights(&run.load().await.unwrap()).await.len(), 512, "the artifact store has a copy of its own");
    }
}

#[tokio::test]
async fn j03_pieces_that_lead_elsewhere_are_refused_before_the_start() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let outside = place.path("outside");
    for name in ["..", ".", "", "a/b", "../escape", "a\\b", "x\0y", outside.to_str().unwrap()] {
        let spec = TrainSpec::new().save_path(place.path("data")).model_name(name);
        let error = trainer.train(Walk::new("loop", 1), spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        let spec = TrainSpec::new().save_path(place.path("data")).extra_path_arg(name);
        assert_eq!(trainer.train(Walk::new("loop", 1), spec).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    let spec = TrainSpec::new().id("..").save_path(place.path("data")).save_with_id(true);
    assert_eq!(trainer.train(Walk::new("loop", 1), spec).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    std::fs::write(place.path("file"), "").unwrap();
    let error = trainer.train(Walk::new("loop", 1), TrainSpec::new().save_path(place.path("file"))).await.unwrap_err();
    assert!(error.to_string().contains("is a file"), "{error}");
    for url in ["s3://models/team", "https://storage.example.com/models", "gs://models"] {
        let error = trainer.train(Walk::new("loop", 1), TrainSpec::new().save_path(url)).await.unwrap_err();
        let said = if cfg!(feature = "s3") || !url.starts_with("s3") { "is a URL, not a folder" } else { "S3 output path not supported" };
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(db.jobs(Default::default()).await.unwrap().is_empty() && !place.path("data").exists(), "nothing was started or written");
}

#[cfg(not(feature = "s3"))]
#[tokio::test]
async fn j03_without_the_feature_an_object_store_is_refused_before_the_start() {
    let place = Place::new();
    let db = place.db().await;
    let path = superduper_train::S3Path {
        endpoint: "http://localhost:1".into(),
        region: "here".into(),
        bucket: "models".into(),
        path: "a".into(),
        access_key: Secret::env("SUPERDUPER_TEST_KEY"),
        secret_key: Secret::env("SUPERDUPER_TEST_SECRET"),
    };
    let error = trainer(&db, Thread).await.train(Walk::new("loop", 1), TrainSpec::new().save_path(path)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("S3 output path not supported"), "{error}");
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn there_is_no_model_where_none_was_written() {
    let place = Place::new();
    let error = load_model::<Walk>(place.path("nowhere")).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
