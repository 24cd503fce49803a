//! Case B08: what a component was, after the code has changed: triggers, hooks, kinds, executors
//! and pools that are gone.

use crate::support::{databases, refused, says};
use superduper::{
    Db, JobPolicy, Output, Registry, Status,
    prelude::*,
    store::{JobFilter, JobRow, JobState},
};

/// The first build: `old` fails, waits or is blocked; `after` needs it.
#[derive(Component, Clone)]
#[component(kind = "deploys.Model", register = no)]
struct First {
    identifier: String,
    fails: bool,
    made: Output<i64>,
}

impl Lifecycle for First {
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        if self.fails { Err(Error::msg("not today")) } else { Ok(()) }
    }
}

#[triggers]
impl First {
    #[trigger("apply", policy = "policy")]
    fn old(&self) -> Result<i64> {
        if self.fails { Err(Error::msg("it was always broken")) } else { Ok(1) }
    }
    #[trigger("apply", depends_on = "old")]
    fn after(&self) -> Result<i64> {
        Ok(2)
    }
    #[trigger("apply")]
    fn other(&self) -> Result<i64> {
        Ok(3)
    }

    fn policy(&self) -> JobPolicy {
        JobPolicy { pool: Some(("gone".to_owned(), 1)), ..JobPolicy::default() }
    }
}

/// A later build: no `old`, no hooks.
#[derive(Component, Clone)]
#[component(kind = "deploys.Model", register = no)]
struct Second {
    identifier: String,
    fails: bool,
    made: Output<i64>,
}

#[triggers]
impl Second {
    #[trigger("apply")]
    fn after(&self) -> Result<i64> {
        Ok(2)
    }
    #[trigger("apply")]
    fn other(&self) -> Result<i64> {
        Ok(3)
    }
}

#[derive(Component)]
#[component(kind = "deploys.Unrelated", register = no)]
struct Unrelated {
    identifier: String,
}

#[triggers]
impl Unrelated {
    #[trigger("apply")]
    fn work(&self) -> Result<i64> {
        Ok(4)
    }
}

fn first(fails: bool) -> First {
    First { identifier: "m".into(), fails, made: Output::empty() }
}

fn second(fails: bool) -> Second {
    Second { identifier: "m".into(), fails, made: Output::empty() }
}

macro_rules! build {
    ($($type:ty),+) => { Registry::builder()$(.with::<$type>())+.build().expect("a registry") };
}

const MODEL: &str = "deploys.Model/m";

async fn job(db: &Db, method: &str) -> JobRow {
    let jobs = db.jobs(JobFilter::default()).await.expect("jobs");
    jobs.into_iter().rev().find(|job| job.method == method).expect("the job is on record")
}

async fn is_ready(db: &Db) {
    assert_eq!(db.status(MODEL).await.expect("a status"), Status::Ready);
    let open = db
        .runs(superduper::store::RunFilter { unfinished: true, ..Default::default() })
        .await
        .expect("runs");
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn b08_a_failed_trigger_or_hook_that_is_gone_does_not_degrade() {
    for on in databases().await {
        let db = on.program(build!(First)).await;
        assert_eq!(refused(db.apply(first(true)).await).kind(), ErrorKind::JobFailed);
        assert!(matches!(db.status(MODEL).await.expect("a status"), Status::Degraded(_)));
        drop(db);
        let db = on.program(build!(Second)).await;
        // What the code still has was skipped because of it, and is healed by the next apply.
        let Status::Degraded(jobs) = db.status(MODEL).await.expect("a status") else {
            panic!("`after` was skipped")
        };
        assert!(
            jobs.iter().all(|job| ["after", "other"].contains(&job.method.as_str())),
            "{jobs:?}"
        );
        db.apply(second(true)).await.expect("heals");
        is_ready(&db).await;
        assert!(db.plan(second(true)).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn b08_an_unfinished_job_of_a_trigger_that_is_gone_is_ended_by_the_next_apply() {
    for blocked in [false, true] {
        for on in databases().await {
            let db = on.program(build!(First)).await;
            db.limit_pool("gone", 1);
            // `old` is left queued, or blocked, when the program ends.
            db.apply(first(false)).jobs(false).await.expect("applies");
            let owner =
                db.metadata().register_worker(Default::default()).await.expect("another process");
            record_unfinished(&db, None, blocked).await;
            drop(db);
            let db = on.program(build!(Second)).await;
            // While the other process lives it may have the trigger: its jobs are left alone.
            let plan = db.plan(second(false)).await.expect("plans");
            assert_eq!(plan.stale().len(), 1, "{plan}");
            let state = if blocked { "blocked" } else { "queued" };
            assert!(
                plan.to_string().contains(&format!("which is {state}: the type no longer has it")),
                "{plan}"
            );
            db.metadata().deregister_worker(owner).await.expect("it ends");
            for owner in db.metadata().live_workers().await.expect("owners") {
                db.metadata().deregister_worker(owner).await.expect("it ends");
            }
            db.apply(second(false)).await.expect("heals");
            let old = job(&db, "old").await;
            assert_eq!(old.state, JobState::Skipped);
            assert!(old.failure.expect("a reason").message.contains("no `old` any more"));
            assert_eq!(
                job(&db, "after").await.state,
                JobState::Succeeded,
                "what had waited for it runs"
            );
            is_ready(&db).await;
        }
    }
}

/// The jobs of the first build as a process leaves them that dies before it runs any.
async fn record_unfinished(db: &Db, executor: Option<&str>, blocked: bool) {
    use superduper::store::{
        Batch, Durability, JobRef, JobRole, Need, NewJob, NewRun, Op, RunPurpose, Timestamp,
    };
    let target: Address = format!("{MODEL}@0.0").parse().expect("an address");
    let new = |method: &str, needs: Vec<Need>| {
        NewJob::new(target.clone(), JobRole::Trigger, method, Timestamp::now())
            .executor(executor.filter(|_| method == "old").map(str::to_owned))
            .needs(needs)
    };
    let jobs = vec![
        new("old", Vec::new()),
        new("after", vec![Need::success(JobRef::New(0))]),
        new("other", Vec::new()),
    ];
    let ops = vec![
        Op::SetJobsPending { address: target.clone(), pending: false },
        Op::Run(NewRun::new(RunPurpose::Apply, target.clone(), Timestamp::now())),
        Op::Jobs { run: None, jobs },
    ];
    let committed = db
        .metadata()
        .commit(Batch { expect: Vec::new(), ops }, Durability::Full)
        .await
        .expect("records");
    if blocked {
        let ops = vec![Op::Block {
            job: committed.jobs[0],
            reason: Some("paused".to_owned()),
            at: Timestamp::now(),
        }];
        db.metadata()
            .commit(Batch { expect: Vec::new(), ops }, Durability::Full)
            .await
            .expect("blocks");
    }
}

#[tokio::test]
async fn b08_a_pool_that_is_gone_holds_nothing_up() {
    for on in databases().await {
        let db = on.program(build!(First)).await;
        db.apply(first(false)).await.expect("applies");
        let row = job(&db, "old").await;
        assert!(row.executor.expect("a placement").contains("gone"));
        // A program that never names the pool runs what is on record for it.
        let db = on.program(build!(First)).await;
        db.run(MODEL, "old").await.expect("runs");
        is_ready(&db).await;
    }
}

#[tokio::test]
async fn b08_resume_goes_on_beside_a_kind_that_is_gone() {
    for on in databases().await {
        let db = on.program(build!(First, Unrelated)).await;
        db.apply(first(false)).jobs(false).await.expect("applies");
        record_unfinished(&db, None, false).await;
        db.apply(Unrelated { identifier: "u".into() }).jobs(false).await.expect("applies");
        drop(db);
        let db = on.program(build!(Unrelated)).await;
        db.apply(Unrelated { identifier: "u".into() }).await.expect("what the program has runs");
        let outcomes = db.resume().await.expect("resumes");
        let left: Vec<_> = outcomes.iter().flat_map(superduper::Outcome::unfinished).collect();
        let old = job(&db, "old").await;
        assert!(left.contains(&old.id), "what is left is told: {left:?}");
        assert_eq!((old.state, old.attempt), (JobState::Queued, 0), "another program may have it");
        let reason = db.waits_for_program(old.id).await.expect("a look").expect("a reason");
        assert!(
            reason.contains("the kind `deploys.Model`")
                && reason.contains("remove `deploys.Model/m`"),
            "{reason}"
        );
        // Told by name, with the call that heals.
        let listed = db.list().await.expect("a list");
        let line = listed.iter().find(|line| line.address.path() == MODEL).expect("it is listed");
        assert!(!line.known && matches!(line.status, Status::Pending(_)));
        let hint = line.hint().expect("a hint");
        assert!(
            hint.contains("`deploys.Model`")
                && hint.contains("db.remove_dyn(\"deploys.Model/m\").force()"),
            "{hint}"
        );
        says(&refused(db.run(MODEL, "old").await), ErrorKind::UnknownKind, &["deploys.Model"]);
        db.remove_dyn(MODEL).force().await.expect("removes");
        assert!(db.resume().await.expect("resumes").is_empty());
    }
}

#[tokio::test]
async fn b08_an_executor_that_is_gone_is_told_and_healed() {
    for by_retry in [false, true] {
        for on in databases().await {
            let db = on.program(build!(First)).await;
            db.apply(first(false)).jobs(false).await.expect("applies");
            record_unfinished(&db, Some("cluster"), false).await;
            let outcomes = db.resume().await.expect("resumes");
            let (old, other) = (job(&db, "old").await, job(&db, "other").await);
            assert_eq!(
                (old.state, old.attempt, other.state),
                (JobState::Queued, 0, JobState::Succeeded),
                "the rest goes on"
            );
            assert!(outcomes[0].unfinished().contains(&old.id));
            let reason = db.waits_for_program(old.id).await.expect("a look").expect("a reason");
            assert!(
                reason.contains("the executor `cluster`")
                    && reason.contains("apply `deploys.Model/m` again"),
                "{reason}"
            );
            if by_retry {
                db.cancel(old.id).await.expect("cancels");
                db.retry(old.id).await.expect("it runs where the code says today");
            } else {
                db.apply(first(false)).await.expect("heals");
            }
            is_ready(&db).await;
        }
    }
}
