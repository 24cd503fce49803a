//! The tests of an executor.

use super::probe::{Endless, Probe};
use std::time::{Duration, Instant};
use superduper_core::{
    Db, ErrorKind, FailureKind, JobFailure,
    db::Applied,
    store::{JobFilter, JobId, JobRow, JobState},
};

/// How long the longest part may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Run everything. Each part gets a new database, whose jobs run by the executor of this name;
/// `isolates` says whether the executor's capabilities promise that a crash of a job leaves this
/// process unharmed.
///
/// # Panics
/// With the first rule that is broken.
pub async fn run_all(open: impl AsyncFn() -> Db, name: &str, isolates: bool) {
    results_outputs_and_telemetry_arrive(&open().await, isolates).await;
    failures_are_told_apart(&open().await).await;
    attempts_are_repeated(&open().await).await;
    spawned_jobs_get_their_input(&open().await, name).await;
    a_job_may_wait(&open().await).await;
    cancelled_jobs_end(&open().await).await;
    time_limits_hold(&open().await).await;
    many_jobs_run_at_once(&open().await).await;
    if isolates {
        a_crash_is_one_lost_attempt(&open().await).await;
    }
}

async fn apply(db: &Db, what: &str) -> Applied {
    let applied = tokio::time::timeout(LIMIT, db.apply(Probe::new(what))).await;
    let applied = applied.unwrap_or_else(|_| panic!("`{what}` takes longer than {LIMIT:?}"));
    applied.unwrap_or_else(|error| panic!("`{what}` fails: {error}"))
}

async fn job(db: &Db, method: &str) -> JobRow {
    let rows = db.jobs(JobFilter::default()).await.expect("jobs can be read");
    rows.into_iter().find(|row| row.method == method).unwrap_or_else(|| panic!("no job `{method}`"))
}

async fn in_state(db: &Db, state: JobState) -> JobId {
    let begun = Instant::now();
    loop {
        let rows = db
            .jobs(JobFilter { states: Some(vec![state]), ..JobFilter::default() })
            .await
            .expect("jobs can be read");
        if let Some(row) = rows.first() {
            return row.id;
        }
        assert!(begun.elapsed() < LIMIT, "no job is {state} after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn results_outputs_and_telemetry_arrive(db: &Db, isolates: bool) {
    let applied = apply(db, "works").await;
    let process: u32 = applied.result("work").expect("a number");
    assert_eq!(
        process != std::process::id(),
        isolates,
        "a job runs in another process where the executor says so"
    );
    assert_eq!(
        applied.result::<String>("after").expect("a text"),
        format!("works after {process}")
    );
    let loaded: Probe = db.load("works").await.expect("it is stored");
    let made =
        loaded.made.get().expect("the output is set").get().await.expect("its blob can be read");
    assert_eq!(&**made, b"works");
    let row = job(db, "work").await;
    assert_eq!((row.state, row.attempt, row.progress), (JobState::Succeeded, 1, Some((3, 3))));
    let lines: Vec<String> =
        db.logs(row.id).await.expect("a log").into_iter().map(|line| line.message).collect();
    assert!(lines.iter().any(|line| line == "works begins"), "{lines:?}");
    let steps: Vec<u64> = db
        .metrics([row.id])
        .await
        .expect("metrics")
        .into_iter()
        .map(|metric| metric.step)
        .collect();
    assert_eq!(steps, [1, 2, 3]);
}

async fn failures_are_told_apart(db: &Db) {
    let error = db.apply(Probe::new("fatal")).await.expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    let row = job(db, "work").await;
    assert_eq!((row.state, row.attempt), (JobState::Failed, 1), "a fatal error is not tried again");
    assert_eq!(row.failure.map(|failure| failure.message), Some("a fatal error".to_owned()));
    assert_eq!(job(db, "after").await.state, JobState::Skipped);
}

async fn attempts_are_repeated(db: &Db) {
    apply(db, "retries").await;
    let row = job(db, "work").await;
    assert_eq!((row.state, row.attempt, row.tries), (JobState::Succeeded, 3, 2));
    let attempts = db.attempts(row.id).await.expect("attempts");
    let failures: Vec<Option<JobFailure>> =
        attempts.into_iter().map(|attempt| attempt.failure).collect();
    assert_eq!(
        failures.iter().flatten().map(|failure| &*failure.message).collect::<Vec<_>>(),
        ["not yet", "not yet"]
    );
    let panicked = db.apply(Probe::new("panics")).await;
    // The engine decides whether a panic is retried. If the job fails, its failure is of kind
    // `Panic`.
    if let Err(error) = panicked {
        let failure = error
            .outcome()
            .and_then(|outcome| outcome.job("work")?.failure.clone())
            .expect("a failure");
        assert_eq!((failure.kind, &*failure.message), (FailureKind::Panic, "panicked: boom"));
    }
}

async fn spawned_jobs_get_their_input(db: &Db, name: &str) {
    let probe = Probe { executor: Some(name.to_owned()), ..Probe::new("spawns") };
    db.apply(probe).await.unwrap_or_else(|error| panic!("spawning fails: {error}"));
    let rows = db.jobs(JobFilter::default()).await.expect("jobs can be read");
    let results: Vec<_> =
        rows.into_iter().filter_map(|row| Some((row.key?, row.result?))).collect();
    assert_eq!(results, [("a".to_owned(), 20.into()), ("b".to_owned(), 22.into())]);
}

async fn a_job_may_wait(db: &Db) {
    let run = db.apply(Probe::new("waits")).detach().await.expect("it starts");
    let waiting = in_state(db, JobState::Blocked).await;
    assert_eq!(job(db, "work").await.blocked.as_deref(), Some("an answer"));
    db.unblock(waiting).await.expect("it is blocked");
    run.wait().await.expect("it succeeds");
    assert_eq!(job(db, "work").await.attempt, 2);
}

async fn cancelled_jobs_end(db: &Db) {
    for listens in [true, false] {
        let endless = Endless { identifier: listens.to_string(), listens };
        let run = db.apply(endless).detach().await.expect("it starts");
        let running = in_state(db, JobState::Running).await;
        let begun = Instant::now();
        db.cancel(running).await.expect("it runs");
        let error = run.wait().await.expect_err("it is cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "it went on for {:?}", begun.elapsed());
    }
}

async fn time_limits_hold(db: &Db) {
    let begun = Instant::now();
    let error = db
        .apply(Endless { identifier: "late".to_owned(), listens: false })
        .await
        .expect_err("its time is over");
    assert!(begun.elapsed() < Duration::from_secs(20), "it went on for {:?}", begun.elapsed());
    let failure =
        error.outcome().and_then(|outcome| outcome.job("run")?.failure.clone()).expect("a failure");
    assert_eq!(failure.kind, FailureKind::Timeout, "{failure}");
}

async fn many_jobs_run_at_once(db: &Db) {
    let mut runs = Vec::new();
    for number in 0..8 {
        let probe = Probe { identifier: format!("many {number}"), ..Probe::new("works") };
        runs.push(db.apply(probe).detach().await.expect("it starts"));
    }
    for run in runs {
        run.wait().await.expect("it succeeds");
    }
}

async fn a_crash_is_one_lost_attempt(db: &Db) {
    let applied = db.apply(Probe::new("aborts")).await;
    let row = job(db, "work").await;
    match applied {
        Ok(_) => assert_eq!(
            (row.state, row.attempt),
            (JobState::Succeeded, 2),
            "the next attempt succeeds"
        ),
        Err(error) => {
            let failure = row.failure.unwrap_or_else(|| panic!("it fails for a reason: {error}"));
            assert_eq!(failure.kind, FailureKind::WorkerLost, "{failure}");
        }
    }
    apply(db, "works").await;
}
