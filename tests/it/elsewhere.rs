//! Job processes find what their parent has: its artifacts, wherever they are, and its program,
//! whatever became of the file.

use crate::{process::components::Blobs, process::program, support::says, support::write_program};
use std::path::Path;
use superduper::{FailureKind, JobFailure, prelude::*};

fn blobs(identifier: &str, isolated: bool) -> Blobs {
    Blobs {
        identifier: identifier.into(),
        isolated,
        input: Artifact::new(Bytes::from(identifier.to_owned())),
        made: Output::empty(),
    }
}

/// How many files there are below a folder.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[tokio::test]
async fn e13_blobs_of_jobs_are_where_they_were_asked_for_in_threads_and_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (place, elsewhere) = (folder.path().join("my.db"), folder.path().join("elsewhere"));
    for (isolated, url) in [(false, false), (true, false), (true, true)] {
        let location = if url {
            format!("file://{}", elsewhere.display())
        } else {
            elsewhere.display().to_string()
        };
        let db = Db::builder()
            .at(&place)
            .unwrap()
            .artifacts_at(location)
            .unwrap()
            .program(program())
            .build()
            .await
            .unwrap();
        let identifier = format!("e13-{isolated}-{url}");
        let applied = db.apply(blobs(&identifier, isolated)).await.unwrap();
        let (pid, result) = applied.result::<(u32, Artifact<Bytes>)>("make").unwrap();
        assert_eq!(pid != std::process::id(), isolated);
        assert_eq!(&**result.get().await.unwrap(), format!("{identifier} as result").as_bytes());
        let loaded: Blobs = db.load(&identifier).await.unwrap();
        assert_eq!(
            &**loaded.made.get().unwrap().get().await.unwrap(),
            format!("{identifier} as output").as_bytes()
        );
        let report = db.verify().await.unwrap();
        assert!(report.is_sound(), "{report}");
        assert!(!place.join("artifacts").exists(), "blobs are in one place");
    }
    assert_eq!(files(&elsewhere.join("blake3")), 9);
}

async fn failure(db: &Db) -> JobFailure {
    let error = db.apply(blobs("refused", true)).await.unwrap_err();
    let jobs = &error.outcome().unwrap().jobs;
    assert_eq!((jobs[0].lost, jobs[0].attempt), (0, 1), "it is not tried again");
    jobs[0].failure.clone().unwrap()
}

#[tokio::test]
async fn e13_a_worker_that_cannot_open_the_stores_of_its_parent_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let (place, elsewhere) = (folder.path().join("my.db"), folder.path().join("elsewhere"));
    let builder = || Db::builder().at(&place).unwrap().program(program());
    // Of another place, which is gone in the moment the worker looks.
    let script = folder.path().join("worker.sh");
    let text = format!(
        "#!/bin/sh\nmv '{}' '{}.away'\nexec '{}' \"$@\"\n",
        elsewhere.display(),
        elsewhere.display(),
        program().display()
    );
    write_program(&script, text.as_bytes());
    let db = builder().artifacts_at(&elsewhere).unwrap().program(&script).build().await.unwrap();
    let failure = failure(&db).await;
    assert!(failure.message.contains("could not open the stores of its parent"), "{failure}");
    assert!(
        (failure.kind, failure.retryable) == (FailureKind::Error, false)
            && !elsewhere.exists()
            && !place.join("artifacts").exists()
    );
    // In memory: before anything is started.
    let memory = builder()
        .artifacts(Db::in_memory().await.unwrap().artifact_store().clone())
        .build()
        .await
        .unwrap();
    let error = memory.apply(blobs("memory", true)).await.unwrap_err();
    says(
        &error,
        ErrorKind::Unsupported,
        &["artifacts of this database: `memory://", "is in memory"],
    );
    assert!(memory.load::<Blobs>("memory").await.is_err(), "nothing was written");
}

#[test]
fn b15_jobs_go_on_with_the_build_that_runs_whatever_becomes_of_its_file() {
    for how in ["same build", "other build", "deleted"] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("program");
        write_program(&copy, &std::fs::read(program()).unwrap());
        let output = std::process::Command::new(&copy)
            .args(["replaced"])
            .arg(folder.path().join("my.db"))
            .arg(how)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{how}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let processes: Vec<u32> = said.split(' ').map(|id| id.parse().unwrap()).collect();
        assert!(matches!(processes[..], [before, after] if before != after), "{how}: {said}");
    }
}

#[tokio::test]
async fn b15_a_named_program_that_is_gone_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let db = Db::builder()
        .at(folder.path().join("my.db"))
        .unwrap()
        .program(&gone)
        .build()
        .await
        .unwrap();
    let error = db.apply(blobs("b15", true)).await.unwrap_err();
    let failure = error.outcome().unwrap().jobs[0].failure.clone().unwrap();
    assert!(failure.message.contains(gone.to_str().unwrap()), "{failure}");
}
