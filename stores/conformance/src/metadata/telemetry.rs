//! Reading logs and metrics by parts, and the events of what is added, asked and reported.

use super::fixture::*;
use superduper_core::store::{
    Cursor, EventRow, JobId, JobSignal, LogFilter, LogLevel, LogRow, MetadataStore, MetricFilter,
    MetricPoint, MetricRow, Op, Telemetry,
};

async fn note(store: &dyn MetadataStore, notes: Telemetry) {
    done(store.record_telemetry(notes).await);
}

/// A log is read on from a line, of a level and of an attempt.
pub async fn logs_are_read_in_parts(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let levels = [LogLevel::Trace, LogLevel::Info, LogLevel::Error];
    let line = |job, n: usize| LogRow {
        job,
        attempt: n as u32 / 5,
        at: at(n as i64),
        level: levels[n % 3],
        message: format!("line {n}"),
    };
    let logs = (0..10).flat_map(|n| [line(ids[0], n), line(ids[1], n)]).collect();
    note(store, Telemetry { logs, ..Telemetry::default() }).await;
    let texts = async |filter| -> Vec<String> {
        done(store.logs(filter).await).into_iter().map(|line| line.message).collect()
    };
    let all = done(store.logs(LogFilter::of(ids[0])).await);
    assert_eq!(all.len(), 10);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "the ids of lines ascend");
    let from_fifth = LogFilter::of(ids[0]).after(all[4].id);
    assert_eq!(texts(from_fifth.clone().limit(2)).await, ["line 5", "line 6"]);
    assert_eq!(texts(from_fifth.clone().level(LogLevel::Warn)).await, ["line 5", "line 8"]);
    assert_eq!(
        texts(LogFilter::of(ids[0]).attempt(0).level(LogLevel::Info).limit(3)).await,
        ["line 1", "line 2", "line 4"]
    );
    assert!(texts(LogFilter::of(ids[0]).after(all[9].id)).await.is_empty());
    assert!(texts(LogFilter::of(JobId(999))).await.is_empty());
    note(store, Telemetry { logs: vec![line(ids[0], 3)], ..Telemetry::default() }).await;
    let later = done(store.logs(LogFilter::of(ids[0]).after(all[9].id)).await);
    assert_eq!(later.len(), 1, "a later line comes after the cursor");
}

/// A long series is gathered in buckets that show its extremes; a stretch of it has single numbers.
pub async fn metrics_are_gathered_in_points(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let metric = |job, name: &str, step, value| MetricRow {
        job,
        name: name.to_owned(),
        step,
        value,
        at: at(step as i64 + 7),
    };
    let value = |step| if step == 617 { 1e9 } else { (step % 10) as f64 };
    let metrics: Vec<MetricRow> = (0..1000)
        .map(|step| metric(ids[0], "loss", step, value(step)))
        .chain((0..5).map(|step| metric(ids[0], "rate", step * 1000, -1.)))
        .chain((0..20).map(|step| metric(ids[1], "loss", step, 2.)))
        .collect();
    note(store, Telemetry { metrics: metrics.clone(), ..Telemetry::default() }).await;
    let read = async |filter| done(store.metrics(filter).await);
    let of_both = MetricFilter::of([ids[1], ids[0], ids[1]]);
    let all: Vec<MetricRow> = read(of_both.clone()).await.into_iter().map(Into::into).collect();
    assert_eq!(all, metrics, "by job, name and step, each job once");

    let points = read(of_both.clone().points(10)).await;
    let expected: Vec<MetricPoint> = [&metrics[..1000], &metrics[1000..1005], &metrics[1005..]]
        .into_iter()
        .flat_map(|series| MetricPoint::of_series(series.to_vec(), Some(10)))
        .collect();
    assert_eq!(points, expected, "each series has points of its own");
    assert_eq!(points.len(), 10 + 5 + 10);
    let peak = &points[6];
    assert_eq!((peak.min, peak.max, peak.count), (0., 1e9, 100), "no peak is lost");
    assert_eq!((peak.first_step, peak.step, peak.value), (600, 699, 9.));
    assert_eq!((peak.first_at, peak.at), (at(607), at(706)));

    let loss = of_both.names(["loss"]);
    let near = read(loss.clone().range(615..620).points(10)).await;
    assert!(near.iter().all(|point| point.count == 1), "a few numbers are read as they are");
    assert_eq!(
        near.iter().map(|point| (point.step, point.value)).collect::<Vec<_>>(),
        [(615, 5.), (616, 6.), (617, 1e9), (618, 8.), (619, 9.)]
    );
    let part = read(MetricFilter::of([ids[0]]).names(["loss"]).range(600..).points(4)).await;
    assert_eq!(
        part.iter().map(|point| (point.first_step, point.step)).collect::<Vec<_>>(),
        [(600, 699), (700, 799), (800, 899), (900, 999)],
        "buckets are made of what was asked for"
    );
    assert_eq!(read(loss.clone().points(1)).await.len(), 2);
    assert!(read(loss.clone().range(5..5)).await.is_empty());
    assert!(read(loss.names(["absent"])).await.is_empty());
    assert!(read(MetricFilter::of([JobId(999)]).points(3)).await.is_empty());
}

/// Jobs that are added, or signalled, together make one event, which lists them.
pub async fn added_and_signalled_jobs_are_told_together(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two", "three", "four"]).await;
    let all = events_after(store, Cursor::default()).await;
    let told = |kind: &str, events: &[EventRow]| -> Vec<(Vec<JobId>, Option<String>)> {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        of_kind
            .inspect(|event| assert_eq!(event.run, Some(run)))
            .map(|event| (event.jobs(), event.detail.clone()))
            .collect()
    };
    let range = Some(format!("{}-{}", ids[0], ids[3]));
    assert_eq!(told("job.added", &all), [(ids.clone(), range)]);

    let before = done(store.last_event().await);
    let owner = register(store).await;
    let keyed = |key: &str| job("a", "more").key(key.to_owned());
    let spawn = |keys: &[&str]| {
        let spawned = keys.iter().map(|key| keyed(key)).collect();
        let end = superduper_core::store::Finished::Succeeded(serde_json::json!(null));
        (spawned, end)
    };
    for (index, keys) in [&["x", "y", "x"][..], &["y"], &["z", "y"]].into_iter().enumerate() {
        let (spawned, end) = spawn(keys);
        commit(store, vec![claim(&ids[index..=index], owner, true)]).await;
        let finish =
            superduper_core::store::Finish { spawned, ..finish_of(ids[index], 1, owner, end) };
        commit(store, vec![Op::Finish(Box::new(finish))]).await;
    }
    let last = ids[3].0;
    let added = told("job.added", &events_after(store, before).await);
    let added: Vec<Vec<JobId>> = added.into_iter().map(|(jobs, _)| jobs).collect();
    let expected = [vec![JobId(last + 1), JobId(last + 2)], vec![JobId(last + 3)]];
    assert_eq!(added, expected, "a key that the run has already adds nothing");

    let before = done(store.last_event().await);
    let signal = |jobs: &[JobId], signal| Op::Signal { jobs: jobs.to_vec(), signal };
    let (open, x, z) = (ids[3], JobId(last + 1), JobId(last + 3));
    commit(store, vec![signal(&[z, open, x, ids[0]], JobSignal::Pause)]).await;
    commit(store, vec![signal(&[open], JobSignal::Continue)]).await;
    commit(store, vec![signal(&[open], JobSignal::Continue)]).await;
    commit(store, vec![signal(&[open], JobSignal::Stop)]).await;
    commit(store, vec![signal(&[x], JobSignal::Cancel), signal(&[x, z], JobSignal::Cancel)]).await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        told("job.signalled", &events_after(store, before).await),
        [
            (vec![open, x, z], text(&format!("pause {open}-{x},{z}"))),
            (vec![open], text("continue")),
            (vec![open], text("stop")),
            (vec![x], text("cancel")),
            (vec![z], text("cancel")),
        ],
        "a job that is final, or was asked before, is not told"
    );
}

/// Reports of progress that follow each other closely make one event.
pub async fn progress_is_told_once_in_a_second(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let (before, known) = (done(store.last_event().await), changes(store, run).await);
    let begun = std::time::Instant::now();
    let report = async |progress| {
        note(store, Telemetry { progress, ..Telemetry::default() }).await;
    };
    report(vec![(ids[0], 1, 10), (ids[1], 5, 5), (ids[0], 2, 10)]).await;
    report(vec![(ids[0], 3, 10), (JobId(999), 1, 1)]).await;
    let told = async || -> Vec<(Option<JobId>, Option<String>)> {
        let events = events_after(store, before.clone()).await;
        assert!(events.iter().all(|event| event.kind == "job.progressed"));
        events.into_iter().map(|event| (event.job, event.detail)).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let first = [(Some(ids[0]), text("1/10")), (Some(ids[1]), text("5/5"))];
    if begun.elapsed() < std::time::Duration::from_millis(900) {
        assert_eq!(told().await, first, "at most one event in a second and job");
    }
    let changed = done(store.changes(run, known).await).expect("a run").jobs;
    assert!(changed.is_empty(), "progress is no change: {changed:?}");
    std::thread::sleep(std::time::Duration::from_millis(1001));
    commit(store, vec![succeeded(ids[1], 1, owner)]).await;
    report(vec![(ids[0], 4, 10), (ids[1], 5, 5)]).await;
    let events = events_after(store, before.clone()).await;
    let later: Vec<_> = events.iter().filter(|event| event.kind == "job.progressed").collect();
    let last = later.last().expect("an event");
    assert_eq!((last.job, last.detail.clone()), (Some(ids[0]), text("4/10")));
    assert!(
        later.iter().filter(|event| event.job == Some(ids[1])).count() == 1,
        "a job that is final reports no more"
    );
}

async fn changes(
    store: &dyn MetadataStore,
    run: superduper_core::store::RunId,
) -> superduper_core::store::ChangeCursor {
    done(store.changes(run, Default::default()).await).expect("a run").cursor
}
