//! What running jobs measure and keep, and what is asked of them.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind,
    store::{
        Block, Cursor, Finished, JobId, JobSignal, JobState, MetadataStore, MetricFilter,
        MetricRow, NewCheckpoint, Op, OutputRow, PutAction, Telemetry, WorkerId,
    },
};

fn kept(job: JobId, attempt: u32, owner: WorkerId, step: u64) -> NewCheckpoint {
    NewCheckpoint {
        job,
        attempt,
        owner,
        step,
        score: None,
        data: json!({"step": step, "half": 0.1}),
        blobs: Vec::new(),
        drop: Vec::new(),
        at: at(12),
    }
}

fn keep(new: NewCheckpoint) -> Op {
    Op::Checkpoint(Box::new(new))
}

/// A later number of the same name and step takes the place of the earlier one.
pub async fn metrics_are_kept_by_name_and_step(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let metric = |job: JobId, name: &str, step, value| MetricRow {
        job,
        name: name.to_owned(),
        step,
        value,
        at: at(5),
    };
    let note = async |metrics| {
        done(store.record_telemetry(Telemetry { metrics, ..Telemetry::default() }).await)
    };
    let first = vec![
        metric(ids[0], "loss", 10, 0.5),
        metric(ids[0], "loss", 2, 0.1),
        metric(ids[1], "loss", 1, 9.0),
    ];
    note(first).await;
    note(vec![
        metric(ids[0], "accuracy", 2, f64::MAX),
        metric(ids[0], "loss", 10, -0.25),
        metric(ids[0], "loss", 3, f64::NAN),
    ])
    .await;
    let metrics = async |job| -> Vec<MetricRow> {
        let points = done(store.metrics(MetricFilter::of([job])).await);
        assert!(points.iter().all(|point| point.count == 1 && point.min == point.max));
        points.into_iter().map(MetricRow::from).collect()
    };
    let expected = [
        metric(ids[0], "accuracy", 2, f64::MAX),
        metric(ids[0], "loss", 2, 0.1),
        metric(ids[0], "loss", 10, -0.25),
    ];
    assert_eq!(
        metrics(ids[0]).await,
        expected,
        "metrics come by name and step, bit for bit, without NaN"
    );
    assert_eq!(metrics(ids[1]).await.len(), 1);
    assert!(metrics(JobId(999)).await.is_empty());
    let many: Vec<MetricRow> =
        (0..200).map(|step| metric(ids[1], "loss", step, step as f64)).collect();
    note(many.clone()).await;
    assert_eq!(metrics(ids[1]).await, many);
}

/// Numbers ascend and are not given again while the newest is kept.
pub async fn checkpoints_are_numbered_and_dropped(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["one", "two"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let before = done(store.last_event().await);
    let scored = NewCheckpoint { score: Some(0.75), ..kept(ids[0], 1, owner, 10) };
    let two = vec![keep(scored), keep(kept(ids[0], 1, owner, 20)), keep(kept(ids[1], 1, owner, 7))];
    assert_eq!(commit(store, two).await.checkpoints, [(ids[0], 1), (ids[0], 2), (ids[1], 1)]);
    let third =
        NewCheckpoint { drop: vec![1, 99], score: Some(f64::NAN), ..kept(ids[0], 1, owner, 30) };
    assert_eq!(commit(store, vec![keep(third)]).await.checkpoints, [(ids[0], 3)]);
    let rows = done(store.checkpoints(ids[0]).await);
    assert_eq!(
        rows.iter().map(|row| (row.number, row.step, row.attempt)).collect::<Vec<_>>(),
        [(2, 20, 1), (3, 30, 1)]
    );
    assert_eq!(
        (rows[1].score, rows[1].data.clone(), rows[1].at),
        (None, json!({"step": 30, "half": 0.1}), at(12))
    );
    assert_eq!(
        done(store.checkpoints(ids[1]).await).len(),
        1,
        "what another job keeps is left alone"
    );
    assert_eq!(done(store.last_event().await), before, "keeping is no change of a state");
    commit(store, vec![succeeded(ids[0], 1, owner), succeeded(ids[1], 1, owner)]).await;
    assert_eq!(done(store.checkpoints(ids[0]).await).len(), 2, "checkpoints outlive their attempt");
}

/// Only the current attempt keeps anything; what it kept is there for the next one.
pub async fn checkpoints_are_fenced(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let (me, other) = (register(store).await, register(store).await);
    let id = ids[0];
    assert_eq!(
        commit(store, vec![keep(kept(id, 0, me, 1)), keep(kept(id, 1, me, 1))]).await.fenced,
        [id, id]
    );
    commit(store, vec![claim(&ids, me, true), keep(kept(id, 1, me, 5))]).await;
    commit(store, vec![Op::Reclaim { owners: vec![me], at: at(15) }, claim(&ids, other, true)])
        .await;
    let late = NewCheckpoint { blobs: vec![blob("late")], drop: vec![1], ..kept(id, 1, me, 6) };
    let committed =
        commit(store, vec![keep(late), keep(kept(id, 2, me, 6)), keep(kept(id, 1, other, 6))])
            .await;
    assert_eq!((committed.fenced, committed.checkpoints), (vec![id; 3], vec![]));
    assert!(
        done(store.referenced_blobs(None).await).is_empty(),
        "a fenced checkpoint refers to nothing"
    );
    assert_eq!(done(store.checkpoints(id).await).len(), 1, "a fenced checkpoint drops nothing");
    commit(store, vec![keep(kept(id, 2, other, 6))]).await;
    let rows = done(store.checkpoints(id).await);
    assert_eq!(
        rows.iter().map(|row| (row.number, row.attempt)).collect::<Vec<_>>(),
        [(1, 1), (2, 2)]
    );
    let committed = commit(store, vec![succeeded(id, 2, other), keep(kept(id, 2, other, 7))]).await;
    assert_eq!(committed.fenced, [id], "a job that has ended keeps nothing more");
}

/// A checkpoint's blobs are referred to until it goes, alone or with its version.
pub async fn checkpoints_hold_their_blobs(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true)]).await;
    let with = |step, name: &str, drop: &[u32]| {
        keep(NewCheckpoint {
            blobs: vec![blob("shared"), blob(name)],
            drop: drop.to_vec(),
            ..kept(ids[0], 1, owner, step)
        })
    };
    commit(store, vec![with(1, "one", &[]), with(2, "two", &[1])]).await;
    let referenced = async || {
        let mut all: Vec<_> = done(store.referenced_blobs(None).await)
            .into_iter()
            .map(|(digest, _)| digest)
            .collect();
        all.sort();
        all
    };
    let mut expected = vec![digest("shared"), digest("two")];
    expected.sort();
    assert_eq!(referenced().await, expected, "what is dropped refers to nothing");
    assert_eq!(mark(store, &["one", "two"]).await, [digest("one")]);
    refused(try_commit(store, vec![], vec![with(3, "one", &[])]).await, ErrorKind::Conflict);
    commit(store, vec![confirm(store, &["one"]).await, succeeded(ids[0], 1, owner)]).await;
    assert_eq!(referenced().await, expected, "success leaves checkpoints alone");
    assert_eq!(done(store.blobs_of(address("a"), vec![0]).await).len(), 2);
    commit(store, vec![Op::Delete { address: address("a"), versions: vec![0] }]).await;
    assert!(referenced().await.is_empty());
    assert!(done(store.checkpoints(ids[0]).await).is_empty(), "checkpoints go with the version");
}

/// Wishes are marks that the one who runs the job sees.
pub async fn wishes_stay_until_they_are_fulfilled(store: &dyn MetadataStore) {
    let (_, ids) = run_of(store, "a", &["go", "done"]).await;
    let owner = register(store).await;
    commit(store, vec![claim(&ids, owner, true), succeeded(ids[1], 1, owner)]).await;
    let before = done(store.last_event().await);
    commit(store, vec![Op::Signal { jobs: ids.clone(), signal: JobSignal::Pause }]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.pause_requested, row.stop_requested, row.cancel_requested),
        (true, false, false)
    );
    assert!(!job_row(store, ids[1]).await.pause_requested, "nothing is asked of a final job");
    assert_eq!(kinds_after(store, before).await, ["job.signalled"], "final jobs are not told");
    commit(
        store,
        vec![
            Op::Signal { jobs: ids.clone(), signal: JobSignal::Stop },
            Op::Signal { jobs: ids.clone(), signal: JobSignal::Continue },
        ],
    )
    .await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.pause_requested, row.stop_requested),
        (false, true),
        "only the wish to pause is taken back"
    );
    commit(store, vec![Op::Signal { jobs: ids.clone(), signal: JobSignal::Pause }]).await;
    commit(store, vec![finish(ids[0], 1, owner, Finished::Blocked(Block::new("paused")))]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.state, row.pause_requested, row.stop_requested),
        (JobState::Blocked, false, true)
    );
    commit(store, vec![Op::Signal { jobs: ids.clone(), signal: JobSignal::Cancel }]).await;
    let row = job_row(store, ids[0]).await;
    assert_eq!(
        (row.pause_requested, row.stop_requested, row.cancel_requested),
        (false, true, true)
    );
}

/// What was written is read, however deep it is nested: documents, outputs, results, messages and
/// checkpoints.
pub async fn values_of_any_depth_come_back(store: &dyn MetadataStore) {
    for (name, levels) in [("a", 127), ("b", 128), ("c", 900)] {
        let value = (0..levels).fold(json!(1), |inner, _| json!([inner]));
        let mut made = put(PutAction::Create, name, 0, 0);
        made.document = value.clone();
        let committed =
            commit(store, vec![Op::Put(made), start_run(name), jobs(vec![job(name, "go")])]).await;
        let id = committed.jobs[0];
        let owner = register(store).await;
        let state = NewCheckpoint { data: value.clone(), ..kept(id, 1, owner, 1) };
        let mut end = finish_of(id, 1, owner, Finished::Succeeded(value.clone()));
        end.outputs =
            vec![OutputRow { name: "o".to_owned(), value: value.clone(), blobs: Vec::new() }];
        end.messages = vec![("t".to_owned(), value.clone())];
        commit(store, vec![claim(&[id], owner, true), keep(state), Op::Finish(Box::new(end))])
            .await;
        let stored = done(store.tree(address(name)).await).remove(0);
        assert!(
            stored.document == value && stored.outputs["o"] == value,
            "a document and an output of {levels} levels"
        );
        let snapshot = done(store.snapshot(vec![address(name)]).await);
        assert!(
            snapshot.components.values().all(|stored| stored.document == value),
            "a snapshot, {levels} levels"
        );
        assert!(
            job_row(store, id).await.result.as_ref() == Some(&value),
            "a result of {levels} levels"
        );
        assert!(
            done(store.messages(Cursor::default(), 10).await)
                .iter()
                .any(|row| row.payload == value),
            "a message of {levels} levels"
        );
        assert!(
            done(store.checkpoints(id).await)[0].data == value,
            "a checkpoint of {levels} levels"
        );
        let audited = done(store.audit(None, 10).await);
        assert!(
            audited.iter().any(|row| row.document.as_ref() == Ok(&value)),
            "an audit, {levels} levels"
        );
    }
    assert!(done(store.check().await).is_empty(), "nothing is wrong with them");
}
