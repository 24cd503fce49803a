//! Where models are written to outside of the artifact store.

use crate::support::*;
use superduper::{
    BoxFuture, Digest,
    prelude::*,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};
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
        assert_eq!(
            trainer.train(Walk::new("loop", 1), spec).await.unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{name:?}"
        );
    }
    let spec = TrainSpec::new().id("..").save_path(place.path("data")).save_with_id(true);
    assert_eq!(
        trainer.train(Walk::new("loop", 1), spec).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    std::fs::write(place.path("file"), "").unwrap();
    let error = trainer
        .train(Walk::new("loop", 1), TrainSpec::new().save_path(place.path("file")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is a file"), "{error}");
    for url in ["s3://models/team", "https://storage.example.com/models", "gs://models"] {
        let error =
            trainer.train(Walk::new("loop", 1), TrainSpec::new().save_path(url)).await.unwrap_err();
        let said = if cfg!(feature = "s3") || !url.starts_with("s3") {
            "is a URL, not a folder"
        } else {
            "S3 output path not supported"
        };
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(
        db.jobs(Default::default()).await.unwrap().is_empty() && !place.path("data").exists(),
        "nothing was started or written"
    );
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
    let error = trainer(&db, Thread)
        .await
        .train(Walk::new("loop", 1), TrainSpec::new().save_path(path))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("S3 output path not supported"), "{error}");
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j03_a_relative_path_is_where_it_was_asked_for() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let training = trainer
        .training("relative", Walk::new("loop", 1), TrainSpec::new().save_path("models"))
        .unwrap();
    let stored = superduper::Encoded::of(&training).unwrap().value().to_string();
    let here = std::env::current_dir().unwrap().join("models");
    assert!(stored.contains(here.to_str().unwrap()), "{stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j03_a_place_that_cannot_be_written_to_is_known_before_the_training() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let train = async |folder: std::path::PathBuf| {
        let run = trainer
            .train(Walk::new("loop", 3), TrainSpec::new().save_path(folder).wait())
            .await
            .unwrap();
        let info = run.info().await.unwrap();
        assert!(
            info.status == Status::Errored && run.metrics().await.unwrap().is_empty(),
            "{info:?}"
        );
        text(&info)
    };
    let foreign = place.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    for other in ["not even JSON", "{\"layers\": 3}"] {
        std::fs::write(foreign.join("model.json"), other).unwrap();
        assert!(train(foreign.clone()).await.contains("it is not overwritten"));
        assert_eq!(std::fs::read_to_string(foreign.join("model.json")).unwrap(), other);
    }
    std::fs::write(place.path("file"), "").unwrap();
    assert!(train(place.path("file").join("below")).await.contains("is a file, not a folder"));
    // That another training wrote there before is no obstacle, and neither is a model of a type
    // that is not known here.
    std::fs::create_dir(place.path("model")).unwrap();
    std::fs::write(
        place.path("model").join("model.json"),
        r#"{"$kind": "other.Kind", "$version": 7}"#,
    )
    .unwrap();
    for steps in [1, 2] {
        let spec = TrainSpec::new().save_path(place.path("model")).wait();
        let run = trainer.train(Walk::new("loop", steps), spec).await.unwrap();
        assert_eq!(run.info().await.unwrap().status, Status::Completed);
    }
    assert_eq!(load_model::<Walk>(place.path("model")).await.unwrap().trace.len(), 2);
}

/// Forgets the first blob that is read: as where a sweep takes what nothing on record names yet.
#[derive(Debug)]
struct Swept {
    inner: std::sync::Arc<dyn ArtifactStore>,
    left: std::sync::atomic::AtomicUsize,
}

impl ArtifactStore for Swept {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn capabilities(&self) -> ArtifactCapabilities {
        self.inner.capabilities()
    }
    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        self.inner.put(digest, size, chunks)
    }
    fn get_range(
        &self,
        digest: Digest,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'_, Result<Bytes>> {
        use std::sync::atomic::Ordering::Relaxed;
        // In the middle of a blob, too.
        let sweeps = range.start > 0
            && self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move {
            if sweeps {
                self.inner.delete(digest).await?;
            }
            self.inner.get_range(digest, range).await
        })
    }
    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.inner.size(digest)
    }
    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.inner.delete(digest)
    }
    fn list(
        &self,
        first: Option<u8>,
        before: Option<std::time::SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.inner.list(first, before)
    }
    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.inner.quarantine(digest)
    }
    fn local_path(&self, _digest: Digest) -> Option<std::path::PathBuf> {
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_while_a_model_is_written_elsewhere_takes_nothing_from_it() {
    let place = Place::new();
    let inner = std::sync::Arc::new(
        superduper_object::ObjectStore::folder(place.path("artifacts")).unwrap(),
    );
    let store = Swept { inner, left: 2.into() };
    let metadata =
        std::sync::Arc::new(superduper_sqlite::SqliteStore::open(place.path("db")).unwrap());
    let db = Db::builder()
        .metadata(metadata)
        .artifacts(std::sync::Arc::new(store))
        .build()
        .await
        .unwrap();
    let trainer = trainer(&db, Thread).await;
    let run = trainer
        .train(Walk::new("big", 0), TrainSpec::new().save_path(place.path("model")).wait())
        .await
        .unwrap();
    let info = run.info().await.unwrap();
    assert_eq!(info.status, Status::Completed, "{}", text(&info));
    let (written, kept): (Walk, Walk) =
        (load_model(place.path("model")).await.unwrap(), run.load().await.unwrap());
    assert_eq!(weights(&written).await, vec![7; 16 << 20]);
    assert_eq!(weights(&kept).await, vec![7; 16 << 20]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_for_its_time_limit_writes_no_model_afterwards() {
    let place = Place::new();
    let db = place.db().await;
    let limits = Limits { wall: Some("0.1s".parse().unwrap()), ..Limits::default() };
    let trainer = LocalTrainer::new("default")
        .base(JobBase { limits, ..base(Thread) })
        .open(&db)
        .await
        .unwrap();
    let gate = place.gate();
    let run = trainer
        .train(Walk::new("deaf", 0), gate.spec().save_path(place.path("model")).wait())
        .await
        .unwrap();
    assert_eq!(run.info().await.unwrap().error.unwrap().kind, superduper::FailureKind::Timeout);
    gate.open();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(
        !place.path("model").join("model.json").exists(),
        "its thread went on, and must not write"
    );
}

#[tokio::test]
async fn there_is_no_model_where_none_was_written() {
    let place = Place::new();
    let error = load_model::<Walk>(place.path("nowhere")).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
