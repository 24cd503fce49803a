//! The seam between the order of jobs and what runs them.

use super::{
    CancelToken, Instances,
    run_job::{Draft, JobSpec, run_job},
};
use crate::{JobFailure, db::DbInner, lifecycle::BoxFuture, store::JobId};
use std::{fmt, sync::Arc};

/// What an executor can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorCapabilities {
    /// A crash of a job leaves this process unharmed, and a job can be stopped by force.
    pub isolates: bool,
    /// It needs stores that other processes can open.
    pub needs_shared_stores: bool,
}

/// One attempt of a job, ready to be run.
pub struct Attempt {
    pub(crate) db: Arc<DbInner>,
    pub(crate) spec: JobSpec,
    pub(crate) instances: Arc<Instances>,
    pub(crate) cancel: Arc<CancelToken>,
}

impl Attempt {
    /// The job.
    pub fn job(&self) -> JobId {
        self.spec.row.id
    }

    /// The number of the attempt, from 1.
    pub fn number(&self) -> u32 {
        self.spec.attempt
    }

    /// Run it in this process.
    pub async fn run_here(self) -> Ended {
        Ended::Here(Box::new(run_job(&self.db, &self.spec, &self.instances, self.cancel).await))
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({} of job {})", self.spec.attempt, self.spec.row.id)
    }
}

/// How an attempt came back.
#[doc(hidden)]
pub enum Ended {
    /// With its result, which is still to be recorded.
    Here(Box<Draft>),
    /// A worker has recorded the result itself.
    Recorded,
    /// Nothing ran: the program lacks something that the job needs.
    Unable,
    /// The worker is gone without a result.
    Lost(JobFailure),
}

/// Runs attempts.
///
/// - It MUST run an attempt at most once, and return only when nothing of it runs any more, other than a
///   method that cannot be stopped.
/// - It MUST pass on cancellation.
pub trait Executor: Send + Sync + fmt::Debug {
    /// The name by which triggers ask for it.
    fn name(&self) -> &'static str;
    /// What it can do.
    fn capabilities(&self) -> ExecutorCapabilities;
    /// Run an attempt.
    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, Ended>;
}

/// Runs jobs in this process: async methods on the runtime, others on worker threads.
#[derive(Debug)]
pub(crate) struct Threads;

impl Executor for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        ExecutorCapabilities { isolates: false, needs_shared_stores: false }
    }

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, Ended> {
        Box::pin(attempt.run_here())
    }
}
