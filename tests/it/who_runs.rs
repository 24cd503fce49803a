//! Who runs what: a process claims only what its program has, an observer records and runs nothing,
//! a worker goes on with what others recorded, and a process that closes gives back what it has.

use crate::support::until::until;
use crate::support::{refused, says};
use std::{path::Path, time::Duration};
use superduper::{
    JobPolicy, JobSignal, Registry, Run,
    prelude::*,
    store::{JobFilter, JobId, JobRow, JobState, RunState},
};

/// What one program has.
#[derive(Component, Clone)]
#[component(kind = "who.Alpha")]
struct Alpha {
    identifier: String,
}

#[triggers]
impl Alpha {
    #[trigger("apply")]
    async fn first(&self) -> Result<u32> {
        Ok(1)
    }

    #[trigger("apply", depends_on = "first")]
    async fn second(&self) -> Result<u32> {
        Ok(2)
    }
}

/// What another one has.
#[derive(Component, Clone)]
#[component(kind = "who.Beta")]
struct Beta {
    identifier: String,
}

#[triggers]
impl Beta {
    #[trigger("apply")]
    async fn only(&self) -> Result<u32> {
        Ok(3)
    }
}

fn alpha(identifier: &str) -> Alpha {
    Alpha { identifier: identifier.into() }
}

fn beta(identifier: &str) -> Beta {
    Beta { identifier: identifier.into() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("my.db")
    }

    /// As another program opens it: with a handle, a worker and types of its own.
    async fn open(&self, registry: Registry) -> Db {
        Db::builder().at(self.path()).unwrap().registry(registry).build().await.unwrap()
    }

    async fn observer(&self, registry: Registry) -> Db {
        Db::builder().at(self.path()).unwrap().registry(registry).observer().build().await.unwrap()
    }
}

fn of_alpha() -> Registry {
    Registry::builder().with::<Alpha>().build().unwrap()
}

fn of_beta() -> Registry {
    Registry::builder().with::<Beta>().build().unwrap()
}

fn of_both() -> Registry {
    Registry::builder().with::<Alpha>().with::<Beta>().build().unwrap()
}

async fn jobs(db: &Db, run: &Run) -> Vec<JobRow> {
    db.jobs(JobFilter { run: run.id(), ..JobFilter::default() }).await.unwrap()
}

#[track_caller]
fn untouched(rows: &[JobRow], after: &str) {
    for row in rows {
        assert_eq!(
            (row.state, row.attempt, row.owner),
            (JobState::Queued, 0, None),
            "{after}: job {} (`{}`)",
            row.id,
            row.method
        );
    }
}

async fn soon<T>(what: &str, work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("{what} never ends"))
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_a_program_that_lacks_a_kind_leaves_its_jobs_alone() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    // Jobs of both kinds in one run each, and a job of Beta that failed before.
    let waiting = observer.apply(alpha("waits")).detach().await.unwrap();
    let cancelled = observer.apply(beta("cancelled")).detach().await.unwrap();
    let blocked = observer.apply(beta("blocked")).detach().await.unwrap();
    let blocked_job = blocked.recorded()[0];
    observer.block(blocked_job, "until later").await.unwrap();
    let bundle = place.0.path().join("bundle.json");
    place.open(of_beta()).await.apply(beta("source")).await.unwrap();
    observer.export("who.Beta/source", &bundle).await.unwrap();
    let db = place.open(of_beta()).await;
    db.remove::<Beta>("source").await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "remove");
    db.cancel(cancelled.id().unwrap()).await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "cancel");
    let job = jobs(&observer, &cancelled).await[0].clone();
    assert_eq!(job.state, JobState::Cancelled);
    soon("the retry", db.retry(job.id)).await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "retry");
    db.unblock(blocked_job).await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "unblock");
    let outcomes = soon("resume", db.resume()).await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "resume");
    let left: Vec<JobId> = outcomes.iter().flat_map(superduper::Outcome::unfinished).collect();
    assert_eq!(left, waiting.recorded(), "what is left is told");
    assert_eq!(jobs(&observer, &blocked).await[0].state, JobState::Succeeded, "the rest went on");
    soon("the import", db.import(&bundle)).await.unwrap();
    untouched(&jobs(&observer, &waiting).await, "import");
    // Who waits for the run of another program is told, where no other program runs.
    let run = db.resume_run(waiting.id().unwrap()).await.unwrap();
    let error = soon("waiting", run.wait()).await.unwrap_err();
    says(&error, ErrorKind::UnknownKind, &["`first` of `who.Alpha/waits@0.0`", "this program"]);
    untouched(&jobs(&observer, &waiting).await, "waiting");
    // A retry of what it lacks records the job, and leaves it to the program that has it.
    db.cancel(waiting.recorded()[0]).await.unwrap();
    let error = soon("a retry", db.retry(waiting.recorded()[0])).await.unwrap_err();
    says(&error, ErrorKind::UnknownKind, &["who.Alpha"]);
    let again = place.open(of_alpha()).await;
    let outcomes = soon("the program that has it", again.resume()).await.unwrap();
    assert!(outcomes.iter().all(superduper::Outcome::succeeded), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_a_program_that_has_the_kind_goes_on_beside_one_that_lacks_it() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    let waiting = observer.apply(alpha("waits")).detach().await.unwrap();
    let (lacks, has) = (place.open(of_beta()).await, place.open(of_alpha()).await);
    has.apply(alpha("makes it known")).await.unwrap();
    let lacking = lacks.resume().detach().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    untouched(&jobs(&observer, &waiting).await, "following");
    let applied = soon("the apply", has.apply(alpha("waits"))).await.unwrap();
    assert_eq!(applied.result::<u32>("second").unwrap(), 2);
    let outcome = soon("the other one", lacking[0].wait()).await.unwrap().expect("an outcome");
    assert!(outcome.succeeded(), "who followed the run hears of its end");
    assert!(jobs(&observer, &waiting).await.iter().all(|job| job.attempt == 1 && job.lost == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn e02_an_observer_records_and_runs_nothing() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    let run = observer.apply(alpha("a")).detach().await.unwrap();
    assert!(!observer.drives(run.id().unwrap()));
    let kept = observer.apply(beta("kept")).detach().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    untouched(&jobs(&observer, &run).await, "apply");
    assert!(observer.metadata().live_workers().await.unwrap().is_empty(), "it is no worker");
    for refusal in [
        refused(observer.work().await),
        refused(observer.resume().detach().await),
        refused(observer.resume_run(run.id().unwrap()).await),
    ] {
        says(&refusal, ErrorKind::Unsupported, &["opened as an observer"]);
    }
    // In the commit of the cancel: the job, what needs it, and the run.
    let before = observer.metadata().last_event().await.unwrap();
    observer.cancel(run.recorded()[0]).await.unwrap();
    let rows = jobs(&observer, &run).await;
    assert_eq!((rows[0].state, rows[1].state), (JobState::Cancelled, JobState::Skipped));
    assert!(rows[1].failure.as_ref().unwrap().message.contains("upstream cancelled"), "{rows:?}");
    let outcome = soon("the run", run.wait()).await.unwrap_err();
    assert_eq!(outcome.kind(), ErrorKind::Cancelled);
    assert_eq!(outcome.outcome().unwrap().run.state, RunState::Cancelled);
    let mut events = observer.metadata().events(before, None, 100).await.unwrap().rows;
    // A signal has the time of the store.
    events.retain(|event| event.kind != "job.signalled");
    assert!(
        events.iter().all(|event| event.at == events[0].at),
        "one commit, one time: {events:?}"
    );
    // Retry and unblock are recorded; a worker elsewhere does them, and who waits here hears of it.
    let retried = observer.retry_detached(run.recorded()[0]).await.unwrap();
    observer.block(kept.recorded()[0], "a look").await.unwrap();
    observer.unblock(kept.recorded()[0]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    untouched(&jobs(&observer, &retried).await, "retry");
    let worker = place.open(of_both()).await;
    let working = tokio::spawn({
        let worker = worker.clone();
        async move { worker.work().await }
    });
    assert!(soon("the retry", retried.wait()).await.unwrap().expect("an outcome").succeeded());
    assert!(soon("the other one", kept.wait()).await.unwrap().expect("an outcome").succeeded());
    let applied = soon("an awaited apply", observer.apply(alpha("b"))).await.unwrap();
    assert_eq!(applied.result::<u32>("second").unwrap(), 2);
    soon("a removal", observer.remove::<Alpha>("b")).await.unwrap();
    assert!(soon("the close", worker.close(Duration::from_secs(5))).await.unwrap().is_empty());
    soon("the worker", working).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_workers_of_different_kinds_do_their_own() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    let mut runs = Vec::new();
    for number in 0..50 {
        runs.push(observer.apply(alpha(&format!("a{number}"))).detach().await.unwrap());
        runs.push(observer.apply(beta(&format!("b{number}"))).detach().await.unwrap());
    }
    let workers = [place.open(of_alpha()).await, place.open(of_beta()).await];
    let working: Vec<_> = workers
        .iter()
        .cloned()
        .map(|worker| tokio::spawn(async move { worker.work().await }))
        .collect();
    for number in 50..100 {
        runs.push(observer.apply(alpha(&format!("a{number}"))).detach().await.unwrap());
        runs.push(observer.apply(beta(&format!("b{number}"))).detach().await.unwrap());
    }
    for run in &runs {
        let outcome = soon("a run", run.wait()).await.unwrap().expect("an outcome");
        assert!(
            outcome
                .jobs
                .iter()
                .all(|job| job.state == JobState::Succeeded && (job.attempt, job.lost) == (1, 0)),
            "{outcome:?}"
        );
    }
    for worker in &workers {
        soon("the close", worker.close(Duration::from_secs(5))).await.unwrap();
    }
    for work in working {
        soon("a worker", work).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_a_job_whose_kind_no_running_program_has_says_so() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    let run = observer.apply(alpha("a")).detach().await.unwrap();
    let job = run.recorded()[0];
    let lacks = place.open(of_beta()).await;
    lacks.apply(beta("b")).await.unwrap();
    let says = lacks.waits_for_program(job).await.unwrap().expect("a reason");
    assert!(says.contains("no running program has the kind `who.Alpha`"), "{says}");
    let says = observer
        .waits_for_program(job)
        .await
        .unwrap()
        .expect("a reason, also where the observer has the type");
    assert!(says.contains("`who.Alpha`"), "{says}");
    // A program that has it is on record as soon as it works.
    let has = place.open(of_alpha()).await;
    has.apply(alpha("other")).await.unwrap();
    assert_eq!(lacks.waits_for_program(job).await.unwrap(), None);
    soon("the run", has.resume()).await.unwrap();
    assert_eq!(
        lacks.waits_for_program(run.recorded()[1]).await.unwrap(),
        None,
        "a job that is over waits for nothing"
    );
}

/// Counts until it is asked to pause, or holds its thread.
#[derive(Component, Clone)]
#[component(kind = "who.Counts")]
struct Counts {
    identifier: String,
    to: u64,
    holds_ms: u64,
}

#[triggers]
impl Counts {
    #[trigger("apply")]
    async fn count(&self, ctx: &JobContext) -> Result<u64> {
        let before = ctx.checkpoints().await?.pop();
        let mut done: u64 = match before {
            Some(row) => ctx.decode(row.data, "state")?,
            None => 0,
        };
        while done < self.to {
            tokio::time::sleep(Duration::from_millis(5)).await;
            done += 1;
            if ctx.signal() == Some(JobSignal::Pause) {
                ctx.checkpoint(done, None, ctx.encode(&done)?, Vec::new()).await?;
                return Err(ctx.block("paused").into());
            }
        }
        Ok(done)
    }

    #[trigger("apply", depends_on = "count")]
    fn hold(&self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.holds_ms));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_close_pauses_gives_back_and_tells_who_waits() {
    let place = Place::new();
    let db = Db::open(place.path()).await.unwrap();
    let counts = Counts { identifier: "c".into(), to: 400, holds_ms: 0 };
    let run = db.apply(counts).detach().await.unwrap();
    let job = run.recorded()[0];
    until("the start", async || db.job(job).await.unwrap().state == JobState::Running).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let waiting = tokio::spawn({
        let run = run.clone();
        async move { run.wait().await }
    });
    assert!(soon("the close", db.close(Duration::from_secs(10))).await.unwrap().is_empty());
    let error = soon("who waits", waiting).await.unwrap().unwrap_err();
    says(&error, ErrorKind::Cancelled, &["this process closed the database", "db.resume()"]);
    // It reads, and refuses to write.
    let row = db.job(job).await.unwrap();
    assert_eq!(
        (row.state, row.owner, row.lost, row.tries),
        (JobState::Queued, None, 0, 0),
        "given back, and nothing counted"
    );
    assert_eq!(db.metadata().checkpoints(job).await.unwrap().len(), 1);
    says(&refused(db.apply(alpha("late")).await), ErrorKind::Unsupported, &["was closed"]);
    assert!(db.metadata().live_workers().await.unwrap().is_empty());
    // Another process goes on from the checkpoint.
    let next = Db::open(place.path()).await.unwrap();
    let outcomes = soon("the next process", next.resume()).await.unwrap();
    assert_eq!(outcomes[0].result::<u64>("count").unwrap(), 400);
    let attempts = next.attempts(job).await.unwrap();
    assert_eq!(
        attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(),
        [2],
        "{attempts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_a_thread_that_does_not_return_keeps_its_claim() {
    let place = Place::new();
    let db = Db::open(place.path()).await.unwrap();
    let run =
        db.apply(Counts { identifier: "h".into(), to: 0, holds_ms: 3000 }).detach().await.unwrap();
    let hold = run.recorded()[1];
    until("the start", async || db.job(hold).await.unwrap().state == JobState::Running).await;
    let left = soon("the close", db.close(Duration::from_millis(50))).await.unwrap();
    assert_eq!(left, [hold]);
    assert_eq!(
        soon("a second close", db.close(Duration::from_millis(10))).await.unwrap(),
        [hold],
        "its thread still runs"
    );
    assert_eq!(
        db.metadata().live_workers().await.unwrap().len(),
        1,
        "so no other process may take the job over"
    );
    assert_eq!(soon("who waits", run.wait()).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(
        db.job(hold).await.unwrap().state,
        JobState::Running,
        "no other process may start it beside the thread"
    );
    let next = Db::open(place.path()).await.unwrap();
    let outcomes = soon("the next process", next.resume()).await.unwrap();
    assert!(outcomes[0].succeeded());
    assert_eq!(next.job(hold).await.unwrap().lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_close_of_a_database_that_runs_nothing_is_quick() {
    let place = Place::new();
    let db = Db::open(place.path()).await.unwrap();
    db.apply(beta("b")).await.unwrap();
    let began = std::time::Instant::now();
    assert!(db.close(Duration::from_secs(60)).await.unwrap().is_empty());
    assert!(db.close(Duration::from_secs(60)).await.unwrap().is_empty(), "twice is once");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(exists(&place.path()), "and the record is there");
}

fn exists(path: &Path) -> bool {
    path.join("metadata.sqlite").exists()
}

/// Has no jobs of its own.
#[derive(Component, Clone)]
#[component(kind = "who.Plain")]
struct Plain {
    identifier: String,
}

/// Holds a component whose kind a program may lack.
#[derive(Component)]
#[component(kind = "who.Holds")]
struct Holds {
    identifier: String,
    held: Box<dyn superduper::Component>,
}

#[triggers]
impl Holds {
    #[trigger("apply")]
    async fn work(&self) -> Result<String> {
        Ok(self.held.identifier().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_a_program_that_lacks_the_kind_of_a_child_gives_the_job_back() {
    let place = Place::new();
    let whole = || Registry::builder().with::<Holds>().with::<Plain>().build().unwrap();
    let observer = place.observer(whole()).await;
    let run = observer
        .apply(Holds {
            identifier: "h".into(),
            held: Box::new(Plain { identifier: "child".into() }),
        })
        .detach()
        .await
        .unwrap();
    let lacks = place.open(Registry::builder().with::<Holds>().build().unwrap()).await;
    soon("resume", lacks.resume()).await.unwrap();
    let work = jobs(&observer, &run).await.into_iter().find(|job| job.method == "work").unwrap();
    assert_eq!((work.state, work.owner, work.tries, work.lost), (JobState::Queued, None, 0, 0));
    let has = place.open(whole()).await;
    let outcomes = soon("the program that has it", has.resume()).await.unwrap();
    assert!(outcomes.iter().all(superduper::Outcome::succeeded), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_who_waits_in_an_observer_is_told_of_its_close() {
    let place = Place::new();
    let observer = place.observer(of_both()).await;
    let run = observer.apply(alpha("a")).detach().await.unwrap();
    let waiting = tokio::spawn({
        let run = run.clone();
        async move { run.wait().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    soon("the close", observer.close(Duration::from_secs(5))).await.unwrap();
    assert_eq!(soon("who waits", waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    untouched(&jobs(&place.observer(of_both()).await, &run).await, "close");
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_an_apply_beside_a_close_is_refused_or_given_back() {
    for micros in [0, 50, 200, 500, 1000, 2000, 5000] {
        let place = Place::new();
        let db = place.open(of_alpha()).await;
        let applying = tokio::spawn({
            let db = db.clone();
            async move { db.apply(alpha("beside")).await }
        });
        tokio::time::sleep(Duration::from_micros(micros)).await;
        assert!(soon("the close", db.close(Duration::from_secs(5))).await.unwrap().is_empty());
        // It is told, one way or the other.
        drop(soon("the apply", applying).await.unwrap());
        assert!(db.metadata().live_workers().await.unwrap().is_empty(), "{micros}");
        let rows = db.jobs(JobFilter::default()).await.unwrap();
        assert!(rows.iter().all(|row| row.owner.is_none() && row.lost == 0), "{micros}: {rows:?}");
    }
}

/// Runs where a program of another build has the executor.
#[derive(Component, Clone)]
#[component(kind = "who.Clustered")]
struct Clustered {
    identifier: String,
}

#[triggers]
impl Clustered {
    fn policy(&self) -> JobPolicy {
        JobPolicy { executor: Some("cluster".to_owned()), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "policy")]
    async fn work(&self) -> Result<u32> {
        Ok(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e02_an_observer_needs_no_executor_and_decides_about_none() {
    let place = Place::new();
    let registry = || Registry::builder().with::<Clustered>().build().unwrap();
    let observer = place.observer(registry()).await;
    let clustered = Clustered { identifier: "c".into() };
    let run = observer.apply(clustered.clone()).detach().await.unwrap();
    // Again, while no process lives that has the executor.
    observer.apply(clustered.clone()).detach().await.unwrap();
    untouched(&jobs(&observer, &run).await, "an apply of equal content");
    observer.cancel(run.recorded()[0]).await.unwrap();
    let again = observer.retry_detached(run.recorded()[0]).await.unwrap();
    assert_eq!(
        jobs(&observer, &again).await[0].executor.as_deref(),
        Some("cluster"),
        "where it runs is not its to say"
    );
    // A process that runs jobs refuses what it cannot run, before anything is written.
    let worker = place.open(registry()).await;
    says(
        &refused(worker.apply(Clustered { identifier: "d".into() }).await),
        ErrorKind::Unsupported,
        &["`cluster`"],
    );
}

/// Has a cleanup.
#[derive(Component, Clone)]
#[component(kind = "who.Cleaned")]
struct Cleaned {
    identifier: String,
}

impl Lifecycle for Cleaned {
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_by_force_a_removal_ends_that_nobody_can_clean_up_for() {
    let place = Place::new();
    let registry = || Registry::builder().with::<Cleaned>().build().unwrap();
    place.open(registry()).await.apply(Cleaned { identifier: "c".into() }).await.unwrap();
    // Recorded, and left by its process; then the type is deleted.
    let observer = place.observer(registry()).await;
    let removing = tokio::time::timeout(
        Duration::from_millis(300),
        observer.remove::<Cleaned>("c").into_future(),
    )
    .await;
    assert!(removing.is_err(), "no process runs its cleanup");
    let without = place.open(of_beta()).await;
    let address: superduper::Address = "who.Cleaned/c".parse().unwrap();
    let error = soon("a removal", without.remove_dyn(address.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKind, "{error}");
    soon("by force", without.remove_dyn(address).force()).await.unwrap();
    assert!(without.list().await.unwrap().is_empty());
    // The same where the removal on record was by force already: whoever resumes it ends it.
    place.open(registry()).await.apply(Cleaned { identifier: "d".into() }).await.unwrap();
    let removing = tokio::time::timeout(
        Duration::from_millis(300),
        observer.remove::<Cleaned>("d").force().into_future(),
    )
    .await;
    assert!(removing.is_err(), "no process runs its cleanup");
    soon("resume", without.resume()).await.unwrap();
    assert!(without.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_a_child_that_is_lacking_is_found_out_once() {
    let place = Place::new();
    let observer =
        place.observer(Registry::builder().with::<Holds>().with::<Plain>().build().unwrap()).await;
    let run = observer
        .apply(Holds {
            identifier: "h".into(),
            held: Box::new(Plain { identifier: "child".into() }),
        })
        .detach()
        .await
        .unwrap();
    let lacks = place.open(Registry::builder().with::<Holds>().build().unwrap()).await;
    soon("resume", lacks.resume()).await.unwrap();
    let attempts =
        jobs(&observer, &run).await.into_iter().find(|job| job.method == "work").unwrap().attempt;
    soon("resume", lacks.resume()).await.unwrap();
    let job = jobs(&observer, &run).await.into_iter().find(|job| job.method == "work").unwrap();
    assert_eq!((job.attempt, attempts), (1, 1), "it is not claimed again");
    let reason = lacks.waits_for_program(job.id).await.unwrap().expect("a reason");
    assert!(reason.contains("a component that `who.Holds/h"), "{reason}");
}
