//! The executor `process`: jobs in job processes. The worker program is in `tests/it/worker`,
//! an example for cargo, which builds examples before it runs tests.

use crate::support::until::{found, until};
use std::{path::PathBuf, time::Duration};
use superduper::{
    DbBuilder, FailureKind,
    prelude::*,
    store::{JobFilter, JobState},
};

#[path = "worker/components.rs"]
pub(crate) mod components;
use components::Task;
pub(crate) use components::{Again, Isolated};

pub(crate) fn program() -> PathBuf {
    // target/debug/deps/it-… → target/debug/examples/worker
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let program = folder.join("examples").join("worker");
    assert!(program.exists(), "`{}` is missing; `cargo test` builds it", program.display());
    program
}

fn builder() -> DbBuilder {
    crate::fresh::builder()
        .executor("process")
        .program(program())
        .cancel_grace(Duration::from_millis(200))
}

pub(crate) fn task(identifier: &str, what: &str) -> Task {
    Task { identifier: identifier.into(), what: what.into(), made: Output::empty() }
}

#[tokio::test]
async fn p01_a_worker_runs_hooks_and_triggers_and_hands_on_results() {
    let db = builder().build().await.unwrap();
    let applied = db.apply(task("p01", "fine")).await.unwrap();
    let pid: u32 = applied.result("work").unwrap();
    assert_ne!(pid, std::process::id(), "it ran in another process");
    assert_eq!(applied.result::<String>("after").unwrap(), format!("after {pid}, made by {pid}"));
    let loaded: Task = db.load("p01").await.unwrap();
    assert_eq!(
        &**loaded.made.get().unwrap().get().await.unwrap(),
        format!("made by {pid}").as_bytes()
    );
    let job = applied.outcome.as_ref().unwrap().job("work").unwrap().id;
    let logs: Vec<String> =
        db.logs(job).await.unwrap().into_iter().map(|line| line.message).collect();
    assert_eq!(logs, ["a line of the worker", "an event of the worker"]);
    db.remove::<Task>("p01").await.unwrap();
}

async fn failure(what: &str) -> superduper::JobFailure {
    let db = builder().build().await.unwrap();
    let error = db.apply(task("p02", what)).await.unwrap_err();
    let outcome = error.outcome().unwrap();
    assert_eq!(outcome.job("after").unwrap().state, JobState::Skipped);
    outcome.job("work").unwrap().failure.clone().unwrap()
}

#[tokio::test]
async fn p02_exit_reasons_are_told_apart() {
    let error = failure("error").await;
    assert_eq!(
        (error.kind, error.to_string()),
        (FailureKind::Error, "in the worker: went wrong".to_owned())
    );
    let panic = failure("panic").await;
    assert_eq!((panic.kind, panic.message.as_str()), (FailureKind::Panic, "panicked: worker boom"));
    let signal = failure("signal").await;
    assert_eq!(
        (signal.kind, signal.message.as_str()),
        (FailureKind::WorkerLost, "the worker was killed by signal 9")
    );
    let exit = failure("exit").await;
    assert_eq!(exit.message, "the worker ended without recording a result");
    let code = failure("code").await;
    assert_eq!(code.message, "the worker ended with exit code 3 without recording a result");
}

#[tokio::test]
async fn p03_an_error_text_of_a_mebibyte_arrives_whole() {
    let error = failure("long").await;
    assert_eq!(error.message.len(), 1 << 20);
}

#[tokio::test]
async fn p04_a_cancelled_worker_ends_by_itself_or_is_killed() {
    let db = builder().build().await.unwrap();
    for what in ["listen", "ignore"] {
        let run = db.apply(task(what, what)).detach().await.unwrap();
        let job = found("a report of the job", async || {
            let mut jobs = run.jobs().await.unwrap();
            jobs.retain(|job| job.method == "work" && job.progress.is_some());
            jobs.first().map(|job| job.id)
        })
        .await;
        db.cancel(job).await.unwrap();
        let error = run.wait_timeout(Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        let text = db.job(job).await.unwrap().failure.unwrap().message;
        assert_eq!(text.contains("killed"), what == "ignore", "{text}");
    }
}

#[tokio::test]
async fn p05_a_program_that_is_not_prepared_is_refused_before_anything_is_written() {
    let db = crate::fresh::builder().build().await.unwrap();
    let error = crate::fresh::builder().executor("process").build().await.err().unwrap();
    assert!(error.to_string().contains("#[superduper::main]"), "{error}");
    let error = Db::builder()
        .in_memory()
        .executor("process")
        .program(program())
        .build()
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("in memory"), "{error}");
    let error =
        db.apply(Isolated { identifier: "p05".into(), made: Output::empty() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(db.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn p06_one_trigger_can_ask_for_a_process() {
    let db = crate::fresh::builder().program(program()).build().await.unwrap();
    let applied =
        db.apply(Isolated { identifier: "p06".into(), made: Output::empty() }).await.unwrap();
    assert_eq!(applied.result::<u32>("here").unwrap(), std::process::id());
    assert_ne!(applied.result::<u32>("there").unwrap(), std::process::id());
}

#[tokio::test]
async fn p07_a_time_limit_kills_the_worker() {
    let db = crate::fresh::builder().program(program()).build().await.unwrap();
    let error = db.apply(components::Endless { identifier: "p07".into() }).await.unwrap_err();
    assert_eq!(
        error.outcome().unwrap().jobs[0].failure.as_ref().unwrap().kind,
        FailureKind::Timeout
    );
}

#[tokio::test]
async fn p08_workers_die_with_their_parent_and_the_next_resume_finishes_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p08.db");
    let mut parent = std::process::Command::new(program())
        .arg("apply")
        .arg(&path)
        .arg("wait")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let db = loop {
        if let Ok(db) = Db::builder().at(&path).unwrap().program(program()).build().await
            && let Ok(jobs) = db.jobs(JobFilter::default()).await
            && jobs.iter().any(|job| job.state == JobState::Running && job.progress.is_some())
        {
            break db;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let pid =
        db.jobs(JobFilter::default()).await.unwrap().iter().find_map(|job| job.progress).unwrap().0;
    parent.kill().unwrap();
    parent.wait().unwrap();
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    until("the end of the worker, whose parent is gone,", async || gone()).await;
    // The waiting task looks for a file, so that the second try ends.
    std::fs::write(path.join("go"), "").unwrap();
    let outcomes = db.resume().await.unwrap();
    assert_eq!(outcomes.len(), 1);
    assert!(outcomes[0].succeeded(), "{:?}", outcomes[0].jobs);
    let work = outcomes[0].job("work").unwrap();
    assert_eq!((work.attempt, work.lost), (2, 1));
}

#[tokio::test]
async fn p09_a_program_that_a_worker_starts_is_no_worker() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::builder()
        .at(folder.path().join("p09.db"))
        .unwrap()
        .executor("process")
        .program(program())
        .build()
        .await
        .unwrap();
    let applied = db.apply(task("p09", "program")).await.unwrap();
    assert_ne!(applied.result::<u32>("work").unwrap(), std::process::id());
    assert_eq!(
        std::fs::read_to_string(folder.path().join("p09.db").join("runs")).unwrap(),
        "run\n",
        "the job ran once"
    );
}

#[tokio::test]
async fn p10_what_a_job_of_a_worker_applies_without_waiting_is_done_as_well() {
    let db = builder().build().await.unwrap();
    let begun = std::time::Instant::now();
    db.apply(task("p10", "detach")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let done = async {
        loop {
            let jobs = db.jobs(JobFilter::default()).await.unwrap();
            if jobs
                .iter()
                .filter(|job| job.method == "after" && job.state == JobState::Succeeded)
                .count()
                == 2
            {
                return;
            }
            assert!(
                jobs.iter().all(|job| !matches!(
                    job.state,
                    JobState::Failed | JobState::Cancelled | JobState::Skipped
                )),
                "{jobs:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.expect("nobody goes on with it");
    assert!(db.load::<Task>("other").await.unwrap().made.get().is_ok());
}

#[tokio::test]
async fn p11_a_worker_hears_at_once_that_its_job_is_cancelled() {
    let db = builder().build().await.unwrap();
    let mut slowest = Duration::ZERO;
    for n in 0..24 {
        // It looks by itself every 100 ms, so that some of eight would come late; the module looks
        // every 10 ms.
        if n % 8 == 0 {
            if n > 0 && slowest < Duration::from_millis(70) {
                return;
            }
            slowest = Duration::ZERO;
        }
        let run = db.apply(task(&format!("p11-{n}"), "listen")).detach().await.unwrap();
        let job = found("a report of the job", async || {
            let mut jobs = run.jobs().await.unwrap();
            jobs.retain(|job| job.method == "work" && job.progress.is_some());
            jobs.first().map(|job| job.id)
        })
        .await;
        // At another place between two of its looks each time.
        tokio::time::sleep(Duration::from_millis(12 * (n % 8))).await;
        let begun = std::time::Instant::now();
        db.cancel(job).await.unwrap();
        assert_eq!(
            run.wait_timeout(Duration::from_secs(20)).await.unwrap_err().kind(),
            ErrorKind::Cancelled
        );
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(70), "{slowest:?}");
}

#[test]
fn j15_a_program_ends_with_the_code_of_its_error() {
    let end = |args: &[&str]| {
        let output = std::process::Command::new(program()).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (kind, code) in [
        ("not_found", 11),
        ("gone", 12),
        ("job_failed", 20),
        ("cancelled", 21),
        ("user", 1),
        ("internal", 70),
    ] {
        let (ended, text) = end(&["end", kind]);
        assert_eq!(ended, code, "{kind}");
        assert!(text.starts_with("Error: ") && text.contains("as asked: the end"), "{text}");
    }
    assert_eq!(end(&["other"]).0, 0);
}
