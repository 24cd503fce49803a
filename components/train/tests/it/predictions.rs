//! J19: batch predictions behave as trainings do; their result is a file.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::{PredictionRun, prelude::*};

async fn predictor(place: &Place, db: &Db, isolation: Isolation, retention: Option<&str>) -> Trainer {
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
        assert_eq!(finished(&waiting).await.status, Status::Canceled);
        let failed = trainer.predict(Walk::new("fail", 0), PredictSpec::new()).await.unwrap();
        let info = finished(&failed).await;
        assert_eq!((info.status, text(&info).as_str()), (Status::Errored, "Batch size of 999 is not allowed!"));
        assert_eq!(failed.result().await.unwrap_err().kind(), ErrorKind::JobFailed);
        until("they are purged", async || failed.info().await.unwrap().purged && waiting.info().await.unwrap().purged).await;
        assert_eq!(failed.result().await.unwrap_err().kind(), ErrorKind::JobFailed, "the error is part of the record");
    }
}

#[tokio::test]
async fn j19_predictions_need_a_folder_and_an_id_that_can_be_a_name() {
    let place = Place::new();
    let db = place.db().await;
    let error = trainer(&db, Thread).await.predict(Walk::new("double", 0), PredictSpec::new()).await.unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("result_dir")), "{error}");
    let trainer = predictor(&place, &db, Thread, None).await;
    let error = trainer.predict(Walk::new("double", 0), PredictSpec::new().id("..")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
}
