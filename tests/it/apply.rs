//! Applying one component: versions, revisions, and what is left alone.

use crate::support::{at, databases, refused};
use std::sync::Arc;
use superduper::{
    Action, Address,
    prelude::*,
    store::{JobFilter, JobState},
};

#[derive(Component, Clone)]
#[component(kind = "apply.Test")]
struct Test {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: String,
}

fn test(a: i64, b: &str) -> Test {
    Test { identifier: "test".into(), a, b: b.into() }
}

const TEST: &str = "apply.Test/test";

/// One with jobs and a blob.
#[derive(Component, Clone)]
#[component(kind = "apply.Working")]
struct Working {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: i64,
    weights: Artifact<Bytes>,
}

#[triggers]
impl Working {
    #[trigger("apply")]
    fn first(&self) -> Result<i64> {
        Ok(self.a)
    }
    #[trigger("apply")]
    fn second(&self, first: i64) -> Result<i64> {
        Ok(first + self.b)
    }
}

fn working(a: i64, b: i64) -> Working {
    Working { identifier: "w".into(), a, b, weights: Bytes::from("some weights").into() }
}

const WORKING: &str = "apply.Working/w";

#[tokio::test]
async fn a01_an_empty_store_gets_version_0() {
    for on in databases().await {
        let applied = on.db.apply(test(1, "x")).await.expect("applies");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Create, 0, 0));
        assert_eq!(applied.address.to_string(), "apply.Test/test@0.0");
        assert!(applied.outcome.is_none(), "it has no jobs");
        let listed = on.db.list().await.expect("lists");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].versions, [0]);
        let on = on.reopened().await;
        let back: Test = on.db.load("test").await.expect("loads");
        assert_eq!((back.a, back.b.as_str()), (1, "x"));
    }
}

#[tokio::test]
async fn a02_an_equal_value_changes_nothing() {
    for on in databases().await {
        on.db.apply(working(1, 2)).await.expect("applies");
        let (before, commits, puts) = (on.dump().await, on.metadata.commits(), on.artifacts.puts());
        // Equal bytes in a new artifact, too.
        let applied = on.db.apply(working(1, 2)).await.expect("applies");
        assert_eq!((applied.action, applied.version()), (Action::Unchanged, 0));
        assert!(applied.jobs().is_empty());
        // And the loaded value.
        let back: Working = on.db.load("w").await.expect("loads");
        on.db.apply(&back).await.expect("applies");
        assert_eq!(on.metadata.commits(), commits, "nothing is committed");
        assert_eq!(on.artifacts.puts(), puts, "no blob is touched");
        assert_eq!(on.dump().await, before);
        assert_eq!(on.versions(WORKING).await, [0]);
    }
}

#[tokio::test]
async fn a03_another_change_updates_in_place() {
    for on in databases().await {
        on.db.apply(test(1, "x")).await.expect("applies");
        let applied = on.db.apply(test(2, "x")).await.expect("applies");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Update, 0, 1));
        assert_eq!(on.versions(TEST).await, [0]);
        let on = on.reopened().await;
        assert_eq!(on.db.load::<Test>("test").await.expect("loads").a, 2);
        let first: Test = on.db.load("test@0.0").await.expect("the older revision loads");
        assert_eq!(first.a, 1);
    }
}

#[tokio::test]
async fn a04_a_breaking_change_makes_a_new_version() {
    for on in databases().await {
        on.db.apply(test(1, "x")).await.expect("applies");
        let applied = on.db.apply(test(1, "y")).await.expect("applies");
        assert_eq!(
            (applied.action, applied.version(), applied.revision()),
            (Action::NewVersion, 1, 0)
        );
        let on = on.reopened().await;
        assert_eq!(on.versions(TEST).await, [0, 1]);
        assert_eq!(on.db.load::<Test>("test").await.expect("loads").b, "y");
        let old: Test = on.db.load_version("test", 0).await.expect("the old version loads");
        assert_eq!((old.a, old.b.as_str()), (1, "x"));
    }
}

#[tokio::test]
async fn a05_each_breaking_apply_counts_on() {
    for on in databases().await {
        for (number, b) in ["x", "y", "z"].into_iter().enumerate() {
            let applied = on.db.apply(test(1, b)).await.expect("applies");
            assert_eq!(applied.version() as usize, number);
        }
        assert_eq!(on.versions(TEST).await, [0, 1, 2]);
    }
}

#[tokio::test]
async fn a05_a_change_of_both_kinds_is_a_version_and_revisions_count_within_it() {
    for on in databases().await {
        on.db.apply(test(1, "x")).await.expect("applies");
        on.db.apply(test(2, "x")).await.expect("applies");
        on.db.apply(test(3, "y")).await.expect("applies");
        let applied = on.db.apply(test(4, "y")).await.expect("applies");
        assert_eq!((applied.version(), applied.revision()), (1, 1));
        assert_eq!(
            on.db.load::<Test>("test@0").await.expect("loads").a,
            2,
            "the newest revision of version 0"
        );
        assert_eq!(on.db.load::<Test>("test@1.0").await.expect("loads").a, 3);
    }
}

#[tokio::test]
async fn a15_a_revert_is_a_new_version_with_the_content_of_the_old_one() {
    for on in databases().await {
        for b in [1, 2] {
            on.db.apply(working(1, b)).await.expect("applies");
        }
        let written = on.artifacts.written();
        let plan = on.db.plan(working(1, 1)).await.expect("plans");
        assert!(plan.to_string().contains("content of @0"), "{plan}");
        let applied = on.db.apply(working(1, 1)).await.expect("applies");
        assert_eq!(applied.version(), 2);
        assert_eq!(on.artifacts.written(), written, "nothing is uploaded again");
        let on = on.reopened().await;
        let versions = on.db.versions(WORKING).await.expect("versions");
        assert_eq!(
            versions.iter().map(|version| version.content_of).collect::<Vec<_>>(),
            [None, None, Some(0)]
        );
        assert_eq!(versions[0].uuid, versions[2].uuid);
        for (version, b) in [(0, 1), (1, 2), (2, 1)] {
            let loaded: Working = on.db.load_version("w", version).await.expect("loads");
            assert_eq!(loaded.b, b);
            assert_eq!(&loaded.weights.get().await.expect("weights")[..], b"some weights");
        }
    }
}

#[tokio::test]
async fn a19_without_jobs_there_are_rows_and_blobs_only() {
    for on in databases().await {
        let applied = on.db.apply(working(1, 2)).jobs(false).await.expect("applies");
        assert_eq!(applied.version(), 0);
        assert!(on.jobs().await.is_empty());
        assert_eq!(on.blob_count().await, 1);
        assert_eq!(on.db.status(WORKING).await.expect("a status"), superduper::Status::OwesJobs);
        // The version owes its jobs: the next plain apply runs them, once.
        let applied = on.db.apply(working(1, 2)).await.expect("applies");
        assert_eq!(applied.action, Action::Unchanged);
        assert_eq!(applied.result::<i64>("second").expect("a result"), 3);
        assert_eq!(on.db.status(WORKING).await.expect("a status"), superduper::Status::Ready);
        on.db.apply(working(1, 2)).await.expect("applies");
        assert_eq!(on.jobs().await.len(), 2);
    }
}

#[tokio::test]
async fn a19_an_owing_version_stays_owing_while_applied_without_jobs() {
    for on in databases().await {
        on.db.apply(working(1, 2)).jobs(false).await.expect("applies");
        on.db.apply(working(5, 2)).jobs(false).await.expect("applies");
        let before = on.dump().await;
        on.db.apply(working(5, 2)).jobs(false).await.expect("applies");
        assert_eq!(on.dump().await, before);
        let applied = on.db.apply(working(5, 2)).await.expect("applies");
        assert_eq!(applied.result::<i64>("second").expect("a result"), 7);
    }
}

/// Two that hold the same third, one of them twice.
#[derive(Component)]
#[component(kind = "apply.Left")]
struct Left {
    identifier: String,
    shared: Arc<Working>,
    again: Vec<Arc<Working>>,
}

#[derive(Component)]
#[component(kind = "apply.Top")]
struct Top {
    identifier: String,
    left: Left,
    shared: Arc<Working>,
}

#[tokio::test]
async fn a20_a_component_reached_twice_is_stored_once() {
    for on in databases().await {
        let shared = Arc::new(working(1, 2));
        let left = Left {
            identifier: "l".into(),
            shared: shared.clone(),
            again: vec![shared.clone(), shared.clone()],
        };
        let applied =
            on.db.apply(Top { identifier: "t".into(), left, shared }).await.expect("applies");
        assert_eq!(applied.components.len(), 3);
        assert_eq!(applied.jobs().len(), 2, "its jobs are created once");
        let of_shared = on
            .db
            .jobs(JobFilter { target: Some(at(WORKING)), ..JobFilter::default() })
            .await
            .expect("jobs");
        assert_eq!(of_shared.len(), 2);
        let back: Top = on.db.load("t").await.expect("loads");
        assert_eq!((back.shared.b, back.left.shared.b, back.left.again.len()), (2, 2, 2));
    }
}

#[tokio::test]
async fn a20_equal_values_of_one_identifier_are_one_component() {
    for on in databases().await {
        // Not shared, but equal, blobs too.
        let left =
            Left { identifier: "l".into(), shared: Arc::new(working(1, 2)), again: Vec::new() };
        let applied = on
            .db
            .apply(Top { identifier: "t".into(), left, shared: Arc::new(working(1, 2)) })
            .await
            .expect("applies");
        assert_eq!(applied.components.len(), 3);
        assert_eq!(on.blob_count().await, 1);
    }
}

#[tokio::test]
async fn a20_different_values_of_one_identifier_are_refused_naming_both() {
    for on in databases().await {
        let left =
            Left { identifier: "l".into(), shared: Arc::new(working(1, 2)), again: Vec::new() };
        let top = Top { identifier: "t".into(), left, shared: Arc::new(working(1, 3)) };
        let error = refused(on.db.apply(&top).await);
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        for part in ["`apply.Working/w`", "`apply.Left/l`", "`apply.Top/t`", "`shared`", "`b`"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(on.db.list().await.expect("lists").is_empty());
        // Blobs count as content.
        let mut other = working(1, 2);
        other.weights = Bytes::from("other weights").into();
        let left =
            Left { identifier: "l".into(), shared: Arc::new(working(1, 2)), again: Vec::new() };
        let text = refused(
            on.db.apply(Top { identifier: "t".into(), left, shared: Arc::new(other) }).await,
        )
        .to_string();
        assert!(text.contains("weights"), "{text}");
        assert_eq!(on.blob_count().await, 0);
    }
}

#[tokio::test]
async fn an_apply_inside_a_job_must_be_detached() {
    #[derive(Component)]
    #[component(kind = "apply.Nesting")]
    struct Nesting {
        identifier: String,
        wait: bool,
    }
    #[triggers]
    impl Nesting {
        #[trigger("apply")]
        async fn run(&self, ctx: &JobContext) -> Result<()> {
            let db = ctx.db()?;
            if self.wait {
                db.apply(test(1, "x")).await.map(|_| ())
            } else {
                db.apply(test(1, "x")).detach().await.map(|_| ())
            }
        }
    }
    for on in databases().await {
        let error =
            refused(on.db.apply(Nesting { identifier: "waiting".into(), wait: true }).await);
        assert_eq!(error.kind(), ErrorKind::JobFailed);
        assert!(error.to_string().contains("detach"), "{error}");
        on.db.apply(Nesting { identifier: "detached".into(), wait: false }).await.expect("applies");
        assert_eq!(on.versions(TEST).await, [0]);
    }
}

#[tokio::test]
async fn the_outcome_of_a_failed_apply_is_attached_and_the_component_is_stored() {
    #[derive(Component)]
    #[component(kind = "apply.Failing")]
    struct Failing {
        identifier: String,
    }
    #[triggers]
    impl Failing {
        #[trigger("apply")]
        fn works(&self) -> Result<i64> {
            Ok(1)
        }
        #[trigger("apply")]
        fn fails(&self, works: i64) -> Result<i64> {
            Err(Error::msg(format!("no luck with {works}")))
        }
        #[trigger("apply", depends_on = "fails")]
        fn after(&self) -> Result<()> {
            Ok(())
        }
    }
    for on in databases().await {
        let error = refused(on.db.apply(Failing { identifier: "f".into() }).await);
        assert_eq!(error.kind(), ErrorKind::JobFailed);
        assert!(
            error.to_string().contains("`fails` of `apply.Failing/f@0.0`")
                && error.to_string().contains("no luck with 1"),
            "{error}"
        );
        let outcome = error.outcome().expect("the outcome is attached");
        let states: Vec<JobState> = outcome.jobs.iter().map(|job| job.state).collect();
        assert_eq!(states, [JobState::Succeeded, JobState::Failed, JobState::Skipped]);
        assert_eq!(outcome.result::<i64>("works").expect("a result"), 1);
        assert_eq!(on.db.load::<Failing>("f").await.expect("loads").identifier, "f");
        assert!(
            matches!(on.db.status(Address::new("apply.Failing", "f")).await, Ok(superduper::Status::Degraded(jobs)) if jobs.len() == 2)
        );
    }
}
