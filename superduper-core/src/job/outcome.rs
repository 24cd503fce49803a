//! What became of a run.

use crate::store::{JobRow, RunRow};

/// What became of a run: the run and all its jobs.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run.
    pub run: RunRow,
    /// Its jobs, in the order they were recorded.
    pub jobs: Vec<JobRow>,
}
