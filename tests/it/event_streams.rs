//! Streams of events: what they tell, and what they cost the store.

use crate::support::{Database, busy::Busy, databases, in_folder, until::until};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use superduper::{
    Event, EventStream, Spawn,
    prelude::*,
    store::{Cursor, EventRow, JobId, RunId},
};
use tokio::task::JoinSet;

/// Adds jobs, and reports progress often.
#[derive(Component)]
#[component(kind = "event_streams.Reports")]
struct Reports {
    identifier: String,
    reports: u64,
}

#[triggers]
impl Reports {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        for done in 1..=self.reports {
            ctx.progress(done, self.reports);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for key in ["a", "b"] {
            ctx.spawn_with(Spawn::new(key, ctx.address(), "more"))?;
        }
        Ok(())
    }

    #[trigger("call")]
    fn more(&self) -> Result<()> {
        Ok(())
    }
}

fn busy(name: &str) -> Busy {
    Busy { identifier: name.into() }
}

/// The events on record, of a run or of all.
async fn recorded(on: &Database, run: Option<RunId>) -> Vec<EventRow> {
    let store = on.metadata.inner();
    store.events(Cursor::default(), run, usize::MAX).await.expect("events").rows
}

/// The recorded events of a run, as a stream tells them.
async fn told(stream: &mut EventStream) -> Vec<EventRow> {
    let mut rows = Vec::new();
    let all = async {
        while let Some(event) = stream.next().await.expect("an event") {
            if let Event::Recorded(row) = event {
                rows.push(row);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the run ends");
    rows
}

/// A cursor may be ahead of what the reader of this process has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_after_a_cursor_does_not_tell_the_event_at_it() {
    for on in databases().await {
        // A stream that is not polled, so that the reader stays where it is.
        let mut early = on.db.events();
        drop(tokio::time::timeout(Duration::from_millis(50), early.next()).await);
        let rival = on.rival().await;
        let quick = |identifier: String| Reports { identifier, reports: 0 };
        for round in 0..5 {
            rival.apply(quick(format!("before-{round}"))).await.expect("applies");
            let cursor = on.metadata.inner().last_event().await.expect("a cursor");
            let seen: Vec<i64> = recorded(&on, None).await.iter().map(|row| row.seq).collect();
            let mut late = on.db.events_after(cursor);
            let next = late.next();
            let (event, applied) = tokio::join!(next, rival.apply(quick(format!("after-{round}"))));
            applied.expect("applies");
            let Some(Event::Recorded(row)) = event.expect("an event") else { continue };
            assert!(!seen.contains(&row.seq), "{row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn added_and_signalled_jobs_and_progress_are_events() {
    for on in databases().await {
        let reports = Reports { identifier: "r".into(), reports: 70 };
        let applied = on.db.apply(reports).await.expect("it is applied");
        let run = applied.outcome.expect("a run").run_id();
        let events = told(&mut on.db.run_events(run)).await;
        let of_kind = |kind: &str| events.iter().filter(|row| row.kind == kind).collect::<Vec<_>>();
        let work = on.jobs().await[0].id;
        let added: Vec<Vec<JobId>> = of_kind("job.added").iter().map(|row| row.jobs()).collect();
        assert_eq!(added, [vec![work], vec![JobId(work.0 + 1), JobId(work.0 + 2)]]);
        let progress = of_kind("job.progressed");
        assert!((1..=3).contains(&progress.len()), "one in a second: {progress:#?}");
        assert!(progress.windows(2).all(|pair| pair[1].at.0 - pair[0].at.0 >= 1000));
        assert!(progress.iter().all(|row| row.job == Some(work)));
        assert!(progress[0].detail.as_deref().is_some_and(|text| text.ends_with("/70")));

        let run = on.db.apply(busy("b")).detach().await.expect("it is recorded");
        let (mut stream, mut signalled) = (on.db.run_events(run.id().expect("a run")), None);
        run.cancel().await.expect("it is asked to end");
        for row in told(&mut stream).await {
            signalled = signalled.or((row.kind == "job.signalled").then_some(row));
        }
        let row = signalled.expect("the signal is told");
        let job = on.jobs().await.last().expect("a job").id;
        assert_eq!((row.jobs(), row.detail.as_deref()), (vec![job], Some("cancel")));
    }
}

/// How often the store is asked for events while streams follow them for a while, and how many
/// events each of them got at least.
async fn reads_of(streams: usize) -> (usize, usize) {
    let on = in_folder().await;
    on.db.apply(Reports { identifier: "first".into(), reports: 0 }).await.expect("applied");
    let (got, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let before = on.metadata.event_reads();
    for _ in 0..streams {
        let (mut stream, got) = (on.db.events(), got.clone());
        tasks.spawn(async move {
            let mut mine = 0;
            while let Some(event) = stream.next().await.expect("an event") {
                if let Event::Recorded(row) = event {
                    mine += 1;
                    if row.kind == "component.applied"
                        && row.detail.as_deref().is_some_and(|text| text.contains("last"))
                    {
                        break;
                    }
                }
            }
            got.fetch_add(mine, Ordering::SeqCst);
        });
    }
    // Nothing happens for a while, then another handle and this one apply something.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let rival = on.rival().await;
    rival.apply(Reports { identifier: "other".into(), reports: 0 }).await.expect("applied");
    on.db.apply(Reports { identifier: "last".into(), reports: 0 }).await.expect("applied");
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all streams see it");
    (on.metadata.event_reads() - before, got.load(Ordering::SeqCst) / streams)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_streams_read_the_store_as_one_does() {
    let ((one, of_one), (many, of_many)) = (reads_of(1).await, reads_of(50).await);
    assert!(of_one > 5 && of_many > 5, "{of_one} {of_many}");
    assert!(one >= 10, "a stream looks ten times a second: {one}");
    assert!(many <= one + one / 2 + 5, "50 streams read {many} times, one {one} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_run_tell_all_of_it_once_wherever_they_begin() {
    for on in databases().await {
        let run = on.db.apply(Reports { identifier: "r".into(), reports: 30 }).detach().await;
        let run = run.expect("it is recorded").id().expect("a run");
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let db = on.db.clone();
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number * 40)).await;
                told(&mut db.run_events(run)).await
            });
        }
        let streams = tasks.join_all().await;
        let expected = recorded(&on, Some(run)).await;
        assert!(expected.len() >= 8);
        for rows in streams {
            assert_eq!(rows, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_stream_misses_nothing() {
    let on = in_folder().await;
    let mut slow = on.db.events_after(Cursor::default());
    let mut quick = on.db.events();
    // More events than are kept for streams.
    let follow = tokio::spawn(async move { while quick.next().await.is_ok() {} });
    on.db.apply(Reports { identifier: "r".into(), reports: 0 }).await.expect("applied");
    let first = slow.next().await.expect("an event");
    let Some(Event::Recorded(first)) = first else { panic!("{first:?}") };
    let mut rows = vec![first];
    let ops = (0..2500).map(|number| superduper::store::Op::Label {
        address: "event_streams.Reports/r@0".parse().expect("an address"),
        label: format!("l{number}"),
        version: Some(0),
        at: superduper::store::Timestamp(number),
    });
    let ops: Vec<_> = ops.collect();
    for _ in 0..2 {
        let batch = superduper::store::Batch { expect: Vec::new(), ops: ops.clone() };
        let commit = on.db.metadata().commit(batch, superduper::store::Durability::Relaxed);
        commit.await.expect("labels");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let expected = recorded(&on, None).await;
    assert!(expected.len() > 5000, "{}", expected.len());
    while rows.len() < expected.len() {
        let event = tokio::time::timeout(Duration::from_secs(30), slow.next()).await;
        if let Event::Recorded(row) = event.expect("it goes on").expect("an event").expect("more") {
            rows.push(row);
        }
    }
    assert!(rows == expected, "each event comes once, in order");
    follow.abort();
}

/// A stream may be the one that reads for all, and its caller may do something else meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_polled_holds_up_no_other() {
    let on = in_folder().await;
    let (mut idle, mut lively) = (on.db.events(), on.db.events());
    let mut next = Box::pin(idle.next());
    let polled = tokio::time::timeout(Duration::from_millis(300), &mut next).await;
    assert!(polled.is_err(), "nothing happens: {polled:?}");
    let follow = tokio::spawn(async move { lively.next().await });
    let rival = on.rival().await;
    // It begins when it has waited for the other one in vain; what happens before is not its own.
    let mut number = 0;
    until("an event of the other stream", async || {
        number += 1;
        let reports = Reports { identifier: format!("r{number}"), reports: 0 };
        rival.apply(reports).await.expect("applied");
        tokio::time::sleep(Duration::from_millis(200)).await;
        follow.is_finished()
    })
    .await;
    assert!(follow.await.expect("no panic").expect("an event").is_some());
    assert!(next.await.expect("an event").is_some(), "and the other one goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_waits_for_a_commit_of_any_process() {
    for on in databases().await {
        let wait = async |after: &Cursor| {
            let changed = tokio::time::timeout(Duration::from_secs(30), on.db.changed(after));
            changed.await.expect("it changes").expect("a cursor")
        };
        let rival = on.rival().await;
        rival.apply(Reports { identifier: "r".into(), reports: 0 }).await.expect("applied");
        let seen = wait(&Cursor::default()).await;
        assert_eq!(seen, on.db.metadata().last_event().await.expect("a cursor"));
        assert_eq!(wait(&Cursor::of_number(1)).await, seen, "from a place that others know");
        let short = tokio::time::timeout(Duration::from_millis(400), on.db.changed(&seen)).await;
        assert!(short.is_err(), "nothing has changed: {short:?}");

        let before = on.metadata.event_reads();
        let begun = Instant::now();
        let mut waits = JoinSet::new();
        for _ in 0..50 {
            let (db, seen) = (on.db.clone(), seen.clone());
            waits.spawn(async move { db.changed(&seen).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        rival.label("event_streams.Reports/r@0", "prod").await.expect("labelled");
        while let Some(next) = waits.join_next().await {
            assert_ne!(next.expect("no panic").expect("a cursor"), seen);
        }
        // Ten times a second, and once or more when they begin and when they return.
        let most = begun.elapsed().as_millis() as usize / 100 + 40;
        let reads = on.metadata.event_reads() - before;
        assert!(reads <= most, "50 calls read the store {reads} times");
    }
}
