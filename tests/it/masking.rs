//! The values of secrets in what jobs leave on record.

#[path = "worker/confidant.rs"]
mod confidant;

use crate::process::program;
use confidant::Confidant;
use std::{path::Path, time::Duration};
use superduper::{
    prelude::*,
    store::{Cursor, JobFilter, JobRow, JobState},
};

/// Found nowhere else; with a quote and in two lines, as keys in files may be.
const TOKEN: &str = "sesame-4711-\"open\"\nsecond-line-0815";
/// What must not be on record, in any form.
const PARTS: [&str; 3] = ["sesame-4711", "second-line", "sesame"];

struct Case {
    db: Db,
    folder: tempfile::TempDir,
}

impl Case {
    async fn new(executor: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let builder = Db::builder().at(folder.path().join("mask.db")).unwrap();
        let db = builder.executor(executor).program(program()).build().await.unwrap();
        Case { db, folder }
    }

    /// Apply a component that lets its secret slip; its job when it has ended, or waits.
    async fn job(&self, what: &str) -> (JobRow, Option<Error>) {
        let token = Secret::file(self.folder.path().join("token").display().to_string());
        let (identifier, made) = (what.replace(", ", "-"), Output::empty());
        let confidant = Confidant { identifier, token, what: what.into(), made };
        let run = self.db.apply(confidant).detach().await.unwrap();
        let ended = run.wait_timeout(Duration::from_secs(60)).await.err();
        let filter = JobFilter { run: run.id(), ..JobFilter::default() };
        (self.db.jobs(filter).await.unwrap().remove(0), ended)
    }

    async fn log(&self, job: &JobRow) -> Vec<String> {
        self.db
            .logs(job.id)
            .attempt(1)
            .await
            .unwrap()
            .into_iter()
            .map(|line| line.message)
            .collect()
    }

    /// Check that no part of the secret is in any file of the database.
    async fn assert_nowhere(self) {
        let store = self.db.metadata().clone();
        let events = store.events(Cursor::default(), None, 1000).await.unwrap();
        assert!(!has_part(&format!("{events:?}")));
        self.db.close(Duration::from_secs(5)).await.unwrap();
        drop((self.db, store));
        look_into(&self.folder.path().join("mask.db"));
    }
}

fn has_part(text: &str) -> bool {
    PARTS.iter().any(|part| text.contains(part))
}

fn look_into(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_into(&path);
        } else {
            // The log of SQLite goes when the last connection closes.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            assert!(!has_part(&text), "a secret is in `{}`", path.display());
        }
    }
}

/// What both executors must do.
async fn masks(executor: &str) {
    let case = Case::new(executor).await;
    let (job, _) = case.job("result").await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let result = json!({"token": "Bearer ***", "items": [1, {"of": "***"}]});
    assert_eq!(job.result, Some(result), "a secret in a result");
    let log = case.log(&job).await;
    assert_eq!(log, ["the token is ***", "an event token=\"***\""], "secrets in the log");
    let messages = case.db.metadata().messages(Cursor::default(), 10).await.unwrap();
    assert_eq!(messages[0].payload, json!({"of": ["***"]}), "a secret in a message");

    let (job, error) = case.job("error").await;
    let failure = job.failure.unwrap();
    let texts = (failure.message.as_str(), &failure.causes[..]);
    assert!(!has_part(&format!("{texts:?}")) && format!("{texts:?}").contains("*** is refused"));
    let error = error.expect("the run fails");
    assert!(!has_part(&format!("{error} {error:?}")), "a secret in an error: {error:?}");

    let (job, error) = case.job("panic").await;
    let message = job.failure.unwrap().message;
    assert!(message.ends_with("*** is odd"), "a secret in a panic: {message}");
    assert!(!has_part(&format!("{error:?}")));
    case.assert_nowhere().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n09_secrets_are_masked_in_what_a_job_leaves_on_record() {
    crate::support::trace_jobs();
    masks("threads").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n09_secrets_are_masked_in_what_a_job_process_leaves_on_record() {
    masks("process").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n09_secrets_are_masked_in_the_reason_why_a_job_waits() {
    let case = Case::new("threads").await;
    let token = Secret::file(case.folder.path().join("token").display().to_string());
    let confidant = Confidant {
        identifier: "block".into(),
        token,
        what: "block".into(),
        made: Output::empty(),
    };
    let run = case.db.apply(confidant).detach().await.unwrap();
    let mut events = run.events();
    loop {
        match events.next().await.unwrap().expect("it blocks") {
            superduper::Event::Recorded(row) if row.kind == "job.blocked" => {
                assert_eq!(row.detail.as_deref(), Some("whoever knows ***"));
                break;
            }
            _ => {}
        }
    }
    let job = case.db.jobs(JobFilter::default()).await.unwrap().remove(0);
    assert_eq!(job.blocked.as_deref(), Some("whoever knows ***"));
    run.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn n09_secrets_are_masked_in_what_a_job_process_prints() {
    // The program itself has not read the secret: its job process tells it.
    let case = Case::new("process").await;
    for what in ["print", "print, exit"] {
        let (job, error) = case.job(what).await;
        let log = case.log(&job).await;
        let of = |start: &str| -> Vec<&str> {
            log.iter().filter_map(|line| line.strip_prefix(start)).collect()
        };
        assert_eq!(of("stdout: "), ["out: ***", "***"], "{what}");
        let stderr = of("stderr: ");
        assert_eq!(&stderr[..2], ["err: ***", "***, \"***\""], "{what}");
        assert!(stderr[2].starts_with("xxx") && stderr[2].contains("*** … ("), "{}", stderr[2]);
        assert_eq!(&stderr[stderr.len() - 2..], ["parts: ***", "***"], "{what}");
        assert!(!has_part(&format!("{log:?}")), "{what}: {log:#?}");
        if what == "print, exit" {
            let failure = job.failure.expect("the process ended too early");
            let text = format!("{failure:?} {error:?}");
            assert!(text.contains("parts: ***") && !has_part(&text), "{text}");
        }
    }
    case.assert_nowhere().await;
}
