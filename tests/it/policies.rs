//! How a job is run, chosen for each component; `exclusive` applies; components held by value.

use crate::support::at_once::AtOnce;
use std::{sync::Arc, time::Duration};
use superduper::{Inline, JobPolicy, job::Placement, prelude::*, store::JobState};

/// By the size of the pool.
static RUNNING: AtOnce = AtOnce::new();

/// Runs as its fields say.
#[derive(Component, Clone)]
#[component(kind = "test.Limited")]
struct Limited {
    identifier: String,
    retries: u32,
    pool: usize,
    fails: u32,
    timeout_ms: u64,
}

#[triggers]
impl Limited {
    fn policy(&self) -> JobPolicy {
        JobPolicy {
            pool: (self.pool > 0).then(|| ("limited".to_owned(), self.pool)),
            retries: Some(self.retries),
            backoff: Some(Duration::ZERO),
            timeout: (self.timeout_ms > 0).then(|| Duration::from_millis(self.timeout_ms)),
            ..JobPolicy::default()
        }
    }

    #[trigger("apply", policy = "policy", retries = 9)]
    async fn work(&self, ctx: &JobContext) -> Result<u32> {
        let inside = RUNNING.enter(&self.pool.to_string());
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(inside);
        if ctx.attempt() <= self.fails { Err(Error::msg("not yet")) } else { Ok(ctx.attempt()) }
    }
}

fn limited(identifier: &str) -> Limited {
    Limited { identifier: identifier.into(), retries: 0, pool: 0, fails: 0, timeout_ms: 0 }
}

#[tokio::test]
async fn a_component_chooses_how_its_trigger_is_run() {
    let db = Db::in_memory().await.unwrap();
    let error = db.apply(Limited { fails: 1, ..limited("none") }).await.unwrap_err();
    assert_eq!(error.outcome().unwrap().jobs[0].attempt, 1, "the policy wins over the attribute");
    let applied = db.apply(Limited { fails: 2, retries: 2, ..limited("two") }).await.unwrap();
    assert_eq!(applied.result::<u32>("work").unwrap(), 3);
    let error = db.apply(Limited { timeout_ms: 5, ..limited("late") }).await.unwrap_err();
    assert!(error.to_string().contains("time limit of 5ms"), "{error}");
}

/// Does nothing, now and then telling that it is alive.
#[derive(Component, Clone)]
#[component(kind = "test.Quiet")]
struct Quiet {
    identifier: String,
    tells: bool,
}

#[triggers]
impl Quiet {
    fn policy(&self) -> JobPolicy {
        JobPolicy { stall: Some(Duration::from_millis(300)), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "policy")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            if self.tells {
                ctx.beat();
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_job_that_gives_no_sign_of_life_is_stopped() {
    let db = Db::in_memory().await.unwrap();
    db.apply(Quiet { identifier: "lively".into(), tells: true }).await.unwrap();
    let error = db.apply(Quiet { identifier: "still".into(), tells: false }).await.unwrap_err();
    assert!(error.to_string().contains("no sign of life for 300ms"), "{error}");
}

#[tokio::test]
async fn a_pool_limits_how_many_run_at_once() {
    let db = Db::in_memory().await.unwrap();
    let mut runs = Vec::new();
    for number in 0..12 {
        runs.push(
            db.apply(Limited { pool: 2, ..limited(&format!("pooled-{number}")) })
                .detach()
                .await
                .unwrap(),
        );
    }
    let states: Vec<JobState> =
        db.jobs(Default::default()).await.unwrap().iter().map(|job| job.state).collect();
    assert!(states.iter().filter(|state| **state == JobState::Running).count() <= 2, "{states:?}");
    let row = db.jobs(Default::default()).await.unwrap().pop().unwrap();
    assert_eq!(Placement::of_text(row.executor.as_deref()).pool, Some(("limited".to_owned(), 2)));
    for run in &runs {
        run.wait().await.unwrap();
        assert_eq!(run.recorded().len(), 1);
    }
    assert!((1..=2).contains(&RUNNING.most("2")), "{}", RUNNING.most("2"));
}

#[tokio::test]
async fn an_exclusive_apply_is_refused_while_the_component_is_busy() {
    let db = Db::in_memory().await.unwrap();
    let busy = Limited { fails: 3, retries: 3, ..limited("busy") };
    let run = db.apply(&busy).exclusive().detach().await.unwrap();
    let other = Limited { pool: 1, ..busy };
    let error = db.apply(&other).exclusive().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("unfinished job"), "{error}");
    assert_eq!(
        db.versions("test.Limited/busy").await.unwrap()[0].revision(),
        0,
        "nothing was written"
    );
    run.wait().await.unwrap();
    db.apply(&other).exclusive().await.unwrap();
}

#[derive(Component)]
#[component(kind = "test.Holder")]
struct Holder {
    identifier: String,
    own: Inline<Arc<dyn Component>>,
    shared: Limited,
    weights: Inline<Option<Weighted>>,
}

#[derive(Component, Clone)]
#[component(kind = "test.Weighted")]
struct Weighted {
    identifier: String,
    weights: Artifact<Bytes>,
}

#[tokio::test]
async fn a_component_held_by_value_has_no_version_of_its_own() {
    let db = Db::in_memory().await.unwrap();
    let weights = Artifact::new(Bytes::from("by value"));
    let holder = Holder {
        identifier: "h".into(),
        own: Inline(Arc::new(limited("own"))),
        shared: limited("shared"),
        weights: Inline(Some(Weighted { identifier: "w".into(), weights })),
    };
    db.apply(holder).await.unwrap();
    let listed: Vec<String> =
        db.list().await.unwrap().into_iter().map(|row| row.address.identifier).collect();
    assert_eq!(listed, ["h", "shared"]);
    let back: Holder = db.load("h").await.unwrap();
    assert_eq!((back.own.0.kind(), back.own.0.identifier()), ("test.Limited", "own"));
    let weighted = back.weights.0.unwrap();
    assert_eq!(
        &weighted.weights.get().await.unwrap()[..],
        b"by value",
        "its blobs are stored with the holder"
    );
    assert_eq!(db.metadata().referenced_blobs(None).await.unwrap().len(), 1);
    db.remove::<Holder>("h").await.unwrap();
    assert!(db.metadata().referenced_blobs(None).await.unwrap().is_empty());
}
