//! Jobs that wait come to their turn, and to their end, whoever was in the way: other runs, other
//! processes, those that are gone.

use crate::support::until::until;
use crate::{
    process::{Again, Isolated, program},
    support::{databases, in_folder, in_memory},
};
use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use superduper::{
    prelude::*,
    store::{
        Batch, Durability, JobFilter, JobSignal, JobState, Op, RunFilter, RunState, Timestamp,
    },
};
use tokio::sync::Notify;

/// Gates by name: jobs tell that they started, and wait until they are let go on.
static GATES: LazyLock<Mutex<HashMap<String, Arc<Gate>>>> = LazyLock::new(Default::default);

#[derive(Default)]
struct Gate {
    started: Notify,
    open: Notify,
    fails: AtomicBool,
    runs: AtomicUsize,
}

fn gate(name: &str) -> Arc<Gate> {
    GATES.lock().expect("no panic").entry(name.to_owned()).or_default().clone()
}

impl Gate {
    async fn pass(&self) -> Result<()> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.started.notify_one();
        self.open.notified().await;
        if self.fails.load(Ordering::SeqCst) {
            Err(Error::msg("told to fail").fatal())
        } else {
            Ok(())
        }
    }
}

/// A process of its own, as far as the database can tell: its runtime goes away in the middle of
/// whatever it does.
fn process_that_dies<F: Future>(work: F) -> F::Output {
    let runtime = runtime();
    let output = runtime.block_on(work);
    runtime.shutdown_background();
    // What ran there lets go of the database when it is dropped.
    std::thread::sleep(Duration::from_millis(300));
    output
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn open(folder: &Path) -> Db {
    Db::open(folder).await.expect("opens")
}

fn database() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("my.db");
    (folder, path)
}

async fn states(db: &Db) -> Vec<(String, JobState)> {
    db.jobs(JobFilter::default())
        .await
        .expect("jobs")
        .into_iter()
        .map(|job| (job.method, job.state))
        .collect()
}

#[derive(Component, Clone)]
#[component(kind = "liveness.Nap")]
struct Nap {
    identifier: String,
    ms: u64,
}

#[triggers]
impl Nap {
    #[trigger("apply")]
    async fn work(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(self.ms)).await;
        Ok(())
    }
}

/// Waits at the gate of its name.
#[derive(Component, Clone)]
#[component(kind = "liveness.Slow")]
struct Slow {
    identifier: String,
    a: i64,
}

#[triggers]
impl Slow {
    #[trigger("apply", watch = "a")]
    async fn work(&self) -> Result<i64> {
        gate(&self.identifier).pass().await?;
        Ok(self.a)
    }
    #[trigger("apply")]
    fn after(&self, work: i64) -> Result<i64> {
        Ok(work + 1)
    }
}

fn slow(name: &str, a: i64) -> Slow {
    Slow { identifier: name.into(), a }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_runs_that_wait_for_a_slot_get_it_one_after_the_other() {
    for count in [2, 5, 16] {
        let on = in_memory().await;
        let db = Db::builder()
            .metadata(on.metadata.clone())
            .artifacts(on.artifacts.clone())
            .parallelism(1)
            .build()
            .await
            .expect("opens");
        let mut runs = Vec::new();
        for number in 0..count {
            runs.push(
                db.apply(Nap { identifier: format!("nap{number}"), ms: 20 })
                    .detach()
                    .await
                    .expect("applies"),
            );
        }
        for run in runs {
            run.wait_timeout(Duration::from_secs(20)).await.expect("comes to its turn");
        }
    }
}

#[tokio::test]
async fn t08_the_failure_of_a_stale_attempt_skips_nothing() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("stale{round}");
        gate(&name).fails.store(true, Ordering::SeqCst);
        let run = on.db.apply(slow(&name, 1)).detach().await.expect("applies");
        gate(&name).started.notified().await;
        let job = run.jobs().await.expect("jobs")[0].clone();
        // Another owner takes the job over, as after a lapse of the lease.
        let other = on.db.metadata().register_worker(Default::default()).await.expect("an owner");
        let at = Timestamp::now();
        let ops = vec![
            Op::Reclaim { owners: job.owner.into_iter().collect(), at },
            Op::Claim { jobs: vec![job.id], owner: other, start: true, pool: None, at },
        ];
        on.db
            .metadata()
            .commit(Batch { expect: Vec::new(), ops }, Durability::Full)
            .await
            .expect("commits");
        gate(&name).open.notify_one();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            states(&on.db).await,
            [("work".to_owned(), JobState::Running), ("after".to_owned(), JobState::Queued)]
        );
    }
}

/// Spawns a job that waits at the gate, before which `last` must not run.
#[derive(Component, Clone)]
#[component(kind = "liveness.Grow")]
struct Grow {
    identifier: String,
}

#[triggers]
impl Grow {
    #[trigger("apply")]
    async fn first(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("s", ctx.address(), "spawned", &[])
    }
    #[trigger("apply", depends_on = "first")]
    async fn last(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("call")]
    async fn spawned(&self) -> Result<()> {
        gate(&self.identifier).pass().await
    }
}

#[test]
fn t08_after_a_crash_jobs_still_wait_for_spawned_ones() {
    let (_folder, path) = database();
    process_that_dies(async {
        open(&path)
            .await
            .apply(Grow { identifier: "grow".into() })
            .detach()
            .await
            .expect("applies");
        gate("grow").started.notified().await;
    });
    runtime().block_on(async {
        let db = open(&path).await;
        let runs = db.resume().detach().await.expect("resumes");
        gate("grow").started.notified().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let last = states(&db)
            .await
            .into_iter()
            .find(|(method, _)| method == "last")
            .expect("it is on record");
        assert_eq!(last.1, JobState::Queued, "what it waits for runs");
        gate("grow").open.notify_one();
        runs[0].wait_timeout(Duration::from_secs(20)).await.expect("succeeds");
        assert!(states(&db).await.iter().all(|(_, state)| *state == JobState::Succeeded));
    });
}

/// Two jobs spawn under one key; `last` waits for the second of them.
#[derive(Component, Clone)]
#[component(kind = "liveness.Same")]
struct Same {
    identifier: String,
}

#[triggers]
impl Same {
    #[trigger("apply")]
    async fn one(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("k", ctx.address(), "spawned", &[])
    }
    #[trigger("apply")]
    async fn two(&self, ctx: &JobContext) -> Result<()> {
        gate("same").started.notified().await;
        ctx.spawn("k", ctx.address(), "spawned", &[])
    }
    #[trigger("apply", depends_on = "two")]
    async fn last(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("call")]
    async fn spawned(&self) -> Result<()> {
        gate("same").pass().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_who_spawns_under_a_known_key_is_waited_for_too() {
    for on in databases().await {
        let db = Db::builder()
            .metadata(on.metadata.clone())
            .artifacts(on.artifacts.clone())
            .parallelism(4)
            .build()
            .await
            .expect("opens");
        let run = db.apply(Same { identifier: "same".into() }).detach().await.expect("applies");
        let state = async |wanted: &str| {
            states(&db)
                .await
                .into_iter()
                .find(|(method, _)| method == wanted)
                .map(|(_, state)| state)
        };
        until("the end of `two`", async || state("two").await == Some(JobState::Succeeded)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(state("last").await, Some(JobState::Queued), "the job under the key runs");
        gate("same").open.notify_one();
        run.wait_timeout(Duration::from_secs(20)).await.expect("succeeds");
    }
}

#[test]
fn a17_an_apply_after_a_crash_runs_what_it_has_to_wait_for() {
    let (_folder, path) = database();
    process_that_dies(async {
        open(&path).await.apply(slow("before", 1)).detach().await.expect("applies");
        gate("before").started.notified().await;
    });
    runtime().block_on(async {
        let db = open(&path).await;
        let run = db.apply(slow("before", 2)).detach().await.expect("applies");
        for _ in 0..2 {
            gate("before").started.notified().await;
            gate("before").open.notify_one();
        }
        let outcome = run
            .wait_timeout(Duration::from_secs(20))
            .await
            .expect("succeeds")
            .expect("it had jobs");
        assert_eq!(outcome.result::<i64>("after").expect("a result"), 3);
        let runs = db.metadata().runs(RunFilter::default()).await.expect("runs");
        assert!(runs.iter().all(|run| run.state == RunState::Succeeded), "{runs:?}");
    });
}

/// Two jobs that look whether they are cancelled.
#[derive(Component, Clone)]
#[component(kind = "liveness.Two")]
struct Two {
    identifier: String,
}

#[triggers]
impl Two {
    #[trigger("apply")]
    async fn one(&self, ctx: &JobContext) -> Result<()> {
        until_cancelled(ctx).await
    }
    #[trigger("apply")]
    async fn other(&self, ctx: &JobContext) -> Result<()> {
        until_cancelled(ctx).await
    }
}

async fn until_cancelled(ctx: &JobContext) -> Result<()> {
    let late = tokio::time::timeout(Duration::from_secs(20), ctx.until_cancelled()).await;
    late.map_or(Ok(()), |()| ctx.check_cancelled())
}

#[test]
fn t15_a_run_is_cancelled_wherever_its_jobs_are() {
    let (_folder, path) = database();
    let (one, other) = (runtime(), runtime());
    let run = one.block_on(async {
        let db = open(&path).await;
        let run = db.apply(Two { identifier: "two".into() }).detach().await.expect("applies");
        until("both run", async || {
            states(&db).await.iter().all(|(_, state)| *state == JobState::Running)
        })
        .await;
        run
    });
    other.block_on(async {
        let db = open(&path).await;
        db.resume().detach().await.expect("joins the run");
        db.cancel(run.id().expect("a run")).await.expect("asks");
        until("both are cancelled", async || {
            states(&db).await.iter().all(|(_, state)| *state == JobState::Cancelled)
        })
        .await;
    });
}

#[test]
fn t15_a_cancel_on_record_outlasts_the_process_that_was_asked() {
    let (_folder, path) = database();
    process_that_dies(async {
        let db = open(&path).await;
        let run = db.apply(slow("marked", 1)).detach().await.expect("applies");
        gate("marked").started.notified().await;
        let jobs = vec![run.jobs().await.expect("jobs")[0].id];
        let batch =
            Batch { expect: Vec::new(), ops: vec![Op::Signal { jobs, signal: JobSignal::Cancel }] };
        db.metadata().commit(batch, Durability::Full).await.expect("commits");
    });
    runtime().block_on(async {
        let db = open(&path).await;
        db.resume().await.expect("resumes");
        assert_eq!(
            states(&db).await,
            [("work".to_owned(), JobState::Cancelled), ("after".to_owned(), JobState::Skipped)]
        );
        assert_eq!(gate("marked").runs.load(Ordering::SeqCst), 1, "it was not run again");
    });
}

#[tokio::test]
async fn t15_a_cancelled_run_does_not_wait_for_what_its_jobs_would_have_waited_for() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("ahead{round}");
        let first = on.db.apply(slow(&name, 1)).detach().await.expect("applies");
        gate(&name).started.notified().await;
        let second = on.db.apply(slow(&name, 2)).detach().await.expect("applies");
        second.cancel().await.expect("asks");
        let error =
            second.wait_timeout(Duration::from_secs(10)).await.expect_err("it was cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        gate(&name).open.notify_one();
        first.wait().await.expect("succeeds");
    }
}

#[derive(Component, Clone)]
#[component(kind = "liveness.Later")]
struct Later {
    identifier: String,
}

#[triggers]
impl Later {
    #[trigger("apply", retries = 1, backoff = "60s")]
    async fn go(&self) -> Result<()> {
        Err(Error::msg("not yet"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_what_another_process_ends_while_it_waits_for_its_next_try_is_seen() {
    let (_folder, path) = database();
    let db = open(&path).await;
    let run = db.apply(Later { identifier: "later".into() }).detach().await.expect("applies");
    let job = async || run.jobs().await.expect("jobs")[0].clone();
    until("the first try", async || job().await.not_before.is_some()).await;
    open(&path).await.cancel(job().await.id).await.expect("cancels");
    let error = run.wait_timeout(Duration::from_secs(20)).await.expect_err("it was cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_of_a_worker_process_are_seen_by_jobs_here() {
    let (_folder, path) = database();
    let db =
        Db::builder().at(&path).expect("a folder").program(program()).build().await.expect("opens");
    let applied = db
        .apply(Isolated { identifier: "outputs".into(), made: Output::empty() })
        .await
        .expect("succeeds");
    assert_eq!(
        applied.result::<u32>("reads").expect("a result"),
        applied.result::<u32>("there").expect("a result")
    );
}

/// Each round spawns the next one, and does not look whether it is cancelled.
#[derive(Component, Clone)]
#[component(kind = "liveness.Rounds")]
struct Rounds {
    identifier: String,
}

#[triggers]
impl Rounds {
    #[trigger("apply")]
    async fn round(&self, ctx: &JobContext) -> Result<()> {
        let number: u64 = ctx.key().map_or(0, |key| key.parse().expect("a number"));
        gate(&self.identifier).started.notify_one();
        gate(&self.identifier).runs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if number < 30 {
            ctx.spawn((number + 1).to_string(), ctx.address(), "round", &[])
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn t15_a_cancelled_run_does_not_grow_on() {
    for (place, on) in databases().await.into_iter().enumerate() {
        let name = format!("rounds{place}");
        let run = on.db.apply(Rounds { identifier: name.clone() }).detach().await.expect("applies");
        gate(&name).started.notified().await;
        run.cancel().await.expect("asks");
        let error = run.wait_timeout(Duration::from_secs(10)).await.expect_err("it was cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        let runs = gate(&name).runs.load(Ordering::SeqCst);
        assert!(runs < 5, "{runs} rounds");
    }
}

#[tokio::test]
async fn r01_a_removal_waits_for_jobs_that_were_spawned_meanwhile() {
    for (place, on) in databases().await.into_iter().enumerate() {
        let name = format!("removed{place}");
        let run = on.db.apply(Rounds { identifier: name.clone() }).detach().await.expect("applies");
        gate(&name).started.notified().await;
        on.db.remove::<Rounds>(&name).await.expect("removes");
        let runs = gate(&name).runs.load(Ordering::SeqCst);
        assert!(runs < 5, "{runs} rounds");
        let jobs = on.jobs().await;
        assert!(jobs.iter().all(|job| job.state.is_terminal()), "{jobs:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(gate(&name).runs.load(Ordering::SeqCst), runs, "nothing runs after the removal");
        let ended = run.wait_timeout(Duration::from_secs(10)).await;
        assert_eq!(ended.expect_err("it was cancelled").kind(), ErrorKind::Cancelled);
    }
}

/// Sends so many messages.
#[derive(Component, Clone)]
#[component(kind = "liveness.Sender")]
struct Sender {
    identifier: String,
    topic: String,
    count: u64,
}

#[triggers]
impl Sender {
    #[trigger("apply")]
    async fn send(&self, ctx: &JobContext) -> Result<()> {
        (0..self.count).try_for_each(|number| ctx.emit(self.topic.clone(), number))
    }
}

fn sender(topic: &str, count: u64) -> Sender {
    Sender { identifier: topic.into(), topic: topic.into(), count }
}

#[tokio::test]
async fn messages_that_nobody_receives_stand_in_nobodys_way() {
    for on in databases().await {
        on.db.apply(sender("unheard", 600)).await.expect("sends");
        on.db.apply(sender("heard", 2)).await.expect("sends");
        let received: Arc<Mutex<Vec<u64>>> = Arc::default();
        let kept = received.clone();
        on.db.on_message("heard", move |message| {
            let (kept, number) = (kept.clone(), message.payload.as_u64().expect("a number"));
            async move {
                kept.lock().expect("no panic").push(number);
                Ok::<(), Error>(())
            }
        });
        until("the delivery", async || received.lock().expect("no panic").len() == 2).await;
        assert_eq!(*received.lock().expect("no panic"), [0, 1]);
        let left = on
            .db
            .metadata()
            .messages(superduper::store::Cursor::default(), 1000)
            .await
            .expect("messages");
        until("the marks", async || {
            on.db
                .metadata()
                .messages(superduper::store::Cursor::default(), 1000)
                .await
                .expect("messages")
                .len()
                == 600
        })
        .await;
        assert!(left.len() <= 602);
    }
}

#[tokio::test]
async fn a_handler_that_panics_gets_the_message_again_and_stops_no_other() {
    for on in databases().await {
        let received: Arc<Mutex<Vec<u64>>> = Arc::default();
        let kept = received.clone();
        on.db.on_message("shaky", move |message| {
            let (kept, number) = (kept.clone(), message.payload.as_u64().expect("a number"));
            async move {
                let first = {
                    let mut kept = kept.lock().expect("no panic");
                    kept.push(number);
                    kept.len() == 1
                };
                assert!(!first, "the first delivery panics");
                Ok::<(), Error>(())
            }
        });
        on.db.apply(sender("shaky", 2)).await.expect("sends");
        until("the deliveries", async || received.lock().expect("no panic").len() == 3).await;
        assert_eq!(*received.lock().expect("no panic"), [0, 1, 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_run_goes_on_after_a_while_in_which_its_record_could_not_be_read() {
    let on = in_folder().await;
    let gate = gate("under-water");
    let run = on.db.apply(slow("under-water", 1)).detach().await.expect("applies");
    gate.started.notified().await;
    // While jobs run, it is looked every second whether another process cancelled them.
    on.metadata.fail_reads(5, 0);
    until("the reads fail", async || on.metadata.reads_to_fail() == 0).await;
    gate.open.notify_one();
    let outcome = run
        .wait_timeout(Duration::from_secs(20))
        .await
        .expect("the store is well again")
        .expect("it has jobs");
    assert!(outcome.succeeded(), "{:?}", outcome.jobs);
    assert_eq!(
        (outcome.job("work").expect("it is there").attempt, gate.runs.load(Ordering::SeqCst)),
        (1, 1)
    );
}

/// Tells whether it was told to end.
#[derive(Component, Clone)]
#[component(kind = "liveness.Told")]
struct Told {
    identifier: String,
}

static TOLD: AtomicUsize = AtomicUsize::new(0);

#[triggers]
impl Told {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        if ctx.is_retry() {
            return Ok(());
        }
        gate(&self.identifier).started.notify_one();
        ctx.until_cancelled().await;
        TOLD.fetch_add(1, Ordering::SeqCst);
        ctx.check_cancelled()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_what_runs_is_told_where_its_run_had_to_stop() {
    let on = in_folder().await;
    let run = on.db.apply(Told { identifier: "told".into() }).detach().await.expect("applies");
    gate("told").started.notified().await;
    on.metadata.set_unreadable(true);
    let error = run.wait_timeout(Duration::from_secs(30)).await.expect_err("its store is gone");
    assert!(
        error.to_string().contains("db.resume()") && error.kind() == ErrorKind::Store,
        "{error}"
    );
    until("the attempt hears of it", async || TOLD.load(Ordering::SeqCst) == 1).await;
    on.metadata.set_unreadable(false);
    let outcomes = on.db.resume().await.expect("it goes on");
    assert!(outcomes.len() == 1 && outcomes[0].succeeded(), "{outcomes:?}");
    assert_eq!(outcomes[0].jobs[0].attempt, 2, "the first attempt has run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_who_stops_waiting_for_an_apply_does_not_stop_its_jobs() {
    for on in databases().await {
        for micros in [0, 20, 50, 100, 200, 400, 800, 1500, 3000] {
            let name = format!("dropped-{micros}");
            let applying = on.db.apply(Nap { identifier: name, ms: 0 }).detach().into_future();
            let _ = tokio::time::timeout(Duration::from_micros(micros), applying).await;
        }
        let open = async || {
            let states = Some(vec![JobState::Queued, JobState::Running]);
            on.db.jobs(JobFilter { states, ..JobFilter::default() }).await.expect("jobs").len()
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        until("all that is on record is done", async || {
            let (stored, jobs) = (
                on.db.list().await.expect("components").len(),
                on.db.jobs(JobFilter::default()).await.expect("jobs").len(),
            );
            open().await == 0 && stored == jobs
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_result_that_is_at_hand_is_recorded_where_its_run_has_to_stop() {
    let on = in_folder().await;
    let gate = gate("at-hand");
    let run = on.db.apply(slow("at-hand", 1)).detach().await.expect("applies");
    gate.started.notified().await;
    on.metadata.fail_reads(1_000_000, 0);
    until("who leads it notices", async || on.metadata.reads_to_fail() < 1_000_000).await;
    gate.open.notify_one();
    assert!(run.wait_timeout(Duration::from_secs(30)).await.is_err(), "the record cannot be read");
    on.metadata.fail_reads(0, 0);
    let resumed = tokio::time::timeout(Duration::from_secs(20), on.db.resume().into_future()).await;
    let outcomes = resumed.expect("what comes after it is all that is left").expect("it goes on");
    assert!(outcomes[0].succeeded(), "{outcomes:?}");
    assert_eq!(
        (outcomes[0].job("work").expect("it is there").attempt, gate.runs.load(Ordering::SeqCst)),
        (1, 1),
        "it was not done again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_an_output_that_a_worker_set_is_shown_after_a_failed_read() {
    let on = in_folder().await;
    let builder = Db::builder().metadata(on.metadata.clone()).artifacts(on.artifacts.clone());
    let db = builder.program(program()).build().await.expect("opens");
    on.metadata.fail_reads(0, 2);
    let applied = db
        .apply(Isolated { identifier: "shown".into(), made: Output::empty() })
        .await
        .expect("it goes on");
    assert_eq!(on.metadata.reads_to_fail(), 0);
    assert_eq!(
        applied.result::<u32>("reads").expect("a result"),
        applied.result::<u32>("there").expect("a result")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_worker_that_lives_on_after_its_end_holds_up_no_next_try() {
    let (_folder, path) = database();
    let db =
        Db::builder().at(&path).expect("a place").program(program()).build().await.expect("opens");
    let run = db.apply(Again { identifier: "again".into() }).detach().await.expect("applies");
    let outcome = run
        .wait_timeout(Duration::from_secs(30))
        .await
        .expect("it comes to an end")
        .expect("it has jobs");
    assert!(outcome.succeeded(), "{:?}", outcome.jobs);
    assert_eq!(outcome.job("stumbles").expect("it is there").attempt, 2);
}
