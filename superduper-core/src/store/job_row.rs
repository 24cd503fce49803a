//! The row of a job when it is recorded.

use super::{ComponentId, JobId, JobRow, JobState, NewJob, RunId, WorkerId};

impl JobRow {
    /// The row of a job that has not run: blocked if it is recorded with a reason to wait, running
    /// if it has an owner from the beginning, else queued.
    pub fn new(
        id: JobId,
        run: RunId,
        component: ComponentId,
        job: NewJob,
        owner: Option<WorkerId>,
    ) -> Self {
        let state = match (&job.blocked, owner) {
            (Some(_), _) => JobState::Blocked,
            (None, Some(_)) => JobState::Running,
            (None, None) => JobState::Queued,
        };
        JobRow {
            id,
            run,
            component,
            target: job.target,
            role: job.role,
            method: job.method,
            key: job.key,
            retry_of: job.retry_of,
            state,
            blocked_at: job.blocked.as_ref().map(|_| job.at),
            blocked: job.blocked,
            blocked_until: None,
            attempt: u32::from(owner.is_some()),
            tries: 0,
            lost: 0,
            owner,
            cancel_requested: false,
            stop_requested: false,
            pause_requested: false,
            executor: job.executor,
            retries: job.retries,
            backoff_ms: job.backoff_ms,
            timeout_ms: job.timeout_ms,
            not_before: None,
            input: job.input,
            tolerated: job.tolerated,
            progress: None,
            result: None,
            failure: None,
            created_at: job.at,
            started_at: owner.map(|_| job.at),
            ended_at: None,
        }
    }
}
