//! The executor `process`.

use super::parent;
use crate::{
    db::Db,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    job::{
        executor::{Attempt, AttemptEnd, Executor, ExecutorCapabilities},
        program::Program,
        remote::locations,
    },
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
            None => Err(Error::new(ErrorKind::Unsupported, "this program is not prepared to be started as a job process")
                .with_hint("mark its main function with `#[superduper::main]`, or call `superduper::job_process().await?` in its first line; tests set `.program(path)`")),
        }
    }
}

impl Executor for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: true, needs_shared_stores: true }
    }

    fn check(&self, _db: &Db) -> Result<()> {
        self.program().map(drop)
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        let ready = locations(&attempt.db).and_then(|stores| Ok((self.program()?, stores)));
        Box::pin(async move {
            match ready {
                Ok((program, stores)) => {
                    let ended = parent::run(&program, &stores, attempt).await;
                    ended.unwrap_or_else(AttemptEnd::lost)
                }
                Err(error) => AttemptEnd::lost(error.fatal()),
            }
        })
    }
}
