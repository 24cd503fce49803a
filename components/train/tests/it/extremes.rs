//! Durations and counts of trainings at 0 and at their maximum: none of them panics, and each means
//! what it says.

use crate::support::*;
use std::time::Duration;
use superduper::prelude::*;
use superduper_train::{Config, Limits, Series, prelude::*};

both! {
    async fn b18_options_of_a_trainer_at_their_ends(isolation: Isolation) {
        let place = Place::new();
        let db = place.db().await;
        // So many days are more seconds than a clock has.
        let beyond: Span = "200000000000000d".parse().unwrap();
        for (name, span, count) in [("zero", Span::default(), 0), ("most", Duration::MAX.into(), usize::MAX), ("beyond", beyond, 1)] {
            let limit = Some(span).filter(|span| !span.get().is_zero());
            let cpu = limit.filter(|_| isolation == Process);
            let base = JobBase {
                isolation,
                max_concurrent: count,
                retention: Some(Duration::MAX.into()),
                grace: span,
                limits: Limits { wall: limit, cpu, heartbeat: limit, memory: cpu.map(|_| u64::MAX) },
                restart: Restart { retries: u32::try_from(count).unwrap_or(u32::MAX), backoff: span, resume: true },
            };
            let trainer = LocalTrainer::new(name).base(base).open(&db).await.unwrap();
            let checkpoints = Checkpoints { keep_last: count, every_steps: count as u64, every: Some(span), ..Checkpoints::default() };
            let spec = TrainSpec::new().id(name).seed(u64::MAX).checkpoints(checkpoints);
            let run = trainer.train(Walk::new("loop", 4), spec).await.unwrap();
            let info = run.wait_timeout(Duration::MAX).await.unwrap();
            assert_eq!(info.status, Status::Completed, "{name}: {}", text(&info));
            assert_eq!(run.load::<Walk>().await.unwrap().trace.len(), 4);
        }
        // With a retention of nothing it is kept until the next sweep, at least as long as it runs.
        let base = JobBase { isolation, retention: Some(Span::default()), ..JobBase::default() };
        let trainer = LocalTrainer::new("brief").base(base).open(&db).await.unwrap();
        let run = trainer.train(Walk::new("loop", 2), TrainSpec::new().id("brief")).await.unwrap();
        assert_eq!(run.wait().await.unwrap().status, Status::Completed);
        let _ = run.wait_timeout(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn b18_limits_of_nothing_are_refused_before_anything_runs() {
    let place = Place::new();
    let db = place.db().await;
    let zero = Some(Span::default());
    for limits in [
        Limits { wall: zero, ..Limits::default() },
        Limits { heartbeat: zero, ..Limits::default() },
    ] {
        let opened = LocalTrainer::new("zero")
            .base(JobBase { limits, ..JobBase::default() })
            .open(&db)
            .await;
        assert_eq!(opened.err().unwrap().kind(), ErrorKind::InvalidInput);
    }
    let text = "model_management: {trainers: {d: {type: LOCAL, config: {limits: {wall: 200000000000000d}}}}}";
    let trainer = Config::from_yaml(text).unwrap().open(&db, "d").await.unwrap();
    let info =
        trainer.train(Walk::new("loop", 2), TrainSpec::new()).await.unwrap().wait().await.unwrap();
    assert_eq!(info.status, Status::Completed, "{}", crate::support::text(&info));
}

/// Counts by its own measure.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Counter")]
struct Counter {
    identifier: String,
}

impl Train for Counter {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let mut stopping = EarlyStopping::new(Direction::Lower, u64::MAX).warmup(u64::MAX);
        for (step, total) in [(0, 0), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0)]
        {
            if ctx.step(step, total)?.is_stop() {
                break;
            }
            ctx.metric("loss", 1.0);
            assert!(!stopping.update(1.0));
            ctx.checkpoint_due(false);
            ctx.checkpoint(&stopping)?;
            // Longer than reports are apart.
            std::thread::sleep(Duration::from_millis(80));
        }
        Ok(Trained::model(self.clone()))
    }
}
superduper_train::trains!(Counter);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b18_steps_at_their_ends() {
    let place = Place::new();
    let db = place.db().await;
    let run = trainer(&db, Thread)
        .await
        .train(Counter { identifier: "c".into() }, TrainSpec::new().id("steps"))
        .await
        .unwrap();
    #[cfg(feature = "progress")]
    for poll in [Duration::ZERO, Duration::from_millis(20)] {
        let progress =
            superduper_train::Progress::lines(std::io::sink()).every(Duration::ZERO).poll(poll);
        assert!(progress.follow(&run).await.unwrap().status.is_terminal());
    }
    let info = run.wait().await.unwrap();
    assert_eq!(info.status, Status::Completed, "{}", text(&info));
    let series = Series::of(&run.metrics().await.unwrap(), "loss");
    for at_most in [0, 1, usize::MAX] {
        assert!(!series.downsample(at_most).points.is_empty());
    }
}
