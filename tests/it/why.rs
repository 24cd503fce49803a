//! Case N08: what a job waits for, one test for each reason, with ids.

use crate::support::{busy::Busy, databases};
use std::time::{Duration, SystemTime};
use superduper::{
    JobPolicy, JobSignal, Registry, Run,
    db::{WaitReason, Why},
    job::Lack,
    prelude::*,
    store::{
        Batch, Durability, JobFilter, JobId, JobRole, JobState, NewWorker, Op, Timestamp, WorkerId,
    },
};

/// What the first job of a component does.
#[derive(Component, Clone)]
#[component(kind = "why.Step")]
struct Step {
    identifier: String,
    how: String,
}

#[triggers]
impl Step {
    fn policy(&self) -> JobPolicy {
        let mut policy = JobPolicy::default();
        match self.how.as_str() {
            "pool" => policy.pool = Some(("why".to_owned(), 1)),
            "elsewhere" => policy.executor = Some("slurm".to_owned()),
            "fail" => {
                policy.retries = Some(3);
                policy.backoff = Some(Duration::from_secs(3600));
            }
            _ => {}
        }
        policy
    }

    #[trigger("apply", policy = "policy")]
    async fn first(&self, ctx: &JobContext) -> Result<()> {
        let soon = SystemTime::now() + Duration::from_secs(3600);
        match self.how.as_str() {
            "block" => return Err(ctx.block("an answer").into()),
            "until" => return Err(ctx.block("the night").until(soon).into()),
            "fail" => return Err(Error::msg("not yet")),
            "run" | "pool" | "pause" => {}
            _ => return Ok(()),
        }
        loop {
            ctx.check_cancelled()?;
            if ctx.signal() == Some(JobSignal::Pause) {
                return Err(ctx.block("paused").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[trigger("apply", depends_on = "first")]
    async fn second(&self) -> Result<()> {
        Ok(())
    }
}

/// The same kind in a program of another day: it has no trigger `first`.
#[derive(Component, Clone)]
#[component(kind = "why.Step", register = no)]
struct Later {
    identifier: String,
    how: String,
}

#[triggers]
impl Later {
    #[trigger("apply")]
    async fn second(&self) -> Result<()> {
        Ok(())
    }
}

/// Holds a step.
#[derive(Component, Clone)]
#[component(kind = "why.Holder")]
struct Holder {
    identifier: String,
    step: Step,
}

#[triggers]
impl Holder {
    #[trigger("apply")]
    async fn hold(&self) -> Result<()> {
        Ok(())
    }
}

/// Goes on until a file is there, whoever cancels it.
#[derive(Component, Clone)]
#[component(kind = "why.Stubborn")]
struct Stubborn {
    identifier: String,
    file: String,
}

impl Lifecycle for Stubborn {
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[triggers]
impl Stubborn {
    #[trigger("apply")]
    async fn go_on(&self) -> Result<()> {
        while !std::path::Path::new(&self.file).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn step(identifier: &str, how: &str) -> Step {
    Step { identifier: identifier.into(), how: how.into() }
}

/// The job of a component and a method that was recorded last.
async fn job_of(db: &Db, path: &str, method: &str) -> JobId {
    let target = Some(path.parse().unwrap());
    let rows = db.jobs(JobFilter { target, ..JobFilter::default() }).await.unwrap();
    rows.iter().rev().find(|row| row.method == method).expect("it is on record").id
}

/// Ask until the answer is one of these.
async fn why(db: &Db, job: JobId, is_it: impl Fn(&Why) -> bool) -> Why {
    let mut last = None;
    for _ in 0..2000 {
        let why = db.why(job).await.unwrap();
        if is_it(&why) {
            return why;
        }
        last = Some(why);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the reason never comes: {last:?}");
}

async fn state(db: &Db, job: JobId, state: JobState) {
    why(db, job, |why| why.job.state == state).await;
}

#[track_caller]
fn says(why: &Why, parts: &[&str]) {
    let text = why.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

async fn end(db: &Db, run: &Run) {
    db.cancel(run.id().unwrap()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), run.wait()).await;
    assert!(ended.is_ok(), "a cancelled run ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_waits_for_another_one() {
    for on in databases().await {
        let run = on.db.apply(step("a", "run")).detach().await.unwrap();
        let (first, second) = (
            job_of(&on.db, "why.Step/a", "first").await,
            job_of(&on.db, "why.Step/a", "second").await,
        );
        let why = why(&on.db, second, |why| {
            matches!(&why.reasons[..], [WaitReason::Job(needs)] if needs.state == JobState::Running)
        })
        .await;
        let WaitReason::Job(needs) = &why.reasons[0] else { panic!("{why:?}") };
        assert_eq!(
            (needs.id, needs.run, needs.method.as_str()),
            (first, run.id().unwrap(), "first")
        );
        says(
            &why,
            &[
                &format!("job:{second} (`second` of `why.Step/a@0`) is queued"),
                &format!("job:{first} (`first`"),
                "is running",
            ],
        );
        // The one that runs waits for nothing, and says where it runs.
        let why = on.db.why(first).await.unwrap();
        assert!(why.reasons.is_empty() && why.worker.is_some(), "{why:?}");
        says(&why, &["is running on worker:"]);
        end(&on.db, &run).await;
        let why = on.db.why(second).await.unwrap();
        assert!(why.reasons.is_empty() && why.job.state.is_terminal(), "{why:?}");
        let error = on.db.why(JobId(999)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_waits_for_a_job_of_another_run() {
    for on in databases().await {
        let child = on.db.apply(step("child", "block")).detach().await.unwrap();
        let blocked = job_of(&on.db, "why.Step/child", "first").await;
        state(&on.db, blocked, JobState::Blocked).await;
        let holder = Holder { identifier: "h".into(), step: step("child", "block") };
        let run = on.db.apply(holder).detach().await.unwrap();
        let waits = job_of(&on.db, "why.Holder/h", "hold").await;
        let why = on.db.why(waits).await.unwrap();
        let others: Vec<_> = why
            .reasons
            .iter()
            .map(|reason| match reason {
                WaitReason::JobOfRun(needs) => (needs.id, needs.run, needs.state),
                reason => panic!("{reason:?}"),
            })
            .collect();
        assert!(others.contains(&(blocked, child.id().unwrap(), JobState::Blocked)), "{why:?}");
        says(&why, &[&format!("a job of run:{}", child.id().unwrap()), "which is blocked"]);
        end(&on.db, &run).await;
        end(&on.db, &child).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_waits_for_its_pool() {
    for on in databases().await {
        let one = on.db.apply(step("one", "pool")).detach().await.unwrap();
        let first = job_of(&on.db, "why.Step/one", "first").await;
        state(&on.db, first, JobState::Running).await;
        let two = on.db.apply(step("two", "pool")).detach().await.unwrap();
        let waits = job_of(&on.db, "why.Step/two", "first").await;
        let why = on.db.why(waits).await.unwrap();
        let full = WaitReason::Pool { pool: "why".into(), limit: 1, jobs: vec![first] };
        assert_eq!(why.reasons, [full]);
        says(&why, &[&format!("the pool `why` is full: job:{first} has its 1 place")]);
        end(&on.db, &one).await;
        state(&on.db, waits, JobState::Running).await;
        end(&on.db, &two).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_waits_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Db::builder().at(folder.path().join("my.db")).unwrap();
    let db = builder.parallelism(1).build().await.unwrap();
    let one = db.apply(Busy { identifier: "one".into() }).detach().await.unwrap();
    let first = job_of(&db, "support.Busy/one", "wait").await;
    state(&db, first, JobState::Running).await;
    let two = db.apply(step("two", "")).detach().await.unwrap();
    let waits = job_of(&db, "why.Step/two", "first").await;
    let worker = db.workers().await.unwrap()[0].id;
    // It may have been claimed before there is room.
    let why = why(&db, waits, |why| !why.reasons.is_empty()).await;
    match &why.reasons[..] {
        [WaitReason::Turn { workers, jobs }] => {
            assert_eq!((&workers[..], &jobs[..]), (&[worker][..], &[first][..]));
            says(&why, &[&format!("job:{first} runs there")]);
        }
        [WaitReason::Claimed(by)] => assert_eq!(*by, worker),
        reasons => panic!("{reasons:?}"),
    }
    end(&db, &one).await;
    two.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_is_blocked() {
    for on in databases().await {
        let before = Timestamp::now();
        let run = on.db.apply(step("a", "block")).detach().await.unwrap();
        let job = job_of(&on.db, "why.Step/a", "first").await;
        state(&on.db, job, JobState::Blocked).await;
        let why = on.db.why(job).await.unwrap();
        let [WaitReason::Blocked { reason, since: Some(since), until: None }] = &why.reasons[..]
        else {
            panic!("{why:?}")
        };
        assert!(reason == "an answer" && *since >= before && *since <= Timestamp::now());
        says(&why, &["is blocked: it is blocked since 20", "it waits for: an answer"]);
        end(&on.db, &run).await;
        let run = on.db.apply(step("b", "until")).detach().await.unwrap();
        let job = job_of(&on.db, "why.Step/b", "first").await;
        state(&on.db, job, JobState::Blocked).await;
        let why = on.db.why(job).await.unwrap();
        let [WaitReason::Blocked { until: Some(until), .. }] = &why.reasons[..] else {
            panic!("{why:?}")
        };
        assert!(until.0 > before.0 + 3_500_000, "{why:?}");
        says(&why, &[" until 20"]);
        // By hand, a queued job.
        let second = job_of(&on.db, "why.Step/b", "second").await;
        on.db.block(second, "the boss").await.unwrap();
        let why = on.db.why(second).await.unwrap();
        says(&why, &["it waits for: the boss"]);
        end(&on.db, &run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_was_paused() {
    for on in databases().await {
        let run = on.db.apply(step("a", "pause")).detach().await.unwrap();
        let job = job_of(&on.db, "why.Step/a", "first").await;
        state(&on.db, job, JobState::Running).await;
        on.db.signal(job, JobSignal::Pause).await.unwrap();
        state(&on.db, job, JobState::Blocked).await;
        let why = on.db.why(job).await.unwrap();
        assert!(
            matches!(&why.reasons[..], [WaitReason::Blocked { reason, .. }] if reason == "paused"),
            "{why:?}"
        );
        end(&on.db, &run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_job_pauses_before_the_next_try() {
    for on in databases().await {
        let before = Timestamp::now();
        let run = on.db.apply(step("a", "fail")).detach().await.unwrap();
        let job = job_of(&on.db, "why.Step/a", "first").await;
        let why =
            why(&on.db, job, |why| !matches!(&why.reasons[..], [] | [WaitReason::Turn { .. }]))
                .await;
        let [WaitReason::Backoff { until, tries: 1 }] = &why.reasons[..] else { panic!("{why:?}") };
        assert!(until.0 >= before.0 + 1_000_000, "{why:?}");
        says(&why, &["it failed once (1), and is tried again at 20"]);
        end(&on.db, &run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_cleanup_waits_for_jobs_at_work() {
    for on in databases().await {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("go");
        let stubborn = Stubborn { identifier: "s".into(), file: file.display().to_string() };
        on.db.apply(stubborn).detach().await.unwrap();
        let busy = job_of(&on.db, "why.Stubborn/s", "go_on").await;
        state(&on.db, busy, JobState::Running).await;
        let db = on.db.clone();
        let removal = tokio::spawn(async move { db.remove::<Stubborn>("s").await });
        let cleanup = loop {
            let roles = Some(vec![JobRole::Cleanup]);
            let filter = JobFilter { roles, ..JobFilter::default() };
            if let Some(row) = on.db.jobs(filter).await.unwrap().pop() {
                break row;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let why = on.db.why(cleanup.id).await.unwrap();
        let [WaitReason::Removal { run, jobs }] = &why.reasons[..] else { panic!("{why:?}") };
        let named: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        assert_eq!((*run, named), (cleanup.run, vec![busy]));
        says(&why, &[&format!("the removal run:{run} waits for job:{busy} (`go_on`")]);
        std::fs::write(&file, "").unwrap();
        removal.await.unwrap().unwrap();
    }
}

/// A database in a folder, and a process that records jobs in it and runs none.
struct Recorded {
    folder: tempfile::TempDir,
    observer: Db,
    run: Run,
    job: JobId,
}

impl Recorded {
    async fn new(how: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let observer = Db::builder().at(folder.path().join("my.db")).unwrap();
        let observer = observer.observer().build().await.unwrap();
        let run = observer.apply(step("a", how)).detach().await.unwrap();
        let job = run.recorded()[0];
        Recorded { folder, observer, run, job }
    }

    async fn open(&self, registry: Registry) -> Db {
        let builder = Db::builder().at(self.folder.path().join("my.db")).unwrap();
        builder.registry(registry).build().await.unwrap()
    }

    async fn why(&self) -> Why {
        self.observer.why(self.job).await.unwrap()
    }

    async fn commit(&self, op: Op) {
        let batch = Batch { expect: Vec::new(), ops: vec![op] };
        self.observer.metadata().commit(batch, Durability::Relaxed).await.unwrap();
    }

    /// A worker whose program has these kinds and executors.
    async fn worker(&self, kinds: &[&str], executors: &[&str]) -> WorkerId {
        let mut new = NewWorker::new();
        new.kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        new.executors = executors.iter().map(|name| (*name).to_owned()).collect();
        self.observer.metadata().register_worker(new).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_no_process_leads_the_run() {
    let on = Recorded::new("").await;
    let run = on.run.id().unwrap();
    let why = on.why().await;
    assert_eq!(why.reasons, [WaitReason::NotLed { run }]);
    says(&why, &[&format!("no live process leads run:{run}"), "`db.resume()` continues it"]);
    let db = on.open(Registry::builder().with::<Step>().build().unwrap()).await;
    assert_eq!(db.why(on.job).await.unwrap().reasons, [WaitReason::NotLed { run }]);
    db.resume().await.unwrap();
    assert_eq!(on.why().await.job.state, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_no_process_has_the_kind_the_trigger_or_the_executor() {
    let on = Recorded::new("").await;
    let lacks = |why: &Why| match &why.reasons[..] {
        [WaitReason::NoWorker { lack }] => lack.clone(),
        reasons => panic!("{reasons:?}"),
    };
    let other = on.open(Registry::builder().with::<Holder>().build().unwrap()).await;
    let why = other.why(on.job).await.unwrap();
    assert_eq!(lacks(&why), Lack::Kind("why.Step".into()));
    says(&why, &["no live process has the kind `why.Step`: start a program that has it"]);
    // As the observer sees it, which has the kind itself: the workers do not.
    let worker = on.worker(&["why.Holder"], &["threads"]).await;
    assert_eq!(lacks(&on.why().await), Lack::Kind("why.Step".into()));
    on.observer.metadata().deregister_worker(worker).await.unwrap();
    let later = on.open(Registry::builder().with::<Later>().build().unwrap()).await;
    let trigger = Lack::Trigger { kind: "why.Step".into(), trigger: "first".into() };
    assert_eq!(lacks(&later.why(on.job).await.unwrap()), trigger);
    let elsewhere = Recorded::new("elsewhere").await;
    let db = elsewhere.open(Registry::builder().with::<Step>().build().unwrap()).await;
    let why = db.why(elsewhere.job).await.unwrap();
    assert_eq!(lacks(&why), Lack::Executor("slurm".into()));
    says(&why, &["no live process has the executor `slurm`"]);
    elsewhere.worker(&["why.Step"], &["process", "threads"]).await;
    assert_eq!(lacks(&elsewhere.why().await), Lack::Executor("slurm".into()));
    elsewhere.worker(&["why.Step"], &["slurm"]).await;
    assert!(matches!(&elsewhere.why().await.reasons[..], [WaitReason::OtherWorkers { .. }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_other_processes_are_alive() {
    let on = Recorded::new("").await;
    let worker = on.worker(&[], &[]).await;
    let why = on.why().await;
    let run = on.run.id().unwrap();
    assert_eq!(
        why.reasons,
        [WaitReason::OtherWorkers { run, workers: vec![worker], jobs: Vec::new() }]
    );
    says(&why, &[&format!("alive is worker:{worker}"), &format!("If none leads run:{run}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_worker_has_claimed_the_job_and_is_gone() {
    let on = Recorded::new("").await;
    let owner = on.worker(&[], &[]).await;
    let claim =
        Op::Claim { jobs: vec![on.job], owner, start: false, pool: None, at: Timestamp::now() };
    on.commit(claim).await;
    let why = on.why().await;
    assert_eq!(why.reasons, [WaitReason::Claimed(owner)]);
    assert_eq!(why.worker.as_ref().map(|worker| worker.id), Some(owner));
    says(&why, &[&format!("worker:{owner} has claimed it")]);
    on.observer.metadata().deregister_worker(owner).await.unwrap();
    let why = on.why().await;
    assert_eq!(why.reasons, [WaitReason::WorkerGone { worker: owner }]);
    says(&why, &[&format!("worker:{owner}, which holds it, is gone")]);
    on.commit(Op::Start { job: on.job, attempt: 1, at: Timestamp::now() }).await;
    let why = on.why().await;
    assert_eq!(why.job.state, JobState::Running);
    assert_eq!(why.reasons, [WaitReason::WorkerGone { worker: owner }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn n08_a_cancel_is_not_carried_out_yet() {
    let on = Recorded::new("").await;
    on.commit(Op::Signal { jobs: vec![on.job], signal: JobSignal::Cancel }).await;
    let why = on.why().await;
    let run = on.run.id().unwrap();
    assert_eq!(why.reasons, [WaitReason::Cancelled { run }, WaitReason::NotLed { run }]);
    says(&why, &[&format!("it was asked to cancel: who leads run:{run} ends it"), "\n- "]);
}
