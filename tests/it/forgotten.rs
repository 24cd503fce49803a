//! Forgetting runs, jobs and logs.

use crate::support::{Database, databases, refused, says, until::until};
use std::time::Duration;
use superduper::{
    JobContext, Spawn, Status,
    prelude::*,
    store::{JobFilter, JobState, RunFilter},
};

const MODEL: &str = "forgotten.Model/m";

#[derive(Component, Clone)]
#[component(kind = "forgotten.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    epochs: u32,
    note: String,
    weights: Output<u32>,
}

impl Lifecycle for Model {
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<u32> {
        ctx.log("fitting");
        ctx.set(&self.weights, self.epochs)?;
        Ok(self.epochs)
    }
    #[trigger("apply", watch = "note")]
    fn describe(&self, fit: u32, ctx: &JobContext) -> Result<String> {
        ctx.log("describing");
        if self.note == "bad" {
            return Err(Error::msg("no words"));
        }
        ctx.spawn_with(Spawn::new("part", ctx.address(), "part"))?;
        Ok(format!("{} {fit}", self.note))
    }
    #[trigger("call")]
    fn part(&self) -> Result<u32> {
        Ok(1)
    }
}

fn model(epochs: u32, note: &str) -> Model {
    Model { identifier: "m".into(), epochs, note: note.into(), weights: Output::empty() }
}

async fn job_names(on: &Database) -> Vec<String> {
    let name = |job: superduper::store::JobRow| match &job.key {
        Some(key) => format!("{} {key}", job.target),
        None => format!("{} {}", job.target, job.method),
    };
    let names = on.jobs().await.into_iter().map(name);
    names.map(|name| name.replace("forgotten.Model/m", "")).collect()
}

async fn soon() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn what_nothing_asks_for_any_more_is_forgotten() {
    for on in databases().await {
        let db = &on.db;
        db.apply(model(1, "a")).await.expect("applies");
        db.apply(model(1, "b")).await.expect("applies");
        db.apply(model(1, "c")).await.expect("applies");
        assert_eq!(job_names(&on).await.len(), 8);
        soon().await;
        let long = db.forget(Duration::from_secs(3600)).await.expect("nothing is that old");
        assert_eq!((long.runs, long.jobs, long.logs), (0, 0, 0));
        let before = on.dump().await;
        let would = db.forget(Duration::ZERO).dry_run().await.expect("looks");
        assert_eq!(on.dump().await, before, "a dry run writes nothing");
        let done = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((would.runs, would.jobs, would.logs), (done.runs, done.jobs, done.logs));
        assert!(would.dry_run && !done.dry_run);
        assert_eq!(would.to_string(), "would forget 1 runs, 4 jobs and 4 log lines");
        // The newest of each trigger, what set outputs, hooks, and the newest run stay.
        assert_eq!(
            job_names(&on).await,
            ["@0.0 on_create", "@0.0 fit", "@0.2 describe", "@0.2 part"]
        );
        let again = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((again.runs, again.jobs, again.logs), (0, 0, 0));

        assert_eq!(db.status(MODEL).await.expect("a status"), Status::Ready);
        assert_eq!(db.result::<u32>(MODEL, "fit").await.expect("a result"), 1);
        assert!(db.plan(model(1, "c")).await.expect("plans").is_empty());
        let applied = db.apply(model(1, "d")).await.expect("applies");
        assert_eq!(applied.result::<String>("describe").expect("a result"), "d 1");
        assert!(db.verify().await.expect("verifies").is_sound());
        let removed = db.remove::<Model>("m").await.expect("removes");
        assert!(removed.outcome.expect("a cleanup").succeeded());
    }
}

#[tokio::test]
async fn what_can_be_retried_stays_with_its_run() {
    for on in databases().await {
        let db = &on.db;
        db.apply(model(1, "bad")).await.expect_err("fails");
        soon().await;
        // A newer run, so that this one is not the newest.
        db.apply(Model { identifier: "other".into(), ..model(1, "a") }).await.expect("applies");
        soon().await;
        let done = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((done.runs, done.jobs), (0, 0));
        let jobs = JobFilter { states: Some(vec![JobState::Failed]), ..JobFilter::default() };
        let failed = db.jobs(jobs).await.expect("jobs")[0].clone();
        assert!(db.logs(failed.id).await.expect("logs").is_empty(), "its old log is gone");
        assert_eq!(refused(db.retry(failed.id).await).kind(), ErrorKind::JobFailed);
    }
}

#[tokio::test]
async fn what_was_removed_is_forgotten_but_for_the_newest_run() {
    for on in databases().await {
        let db = on.db.acting_as(superduper::Actor::new("janitor"));
        db.apply(model(1, "a")).await.expect("applies");
        db.apply(model(2, "a")).await.expect("applies");
        db.remove::<Model>("m").await.expect("removes");
        db.apply(Model { identifier: "other".into(), ..model(1, "a") }).await.expect("applies");
        soon().await;
        let done = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((done.runs, done.jobs), (3, 10), "two applies, one removal");
        assert_eq!(db.runs(RunFilter::default()).await.expect("runs").len(), 1);
        db.gc(false).await.expect("collects");
        let entries = db.log_entries(superduper::db::AUDIT_LOG, 0, 100).await.expect("entries");
        assert!(entries.iter().any(|entry| entry.payload["action"] == "forget"));
    }
}

/// Waits for a grant, beside a part that is done.
#[derive(Component, Clone)]
#[component(kind = "forgotten.Waiting")]
struct Waiting {
    identifier: String,
}

#[triggers]
impl Waiting {
    #[trigger("apply")]
    fn split(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn_with(Spawn::new("part", ctx.address(), "part"))
    }
    #[trigger("call")]
    fn part(&self) -> Result<u32> {
        Ok(1)
    }
    #[trigger("apply")]
    fn grant(&self, ctx: &JobContext) -> Result<u32> {
        Err(ctx.block("a grant").into())
    }
}

#[tokio::test]
async fn a_run_that_is_not_over_is_left_alone() {
    for on in databases().await {
        let db = &on.db;
        let run = db.apply(Waiting { identifier: "w".into() }).detach().await.expect("starts");
        let jobs = async || run.jobs().await.expect("jobs");
        until("the job waits and the part is done", async || {
            let jobs = jobs().await;
            let count = |state| jobs.iter().filter(|job| job.state == state).count();
            count(JobState::Blocked) == 1 && count(JobState::Succeeded) == 2
        })
        .await;
        // A newer run of another component: nothing else keeps the part.
        db.apply(Model { identifier: "other".into(), ..model(1, "a") }).await.expect("applies");
        soon().await;
        let done = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((done.runs, done.jobs), (0, 0));
        assert_eq!(jobs().await.len(), 3);

        let grant = jobs().await.into_iter().find(|job| job.method == "grant").expect("a job");
        db.complete(grant.id, 7_u32).await.expect("completes");
        run.wait().await.expect("ends");
        assert_eq!(db.result::<u32>("forgotten.Waiting/w", "grant").await.expect("a result"), 7);
        soon().await;
        let done = db.forget(Duration::ZERO).await.expect("forgets");
        assert_eq!((done.runs, done.jobs), (0, 1), "now it is over");
        assert!(jobs().await.iter().all(|job| job.method != "part"));
    }
}

#[tokio::test]
async fn jobs_of_a_single_version_that_was_removed_are_forgotten() {
    for on in databases().await {
        let db = &on.db;
        db.apply(model(1, "a")).await.expect("applies");
        db.apply(model(2, "a")).await.expect("applies");
        db.remove::<Model>("m").version(0).await.expect("removes");
        db.apply(Model { identifier: "other".into(), ..model(1, "a") }).await.expect("applies");
        soon().await;
        let names = job_names(&on).await;
        assert!(names.iter().any(|name| name.starts_with("@0.0 ")), "{names:?}");
        db.forget(Duration::ZERO).await.expect("forgets");
        let names = job_names(&on).await;
        assert!(!names.iter().any(|name| name.starts_with("@0.0 ")), "{names:?}");
        let kept = names.iter().filter(|name| name.starts_with("@1.0 ")).count();
        assert_eq!(kept, 3, "hook and triggers of the version that stays: {names:?}");
        assert_eq!(db.result::<u32>(MODEL, "fit").await.expect("a result"), 2);
    }
}

#[tokio::test]
async fn a_reader_forgets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.db");
    Db::open(&path).await.expect("opens").apply(model(1, "a")).await.expect("applies");
    let reader =
        Db::builder().read_only().at(&path).expect("a place").build().await.expect("opens");
    let error = refused(reader.forget(Duration::ZERO).await);
    says(&error, ErrorKind::Unsupported, &["forget"]);
    reader.forget(Duration::ZERO).dry_run().await.expect("looks");
}
