//! Applying again: joining what runs, trying again what failed.

use crate::support::{databases, refused};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use superduper::{Action, Status, prelude::*, store::JobState};
use tokio::sync::Notify;

/// Gates by name, since each test runs in one process with others.
static GATES: LazyLock<std::sync::Mutex<std::collections::HashMap<String, Arc<Gate>>>> =
    LazyLock::new(Default::default);

#[derive(Default)]
struct Gate {
    started: Notify,
    open: Notify,
    fails: AtomicBool,
    runs: AtomicUsize,
}

fn gate(name: &str) -> Arc<Gate> {
    GATES.lock().expect("no panic").entry(name.to_owned()).or_default().clone()
}

#[derive(Component, Clone)]
#[component(kind = "joining.Slow")]
struct Slow {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: i64,
}

#[triggers]
impl Slow {
    #[trigger("apply", watch = "a")]
    async fn work(&self) -> Result<i64> {
        let gate = gate(&self.identifier);
        gate.runs.fetch_add(1, Ordering::SeqCst);
        gate.started.notify_one();
        gate.open.notified().await;
        Ok(self.a)
    }
    #[trigger("apply")]
    fn after(&self, work: i64) -> Result<i64> {
        Ok(work + 1)
    }
}

#[derive(Component, Clone)]
#[component(kind = "joining.Flaky")]
struct Flaky {
    identifier: String,
    a: i64,
}

#[triggers]
impl Flaky {
    #[trigger("apply")]
    fn steady(&self) -> Result<i64> {
        gate(&format!("{} steady", self.identifier)).runs.fetch_add(1, Ordering::SeqCst);
        Ok(1)
    }
    #[trigger("apply")]
    fn flaky(&self, steady: i64) -> Result<i64> {
        let gate = gate(&self.identifier);
        gate.runs.fetch_add(1, Ordering::SeqCst);
        if gate.fails.load(Ordering::SeqCst) {
            Err(Error::msg("not yet"))
        } else {
            Ok(steady + self.a)
        }
    }
    #[trigger("apply", depends_on = "flaky")]
    fn last(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn d11_an_equal_apply_joins_the_unfinished_run() {
    for (number, on) in databases().await.into_iter().enumerate() {
        let slow = Slow { identifier: format!("join {number}"), a: 1, b: 1 };
        let gate = gate(&slow.identifier);
        let run = on.db.apply(&slow).detach().await.expect("starts");
        gate.started.notified().await;
        let plan = on.db.plan(&slow).await.expect("plans");
        assert_eq!(plan.joins(), [run.id().expect("a run")]);
        assert!(plan.to_string().contains("joins: run"), "{plan}");
        let (db, again) = (on.db.clone(), slow.clone());
        let joined = tokio::spawn(async move { db.apply(again).await });
        gate.open.notify_one();
        let applied = joined.await.expect("no panic").expect("applies");
        assert_eq!(
            (applied.action, applied.result::<i64>("after").expect("a result")),
            (Action::Unchanged, 2)
        );
        assert_eq!(
            run.wait().await.expect("succeeds").expect("an outcome").run_id(),
            applied.outcome.expect("an outcome").run_id()
        );
        assert_eq!(gate.runs.load(Ordering::SeqCst), 1);
        assert_eq!(on.jobs().await.len(), 2);
    }
}

#[tokio::test]
async fn d11_without_jobs_nothing_is_joined() {
    for (number, on) in databases().await.into_iter().enumerate() {
        let slow = Slow { identifier: format!("apart {number}"), a: 1, b: 1 };
        let gate = gate(&slow.identifier);
        let run = on.db.apply(&slow).detach().await.expect("starts");
        gate.started.notified().await;
        let applied = tokio::time::timeout(
            std::time::Duration::from_secs(30),
            on.db.apply(&slow).jobs(false),
        );
        let applied = applied.await.expect("does not wait for the gate").expect("applies");
        assert!(applied.outcome.is_none());
        gate.open.notify_one();
        run.wait().await.expect("succeeds");
    }
}

#[tokio::test]
async fn d13_jobs_of_an_update_wait_for_those_of_the_earlier_run() {
    for (number, on) in databases().await.into_iter().enumerate() {
        let slow = Slow { identifier: format!("queue {number}"), a: 1, b: 1 };
        let gate = gate(&slow.identifier);
        let first = on.db.apply(&slow).detach().await.expect("starts");
        gate.started.notified().await;
        let second = on.db.apply(Slow { a: 5, ..slow.clone() }).detach().await.expect("starts");
        assert_ne!(first.id(), second.id());
        let waiting: Vec<JobState> =
            second.jobs().await.expect("jobs").iter().map(|job| job.state).collect();
        assert_eq!(waiting, [JobState::Queued, JobState::Queued]);
        gate.open.notify_one();
        first.wait().await.expect("succeeds");
        gate.started.notified().await;
        gate.open.notify_one();
        let outcome = second.wait().await.expect("succeeds").expect("an outcome");
        assert_eq!(outcome.result::<i64>("after").expect("a result"), 6);
        // Another version runs on its own.
        let third = on.db.apply(Slow { b: 2, ..slow }).detach().await.expect("starts");
        gate.started.notified().await;
        gate.open.notify_one();
        third.wait().await.expect("succeeds");
    }
}

#[tokio::test]
async fn d11_t10_an_equal_apply_runs_what_failed_and_what_was_skipped() {
    for (number, on) in databases().await.into_iter().enumerate() {
        let flaky = Flaky { identifier: format!("again {number}"), a: 1 };
        let (gate, steady) =
            (gate(&flaky.identifier), gate(&format!("{} steady", flaky.identifier)));
        gate.fails.store(true, Ordering::SeqCst);
        assert_eq!(refused(on.db.apply(&flaky).await).kind(), ErrorKind::JobFailed);
        // Not asked for, nothing is tried again.
        let before = on.dump().await;
        let applied = on.db.apply(&flaky).retry_failed(false).await.expect("nothing to do");
        assert!(applied.outcome.is_none());
        assert_eq!(on.dump().await, before);
        gate.fails.store(false, Ordering::SeqCst);
        let on = on.reopened().await;
        let plan = on.db.plan(&flaky).await.expect("plans");
        assert!(!plan.is_empty());
        assert_eq!(
            plan.jobs().iter().map(|job| job.method.as_str()).collect::<Vec<_>>(),
            ["flaky", "last"],
            "{plan}"
        );
        assert!(plan.jobs().iter().all(|job| job.retry_of.is_some()), "{plan}");
        let applied = on.db.apply(&flaky).await.expect("applies");
        assert_eq!(
            (applied.action, applied.result::<i64>("flaky").expect("a result")),
            (Action::Unchanged, 2)
        );
        assert_eq!(
            (steady.runs.load(Ordering::SeqCst), gate.runs.load(Ordering::SeqCst)),
            (1, 2),
            "a result on record is used"
        );
        assert_eq!(on.db.status(flaky.address()).await.expect("a status"), Status::Ready);
        assert!(on.db.plan(&flaky).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn d12_a_retry_is_a_new_job_in_a_new_run() {
    for (number, on) in databases().await.into_iter().enumerate() {
        let flaky = Flaky { identifier: format!("retry {number}"), a: 1 };
        let gate = gate(&flaky.identifier);
        gate.fails.store(true, Ordering::SeqCst);
        let error = refused(on.db.apply(&flaky).await);
        let failed =
            error.outcome().expect("an outcome").first_failure().expect("a failure").clone();
        gate.fails.store(false, Ordering::SeqCst);
        let outcome = on.db.retry(failed.id).await.expect("succeeds now");
        assert_ne!(outcome.run_id(), failed.run);
        let retried = outcome.job("flaky").expect("a job");
        assert_eq!((retried.retry_of, retried.result.clone()), (Some(failed.id), Some(json!(2))));
        assert_eq!(
            on.db.job(failed.id).await.expect("a job").state,
            JobState::Failed,
            "the old one stays as it is"
        );
        assert_eq!(on.db.status(flaky.address()).await.expect("a status"), Status::Ready);
        assert_eq!(refused(on.db.retry(retried.id).await).kind(), ErrorKind::InvalidInput);
        assert!(on.db.plan(&flaky).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn a_failure_in_a_child_degrades_its_parents_and_is_healed_through_them() {
    #[derive(Component)]
    #[component(kind = "joining.Parent")]
    struct Parent {
        identifier: String,
        flaky: Flaky,
    }
    #[triggers]
    impl Parent {
        #[trigger("apply")]
        fn own(&self) -> Result<i64> {
            Ok(self.flaky.a)
        }
    }
    for (number, on) in databases().await.into_iter().enumerate() {
        let parent = Parent {
            identifier: "p".into(),
            flaky: Flaky { identifier: format!("child {number}"), a: 3 },
        };
        let gate = gate(&parent.flaky.identifier);
        gate.fails.store(true, Ordering::SeqCst);
        refused(on.db.apply(&parent).await);
        let Status::Degraded(jobs) = on.db.status("joining.Parent/p").await.expect("a status")
        else {
            panic!("the parent is degraded")
        };
        assert!(jobs.iter().any(|job| job.method == "flaky"), "it says which job: {jobs:?}");
        gate.fails.store(false, Ordering::SeqCst);
        let applied = on.db.apply(&parent).await.expect("applies");
        assert_eq!(
            applied.jobs().iter().map(|job| job.method.as_str()).collect::<Vec<_>>(),
            ["flaky", "last", "own"]
        );
        assert_eq!(on.db.status("joining.Parent/p").await.expect("a status"), Status::Ready);
    }
}

#[derive(Component, Clone)]
#[component(kind = "joining.Wanting")]
struct Wanting {
    identifier: String,
    d: Option<i64>,
}

#[triggers]
impl Wanting {
    #[trigger("apply", requires = "d")]
    fn go(&self) -> Result<i64> {
        self.d.ok_or_else(|| Error::msg("no d"))
    }
    #[trigger("apply")]
    fn strict(&self, go: i64) -> Result<i64> {
        Ok(go)
    }
    #[trigger("apply", depends_on = "go")]
    fn ordered(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("apply")]
    fn lenient(&self, go: Option<i64>) -> Result<Option<i64>> {
        Ok(go)
    }
    #[trigger("apply")]
    fn further(&self, strict: Option<i64>) -> Result<Option<i64>> {
        Ok(strict)
    }
}

#[tokio::test]
async fn d14_an_unmet_requirement_leaves_out_what_needs_it() {
    for on in databases().await {
        let wanting = |d| Wanting { identifier: "w".into(), d };
        let plan = on.db.plan(wanting(None)).await.expect("plans");
        let left: Vec<&str> = plan.left_out().iter().map(|left| left.trigger.as_str()).collect();
        assert_eq!(left, ["go", "strict", "ordered"], "{plan}");
        assert!(plan.left_out()[1].reason.contains("`go`"), "{plan}");
        let applied = on.db.apply(wanting(None)).await.expect("applies");
        assert_eq!(applied.result::<Option<i64>>("lenient").expect("a result"), None);
        assert_eq!(applied.result::<Option<i64>>("further").expect("a result"), None);
        assert!(on.db.plan(wanting(None)).await.expect("plans").is_empty());
        // Met later: all that waited for it runs, and what had None runs again.
        let applied = on.db.apply(wanting(Some(4))).await.expect("applies");
        assert_eq!(applied.jobs().len(), 5);
        assert_eq!(applied.result::<i64>("strict").expect("a result"), 4);
        assert_eq!(applied.result::<Option<i64>>("further").expect("a result"), Some(4));
        // And unmet again.
        let applied = on.db.apply(wanting(None)).await.expect("applies");
        assert_eq!(applied.result::<Option<i64>>("lenient").expect("a result"), None);
        assert_eq!(on.db.status("joining.Wanting/w").await.expect("a status"), Status::Ready);
    }
}

static GO: AtomicBool = AtomicBool::new(false);

/// Jobs that end together, so that the next ones are taken ahead; the last of these last.
#[derive(Component)]
#[component(kind = "joining.Ahead")]
struct Ahead {
    identifier: String,
}

async fn pause() -> Result<()> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

#[triggers]
impl Ahead {
    #[trigger("apply")]
    async fn held(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("apply")]
    async fn together(&self) -> Result<()> {
        pause().await
    }
    #[trigger("apply")]
    async fn with_it(&self) -> Result<()> {
        pause().await
    }
    #[trigger("apply")]
    async fn now(&self) -> Result<()> {
        pause().await
    }
    #[trigger("apply")]
    async fn also_now(&self) -> Result<()> {
        pause().await
    }
    #[trigger("apply")]
    async fn now_too(&self) -> Result<()> {
        pause().await
    }
    #[trigger("apply")]
    async fn ahead(&self) -> Result<()> {
        while !GO.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn t08_an_attempt_that_lasts_is_on_record_as_running_however_it_was_taken() {
    for on in databases().await {
        GO.store(false, Ordering::SeqCst);
        let builder = Db::builder().metadata(on.metadata.clone()).artifacts(on.artifacts.clone());
        let db = builder.parallelism(3).build().await.expect("opens");
        on.metadata.ends.close();
        let run = db.apply(Ahead { identifier: "a".into() }).detach().await.expect("applies");
        // Two ends come together while the first is held.
        on.metadata.ends.reached().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        on.metadata.ends.open();
        let begun = Instant::now();
        let job = loop {
            let jobs = run.jobs().await.expect("jobs");
            let job =
                jobs.iter().find(|job| job.method == "ahead").expect("it is on record").clone();
            if job.state == JobState::Running {
                break job;
            }
            assert!(begun.elapsed() < Duration::from_secs(3), "it runs, on record is {job:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(job.started_at.is_some() && job.attempt == 1, "{job:?}");
        GO.store(true, Ordering::SeqCst);
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert!(outcome.succeeded());
        let events = db
            .metadata()
            .events(superduper::store::Cursor::default(), None, 1000)
            .await
            .expect("events");
        let kinds: Vec<&str> = events
            .iter()
            .filter(|event| event.job == Some(job.id))
            .map(|event| &*event.kind)
            .collect();
        assert_eq!(kinds, ["job.started", "job.succeeded"], "a start is told once");
    }
}

#[derive(Component)]
#[component(kind = "joining.Chain")]
struct Chain {
    identifier: String,
}

#[triggers]
impl Chain {
    #[trigger("apply")]
    async fn first(&self) -> Result<i64> {
        Ok(1)
    }
    #[trigger("apply")]
    async fn second(&self, first: i64) -> Result<i64> {
        Ok(first + 1)
    }
    #[trigger("apply")]
    fn third(&self, second: i64) -> Result<i64> {
        Ok(second + 1)
    }
}

#[tokio::test]
async fn t08_a_job_whose_taker_was_gone_before_anybody_looked_is_run() {
    for on in databases().await {
        on.metadata.lose_claims(2);
        let run = on.db.apply(Chain { identifier: "c".into() }).detach().await.expect("applies");
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert_eq!(outcome.result::<i64>("third").expect("a result"), 3);
        assert_eq!(on.metadata.claims_to_lose(), 0, "both claims were lost");
    }
}
