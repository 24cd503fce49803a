//! J19: batch predictions behave as trainings do; their result is a file.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::{PredictionRun, prelude::*};

async fn predictor(
    place: &Place,
    db: &Db,
    isolation: Isolation,
    retention: Option<&str>,
) -> Trainer {
    let retention = retention.map(|text| text.parse().unwrap());
    let base = JobBase { retention, ..base(isolation) };
    LocalTrainer::new("batch").base(base).result_dir(place.path("results")).open(db).await.unwrap()
}

async fn finished(run: &PredictionRun) -> superduper_train::Info {
    run.wait_timeout(std::time::Duration::from_secs(20)).await.unwrap()
}

both! {
    async fn j19_a_prediction_writes_its_result_and_takes_it_away_again(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = predictor(&place, &db, isolation, None).await;
        let rows = PredictSpec::new().arg("rows", superduper::json!([1, 2, 3])).id("p1");
        let run = trainer.predict(Walk::new("double", 0), rows).await.unwrap();
        assert_eq!(run.result().await.unwrap().to_vec(), b"2\n4\n6");
        let file = place.path("results").join("p1").join("result");
        assert_eq!(run.result_file().await.unwrap(), file);
        assert_eq!(run.info().await.unwrap().path.unwrap(), file.parent().unwrap().into());
        let found = trainer.get_prediction("p1").await.unwrap();
        assert_eq!((found.job(), found.info().await.unwrap().status), (run.job(), Status::Completed));
        run.purge().await.unwrap();
        assert!(!file.exists() && !file.parent().unwrap().exists(), "file and folder are gone");
        assert_eq!(found.result().await.unwrap_err().kind(), ErrorKind::Gone);
        assert!(found.info().await.unwrap().purged);
    }

    async fn j19_predictions_fail_queue_and_cancel_as_trainings_do(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = predictor(&place, &db, isolation, Some("0s")).await;
        let gate = place.gate();
        let waiting = trainer.predict(Walk::new("wait", 0), PredictSpec::new().arg("go", gate.arg()).id("w")).await.unwrap();
        until("it runs", async || waiting.info().await.unwrap().status == Status::Running).await;
        let again = trainer.predict(Walk::new("wait", 0), PredictSpec::new().arg("go", gate.arg()).id("w")).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict);
        waiting.cancel().await.unwrap();
        assert_eq!(finished(&waiting).await.status, Status::Cancelled);
        let failed = trainer.predict(Walk::new("fail", 0), PredictSpec::new()).await.unwrap();
        let info = finished(&failed).await;
        assert_eq!((info.status, text(&info).as_str()), (Status::Errored, "Batch size of 999 is not allowed!"));
        assert_eq!(failed.result().await.unwrap_err().kind(), ErrorKind::JobFailed);
        until("they are purged", async || failed.info().await.unwrap().purged && waiting.info().await.unwrap().purged).await;
        assert_eq!(failed.result().await.unwrap_err().kind(), ErrorKind::JobFailed, "the error is part of the record");
    }
}

both! {
    async fn j19_a_prediction_goes_on_after_trouble_and_is_found_kept_and_made_again(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let restart = Restart { retries: 1, backoff: Span::default(), resume: false };
        let base = JobBase { restart, retention: Some("0s".parse().unwrap()), ..base(isolation) };
        let trainer = LocalTrainer::new("batch").base(base).result_dir(place.path("results")).open(&db).await.unwrap();
        // A worker that is killed is one of its own; in a thread it would be this process.
        let trouble = if isolation == Process { "kill" } else { "fail" };
        let spec = || PredictSpec::new().positional(superduper::json!([1, 2, 3, 4])).arg("trouble", trouble).id("rows");
        let run = trainer.predict(Walk::new("rows", 0), spec()).await.unwrap();
        run.pin(true).await.unwrap();
        assert_eq!(run.result().await.unwrap().to_vec(), b"2: [2, 4, 6, 8]", "it went on after the rows that were done");
        assert_eq!(run.info().await.unwrap().attempt, 2);
        // It is found in any process, and kept while it is pinned.
        let elsewhere = place.db().await;
        let found = elsewhere.get_prediction("rows").await.unwrap();
        assert_eq!((found.job(), elsewhere.predictions().await.unwrap().len()), (run.job(), 1));
        assert_eq!(elsewhere.get_prediction("none").await.unwrap_err().kind(), ErrorKind::NotFound);
        trainer.sweep().await.unwrap();
        assert!(found.result_file().await.unwrap().exists() && found.is_pinned().await.unwrap());
        // The same id again: the file is that of the newer job, and stays when the older one goes.
        let again = trainer.predict(Walk::new("double", 0), PredictSpec::new().arg("rows", superduper::json!([5])).id("rows").wait()).await.unwrap();
        assert_ne!(again.job(), run.job());
        again.pin(true).await.unwrap();
        found.pin(false).await.unwrap();
        until("the older one is swept", async || found.info().await.unwrap().purged || {
            trainer.sweep().await.unwrap();
            false
        })
        .await;
        assert_eq!(again.result().await.unwrap().to_vec(), b"10");
        // One that was cancelled goes on by hand.
        let gate = place.gate();
        let cancelled = trainer.predict(Walk::new("wait", 0), PredictSpec::new().arg("go", gate.arg()).id("cancelled")).await.unwrap();
        cancelled.pin(true).await.unwrap();
        cancelled.cancel().await.unwrap();
        assert_eq!(finished(&cancelled).await.status, Status::Cancelled);
        gate.open();
        assert_eq!(cancelled.resume().await.unwrap().result().await.unwrap().to_vec(), b"waited");
    }
}

#[tokio::test]
async fn j19_predictions_need_a_folder_and_an_id_that_can_be_a_name() {
    let place = Place::new();
    let db = place.db().await;
    let error = trainer(&db, Thread)
        .await
        .predict(Walk::new("double", 0), PredictSpec::new())
        .await
        .unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("result_dir")), "{error}");
    let trainer = predictor(&place, &db, Thread, None).await;
    let error =
        trainer.predict(Walk::new("double", 0), PredictSpec::new().id("..")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
}
