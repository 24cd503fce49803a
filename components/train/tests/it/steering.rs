//! Cancelling, stopping and pausing.

use crate::support::*;
use std::time::{Duration, Instant};
use superduper::ErrorKind;
use superduper_train::{CancelOutcome, prelude::*};

both! {
    async fn j05_a_cooperative_job_is_canceled_soon(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = LocalTrainer::new("patient").base(JobBase { grace: "20s".parse().unwrap(), ..base(isolation) }).open(&db).await.unwrap();
        let run = trainer.train(Walk::new("wait", 0), place.gate().spec()).await.unwrap();
        until_stepping(&run).await;
        let before = Instant::now();
        let cancelling = run.cancel().await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(1), "the call does not block");
        match isolation {
            Thread => assert_eq!(cancelling, CancelOutcome::CannotBeForced),
            Process => assert_eq!(cancelling, CancelOutcome::ForcedAfter(Duration::from_secs(20))),
        }
        let info = run.wait_timeout(Duration::from_secs(10)).await.unwrap();
        assert_eq!((info.status, info.cancelling), (Status::Cancelled, false));
        assert!(before.elapsed() < Duration::from_secs(5), "it ended by itself, long before the grace");
    }

    async fn j05_queued_and_paused_jobs_are_canceled_before_they_start(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.push(trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap());
        }
        until_status(&runs[1], Status::Running).await;
        runs[2].cancel().await.unwrap();
        let info = runs[2].wait_timeout(Duration::from_secs(30)).await.unwrap();
        assert_eq!((info.status, info.attempt, info.started_at), (Status::Cancelled, 0, None));
        runs[3].pause().await.unwrap();
        let info = runs[3].info().await.unwrap();
        assert_eq!((info.status, info.paused), (Status::Queued, true));
        gate.open();
        assert_eq!(runs[4].wait().await.unwrap().status, Status::Completed, "a paused job stands in nobody's way");
        assert!(runs[3].info().await.unwrap().paused);
        runs[3].resume().await.unwrap();
        assert_eq!(runs[3].wait().await.unwrap().status, Status::Completed);
    }

    async fn e33_a_job_that_waits_is_canceled_before_it_starts(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = LocalTrainer::new("one").base(JobBase { max_concurrent: 1, ..base(isolation) }).open(&db).await.unwrap();
        let gate = place.gate();
        let running = trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap();
        until_stepping(&running).await;
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap());
        }
        waiting[1].pause().await.unwrap();
        for run in &waiting {
            assert_eq!(run.cancel().await.unwrap(), CancelOutcome::BeforeStart);
            assert_eq!(run.cancel().await.unwrap(), CancelOutcome::Ended);
            let info = run.info().await.unwrap();
            assert_eq!((info.status, info.attempt, info.started_at), (Status::Cancelled, 0, None));
        }
        gate.open();
        assert_eq!(running.wait().await.unwrap().status, Status::Completed);
    }

    async fn j05_a_paused_job_that_is_stopped_keeps_what_it_has(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 4000), TrainSpec::new().arg("pause_ms", 5_u64)).await.unwrap();
        until_stepping(&run).await;
        run.pause().await.unwrap();
        until("it is paused", async || run.info().await.unwrap().paused).await;
        let kept = run.checkpoints().await.unwrap().last().unwrap().1;
        run.stop().await.unwrap();
        let info = run.wait_timeout(Duration::from_secs(10)).await.unwrap();
        assert_eq!((info.status, info.attempt), (Status::Completed, 2), "{}", text(&info));
        let steps = run.load::<Walk>().await.unwrap().trace.len() as u64;
        assert!((kept..4000).contains(&steps), "{kept} steps were kept, {steps} are in the model");
    }

    async fn j05_a_pause_is_taken_back_by_a_resume(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let run = trainer(&db, isolation).await.train(Walk::new("loop", 60), TrainSpec::new().arg("pause_ms", 20_u64)).await.unwrap();
        until_stepping(&run).await;
        run.pause().await.unwrap();
        run.resume().await.unwrap();
        let info = run.wait_timeout(Duration::from_secs(100)).await.unwrap();
        assert_eq!(info.status, Status::Completed, "{}", text(&info));
    }

    async fn j05_a_pause_and_a_resume_right_after_it_leave_the_job_running(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        for round in 0..if isolation == Thread { 40 } else { 8_u64 } {
            // It writes no checkpoints: it gives up in the very step that sees the wish.
            let gate = place.gate();
            let run = trainer.train(Walk::new("wait", 0), gate.spec()).await.unwrap();
            until_stepping(&run).await;
            run.pause().await.unwrap();
            tokio::time::sleep(Duration::from_millis(round % 8)).await;
            run.resume().await.unwrap();
            gate.open();
            let info = run.wait_timeout(Duration::from_secs(30)).await.unwrap();
            assert_eq!(info.status, Status::Completed, "round {round}: {}", text(&info));
        }
    }

    async fn j05_a_cancel_that_meets_a_pause_is_a_cancel(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let elsewhere = place.db().await;
        for round in 0..if isolation == Thread { 20 } else { 6_u64 } {
            let run = trainer.train(Walk::new("wait", 0), place.gate().spec()).await.unwrap();
            until_stepping(&run).await;
            run.pause().await.unwrap();
            tokio::time::sleep(Duration::from_millis(round * 3)).await;
            elsewhere.get_model_future(run.id()).await.unwrap().cancel().await.unwrap();
            let info = run.wait_timeout(Duration::from_secs(30)).await.unwrap();
            assert_eq!(info.status, Status::Cancelled, "round {round}: {}", text(&info));
        }
    }

    async fn j07_what_ended_is_resumed_once_and_not_beside_a_later_job(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let trainer = trainer(&db, isolation).await;
        let gate = place.gate();
        let first = trainer.train(Walk::new("wait", 0), gate.spec().id("one")).await.unwrap();
        first.cancel().await.unwrap();
        assert_eq!(first.wait().await.unwrap().status, Status::Cancelled);
        let resumed = first.resume().await.unwrap();
        let jobs = db.jobs(Default::default()).await.unwrap().len();
        let error = first.resume().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("training `one` cannot be resumed"), "{error}");
        resumed.cancel().await.unwrap();
        assert_eq!(resumed.wait().await.unwrap().status, Status::Cancelled);
        let later = trainer.train(Walk::new("wait", 0), gate.spec().id("one")).await.unwrap();
        for ended in [&first, &resumed] {
            assert_eq!(ended.resume().await.unwrap_err().kind(), ErrorKind::Conflict);
        }
        assert_eq!(db.jobs(Default::default()).await.unwrap().len(), jobs + 1, "nothing but the later job was recorded");
        gate.open();
        assert_eq!(later.wait().await.unwrap().status, Status::Completed);
        later.purge().await.unwrap();
        assert_eq!(later.resume().await.unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(later.purge().await.unwrap_err().kind(), ErrorKind::Gone);
    }

    async fn a_job_that_gives_no_sign_of_life_ends_as_timed_out(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let limits = Limits { heartbeat: Some("0.3s".parse().unwrap()), ..Limits::default() };
        let trainer = LocalTrainer::new("strict").base(JobBase { limits, ..base(isolation) }).open(&db).await.unwrap();
        let gate = place.gate();
        let lively = trainer.train(Walk::new("loop", 10), TrainSpec::new().arg("pause_ms", 60_u64)).await.unwrap();
        let deaf = trainer.train(Walk::new("deaf", 0), gate.spec()).await.unwrap();
        let info = deaf.wait_timeout(Duration::from_secs(30)).await.unwrap();
        assert_eq!(info.status, Status::Errored);
        assert!(text(&info).contains("no sign of life for 300ms"), "{}", text(&info));
        gate.open();
        assert_eq!(lively.wait().await.unwrap().status, Status::Completed, "{}", text(&lively.info().await.unwrap()));
    }

    async fn a_time_limit_ends_the_attempt(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        let limits = Limits { wall: Some("0.4s".parse().unwrap()), ..Limits::default() };
        let trainer = LocalTrainer::new("strict").base(JobBase { limits, ..base(isolation) }).open(&db).await.unwrap();
        let run = trainer.train(Walk::new("wait", 0), place.gate().spec()).await.unwrap();
        let info = run.wait_timeout(Duration::from_secs(30)).await.unwrap();
        assert!(info.status == Status::Errored && text(&info).contains("time limit of 400ms"), "{}", text(&info));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j05_an_uninterruptible_process_is_killed_after_the_grace() {
    let place = Place::new();
    let db = place.db().await;
    let run =
        trainer(&db, Process).await.train(Walk::new("deaf", 0), place.gate().spec()).await.unwrap();
    until_stepping(&run).await;
    let before = Instant::now();
    assert_eq!(run.cancel().await.unwrap(), CancelOutcome::ForcedAfter(Duration::from_millis(300)));
    assert!(before.elapsed() < Duration::from_millis(250), "the call does not block");
    let info = run.wait_timeout(Duration::from_secs(30)).await.unwrap();
    assert_eq!(info.status, Status::Cancelled);
    assert!(text(&info).contains("killed after the grace"), "{}", text(&info));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j05_of_a_thread_that_never_looks_it_is_said_that_it_cannot_be_forced() {
    let place = Place::new();
    let db = place.db().await;
    let gate = place.gate();
    let run = trainer(&db, Thread).await.train(Walk::new("deaf", 0), gate.spec()).await.unwrap();
    until_stepping(&run).await;
    assert_eq!(run.cancel().await.unwrap(), CancelOutcome::CannotBeForced);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let info = run.info().await.unwrap();
    assert_eq!(
        (info.status, info.cancelling),
        (Status::Running, true),
        "nobody is told CANCELED while the thread runs on"
    );
    gate.open();
    // It ended with a result after all, which is what happened.
    let info = run.wait_timeout(Duration::from_secs(30)).await.unwrap();
    assert_eq!((info.status, info.cancelling), (Status::Completed, false));
    assert!(info.completed_despite_cancel(), "the record says that a cancel came too late");
    assert!(run.info().await.unwrap().completed_despite_cancel());
    assert_eq!(run.cancel().await.unwrap(), CancelOutcome::Completed);
    run.load_dyn().await.unwrap();
}

/// End the runtime while one training runs and others wait: how long that takes.
fn end_with_a_queue(
    runtime: &mut tokio::runtime::Builder,
    isolation: Isolation,
    queued: usize,
) -> Duration {
    let place = Place::new();
    let runtime = runtime.enable_all().build().unwrap();
    let db = runtime.block_on(async {
        let db = place.db().await;
        let base = JobBase { max_concurrent: 1, grace: "60s".parse().unwrap(), ..base(isolation) };
        let trainer = LocalTrainer::new("one").base(base).open(&db).await.unwrap();
        let running = trainer.train(Walk::new("wait", 0), place.gate().spec()).await.unwrap();
        for _ in 0..queued {
            trainer.train(Walk::new("wait", 0), place.gate().spec()).await.unwrap();
        }
        until_stepping(&running).await;
        db
    });
    let begun = Instant::now();
    drop(runtime);
    drop(db);
    begun.elapsed()
}

#[test]
fn e32_the_end_of_a_runtime_does_not_wait_for_a_training() {
    // The trainings go on for twenty seconds at least, unless they are told.
    for isolation in [Thread, Process] {
        for queued in [0, 1, 3] {
            let several = end_with_a_queue(
                tokio::runtime::Builder::new_multi_thread().worker_threads(2),
                isolation,
                queued,
            );
            assert!(
                several < Duration::from_secs(10),
                "{isolation:?}, {queued} queued: {several:?}"
            );
            let one = end_with_a_queue(
                &mut tokio::runtime::Builder::new_current_thread(),
                isolation,
                queued,
            );
            assert!(
                one < Duration::from_secs(10),
                "{isolation:?}, {queued} queued, on one thread: {one:?}"
            );
        }
    }
}
