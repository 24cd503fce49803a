//! Where attempts of jobs run: the seam between the order of jobs and what runs them.

use super::{
    CancelToken, Instances, JobRequest, Placement,
    run_job::{AttemptResult, JobSpec, run_job},
};
use crate::{
    address::Address,
    db::{Db, DbInner},
    error::{JobFailure, Result},
    future::BoxFuture,
    store::{JobFilter, JobId, LogLevel, LogRow, Timestamp},
    unreturned::{Site, Unreturned},
};
use std::{fmt, sync::Arc, time::Duration};

/// How often an executor looks whether the end of an attempt is on record.
const LOOK: Duration = Duration::from_millis(500);

/// What an executor can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

    /// Kind, identifier, version and revision of the component.
    pub fn target(&self) -> &Address {
        &self.spec.row.target
    }

    /// The trigger or hook.
    pub fn method(&self) -> &str {
        &self.spec.row.method
    }

    /// What the policy of the job says about where and how it runs.
    pub fn placement(&self) -> Placement {
        Placement::of_text(self.spec.row.executor.as_deref())
    }

    /// The time limit of the attempt; `None` if there is none. [`Attempt::run_here`] and
    /// [`JobRequest::run`] enforce it, so the executor need not.
    pub fn time_limit(&self) -> Option<Duration> {
        self.spec.row.timeout_ms.map(Duration::from_millis)
    }

    /// How long a job may go on after it was asked to end, before it is stopped by force.
    pub fn grace(&self) -> Duration {
        self.placement().grace().unwrap_or(self.db.options.cancel_grace)
    }

    /// Run it in this process.
    pub async fn run_here(self) -> AttemptEnd {
        AttemptEnd(End::Here(Box::new(
            run_job(&self.db, &self.spec, &self.instances, self.cancel).await,
        )))
    }

    /// What another process needs to run it: [`JobRequest::run`].
    ///
    /// # Errors
    /// `Unsupported` if another process cannot open the stores.
    pub fn request(&self) -> Result<JobRequest> {
        JobRequest::of(&self.db, &self.spec)
    }

    /// Wait until the attempt must end: the job was cancelled, or another process has taken it
    /// over. A process that runs [`JobRequest::run`] notices both by itself. Stop it by force if it
    /// still runs after [`Attempt::grace`].
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Wait until the end of the attempt is on record: by [`JobRequest::run`] in another process.
    pub async fn recorded(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let site = Site::WORKER.run(self.spec.row.run).job(self.job()).attempt(self.number());
            if self
                .is_recorded()
                .await
                .or_warn(site, "reading whether the end of an attempt is on record")
                == Some(true)
            {
                return;
            }
        }
    }

    /// Whether the end of the attempt is on record. This is also true if another process has
    /// claimed the job since.
    ///
    /// # Errors
    /// `Store`.
    pub async fn is_recorded(&self) -> Result<bool> {
        let rows = self
            .db
            .metadata
            .jobs(JobFilter { ids: Some(vec![self.job()]), ..JobFilter::default() })
            .await?;
        Ok(rows.first().is_none_or(|row| {
            row.owner != Some(self.spec.owner) || row.attempt != self.spec.attempt
        }))
    }

    /// Add a line to the job's log.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let row = LogRow {
            job: self.job(),
            attempt: self.number(),
            at: Timestamp::now(),
            level,
            message: message.into(),
        };
        self.db.notes.log(row);
        self.db.start_note_writer();
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({} of job {})", self.spec.attempt, self.spec.row.id)
    }
}

/// How an attempt came back from its executor.
pub struct AttemptEnd(pub(crate) End);

pub(crate) enum End {
    /// With its result, which is still to be recorded.
    Here(Box<AttemptResult>),
    Recorded,
    Unable,
    Lost(JobFailure),
}

impl AttemptEnd {
    /// The process that ran it has recorded the end: [`JobRequest::run`].
    pub fn recorded() -> Self {
        AttemptEnd(End::Recorded)
    }

    /// Nothing ran, since the program lacks something that the job needs. The job is given back for
    /// another program.
    pub fn unable() -> Self {
        AttemptEnd(End::Unable)
    }

    /// The attempt ended without an end on record, for example because its process died. The job is
    /// tried again if the failure is retryable and the job has tries left.
    pub fn lost(failure: impl Into<JobFailure>) -> Self {
        AttemptEnd(End::Lost(failure.into()))
    }
}

impl AttemptEnd {
    /// Whether nothing ran, since the program lacks something that the job needs.
    pub fn is_unable(&self) -> bool {
        matches!(self.0, End::Unable)
    }
}

impl fmt::Debug for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            End::Here(_) => f.write_str("AttemptEnd(here)"),
            End::Recorded => f.write_str("AttemptEnd(recorded)"),
            End::Unable => f.write_str("AttemptEnd(unable)"),
            End::Lost(failure) => write!(f, "AttemptEnd(lost: {})", failure.message),
        }
    }
}

/// Runs attempts. `superduper-conformance` has the tests that each executor has to pass;
/// `examples/launcher` is one in a crate of its own.
///
/// # Flow
/// The engine claims a job, commits the claim, and calls [`execute`](Executor::execute). An
/// executor of this process calls [`Attempt::run_here`]. An executor of other processes sends
/// [`Attempt::request`] to a process, which opens the database and calls [`JobRequest::run`]; that
/// records the end of the attempt, and the executor returns [`AttemptEnd::recorded`].
///
/// # Contract
/// - It MUST run an attempt at most once, and return only when nothing of it runs any more, other
///   than a method that cannot be stopped.
/// - It MUST return if the process that ran the attempt is gone: [`AttemptEnd::lost`], unless
///   [`Attempt::is_recorded`] says that the end is on record.
/// - It MUST end the attempt when [`Attempt::cancelled`] completes: at the latest after
///   [`Attempt::grace`], by force.
/// - It need not survive this process. If this process dies, another one takes the job over, and
///   the attempt that still runs cannot record its end any more.
pub trait Executor: Send + Sync + fmt::Debug {
    /// The name by which triggers ask for it: `executor = "name"`, or
    /// [`JobPolicy::executor`](crate::JobPolicy::executor).
    ///
    /// A name with a colon, such as `site:north`, is for the executor of one process among several.
    /// Plans do not check such a name: the job waits until a process that has the executor works on
    /// the database ([`Db::work`]).
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> ExecutorCapabilities;

    /// Check whether this executor can run jobs of the database. It is called for the default
    /// executor when the database is opened, and for each executor that a job names before the job
    /// is recorded. An observer does not call it.
    ///
    /// # Errors
    /// `Unsupported`, with a hint.
    fn check(&self, _db: &Db) -> Result<()> {
        Ok(())
    }

    /// Run an attempt. When the future is dropped, the executor stops the attempt.
    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd>;
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

    fn execute(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        Box::pin(attempt.run_here())
    }
}
