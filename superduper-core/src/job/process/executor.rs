//! The executor `process`.

use super::parent;
use crate::{
    Error, ErrorKind, JobFailure, Result,
    db::DbInner,
    job::{
        executor::{Attempt, Ended, Executor, ExecutorCapabilities},
        program::Program,
    },
    lifecycle::BoxFuture,
    store::StoreLocations,
};
use std::path::PathBuf;

/// Runs jobs in job processes.
#[derive(Debug)]
pub(crate) struct Process {
    /// The program to start; this program if absent.
    pub(crate) program: Option<PathBuf>,
}

impl Process {
    fn program(&self) -> Result<Program> {
        match &self.program {
            Some(program) => Ok(Program::At(program.clone())),
            None if super::child::is_prepared() => Program::itself(),
            None => Err(Error::new(ErrorKind::Unsupported, "this program is not prepared to be started as a worker process")
                .with_hint("mark its main function with `#[superduper::main]`, or call `superduper::worker().await?` in its first line; tests set `.program(path)`")),
        }
    }

    /// Whether jobs can be given to job processes at all.
    pub(crate) fn check(&self, db: &DbInner) -> Result<()> {
        locations(db)?;
        self.program().map(|_| ())
    }
}

/// The places of the stores that a job process opens.
fn locations(db: &DbInner) -> Result<StoreLocations> {
    let refuse = |which: &str, location: String| {
        let text = format!(
            "the executor `process` needs stores that other processes can open; the {which} of `{location}` are in memory, or their \
            store does not say how it is opened"
        );
        Error::new(ErrorKind::Unsupported, text)
            .with_hint("open a folder with `Db::open(\"my.db\")`; blobs may be at another place by `artifacts_at`")
    };
    let metadata = db.metadata.capabilities().shared.ok_or_else(|| refuse("metadata", db.metadata.location()))?;
    let artifacts = db.artifacts.capabilities().shared.ok_or_else(|| refuse("artifacts", db.artifacts.location()))?;
    Ok(StoreLocations { metadata, artifacts })
}

impl Executor for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: true, needs_shared_stores: true }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, Ended> {
        let ready = locations(&attempt.db).and_then(|stores| Ok((self.program()?, stores)));
        Box::pin(async move {
            match ready {
                Ok((program, stores)) => {
                    let ended = parent::run(&program, &stores, attempt).await;
                    ended.unwrap_or_else(|error| Ended::Lost(JobFailure::of(&error)))
                }
                Err(error) => Ended::Lost(JobFailure::of(&error.fatal())),
            }
        })
    }
}
