//! The jobs that a phase plans.

use superduper::{Address, JobContext, Result, Spawn};

/// Jobs that follow from a phase. The phase records them with its own end; a preview only looks at
/// them.
#[must_use = "the jobs are lost if they are not spawned"]
pub(crate) struct RoundJobs {
    address: Address,
    /// The run that gets them.
    pub(crate) run: i64,
    /// The uuid of the training.
    pub(crate) uuid: String,
    jobs: Vec<Spawn>,
}

impl RoundJobs {
    /// No jobs yet, for the run of a job.
    pub(crate) fn of(ctx: &JobContext, uuid: &str) -> Self {
        RoundJobs::of_run(ctx.address(), ctx.run_id().map_or(0, |run| run.0), uuid)
    }

    /// No jobs yet, for a run.
    pub(crate) fn of_run(address: &Address, run: i64, uuid: &str) -> Self {
        RoundJobs { address: address.clone(), run, uuid: uuid.to_owned(), jobs: Vec::new() }
    }

    /// A job of the training that is not added yet.
    pub(crate) fn job(&self, key: impl Into<String>, trigger: &str) -> Spawn {
        Spawn::new(key, &self.address, trigger)
    }

    pub(crate) fn add(&mut self, job: Spawn) {
        self.jobs.push(job);
    }

    pub(crate) fn into_jobs(self) -> Vec<Spawn> {
        self.jobs
    }

    /// Let the run grow by them, with the end of this job.
    pub(crate) fn spawn(self, ctx: &JobContext) -> Result<()> {
        self.jobs.into_iter().try_for_each(|job| ctx.spawn_with(job))
    }
}
