//! Forgetting jobs, runs and logs.

use super::fixture::*;
use serde_json::json;
use superduper_core::{
    ErrorKind,
    store::{
        Batch, Cursor, Durability, JobFilter, JobId, JobRef, LogFilter, LogLevel, LogRow,
        MetadataStore, MetricFilter, MetricRow, Need, NewCheckpoint, Op, RunFilter, RunId,
        RunState, Telemetry,
    },
};

fn forget(runs: &[RunId], jobs: &[JobId]) -> Op {
    Op::Forget { runs: runs.to_vec(), jobs: jobs.to_vec(), logs: Vec::new() }
}

/// A run of a new component whose two jobs are done, the second after the first.
async fn ended(store: &dyn MetadataStore, name: &str) -> (RunId, Vec<JobId>) {
    let second = job(name, "second").needs(vec![Need::success(JobRef::New(0))]);
    let new = vec![job(name, "first"), second];
    let committed = commit(store, vec![create(name), start_run(name), jobs(new)]).await;
    let run = committed.run.expect("the batch has a run");
    end(store, run, &committed.jobs).await;
    (run, committed.jobs)
}

async fn end(store: &dyn MetadataStore, run: RunId, jobs: &[JobId]) {
    let owner = register(store).await;
    for job in jobs {
        commit(store, vec![claim(&[*job], owner, true)]).await;
        commit(store, vec![succeeded(*job, 1, owner)]).await;
    }
    commit(store, vec![Op::EndRun { run, state: RunState::Succeeded, at: at(30) }]).await;
}

fn line(job: JobId, message: &str) -> LogRow {
    LogRow { job, attempt: 1, at: at(15), level: LogLevel::Info, message: message.to_owned() }
}

async fn write_lines(store: &dyn MetadataStore, logs: Vec<LogRow>) {
    done(store.record_telemetry(Telemetry { logs, ..Telemetry::default() }).await);
}

async fn ids(store: &dyn MetadataStore) -> (Vec<RunId>, Vec<JobId>) {
    let runs = done(store.runs(RunFilter::default()).await);
    let jobs = done(store.jobs(JobFilter::default()).await);
    (runs.iter().map(|run| run.id).collect(), jobs.iter().map(|job| job.id).collect())
}

/// Nothing of a forgotten job and run can be read any more; all else is as before.
pub async fn forgotten_jobs_leave_nothing(store: &dyn MetadataStore) {
    let owner = register(store).await;
    let new = vec![job("a", "first")];
    let committed = commit(store, vec![create("a"), start_run("a"), jobs(new)]).await;
    let (run, id) = (committed.run.expect("a run"), committed.jobs[0]);
    commit(store, vec![claim(&[id], owner, true)]).await;
    let blobs = vec![blob("state")];
    let kept = NewCheckpoint {
        job: id,
        attempt: 1,
        owner,
        step: 1,
        score: None,
        data: json!(1),
        blobs,
        drop: Vec::new(),
        at: at(12),
    };
    commit(store, vec![Op::Checkpoint(Box::new(kept))]).await;
    let metric = MetricRow { job: id, name: "loss".to_owned(), step: 1, value: 0.5, at: at(13) };
    let notes = Telemetry {
        logs: vec![line(id, "one"), line(id, "two")],
        progress: vec![(id, 1, 2)],
        metrics: vec![metric],
    };
    done(store.record_telemetry(notes).await);
    let mut end =
        finish_of(id, 1, owner, superduper_core::store::Finished::Succeeded(json!("done")));
    end.blobs = vec![blob("result")];
    end.sweep_epoch = Some(0);
    commit(store, vec![Op::Finish(Box::new(end))]).await;
    commit(store, vec![Op::EndRun { run, state: RunState::Succeeded, at: at(30) }]).await;
    let (other_run, others) = ended(store, "b").await;
    let before = job_row(store, others[0]).await;

    let gone = commit(store, vec![forget(&[run], &[id])]).await;
    assert_eq!(gone.forgotten_logs, 2, "the deleted lines are counted");
    assert_eq!(ids(store).await, (vec![other_run], others.clone()), "the others stay");
    assert!(done(store.logs(LogFilter::of(id)).await).is_empty(), "its log is gone");
    assert!(done(store.metrics(MetricFilter::of([id])).await).is_empty(), "its metrics are gone");
    assert!(done(store.checkpoints(id).await).is_empty(), "its checkpoints are gone");
    assert!(done(store.attempts(id).await).is_empty(), "its attempts are gone");
    assert!(
        done(store.referenced_blobs(None).await).is_empty(),
        "its blobs are referred to no more"
    );
    let events = done(store.events(Cursor::default(), None, 10_000).await).rows;
    assert!(
        events.iter().all(|event| event.job != Some(id) && event.run != Some(run)),
        "{events:?}"
    );
    assert_eq!(job_row(store, others[0]).await, before, "another job is as it was");
    assert_eq!(done(store.versions(address("a")).await).len(), 1, "its component stays");
    commit(store, vec![forget(&[run], &[id])]).await;
}

/// A job that something refers to, and a run with jobs, are refused; nothing is written then.
pub async fn what_is_needed_is_not_forgotten(store: &dyn MetadataStore) {
    let (run, old) = ended(store, "a").await;
    let refuses = async |op: Op, what: &str| {
        let before = ids(store).await;
        let refused = store
            .commit(Batch { expect: Vec::new(), ops: vec![op] }, Durability::Relaxed)
            .await
            .expect_err(what);
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{what}: {refused:?}");
        assert_eq!(ids(store).await, before, "{what}: nothing is written");
    };
    refuses(forget(&[], &old[1..]), "the newest job").await;
    let again = job("a", "second").retry_of(old[1]);
    let waits = job("a", "third").needs(vec![Need::success(JobRef::Id(old[0]))]);
    let committed = commit(store, vec![start_run("a"), jobs(vec![again, waits])]).await;
    let (open, new) = (committed.run.expect("a run"), committed.jobs);
    refuses(forget(&[], &old[1..]), "a job that another one tries again").await;
    refuses(forget(&[], &old[..1]), "a job that another one waits for").await;
    refuses(forget(&[run], &[]), "a run with jobs").await;
    refuses(forget(&[open], &[]), "a run that is not over").await;
    refuses(forget(&[], &new[..1]), "a job that is not final").await;
    end(store, open, &new).await;
    refuses(forget(&[open], &[]), "the newest run").await;
    ended(store, "b").await;
    // All that refer to each other go together.
    let all: Vec<JobId> = old.iter().chain(&new).copied().collect();
    commit(store, vec![forget(&[run, open], &all)]).await;
    assert_eq!(ids(store).await.0.len(), 1);
}

/// New runs, jobs and events have numbers that none had before.
pub async fn numbers_are_not_used_twice(store: &dyn MetadataStore) {
    let (run, old) = ended(store, "a").await;
    let (newest, others) = ended(store, "b").await;
    let place = done(store.last_event().await);
    commit(store, vec![forget(&[run], &old)]).await;
    let (third, new) = ended(store, "c").await;
    assert!(third > newest && new[0] > others[1], "{third} {new:?}");
    let events = events_after(store, place).await;
    assert!(events.iter().any(|event| event.run == Some(third)), "readers see what is new");
}

/// The logs of a job may go while the job stays.
pub async fn logs_go_alone(store: &dyn MetadataStore) {
    let (run, jobs) = ended(store, "a").await;
    write_lines(store, vec![line(jobs[0], "one"), line(jobs[1], "two")]).await;
    let op = Op::Forget { runs: Vec::new(), jobs: Vec::new(), logs: vec![jobs[0]] };
    assert_eq!(commit(store, vec![op]).await.forgotten_logs, 1);
    assert!(done(store.logs(LogFilter::of(jobs[0])).await).is_empty());
    assert_eq!(done(store.logs(LogFilter::of(jobs[1])).await).len(), 1);
    assert_eq!(ids(store).await, (vec![run], jobs.clone()));
    write_lines(store, vec![line(jobs[0], "three")]).await;
    assert_eq!(done(store.logs(LogFilter::of(jobs[0])).await).len(), 1);
}
