//! Keeping house: sweeping blobs, going back to an old version.

use crate::support::{databases, refused, says};
use superduper::{
    Action, Bytes, Digest, Output,
    prelude::*,
    store::{JobRole, JobState},
};

#[derive(Component, Clone)]
#[component(kind = "upkeep.Part")]
struct Part {
    identifier: String,
    #[component(breaking)]
    size: i64,
}

#[derive(Component)]
#[component(kind = "upkeep.Trained")]
struct Trained {
    identifier: String,
    #[component(breaking)]
    seed: i64,
    note: String,
    part: Part,
    data: Artifact<Bytes>,
    weights: Output<Artifact<Bytes>>,
    score: Output<f64>,
}

impl Lifecycle for Trained {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        ctx.log(format!("created {}", ctx.version()));
        Ok(())
    }
}

#[triggers]
impl Trained {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<i64> {
        ctx.set(&self.weights, Bytes::from(format!("weights of seed {}", self.seed)).into())?;
        ctx.set(&self.score, self.seed as f64 / 4.0)?;
        Ok(self.seed)
    }
    #[trigger("apply", watch = "note")]
    fn publish(&self, train: i64) -> Result<String> {
        Ok(format!("{} {train}", self.note))
    }
}

fn trained(seed: i64, note: &str, size: i64) -> Trained {
    Trained {
        identifier: "t".into(),
        seed,
        note: note.into(),
        part: Part { identifier: "p".into(), size },
        data: Bytes::from(format!("data {seed}")).into(),
        weights: Output::empty(),
        score: Output::empty(),
    }
}

const TRAINED: &str = "upkeep.Trained/t";

#[tokio::test]
async fn d04_outputs_belong_to_the_version() {
    for on in databases().await {
        on.db.apply(trained(1, "a", 1)).await.expect("applies");
        on.db.apply(trained(1, "b", 1)).await.expect("an update");
        let on = on.reopened().await;
        let back: Trained = on.db.load("t").await.expect("loads");
        assert_eq!(*back.score.get().expect("kept by the update"), 0.25);
        assert_eq!(
            &back.weights.get().expect("kept").get().await.expect("bytes")[..],
            b"weights of seed 1"
        );
        // Applying the loaded value, outputs and all, is applying its declaration.
        assert!(on.db.plan(&back).await.expect("plans").is_empty());
        // A new version starts with empty ones.
        on.db.apply(trained(2, "b", 1)).jobs(false).await.expect("applies");
        let fresh: Trained = on.db.load("t").await.expect("loads");
        assert!(!fresh.score.is_set());
        says(&refused(fresh.score.get()), ErrorKind::NotSetUp, &["`score`", "upkeep.Trained/t@1"]);
        assert_eq!(
            *on.db.load::<Trained>("t@0").await.expect("loads").score.get().expect("kept"),
            0.25
        );
    }
}

#[tokio::test]
async fn d04_a_rollback_is_a_new_version_with_the_old_document_and_outputs() {
    for on in databases().await {
        on.db.apply(trained(1, "a", 1)).await.expect("applies");
        on.db.apply(trained(2, "a", 2)).await.expect("applies");
        let written = on.artifacts.written();
        let applied = on.db.rollback(TRAINED, 0).await.expect("rolls back");
        assert_eq!((applied.action, applied.version()), (Action::NewVersion, 2));
        let jobs = applied.jobs();
        assert_eq!(
            (jobs.len(), jobs[0].role, jobs[0].state),
            (2, JobRole::OnCreate, JobState::Succeeded),
            "on_create runs, and what sets no output"
        );
        assert_eq!(
            (jobs[1].method.as_str(), applied.left_out[0].trigger.as_str()),
            ("publish", "train")
        );
        let on = on.reopened().await;
        assert_eq!(on.versions(TRAINED).await, [0, 1, 2]);
        let back: Trained = on.db.load("t").await.expect("loads");
        assert_eq!((back.seed, back.part.size), (1, 1), "children are those of the old version");
        assert_eq!(*back.score.get().expect("copied"), 0.25);
        assert_eq!(
            &back.weights.get().expect("copied").get().await.expect("bytes")[..],
            b"weights of seed 1"
        );
        assert_eq!(&back.data.get().await.expect("bytes")[..], b"data 1");
        assert_eq!(on.db.versions(TRAINED).await.expect("versions")[2].content_of, Some(0));
        assert!(on.artifacts.written() <= written, "nothing is uploaded again");
        // The old version can go; what the new one shares with it stays.
        on.db.remove::<Trained>("t").version(0).await.expect("removes");
        let back: Trained = on.db.load("t").await.expect("loads");
        assert_eq!(
            &back.weights.get().expect("copied").get().await.expect("bytes")[..],
            b"weights of seed 1"
        );
        assert_eq!(&back.data.get().await.expect("bytes")[..], b"data 1");
        // Its edges are on record: the child it refers to is protected.
        says(
            &refused(on.db.remove::<Part>("p").version(0).await),
            ErrorKind::InUse,
            &["upkeep.Trained/t@2"],
        );
    }
}

#[tokio::test]
async fn d13_an_update_after_a_rollback_has_what_it_depends_on() {
    for on in databases().await {
        on.db.apply(trained(1, "a", 1)).await.expect("applies");
        on.db.apply(trained(2, "a", 1)).await.expect("applies");
        on.db.rollback(TRAINED, 0).await.expect("rolls back");
        // `publish` watches `note` and needs `train`, which has no job in the new version yet.
        let applied = on.db.apply(trained(1, "b", 1)).await.expect("applies");
        assert_eq!((applied.version(), applied.revision()), (2, 1));
        assert_eq!(applied.result::<String>("publish").expect("a result"), "b 1");
    }
}

#[tokio::test]
async fn a_rollback_of_what_is_not_there_is_refused() {
    for on in databases().await {
        on.db.apply(trained(1, "a", 1)).await.expect("applies");
        let before = on.dump().await;
        says(
            &refused(on.db.rollback(TRAINED, 7).await),
            ErrorKind::NotFound,
            &["upkeep.Trained/t@7"],
        );
        says(
            &refused(on.db.rollback("upkeep.Trained/x", 0).await),
            ErrorKind::NotFound,
            &["upkeep.Trained/x@0"],
        );
        assert_eq!(on.dump().await, before);
    }
}

/// Put a blob that nothing refers to, as a crash between upload and commit leaves it.
async fn orphan(db: &Db, text: &'static str) -> Digest {
    let blob: Artifact<Bytes> = Bytes::from(text).into();
    blob.save(db.artifact_store()).await.expect("saves");
    blob.digest().expect("a digest")
}

#[tokio::test]
async fn gc_deletes_what_nothing_refers_to() {
    for on in databases().await {
        on.db.apply(trained(1, "a", 1)).await.expect("applies");
        let blobs = on.blob_count().await;
        assert_eq!(
            on.db.gc(true).await.expect("looks"),
            superduper::db::GcReport { dry_run: true, ..Default::default() }
        );
        let (first, second) = (orphan(&on.db, "an orphan").await, orphan(&on.db, "another").await);
        let before = on.dump().await;
        let report = on.db.gc(true).await.expect("looks");
        let mut found: Vec<Digest> = report.blobs.iter().map(|(digest, _)| *digest).collect();
        found.sort();
        let mut expected = vec![first, second];
        expected.sort();
        assert_eq!((found, report.bytes, report.dry_run), (expected, 16, true));
        assert_eq!(on.dump().await, before, "a dry run writes nothing");
        let report = on.db.gc(false).await.expect("sweeps");
        assert_eq!((report.blobs.len(), report.bytes, report.dry_run), (2, 16, false));
        assert_eq!(on.blob_count().await, blobs);
        assert!(on.db.gc(false).await.expect("sweeps").blobs.is_empty());
        let back: Trained = on.db.load("t").await.expect("loads");
        assert_eq!(
            &back.weights.get().expect("kept").get().await.expect("bytes")[..],
            b"weights of seed 1"
        );
    }
}

#[tokio::test]
async fn gc_spares_young_blobs_and_a_swept_blob_comes_back_with_an_apply() {
    for on in databases().await {
        let patient = Db::builder()
            .metadata(on.db.metadata().clone())
            .artifacts(on.db.artifact_store().clone())
            .build()
            .await
            .expect("opens");
        orphan(&on.db, "data 1").await;
        assert!(
            patient.gc(false).await.expect("sweeps").blobs.is_empty(),
            "a minute has not passed"
        );
        let plan = on.db.plan(trained(1, "a", 1)).await.expect("plans");
        assert_eq!(on.db.gc(false).await.expect("sweeps").blobs.len(), 1);
        // The plan was made before the sweep: it is refused or uploads again, but never refers to
        // what is gone.
        if on.db.apply_plan(plan).await.is_err() {
            on.db.apply(trained(1, "a", 1)).await.expect("applies");
        }
        let back: Trained = on.db.load("t").await.expect("loads");
        assert_eq!(&back.data.get().await.expect("bytes")[..], b"data 1");
    }
}

#[tokio::test]
async fn superseded_revisions_keep_their_blobs() {
    for on in databases().await {
        let with = |text: &str| Trained { data: Bytes::from(text).into(), ..trained(1, "a", 1) };
        on.db.apply(with("first")).await.expect("applies");
        on.db.apply(with("second")).await.expect("applies");
        assert!(on.db.gc(false).await.expect("sweeps").blobs.is_empty());
        let old: Trained = on.db.load("t@0.0").await.expect("loads");
        assert_eq!(&old.data.get().await.expect("bytes")[..], b"first");
        on.db.remove::<Trained>("t").recursive().await.expect("removes");
        assert_eq!(on.blob_count().await, 0);
    }
}
