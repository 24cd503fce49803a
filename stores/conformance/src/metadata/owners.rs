//! Owners of jobs, and what running jobs say about themselves.

use super::fixture::*;
use superduper_core::{
    ErrorKind,
    store::{JobId, LogFilter, LogLevel, LogLine, LogRow, MetadataStore, Op, Telemetry},
};

/// An owner is alive until it retires; only owners of jobs are told as dead.
pub async fn owners_live_until_they_retire(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let (holder, idle) = (register(store).await, register(store).await);
    commit(store, vec![claim(&ids[..1], holder, false), claim(&ids[1..], holder, true)]).await;
    assert!(done(store.dead_workers().await).is_empty(), "owners that are alive are not dead");
    assert_eq!(done(store.live_workers().await), [holder, idle], "with jobs or without");
    done(store.deregister_worker(idle).await);
    assert_eq!(done(store.live_workers().await), [holder]);
    assert!(done(store.dead_workers().await).is_empty(), "an owner without jobs is of no interest");
    done(store.deregister_worker(holder).await);
    assert!(done(store.live_workers().await).is_empty());
    assert_eq!(
        done(store.dead_workers().await),
        [holder],
        "an owner that left jobs behind is told"
    );
    assert_eq!(
        done(store.dead_workers().await),
        [holder],
        "and stays told until its jobs are taken away"
    );
    commit(store, vec![Op::Reclaim { owners: vec![holder], at: at(15) }]).await;
    assert!(done(store.dead_workers().await).is_empty());
    let next = register(store).await;
    assert!(next != holder && next != idle, "the id of an owner is not used again");
}

/// An owner that goes on keeps its lease, however short it is.
pub async fn leases_hold_while_their_owner_goes_on(store: &dyn MetadataStore) {
    store.set_lease(std::time::Duration::from_millis(1));
    let (_, ids) = run_of(store, "a", &["one"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(
            done(store.dead_workers().await).is_empty(),
            "a store does not declare its own owner dead"
        );
    }
    assert!(commit(store, vec![succeeded(ids[0], 1, owner)]).await.fenced.is_empty());
}

/// Log lines and progress are kept; a line needs its job.
pub async fn notes_are_kept(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let line = |job, n: i64, level| LogRow {
        job,
        attempt: 1,
        at: at(n),
        level,
        message: format!("line {n}"),
    };
    let logs: Vec<LogRow> = vec![
        line(ids[0], 1, LogLevel::Info),
        line(ids[1], 2, LogLevel::Error),
        line(ids[0], 3, LogLevel::Trace),
        line(ids[0], 2, LogLevel::Warn),
    ];
    let record = async |logs: Vec<LogRow>, progress: Vec<(JobId, u64, u64)>| {
        store.record_telemetry(Telemetry { logs, progress, ..Telemetry::default() }).await
    };
    let progress = vec![(ids[0], 1, 10), (ids[0], 2, 10), (ids[1], 5, 5)];
    done(record(logs.clone(), progress).await);
    let of_first = [logs[0].clone(), logs[2].clone(), logs[3].clone()];
    let lines = done(store.logs(LogFilter::of(ids[0])).await);
    assert!(
        lines.len() == 3 && lines[0].id > 0 && lines.windows(2).all(|pair| pair[0].id < pair[1].id)
    );
    assert_eq!(
        lines,
        lines
            .iter()
            .zip(&of_first)
            .map(|(line, row)| LogLine::new(line.id, row.clone()))
            .collect::<Vec<_>>(),
        "log lines come back in the order they were written"
    );
    assert_eq!(
        job_row(store, ids[0]).await.progress,
        Some((2, 10)),
        "the last report of progress counts"
    );
    done(record(vec![line(ids[0], 9, LogLevel::Debug)], vec![]).await);
    assert_eq!(done(store.logs(LogFilter::of(ids[0])).await).len(), 4);
    commit(store, vec![succeeded(ids[1], 1, owner)]).await;
    done(record(vec![], vec![(ids[1], 1, 5), (JobId(999), 1, 1)]).await);
    assert_eq!(
        job_row(store, ids[1]).await.progress,
        Some((1, 5)),
        "a report may arrive after the end of its job"
    );
    let stray = vec![line(JobId(999), 1, LogLevel::Info)];
    refused(record(stray, vec![]).await, ErrorKind::NotFound);
}
