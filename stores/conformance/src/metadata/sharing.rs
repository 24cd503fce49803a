//! What a store must do that several objects and several processes have open at the same time.
//!
//! The test of a store calls [`run_all`] and starts processes that call [`child`]: the test program
//! again, for example.

use super::fixture::*;
use serde_json::json;
use std::{process::Child, sync::Arc, time::Duration};
use superduper_core::store::{LogHead, MetadataStore, Op, WorkerId};

/// How many entries or components a child process writes.
const EACH: usize = 50;

/// Run everything. `place` makes an empty place, `open` opens it, and `start` starts a process that
/// opens it and calls [`child`] with the role that it is given.
///
/// # Panics
/// With the first rule that is broken.
pub async fn run_all<P>(
    place: impl AsyncFn() -> P,
    open: impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
    start: impl Fn(&P, &str) -> Child,
) {
    objects_see_each_other(&place().await, &open).await;
    objects_wait_for_each_other(&place().await, &open).await;
    the_sweep_lock_is_one_for_all_objects(&place().await, &open).await;
    workers_end_with_their_object(&place().await, &open).await;
    processes_write_at_once(&place().await, &open, &start).await;
    workers_end_with_their_process(&place().await, &open, &start).await;
    a_killed_process_breaks_no_chain(&place().await, &open, &start).await;
}

/// What a process of the test does, in the role that it was given.
///
/// # Panics
/// If the store refuses it; the test sees that the process failed.
pub async fn child(store: &dyn MetadataStore, role: &str) {
    match role {
        "die" => {
            let owner = register(store).await;
            let (_, ids) = run_of(store, "of-the-dead", &["go"]).await;
            commit(store, vec![claim(&ids, owner, true)]).await;
            std::process::abort();
        }
        "append" | "append for ever" => {
            let most = if role == "append" { EACH } else { usize::MAX };
            for n in 0..most {
                commit(
                    store,
                    vec![Op::Append {
                        log: "decisions".to_owned(),
                        payload: json!({ "by": role, "n": n }),
                        at: at(n as i64),
                    }],
                )
                .await;
            }
        }
        name => {
            for n in 0..EACH {
                commit(store, vec![create(&format!("{name}-{n}"))]).await;
            }
        }
    }
}

/// A read sees the commits that returned before it began, whichever object they came from.
async fn objects_see_each_other<P>(place: &P, open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>) {
    let (one, two) = (open(place).await, open(place).await);
    for n in 0..20 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        commit(&**writer, vec![create(&format!("c{n}"))]).await;
        assert_eq!(
            done(reader.snapshot(vec![address(&format!("c{n}"))]).await).components.len(),
            1
        );
    }
}

/// Contention is waited out, and nothing is lost.
async fn objects_wait_for_each_other<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
) {
    let mut writers = Vec::new();
    for writer in 0..6 {
        let store = open(place).await;
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                commit(&*store, vec![create(&format!("{writer}-{n}"))]).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap_or_else(|error| panic!("a writer failed: {error}"));
    }
    assert_eq!(done(open(place).await.list(None).await).len(), 6 * EACH);
}

/// Only one object holds the sweep lock, and a later lock has a higher number.
async fn the_sweep_lock_is_one_for_all_objects<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
) {
    let (one, two) = (open(place).await, open(place).await);
    let first = done(one.sweep_lock().await).unwrap_or_else(|| panic!("nothing sweeps"));
    assert!(done(two.sweep_lock().await).is_none(), "the lock is held");
    let token = first.token();
    assert!(done(first.holds().await));
    drop(first);
    let second = done(two.sweep_lock().await).unwrap_or_else(|| panic!("a dropped lock is free"));
    assert!(second.token() > token && done(second.holds().await));
}

/// A worker is alive as long as its object is.
async fn workers_end_with_their_object<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
) {
    let (one, two) = (open(place).await, open(place).await);
    let owner = register(&*one).await;
    let (_, ids) = run_of(&*one, "a", &["go"]).await;
    commit(&*one, vec![claim(&ids, owner, true)]).await;
    assert!(done(two.dead_workers().await).is_empty() && done(one.dead_workers().await).is_empty());
    assert_eq!(done(two.live_workers().await), [owner]);
    drop(one);
    assert_eq!(
        (done(two.live_workers().await), done(two.dead_workers().await)),
        (Vec::<WorkerId>::new(), vec![owner])
    );
    assert_ne!(register(&*two).await, owner, "a number never comes back");
}

fn ends_well(mut child: Child) {
    let status =
        child.wait().unwrap_or_else(|error| panic!("a child process is not waited for: {error}"));
    assert!(status.success(), "a child process failed: {status}");
}

/// Two processes write at the same time, and nothing is lost.
async fn processes_write_at_once<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
    start: &impl Fn(&P, &str) -> Child,
) {
    let store = open(place).await;
    let children = [start(place, "left"), start(place, "right")];
    children.into_iter().for_each(ends_well);
    assert_eq!(done(store.list(None).await).len(), 2 * EACH);
}

/// A worker whose process is gone is told at the next call, and its job can be taken over.
async fn workers_end_with_their_process<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
    start: &impl Fn(&P, &str) -> Child,
) {
    let store = open(place).await;
    let mut child = start(place, "die");
    assert!(child.wait().is_ok_and(|status| !status.success()));
    let owners = done(store.dead_workers().await);
    assert_eq!(owners.len(), 1);
    assert_eq!(commit(&*store, vec![Op::Reclaim { owners, at: at(90) }]).await.reclaimed.len(), 1);
    assert!(done(store.dead_workers().await).is_empty(), "a worker without jobs is of no interest");
}

/// Four processes append to one log, and one of them is killed: the chain is whole, and holds all
/// that the others wrote.
async fn a_killed_process_breaks_no_chain<P>(
    place: &P,
    open: &impl AsyncFn(&P) -> Arc<dyn MetadataStore>,
    start: &impl Fn(&P, &str) -> Child,
) {
    let store = open(place).await;
    let mut killed = start(place, "append for ever");
    let others = [start(place, "append"), start(place, "append"), start(place, "append")];
    let by = |role: &'static str| {
        let store = store.clone();
        async move {
            let entries = done(store.log_entries("decisions".to_owned(), 0, usize::MAX).await);
            entries.iter().filter(|entry| entry.payload["by"] == role).count()
        }
    };
    while by("append for ever").await < 5 {
        assert!(
            killed.try_wait().is_ok_and(|ended| ended.is_none()),
            "it ended before it was killed"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    killed.kill().unwrap_or_else(|error| panic!("it runs: {error}"));
    killed.wait().unwrap_or_else(|error| panic!("it ran: {error}"));
    others.into_iter().for_each(ends_well);
    assert_eq!(by("append").await, 3 * EACH);
    let entries = done(store.log_entries("decisions".to_owned(), 0, usize::MAX).await);
    let head = LogHead::EMPTY
        .follow("decisions", &entries)
        .unwrap_or_else(|error| panic!("the chain is broken: {error}"));
    assert_eq!(done(store.log_head("decisions".to_owned()).await), head);
}
