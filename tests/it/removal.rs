//! Removals that take their time: what happens meanwhile, and what is left of them after a crash.

use crate::support::until::until;
use crate::support::{Database, at, databases, in_folder, in_memory, refused, says};
use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use superduper::{
    Keep, Status,
    prelude::*,
    store::{
        JobFilter, JobRole, JobState, MAX_EVENT_DETAIL, MAX_FAILURE_TEXT, RunFilter, RunState,
    },
};
use tokio::sync::Semaphore;

/// Gates by name: hooks and jobs tell that they began, and wait until they are let go on.
static GATES: LazyLock<Mutex<HashMap<String, Arc<Gate>>>> = LazyLock::new(Default::default);

struct Gate {
    begun: AtomicUsize,
    open: AtomicBool,
    fails: AtomicBool,
    passes: Semaphore,
}

fn gate(name: &str) -> Arc<Gate> {
    let new = || Gate {
        begun: AtomicUsize::new(0),
        open: AtomicBool::new(false),
        fails: AtomicBool::new(false),
        passes: Semaphore::new(0),
    };
    GATES
        .lock()
        .expect("no panic")
        .entry(name.to_owned())
        .or_insert_with(|| Arc::new(new()))
        .clone()
}

impl Gate {
    async fn pass(&self) -> Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if !self.open.load(Ordering::SeqCst) {
            self.passes.acquire().await.map_err(Error::msg)?.forget();
        }
        if self.fails.load(Ordering::SeqCst) {
            Err(Error::msg("still in use").fatal())
        } else {
            Ok(())
        }
    }

    /// Let all go on, now and later.
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.passes.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    async fn reached(&self) {
        until("the gate", async || self.begun() > 0).await;
    }
}

/// Something outside that `cleanup` takes down, at the gate of its name.
#[derive(Component, Clone)]
#[component(kind = "removal.Kept")]
struct Kept {
    identifier: String,
    #[component(breaking)]
    b: i64,
    note: String,
}

impl Lifecycle for Kept {
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        gate(&self.identifier).pass().await
    }
}

#[derive(Component, Clone)]
#[component(kind = "removal.Parent")]
struct Parent {
    identifier: String,
    child: Option<Kept>,
}

/// Works on a thread until its gate opens: nothing can stop it before.
#[derive(Component, Clone)]
#[component(kind = "removal.Working")]
struct Working {
    identifier: String,
    #[component(breaking)]
    b: i64,
}

impl Lifecycle for Working {
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        gate(&format!("cleanup of {}", self.identifier)).pass().await
    }
}

#[triggers]
impl Working {
    #[trigger("apply")]
    fn work(&self) -> Result<()> {
        work(&self.identifier)
    }
}

/// The same without hooks: its removal has no job of its own.
#[derive(Component, Clone)]
#[component(kind = "removal.Plain")]
struct Plain {
    identifier: String,
}

#[triggers]
impl Plain {
    #[trigger("apply")]
    fn work(&self) -> Result<()> {
        work(&self.identifier)
    }
}

fn work(name: &str) -> Result<()> {
    let gate = gate(name);
    gate.begun.fetch_add(1, Ordering::SeqCst);
    while !gate.open.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn kept(name: &str, b: i64) -> Kept {
    Kept { identifier: name.into(), b, note: String::new() }
}

fn path(name: &str) -> String {
    format!("removal.Kept/{name}")
}

/// Versions 0 and 1 of a component, in databases of each kind.
async fn two_versions(name: &str) -> Vec<(Database, String)> {
    let mut found = Vec::new();
    for (place, on) in databases().await.into_iter().enumerate() {
        let name = format!("{name}{place}");
        for b in 0..2 {
            on.db.apply(kept(&name, b)).await.expect("applies");
        }
        found.push((on, name));
    }
    found
}

fn start(
    db: &Db,
    name: &str,
    version: u32,
) -> tokio::task::JoinHandle<Result<superduper::db::Removed>> {
    let (db, target) = (db.clone(), at(&format!("{}@{version}", path(name))));
    tokio::spawn(async move { db.remove_dyn(target).await })
}

async fn finished(db: &Db) {
    let open = db.runs(RunFilter { unfinished: true, ..RunFilter::default() }).await.expect("runs");
    assert!(open.is_empty(), "a run is unfinished: {open:?}");
    assert!(db.resume().await.expect("nothing is left to resume").is_empty());
    let report = db.verify().await.expect("verifies");
    assert!(report.is_sound(), "{report}");
}

#[tokio::test]
async fn b09_nothing_gets_hold_of_an_old_version_while_its_cleanup_runs() {
    for (on, name) in two_versions("b09old").await {
        let db = &on.db;
        db.label(format!("{}@1", path(&name)).as_str(), "good").await.expect("labels");
        let removal = start(db, &name, 0);
        gate(&name).reached().await;
        let old = format!("{}@0", path(&name));
        let going = [old.as_str(), "is being removed", "db.resume()"];
        says(&refused(db.label(old.as_str(), "prod").await), ErrorKind::Conflict, &going);
        says(
            &refused(db.move_label(old.as_str(), "good", Some(1)).await),
            ErrorKind::Conflict,
            &going,
        );
        let all: [(superduper::Locator, &str); 2] =
            [(at(&format!("{}@1", path(&name))).into(), "prod"), (at(&old).into(), "stage")];
        says(&refused(db.label_all(all).await), ErrorKind::Conflict, &going);
        says(&refused(db.rollback(path(&name).as_str(), 0).await), ErrorKind::Conflict, &going);
        says(
            &refused(db.rename(path(&name).as_str(), "removal.Kept/other").await),
            ErrorKind::Conflict,
            &["is not finished"],
        );
        let labels: Vec<String> = db
            .labels(path(&name).as_str())
            .await
            .expect("labels")
            .into_iter()
            .map(|row| row.label)
            .collect();
        assert_eq!(labels, ["good"], "what is refused changes nothing");
        // The newest version is used as ever.
        let parent = Parent { identifier: name.clone(), child: Some(kept(&name, 1)) };
        db.apply(parent).await.expect("its child is the newest version");
        db.apply(kept(&name, 2)).await.expect("a new version");
        // Who removes the same waits, and is told that it is gone.
        let again = start(db, &name, 0);
        let pruning = tokio::spawn({
            let (db, address) = (db.clone(), at(&path(&name)));
            async move { db.prune(address, Keep::last(1)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!again.is_finished() && !pruning.is_finished(), "they wait");
        gate(&name).open();
        for removal in [removal, again] {
            let removed = removal.await.expect("no panic").expect("it is gone");
            assert_eq!(removed.versions, [at(&old)]);
            assert!(removed.outcome.expect("the outcome of the cleanup").succeeded());
        }
        let pruned = pruning.await.expect("no panic").expect("prunes");
        assert_eq!(pruned.removed, [at(&old)]);
        assert!(pruned.held[0].1.contains("it is labelled `good`"), "{:?}", pruned.held);
        assert_eq!(on.versions(&path(&name)).await, [1, 2]);
        assert_eq!(gate(&name).begun(), 1, "it was cleaned up once");
        finished(db).await;
    }
}

#[tokio::test]
async fn b09_nothing_gets_hold_of_the_newest_version_while_its_cleanup_runs() {
    for (on, name) in two_versions("b09new").await {
        let db = &on.db;
        let removal = start(db, &name, 1);
        gate(&name).reached().await;
        let newest = format!("{}@1", path(&name));
        let going = [newest.as_str(), "is being removed"];
        for declared in
            [kept(&name, 1), kept(&name, 5), Kept { note: "other".into(), ..kept(&name, 1) }]
        {
            says(&refused(db.apply(declared.clone()).await), ErrorKind::Conflict, &going);
            let parent = Parent { identifier: "p".into(), child: Some(declared) };
            says(&refused(db.apply(parent).await), ErrorKind::Conflict, &going);
        }
        says(&refused(db.label(path(&name).as_str(), "prod").await), ErrorKind::Conflict, &going);
        says(&refused(db.rollback(path(&name).as_str(), 0).await), ErrorKind::Conflict, &going);
        assert_eq!(db.load::<Kept>(&name).await.expect("it can be read").b, 1);
        // The whole of it: waits for the version, then takes the rest.
        let whole = tokio::spawn({
            let (db, name) = (db.clone(), name.clone());
            async move { db.remove::<Kept>(&name).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!whole.is_finished(), "it waits");
        gate(&name).open();
        assert_eq!(removal.await.expect("no panic").expect("removes").versions, [at(&newest)]);
        let versions: Vec<String> = whole
            .await
            .expect("no panic")
            .expect("removes")
            .versions
            .iter()
            .map(|version| version.to_string())
            .collect();
        assert_eq!(versions, [newest.clone(), format!("{}@0", path(&name))]);
        assert_eq!(gate(&name).begun(), 2, "each version was cleaned up once");
        finished(db).await;
        assert_eq!(db.apply(kept(&name, 1)).await.expect("applies").version(), 0);
    }
}

#[tokio::test]
async fn b09_nothing_gets_hold_of_a_component_while_its_cleanup_runs() {
    for (on, name) in two_versions("b09whole").await {
        let db = &on.db;
        let remove = || {
            let (db, name) = (db.clone(), name.clone());
            tokio::spawn(async move { db.remove::<Kept>(&name).await })
        };
        let (first, second) = (remove(), remove());
        gate(&name).reached().await;
        for version in ["@0", "@1", ""] {
            let target = format!("{}{version}", path(&name));
            says(
                &refused(db.label(target.as_str(), "prod").await),
                ErrorKind::Conflict,
                &[&path(&name), "is being removed"],
            );
        }
        says(
            &refused(db.rename(path(&name).as_str(), "removal.Kept/other").await),
            ErrorKind::Conflict,
            &["is being removed"],
        );
        let one = start(db, &name, 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!one.is_finished(), "it waits");
        gate(&name).open();
        for removal in [first, second] {
            assert_eq!(removal.await.expect("no panic").expect("it is gone").versions.len(), 2);
        }
        assert_eq!(
            one.await.expect("no panic").expect("it is gone").versions,
            [at(&format!("{}@0", path(&name)))]
        );
        assert_eq!(gate(&name).begun(), 2);
        finished(db).await;
    }
}

#[tokio::test]
async fn b09_all_versions_removed_one_by_one_at_once_leave_nothing() {
    for (on, name) in two_versions("b09both").await {
        gate(&name).open();
        let removals = [start(&on.db, &name, 0), start(&on.db, &name, 1)];
        for removal in removals {
            removal.await.expect("no panic").expect("removes");
        }
        assert!(on.db.list().await.expect("lists").is_empty());
        finished(&on.db).await;
    }
}

#[tokio::test]
async fn b09_a_labelled_version_is_refused_before_its_cleanup_runs() {
    for (on, name) in two_versions("b09label").await {
        let old = format!("{}@0", path(&name));
        on.db.label(old.as_str(), "prod").await.expect("labels");
        let error = refused(on.db.remove_dyn(at(&old)).force().await);
        says(&error, ErrorKind::InUse, &[&old, "`prod`", "take it away first"]);
        says(&refused(on.db.remove_dyn(at(&old)).plan().await), ErrorKind::InUse, &["`prod`"]);
        assert_eq!(gate(&name).begun(), 0, "nothing was taken down");
        finished(&on.db).await;
        // A label that comes after the plan puts it out of date.
        on.db.unlabel(path(&name).as_str(), "prod").await.expect("takes it away");
        let plan = on.db.remove_dyn(at(&old)).plan().await.expect("plans");
        on.db.label(old.as_str(), "late").await.expect("labels");
        says(&refused(on.db.apply_plan(plan).await), ErrorKind::Conflict, &["`late`"]);
        assert_eq!((gate(&name).begun(), on.versions(&path(&name)).await), (0, vec![0, 1]));
    }
}

#[tokio::test]
async fn b09_a_failed_removal_leaves_its_mark_and_is_tried_again() {
    for (on, name) in two_versions("b09fails").await {
        let db = &on.db;
        let old = format!("{}@0", path(&name));
        gate(&name).open();
        gate(&name).fails.store(true, Ordering::SeqCst);
        let error = refused(start(db, &name, 0).await.expect("no panic"));
        says(
            &error,
            ErrorKind::JobFailed,
            &["still in use", "stays marked as being removed", ".force()"],
        );
        // Part of what stood outside may be gone: nothing may use it as a whole one.
        says(
            &refused(db.label(old.as_str(), "prod").await),
            ErrorKind::Conflict,
            &[&old, "is being removed"],
        );
        assert!(db.versions(path(&name).as_str()).await.expect("versions")[0].removing);
        assert!(db.resume().await.expect("a removal that failed has ended").is_empty());
        let on = on.reopened().await;
        gate(&name).fails.store(false, Ordering::SeqCst);
        on.db.remove_dyn(at(&old)).await.expect("removes");
        assert_eq!((gate(&name).begun(), on.versions(&path(&name)).await), (2, vec![1]));
        finished(&on.db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b09_prunings_and_removals_at_once_tell_the_truth() {
    let on = in_folder().await;
    let other = Db::open(on.metadata_folder()).await.expect("opens");
    let name = "b09prune";
    gate(name).open();
    let mut cleaned = 0;
    for round in 0..12_u64 {
        for b in 0..5 {
            on.db.apply(kept(name, b)).await.expect("applies");
        }
        let prune = |db: &Db, after: u64| {
            let db = db.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(after)).await;
                db.prune(at(&path("b09prune")), Keep::last(1)).await
            })
        };
        let prunings = [
            prune(&on.db, 0),
            prune(&other, round * 700 % 5000),
            prune(&on.db, round * 1300 % 5000),
        ];
        let removal = tokio::spawn({
            let (db, after) = (other.clone(), round * 2100 % 15000);
            async move {
                tokio::time::sleep(Duration::from_micros(after)).await;
                db.remove::<Kept>("b09prune").await
            }
        });
        for pruning in prunings {
            match pruning.await.expect("no panic") {
                Ok(pruned) => assert!(pruned.held.is_empty(), "round {round}: {:?}", pruned.held),
                // Its turn came when the whole of it was gone.
                Err(error) => says(&error, ErrorKind::NotFound, &[&path(name)]),
            }
        }
        let removed = removal
            .await
            .expect("no panic")
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(!removed.versions.is_empty());
        assert!(on.versions(&path(name)).await.is_empty(), "round {round}");
        cleaned += 5;
        assert_eq!(
            gate(name).begun(),
            cleaned,
            "each version is cleaned up once, in round {round}"
        );
    }
    finished(&on.db).await;
}

/// A process of its own, as far as the database can tell: its runtime goes away in the middle of
/// whatever it does.
async fn process_that_dies<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(work());
        runtime.shutdown_background();
        // What ran there lets go of the database when it is dropped.
        std::thread::sleep(Duration::from_millis(300));
    });
    tokio::task::spawn_blocking(move || thread.join()).await.expect("no panic").expect("no panic");
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.db");
    (folder, path)
}

#[tokio::test]
async fn b09_a_removal_that_dies_in_its_cleanup_is_finished_by_the_next_resume() {
    let (_folder, place) = folder();
    let name = "b09dies";
    process_that_dies({
        let place = place.clone();
        move || async move {
            let db = Db::open(&place).await.expect("opens");
            for b in 0..2 {
                db.apply(kept(name, b)).await.expect("applies");
            }
            let _removal = start(&db, name, 0);
            gate(name).reached().await;
        }
    })
    .await;
    let db = Db::open(&place).await.expect("opens");
    let old = format!("{}@0", path(name));
    says(
        &refused(db.label(old.as_str(), "prod").await),
        ErrorKind::Conflict,
        &[&old, "is being removed"],
    );
    gate(name).open();
    let outcomes = db.resume().await.expect("goes on");
    assert!(outcomes.iter().all(|outcome| outcome.succeeded()) && outcomes.len() == 1);
    assert_eq!(db.versions(path(name).as_str()).await.expect("versions").len(), 1);
    finished(&db).await;
}

/// What an older program does, which does not know that a version is being removed.
fn label_behind_the_back(folder: &Path, version: u32) {
    let connection = rusqlite::Connection::open(folder.join("metadata.sqlite")).expect("our file");
    let insert = "INSERT INTO label (component, name, version, at) SELECT id, 'prod', ?1, 1 FROM component WHERE removed = 0";
    assert_eq!(connection.execute(insert, [version]).expect("a label"), 1);
}

#[tokio::test]
async fn b09_a_removal_that_an_older_program_made_impossible_ends_and_stops_no_other_run() {
    let (_folder, place) = folder();
    let (name, db) = ("b09older", Db::open(&place).await.expect("opens"));
    for b in 0..2 {
        db.apply(kept(name, b)).await.expect("applies");
    }
    let removal = start(&db, name, 0);
    gate(name).reached().await;
    label_behind_the_back(&place, 0);
    gate(name).open();
    let error = refused(removal.await.expect("no panic"));
    says(&error, ErrorKind::InUse, &["removal.Kept/b09older@0", "was cleaned up, but not deleted"]);
    let runs = db.runs(RunFilter::default()).await.expect("runs");
    assert_eq!(runs.last().map(|run| run.state), Some(RunState::Failed), "it has ended");
    let jobs = db
        .jobs(JobFilter { roles: Some(vec![JobRole::Cleanup]), ..JobFilter::default() })
        .await
        .expect("jobs");
    let log = db.logs(jobs[0].id).await.expect("a log");
    assert!(log.iter().any(|line| line.message.contains("`prod`")), "{log:?}");
    finished(&db).await;
    db.unlabel(path(name).as_str(), "prod").await.expect("takes it away");
    db.remove_dyn(at(&format!("{}@0", path(name)))).await.expect("removes");
    assert_eq!(
        (gate(name).begun(), db.versions(path(name).as_str()).await.expect("versions").len()),
        (1, 1)
    );
    finished(&db).await;
}

/// Start a removal in a process that dies while the removal waits for a job that cannot be stopped.
async fn waiting_removal(
    place: &Path,
    apply: impl AsyncFnOnce(&Db) + Send + 'static,
    target: &str,
    working: &'static str,
) {
    let (place, target) = (place.to_owned(), at(target));
    process_that_dies(move || async move {
        let db = Db::open(&place).await.expect("opens");
        apply(&db).await;
        gate(working).reached().await;
        let _removal = tokio::spawn({
            let db = db.clone();
            async move { db.remove_dyn(target).await }
        });
        until("the record of the removal", async || {
            let open = db
                .runs(RunFilter { unfinished: true, ..RunFilter::default() })
                .await
                .expect("runs");
            open.iter().any(|run| run.purpose == superduper::store::RunPurpose::Remove)
        })
        .await;
    })
    .await;
    gate(working).open();
}

#[tokio::test]
async fn b10_a_removal_that_dies_while_it_waits_for_a_job_is_finished_by_the_next_resume() {
    let (_folder, place) = folder();
    let working = |b| Working { identifier: "b10dies".into(), b };
    let apply = async move |db: &Db| drop(db.apply(working(0)).detach().await.expect("applies"));
    waiting_removal(&place, apply, "removal.Working/b10dies", "b10dies").await;
    let db = Db::open(&place).await.expect("opens");
    assert!(matches!(
        db.status("removal.Working/b10dies").await.expect("a status"),
        Status::Removing
    ));
    says(&refused(db.apply(working(0)).await), ErrorKind::Conflict, &["is being removed"]);
    gate("cleanup of b10dies").open();
    db.resume().await.expect("goes on");
    assert!(db.list().await.expect("lists").is_empty());
    let jobs = db.jobs(JobFilter::default()).await.expect("jobs");
    let states: Vec<(&str, JobState)> =
        jobs.iter().map(|job| (job.method.as_str(), job.state)).collect();
    assert_eq!(
        states,
        [
            ("on_create", JobState::Succeeded),
            ("work", JobState::Cancelled),
            ("cleanup", JobState::Succeeded)
        ]
    );
    assert_eq!(gate("cleanup of b10dies").begun(), 1);
    finished(&db).await;
}

#[tokio::test]
async fn b10_the_same_for_one_version_and_for_a_type_without_hooks() {
    let (_folder, place) = folder();
    let working = |b| Working { identifier: "b10one".into(), b };
    let apply = async move |db: &Db| {
        db.apply(working(0)).jobs(false).await.expect("applies");
        drop(db.apply(working(1)).detach().await.expect("applies"));
    };
    waiting_removal(&place, apply, "removal.Working/b10one@1", "b10one").await;
    let db = Db::open(&place).await.expect("opens");
    says(
        &refused(db.label("removal.Working/b10one@1", "prod").await),
        ErrorKind::Conflict,
        &["b10one@1", "is being removed"],
    );
    gate("cleanup of b10one").open();
    db.resume().await.expect("goes on");
    assert_eq!(db.versions("removal.Working/b10one").await.expect("versions").len(), 1);
    finished(&db).await;

    let apply = async |db: &Db| {
        drop(db.apply(Plain { identifier: "b10plain".into() }).detach().await.expect("applies"))
    };
    waiting_removal(&place, apply, "removal.Plain/b10plain", "b10plain").await;
    let db = Db::open(&place).await.expect("opens");
    db.resume().await.expect("goes on");
    says(&refused(db.status("removal.Plain/b10plain").await), ErrorKind::NotFound, &["b10plain"]);
    finished(&db).await;
}

#[tokio::test]
async fn b10_a_removal_that_is_dropped_while_it_waits_goes_on() {
    for (place, on) in databases().await.into_iter().enumerate() {
        let name = format!("b10dropped{place}");
        let value = Working { identifier: name.clone(), b: 0 };
        let run = on.db.apply(value.clone()).detach().await.expect("applies");
        gate(&name).reached().await;
        let target = at(&format!("removal.Working/{name}"));
        let dropped = tokio::time::timeout(
            Duration::from_millis(300),
            on.db.remove_dyn(target.clone()).into_future(),
        )
        .await;
        assert!(dropped.is_err(), "it waits for the job");
        says(&refused(on.db.apply(value).await), ErrorKind::Conflict, &["is being removed"]);
        assert_eq!(
            gate(&format!("cleanup of {name}")).begun(),
            0,
            "nothing is taken down while the job is at work"
        );
        gate(&name).open();
        gate(&format!("cleanup of {name}")).open();
        on.db.resume().await.expect("waits for it");
        assert!(on.db.list().await.expect("lists").is_empty());
        assert!(on.jobs().await.iter().all(|job| job.state.is_terminal()));
        drop(run);
        assert_eq!(gate(&format!("cleanup of {name}")).begun(), 1);
        finished(&on.db).await;
    }
}

#[tokio::test]
async fn b10_the_plan_of_a_removal_says_what_it_waits_for() {
    let on = in_memory().await;
    on.db.apply(Working { identifier: "b10plan".into(), b: 0 }).detach().await.expect("applies");
    gate("b10plan").reached().await;
    let plan = on.db.plan_remove::<Working>("b10plan").await.expect("plans").to_string();
    assert!(
        plan.contains("1 cleanup of removal.Working/b10plan@0.0 after the end of job 2"),
        "{plan}"
    );
    assert!(
        plan.contains(
            "job 2 (`work` of `removal.Working/b10plan@0.0`) is running and will be cancelled"
        ),
        "{plan}"
    );
    gate("b10plan").open();
}

#[tokio::test]
async fn fault_22_the_status_of_one_component_lists_no_others() {
    for (on, name) in two_versions("fault22status").await {
        let before = on.metadata.listings();
        assert!(matches!(
            on.db.status(path(&name).as_str()).await.expect("a status"),
            Status::Ready
        ));
        assert_eq!(on.metadata.listings(), before);
        let listed = on.db.list().await.expect("lists");
        assert_eq!(listed[0].status, on.db.status(path(&name).as_str()).await.expect("a status"));
    }
}

#[derive(Component, Clone)]
#[component(kind = "removal.Loud")]
struct Loud {
    identifier: String,
    megabytes: usize,
}

#[triggers]
impl Loud {
    #[trigger("apply", retries = 1, backoff = "1ms")]
    fn fail(&self) -> Result<()> {
        let cause = Error::msg("c".repeat(self.megabytes << 20));
        Err(Error::msg("m".repeat(self.megabytes << 20)).with_source(cause))
    }
}

#[tokio::test]
async fn fault_22_the_text_of_a_failure_is_bounded_with_a_mark() {
    for on in databases().await {
        on.db.apply(Loud { identifier: "long".into(), megabytes: 30 }).await.expect_err("it fails");
        let job = on.jobs().await.remove(0);
        let attempts = on.db.attempts(job.id).await.expect("attempts");
        assert_eq!(attempts.len(), 2);
        for failure in attempts.into_iter().map(|attempt| attempt.failure).chain([job.failure]) {
            let failure = failure.expect("a failure");
            let bytes =
                failure.message.len() + failure.causes.iter().map(String::len).sum::<usize>();
            assert!((MAX_FAILURE_TEXT..MAX_FAILURE_TEXT + 100).contains(&bytes), "{bytes} bytes");
            assert!(
                failure.message.starts_with("mmm") && failure.message.ends_with("bytes cut off]")
            );
        }
        let events = on
            .db
            .metadata()
            .events(superduper::store::Cursor::default(), None, 100)
            .await
            .expect("events");
        assert!(
            events
                .iter()
                .filter_map(|event| event.detail.as_ref())
                .all(|detail| detail.len() <= MAX_EVENT_DETAIL)
        );
        // What fits is kept whole.
        on.db.apply(Loud { identifier: "whole".into(), megabytes: 1 }).await.expect_err("it fails");
        let failure = on.jobs().await.remove(1).failure.expect("a failure");
        assert_eq!(
            (failure.message, failure.causes),
            ("m".repeat(1 << 20), vec!["c".repeat(1 << 20)])
        );
    }
}
