//! Retention, pins, and what is left of a purged job.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::prelude::*;

async fn keeping(db: &Db, isolation: Isolation, retention: Option<&str>) -> Trainer {
    let retention = retention.map(|text| text.parse().unwrap());
    LocalTrainer::new("default").base(JobBase { retention, ..base(isolation) }).open(db).await.unwrap()
}

both! {
    async fn j04_past_its_retention_the_result_is_gone_and_the_record_stays(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = keeping(&db, isolation, Some("0s")).await;
        let folder = place.path("shared");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("of somebody else"), "x").unwrap();
        let spec = TrainSpec::new().id("j04").save_path(&folder).model_name("mine");
        let run = trainer.train(Walk::new("loop", 2), spec).await.unwrap();
        // Nobody asks for anything: it is swept all the same.
        let job = run.job();
        until("it is purged", async || db.list().await.unwrap().iter().all(|row| row.address.identifier != "j04")).await;
        let info = run.info().await.unwrap();
        assert_eq!((info.status, info.purged), (Status::Completed, true));
        assert!(info.completed_at.is_some() && db.job(job).await.unwrap().ended_at == info.completed_at);
        let purged = run.load::<Walk>().await.err().unwrap();
        assert_eq!(purged.kind(), ErrorKind::Gone, "{purged}");
        let found = trainer.get("j04").await.unwrap();
        assert_eq!((found.job(), found.info().await.unwrap().purged), (job, true));
        assert!(!folder.join("mine").exists(), "what the job wrote is gone");
        assert!(folder.join("of somebody else").exists(), "what it did not write is not touched");
        assert!(db.metadata().referenced_blobs(None).await.unwrap().is_empty());
        until("blobs are gone", async || db.artifact_store().list(None, None).await.unwrap().is_empty()).await;
        assert!(run.checkpoints().await.unwrap().is_empty());
        assert!(!run.metrics().await.unwrap().is_empty(), "metrics are part of the record");
        // The id can be used again.
        let again = keeping(&db, isolation, None).await;
        let run = again.train(Walk::new("loop", 1), TrainSpec::new().id("j04").wait()).await.unwrap();
        assert_eq!(run.load::<Walk>().await.unwrap().trace.len(), 1);
        assert!(found.info().await.unwrap().purged && !run.info().await.unwrap().purged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j04_without_retention_or_with_a_pin_a_job_is_kept() {
    let place = Place::new();
    let db = place.db().await;
    let for_ever = keeping(&db, Thread, None).await;
    let kept = for_ever.train(Walk::new("loop", 1), TrainSpec::new().id("kept").wait()).await.unwrap();
    let own = TrainSpec::new().id("own").retention("0s".parse::<Span>().unwrap()).wait();
    let own = for_ever.train(Walk::new("loop", 1), own).await.unwrap();
    until("its own retention counts", async || {
        own.info().await.unwrap().purged || {
            for_ever.sweep().await.unwrap();
            false
        }
    })
    .await;
    assert!(for_ever.sweep().await.unwrap().is_empty());
    kept.load::<Walk>().await.unwrap();
    drop(for_ever);
    let short = keeping(&db, Thread, Some("0.4s")).await;
    let pinned = short.train(Walk::new("loop", 1), TrainSpec::new().id("pinned").wait()).await.unwrap();
    pinned.pin(true).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    short.sweep().await.unwrap();
    assert!(!pinned.info().await.unwrap().purged);
    pinned.load::<Walk>().await.unwrap();
    pinned.pin(false).await.unwrap();
    short.sweep().await.unwrap();
    assert!(pinned.info().await.unwrap().purged);
    assert_eq!(db.jobs(Default::default()).await.unwrap().len(), 3, "pins start no jobs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j04_only_what_the_job_wrote_and_nobody_changed_is_deleted() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = keeping(&db, Thread, None).await;
    let folder = place.path("models");
    let train = async |id: &str, steps: u64| {
        trainer.train(Walk::new("loop", steps), TrainSpec::new().id(id).seed(1).save_path(&folder).wait()).await.unwrap()
    };
    let first = train("first", 2).await;
    let second = train("second", 2).await;
    first.purge().await.unwrap();
    assert_eq!(load_model::<Walk>(&folder).await.unwrap().trace.len(), 2, "the same bytes, but they are now of the second job");
    std::fs::write(folder.join("model.json"), "changed by hand").unwrap();
    second.purge().await.unwrap();
    assert!(folder.join("model.json").exists() && !folder.join("blobs").exists());
    assert_eq!(second.purge().await.unwrap_err().kind(), ErrorKind::Gone);
    let gate = place.gate();
    let running = trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap();
    assert_eq!(running.purge().await.unwrap_err().kind(), ErrorKind::Conflict, "what runs is not purged");
    gate.open();
    running.wait().await.unwrap();
}
