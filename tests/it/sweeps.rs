//! Sweeps of blobs beside jobs that end: the record of a result never names a blob that is gone.

use crate::support::until::until;
use crate::{
    fresh,
    process::{program, task},
    support::{Database, databases},
};
use std::time::Duration;
use superduper::{
    Bytes, Digest, FailureKind,
    prelude::*,
    store::{Batch, Durability, JobFilter, JobRow, JobState, Op, RunState},
};

const BYTES: &[u8] = b"bytes that two have";

/// Has the bytes in a field.
#[derive(Component)]
#[component(kind = "sweeps.Holder")]
struct Holder {
    identifier: String,
    data: Artifact<Bytes>,
}

/// Makes equal ones: as its result and as an output, beside another job.
#[derive(Component)]
#[component(kind = "sweeps.Maker")]
struct Maker {
    identifier: String,
    kept: Output<Artifact<Bytes>>,
}

#[triggers]
impl Maker {
    #[trigger("apply")]
    async fn first(&self) -> Result<i64> {
        Ok(1)
    }
    #[trigger("apply")]
    async fn make(&self, ctx: &JobContext) -> Result<Artifact<Bytes>> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ctx.set(&self.kept, Bytes::from_static(BYTES).into())?;
        Ok(Bytes::from_static(BYTES).into())
    }
    #[trigger("apply")]
    async fn beside(&self) -> Result<i64> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(2)
    }
    #[trigger("apply")]
    async fn read(&self, make: Artifact<Bytes>) -> Result<usize> {
        Ok(make.get().await?.len() + self.kept.get()?.get().await?.len())
    }
    #[trigger("apply")]
    async fn follow(&self, beside: i64) -> Result<i64> {
        Ok(beside)
    }
}

/// Spawns a job, so that its end is recorded on its own; or hands on what the holder has.
#[derive(Component)]
#[component(kind = "sweeps.Other")]
struct Other {
    identifier: String,
    hands_on: Option<bool>,
    spawns: Option<bool>,
}

#[triggers]
impl Other {
    #[trigger("apply", requires = "hands_on")]
    async fn hand_on(&self, ctx: &JobContext) -> Result<Artifact<Bytes>> {
        Ok(ctx.db()?.load::<Holder>("h").await?.data.clone())
    }
    #[trigger("apply", requires = "spawns")]
    async fn spawn(&self, ctx: &JobContext) -> Result<Artifact<Bytes>> {
        ctx.spawn("one", ctx.address(), "spawned", &[])?;
        Ok(Bytes::from_static(BYTES).into())
    }
    #[trigger("call")]
    async fn spawned(&self) -> Result<i64> {
        Ok(3)
    }
}

async fn wide(on: &Database) -> Db {
    let builder = Db::builder().metadata(on.metadata.clone()).artifacts(on.artifacts.clone());
    builder.gc_grace(Duration::ZERO).parallelism(4).build().await.expect("opens")
}

async fn apply_holder(db: &Db) {
    db.apply(Holder { identifier: "h".into(), data: Bytes::from_static(BYTES).into() })
        .await
        .expect("applies");
}

fn maker() -> Maker {
    Maker { identifier: "m".into(), kept: Output::empty() }
}

/// Nothing is missing, and every job ended once.
async fn assert_whole(db: &Db) {
    let report = db.verify().await.expect("verifies");
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.severity < superduper::verify::Severity::Error),
        "{:?}",
        report.findings
    );
    let events = db
        .metadata()
        .events(superduper::store::Cursor::default(), None, 1000)
        .await
        .expect("events");
    for job in db.jobs(JobFilter::default()).await.expect("jobs") {
        let ends = events
            .iter()
            .filter(|event| event.job == Some(job.id) && event.kind == format!("job.{}", job.state))
            .count();
        assert_eq!((ends, job.attempt), (1, 1), "{job:?}");
    }
}

fn states(jobs: &[JobRow]) -> Vec<(&str, JobState)> {
    jobs.iter().map(|job| (job.method.as_str(), job.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_result_equal_to_a_blob_that_was_swept_before_its_commit_is_saved_again() {
    for on in databases().await {
        let db = wide(&on).await;
        apply_holder(&db).await;
        on.metadata.ends.close();
        let run = db.apply(maker()).detach().await.expect("applies");
        // While the first end is held, two others come together.
        on.metadata.ends.reached().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        on.metadata.ends.let_one_pass();
        tokio::time::sleep(Duration::from_millis(50)).await;
        on.metadata.ends.reached().await;
        db.remove::<Holder>("h").await.expect("removes");
        assert_eq!(
            on.blob_count().await,
            0,
            "the blob was there for the look, and is gone for the commit"
        );
        on.metadata.ends.open();
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert_eq!(outcome.result::<usize>("read").expect("a result"), 2 * BYTES.len());
        assert_eq!(outcome.result::<i64>("follow").expect("a result"), 2);
        assert_whole(&db).await;
        let loaded: Maker = db.load("m").await.expect("loads");
        assert_eq!(&loaded.kept.get().expect("set").get().await.expect("bytes")[..], BYTES);
    }
}

#[tokio::test]
async fn r07_a_result_equal_to_a_blob_that_is_being_deleted_waits_for_the_sweep() {
    for on in databases().await {
        apply_holder(&on.db).await;
        on.artifacts.deletions.close();
        let remover = on.db.clone();
        let removal = tokio::spawn(async move { remover.remove::<Holder>("h").await });
        on.artifacts.deletions.reached().await;
        let run = on.db.apply(maker()).detach().await.expect("applies");
        // Longer than three tries of a commit take.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let jobs = run.jobs().await.expect("jobs");
        let open: Vec<_> = jobs
            .iter()
            .filter(|job| !job.state.is_terminal())
            .map(|job| job.method.as_str())
            .collect();
        assert_eq!(open, ["make", "read"], "the others went on");
        on.artifacts.deletions.open();
        removal.await.expect("no panic").expect("removes");
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert_eq!(outcome.result::<usize>("read").expect("a result"), 2 * BYTES.len());
        assert_whole(&on.db).await;
    }
}

#[tokio::test]
async fn r07_an_apply_of_a_blob_that_is_being_deleted_waits_for_the_sweep() {
    for on in databases().await {
        apply_holder(&on.db).await;
        on.artifacts.deletions.close();
        let remover = on.db.clone();
        let removal = tokio::spawn(async move { remover.remove::<Holder>("h").await });
        on.artifacts.deletions.reached().await;
        let other = on.db.clone();
        let apply = tokio::spawn(async move {
            let data = Bytes::from_static(BYTES).into();
            other.apply(Holder { identifier: "other".into(), data }).await
        });
        // Deleting very many blobs, or on a slow disk, takes its time.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!apply.is_finished());
        on.artifacts.deletions.open();
        removal.await.expect("no panic").expect("removes");
        apply.await.expect("no panic").expect("applies");
        let loaded: Holder = on.db.load("other").await.expect("loads");
        assert_eq!(&loaded.data.get().await.expect("bytes")[..], BYTES);
        assert!(on.db.verify().await.expect("verifies").is_sound());
    }
}

#[tokio::test]
async fn r07_a_result_that_names_a_swept_blob_without_its_bytes_fails() {
    for on in databases().await {
        apply_holder(&on.db).await;
        on.metadata.ends.close();
        let other = Other { identifier: "o".into(), hands_on: Some(true), spawns: None };
        let run = on.db.apply(other).detach().await.expect("applies");
        on.metadata.ends.reached().await;
        on.db.remove::<Holder>("h").await.expect("removes");
        on.metadata.ends.open();
        let error =
            run.wait_timeout(Duration::from_secs(20)).await.expect_err("the bytes are gone");
        let job = error.outcome().expect("an outcome").job("hand_on").expect("the job").clone();
        let failure = job.failure.expect("a failure");
        assert_eq!((job.state, failure.kind), (JobState::Failed, FailureKind::Error));
        let digest = Digest::of(BYTES).to_string();
        for part in [
            "a sweep came before the result was on record",
            &*digest,
            "sweeps.Holder/h@0",
            "is missing",
        ] {
            assert!(failure.to_string().contains(part), "{part:?} is not in {failure}");
        }
        assert_whole(&on.db).await;
    }
}

#[tokio::test]
async fn r07_the_end_of_a_job_that_spawned_others_is_recorded_again() {
    for on in databases().await {
        apply_holder(&on.db).await;
        on.metadata.ends.close();
        let other = Other { identifier: "o".into(), hands_on: None, spawns: Some(true) };
        let run = on.db.apply(other).detach().await.expect("applies");
        on.metadata.ends.reached().await;
        on.db.remove::<Holder>("h").await.expect("removes");
        on.metadata.ends.open();
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert_eq!(outcome.run.state, RunState::Succeeded);
        assert_eq!(
            states(&outcome.jobs),
            [("spawn", JobState::Succeeded), ("spawned", JobState::Succeeded)]
        );
        let made: Artifact<Bytes> = outcome.result("spawn").expect("a result");
        assert_eq!(&made.get().await.expect("bytes")[..], BYTES);
        assert_whole(&on.db).await;
    }
}

#[tokio::test]
async fn r07_a_worker_process_saves_the_blobs_of_its_result_again() {
    let db = fresh::builder().executor("process").program(program()).build().await.expect("opens");
    let digest = Digest::of(b"always the same");
    let commit = async |op: Op| {
        db.metadata()
            .commit(Batch { expect: Vec::new(), ops: vec![op] }, Durability::Full)
            .await
            .expect("commits")
    };
    let held = db.metadata().sweep_lock().await.expect("asks").expect("nothing sweeps");
    let lock = held.token();
    assert_eq!(commit(Op::MarkForDeletion { digests: vec![digest], lock }).await.marked, [digest]);
    let run = db.apply(task("r07", "same")).detach().await.expect("applies");
    let store = db.artifact_store();
    until("the blob", async || store.size(digest).await.expect("a size").is_some()).await;
    // The worker may have met the mark by now, or meets it or the sweep later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.delete(digest).await.expect("deletes");
    commit(Op::ConfirmDeleted { digests: vec![digest], lock }).await;
    let outcome =
        run.wait_timeout(Duration::from_secs(30)).await.expect("succeeds").expect("it had jobs");
    assert_eq!(outcome.job("work").expect("the job").attempt, 1, "no attempt was lost");
    assert!(outcome.result::<String>("after").expect("a result").ends_with("always the same"));
    assert_whole(&db).await;
}

/// What somebody else is about to delete is not deleted a second time: it may have been stored
/// again in between.
#[tokio::test]
async fn a_sweep_that_is_under_way_is_left_to_who_makes_it() {
    for on in databases().await {
        let metadata = on.db.metadata().clone();
        let holder =
            Holder { identifier: "gone".into(), data: Bytes::from_static(b"left behind").into() };
        on.db.apply(holder).await.expect("applies");
        let [(digest, _)] = metadata.referenced_blobs(None).await.expect("blobs")[..] else {
            panic!("one blob")
        };
        let commit = async |op: Op| {
            metadata
                .commit(Batch { expect: Vec::new(), ops: vec![op] }, Durability::Full)
                .await
                .expect("commits")
        };
        let right = metadata.sweep_lock().await.expect("asks").expect("nothing sweeps");
        let lock = right.token();
        let address = "sweeps.Holder/gone".parse().expect("an address");
        commit(Op::Delete { address, versions: vec![0] }).await;
        assert_eq!(
            commit(Op::MarkForDeletion { digests: vec![digest], lock }).await.marked,
            [digest]
        );
        on.db.resume().await.expect("resumes");
        assert!(
            on.db.artifact_store().size(digest).await.expect("asks").is_some(),
            "it is not this one's to delete"
        );
        // An apply that needs it waits until it is swept, and stores it again.
        let again =
            Holder { identifier: "again".into(), data: Bytes::from_static(b"left behind").into() };
        let applying = tokio::spawn(on.db.apply(again).into_future());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            !applying.is_finished()
                && on.db.artifact_store().size(digest).await.expect("asks").is_some()
        );
        // Whoever swept is gone.
        drop(right);
        applying.await.expect("no panic").expect("applies");
        assert!(on.db.artifact_store().size(digest).await.expect("asks").is_some());
        assert!(metadata.marked_blobs().await.expect("blobs").is_empty());
        on.db.gc(false).await.expect("collects");
        assert!(on.db.artifact_store().size(digest).await.expect("asks").is_some());
    }
}
