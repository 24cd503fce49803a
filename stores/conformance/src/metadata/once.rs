//! Batches whose answer was lost, and append-only logs.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind,
    store::{CommitToken, Cursor, LogHead, MetadataStore, Op},
};

/// A batch with a token that was written is not written again, and is answered as the first time,
/// whatever has changed since.
pub async fn a_batch_with_a_token_is_written_once(store: &dyn MetadataStore) {
    let token = CommitToken::random();
    let batch = |again| {
        vec![Op::Once { token, again }, create("a"), start_run("a"), jobs(vec![job("a", "go")])]
    };
    let first = commit(store, batch(false)).await;
    let (before, events) =
        (done(store.jobs(Default::default()).await), done(store.last_event().await));
    let again = commit(store, batch(true)).await;
    assert_eq!(again, first, "the answer is the same");
    assert_eq!(
        (done(store.jobs(Default::default()).await), done(store.last_event().await)),
        (before, events),
        "nothing is written"
    );
    // One that was refused was not written: its token is free.
    let other = CommitToken::random();
    let refusable = |op: Op| vec![Op::Once { token: other, again: true }, op];
    refused(try_commit(store, vec![], refusable(create("a"))).await, ErrorKind::Conflict);
    commit(store, refusable(create("b"))).await;
    assert_ne!(CommitToken::random(), CommitToken::random());
    // Another token is another batch.
    refused(
        try_commit(
            store,
            vec![],
            vec![Op::Once { token: CommitToken::random(), again: true }, create("a")],
        )
        .await,
        ErrorKind::Conflict,
    );
}

/// Entries are numbered and chained, each log by itself; what follows an ignored end adds none; a
/// batch that fails adds none.
pub async fn logs_are_chained(store: &dyn MetadataStore) {
    let append = |log: &str, n: u32| Op::Append {
        log: log.to_owned(),
        payload: json!({"b": n, "a": [null, 1.5, "ü"]}),
        at: at(40),
    };
    assert_eq!(done(store.log_head("x".to_owned()).await), LogHead::EMPTY);
    let run = commit(
        store,
        vec![create("a"), start_run("a"), jobs(vec![job("a", "go")]), append("x", 1)],
    )
    .await;
    commit(store, vec![append("x", 2), append("y", 3), append("x", 4)]).await;
    refused(
        try_commit(store, vec![], vec![append("x", 5), create("a")]).await,
        ErrorKind::Conflict,
    );
    let owner = register(store).await;
    commit(store, vec![succeeded(run.jobs[0], 7, owner), append("x", 6)]).await;
    // Nor does one behind an operation that changed nothing.
    let release = Op::Block { job: run.jobs[0], reason: None, at: at(41) };
    assert_eq!(commit(store, vec![release, append("x", 7)]).await.ignored, [0, 1]);
    let entries = done(store.log_entries("x".to_owned(), 0, 10).await);
    assert_eq!(
        entries.iter().map(|entry| (entry.seq, entry.payload["b"].as_u64())).collect::<Vec<_>>(),
        [(1, Some(1)), (2, Some(2)), (3, Some(4))]
    );
    assert_eq!((entries[0].run, entries[1].run), (run.run, None));
    let head = LogHead::EMPTY
        .follow("x", &entries)
        .unwrap_or_else(|error| panic!("the chain is broken: {error}"));
    assert_eq!(done(store.log_head("x".to_owned()).await), head);
    assert_eq!(done(store.log_entries("x".to_owned(), 1, 1).await), entries[1..2]);
    assert_eq!(done(store.log_entries("y".to_owned(), 0, 10).await).len(), 1);
    assert!(LogHead::EMPTY.follow("y", &entries).is_err(), "an entry belongs to its log");
    let mut changed = entries.clone();
    changed[1].payload = json!(2);
    assert!(LogHead::EMPTY.follow("x", &changed).is_err());
    assert!(
        done(store.events(Cursor::default(), None, 100).await)
            .iter()
            .all(|event| !event.kind.contains("log"))
    );
}
