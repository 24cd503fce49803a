//! Logs and metrics read in parts.

use crate::support::{Database, databases, in_folder};
use std::time::Instant;
use superduper::{
    prelude::*,
    store::{JobId, LogLevel, MetricRow, Telemetry, Timestamp},
};

#[derive(Component)]
#[component(kind = "series.Writes")]
struct Writes {
    identifier: String,
}

#[triggers]
impl Writes {
    #[trigger("apply", retries = 1)]
    fn work(&self, ctx: &JobContext) -> Result<()> {
        for step in 0..50 {
            ctx.log(format!("line {step} of {}", ctx.attempt()));
            ctx.metric("loss", step, if step == 33 { 100. } else { 1. });
            ctx.metric("rate", step, 0.5);
        }
        ctx.metric("loss", 50, f64::NAN);
        match ctx.is_retry() {
            true => Ok(()),
            false => Err(Error::msg("once more").retryable()),
        }
    }
}

async fn job(on: &Database) -> JobId {
    on.db.apply(Writes { identifier: "w".into() }).await.expect("applied");
    on.jobs().await[0].id
}

#[tokio::test]
async fn n10_logs_are_followed_by_id_and_filtered() {
    for on in databases().await {
        let job = job(&on).await;
        let all = on.db.logs(job).await.unwrap();
        assert_eq!(all.len(), 102);
        let (mut seen, mut read) = (0, Vec::new());
        loop {
            let page = on.db.logs(job).after(seen).limit(30).await.unwrap();
            let Some(last) = page.last() else { break };
            seen = last.id;
            read.extend(page);
        }
        assert_eq!(read, all, "pages have each line once");
        let warnings = on.db.logs(job).level(LogLevel::Warn).await.unwrap();
        assert!(warnings.len() == 2 && warnings[0].message.contains("loss"), "{warnings:?}");
        let second = on.db.logs(job).attempt(2).limit(1).await.unwrap();
        assert_eq!(second[0].message, "line 0 of 2");
    }
}

#[tokio::test]
async fn n10_metrics_come_in_points_and_ranges() {
    for on in databases().await {
        let job = job(&on).await;
        assert_eq!(on.db.metrics([job]).await.unwrap().len(), 100);
        let points = on.db.metrics([job]).names(["loss"]).points(5).await.unwrap();
        let brief: Vec<(u64, u64, f64, u64)> = points
            .iter()
            .map(|point| (point.first_step, point.step, point.max, point.count))
            .collect();
        assert_eq!(
            brief,
            [
                (0, 9, 1., 10),
                (10, 19, 1., 10),
                (20, 29, 1., 10),
                (30, 39, 100., 10),
                (40, 49, 1., 10)
            ]
        );
        let near = on.db.metrics([job]).names(["loss"]).range(30..40).points(10).await.unwrap();
        assert!(near.len() == 10 && near.iter().all(|point| point.count == 1));
        assert_eq!((near[3].step, near[3].value), (33, 100.));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n10_buckets_of_a_long_series_show_its_spike() {
    let numbers: u64 = 1_000_000;
    let on = in_folder().await;
    let (job, spike) = (job(&on).await, numbers / 3 + 1);
    let value = |step| if step == spike { 1e6 } else { (step % 100) as f64 };
    for from in (0..numbers).step_by(50_000) {
        let metrics = (from..(from + 50_000).min(numbers)).map(|step| MetricRow {
            job,
            name: "long".into(),
            step,
            value: value(step),
            at: Timestamp(step as i64),
        });
        let notes = Telemetry { metrics: metrics.collect(), ..Telemetry::default() };
        on.db.metadata().record_telemetry(notes).await.unwrap();
    }
    let begun = Instant::now();
    let points = on.db.metrics([job]).names(["long"]).points(1000).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(points.len(), 1000);
    assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), numbers);
    let shown: Vec<_> = points.iter().filter(|point| point.max == 1e6).collect();
    assert_eq!(shown.len(), 1, "one bucket shows the spike");
    let near = shown[0].first_step..=shown[0].step;
    assert!(near.contains(&spike));
    let zoom = on.db.metrics([job]).names(["long"]).range(near).points(1000).await.unwrap();
    assert!(zoom.iter().all(|point| point.count == 1 && point.value == value(point.step)));
    assert!(zoom.iter().any(|point| point.step == spike));
    assert!(took.as_secs() < 5, "{numbers} numbers were gathered in {took:?}");
}
