//! What the engine makes of a store that fails for a moment, and of attempts that outlive their
//! job.

use crate::support::databases;
use crate::support::until::until;
use std::{
    future::IntoFuture,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use superduper::{
    Error, JobContext,
    prelude::*,
    store::{JobFilter, JobState, RunFilter, RunState},
};
use tokio::sync::Notify;

/// Spawns a job as its first one ends; nothing is tried twice.
#[derive(Component, Clone)]
#[component(kind = "engine.Grows")]
struct Grows {
    identifier: String,
}

#[triggers]
impl Grows {
    #[trigger("apply")]
    async fn first(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("s", ctx.address(), "spawned", &[])
    }
    #[trigger("apply", depends_on = "first")]
    async fn last(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("call")]
    async fn spawned(&self) -> Result<()> {
        Ok(())
    }
}

/// The run of a component whose first end meets a store that fails once: before it is written, or
/// after.
async fn grow(lost_answers: bool) {
    for on in databases().await {
        on.metadata.fail_ends(1, lost_answers);
        on.db.apply(Grows { identifier: "g".into() }).await.expect("no try is lost by it");
        assert_eq!(on.metadata.ends_to_fail(), 0, "the store failed");
        let jobs = on.db.jobs(JobFilter::default()).await.expect("jobs");
        let tell = |row: &superduper::store::JobRow| (row.method.clone(), row.state, row.attempt);
        let expected =
            ["first", "last", "spawned"].map(|method| (method.to_owned(), JobState::Succeeded, 1));
        assert_eq!(jobs.iter().map(tell).collect::<Vec<_>>(), expected, "each job ran once");
        let runs = on.db.metadata().runs(RunFilter::default()).await.expect("runs");
        assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Succeeded]);
        let first = jobs[0].id;
        assert!(on.db.logs(first).await.expect("logs").is_empty(), "nobody took the job over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_store_that_fails_once_while_a_spawning_end_is_recorded_costs_no_try() {
    grow(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_lost_answer_to_a_spawning_end_costs_no_try() {
    grow(true).await;
}

static STARTED: LazyLock<Notify> = LazyLock::new(Notify::new);
static OPEN: AtomicBool = AtomicBool::new(false);

/// Its first job waits until it may go on.
#[derive(Component, Clone)]
#[component(kind = "engine.Waits")]
struct Waits {
    identifier: String,
}

#[triggers]
impl Waits {
    #[trigger("apply")]
    async fn first(&self, ctx: &JobContext) -> Result<i64> {
        ctx.log("it begins");
        STARTED.notify_one();
        while !OPEN.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(1)
    }
    #[trigger("apply")]
    async fn second(&self, first: i64) -> Result<i64> {
        Ok(first + 1)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// As in a program that makes a runtime anew, or in two tests that share a database.
#[test]
fn fault_14_a_database_outlives_the_runtime_of_its_runs() {
    let (all, count) = {
        let first = runtime();
        let all = first.block_on(databases());
        let count = all.len();
        (all.into_iter().map(|on| (on, runtime())).collect::<Vec<_>>(), count)
    };
    assert!(count > 1);
    for (on, first) in all {
        OPEN.store(false, Ordering::SeqCst);
        let run = first.block_on(async {
            let run =
                on.db.apply(Waits { identifier: "w".into() }).detach().await.expect("applies");
            STARTED.notified().await;
            run
        });
        drop(first);
        runtime().block_on(async {
            OPEN.store(true, Ordering::SeqCst);
            // Who waits for it goes on with it.
            let outcome = run
                .wait_timeout(Duration::from_secs(20))
                .await
                .expect("it goes on")
                .expect("its jobs");
            assert_eq!(outcome.result::<i64>("second").expect("a result"), 2);
            assert_eq!(
                outcome.job("first").expect("it is there").attempt,
                2,
                "what ran in the first runtime is lost"
            );
            on.db.apply(Waits { identifier: "other".into() }).await.expect("other runs go on, too");
            assert!(on.db.resume().await.expect("nothing is left").is_empty());
            let job = outcome.job("first").expect("it is there").id;
            assert_eq!(
                on.db.logs(job).await.expect("logs").last().expect("a line").message,
                "it begins"
            );
        });
    }
}

/// Sends a message; the one named `f` fails until it is told otherwise.
#[derive(Component, Clone)]
#[component(kind = "engine.Fails")]
struct Fails {
    identifier: String,
}

static FAILS: AtomicBool = AtomicBool::new(true);

#[triggers]
impl Fails {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        ctx.emit("engine.done", &self.identifier)?;
        if self.identifier == "f" && FAILS.load(Ordering::SeqCst) {
            Err(Error::msg("not yet"))
        } else {
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_a_retry_that_nobody_waits_for_is_led_all_the_same() {
    for on in databases().await {
        FAILS.store(true, Ordering::SeqCst);
        on.db.apply(Fails { identifier: "f".into() }).await.expect_err("it fails");
        FAILS.store(false, Ordering::SeqCst);
        let job = on.db.jobs(JobFilter::default()).await.expect("jobs")[0].id;
        for micros in [0, 20, 50, 100, 200, 400, 800, 1500, 3000] {
            drop(tokio::time::timeout(Duration::from_micros(micros), on.db.retry(job)).await);
        }
        let open = async || {
            let states = Some(vec![JobState::Queued, JobState::Running]);
            on.db.jobs(JobFilter { states, ..JobFilter::default() }).await.expect("jobs").len()
        };
        let unfinished = RunFilter { unfinished: true, ..RunFilter::default() };
        until("the end of all runs", async || {
            let runs = on.db.metadata().runs(unfinished.clone());
            open().await == 0 && runs.await.expect("runs").is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_program_that_ends_delivers_first() {
    for on in databases().await {
        let (heard, refuses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (hears, refused) = (heard.clone(), refuses.clone());
        on.db.on_message("engine.done", move |_| {
            let (hears, refused) = (hears.clone(), refused.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if refused.load(Ordering::SeqCst) {
                    return Err(Error::msg("the line is busy"));
                }
                hears.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
        for name in ["a", "b", "c"] {
            on.db.apply(Fails { identifier: name.into() }).into_future().await.expect("applies");
        }
        let error = on.db.deliver().await.expect_err("the handler fails");
        assert!(
            error.to_string().contains("`engine.done`")
                && format!("{error:?}").contains("the line is busy"),
            "{error:?}"
        );
        refuses.store(false, Ordering::SeqCst);
        on.db.deliver().await.expect("delivers");
        assert_eq!(heard.load(Ordering::SeqCst), 3, "each was delivered before the call returned");
        assert_eq!(on.db.deliver().await.expect("nothing is left"), 0);
    }
}

/// What the first job spawns comes after a job that waits for the first job.
#[derive(Component, Clone)]
#[component(kind = "engine.Circle")]
struct Circle {
    identifier: String,
}

#[triggers]
impl Circle {
    #[trigger("apply")]
    async fn root(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("spawner", ctx.address(), "spawner", &[])?;
        ctx.spawn("middle", ctx.address(), "leaf", &["spawner"])?;
        ctx.spawn("end", ctx.address(), "leaf", &["middle"])
    }
    #[trigger("call")]
    async fn spawner(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("late", ctx.address(), "leaf", &["end"])
    }
    #[trigger("call")]
    async fn leaf(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_a_cycle_of_spawned_jobs_is_refused() {
    for on in databases().await {
        let run = on.db.apply(Circle { identifier: "c".into() }).detach().await.expect("applies");
        let error = run.wait_timeout(Duration::from_secs(20)).await.expect_err("it can never end");
        assert!(error.to_string().contains("`late` would wait for itself"), "{error}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("does not wait for this job")),
            "{error:?}"
        );
        let states: Vec<_> =
            run.jobs().await.expect("jobs").into_iter().map(|job| job.state).collect();
        assert_eq!(
            states,
            [JobState::Succeeded, JobState::Failed, JobState::Skipped, JobState::Skipped]
        );
    }
}
