//! Submitting, following and finding jobs; how they end.

use crate::{modules::Unknown, support::*};
use superduper::{FailureKind, prelude::*};
use superduper_train::{Arg, CancelOutcome, prelude::*};

both! {
    async fn j01_a_blocked_job_runs_and_completes_when_it_is_released(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let run = trainer.train(Walk::new("wait", 0), gate.spec().id("j01")).await.unwrap();
        assert_eq!(run.id(), "j01");
        let info = until_status(&run, Status::Running).await;
        assert!(!info.status.is_terminal() && info.completed_at.is_none() && info.error.is_none());
        assert_eq!(run.wait_timeout(std::time::Duration::from_millis(50)).await.unwrap_err().kind(), ErrorKind::Timeout);
        // Another handle of the same folder stands for another process.
        let elsewhere = place.db().await;
        let found = elsewhere.get_model_future("j01").await.unwrap();
        assert_eq!((found.job(), found.info().await.unwrap().status), (run.job(), Status::Running));
        gate.open();
        let info = run.wait().await.unwrap();
        assert_eq!((info.status, info.attempt), (Status::Completed, 1));
        assert!(info.submitted_at <= info.started_at.unwrap() && info.started_at <= info.completed_at);
        assert_eq!(found.wait().await.unwrap(), info);
        assert_eq!(trainer.get("j01").await.unwrap().info().await.unwrap(), info);
        assert_eq!(db.trainings().await.unwrap().len(), 1);
    }

    async fn j02_the_model_loads_through_the_handle_and_from_the_record(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 3), TrainSpec::new().wait()).await.unwrap();
        assert_eq!(run.info().await.unwrap().status, Status::Completed);
        let model: Walk = run.load().await.unwrap();
        assert_eq!((model.trace.len(), weights(&model).await.len()), (3, 512));
        assert!(run.result::<Unknown>().await.is_err_and(|error| error.kind() == ErrorKind::Decode));
        drop(db);
        let other = place.db().await;
        let row = other.job(run.job()).await.unwrap();
        let by_hand: serde_json::Value = row.result.unwrap();
        assert_eq!(by_hand["model"]["$kind"], "test.Walk");
        let again: Walk = other.get_model_future(run.id()).await.unwrap().load().await.unwrap();
        assert_eq!((again.trace.clone(), weights(&again).await), (model.trace.clone(), weights(&model).await));
        assert!(run.info().await.unwrap().path.is_none());
    }

    async fn j06_a_failure_is_data_and_the_same_in_both_isolations(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("fail", 0), TrainSpec::new().id("j06")).await.unwrap();
        let info = run.wait().await.unwrap();
        assert_eq!(info.status, Status::Errored);
        let error = info.error.clone().unwrap();
        assert_eq!((error.kind, &*error.message), (FailureKind::Error, "Batch size of 999 is not allowed!"));
        assert_eq!(error.causes, ["the sampler has 12 rows"]);
        let raised = run.result::<Walk>().await.err().unwrap();
        assert_eq!(raised.kind(), ErrorKind::JobFailed);
        assert!(raised.to_string().contains("ERRORED: Batch size of 999 is not allowed!"), "{raised}");
        assert!(format!("{raised:?}").contains("the sampler has 12 rows"), "{raised:?}");
        let panicked = trainer(&db, isolation).await.train(Walk::new("panic", 0), TrainSpec::new().wait()).await.unwrap();
        let error = panicked.info().await.unwrap().error.unwrap();
        assert_eq!((error.kind, &*error.message), (FailureKind::Panic, "panicked: training boom"));
    }

    async fn j07_a_running_id_is_refused_and_a_finished_one_gets_another_attempt(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let again = || trainer.train(Walk::new("wait", 0), gate.spec().id("j07"));
        let first = again().await.unwrap();
        let error = again().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("training `j07`") && error.to_string().contains("unfinished"), "{error}");
        gate.open();
        assert_eq!(first.wait().await.unwrap().status, Status::Completed);
        let second = again().await.unwrap();
        assert_ne!(second.job(), first.job());
        assert_eq!(second.wait().await.unwrap().status, Status::Completed);
        assert_eq!(first.info().await.unwrap().status, Status::Completed, "the history is kept");
        first.load::<Walk>().await.unwrap();
        assert_eq!(trainer.get("j07").await.unwrap().job(), second.job());
    }

    async fn j09_an_error_text_of_a_mebibyte_arrives_whole(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("long", 0), TrainSpec::new()).await.unwrap();
        assert_eq!(run.wait().await.unwrap().error.unwrap().message.len(), 1 << 20);
    }

    async fn j11_at_most_so_many_run_and_the_others_are_queued_in_order(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let count = if isolation == Thread { 100 } else { 12 };
        let mut runs = Vec::new();
        for _ in 0..count {
            runs.push(trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap());
        }
        until_status(&runs[1], Status::Running).await;
        let mut running = 0;
        for (place, run) in runs.iter().enumerate() {
            let status = run.info().await.unwrap().status;
            assert_eq!(status, if place < 2 { Status::Running } else { Status::Queued }, "{place}");
            running += usize::from(status == Status::Running);
        }
        assert_eq!(running, 2);
        gate.open();
        let mut started = Vec::new();
        for run in &runs {
            let info = run.wait().await.unwrap();
            assert_eq!(info.status, Status::Completed, "{info:?}");
            started.push((info.started_at.unwrap(), info.completed_at.unwrap(), info.job));
        }
        // Places are given in order; between that and the start on record there is a commit, which
        // may be overtaken.
        assert!(started.windows(8).all(|jobs| jobs[0].0 <= jobs[7].0), "jobs start in the order of their submission: {started:?}");
        let events = db.metadata().events(superduper::store::Cursor::default(), None, 10_000).await.unwrap();
        let (mut now, mut most) = (0_i32, 0);
        for event in events {
            match event.kind.as_str() {
                "job.started" => now += 1,
                "job.succeeded" => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        assert_eq!((now, most), (0, 2), "never more than two at once");
    }

    async fn j13_terminal_is_final(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let cases = [
            ("loop", Status::Completed, CancelOutcome::Completed),
            ("fail", Status::Errored, CancelOutcome::Ended),
        ];
        for (what, status, outcome) in cases {
            let run = trainer.train(Walk::new(what, 1), TrainSpec::new().wait()).await.unwrap();
            let before = run.info().await.unwrap();
            assert_eq!(run.cancel().await.unwrap(), outcome);
            run.stop().await.unwrap();
            assert!(run.pause().await.is_err());
            db.cancel(run.job()).await.unwrap();
            assert!(!run.info().await.unwrap().completed_despite_cancel());
            assert_eq!((run.wait().await.unwrap(), before.status), (before, status));
        }
    }

    async fn j14_the_completion_time_is_set_without_anybody_waiting(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 1), TrainSpec::new().id("j14")).await.unwrap();
        drop(run);
        let job = || async { db.jobs(Default::default()).await.unwrap().pop().unwrap() };
        until("it is completed", async || job().await.ended_at.is_some()).await;
    }

    async fn j15_unknown_ids_are_errors_of_their_own(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        for found in [trainer.get("nope").await, trainer.get_model_future("nope").await, db.get_model_future("nope").await] {
            let error = found.unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, "unknown training id `nope`".to_owned()));
        }
        assert_eq!(trainer.get("a/b").await.unwrap_err().kind(), ErrorKind::NotFound);
        let error = trainer.get_prediction("nope").await.unwrap_err();
        assert_eq!(error.to_string(), "unknown prediction id `nope`");
        let other = LocalTrainer::new("other").base(base(isolation)).open(&db).await.unwrap();
        let run = other.train(Walk::new("loop", 1), TrainSpec::new().wait()).await.unwrap();
        let error = trainer.get(run.id()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.hint().is_some_and(|hint| hint.contains("`other`")), "{error}");
        assert_eq!(db.get_model_future(run.id()).await.unwrap().job(), run.job(), "the database finds jobs of all trainers");
        assert_eq!(db.trainer("other").await.unwrap().config(), other.config());
        assert!(db.trainer("none").await.unwrap_err().to_string().contains("unknown trainer `none`"));
    }

    async fn j15_unknown_purged_and_failed_are_three_kinds(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let failed = trainer.train(Walk::new("fail", 0), TrainSpec::new().id("failed")).await.unwrap();
        let purged = trainer.train(Walk::new("loop", 1), TrainSpec::new().id("purged").wait()).await.unwrap();
        purged.purge().await.unwrap();
        let gate = place.gate();
        let cancelled = trainer.train(Walk::new("wait", 0), gate.spec().id("cancelled")).await.unwrap();
        cancelled.cancel().await.unwrap();
        failed.wait().await.unwrap();
        let error = async |id: &str| match db.get_model_future(id).await {
            Ok(run) => run.load::<Walk>().await.unwrap_err(),
            Err(error) => error,
        };
        for (id, name, exit, status) in
            [("unknown", "not_found", 11, 404), ("purged", "gone", 12, 410), ("failed", "job_failed", 20, 424), ("cancelled", "cancelled", 21, 409)]
        {
            let error = error(id).await;
            let kind = error.kind();
            assert_eq!((kind.name(), kind.exit_code(), kind.http_status()), (name, exit, status), "{error}");
            assert!(error.to_string().contains(&format!("`{id}`")), "{error}");
        }
    }

    async fn j18_a_trained_model_is_an_argument_by_digest(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let first = trainer.train(Walk::new("loop", 2), TrainSpec::new().wait()).await.unwrap();
        let model: Walk = first.load().await.unwrap();
        model.client.set("of the caller".to_owned());
        let bytes = weights(&model).await;
        let blobs = || async { db.artifact_store().list(None, None).await.unwrap().len() };
        let before = blobs().await;
        let nested = Arg::List(vec![Arg::from(1), Arg::Map([("inner".to_owned(), Arg::model(model.clone()))].into())]);
        let spec = TrainSpec::new().arg("base", Arg::model(model.clone())).arg("list", nested).positional(Arg::model(model)).arg("rate", 0.1);
        let run = trainer.train(Walk::new("base", 0), spec).await.unwrap();
        let made: Walk = run.load().await.unwrap();
        let mut expected: Vec<u64> = bytes.iter().map(|byte| u64::from(*byte)).collect();
        expected.push(0.1_f64.to_bits());
        assert_eq!(made.trace, expected);
        assert_eq!(weights(&made).await, bytes);
        assert_eq!(blobs().await, before, "the model was not written again");
        let error = trainer.train(Walk::new("base", 0), TrainSpec::new().arg("rate", 1)).await.unwrap().wait().await.unwrap();
        assert!(text(&error).contains("there is no argument `base`; named are rate"), "{}", text(&error));
    }
}

both! {
    async fn j07_two_callers_race_and_one_wins(isolation: Isolation) {
        let place = Place::new();
        let (one, two) = (place.db().await, place.db().await);
        let (first, second) = (trainer(&one, isolation).await, trainer(&two, isolation).await);
        for round in 0..20 {
            let gate = place.gate();
            let spec = || gate.spec().id(format!("race-{round}"));
            let (a, b) = tokio::join!(
                tokio::spawn({
                    let (first, spec) = (first.clone(), spec());
                    async move { first.train(Walk::new("wait", 0), spec).await }
                }),
                tokio::spawn({
                    let (second, spec) = (second.clone(), spec());
                    async move { second.train(Walk::new("wait", 0), spec).await }
                }),
            );
            gate.open();
            let (won, lost): (Vec<_>, Vec<_>) = [a.unwrap(), b.unwrap()].into_iter().partition(Result::is_ok);
            assert_eq!((won.len(), lost.len()), (1, 1), "round {round}");
            assert_eq!(lost[0].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
            let won = won[0].as_ref().unwrap();
            assert_eq!(won.wait().await.unwrap().status, Status::Completed);
            let jobs = one.jobs(Default::default()).await.unwrap();
            assert_eq!(jobs.iter().filter(|job| job.target.identifier == won.id()).count(), 1, "the loser left no job");
        }
    }
}

both! {
    async fn j07_one_of_two_callers_wins_however_short_the_job_is(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let mut all = 0;
        for round in 0..30 {
            let submit = || trainer.train(Walk::new("loop", 0), TrainSpec::new().id(format!("race-{round}")));
            let (one, other) = tokio::join!(submit(), submit());
            let (won, lost): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
            assert!(!won.is_empty(), "round {round}");
            let mut ends = Vec::new();
            for won in &won {
                assert_eq!(won.as_ref().unwrap().wait().await.unwrap().status, Status::Completed);
                let job = db.job(won.as_ref().unwrap().job()).await.unwrap();
                ends.push((job.created_at, job.ended_at.unwrap()));
            }
            ends.sort_unstable();
            // Nothing makes the second call begin before the job of the first has ended; then both
            // win, one after the other.
            assert!(ends.windows(2).all(|jobs| jobs[0].1 <= jobs[1].0), "round {round}: {ends:?}");
            all += ends.len();
            for lost in lost {
                let error = lost.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(error.to_string().contains("unfinished"), "{error}");
            }
        }
        assert!(all < 60, "no two calls met");
        assert_eq!(db.jobs(Default::default()).await.unwrap().len(), all, "the losers left no jobs");
    }
}

#[tokio::test]
async fn a_module_that_nobody_was_told_of_is_refused_at_once() {
    let place = Place::new();
    let db = place.db().await;
    let error = trainer(&db, Thread)
        .await
        .train(Unknown { identifier: "x".into() }, TrainSpec::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKind);
    assert!(error.hint().is_some_and(|hint| hint.contains("trains!(Unknown)")), "{error}");
    assert!(db.jobs(Default::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_training_can_be_declared() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let declared =
        |steps| trainer.training("declared", Walk::new("loop", steps), TrainSpec::new()).unwrap();
    db.apply(declared(2)).await.unwrap();
    let first = db.get_model_future("declared").await.unwrap();
    assert_eq!(first.load::<Walk>().await.unwrap().trace.len(), 2);
    db.apply(declared(2)).await.unwrap();
    assert_eq!(
        db.get_model_future("declared").await.unwrap().job(),
        first.job(),
        "nothing changed, nothing ran"
    );
    let applied = db.apply(declared(3)).await.unwrap();
    assert_eq!(applied.version(), 1);
    let second = db.get_model_future("declared").await.unwrap();
    assert_eq!(second.load::<Walk>().await.unwrap().trace.len(), 3);
}

#[tokio::test]
async fn limits_that_a_thread_cannot_keep_are_refused() {
    let place = Place::new();
    let db = place.db().await;
    let base = JobBase {
        limits: Limits { memory: Some(1 << 30), ..Limits::default() },
        ..JobBase::default()
    };
    let error = LocalTrainer::new("t").base(base).open(&db).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let memory = Db::builder()
        .metadata(std::sync::Arc::new(superduper_memory::MemoryStore::new()))
        .artifacts(std::sync::Arc::new(superduper_object::ObjectStore::memory()))
        .program(program());
    let db = memory.build().await.unwrap();
    let run =
        trainer(&db, Thread).await.train(Walk::new("loop", 2), TrainSpec::new()).await.unwrap();
    assert_eq!(run.load::<Walk>().await.unwrap().trace.len(), 2, "threads work in memory too");
    let error = trainer(&db, Process)
        .await
        .train(Walk::new("loop", 2), TrainSpec::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j11_the_limit_is_that_of_the_trainer_as_it_was_opened_last() {
    let place = Place::new();
    let db = place.db().await;
    let open = |most: usize| {
        LocalTrainer::new("default")
            .base(JobBase { max_concurrent: most, ..base(Thread) })
            .open(&db)
    };
    let gate = place.gate();
    let wide = open(3).await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(wide.train(Walk::new("wait", 0), gate.spec()).await.unwrap());
    }
    until_status(&runs[2], Status::Running).await;
    let narrow = open(1).await.unwrap();
    runs.push(narrow.train(Walk::new("wait", 0), gate.spec()).await.unwrap());
    gate.open();
    let mut most_later = 0;
    for run in &runs {
        assert_eq!(run.wait().await.unwrap().status, Status::Completed);
    }
    // Of those that started after the third: one at a time, though their rows name another limit.
    let first: Vec<_> = runs[..3].iter().map(|run| run.job()).collect();
    let mut now = 0_i32;
    for event in
        db.metadata().events(superduper::store::Cursor::default(), None, 10_000).await.unwrap()
    {
        match event.kind.as_str() {
            "job.started" if event.job.is_some_and(|job| !first.contains(&job)) => now += 1,
            "job.succeeded" if event.job.is_some_and(|job| !first.contains(&job)) => now -= 1,
            _ => {}
        }
        most_later = most_later.max(now);
    }
    assert_eq!(most_later, 1);
}
