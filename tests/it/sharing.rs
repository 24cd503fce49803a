//! Several processes on one database. The program that they run is in `tests/it/worker`.

use crate::support::until::{found, until};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};
use superduper::{
    prelude::*,
    store::{AttemptRow, JobFilter, JobRow, JobState, RunFilter, RunState},
};

#[path = "worker/shared.rs"]
#[expect(dead_code, reason = "most of it is for the program")]
mod shared;
use shared::GATE;

/// A folder with a database, and the processes that use it; they are killed when the test ends.
struct Shared {
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Shared {
    fn new() -> Self {
        Shared { folder: tempfile::tempdir().unwrap(), children: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Start a process; gives its number here.
    fn start(
        &mut self,
        what: &str,
        number: usize,
        executor: &str,
        environment: &[(&str, String)],
    ) -> usize {
        let index = self.children.len();
        let mut command = Command::new(crate::process::program());
        command.args([
            "share",
            self.folder.path().to_str().unwrap(),
            what,
            &number.to_string(),
            executor,
        ]);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        command.stdout(File::create(self.path(&format!("out{index}"))).unwrap());
        self.children.push(command.spawn().unwrap());
        index
    }

    /// One whose gated jobs wait for a file that is not there.
    fn start_gated(&mut self, what: &str, number: usize, executor: &str) -> usize {
        let gate = self.path(&format!("gate{}", self.children.len())).display().to_string();
        self.start(what, number, executor, &[(GATE, gate)])
    }

    fn open_gate(&self, index: usize) {
        fs::write(self.path(&format!("gate{index}")), "").unwrap();
    }

    fn signal(&self, index: usize, name: &str) {
        let pid = self.children[index].id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn pid(&self, index: usize) -> u32 {
        self.children[index].id()
    }

    /// Wait for a process to end well; gives what it said, by line and word.
    async fn said(&mut self, index: usize) -> Vec<Vec<String>> {
        let status = loop {
            match self.children[index].try_wait().unwrap() {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(status.success(), "process {index} ended with {status}");
        words(&self.path(&format!("out{index}")))
    }

    /// What the jobs wrote: component, attempt and process of each start.
    fn starts(&self) -> Vec<Vec<String>> {
        words(&self.path("lines"))
    }

    fn starts_of(&self, pid: u32) -> usize {
        self.starts().iter().filter(|line| line[2] == pid.to_string()).count()
    }

    async fn open(&self) -> Db {
        Db::open(self.path("shared.db")).await.unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn words(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

async fn jobs(db: &Db) -> Vec<JobRow> {
    db.jobs(JobFilter::default()).await.unwrap()
}

async fn attempts(db: &Db, job: &JobRow) -> Vec<AttemptRow> {
    db.metadata().attempts(job.id).await.unwrap()
}

/// Every job succeeded exactly once, in one run that is on record as succeeded.
async fn assert_drained(db: &Db, count: usize) {
    let runs = db.metadata().runs(RunFilter::default()).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Succeeded]);
    assert_eq!(jobs(db).await.len(), count);
    let events = db
        .metadata()
        .events(superduper::store::Cursor::default(), None, usize::from(u16::MAX))
        .await
        .unwrap();
    for job in jobs(db).await {
        assert_eq!(job.state, JobState::Succeeded, "{job:?}");
        let ends = events
            .iter()
            .filter(|event| event.job == Some(job.id) && event.kind == "job.succeeded")
            .count();
        assert_eq!(ends, 1, "job {} succeeded once", job.id);
        let numbers: Vec<u32> = attempts(db, &job).await.iter().map(|row| row.number).collect();
        assert_eq!(numbers.last(), Some(&job.attempt), "{job:?}");
        assert!(
            numbers.is_sorted() && numbers.len() == 1 + job.lost as usize,
            "attempts {numbers:?} of {job:?}"
        );
    }
    assert_eq!(events.iter().filter(|event| event.kind == "run.ended").count(), 1);
}

#[tokio::test]
async fn a16_processes_apply_different_values_of_the_same_components_at_once() {
    let (processes, applies) = (8, 200);
    let mut all = Shared::new();
    for me in 0..processes {
        all.start("contend", me, "threads", &[("SUPERDUPER_TEST_APPLIES", applies.to_string())]);
    }
    until("the start of all processes", async || {
        (0..processes).all(|me| all.path(&format!("ready{me}")).exists())
    })
    .await;
    fs::write(all.path("go"), "").unwrap();
    let mut told: BTreeMap<String, BTreeMap<u32, String>> = BTreeMap::new();
    for me in 0..processes {
        let said = all.said(me).await;
        assert_eq!(said.len(), applies, "every apply of process {me} succeeded");
        for line in said {
            let [name, version, value, result] = &line[..] else { panic!("{line:?}") };
            assert_eq!(value, result, "the result of the job of that version");
            let before = told
                .entry(name.clone())
                .or_default()
                .insert(version.parse().unwrap(), value.clone());
            assert_eq!(before, None, "version {version} of {name} was reported twice");
        }
    }
    let db = all.open().await;
    for (name, told) in &told {
        let versions = db.versions(&*format!("test.Contended/{name}")).await.unwrap();
        let stored: BTreeMap<u32, String> = versions
            .iter()
            .map(|row| (row.version(), row.document["value"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(&stored, told, "each process told what is on record, and nothing else is");
        assert!(
            stored.keys().copied().eq(0..u32::try_from(stored.len()).unwrap()),
            "versions are consecutive"
        );
    }
    assert_eq!(
        told.values().map(BTreeMap::len).sum::<usize>(),
        processes * applies,
        "no update was lost"
    );
    assert!(jobs(&db).await.iter().all(|job| job.state == JobState::Succeeded && job.attempt == 1));
    assert!(
        db.metadata()
            .runs(RunFilter { unfinished: true, ..RunFilter::default() })
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn t08_two_processes_drain_one_run() {
    let mut all = Shared::new();
    let applier = all.start("many", 200, "threads", &[]);
    until("the start of the run", async || !all.starts().is_empty()).await;
    let worker = all.start("resume", 0, "threads", &[]);
    let (applied, resumed) = (all.said(applier).await, all.said(worker).await);
    assert_eq!(applied, resumed, "both tell the same");
    let db = all.open().await;
    assert_drained(&db, 400).await;
    assert!(jobs(&db).await.iter().all(|job| job.attempt == 1 && job.lost == 0));
    let starts = all.starts();
    let names: BTreeSet<&String> = starts.iter().map(|line| &line[0]).collect();
    assert_eq!((starts.len(), names.len()), (200, 200), "each job ran once");
    assert!(
        all.starts_of(all.pid(applier)) > 0 && all.starts_of(all.pid(worker)) > 0,
        "both worked"
    );
}

#[tokio::test]
async fn t08_a_process_killed_in_the_middle_loses_nothing() {
    for victim in ["applier", "worker"] {
        let mut all = Shared::new();
        let applier = all.start("many", 150, "threads", &[]);
        until("the start of the run", async || !all.starts().is_empty()).await;
        let worker = all.start("resume", 0, "threads", &[]);
        until("work of both", async || all.starts_of(all.pid(worker)) > 5).await;
        let (victim, other) =
            if victim == "applier" { (applier, worker) } else { (worker, applier) };
        let db = all.open().await;
        let done: BTreeSet<String> = jobs(&db)
            .await
            .iter()
            .filter(|job| job.state.is_terminal())
            .map(|job| job.target.identifier.clone())
            .collect();
        all.signal(victim, "-9");
        let said = all.said(other).await;
        assert_eq!(said[0], ["succeeded"]);
        assert_drained(&db, 300).await;
        let lost: u32 = jobs(&db).await.iter().map(|job| job.lost).sum();
        // One of a few milliseconds that was taken ahead is on record with its end only, so it may
        // not count as lost; one that is on record may not have come to write its line.
        assert!(lost <= 2, "two at most were under way, {lost} attempts were lost at the kill");
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        all.starts().into_iter().for_each(|line| *starts.entry(line[0].clone()).or_default() += 1);
        assert_eq!(starts.len(), 150);
        for (name, times) in starts {
            // Ends that the victim had not put on record are lost with it, how many depends on the
            // disk.
            let most = if done.contains(&name) { 1 } else { 2 };
            assert!(
                times <= most,
                "{name} was started {times} times; on record as done before the kill: {}",
                done.contains(&name)
            );
        }
    }
}

#[tokio::test]
async fn t08_attempts_that_last_count_as_lost_however_they_were_taken() {
    let mut all = Shared::new();
    // Short jobs first, so that the long ones may be taken ahead.
    let applier = all.start_gated("mixed", 60, "threads");
    until("the start of the long jobs", async || all.starts().len() == 62).await;
    let db = all.open().await;
    let running = found("the record of two running jobs", async || {
        let mut running = jobs(&db).await;
        running.retain(|job| job.state == JobState::Running);
        (running.len() == 2).then_some(running)
    })
    .await;
    assert!(running.iter().all(|job| job.started_at.is_some() && job.attempt == 1));
    all.signal(applier, "-9");
    let worker = all.start("resume", 0, "threads", &[]);
    assert_eq!(all.said(worker).await[0], ["succeeded"]);
    assert_drained(&db, 130).await;
    let lost: Vec<superduper::store::JobId> =
        jobs(&db).await.iter().filter(|job| job.lost == 1).map(|job| job.id).collect();
    assert_eq!(lost, running.iter().map(|job| job.id).collect::<Vec<_>>());
}

/// The applier stands still, another takes over, the applier goes on: whatever runs its jobs.
async fn applier_stands_still(executor: &str) {
    let mut all = Shared::new();
    let applier = all.start_gated("many", 6, executor);
    until("the start of two jobs", async || all.starts().len() == 2).await;
    all.signal(applier, "-STOP");
    let begun = Instant::now();
    let worker = all.start("resume", 0, "threads", &[]);
    let resumed = all.said(worker).await;
    // Three halves of the lease of one second, a look every half second, and the rest is starting
    // and working.
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "taken over and done after {:?}",
        begun.elapsed()
    );
    let db = all.open().await;
    assert_drained(&db, 12).await;
    let before = jobs(&db).await;
    assert_eq!(before.iter().filter(|job| job.lost == 1).count(), 2, "{before:#?}");
    assert!(before.iter().all(|job| job.result == Some(all.pid(worker).into())));
    all.open_gate(applier);
    if executor == "process" {
        // The workers of the process that stands still are not still: their late ends are fenced.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    all.signal(applier, "-CONT");
    let applied = all.said(applier).await;
    assert_eq!(
        applied, resumed,
        "the apply that stood still tells what the other process recorded"
    );
    assert_eq!(jobs(&db).await, before, "nothing late was written");
    assert_drained(&db, 12).await;
    for job in before.iter().filter(|job| job.lost == 1) {
        let logs: Vec<(u32, String)> = db
            .logs(job.id)
            .await
            .unwrap()
            .into_iter()
            .map(|line| (line.attempt, line.message))
            .collect();
        assert!(
            logs.iter().any(|(attempt, text)| *attempt == 1 && text.contains("was taken over")),
            "{logs:?}"
        );
    }
}

#[tokio::test]
async fn t08_an_applier_that_stands_still_cannot_write_late() {
    applier_stands_still("threads").await;
}

#[tokio::test]
async fn t08_an_applier_that_stands_still_is_told_the_same_of_its_worker_processes() {
    applier_stands_still("process").await;
}

#[tokio::test]
async fn t08_a_worker_that_stands_still_cannot_write_late() {
    let mut all = Shared::new();
    let applier = all.start_gated("many", 8, "threads");
    until("the start of two jobs", async || all.starts().len() == 2).await;
    let worker = all.start_gated("resume", 0, "threads");
    until("two jobs of the worker", async || all.starts().len() == 4).await;
    all.signal(worker, "-STOP");
    // The applier is busy with jobs of its own; it takes over all the same.
    let db = all.open().await;
    let begun = Instant::now();
    while jobs(&db).await.iter().filter(|job| job.lost == 1).count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(6), "{:#?}", jobs(&db).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    all.open_gate(applier);
    let applied = all.said(applier).await;
    assert_drained(&db, 16).await;
    let before = jobs(&db).await;
    assert!(before.iter().all(|job| job.result == Some(all.pid(applier).into())));
    all.open_gate(worker);
    all.signal(worker, "-CONT");
    assert_eq!(all.said(worker).await, applied);
    assert_eq!(jobs(&db).await, before, "nothing late was written");
    assert_eq!(all.starts_of(all.pid(worker)), 2, "it started nothing that was no longer its own");
}

/// Fails once.
#[derive(Component)]
#[component(kind = "sharing.Flaky")]
struct Flaky {
    identifier: String,
}

#[triggers]
impl Flaky {
    #[trigger("apply", retries = 1, backoff = "300ms")]
    async fn work(&self, ctx: &JobContext) -> Result<u32> {
        if ctx.attempt() == 1 { Err(Error::msg("not yet")) } else { Ok(ctx.attempt()) }
    }
}

#[tokio::test]
async fn t15_a_clock_that_was_set_back_holds_up_no_retry() {
    let all = Shared::new();
    let db = all.open().await;
    let run = db.apply(Flaky { identifier: "f".into() }).detach().await.unwrap();
    let waits = |job: &JobRow| job.state == JobState::Queued && job.not_before.is_some();
    until("the first try", async || jobs(&db).await.iter().any(waits)).await;
    // The clock that wrote the row was centuries ahead, and all owners are of the far future.
    let other = rusqlite::Connection::open(all.path("shared.db/metadata.sqlite")).unwrap();
    let century = 3_155_760_000_000_i64;
    other.execute("UPDATE job SET not_before = not_before + 5 * ?1", [century]).unwrap();
    other.execute("UPDATE lease SET created_at = created_at + 5 * ?1", [century]).unwrap();
    let second = all.open().await;
    let begun = Instant::now();
    let outcomes = second.resume().await.unwrap();
    assert!(
        outcomes[0].succeeded() && begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let outcome = run.wait().await.unwrap().unwrap();
    assert_eq!(outcome.result::<u32>("work").unwrap(), 2);
}
