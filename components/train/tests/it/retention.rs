//! Retention, pins, and what is left of a purged job.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::prelude::*;

async fn keeping(db: &Db, isolation: Isolation, retention: Option<&str>) -> Trainer {
    let retention = retention.map(|text| text.parse().unwrap());
    LocalTrainer::new("default")
        .base(JobBase { retention, ..base(isolation) })
        .open(db)
        .await
        .unwrap()
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

both! {
    async fn j04_without_retention_or_with_a_pin_a_job_is_kept(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let for_ever = keeping(&db, isolation, None).await;
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
        let short = keeping(&db, isolation, Some("1s")).await;
        // Pinned before it ends: a sweep may come at any time after that.
        let gate = place.gate();
        let pinned = short.train(Walk::new("wait", 1), gate.spec().id("pinned")).await.unwrap();
        pinned.pin(true).await.unwrap();
        gate.open();
        assert_eq!(pinned.wait().await.unwrap().status, Status::Completed);
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        short.sweep().await.unwrap();
        assert!(!pinned.info().await.unwrap().purged);
        pinned.load::<Walk>().await.unwrap();
        pinned.pin(false).await.unwrap();
        short.sweep().await.unwrap();
        assert!(pinned.info().await.unwrap().purged);
        assert_eq!(db.jobs(Default::default()).await.unwrap().len(), 3, "pins start no jobs");
    }
}

both! {
    async fn j04_only_what_the_job_wrote_and_nobody_changed_is_deleted(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = keeping(&db, isolation, None).await;
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
        // The same place by another path.
        let (real, link) = (place.path("real"), place.path("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let to = |id: &str, folder: &std::path::Path| TrainSpec::new().id(id).seed(1).save_path(folder).wait();
        let by_link = trainer.train(Walk::new("loop", 2), to("by-link", &link)).await.unwrap();
        trainer.train(Walk::new("loop", 2), to("by-path", &real)).await.unwrap();
        by_link.purge().await.unwrap();
        assert_eq!(weights(&load_model::<Walk>(&real).await.unwrap()).await.len(), 512, "all of it is that of the other job");
        let gate = place.gate();
        let running = trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap();
        assert_eq!(running.purge().await.unwrap_err().kind(), ErrorKind::Conflict, "what runs is not purged");
        gate.open();
        running.wait().await.unwrap();
    }
}

both! {
    async fn j04_each_submission_of_an_id_has_its_own_retention_and_pin(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = keeping(&db, isolation, None).await;
        let train = async |steps: u64, retention: Option<&str>| {
            let mut spec = TrainSpec::new().id("again").seed(1).wait();
            spec.retention = retention.map(|text| text.parse().unwrap());
            trainer.train(Walk::new("loop", steps), spec).await.unwrap()
        };
        let first = train(1, Some("0s")).await;
        first.pin(true).await.unwrap();
        let second = train(2, Some("0s")).await;
        let third = train(3, None).await;
        assert!(first.is_pinned().await.unwrap() && !third.is_pinned().await.unwrap());
        trainer.sweep().await.unwrap();
        assert!(second.info().await.unwrap().purged, "a superseded job is past its retention like any other");
        assert_eq!(first.load::<Walk>().await.unwrap().trace.len(), 1, "the pin is that of the first job");
        assert_eq!(third.load::<Walk>().await.unwrap().trace.len(), 3);
        assert_eq!(first.purge().await.unwrap_err().kind(), ErrorKind::Conflict, "it is pinned");
        third.purge().await.unwrap();
        assert!(third.info().await.unwrap().purged && !first.info().await.unwrap().purged);
        assert_eq!(third.pin(true).await.unwrap_err().kind(), ErrorKind::Gone);
        first.pin(false).await.unwrap();
        until("the sweeper took the last", async || first.info().await.unwrap().purged || {
            trainer.sweep().await.unwrap();
            false
        })
        .await;
        assert!(db.metadata().referenced_blobs(None).await.unwrap().is_empty());
        // The last of an id can be pinned as well.
        let last = train(4, Some("0s")).await;
        if last.pin(true).await.is_ok() {
            trainer.sweep().await.unwrap();
            assert_eq!(last.load::<Walk>().await.unwrap().trace.len(), 4);
        }
    }

    async fn j04_nothing_of_an_id_or_place_goes_while_a_job_of_it_is_unfinished(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = keeping(&db, isolation, None).await;
        let folder = place.path("shared");
        let to = |id: &str| TrainSpec::new().id(id).seed(1).save_path(&folder);
        let first = trainer.train(Walk::new("loop", 2), to("first").retention("0s".parse::<Span>().unwrap()).wait()).await.unwrap();
        let gate = place.gate();
        let running = trainer.train(Walk::new("wait", 2), to("second").arg("go", gate.arg())).await.unwrap();
        until_stepping(&running).await;
        trainer.sweep().await.unwrap();
        assert_eq!(first.purge().await.unwrap_err().kind(), ErrorKind::Conflict, "it writes to the same folder");
        assert_eq!(load_model::<Walk>(&folder).await.unwrap().trace.len(), 2);
        // Another submission of an id keeps the older ones for as long as it runs, and itself.
        let again = trainer.train(Walk::new("wait", 0), TrainSpec::new().id("first").arg("go", gate.arg())).await.unwrap();
        until_stepping(&again).await;
        trainer.sweep().await.unwrap();
        assert_eq!(again.info().await.unwrap().status, Status::Running);
        assert_eq!(first.load::<Walk>().await.unwrap().trace.len(), 2);
        gate.open();
        for run in [&running, &again] {
            assert_eq!(run.wait().await.unwrap().status, Status::Completed);
        }
        until("it is swept then", async || first.info().await.unwrap().purged || {
            trainer.sweep().await.unwrap();
            false
        })
        .await;
        assert!(folder.join("model.json").exists(), "it is that of the other job now");
        assert!(!folder.join("blobs").exists() || std::fs::read_dir(folder.join("blobs")).unwrap().next().is_none(), "the weights of the first are gone");
        running.purge().await.unwrap();
        assert!(!folder.join("model.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_not_trained_again_because_of_its_age() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = keeping(&db, Thread, Some("0s")).await;
    let declared = || trainer.training("declared", Walk::new("loop", 2), TrainSpec::new()).unwrap();
    db.apply(declared()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    trainer.sweep().await.unwrap();
    db.apply(declared()).await.unwrap();
    assert_eq!(
        db.get_model_future("declared").await.unwrap().load::<Walk>().await.unwrap().trace.len(),
        2
    );
    assert_eq!(db.jobs(Default::default()).await.unwrap().len(), 1, "it was trained once");
    // A newer declaration supersedes it.
    db.apply(trainer.training("declared", Walk::new("loop", 3), TrainSpec::new()).unwrap())
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    trainer.sweep().await.unwrap();
    assert_eq!(db.versions("superduper.Training/declared").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trainer_opens_though_something_cannot_be_purged() {
    let place = Place::new();
    let db = place.db().await;
    let spec = TrainSpec::new()
        .id("held")
        .save_path(place.path("model"))
        .retention("0s".parse::<Span>().unwrap())
        .wait();
    let held = keeping(&db, Thread, None).await.train(Walk::new("loop", 1), spec).await.unwrap();
    // A folder where the job's file was cannot be read as one.
    std::fs::remove_file(place.path("model").join("model.json")).unwrap();
    std::fs::create_dir(place.path("model").join("model.json")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let trainer = keeping(&db, Thread, None).await;
    assert!(trainer.sweep().await.is_err() && !held.info().await.unwrap().purged);
    let run = trainer.train(Walk::new("loop", 1), TrainSpec::new().wait()).await.unwrap();
    assert_eq!(run.info().await.unwrap().status, Status::Completed);
    std::fs::remove_dir(place.path("model").join("model.json")).unwrap();
    assert_eq!(trainer.sweep().await.unwrap(), ["held"]);
}

/// Holds a training, as a part of something larger.
#[derive(Component)]
#[component(kind = "test.Pipeline")]
struct Pipeline {
    identifier: String,
    training: superduper_train::Training,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_component_holds_is_kept_with_its_files() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = keeping(&db, Thread, None).await;
    let spec =
        TrainSpec::new().save_path(place.path("model")).retention("0s".parse::<Span>().unwrap());
    let training = trainer.training("held", Walk::new("loop", 2), spec).unwrap();
    db.apply(Pipeline { identifier: "pipeline".into(), training }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(trainer.sweep().await.unwrap().is_empty());
    let held = db.get_model_future("held").await.unwrap();
    assert_eq!(held.purge().await.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(load_model::<Walk>(place.path("model")).await.unwrap().trace.len(), 2);
    db.remove::<Pipeline>("pipeline").await.unwrap();
    assert_eq!(trainer.sweep().await.unwrap(), ["held"]);
    assert!(!place.path("model").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_10_a_purge_beside_sweeps_says_what_is_true() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = std::sync::Arc::new(keeping(&db, Thread, None).await);
    for round in 0..10_u64 {
        let id = format!("job{round}");
        // Two submissions of one id: what is purged is a version with others beside it.
        let spec = |name: &str| {
            let path = place.path(&format!("{id} {name}"));
            TrainSpec::new().id(&id).save_path(path).retention("0s".parse::<Span>().unwrap()).wait()
        };
        let first = trainer.train(Walk::new("loop", 1), spec("first")).await.unwrap();
        let second = trainer.train(Walk::new("loop", 2), spec("second")).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let sweeps = [0, 1].map(|place: u64| {
            let trainer = trainer.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_micros(place * round * 900 % 5000))
                    .await;
                trainer.sweep().await
            })
        });
        for run in [&first, &second] {
            match run.purge().await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
                    assert!(error.to_string().contains("was purged"), "{error}");
                }
            }
            assert!(run.info().await.unwrap().purged);
        }
        for sweep in sweeps {
            sweep.await.unwrap().unwrap();
        }
        assert!(
            !place.path(&format!("{id} first")).exists()
                && !place.path(&format!("{id} second")).exists()
        );
        assert!(db.list().await.unwrap().iter().all(|row| row.address.identifier != id));
    }
}
