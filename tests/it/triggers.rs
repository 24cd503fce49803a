//! Group T: triggers and jobs.

use crate::{fresh, support::at_once::AtOnce};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use superduper::{
    FailureKind, Status,
    db::Listed,
    plan::Plan,
    prelude::*,
    store::{JobFilter, JobId, JobRole, JobRow, JobState, RunFilter, RunState},
};

/// What the jobs of one test did, by the component's identifier.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn write(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }
    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

static DIARIES: Mutex<Vec<(String, Arc<Diary>)>> = Mutex::new(Vec::new());

/// Jobs run on decoded copies, so they find their test's diary by name.
fn diary(name: &str) -> Arc<Diary> {
    let mut diaries = DIARIES.lock().unwrap();
    if let Some((_, diary)) = diaries.iter().find(|(known, _)| known == name) {
        return diary.clone();
    }
    let diary = Arc::new(Diary::default());
    diaries.push((name.to_owned(), diary.clone()));
    diary
}

#[derive(Component, Clone)]
struct Pair {
    identifier: String,
    x: i64,
    y: i64,
    d: Option<String>,
    #[component(breaking)]
    b: i64,
}

#[triggers]
impl Pair {
    #[trigger("apply", watch = "y")]
    async fn start(&self) -> Result<i64> {
        diary(&self.identifier).write("start");
        Ok(self.x)
    }
    #[trigger("apply", depends_on = "start", requires = "d", watch = "x")]
    fn go(&self) -> Result<String> {
        diary(&self.identifier).write("go");
        Ok(format!("{}{}", self.d.as_deref().unwrap_or_default(), self.x))
    }
    #[trigger("apply", watch = "*")]
    fn any(&self, go: Option<String>) -> Result<Option<String>> {
        diary(&self.identifier).write(format!("any {go:?}"));
        Ok(go)
    }
}

fn pair(identifier: &str) -> Pair {
    Pair { identifier: identifier.into(), x: 1, y: 1, d: Some("d".into()), b: 0 }
}

fn names(jobs: &[JobRow]) -> Vec<&str> {
    jobs.iter().map(|job| job.method.as_str()).collect()
}

fn edges(plan: &Plan) -> Vec<(String, String)> {
    plan.edges()
        .into_iter()
        .map(|(from, to)| {
            (plan.jobs()[from - 1].method.clone(), plan.jobs()[to - 1].method.clone())
        })
        .collect()
}

#[tokio::test]
async fn t01_both_jobs_are_planned_in_every_process() {
    let db = fresh::db().await;
    let plan = db.plan(pair("t01")).await.unwrap().to_string();
    if std::env::var("SUPERDUPER_T01").is_ok() {
        println!("PLAN<{}>", plan.replace('\n', "|"));
        return;
    }
    for _ in 0..100 {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "triggers::t01_both_jobs_are_planned_in_every_process",
                "--nocapture",
            ])
            .env("SUPERDUPER_T01", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("PLAN<{}>", plan.replace('\n', "|"))), "{text}");
    }
}

#[tokio::test]
async fn t01_go_starts_after_start_ended() {
    let db = fresh::db().await;
    let applied = db.apply(pair("t01b")).await.unwrap();
    let outcome = applied.outcome.clone().unwrap();
    let (start, go) = (outcome.job("start").unwrap(), outcome.job("go").unwrap());
    assert!(start.ended_at.unwrap() <= go.started_at.unwrap());
    let needs = db.metadata().dependencies(outcome.run_id()).await.unwrap();
    assert!(needs.iter().any(|need| need.job == go.id && need.needs == start.id));
    assert_eq!(diary("t01b").read(), ["start", "go", "any Some(\"d1\")"]);
}

#[derive(Component)]
struct Diamond {
    identifier: String,
}
#[triggers]
impl Diamond {
    #[trigger("apply")]
    fn b2(&self, a2: i64, b1: i64) -> Result<i64> {
        Ok(a2 + b1)
    }
    #[trigger("apply")]
    fn b1(&self, a1: i64) -> Result<i64> {
        Ok(a1 * 10)
    }
    #[trigger("apply")]
    fn a1(&self) -> Result<i64> {
        Ok(1)
    }
    #[trigger("apply")]
    async fn a2(&self) -> Result<i64, std::io::Error> {
        Ok(2)
    }
}

#[tokio::test]
async fn t02_a_diamond_has_exactly_its_edges() {
    let db = fresh::db().await;
    let component = Diamond { identifier: "d".into() };
    let mut found = edges(&db.plan(&component).await.unwrap());
    found.sort();
    let expected =
        [("a1", "b1"), ("a2", "b2"), ("b1", "b2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(db.apply(component).await.unwrap().result::<i64>("b2").unwrap(), 12);
}

#[tokio::test]
async fn t05_requires_decides_whether_there_is_a_job() {
    let db = fresh::db().await;
    let without = Pair { d: None, ..pair("t05") };
    let plan = db.plan(&without).await.unwrap();
    assert_eq!(
        plan.jobs().iter().map(|job| job.method.as_str()).collect::<Vec<_>>(),
        ["start", "any"]
    );
    assert_eq!(plan.left_out().len(), 1);
    assert_eq!(plan.left_out()[0].reason, "it requires `d`, which is not set");
    db.apply(without).await.unwrap();
    assert!(diary("t05").read().contains(&"any None".to_owned()));
    diary("t05").clear();
    let applied = db.apply(pair("t05")).await.unwrap();
    assert_eq!(applied.version(), 0);
    assert_eq!(names(applied.jobs()), ["go", "any"]);
    assert_eq!(applied.result::<String>("go").unwrap(), "d1");
}

#[tokio::test]
async fn t06_only_watching_triggers_run_on_update() {
    let db = fresh::db().await;
    db.apply(pair("t06")).await.unwrap();
    let applied = db.apply(Pair { x: 2, ..pair("t06") }).await.unwrap();
    assert_eq!(names(applied.jobs()), ["go", "any"], "x is watched by go, everything by any");
    assert_eq!(applied.result::<String>("go").unwrap(), "d2");
    let applied = db.apply(Pair { x: 2, y: 5, ..pair("t06") }).await.unwrap();
    assert_eq!(
        names(applied.jobs()),
        ["start", "go", "any"],
        "y is watched by start, and go depends on it"
    );
}

#[derive(Component, Clone)]
struct Leaf {
    identifier: String,
    note: String,
    #[component(breaking)]
    size: i64,
}
#[triggers]
impl Leaf {
    #[trigger("apply")]
    fn first(&self) -> Result<i64> {
        diary(&self.identifier).write("first");
        if self.note == "fail" { Err(Error::msg("leaf broke")) } else { Ok(self.size) }
    }
    #[trigger("apply", depends_on = "first")]
    fn second(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Component, Clone)]
struct Tree {
    identifier: String,
    leaf: Leaf,
    other: Option<Leaf>,
}
#[triggers]
impl Tree {
    #[trigger("apply", watch = "leaf")]
    fn watching(&self) -> Result<()> {
        diary(&self.identifier).write("watching");
        Ok(())
    }
    #[trigger("apply")]
    fn plain(&self) -> Result<()> {
        diary(&self.identifier).write("plain");
        Ok(())
    }
}

fn leaf(identifier: &str) -> Leaf {
    Leaf { identifier: identifier.into(), note: "n".into(), size: 1 }
}

#[tokio::test]
async fn t06_a_child_change_runs_the_parents_trigger_only_if_it_watches() {
    let db = fresh::db().await;
    let tree = Tree { identifier: "t06tree".into(), leaf: leaf("t06leaf"), other: None };
    db.apply(&tree).await.unwrap();
    diary("t06tree").clear();
    let quiet = Tree { leaf: Leaf { note: "m".into(), ..leaf("t06leaf") }, ..tree.clone() };
    let applied = db.apply(&quiet).await.unwrap();
    assert_eq!(diary("t06tree").read(), ["watching"]);
    assert_eq!(applied.version(), 0);
    diary("t06tree").clear();
    let breaking = Tree { leaf: Leaf { size: 2, ..leaf("t06leaf") }, ..tree };
    db.apply(&breaking).await.unwrap();
    assert_eq!(diary("t06tree").read(), ["watching"]);
}

#[tokio::test]
async fn t07_parents_wait_for_all_jobs_of_their_children() {
    let db = fresh::db().await;
    let tree = Tree { identifier: "t07".into(), leaf: leaf("t07a"), other: Some(leaf("t07b")) };
    let plan = db.plan(&tree).await.unwrap();
    let place = |identifier: &str| {
        let of = |job: &&superduper::plan::PlannedJob| job.target.identifier == identifier;
        plan.jobs()
            .iter()
            .filter(of)
            .map(|job| plan.jobs().iter().position(|other| std::ptr::eq(other, job)).unwrap() + 1)
            .collect::<Vec<_>>()
    };
    let edges = plan.edges();
    for parent in place("t07") {
        for child in place("t07a").into_iter().chain(place("t07b")) {
            assert!(edges.contains(&(child, parent)), "{child} -> {parent} in\n{plan}");
        }
    }
}

#[tokio::test]
async fn t08_a_jobs_row_says_everything() {
    let db = fresh::db().await;
    let applied = db.apply(pair("t08")).await.unwrap();
    let run = applied.outcome.as_ref().unwrap().run_id();
    let rows = db.jobs(JobFilter { run: Some(run), ..JobFilter::default() }).await.unwrap();
    let go = rows.iter().find(|row| row.method == "go").unwrap();
    assert_eq!(
        (go.run, go.state, go.attempt, go.role),
        (run, JobState::Succeeded, 1, JobRole::Trigger)
    );
    assert_eq!(go.target.to_string(), format!("{}@0.0", pair("t08").address()));
    assert_eq!(go.result, Some(json!("d1")));
    assert!(
        go.created_at <= go.started_at.unwrap() && go.started_at.unwrap() <= go.ended_at.unwrap()
    );
    let events =
        db.metadata().events(superduper::store::Cursor::default(), Some(run), 100).await.unwrap();
    let of_go: Vec<&str> = events
        .iter()
        .filter(|event| event.job == Some(go.id))
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(of_go, ["job.started", "job.succeeded"]);
    assert_eq!(events.last().unwrap().kind, "run.ended");
    assert_eq!(
        db.runs(RunFilter { id: Some(run), ..RunFilter::default() }).await.unwrap()[0].state,
        RunState::Succeeded
    );
}

#[tokio::test]
async fn t09_a_failure_degrades_ancestors_and_skips_dependents_only() {
    let db = fresh::db().await;
    let tree = Tree {
        identifier: "t09".into(),
        leaf: Leaf { note: "fail".into(), ..leaf("t09a") },
        other: Some(leaf("t09b")),
    };
    let error = db.apply(&tree).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(
        error.to_string().contains("`first` of `it.Leaf/t09a@0.0`")
            && error.to_string().contains("leaf broke"),
        "{error}"
    );
    let outcome = error.outcome().unwrap();
    let state = |identifier: &str, method: &str| {
        outcome
            .jobs
            .iter()
            .find(|job| job.target.identifier == identifier && job.method == method)
            .map(|job| job.state)
            .unwrap()
    };
    assert_eq!(state("t09a", "first"), JobState::Failed);
    assert_eq!(state("t09a", "second"), JobState::Skipped);
    assert_eq!(state("t09", "plain"), JobState::Skipped);
    assert_eq!(
        (state("t09b", "first"), state("t09b", "second")),
        (JobState::Succeeded, JobState::Succeeded)
    );
    let skipped = outcome.jobs.iter().find(|job| job.method == "plain").unwrap();
    assert_eq!(skipped.failure.as_ref().unwrap().kind, FailureKind::Upstream);
    assert!(skipped.failure.as_ref().unwrap().message.starts_with("upstream"), "{skipped:?}");
    for degraded in ["t09", "t09a"] {
        let Status::Degraded(jobs) = status(&db, degraded).await else {
            panic!("{degraded} is not degraded")
        };
        assert!(
            jobs.iter().any(|job| job.method == "first" && job.target.identifier == "t09a"),
            "{jobs:?}"
        );
    }
    assert_eq!(status(&db, "t09b").await, Status::Ready);
}

async fn status(db: &Db, identifier: &str) -> Status {
    let listed: Vec<Listed> = db.list().await.unwrap();
    listed.into_iter().find(|line| line.address.identifier == identifier).unwrap().status
}

#[derive(Component, Clone)]
struct Flaky {
    identifier: String,
    fails: i64,
}

static CALLS: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());

fn count(name: &str) -> u32 {
    let mut calls = CALLS.lock().unwrap();
    match calls.iter_mut().find(|(known, _)| known == name) {
        Some((_, count)) => {
            *count += 1;
            *count
        }
        None => {
            calls.push((name.to_owned(), 1));
            1
        }
    }
}

#[triggers]
impl Flaky {
    #[trigger("apply")]
    fn before(&self) -> Result<i64> {
        diary(&self.identifier).write("before");
        Ok(7)
    }
    #[trigger("apply", retries = 3, backoff = "1ms")]
    async fn work(&self, ctx: &JobContext, before: i64) -> Result<String> {
        let call = count(&self.identifier);
        diary(&self.identifier).write(format!("work {call}"));
        ctx.log(format!("attempt {}", ctx.attempt()));
        if i64::from(call) <= self.fails {
            return Err(std::io::Error::other(format!("not yet ({call})"))).context("working");
        }
        Ok(format!("{before} after {call}, retry {}", ctx.is_retry()))
    }
    #[trigger("apply", depends_on = "work")]
    fn after(&self) -> Result<()> {
        diary(&self.identifier).write("after");
        Ok(())
    }
}

#[tokio::test]
async fn t10_reapply_after_a_failure_runs_only_what_is_left() {
    let db = fresh::db().await;
    let flaky = Flaky { identifier: "t10".into(), fails: 4 };
    db.apply(&flaky).await.unwrap_err();
    assert_eq!(diary("t10").read(), ["before", "work 1", "work 2", "work 3", "work 4"]);
    diary("t10").clear();
    let plan = db.plan(&flaky).await.unwrap();
    assert!(plan.to_string().contains("retry of job"), "{plan}");
    let applied = db.apply(&flaky).retry_failed(false).await.unwrap();
    assert!(applied.outcome.is_none());
    let applied = db.apply(&flaky).await.unwrap();
    assert_eq!(names(applied.jobs()), ["work", "after"]);
    assert_eq!(applied.result::<String>("work").unwrap(), "7 after 5, retry false");
    assert_eq!(diary("t10").read(), ["work 5", "after"]);
    assert_eq!(status(&db, "t10").await, Status::Ready);
    assert!(db.plan(&flaky).await.unwrap().is_empty());
}

#[tokio::test]
async fn t11_retry_heals() {
    let db = fresh::db().await;
    let flaky = Flaky { identifier: "t11".into(), fails: 4 };
    let error = db.apply(&flaky).await.unwrap_err();
    let failed = error.outcome().unwrap().first_failure().unwrap().id;
    assert!(matches!(status(&db, "t11").await, Status::Degraded(_)));
    let outcome = db.retry(failed).await.unwrap();
    assert_eq!(
        outcome.jobs.iter().find(|job| job.method == "work").unwrap().retry_of,
        Some(failed)
    );
    assert_eq!(
        db.job(failed).await.unwrap().state,
        JobState::Failed,
        "the old job stays as it was"
    );
    assert_eq!(status(&db, "t11").await, Status::Ready);
    let error = db.retry(outcome.jobs[0].id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[derive(Component, Clone)]
struct Gate {
    identifier: String,
}
#[triggers]
impl Gate {
    #[trigger("apply")]
    async fn pass(&self, ctx: &JobContext) -> Result<i64> {
        loop {
            if diary(&self.identifier).read().contains(&"open".to_owned()) {
                return Ok(5);
            }
            ctx.check_cancelled()?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    #[trigger("apply")]
    fn then(&self, pass: i64) -> Result<i64> {
        Ok(pass + 1)
    }
}

#[tokio::test]
async fn t12_wait_gives_the_row_the_error_or_a_timeout() {
    let db = fresh::db().await;
    let run = db.apply(Gate { identifier: "t12".into() }).detach().await.unwrap();
    let jobs = run.jobs().await.unwrap();
    let error = db.wait(jobs[0].id, Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    diary("t12").write("open");
    assert_eq!(db.wait(jobs[1].id, Duration::from_secs(10)).await.unwrap().result, Some(json!(6)));
    let error = db.apply(Flaky { identifier: "t12b".into(), fails: 9 }).await.unwrap_err();
    let failed = error.outcome().unwrap().first_failure().unwrap().id;
    let error = db.wait(failed, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(error.to_string().contains("working: not yet (4)"), "{error}");
    assert_eq!(
        db.wait(JobId(999), Duration::from_secs(1)).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn t12_an_apply_joins_an_unfinished_run() {
    let db = fresh::db().await;
    let gate = Gate { identifier: "t12c".into() };
    let first = db.apply(&gate).detach().await.unwrap();
    let second = db.apply(&gate).detach().await.unwrap();
    assert_eq!(first.id(), second.id());
    diary("t12c").write("open");
    assert!(second.wait().await.unwrap().unwrap().succeeded());
    first.wait().await.unwrap();
}

#[tokio::test]
async fn t13_a_result_is_the_typed_input_of_its_dependents() {
    let db = fresh::db().await;
    let applied = db.apply(Flaky { identifier: "t13".into(), fails: 0 }).await.unwrap();
    assert_eq!(applied.result::<String>("work").unwrap(), "7 after 1, retry false");
}

#[derive(Component, Clone)]
struct Bomb {
    identifier: String,
}
#[triggers]
impl Bomb {
    #[trigger("apply")]
    fn thread(&self) -> Result<()> {
        panic!("boom in {}", self.identifier)
    }
    #[trigger("apply")]
    async fn task(&self) -> Result<()> {
        panic!("static boom")
    }
    #[trigger("apply")]
    fn fine(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn t14_a_panic_is_a_failure_with_its_text() {
    let db = fresh::db().await;
    let error = db.apply(Bomb { identifier: "t14".into() }).await.unwrap_err();
    let outcome = error.outcome().unwrap();
    let failure = |method: &str| outcome.job(method).unwrap().failure.clone().unwrap();
    assert_eq!(
        (failure("thread").kind, failure("task").kind),
        (FailureKind::Panic, FailureKind::Panic)
    );
    assert_eq!(
        (failure("thread").message.as_str(), failure("task").message.as_str()),
        ("panicked: boom in t14", "panicked: static boom")
    );
    assert_eq!(outcome.job("fine").unwrap().state, JobState::Succeeded);
}

#[tokio::test]
async fn t15_two_failures_then_success_are_three_attempts() {
    let db = fresh::db().await;
    let applied = db.apply(Flaky { identifier: "t15".into(), fails: 2 }).await.unwrap();
    let work = applied.outcome.as_ref().unwrap().job("work").unwrap().clone();
    assert_eq!((work.state, work.attempt), (JobState::Succeeded, 3));
    let attempts = db.attempts(work.id).await.unwrap();
    let errors: Vec<Option<String>> =
        attempts.iter().map(|attempt| attempt.failure.as_ref().map(ToString::to_string)).collect();
    assert_eq!(
        errors,
        [Some("working: not yet (1)".into()), Some("working: not yet (2)".into()), None]
    );
    let logs: Vec<String> =
        db.logs(work.id).await.unwrap().into_iter().map(|line| line.message).collect();
    assert_eq!(logs, ["attempt 1", "attempt 2", "attempt 3"]);
}

#[derive(Component, Clone)]
struct Slow {
    identifier: String,
}
#[triggers]
impl Slow {
    #[trigger("apply", timeout = "30ms")]
    async fn late(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    }
    #[trigger("apply", timeout = "30ms", retries = 1, backoff = "1ms")]
    fn late_thread(&self) -> Result<()> {
        let call = count(&self.identifier);
        diary(&self.identifier).write(format!("begin {call}"));
        if call == 1 {
            std::thread::sleep(Duration::from_millis(200));
        }
        diary(&self.identifier).write(format!("end {call}"));
        Ok(())
    }
}

#[tokio::test]
async fn t15_a_timeout_ends_the_attempt() {
    let db = fresh::db().await;
    let error = db.apply(Slow { identifier: "t15slow".into() }).await.unwrap_err();
    let outcome = error.outcome().unwrap();
    let late = outcome.job("late").unwrap();
    assert_eq!(
        (late.state, late.failure.as_ref().unwrap().kind),
        (JobState::Failed, FailureKind::Timeout)
    );
    let thread = outcome.job("late_thread").unwrap();
    assert_eq!((thread.state, thread.attempt), (JobState::Succeeded, 2));
    assert_eq!(
        diary("t15slow").read(),
        ["begin 1", "end 1", "begin 2", "end 2"],
        "the retry waits for the late thread"
    );
}

#[tokio::test]
async fn t15_cancel_cancels_and_skips() {
    let db = fresh::builder().cancel_grace(Duration::from_millis(50)).build().await.unwrap();
    let run = db.apply(Gate { identifier: "t15cancel".into() }).detach().await.unwrap();
    let jobs = run.jobs().await.unwrap();
    db.cancel(jobs[0].id).await.unwrap();
    let error = run.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let outcome = error.outcome().unwrap();
    assert_eq!(
        (outcome.jobs[0].state, outcome.jobs[1].state),
        (JobState::Cancelled, JobState::Skipped)
    );
    assert_eq!(outcome.run.state, RunState::Cancelled);
    db.cancel(jobs[0].id).await.unwrap();
    assert_eq!(db.job(jobs[0].id).await.unwrap().state, JobState::Cancelled);
}

#[derive(Component, Clone)]
struct Stubborn {
    identifier: String,
}
#[triggers]
impl Stubborn {
    #[trigger("apply")]
    async fn forever(&self) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn t15_a_task_that_never_looks_is_stopped_after_the_grace() {
    let db = fresh::builder().cancel_grace(Duration::from_millis(20)).build().await.unwrap();
    let run = db.apply(Stubborn { identifier: "s".into() }).detach().await.unwrap();
    run.cancel().await.unwrap();
    let error = run.wait_timeout(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

static PARTS: AtOnce = AtOnce::new();

#[derive(Component, Clone)]
struct Wide {
    identifier: String,
    jobs: u32,
}
#[triggers]
impl Wide {
    #[trigger("apply")]
    fn fan_out(&self, ctx: &JobContext) -> Result<()> {
        for index in 0..self.jobs {
            ctx.spawn(format!("part-{index}"), ctx.address(), "part", &[])?;
        }
        ctx.spawn("last", ctx.address(), "part", &["part-0", "part-1"])
    }
    #[trigger("call")]
    async fn part(&self, ctx: &JobContext) -> Result<String> {
        let _inside = PARTS.enter(&self.identifier);
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(ctx.key().unwrap_or_default().to_owned())
    }
    #[trigger("apply", depends_on = "fan_out")]
    fn gather(&self, ctx: &JobContext) -> Result<()> {
        ctx.emit("gathered", json!({"by": self.identifier}))
    }
}

#[tokio::test]
async fn t16_spawned_jobs_hold_up_the_spawners_dependents_and_are_bounded() {
    let db = fresh::builder().parallelism(3).build().await.unwrap();
    let applied = db.apply(Wide { identifier: "wide".into(), jobs: 40 }).await.unwrap();
    assert_eq!(applied.jobs().len(), 43);
    assert!((1..=3).contains(&PARTS.most("wide")), "{}", PARTS.most("wide"));
    let outcome = applied.outcome.as_ref().unwrap();
    let last_part = outcome
        .jobs
        .iter()
        .filter(|job| job.method == "part")
        .map(|job| job.ended_at.unwrap())
        .max()
        .unwrap();
    assert!(outcome.job("gather").unwrap().started_at.unwrap() >= last_part);
    let keyed = outcome.jobs.iter().find(|job| job.key.as_deref() == Some("part-7")).unwrap();
    assert_eq!(keyed.result, Some(json!("part-7")));
}

#[tokio::test]
async fn t17_messages_reach_their_handler_after_the_result() {
    let db = fresh::db().await;
    let (sender, mut inbox) = tokio::sync::mpsc::unbounded_channel();
    let tries = Arc::new(AtomicU32::new(0));
    db.on_message("gathered", move |message| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        let sender = sender.clone();
        async move {
            if first {
                return Err("not now");
            }
            sender.send(message).map_err(|_| "closed")
        }
    });
    db.apply(Wide { identifier: "mail".into(), jobs: 2 }).await.unwrap();
    let message = inbox.recv().await.unwrap();
    assert_eq!((message.topic.as_str(), message.payload), ("gathered", json!({"by": "mail"})));
}

#[derive(Component, Clone)]
struct Blocked {
    identifier: String,
}
#[triggers]
impl Blocked {
    #[trigger("apply")]
    fn needs_grant(&self, ctx: &JobContext) -> Result<i64> {
        if diary(&self.identifier).read().is_empty() {
            Err(ctx.block("a grant for site A").into())
        } else {
            Ok(1)
        }
    }
}

#[tokio::test]
async fn t18_a_blocked_job_goes_on_when_it_is_released() {
    let db = fresh::db().await;
    let run = db.apply(Blocked { identifier: "t18".into() }).detach().await.unwrap();
    let id = run.jobs().await.unwrap()[0].id;
    let mut events = run.events();
    while let Some(event) = events.next().await.unwrap() {
        if matches!(&event, superduper::Event::Recorded(row) if row.kind == "job.blocked") {
            break;
        }
    }
    let row = db.job(id).await.unwrap();
    assert_eq!(
        (row.state, row.blocked.as_deref()),
        (JobState::Blocked, Some("a grant for site A"))
    );
    diary("t18").write("granted");
    db.unblock(id).await.unwrap();
    assert_eq!(run.wait().await.unwrap().unwrap().result::<i64>("needs_grant").unwrap(), 1);
    assert_eq!(db.unblock(id).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[derive(Component, Clone)]
struct Reporter {
    identifier: String,
}
#[triggers]
impl Reporter {
    #[trigger("apply")]
    fn steps(&self, ctx: &JobContext) -> Result<()> {
        for step in 1..=3 {
            ctx.progress(step, 3);
        }
        tracing::info!(step = 3, "done with steps");
        Ok(())
    }
    #[trigger("apply")]
    async fn fatal(&self) -> Result<()> {
        count(&self.identifier);
        Err(Error::msg("no use").fatal())
    }
}

#[tokio::test]
async fn t19_progress_and_tracing_events_are_on_record() {
    let db = fresh::db().await;
    crate::support::trace_jobs();
    let error = db.apply(Reporter { identifier: "t19".into() }).await.unwrap_err();
    let id = error.outcome().unwrap().job("steps").unwrap().id;
    assert_eq!(db.job(id).await.unwrap().progress, Some((3, 3)));
    assert_eq!(db.logs(id).await.unwrap()[0].message, "done with steps step=3");
}

#[tokio::test]
async fn t20_an_apply_that_waits_inside_a_job_is_refused() {
    let db = fresh::db().await;
    let applied = db.apply(Nested { identifier: "t20".into() }).await.unwrap();
    assert!(applied.result::<String>("inner").unwrap().contains(".detach()"));
    assert!(db.load::<Pair>("made-by-a-job").await.is_ok());
}

#[derive(Component, Clone)]
struct Nested {
    identifier: String,
}
#[triggers]
impl Nested {
    #[trigger("apply")]
    async fn inner(&self, ctx: &JobContext) -> Result<String> {
        let db = ctx.db()?;
        let error =
            db.apply(pair("made-by-a-job")).await.expect_err("it would wait for its own slot");
        db.apply(pair("made-by-a-job")).detach().await?;
        Ok(error.to_string())
    }
}
