//! What comes with a job's success.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind,
    store::{
        Cursor, Finished, JobFilter, JobRef, JobSignal, JobState, MetadataStore, Need, Op,
        OutputRow,
    },
};

/// Spawned jobs join the run of their spawner, together with its result.
pub async fn spawned_jobs_come_with_success(store: &dyn MetadataStore) {
    let (run, ids) = run_of(store, "a", &["plan", "after"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids[..1], owner, true)]).await;
    let keyed = |key: &str, needs| job("a", "work").key(key.to_owned()).needs(needs);
    let spawned = vec![
        keyed("k0", vec![]),
        keyed(
            "k1",
            vec![Need {
                job: JobRef::New(0),
                parameter: Some("before".to_owned()),
                any_end: false,
            }],
        ),
        keyed("k2", vec![Need::success(JobRef::Id(ids[0]))]).claim(owner),
    ];
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.spawned = spawned;
    end.spawned_before = vec![(ids[1], 1), (ids[1], 2)];
    let committed = commit(store, vec![Op::Finish(Box::new(end))]).await;
    let [(spawner, new)] = &committed.spawned[..] else {
        panic!("spawned jobs are told: {committed:?}")
    };
    assert_eq!((*spawner, new.len()), (ids[0], 3));
    assert!(
        new.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0),
        "ids of spawned jobs are consecutive"
    );
    assert_eq!(claimed(&committed), [(new[2], 1)]);
    let row = job_row(store, new[1]).await;
    assert_eq!((row.run, row.key.as_deref(), row.state), (run, Some("k1"), JobState::Queued));
    let mut order: Vec<_> = done(store.dependencies(run).await)
        .into_iter()
        .map(|line| (line.job, line.needs, line.parameter))
        .collect();
    order.sort();
    let mut expected = vec![
        (ids[1], new[1], None),
        (ids[1], new[2], None),
        (new[1], new[0], Some("before".to_owned())),
        (new[2], ids[0], None),
    ];
    expected.sort();
    assert_eq!(
        order, expected,
        "spawned jobs are ordered among each other and before those that wait for the spawner"
    );
}

/// A second job of a known key is the first one.
pub async fn keys_are_unique_in_a_run(store: &dyn MetadataStore) {
    let keyed = |key: &str| job("a", "work").key(key.to_owned());
    let committed = commit(
        store,
        vec![create("a"), start_run("a"), jobs(vec![job("a", "one"), job("a", "two"), keyed("x")])],
    )
    .await;
    let (run, ids) = (committed.run, committed.jobs);
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 1, owner, Finished::Succeeded(json!(1)));
    end.spawned = vec![keyed("y"), keyed("x"), keyed("y"), keyed("z")];
    let first = commit(store, vec![Op::Finish(Box::new(end.clone()))]).await.spawned.remove(0).1;
    assert_eq!((first[1], first[2]), (ids[2], first[0]), "a known key gives the id it has");
    assert_eq!(first[3].0, first[0].0 + 1, "only new keys get an id");
    end.job = ids[1];
    let second = commit(store, vec![Op::Finish(Box::new(end))]).await.spawned.remove(0).1;
    assert_eq!(second, first, "spawning the same again gives the same jobs");
    let rows = done(store.jobs(JobFilter { run, ..JobFilter::default() }).await);
    assert_eq!(rows.len(), 5, "no key is recorded twice");
    let other = commit(store, vec![start_run("a"), jobs(vec![keyed("x")])]).await;
    assert!(!ids.contains(&other.jobs[0]), "another run has its own keys");
}

/// Messages wait in order until they are delivered.
pub async fn messages_wait_until_delivered(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut failed = finish_of(ids[0], 1, owner, Finished::Retry(failure("x"), at(1)));
    failed.messages = vec![("t".to_owned(), json!("lost"))];
    failed.spawned = vec![job("a", "lost")];
    let mut end = finish_of(ids[1], 1, owner, Finished::Succeeded(json!(1)));
    end.messages = vec![("t".to_owned(), json!({"n": 1})), ("u".to_owned(), json!({"n": 2}))];
    let committed =
        commit(store, vec![Op::Finish(Box::new(failed)), Op::Finish(Box::new(end))]).await;
    assert!(committed.spawned.is_empty(), "only success spawns");
    let waiting = done(store.messages(Cursor::default(), 10).await);
    let lines: Vec<_> =
        waiting.iter().map(|row| (row.job, row.topic.as_str(), row.payload.clone())).collect();
    assert_eq!(
        lines,
        [(ids[1], "t", json!({"n": 1})), (ids[1], "u", json!({"n": 2}))],
        "messages come with success, in order"
    );
    assert_eq!(done(store.messages(Cursor::default(), 1).await).len(), 1);
    assert_eq!(
        done(store.messages(done(store.messages(Cursor::default(), 1).await).next, 10).await)
            .iter()
            .map(|row| row.id)
            .collect::<Vec<_>>(),
        [waiting[1].id]
    );
    commit(store, waiting.iter().rev().map(|row| Op::Delivered { message: row.id }).collect())
        .await;
    assert!(
        done(store.messages(Cursor::default(), 10).await).is_empty(),
        "a delivered message does not wait"
    );
    commit(store, vec![claim(&ids, owner, true)]).await;
    let mut end = finish_of(ids[0], 2, owner, Finished::Succeeded(json!(1)));
    end.messages = vec![("t".to_owned(), json!(3))];
    commit(store, vec![Op::Finish(Box::new(end))]).await;
    let id = done(store.messages(Cursor::default(), 10).await)[0].id;
    assert!(
        waiting.iter().all(|row| row.id != id),
        "the id of a delivered message is not used again"
    );
}

/// What a job spawns that was asked to be cancelled, and succeeded all the same, is to be cancelled
/// too.
pub async fn spawned_jobs_inherit_the_wish_to_cancel(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["asked", "not_asked"]).await;
    let owner = register(store).await;
    commit(
        store,
        vec![
            claim(&ids, owner, true),
            Op::Signal { jobs: vec![ids[0]], signal: JobSignal::Cancel },
        ],
    )
    .await;
    for (id, wanted) in [(ids[0], true), (ids[1], false)] {
        let mut end = finish_of(id, 1, owner, Finished::Succeeded(json!(1)));
        end.spawned = vec![job("a", "more").key("known".to_owned()), job("a", "more")];
        let spawned = commit(store, vec![Op::Finish(Box::new(end))]).await.spawned.remove(0).1;
        assert_eq!(job_row(store, spawned[1]).await.cancel_requested, wanted, "{id}");
        // The first spawner of a key makes the job.
        assert!(job_row(store, spawned[0]).await.cancel_requested, "{id}");
    }
}

/// Outputs are set with success only, and replaced.
pub async fn outputs_come_with_success(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let end = |id, attempt, value: i64, end| {
        let output = OutputRow {
            name: "weights".to_owned(),
            value: json!(value),
            blobs: vec![blob(&format!("b{value}"))],
        };
        let mut finish = finish_of(id, attempt, owner, end);
        finish.outputs = vec![output];
        Op::Finish(Box::new(finish))
    };
    commit(store, vec![end(ids[0], 1, 1, Finished::Retry(failure("x"), at(1)))]).await;
    let read =
        async || done(store.tree(address("a")).await).remove(0).outputs.get("weights").cloned();
    assert_eq!(read().await, None, "a failed attempt sets no output");
    commit(store, vec![end(ids[1], 1, 2, Finished::Succeeded(json!(1)))]).await;
    assert_eq!(read().await, Some(json!(2)));
    assert_eq!(
        done(store.snapshot(vec![address("a")]).await).components["test.Kind/a"].outputs["weights"],
        json!(2)
    );
    commit(store, vec![claim(&ids, owner, true), end(ids[0], 2, 3, Finished::Succeeded(json!(1)))])
        .await;
    assert_eq!(read().await, Some(json!(3)), "a later output replaces an earlier one");
    let blobs: Vec<_> =
        done(store.referenced_blobs(None).await).into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(blobs, [digest("b3")], "a replaced output refers to no blob");
    let missing = job("a", "x").target(exact("absent", 0, 0));
    let (_, more) = run_of(store, "b", &["go"]).await;
    commit(store, vec![claim(&more, owner, true)]).await;
    let mut bad = finish_of(more[0], 1, owner, Finished::Succeeded(json!(1)));
    bad.spawned = vec![missing];
    refused(try_commit(store, vec![], vec![Op::Finish(Box::new(bad))]).await, ErrorKind::NotFound);
    assert_eq!(
        state(store, more[0]).await,
        JobState::Running,
        "a refused end leaves the job as it was"
    );
}
