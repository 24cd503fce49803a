//! What the tests share: folders, databases, trainers in both isolations.

use crate::open;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use superduper::prelude::*;
use superduper_train::{Info, prelude::*};

pub(crate) use crate::modules::Walk;
pub(crate) use Isolation::{Process, Thread};

/// Each test once in threads and once in processes.
macro_rules! both {
    ($($(#[$attr:meta])* async fn $name:ident($isolation:ident: Isolation) $body:block)*) => {$(
        mod $name {
            use super::*;
            $(#[$attr])*
            async fn case($isolation: Isolation) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn thread() {
                case(Thread).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn process() {
                case(Process).await;
            }
        }
    )*};
}
pub(crate) use both;

/// The worker program: `target/debug/deps/it-…` is beside `target/debug/examples`.
pub(crate) fn program() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let program = folder.join("examples").join("train-worker");
    assert!(
        program.exists(),
        "`{}` is missing; `cargo build --examples -p superduper-train` makes it",
        program.display()
    );
    program
}

/// A folder with a database, gone at the end.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn db(&self) -> Db {
        open::builder(self.path("db")).unwrap().program(program()).build().await.unwrap()
    }

    /// With the artifacts at another place: a folder, or a URL.
    pub(crate) async fn db_with(&self, artifacts: &std::path::Path) -> Db {
        open::builder_at(&self.path("db"), artifacts)
            .unwrap()
            .program(program())
            .build()
            .await
            .unwrap()
    }

    /// A file that does not exist yet, as the argument `go`.
    pub(crate) fn gate(&self) -> Gate {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Gate(self.path(&format!("go-{}", SERIAL.fetch_add(1, Ordering::Relaxed))))
    }
}

pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn spec(&self) -> TrainSpec {
        TrainSpec::new().arg("go", self.arg())
    }

    pub(crate) fn arg(&self) -> Arg {
        Arg::from(self.0.to_str().unwrap())
    }

    pub(crate) fn open(&self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

pub(crate) fn base(isolation: Isolation) -> JobBase {
    JobBase {
        isolation,
        max_concurrent: 2,
        grace: Duration::from_millis(300).into(),
        ..JobBase::default()
    }
}

pub(crate) async fn trainer(db: &Db, isolation: Isolation) -> Trainer {
    LocalTrainer::new("default").base(base(isolation)).open(db).await.unwrap()
}

/// Look until it is so.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it took too long: {what}");
}

pub(crate) async fn until_status(run: &TrainingRun, status: Status) -> Info {
    until(&format!("{} is {status}", run.id()), async || {
        run.info().await.unwrap().status == status
    })
    .await;
    run.info().await.unwrap()
}

pub(crate) async fn until_stepping(run: &TrainingRun) {
    until(&format!("{} makes steps", run.id()), async || {
        run.info().await.unwrap().progress.is_some()
    })
    .await;
}

/// The message of a failed job with its causes.
pub(crate) fn text(info: &Info) -> String {
    info.error.as_ref().map(ToString::to_string).unwrap_or_default()
}

pub(crate) async fn weights(model: &Walk) -> Vec<u8> {
    model.weights.as_ref().unwrap().get().await.unwrap().to_vec()
}

/// Name of the variable that tells a test that it is the one in a process of its own.
const ALONE: &str = "SUPERDUPER_ALONE";

/// Run a test again in a process of its own, where no other test opens files or takes memory;
/// whether this is that process.
pub(crate) fn alone(test: &str) -> bool {
    again(test, &[])
}

/// As [`alone`], with variables of the environment, which a process cannot set for itself without
/// harm.
pub(crate) fn again(test: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let child = in_process(test, variables);
    assert!(passed(&child), "{}", all_of(&child));
    // Reasons for what was left out are for whoever runs the tests.
    print!("{}", String::from_utf8_lossy(&child.stdout));
    false
}

/// Run a test in a process of its own, whatever comes of it.
pub(crate) fn in_process(test: &str, variables: &[(&str, &str)]) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

pub(crate) fn passed(child: &std::process::Output) -> bool {
    child.status.success() && String::from_utf8_lossy(&child.stdout).contains("1 passed")
}

pub(crate) fn all_of(child: &std::process::Output) -> String {
    format!(
        "{}{}{}",
        child.status,
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    )
}
