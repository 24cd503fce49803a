//! Spawned jobs with inputs, tolerated failures, and blocked jobs that are completed from outside.

use crate::fresh;
use crate::support::until::{found, until};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};
use superduper::{
    Error, ErrorKind, FailureKind, JobPolicy, Spawn,
    prelude::*,
    store::{JobFilter, JobId, JobRow, JobSignal, JobState, RunFilter, RunId, RunState},
};

/// One round of a training over sites.
#[derive(Component, Clone)]
#[component(kind = "doors.Round")]
struct Round {
    identifier: String,
    sites: Vec<String>,
    tolerant: bool,
    /// How often a site fails before it does not.
    failures: u32,
}

#[triggers]
impl Round {
    #[trigger("call")]
    async fn train(&self, ctx: &JobContext) -> Result<f64> {
        let site: Site = ctx.input()?;
        match &*site.name {
            "fails" => Err(Error::msg("no rows")),
            "late" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(0.0)
            }
            "gone" => {
                ctx.db()?.cancel(ctx.job_id().expect("a job")).await?;
                ctx.until_cancelled().await;
                Err(Error::new(ErrorKind::Cancelled, "as asked"))
            }
            _ if ctx.attempt() <= self.failures => Err(Error::msg("not yet")),
            _ => Ok(site.weight),
        }
    }

    #[trigger("call")]
    async fn gather(&self, ctx: &JobContext) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for site in &self.sites {
            found.push(match ctx.result_of::<f64>(site).await {
                Ok(weight) => weight.to_string(),
                Err(error) => format!("{:?}", error.kind()),
            });
        }
        Ok(found)
    }

    #[trigger("apply")]
    fn open(&self, ctx: &JobContext) -> Result<()> {
        for (place, name) in self.sites.iter().enumerate() {
            let policy = JobPolicy {
                timeout: Some(Duration::from_millis(300)),
                retries: Some(self.failures),
                ..JobPolicy::default()
            };
            let site = Site { name: name.clone(), weight: place as f64 + 0.5 };
            let spawn = Spawn::new(name, ctx.address(), "train").input(&site).policy(policy);
            ctx.spawn_with(if self.tolerant { spawn.tolerated() } else { spawn })?;
        }
        ctx.spawn_with(Spawn::new("gather", ctx.address(), "gather").after_end(&self.sites))
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Site {
    name: String,
    weight: f64,
}

fn round(identifier: &str, sites: &[&str]) -> Round {
    let sites = sites.iter().map(|site| (*site).to_owned()).collect();
    Round { identifier: identifier.into(), sites, tolerant: true, failures: 0 }
}

async fn by_key(db: &Db, key: &str) -> JobRow {
    let rows =
        db.jobs(JobFilter { key: Some(key.to_owned()), ..JobFilter::default() }).await.unwrap();
    rows.into_iter().next_back().unwrap_or_else(|| panic!("no job has the key {key}"))
}

fn result<T: serde::de::DeserializeOwned>(row: &JobRow) -> T {
    serde_json::from_value(row.result.clone().expect("it has a result"))
        .expect("it is one of these")
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_a_round_goes_on_with_the_sites_that_answered() {
    let db = fresh::db().await;
    let sites = ["good", "fails", "late", "gone"];
    let applied = db.apply(round("r", &sites)).await.expect("tolerated ends do not fail the run");
    assert!(applied.outcome.as_ref().expect("it ran").succeeded());
    let found: Vec<String> = result(&by_key(&db, "gather").await);
    assert_eq!(found, ["0.5", "JobFailed", "JobFailed", "Cancelled"]);
    let failed = by_key(&db, "late").await;
    assert_eq!(failed.failure.expect("it failed").kind, FailureKind::Timeout);
    assert_eq!(db.status("doors.Round/r").await.unwrap(), superduper::Status::Ready);
    let before = db.jobs(JobFilter::default()).await.unwrap().len();
    let again = db.apply(round("r", &sites)).await.unwrap();
    assert!(again.outcome.is_none(), "an apply of equal content does not try them again");
    assert_eq!(db.jobs(JobFilter::default()).await.unwrap().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_a_failed_job_that_is_not_tolerated_fails_the_run_but_gather_still_runs() {
    let db = fresh::db().await;
    let error =
        db.apply(Round { tolerant: false, ..round("r", &["good", "fails"]) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed, "{error}");
    assert_eq!(result::<Vec<String>>(&by_key(&db, "gather").await), ["0.5", "JobFailed"]);
}

/// Waits for the success of a tolerated job that fails.
#[derive(Component, Clone)]
#[component(kind = "doors.Strict")]
struct Strict {
    identifier: String,
}

#[triggers]
impl Strict {
    #[trigger("call")]
    fn fail(&self) -> Result<()> {
        Err(Error::msg("on purpose"))
    }

    #[trigger("call")]
    fn follow(&self) -> Result<()> {
        Ok(())
    }

    #[trigger("apply")]
    fn open(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn_with(Spawn::new("first", ctx.address(), "fail").tolerated())?;
        ctx.spawn_with(Spawn::new("second", ctx.address(), "follow").after(["first"]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_work_that_was_asked_for_and_skipped_fails_the_run() {
    let db = fresh::db().await;
    let error = db.apply(Strict { identifier: "s".into() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(error.to_string().contains("`follow` of `doors.Strict/s@0.0`) skipped"), "{error}");
    assert_eq!(error.outcome().unwrap().run.state, RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn e08_an_input_is_the_same_in_every_attempt_and_in_a_later_apply() {
    let db = fresh::db().await;
    let strict = Round { tolerant: false, failures: 2, ..round("r", &["a", "b"]) };
    db.apply(strict.clone()).await.unwrap();
    let row = by_key(&db, "b").await;
    assert_eq!(
        (row.attempt, result::<f64>(&row)),
        (3, 1.5),
        "the policy of the spawn allows two more tries"
    );
    // A job that fails for good, and is tried again by a re-apply, in a run of its own.
    let bad = Round { tolerant: false, ..round("again", &["fails"]) };
    db.apply(bad.clone()).await.unwrap_err();
    let first = by_key(&db, "fails").await;
    db.apply(bad).await.unwrap_err();
    let second = by_key(&db, "fails").await;
    assert_eq!((second.retry_of, second.input.clone()), (Some(first.id), first.input.clone()));
    assert_ne!(second.run, first.run);
    assert_eq!(
        (second.executor, second.retries, second.timeout_ms),
        (first.executor, first.retries, first.timeout_ms)
    );
    // And by a retry of one job.
    db.retry(second.id).await.unwrap_err();
    assert_eq!(by_key(&db, "fails").await.input, first.input);
}

/// Asks for what is not there.
#[derive(Component, Clone)]
#[component(kind = "doors.Asks")]
struct Asks {
    identifier: String,
    what: String,
}

#[triggers]
impl Asks {
    #[trigger("call")]
    fn train(&self) -> Result<f64> {
        Ok(0.0)
    }

    #[trigger("apply")]
    async fn go(&self, ctx: &JobContext) -> Result<()> {
        match &*self.what {
            "key" => ctx.result_of::<u32>("nothing").await.map(drop),
            "input" => ctx.input::<u32>().map(drop),
            "blob" => ctx.spawn_with(
                Spawn::new("k", ctx.address(), "train")
                    .input(Artifact::new(Bytes::from(vec![1, 2]))),
            ),
            "nan" => ctx.spawn_with(Spawn::new("k", ctx.address(), "train").input(f64::NAN)),
            "executor" => {
                let policy =
                    JobPolicy { executor: Some("thread".to_owned()), ..JobPolicy::default() };
                ctx.spawn_with(Spawn::new("k", ctx.address(), "train").policy(policy))
            }
            "blocking" => ctx.blocking_result_of::<u32>("k").map(drop),
            other => Err(Error::msg(other.to_owned())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e08_errors_name_the_missing_key_input_or_executor() {
    let db = fresh::db().await;
    let expected = [
        ("key", "no job of run 1 has the key `nothing`"),
        ("input", "this job has no input"),
        ("blob", "the input of the spawned job `k` holds artifacts"),
        ("nan", "the input of the spawned job `k`"),
        ("executor", "unknown executor `thread`"),
        ("blocking", "`blocking_result_of` was called in async code"),
    ];
    for (what, text) in expected {
        let error =
            db.apply(Asks { identifier: what.into(), what: what.into() }).await.unwrap_err();
        assert!(error.to_string().contains(text), "{what}: {error}");
    }
}

/// A job that waits for a person, and one that takes what came of it.
#[derive(Component, Clone)]
#[component(kind = "doors.Review")]
struct Review {
    identifier: String,
}

#[triggers]
impl Review {
    #[trigger("apply")]
    fn ask(&self, ctx: &JobContext) -> Result<String> {
        Err(ctx.block("a review").into())
    }

    #[trigger("apply", depends_on = "ask")]
    fn publish(&self, ask: String) -> Result<String> {
        Ok(format!("published: {ask}"))
    }
}

async fn blocked(db: &Db) -> JobId {
    let blocked = JobFilter { states: Some(vec![JobState::Blocked]), ..JobFilter::default() };
    found("a blocked job", async || {
        db.jobs(blocked.clone()).await.unwrap().first().map(|row| row.id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn e09_a_blocked_job_ends_from_outside() {
    let db = fresh::db().await;
    let run = db.apply(Review { identifier: "yes".into() }).detach().await.unwrap();
    db.complete(blocked(&db).await, "fine").await.unwrap();
    let outcome = run.wait().await.unwrap().unwrap();
    assert_eq!(outcome.result::<String>("publish").unwrap(), "published: fine");
    let run = db.apply(Review { identifier: "no".into() }).detach().await.unwrap();
    let job = blocked(&db).await;
    db.reject(job, "it names people").await.unwrap();
    let error = run.wait().await.unwrap_err();
    assert!(error.to_string().contains("it names people"), "{error}");
    let outcome = error.outcome().unwrap();
    assert_eq!(outcome.job("publish").unwrap().state, JobState::Skipped);
    for refused in
        [db.complete(job, "late").await, db.reject(job, "late").await, db.unblock(job).await]
    {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("job {job} is failed")), "{error}");
    }
}

/// An observer of a database in which a review waits for its answer and no worker is left.
async fn observed_review(folder: &Path) -> (Db, RunId, JobId) {
    let place = folder.join("x.db");
    let db = Db::open(&place).await.unwrap();
    let run = db.apply(Review { identifier: "r".into() }).detach().await.unwrap().id().unwrap();
    let job = blocked(&db).await;
    db.close(Duration::from_secs(5)).await.unwrap();
    (Db::builder().at(&place).unwrap().observer().build().await.unwrap(), run, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn e09_an_observer_ends_a_job_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (observer, run, job) = observed_review(folder.path()).await;
    observer.complete(job, "fine").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let rows = observer.jobs(JobFilter { run: Some(run), ..JobFilter::default() }).await.unwrap();
    let states: Vec<JobState> = rows.iter().map(|row| row.state).collect();
    assert_eq!(
        states,
        [JobState::Succeeded, JobState::Queued],
        "who completes a job does not run what follows"
    );
    let worker = Db::open(folder.path().join("x.db")).await.unwrap();
    let outcomes = worker.resume().await.unwrap();
    assert_eq!(outcomes[0].result::<String>("publish").unwrap(), "published: fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn e09_the_last_job_of_a_run_that_is_rejected_ends_the_run_in_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (observer, run, job) = observed_review(folder.path()).await;
    observer.reject(job, "no").await.unwrap();
    let rows = observer.jobs(JobFilter { run: Some(run), ..JobFilter::default() }).await.unwrap();
    let states: Vec<JobState> = rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [JobState::Failed, JobState::Skipped]);
    let filter = RunFilter { id: Some(run), ..RunFilter::default() };
    assert_eq!(observer.runs(filter).await.unwrap()[0].state, RunState::Failed);
}

/// Blocks its first attempt until a time.
#[derive(Component, Clone)]
#[component(kind = "doors.Waits")]
struct Waits {
    identifier: String,
    millis: u64,
}

#[triggers]
impl Waits {
    #[trigger("apply")]
    async fn wait(&self, ctx: &JobContext) -> Result<u32> {
        if ctx.attempt() == 1 {
            let until = SystemTime::now() + Duration::from_millis(self.millis);
            return Err(ctx.block("the time").until(until).into());
        }
        Ok(ctx.attempt())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_a_blocked_job_goes_on_at_its_time() {
    let db = fresh::db().await;
    let begun = Instant::now();
    let applied = db.apply(Waits { identifier: "w".into(), millis: 400 }).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(applied.result::<u32>("wait").unwrap(), 2);
    assert!(took >= Duration::from_millis(390) && took < Duration::from_millis(2400), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_after_a_restart_resume_or_work_releases_a_blocked_job() {
    for by_work in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path().join("x.db")).await.unwrap();
        db.apply(Waits { identifier: "w".into(), millis: 900 }).detach().await.unwrap();
        let begun = Instant::now();
        let job = blocked(&db).await;
        db.close(Duration::from_secs(5)).await.unwrap();
        drop(db);
        let db = Db::open(folder.path().join("x.db")).await.unwrap();
        if by_work {
            let worker = db.clone();
            let work = tokio::spawn(async move { worker.work().await });
            db.wait(job, Duration::from_secs(10)).await.unwrap();
            db.close(Duration::from_secs(5)).await.unwrap();
            work.await.unwrap().unwrap();
        } else {
            db.resume().await.unwrap();
        }
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(800) && took < Duration::from_millis(4000),
            "{by_work}: {took:?}"
        );
    }
}

#[derive(Component, Clone)]
#[component(kind = "doors.Grant")]
struct Grant {
    identifier: String,
    to: String,
}

/// Loads a grant. If there is none, it applies the grant and then blocks, as if the owner had
/// granted between the two.
#[derive(Component, Clone)]
#[component(kind = "doors.Guarded")]
struct Guarded {
    identifier: String,
    says_what_it_read: bool,
}

#[triggers]
impl Guarded {
    #[trigger("apply")]
    async fn use_data(&self, ctx: &JobContext) -> Result<String> {
        let grant = Address::new("doors.Grant", "g");
        let found = ctx.db()?.load::<Grant>("g").await;
        match found {
            Ok(grant) => Ok(grant.to),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The owner grants it in this very moment.
                ctx.db()?.apply(Grant { identifier: "g".into(), to: "me".into() }).detach().await?;
                let waiting = ctx.block("a grant");
                Err(if self.says_what_it_read {
                    waiting.as_read([&grant]).into()
                } else {
                    waiting.into()
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_a_job_is_not_blocked_if_a_component_that_it_read_has_changed() {
    let db = fresh::db().await;
    let applied =
        db.apply(Guarded { identifier: "says".into(), says_what_it_read: true }).await.unwrap();
    assert_eq!(applied.result::<String>("use_data").unwrap(), "me");
    db.remove::<Grant>("g").await.unwrap();
    let run = db
        .apply(Guarded { identifier: "silent".into(), says_what_it_read: false })
        .detach()
        .await
        .unwrap();
    let job = blocked(&db).await;
    assert_eq!(
        db.jobs(JobFilter { run: run.id(), ..JobFilter::default() }).await.unwrap()[0].id,
        job,
        "without it the job waits"
    );
    db.unblock(job).await.unwrap();
    assert_eq!(run.wait().await.unwrap().unwrap().result::<String>("use_data").unwrap(), "me");
}

/// Waits for `open` of a round that it holds; its own trigger runs after those of the round.
#[derive(Component, Clone)]
#[component(kind = "doors.Report")]
struct Report {
    identifier: String,
    round: Round,
}

#[triggers]
impl Report {
    #[trigger("apply")]
    fn publish(&self) -> Result<u32> {
        Ok(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_what_waits_for_the_spawner_goes_on_without_a_tolerated_job() {
    let db = fresh::db().await;
    let report = Report { identifier: "r".into(), round: round("inner", &["good", "fails"]) };
    let applied = db.apply(report).await.expect("a tolerated job fails nothing");
    assert_eq!(applied.result::<u32>("publish").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_a_retry_of_a_tolerated_job_says_that_it_failed_again() {
    let db = fresh::db().await;
    db.apply(round("r", &["fails"])).await.unwrap();
    let error = db.retry(by_key(&db, "fails").await.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed, "{error}");
}

/// Two jobs in order, of which the first fails until a file is there.
#[derive(Component, Clone)]
#[component(kind = "doors.Chain")]
struct Chain {
    identifier: String,
    file: String,
}

#[triggers]
impl Chain {
    #[trigger("call")]
    fn first(&self) -> Result<u32> {
        if std::path::Path::new(&self.file).exists() {
            Ok(41)
        } else {
            Err(Error::msg("no file yet"))
        }
    }

    #[trigger("call")]
    async fn second(&self, ctx: &JobContext) -> Result<u32> {
        Ok(ctx.result_of::<u32>("first").await? + 1)
    }

    #[trigger("call")]
    async fn last(&self, ctx: &JobContext) -> Result<u32> {
        ctx.result_of::<u32>("second").await
    }

    #[trigger("apply")]
    fn open(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn_with(Spawn::new("first", ctx.address(), "first"))?;
        ctx.spawn_with(Spawn::new("second", ctx.address(), "second").after(["first"]))?;
        ctx.spawn_with(Spawn::new("last", ctx.address(), "last").after_end(["second"]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e08_a_later_apply_keeps_the_order_of_spawned_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there");
    let db = fresh::db().await;
    let chain = Chain { identifier: "c".into(), file: file.display().to_string() };
    db.apply(chain.clone()).await.unwrap_err();
    assert_eq!(by_key(&db, "second").await.state, JobState::Skipped);
    std::fs::write(&file, "").unwrap();
    db.apply(chain).await.expect("each waits for the one before it");
    assert_eq!(result::<u32>(&by_key(&db, "last").await), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn e09_two_processes_that_complete_the_last_jobs_of_a_run_at_once_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    for round in 0..5 {
        let db = Db::open(&path).await.unwrap();
        let run = db
            .apply(Pair { identifier: format!("p{round}") })
            .detach()
            .await
            .unwrap()
            .id()
            .unwrap();
        let states = Some(vec![JobState::Blocked]);
        let filter = JobFilter { run: Some(run), states, ..JobFilter::default() };
        let blocked = found("two blocked jobs", async || {
            Some(db.jobs(filter.clone()).await.unwrap()).filter(|rows| rows.len() == 2)
        })
        .await;
        db.close(Duration::from_secs(5)).await.unwrap();
        drop(db);
        let observers = [
            Db::builder().at(&path).unwrap().observer().build().await.unwrap(),
            Db::builder().at(&path).unwrap().observer().build().await.unwrap(),
        ];
        let (one, two) = tokio::join!(
            observers[0].complete(blocked[0].id, 1),
            observers[1].complete(blocked[1].id, 2)
        );
        one.unwrap();
        two.unwrap();
        let filter = RunFilter { id: Some(run), ..RunFilter::default() };
        assert_eq!(observers[0].runs(filter).await.unwrap()[0].state, RunState::Succeeded);
    }
}

/// Two jobs that wait for answers.
#[derive(Component, Clone)]
#[component(kind = "doors.Pair")]
struct Pair {
    identifier: String,
}

#[triggers]
impl Pair {
    #[trigger("apply")]
    fn one(&self, ctx: &JobContext) -> Result<u32> {
        Err(ctx.block("an answer").into())
    }

    #[trigger("apply")]
    fn two(&self, ctx: &JobContext) -> Result<u32> {
        Err(ctx.block("an answer").into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e09_of_four_calls_from_four_processes_one_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    for round in 0..8 {
        let db = Db::open(&path).await.unwrap();
        db.apply(Review { identifier: format!("r{round}") }).detach().await.unwrap();
        let job = blocked(&db).await;
        db.close(Duration::from_secs(5)).await.unwrap();
        drop(db);
        let mut handles = Vec::new();
        for _ in 0..4 {
            handles.push(Db::builder().at(&path).unwrap().observer().build().await.unwrap());
        }
        let (completed, rejected, unblocked, cancelled) = tokio::join!(
            handles[0].complete(job, "yes"),
            handles[1].reject(job, "no"),
            handles[2].unblock(job),
            handles[3].cancel(job)
        );
        cancelled.unwrap();
        let row = handles[0].job(job).await.unwrap();
        let told = [completed.is_ok(), rejected.is_ok()];
        match row.state {
            JobState::Succeeded => assert_eq!((told, unblocked.is_ok()), ([true, false], false)),
            JobState::Failed => assert_eq!((told, unblocked.is_ok()), ([false, true], false)),
            JobState::Cancelled => assert_eq!(told, [false, false], "after an unblock, or alone"),
            state => panic!("the job is {state}"),
        }
        assert_eq!(row.attempt, 1, "no user code ran again");
    }
}

/// Blocks on something that can never match.
#[derive(Component, Clone)]
#[component(kind = "doors.Never")]
struct Never {
    identifier: String,
}

#[triggers]
impl Never {
    #[trigger("apply")]
    fn wait(&self, ctx: &JobContext) -> Result<()> {
        // There is such a component: this one.
        Err(ctx.block("nothing").as_read([&Address::new("doors.Never", &self.identifier)]).into())
    }

    #[trigger("apply")]
    fn panics(&self, ctx: &JobContext) -> Result<()> {
        drop(ctx.block("nothing"));
        panic!("after all")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_a_job_whose_block_is_always_refused_tries_again_after_growing_pauses() {
    let db = fresh::db().await;
    let run = db.apply(Never { identifier: "n".into() }).detach().await.unwrap();
    until("another attempt", async || {
        let rows = run.jobs().await.unwrap();
        rows.iter().any(|row| row.method == "wait" && row.attempt > 1)
            && rows.iter().any(|row| row.state == JobState::Failed)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let rows = run.jobs().await.unwrap();
    let find = |method: &str| rows.iter().find(|row| row.method == method).unwrap();
    assert!((2..20).contains(&find("wait").attempt), "{} attempts", find("wait").attempt);
    assert_eq!(
        find("panics").state,
        JobState::Failed,
        "a panic is a failure, also of a job that was about to wait"
    );
    run.cancel().await.unwrap();
    run.wait().await.unwrap_err();
}

/// Whether the job of [`Pausing`] has seen the pause, and whether it may give up now.
static SEEN: AtomicBool = AtomicBool::new(false);
static GIVE_UP: AtomicBool = AtomicBool::new(false);

/// Sees a pause, and gives up a while later.
#[derive(Component, Clone)]
#[component(kind = "doors.Pausing")]
struct Pausing {
    identifier: String,
}

#[triggers]
impl Pausing {
    #[trigger("apply")]
    fn work(&self, ctx: &JobContext) -> Result<u32> {
        if ctx.attempt() > 1 {
            return Ok(ctx.attempt());
        }
        while ctx.signal() != Some(JobSignal::Pause) {
            ctx.check_cancelled()?;
            std::thread::sleep(Duration::from_millis(2));
        }
        SEEN.store(true, Ordering::SeqCst);
        while !GIVE_UP.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(ctx.block("paused").into())
    }
}

/// A pause that is taken back between the look of a job and its end must not leave the job waiting.
#[tokio::test(flavor = "multi_thread")]
async fn e21_a_pause_that_is_taken_back_while_the_job_gives_up_leaves_it_running() {
    let db = fresh::db().await;
    let run = db.apply(Pausing { identifier: "p".into() }).detach().await.unwrap();
    let job = run.jobs().await.unwrap().pop().unwrap().id;
    db.signal(job, JobSignal::Pause).await.unwrap();
    until("the pause is seen", async || SEEN.load(Ordering::SeqCst)).await;
    db.signal(job, JobSignal::Continue).await.unwrap();
    // The attempt is told, too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    GIVE_UP.store(true, Ordering::SeqCst);
    let row = db.wait(job, Duration::from_secs(30)).await.unwrap();
    assert_eq!((row.state, row.attempt), (JobState::Succeeded, 2));
}
