//! What a job process prints, starts and leaves behind, and how it is watched.

use crate::process::{
    components::{FLOOD, Watched},
    program, task,
};
use crate::support::until::{found, until};
use std::{path::Path, time::Duration};
use superduper::{
    FailureKind,
    prelude::*,
    store::{JobFilter, JobState},
};

async fn db(folder: &Path) -> Db {
    let builder = Db::builder().at(folder.join("isolation.db")).unwrap();
    builder
        .executor("process")
        .program(program())
        .cancel_grace(Duration::from_millis(100))
        .build()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e28a_a_job_process_that_is_stopped_gives_no_sign_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(folder.path()).await;
    let lively = db.apply(Watched { identifier: "lively".into(), what: String::new() }).await;
    assert!(
        lively.is_ok(),
        "it runs longer than its limit, and gives signs of life: {:?}",
        lively.err()
    );
    let run = db
        .apply(Watched { identifier: "stopped".into(), what: "stop".into() })
        .detach()
        .await
        .unwrap();
    let error = run.wait_timeout(Duration::from_secs(60)).await.unwrap_err();
    let failure =
        error.outcome().expect("the job ends").job("work").unwrap().failure.clone().unwrap();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Timeout, "the attempt gave no sign of life for 1s")
    );
}

fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until_gone(pid: u64, what: &str) {
    until(&format!("{what}: the end of process {pid}"), async || !lives(pid)).await;
}

/// What the job left behind.
async fn left(folder: &Path) -> u64 {
    let left = folder.join("isolation.db").join("left");
    found("the begin of the job", async || std::fs::read_to_string(&left).ok()?.trim().parse().ok())
        .await
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e28b_what_left_the_group_of_a_job_process_ends_with_it() {
    // Without variables it is found as long as the job process lives.
    for what in ["leave", "leave bare", "leave, abort", "leave, wait", "leave bare, wait"] {
        let folder = tempfile::tempdir().unwrap();
        let db = db(folder.path()).await;
        let run = db.apply(task("left", what)).detach().await.unwrap();
        if what.contains("wait") {
            let pid = left(folder.path()).await;
            assert!(lives(pid), "{what}");
            run.cancel().await.unwrap();
        }
        let ended = run.wait_timeout(Duration::from_secs(60)).await;
        let jobs = db.jobs(JobFilter::default()).await.unwrap();
        assert!(jobs.iter().all(|job| job.state.is_terminal()), "{what}: {ended:?}");
        until_gone(left(folder.path()).await, what).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e28c_what_a_job_started_ends_when_the_parent_is_killed() {
    for what in ["leave, wait", "leave bare, wait"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("isolation.db");
        let mut parent = std::process::Command::new(program())
            .arg("apply")
            .arg(&path)
            .arg(what)
            .spawn()
            .unwrap();
        let pid = left(folder.path()).await;
        assert!(lives(pid), "{what}");
        parent.kill().unwrap();
        parent.wait().unwrap();
        until_gone(pid, what).await;
    }
}

/// Apply a task that prints, in a process whose own streams lead nowhere.
fn print(folder: &Path, what: &str) {
    let null = std::process::Stdio::null;
    let path = folder.join("isolation.db");
    let status = std::process::Command::new(program())
        .arg("peak")
        .arg(path)
        .arg(what)
        .stdout(null())
        .stderr(null())
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn e23_what_a_job_process_prints_is_in_its_log_by_lines_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    print(folder.path(), "flood");
    let db = db(folder.path()).await;
    let job = db
        .jobs(JobFilter::default())
        .await
        .unwrap()
        .into_iter()
        .find(|job| job.method == "work")
        .unwrap();
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let logs: Vec<String> =
        db.logs(job.id).await.unwrap().into_iter().map(|line| line.message).collect();
    let of = |stream: &str| {
        logs.iter()
            .filter_map(|line| line.strip_prefix(stream))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("stderr: "), ["first complaint", "no text: \u{fffd}\u{fffd}."]);
    let out = of("stdout: ");
    assert_eq!(
        (out[0].as_str(), out[1].as_str(), out[2].len()),
        ("first line", "half a line", 1023)
    );
    let left_out: Vec<&String> =
        out.iter().filter(|line| line.contains("bytes are left out here")).collect();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    let long = format!(" … ({} bytes more)", (FLOOD << 20) - 4096);
    assert!(
        out[out.len() - 2].ends_with(&long) && out[out.len() - 1] == "last line",
        "{}",
        out[out.len() - 1]
    );
    assert!(
        out.iter().map(String::len).sum::<usize>() < 150 << 10,
        "the first and the last 64 KiB"
    );
    let size: u64 = std::fs::read_dir(folder.path().join("isolation.db"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 8 << 20, "{size} bytes");
    let peak: u64 = std::fs::read_to_string(folder.path().join("peak")).unwrap().parse().unwrap();
    assert!(peak < 100 << 10, "the parent took {peak} KiB");
}
