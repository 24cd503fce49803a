//! An executor in a crate of its own: it runs each job in a program that a launcher starts, such as
//! `nice -n 19`, `taskset -c 0` or `srun`. The program is this one again, with the request in an
//! environment variable.
//!
//! ```no_run
//! use std::sync::Arc;
//! use superduper::prelude::*;
//! use superduper_launcher::{Launcher, run_if_asked};
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     // First of all: a process that a launcher started runs its job here, and ends.
//!     run_if_asked().await?;
//!     let launcher = Launcher::new(["nice", "-n", "19"])?;
//!     let db = Db::builder().at("my.db")?.with_executor(Arc::new(launcher)).executor("launcher").build().await?;
//!     db.resume().await?;
//!     Ok(())
//! }
//! ```

use std::{path::PathBuf, process::ExitStatus};
use superduper::{
    BoxFuture, BuildAt, Db, Error, ErrorKind, FailureKind, JobFailure, Result,
    job::{Attempt, AttemptEnd, Executor, ExecutorCapabilities, JobRequest},
};
use tokio::process::{Child, Command};

/// The variable that holds the request, as JSON.
const REQUEST: &str = "LAUNCHER_REQUEST";
/// The exit code of a program that lacks something that the job needs.
const UNABLE: i32 = 79;

/// Runs jobs in programs that a launcher starts.
#[derive(Debug)]
pub struct Launcher {
    launcher: Vec<String>,
    program: PathBuf,
}

impl Launcher {
    /// Start this program again, by the given command and its arguments. The program has to call
    /// [`run_if_asked`] first thing.
    ///
    /// # Errors
    /// `InvalidInput` for an empty command; `User` if the path of this program is unknown.
    pub fn new<S: Into<String>>(launcher: impl IntoIterator<Item = S>) -> Result<Self> {
        let launcher: Vec<String> = launcher.into_iter().map(Into::into).collect();
        if launcher.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the launcher has no command")
                .with_hint("for example `[\"nice\", \"-n\", \"19\"]`"));
        }
        Ok(Launcher { launcher, program: std::env::current_exe()? })
    }

    /// Start another program, which has the same components.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    fn start(&self, attempt: &Attempt) -> Result<Child> {
        let request = serde_json::to_string(&attempt.request()?)?;
        let mut command = Command::new(&self.launcher[0]);
        command
            .args(&self.launcher[1..])
            .arg(&self.program)
            .env(REQUEST, request)
            .kill_on_drop(true);
        command.spawn().map_err(|error| {
            let text = format!("`{}` cannot be started", self.launcher[0]);
            Error::new(ErrorKind::Unsupported, text).with_source(error).fatal()
        })
    }
}

impl Executor for Launcher {
    fn name(&self) -> &'static str {
        "launcher"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: true, needs_shared_stores: true }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        let child = self.start(&attempt);
        Box::pin(async move {
            match child {
                Ok(child) => watch(attempt, child).await.unwrap_or_else(AttemptEnd::lost),
                Err(error) => AttemptEnd::lost(error),
            }
        })
    }
}

/// Wait for the program, and end it by force if it goes on after its job was cancelled.
async fn watch(attempt: Attempt, mut child: Child) -> Result<AttemptEnd> {
    let too_late = async {
        attempt.cancelled().await;
        // The program sees the cancel on record, and may end by itself.
        tokio::time::sleep(attempt.grace()).await;
    };
    let status = tokio::select! {
        status = child.wait() => status?,
        // The program goes on with runs that its job started.
        () = attempt.recorded() => {
            tokio::spawn(async move { child.wait().await });
            return Ok(AttemptEnd::recorded());
        }
        () = too_late => {
            child.kill().await?;
            if !attempt.is_recorded().await? {
                return Ok(AttemptEnd::lost(JobFailure::new(FailureKind::Cancelled, "cancelled; the program was killed")));
            }
            return Ok(AttemptEnd::recorded());
        }
    };
    if attempt.is_recorded().await? {
        return Ok(AttemptEnd::recorded());
    }
    Ok(if status.code() == Some(UNABLE) {
        AttemptEnd::unable()
    } else {
        AttemptEnd::lost(describe(status))
    })
}

fn describe(status: ExitStatus) -> JobFailure {
    let mut failure = JobFailure::new(
        FailureKind::WorkerLost,
        format!("the program ended without recording a result: {status}"),
    );
    failure.retryable = true;
    failure
}

/// The first line of a program whose jobs a launcher starts: if this process was started for a job,
/// run the job and exit.
///
/// # Errors
/// `User` for a malformed request; the errors of [`Db::builder`] and [`JobRequest::run`].
pub async fn run_if_asked() -> Result<()> {
    let Ok(text) = std::env::var(REQUEST) else { return Ok(()) };
    let request: JobRequest = serde_json::from_str(&text)?;
    let db = Db::builder()
        .at(&request.stores.metadata)?
        .artifacts_at(&request.stores.artifacts)?
        .build()
        .await?;
    let ended = request.run(&db).await?;
    std::process::exit(if ended.is_unable() { UNABLE } else { 0 });
}
