//! Checkpoints, metrics and progress.

use crate::{
    modules::{Gauge, Odd},
    support::*,
};
use std::time::Duration;
use superduper::{prelude::*, store::JobState};
use superduper_train::prelude::*;

async fn uninterrupted(trainer: &Trainer, steps: u64) -> Vec<u64> {
    let run = trainer.train(Walk::new("loop", steps), TrainSpec::new().seed(7)).await.unwrap();
    run.load::<Walk>().await.unwrap().trace
}

both! {
    async fn j16_metrics_and_progress_are_readable_while_it_runs(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let spec = TrainSpec::new().arg("pause_ms", 5_u64).id("j16");
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 400), spec).await.unwrap();
        let elsewhere = place.db().await;
        let reader = elsewhere.get_model_future("j16").await.unwrap();
        until("metrics can be read", async || reader.metrics().await.unwrap().len() > 3).await;
        until_stepping(&reader).await;
        assert_eq!(reader.info().await.unwrap().status, Status::Running);
        let metrics = reader.metrics().await.unwrap();
        assert!(metrics.iter().enumerate().all(|(step, row)| row.name == "position" && row.step == step as u64), "{metrics:?}");
        until("checkpoints are kept", async || reader.checkpoints().await.unwrap().len() == 2).await;
        run.stop().await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Completed, "a stopped training is completed: {info:?}");
        let model: Walk = run.load().await.unwrap();
        assert!(model.trace.len() < 400);
        assert_eq!(run.metrics().await.unwrap().len(), model.trace.len(), "no metric is lost at the end");
        assert_eq!(info.progress, Some((model.trace.len() as u64, 400)), "steps that were not made are not claimed");
        let mut events = run.events();
        let mut kinds = Vec::new();
        while let Some(event) = events.next().await.unwrap() {
            if let superduper::Event::Recorded(row) = event {
                kinds.push(row.kind);
            }
        }
        // Progress is told or not, as long as the training takes.
        kinds.retain(|kind| kind != "job.progressed");
        assert_eq!(
            kinds,
            ["component.applied", "run.started", "job.added", "job.started", "job.signalled", "job.succeeded", "run.ended"]
        );
    }

    async fn j16_a_retry_goes_on_from_the_last_checkpoint_to_the_same_bits(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let restart = Restart { retries: 1, backoff: Span::default(), resume: false };
        let trainer = LocalTrainer::new("default").base(JobBase { restart, ..base(isolation) }).open(&db).await.unwrap();
        let expected = uninterrupted(&trainer, 24).await;
        let run = trainer.train(Walk::new("fail once", 24), TrainSpec::new().seed(7)).await.unwrap();
        let model: Walk = run.load().await.unwrap();
        assert_eq!(model.trace, expected);
        assert_eq!(run.info().await.unwrap().attempt, 2);
        let logs: Vec<String> = run.logs().await.unwrap().into_iter().map(|line| line.message).collect();
        assert_eq!(logs, ["goes on after step 12"]);
        let attempts = db.attempts(run.job()).await.unwrap();
        assert_eq!(attempts.iter().map(|attempt| attempt.failure.is_some()).collect::<Vec<_>>(), [true, false]);
    }

    async fn j16_a_pause_loses_nothing(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let expected = uninterrupted(&trainer, 60).await;
        let spec = TrainSpec::new().seed(7).arg("pause_ms", 10_u64);
        let run = trainer.train(Walk::new("loop", 60), spec).await.unwrap();
        until("it made some steps", async || run.metrics().await.unwrap().len() > 2).await;
        run.pause().await.unwrap();
        until("it is paused", async || run.info().await.unwrap().paused).await;
        assert_eq!(db.job(run.job()).await.unwrap().state, JobState::Blocked);
        let done = run.metrics().await.unwrap().len() as u64;
        let kept = run.checkpoints().await.unwrap();
        assert_eq!(kept.last().unwrap().1, done, "the last step before the pause was kept");
        assert!((1..60).contains(&done));
        let run = run.resume().await.unwrap();
        let model: Walk = run.load().await.unwrap();
        assert_eq!(model.trace, expected);
        let info = run.info().await.unwrap();
        assert_eq!((info.status, info.attempt), (Status::Completed, 2));
    }

    async fn e04_a_training_whose_process_closes_goes_on_elsewhere_to_the_same_bits(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let expected = uninterrupted(&trainer, 60).await;
        let run = trainer.train(Walk::new("loop", 60), TrainSpec::new().seed(7).arg("pause_ms", 10_u64).id("closes")).await.unwrap();
        until("it made some steps", async || run.metrics().await.unwrap().len() > 2).await;
        let left = tokio::time::timeout(Duration::from_secs(30), db.close(Duration::from_secs(20))).await.unwrap().unwrap();
        assert!(left.is_empty(), "{left:?}");
        let row = db.job(run.job()).await.unwrap();
        assert_eq!((row.state, row.owner, row.lost, row.tries), (JobState::Queued, None, 0, 0));
        let done = run.metrics().await.unwrap().len() as u64;
        assert_eq!(run.checkpoints().await.unwrap().last().unwrap().1, done, "the last step before the close was kept");
        assert!((1..60).contains(&done));
        let next = place.db().await;
        next.resume().await.unwrap();
        let trainer = self::trainer(&next, isolation).await;
        let run = trainer.get("closes").await.unwrap();
        assert_eq!(run.load::<Walk>().await.unwrap().trace, expected);
        let info = run.info().await.unwrap();
        assert_eq!((info.status, info.attempt), (Status::Completed, 2));
    }

    async fn j16_a_failed_training_can_be_resumed_by_hand(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let expected = uninterrupted(&trainer, 16).await;
        let run = trainer.train(Walk::new("loop", 16), TrainSpec::new().seed(7).arg("pause_ms", 20_u64).id("again")).await.unwrap();
        until("it made some steps", async || !run.checkpoints().await.unwrap().is_empty()).await;
        run.cancel().await.unwrap();
        assert_eq!(run.wait().await.unwrap().status, Status::Cancelled);
        assert_eq!(run.load::<Walk>().await.err().unwrap().kind(), ErrorKind::Cancelled);
        let resumed = run.resume().await.unwrap();
        assert_ne!(resumed.job(), run.job());
        assert_eq!(resumed.load::<Walk>().await.unwrap().trace, expected);
        let logs = resumed.logs().await.unwrap();
        assert!(logs[0].message.starts_with("goes on after step "), "{logs:?}");
        assert_eq!(run.info().await.unwrap().status, Status::Cancelled, "the cancelled job stays as it was");
    }
}

fn scored(scores: serde_json::Value) -> TrainSpec {
    let best = Some(("score".to_owned(), Direction::Higher));
    TrainSpec::new().arg("scores", scores).checkpoints(Checkpoints {
        keep_last: 1,
        best,
        ..Checkpoints::default()
    })
}

both! {
    async fn j16_the_best_checkpoint_is_one_that_was_measured(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        for (scores, best) in [
            (serde_json::json!([0.5, "nan", "nan", 0.4]), vec![0]),
            // What was measured before is not the score of what came after.
            (serde_json::json!([0.1, 0.5, null, null, 0.4]), vec![1]),
            (serde_json::json!(["nan", null]), vec![]),
        ] {
            let run = trainer.train(Walk::new("scores", 0), scored(scores.clone())).await.unwrap();
            assert_eq!(run.load::<Walk>().await.unwrap().trace, best, "{scores}");
        }
    }

    async fn j16_what_was_resumed_by_hand_knows_what_came_before(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let spec = scored(serde_json::json!([0.2, 0.9, 0.1, "fail", 0.3])).arg("go", gate.arg()).id("chain");
        let failed = trainer.train(Walk::new("scores", 0), spec).await.unwrap();
        assert_eq!(failed.wait().await.unwrap().status, Status::Errored);
        assert_eq!(failed.checkpoints().await.unwrap().iter().map(|(_, step)| *step).collect::<Vec<_>>(), [2, 3]);
        gate.open();
        let resumed = failed.resume().await.unwrap();
        assert_eq!(resumed.load::<Walk>().await.unwrap().trace, [1], "the best was made before it failed");
        let steps: Vec<u64> = resumed.metrics().await.unwrap().into_iter().map(|row| row.step).collect();
        assert_eq!(steps, [0, 1, 2, 4]);
        assert_eq!(resumed.checkpoints().await.unwrap().iter().map(|(_, step)| *step).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(failed.metrics().await.unwrap().len(), 3);
        // The old handle cannot start it a second time.
        let error = failed.resume().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

both! {
    async fn checkpoints_are_kept_as_the_strategy_says(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let kept = async |checkpoints: Checkpoints| {
            let run = trainer.train(Walk::new("loop", 20), TrainSpec::new().seed(3).checkpoints(checkpoints)).await.unwrap();
            assert_eq!(run.wait().await.unwrap().status, Status::Completed);
            let metrics = run.metrics().await.unwrap();
            let best = metrics.iter().max_by(|a, b| a.value.total_cmp(&b.value)).unwrap().step + 1;
            (run.checkpoints().await.unwrap().into_iter().map(|(_, step)| step).collect::<Vec<u64>>(), best)
        };
        assert_eq!(kept(Checkpoints::default()).await.0, [19, 20]);
        assert_eq!(kept(Checkpoints { every_steps: 6, keep_last: 10, ..Checkpoints::default() }).await.0, [6, 12, 18]);
        let best = Checkpoints { keep_last: 1, best: Some(("position".into(), Direction::Higher)), ..Checkpoints::default() };
        let (steps, best) = kept(best).await;
        let mut expected = vec![best, 20];
        expected.dedup();
        assert_eq!(steps, expected, "the last and the best");
        let seldom = Checkpoints { every: Some("1h".parse().unwrap()), keep_last: 10, ..Checkpoints::default() };
        assert_eq!(kept(seldom).await.0, [1], "the first, and then only after an hour");
        // What is dropped can be collected: each kept checkpoint has one blob.
        let referenced = db.metadata().referenced_blobs(None).await.unwrap().len();
        let stored = db.artifact_store().list(None, None).await.unwrap().len();
        assert!(referenced < stored, "{referenced} of {stored}");
    }
}

async fn retrying(db: &Db, isolation: Isolation) -> Trainer {
    let restart = Restart { retries: 1, backoff: Span::default(), resume: false };
    LocalTrainer::new("default")
        .base(JobBase { restart, ..base(isolation) })
        .open(db)
        .await
        .unwrap()
}

both! {
    async fn b05_infinity_and_nan_in_a_state_are_kept_bit_for_bit(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        // What runs on a thread cannot be killed alone.
        let spec = TrainSpec::new().arg("kill", isolation == Process);
        let run = retrying(&db, isolation).await.train(Gauge::new(), spec).await.unwrap();
        let gauge: Gauge = run.load().await.unwrap();
        assert_eq!(gauge.bits, Odd::new(1).bits());
        let kept = db.checkpoints(run.job()).await.unwrap().remove(0);
        let whole: serde_json::Value = kept.data;
        assert_eq!(whole["state"]["best"], serde_json::json!({"$f64": "7ff0000000000000"}));
    }

    async fn b05_a_model_with_nan_is_refused_with_a_hint_and_its_state_is_kept(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let refused = retrying(&db, isolation).await;
        // Where it is known before the work, it is told before the work.
        let error = refused.train(Gauge { lowest: f64::NAN, ..Gauge::new() }, TrainSpec::new()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Encode);
        let run = refused.train(Gauge::new(), TrainSpec::new().arg("nan", true)).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Errored, "{info:?}");
        for part in ["the trained model cannot be stored", "`model.$body.lowest`: the number is NaN", "use `Option`", "the last checkpoint is kept"] {
            assert!(text(&info).contains(part), "{part:?} is not in {}", text(&info));
        }
        assert_eq!(run.checkpoints().await.unwrap().len(), 1);
    }

    async fn b02_states_and_models_have_the_same_limit_of_depth(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = retrying(&db, isolation).await;
        // Position and random state are around the state, kind and files around the model.
        let spec = |state: u64, model: u64| TrainSpec::new().arg("state", state).arg("model", model).save_path(place.path("models"));
        let run = trainer.train(Gauge::new(), spec(125, 124)).await.unwrap();
        let gauge: Gauge = run.load().await.unwrap();
        assert_eq!(gauge.any, crate::modules::nested(124));
        let info = run.info().await.unwrap();
        let file: Gauge = superduper_train::load_model_from(info.path.unwrap()).await.unwrap();
        assert_eq!(file.any, gauge.any);
        for (state, model, place) in [(126, 1, "`state.deep[0]"), (10_000, 1, "`state.deep[0]"), (1, 125, "`model.$body.any[0]"), (1, 500, "`model.$body.any[0]")] {
            let run = trainer.train(Gauge::new(), spec(state, model)).await.unwrap();
            let info = run.wait().await.unwrap();
            assert!(text(&info).contains("deeper than the 127 levels") && text(&info).contains(place), "{state} {model}: {}", text(&info));
        }
    }
}
