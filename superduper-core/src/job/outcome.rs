//! What became of a run.

use crate::{
    component::registry::Registry,
    encode::{DecodeEnv, decode_value},
    error::{Error, ErrorKind, Result},
    plan::Removal,
    store::{ArtifactStore, JobId, JobRow, JobState, RunId, RunPurpose, RunRow, RunState},
};
use serde::de::DeserializeOwned;
use std::{fmt, sync::Arc};

/// What became of a run: the run and all its jobs.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run.
    pub run: RunRow,
    /// Its jobs, in the order they were recorded.
    pub jobs: Vec<JobRow>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) artifacts: Option<Arc<dyn ArtifactStore>>,
}

impl Error {
    /// The outcome of the run in which a job failed, for an error of kind [`ErrorKind::JobFailed`].
    pub fn outcome(&self) -> Option<&Outcome> {
        self.attached()
    }

    pub(crate) fn with_outcome(self, outcome: Outcome) -> Self {
        self.attach(outcome)
    }
}

impl Outcome {
    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// The run and how it ended, in a few words.
    pub(crate) fn headline(&self) -> String {
        let (run, all) = (&self.run, self.jobs.len());
        let done = self.jobs.iter().filter(|job| job.state == JobState::Succeeded).count();
        let jobs = if all == 1 { "job" } else { "jobs" };
        format!("run {} {}, {done} of {all} {jobs} succeeded", run.id, run.state)
    }

    /// Whether every job succeeded.
    pub fn succeeded(&self) -> bool {
        self.run.state == RunState::Succeeded
    }

    /// The job of a trigger or hook of the run's root component.
    pub fn job(&self, method: &str) -> Option<&JobRow> {
        let of_root = |job: &&JobRow| job.target.path() == self.run.root.path();
        let named = |job: &&JobRow| job.method == method;
        self.jobs.iter().filter(named).find(of_root).or_else(|| self.jobs.iter().find(named))
    }

    /// The result of a trigger of the run's root component.
    ///
    /// # Errors
    /// `NotFound` where there is no such job or it did not succeed; `Decode` where the result is no
    /// `T`.
    pub fn result<T: DeserializeOwned>(&self, trigger: &str) -> Result<T> {
        let job = self.job(trigger).ok_or_else(|| self.no_job(trigger))?;
        let value = job.result.clone().ok_or_else(|| {
            Error::not_found(format!(
                "job {} (`{trigger}`) has no result: it is {}",
                job.id, job.state
            ))
        })?;
        let env = DecodeEnv::new(self.registry.clone(), self.artifacts.clone());
        decode_value(value, &Arc::new(env), &format!("the result of job {}", job.id))
            .map_err(|error| error.context(format_args!("result of `{trigger}`")))
    }

    fn no_job(&self, trigger: &str) -> Error {
        let error = Error::not_found(format!("run {} has no job `{trigger}`", self.run.id));
        match crate::near::hint(trigger, self.jobs.iter().map(|job| &*job.method)) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// The first job that failed, if one did; tolerated jobs do not count.
    pub fn first_failure(&self) -> Option<&JobRow> {
        self.jobs.iter().find(|job| job.state == JobState::Failed && !job.tolerated)
    }

    /// The error that stands for this outcome, or the outcome itself where all went well.
    pub(crate) fn into_result(self) -> Result<Outcome> {
        // A forced removal succeeds although some of its jobs failed.
        if self.succeeded() {
            return Ok(self);
        }
        if let Some(job) = self.first_failure() {
            let error = describe(job, ErrorKind::JobFailed);
            return Err(error.with_outcome(self));
        }
        if let Some(job) =
            self.jobs.iter().find(|job| job.state == JobState::Cancelled && !job.tolerated)
        {
            let error = describe(job, ErrorKind::Cancelled);
            return Err(error.with_outcome(self));
        }
        if self.run.state == RunState::Failed
            && let Some(job) =
                self.jobs.iter().find(|job| job.state == JobState::Skipped && !job.tolerated)
        {
            // What it needed was tolerated, and did not succeed.
            let error = describe(job, ErrorKind::JobFailed);
            return Err(error.with_outcome(self));
        }
        if self.run.state == RunState::Running
            && let Some(job) = self.jobs.iter().find(|job| !job.state.is_terminal())
        {
            let error = self.left_to_others(job);
            return Err(error.with_outcome(self));
        }
        if self.run.purpose == RunPurpose::Remove && self.run.state == RunState::Failed {
            // No job failed: the row of the removal is damaged, or the store refused to delete.
            Removal::of(&self.run).map_err(|error| {
                error.with_hint(format!(
                    "nothing was deleted; remove `{}` again",
                    self.run.root.path()
                ))
            })?;
            let text = format!(
                "`{}` was cleaned up, but not deleted: something else got hold of it meanwhile",
                self.run.root
            );
            let hint = "the log of its last cleanup says what; take that away, then call `db.remove` again";
            return Err(Error::new(ErrorKind::InUse, text).with_hint(hint).with_outcome(self));
        }
        Ok(self)
    }

    /// The run is unfinished, since this program cannot run a job of it.
    fn left_to_others(&self, job: &JobRow) -> Error {
        let (kind, lacks) = match self.registry.entry(&job.target.kind) {
            Err(_) => (ErrorKind::UnknownKind, format!("the kind `{}`", job.target.kind)),
            Ok(_) => (
                ErrorKind::Unsupported,
                "the trigger, the executor or a child's kind that it needs".to_owned(),
            ),
        };
        let text = format!(
            "run {} is unfinished: this program cannot run job {} (`{}` of `{}`), since it lacks {lacks}",
            self.run.id, job.id, job.method, job.target
        );
        Error::new(kind, text).with_hint("a program that has it goes on with `db.resume()` or `db.work()`; the job stays queued until then")
    }

    /// Ids of the jobs that are not final.
    pub fn unfinished(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|job| !job.state.is_terminal()).map(|job| job.id).collect()
    }
}

/// The run in the first line, then a line for each job.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.run)?;
        self.jobs.iter().try_for_each(|job| writeln!(f, "  {job}"))
    }
}

/// The error that a failed or cancelled job stands for.
pub(crate) fn describe(job: &JobRow, kind: ErrorKind) -> Error {
    let text = format!("job {} (`{}` of `{}`) {}", job.id, job.method, job.target, job.state);
    let error = match &job.failure {
        Some(failure) => failure.to_error(kind, text),
        None => Error::new(kind, text),
    };
    let again = format!("apply the component again to run what is left, or `db.retry({})`", job.id);
    let hint = match error.hint() {
        Some(first) => format!("{first}; then {again}"),
        None => again,
    };
    error.with_hint(hint)
}
