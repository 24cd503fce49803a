//! How a training or prediction is doing.

use crate::save_path::SavePath;
use serde::{Deserialize, Serialize};
use std::fmt;
use superduper::{
    FailureKind, JobFailure,
    store::{JobId, JobRow, JobState, Timestamp},
};

/// The status of a training or prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum Status {
    /// Waiting for a free place, for the next try, or paused.
    Queued = 1,
    /// Under way.
    Running = 2,
    /// Done; the result is on record.
    Completed = 3,
    /// Stopped on request. Its text, `CANCELED`, is that of Caikit.
    #[serde(rename = "CANCELED", alias = "CANCELLED")]
    Cancelled = 4,
    /// Given up; the error is on record.
    Errored = 5,
    /// Its process died, and no process has taken it over. One that waits for its turn is known
    /// to be so only while no other process that runs jobs of this database is alive; else it is
    /// QUEUED.
    Interrupted = 6,
}

impl Status {
    /// Whether the status is final.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Cancelled | Status::Errored)
    }

    pub(crate) fn of(state: JobState) -> Self {
        match state {
            JobState::Queued | JobState::Blocked => Status::Queued,
            JobState::Running => Status::Running,
            JobState::Succeeded => Status::Completed,
            JobState::Cancelled => Status::Cancelled,
            JobState::Failed | JobState::Skipped => Status::Errored,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Queued => "QUEUED",
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Cancelled => "CANCELED",
            Status::Errored => "ERRORED",
            Status::Interrupted => "INTERRUPTED",
        })
    }
}

/// How a training or prediction is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// The id.
    pub id: String,
    /// The job on record.
    pub job: JobId,
    /// The status.
    pub status: Status,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether a cancel was requested and the job has not ended yet.
    pub cancelling: bool,
    /// Whether a cancel was requested at any time before the job ended.
    pub cancel_requested: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When the current or last attempt started.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub completed_at: Option<Timestamp>,
    /// The number of the current or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Steps done and in total.
    pub progress: Option<(u64, u64)>,
    /// Why it failed or was cancelled: text, cause chain, kind.
    pub error: Option<JobFailure>,
    /// The artifact path, where it has one: a folder, or a URL such as `s3://bucket/path`.
    /// [`load_model_from`](crate::load_model_from) takes it.
    pub path: Option<SavePath>,
    /// Whether its result was purged; this record is all that is left.
    pub purged: bool,
}

impl Info {
    pub(crate) fn of(id: &str, row: &JobRow) -> Self {
        Info {
            id: id.to_owned(),
            job: row.id,
            status: Status::of(row.state),
            paused: row.state == JobState::Blocked,
            cancelling: row.cancel_requested && !row.state.is_terminal(),
            cancel_requested: row.cancel_requested,
            submitted_at: row.created_at,
            started_at: row.started_at,
            completed_at: row.ended_at,
            attempt: row.attempt,
            progress: row.progress,
            error: row.failure.clone(),
            path: None,
            purged: false,
        }
    }

    /// Whether the job ended with its result although a cancel was requested: it was done before it
    /// saw the request.
    pub fn completed_despite_cancel(&self) -> bool {
        self.status == Status::Completed && self.cancel_requested
    }

    /// Whether the error says that the worker's process died.
    pub fn worker_died(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind == FailureKind::WorkerLost)
    }
}
