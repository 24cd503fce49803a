//! What every executor must do, on those that are built in; and names of executors.

use crate::fresh;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use superduper::{
    BoxFuture, ErrorKind, JobFailure, JobPolicy,
    job::{Attempt, AttemptEnd, Executor, ExecutorCapabilities, JobRequest},
    prelude::*,
    store::{JobFilter, JobState, LogLevel},
};

#[tokio::test(flavor = "multi_thread")]
async fn e12_threads_passes_the_tests_of_executors() {
    superduper_conformance::executors::run_all(
        async || fresh::builder().executor("threads").build().await.unwrap(),
        "threads",
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_process_passes_the_tests_of_executors() {
    let open = async || {
        let builder = fresh::builder().executor("process").program(crate::process::program());
        builder.cancel_grace(Duration::from_millis(300)).build().await.unwrap()
    };
    superduper_conformance::executors::run_all(open, "process", true).await;
}

#[derive(Component, Clone)]
#[component(kind = "executors.Named")]
struct Named {
    identifier: String,
    executor: Option<String>,
}

#[triggers]
impl Named {
    fn policy(&self) -> JobPolicy {
        JobPolicy { executor: self.executor.clone(), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "policy")]
    fn work(&self) -> Result<u32> {
        Ok(7)
    }

    #[trigger("apply", executor = "my-queue")]
    fn queued(&self) -> Result<u32> {
        Ok(8)
    }
}

/// Runs attempts here, and keeps what it would have sent elsewhere.
#[derive(Debug, Default)]
struct Queue {
    seen: Mutex<Vec<String>>,
    ends: Mutex<Vec<AttemptEnd>>,
}

impl Executor for Queue {
    fn name(&self) -> &'static str {
        "my-queue"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: false, needs_shared_stores: true }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        let request = attempt.request().expect("the stores are in a folder");
        let text = serde_json::to_string(&request).expect("a request is JSON");
        let back: JobRequest = serde_json::from_str(&text).expect("and is read back");
        assert_eq!(back, request);
        assert_eq!(
            (request.job, request.attempt, request.method.as_str()),
            (attempt.job(), attempt.number(), attempt.method())
        );
        assert_eq!(request.target, *attempt.target());
        attempt.log(LogLevel::Info, "queued");
        self.seen.lock().expect("no panic").push(text);
        match self.ends.lock().expect("no panic").pop() {
            Some(end) => Box::pin(async { end }),
            None => Box::pin(attempt.run_here()),
        }
    }
}

fn named(identifier: &str, executor: Option<&str>) -> Named {
    Named { identifier: identifier.into(), executor: executor.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_a_trigger_may_name_any_executor_that_is_registered() {
    let queue = Arc::new(Queue::default());
    let db = fresh::builder().with_executor(queue.clone()).build().await.unwrap();
    let applied = db.apply(named("a", None)).await.unwrap();
    assert_eq!(
        (applied.result::<u32>("work").unwrap(), applied.result::<u32>("queued").unwrap()),
        (7, 8)
    );
    let seen = queue.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert!(
        !seen[0].contains("secret") && seen[0].contains("\"method\":\"queued\""),
        "{}",
        seen[0]
    );
    let job = applied.outcome.unwrap().job("queued").unwrap().id;
    let lines: Vec<String> =
        db.logs(job).await.unwrap().into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["queued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_the_job_ends_as_its_executor_reports() {
    let queue = Arc::new(Queue::default());
    let db = fresh::builder().with_executor(queue.clone()).build().await.unwrap();
    queue.ends.lock().unwrap().push(AttemptEnd::lost("the cluster is closed today"));
    let error = db.apply(named("a", None)).await.unwrap_err();
    assert!(error.to_string().contains("the cluster is closed today"), "{error}");
    // A failure that may pass is tried again where the job has tries left; this one has none.
    let mut busy = JobFailure::from("busy");
    busy.retryable = true;
    queue.ends.lock().unwrap().push(AttemptEnd::lost(busy));
    db.apply(named("a", None)).await.unwrap_err();
    db.apply(named("a", None)).await.unwrap();
    // Given back: no other program has what it lacks, so the caller is told, and the job stays.
    queue.ends.lock().unwrap().push(AttemptEnd::unable());
    let error = db.apply(named("b", None)).await.unwrap_err();
    assert!(error.to_string().contains("this program cannot run job"), "{error}");
    let open = Some(vec![JobState::Queued]);
    assert_eq!(db.jobs(JobFilter { states: open, ..JobFilter::default() }).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_an_unknown_executor_is_refused_by_the_plan_with_a_suggestion() {
    let db = fresh::builder().with_executor(Arc::new(Queue::default())).build().await.unwrap();
    for (asked, hint) in [
        ("proces", "did you mean `process`?"),
        ("my-queu", "did you mean `my-queue`?"),
        ("slurm", "with_executor"),
    ] {
        let component = named("a", Some(asked));
        for error in
            [db.plan(component.clone()).await.unwrap_err(), db.apply(component).await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(
                text.contains(&format!(
                    "unknown executor `{asked}`; this database has: my-queue, process, threads"
                )),
                "{text}"
            );
            assert!(text.contains(hint), "{text}");
        }
    }
    assert!(db.list().await.unwrap().is_empty(), "nothing was recorded");
    let without = fresh::db().await;
    let error = without.apply(named("a", None)).await.unwrap_err();
    assert!(error.to_string().contains("unknown executor `my-queue`"), "{error}");
}

/// The executor of one process among several.
#[derive(Debug)]
struct OfNorth;

impl Executor for OfNorth {
    fn name(&self) -> &'static str {
        "site:north"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: false, needs_shared_stores: false }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        Box::pin(attempt.run_here())
    }
}

#[derive(Component, Clone)]
#[component(kind = "executors.AtNorth")]
struct AtNorth {
    identifier: String,
}

#[triggers]
impl AtNorth {
    #[trigger("apply", executor = "site:north")]
    fn work(&self) -> Result<u32> {
        Ok(7)
    }
}

#[derive(Component, Clone)]
#[component(kind = "executors.Plain")]
struct Plain {
    identifier: String,
}

#[triggers]
impl Plain {
    #[trigger("apply")]
    fn work(&self) -> Result<u32> {
        Ok(9)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_a_job_for_the_executor_of_another_process_waits_for_that_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Db::builder().at(folder.path()).unwrap();
    let here = open().build().await.unwrap();
    let run = here.apply(AtNorth { identifier: "a".into() }).detach().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let job = run.jobs().await.unwrap().pop().unwrap();
    assert_eq!(job.state, JobState::Queued, "this process has no such executor");
    let waits = here.why(job.id).await.unwrap().to_string();
    assert!(waits.contains("site:north"), "{waits}");
    // Of what names another executor, or none, this process takes nothing.
    let north = open().with_executor(Arc::new(OfNorth)).claims_only("site:north");
    let north = north.build().await.unwrap();
    let observer = open().observer().build().await.unwrap();
    let plain = observer.apply(Plain { identifier: "p".into() }).detach().await.unwrap();
    let work = tokio::spawn({
        let north = north.clone();
        async move { north.work().await }
    });
    let row = here.wait(job.id, Duration::from_secs(30)).await.unwrap();
    assert_eq!((row.state, row.result), (JobState::Succeeded, Some(json!(7))));
    let plain = plain.jobs().await.unwrap().pop().unwrap();
    assert_eq!(plain.state, JobState::Queued);
    assert!(!here.workers().await.unwrap().is_empty());
    here.resume().await.unwrap();
    let row = here.wait(plain.id, Duration::from_secs(30)).await.unwrap();
    assert_eq!(row.state, JobState::Succeeded, "another process takes it");
    north.close(Duration::from_secs(5)).await.unwrap();
    work.await.unwrap().unwrap();
}
