//! Processes that die at any moment, disks that fail, files that are damaged: what is left, and how
//! it goes on.
//!
//! The program in `tests/crash` injects the faults; here it runs a sample. Its full run is in
//! `docs/durability.md`. A claim about a crash names the fault: SIGKILL keeps the page cache, so
//! only the loss of power tests what is synchronized.

use crate::support::{in_folder, refused, says};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};
use superduper::{
    Digest,
    prelude::*,
    store::{JobFilter, JobState, RunFilter},
};

/// Run some cases; the program compares each with a run that met no fault.
fn crash(faults: &str, sample: usize) {
    let folder = std::env::current_exe()
        .expect("a test has a file")
        .parent()
        .and_then(Path::parent)
        .expect("target/debug")
        .to_owned();
    let program = folder.join("examples").join("crash");
    assert!(program.exists(), "`{}` is missing; `cargo test` builds it", program.display());
    let args = ["run", "--fault", faults, "--sample", &sample.to_string(), "--seed", "17"];
    let output = Command::new(program).args(args).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    // Shown where the test fails, and with it what was skipped.
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "broken invariants, see above");
    assert!(said.starts_with("skipped: ") || said.contains("| all |"), "{said}");
}

#[test]
fn a17_a_kill_before_or_inside_a_write_is_repaired() {
    crash("kill,torn", 12);
}

#[test]
fn a17_a_kill_during_the_recovery_is_repaired() {
    crash("twice", 12);
}

#[test]
fn a17_a_loss_of_power_keeps_what_was_promised() {
    crash("power,power-part,kill-power", 12);
}

#[test]
fn f06_a_full_disk_leaves_nothing_half_written() {
    crash("full", 12);
}

#[test]
fn f06_failing_and_denied_calls_leave_nothing_half_written() {
    crash("io,broken,denied", 8);
}

#[test]
fn h05_a_hook_that_was_killed_runs_again_and_is_told_so() {
    crash("inside", 0);
}

#[derive(Component, Clone)]
#[component(kind = "crash.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    size: i64,
    weights: Artifact<Bytes>,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self) -> Result<i64> {
        Ok(self.size)
    }
}

fn model(name: &str, size: i64) -> Model {
    let bytes: Vec<u8> = format!("weights of {name} {size}").bytes().cycle().take(5000).collect();
    Model { identifier: name.into(), size, weights: Bytes::from(bytes).into() }
}

#[tokio::test]
async fn f06_a_torn_or_flipped_blob_is_never_used_and_a_torn_one_is_replaced() {
    let on = in_folder().await;
    on.db.apply(model("m", 1)).await.expect("applies");
    let bytes = model("m", 1).weights.get().await.expect("bytes").to_vec();
    let digest = Digest::of(&bytes);
    let hex = digest.to_hex();
    let file = on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex);
    let torn = [0, 1, 511, 4096, bytes.len() - 1].map(|length| bytes[..length].to_vec());
    let flipped = [0, 2500, bytes.len() - 1].map(|at| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    });
    for damaged in torn.iter().chain(&flipped) {
        std::fs::write(&file, damaged).expect("the file is there");
        let back: Model = on.db.load("m").await.expect("loading reads no blob");
        let error = refused(back.weights.get().await);
        says(&error, ErrorKind::Integrity, &["crash.Model/m@0", "weights", &hex[..8]]);
    }
    // Whoever stores the same bytes brings a torn file back.
    std::fs::write(&file, &torn[2]).expect("the file is there");
    let same = Model { identifier: "same".into(), ..model("m", 1) };
    on.db.apply(same).await.expect("applies");
    assert_eq!(std::fs::read(&file).expect("the file is there"), bytes);
    let back: Model = on.db.load("m").await.expect("loads");
    assert_eq!(back.weights.get().await.expect("whole again").len(), 5000);
}

/// Ends of the whole commits of a write-ahead log.
fn commits(log: &[u8]) -> Vec<usize> {
    let number =
        |at: usize| u32::from_be_bytes([log[at], log[at + 1], log[at + 2], log[at + 3]]) as usize;
    let frame = 24 + number(8);
    let whole = (32..)
        .step_by(frame)
        .take_while(|at| at + frame <= log.len() && log[at + 8..at + 16] == log[16..24]);
    // A frame that ends a commit has the size of the database.
    whole.filter(|at| number(at + 4) > 0).map(|at| at + frame).collect()
}

/// What a database with this log holds.
async fn with_log(metadata: &Path, log: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.db");
    std::fs::create_dir(&path).expect("a folder");
    std::fs::copy(metadata, path.join("metadata.sqlite")).expect("a copy");
    std::fs::write(path.join("metadata.sqlite-wal"), log).expect("a file");
    let db = Db::open(&path).await.expect("it opens");
    let mut text = String::new();
    for line in db.list().await.expect("lists") {
        for stored in db.versions(line.address.clone()).await.expect("versions") {
            writeln!(text, "{} {} {:?}", stored.address, stored.document, line.status)
                .expect("text");
        }
    }
    writeln!(text, "{:?}", db.jobs(JobFilter::default()).await.expect("jobs")).expect("text");
    writeln!(text, "{:?}", db.runs(RunFilter::default()).await.expect("runs")).expect("text");
    writeln!(text, "{}", db.metadata().last_event().await.expect("events")).expect("text");
    let connection = rusqlite::Connection::open(path.join("metadata.sqlite")).expect("our file");
    let whole: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(whole, "ok");
    text
}

#[tokio::test]
async fn a17_a_truncated_log_opens_at_its_last_whole_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.db");
    let db = Db::open(&path).await.expect("opens");
    for size in 0..3 {
        db.apply(model("m", size)).await.expect("applies");
    }
    db.remove::<Model>("m").version(0).await.expect("removes");
    // The log as a crash would leave it: nobody has closed the database.
    let log = std::fs::read(path.join("metadata.sqlite-wal")).expect("a log");
    let metadata: PathBuf = path.join("metadata.sqlite");
    let ends = commits(&log);
    assert!(ends.len() >= 8, "{ends:?}");
    let mut states = vec![with_log(&metadata, &[]).await];
    for end in &ends {
        states.push(with_log(&metadata, &log[..*end]).await);
    }
    assert_eq!(states.last(), Some(&with_log(&metadata, &log).await));
    for (index, begin) in [32].iter().chain(&ends).enumerate() {
        let Some(end) = ends.get(index) else { break };
        // One byte, the header of a frame, half of the commit, all but a byte.
        for cut in [begin + 1, begin + 24, (begin + end) / 2, end - 1] {
            assert_eq!(
                with_log(&metadata, &log[..cut]).await,
                states[index],
                "cut at {cut} of {}",
                log.len()
            );
        }
        // A damaged commit ends the log, however much comes after it.
        let mut damaged = log.clone();
        damaged[(begin + end) / 2] ^= 0x10;
        assert_eq!(
            with_log(&metadata, &damaged).await,
            states[index],
            "damaged between {begin} and {end}"
        );
    }
}

#[derive(Component, Clone)]
#[component(kind = "crash.Saboteur")]
struct Saboteur {
    identifier: String,
}

static BREAK: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();
static ATTEMPTS: Mutex<Vec<(u32, bool)>> = Mutex::new(Vec::new());

#[triggers]
impl Saboteur {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        ATTEMPTS.lock().expect("no panic").push((ctx.attempt(), ctx.is_retry()));
        if !ctx.is_retry() {
            BREAK.get().expect("it is set")();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a17_a_run_that_a_failing_store_stopped_goes_on_with_another_attempt() {
    let on = in_folder().await;
    let metadata = on.metadata.clone();
    assert!(BREAK.set(Box::new(move || metadata.set_broken(true))).is_ok());
    let error = refused(on.db.apply(Saboteur { identifier: "s".into() }).await);
    says(&error, ErrorKind::Store, &["db.resume()", "on fire"]);
    on.metadata.set_broken(false);
    let outcomes = on.db.resume().await.expect("it goes on");
    assert!(outcomes.iter().all(superduper::Outcome::succeeded) && outcomes.len() == 1);
    // The first attempt ran: the second must not pass for it.
    assert_eq!(*ATTEMPTS.lock().expect("no panic"), [(1, false), (2, true)]);
    let jobs = on.jobs().await;
    assert_eq!(
        (jobs.len(), jobs[0].state, jobs[0].attempt, jobs[0].lost),
        (1, JobState::Succeeded, 2, 0)
    );
}

#[derive(Component, Clone)]
#[component(kind = "crash.Filling")]
struct Filling {
    identifier: String,
}

static FILL: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

#[triggers]
impl Filling {
    #[trigger("apply")]
    async fn work(&self) -> Result<()> {
        FILL.get().expect("it is set")();
        Ok(())
    }
}

#[tokio::test]
async fn fault_21_a_run_that_stops_says_what_is_on_record() {
    let on = in_folder().await;
    let metadata = on.metadata.clone();
    assert!(FILL.set(Box::new(move || metadata.set_broken(true))).is_ok());
    let error = refused(on.db.apply(Filling { identifier: "f".into() }).await);
    says(
        &error,
        ErrorKind::Store,
        &["`crash.Filling/f@0.0` is on record", "run 1 stopped", "on fire"],
    );
    let text = error.to_string();
    assert!(!text.contains("nothing was written"), "{text}");
    on.metadata.set_broken(false);
    assert_eq!(on.versions("crash.Filling/f").await, [0], "as the error says");
    // Of an apply that wrote nothing, none of it is said.
    on.metadata.set_broken(true);
    let text = refused(on.db.apply(Filling { identifier: "g".into() }).await).to_string();
    assert!(!text.contains("on record"), "{text}");
    on.metadata.set_broken(false);
    assert!(on.versions("crash.Filling/g").await.is_empty());
}
