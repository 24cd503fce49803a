//! Lines of lists: what a person sees of components, runs and jobs, without their large columns.
//!
//! Invariant: a line is small, whatever the row holds. Lists are read in pages by a place in an
//! order that does not change, so the last page costs what the first one costs.

use super::{
    Actor,
    batch::JobSignals,
    rows::{
        BlockedUntil, ComponentId, JobId, JobRole, JobRow, JobState, RunId, RunPurpose, RunRow,
        RunState, Timestamp, WorkerId,
    },
};
use crate::address::Address;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// The most bytes of a text of a user that a line shows: the reason why a job is blocked, or why it
/// failed.
pub const MAX_LINE_TEXT: usize = 200;

/// A text of a user as a line shows it.
pub fn line_text(text: &str) -> String {
    super::limits::cut(Cow::Borrowed(text), MAX_LINE_TEXT).into_owned()
}

/// How many jobs are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct JobCounts {
    /// Jobs in [`JobState::Queued`].
    pub queued: u64,
    /// Jobs in [`JobState::Blocked`].
    pub blocked: u64,
    /// Jobs in [`JobState::Running`].
    pub running: u64,
    /// Jobs in [`JobState::Succeeded`].
    pub succeeded: u64,
    /// Jobs in [`JobState::Failed`].
    pub failed: u64,
    /// Jobs in [`JobState::Cancelled`].
    pub cancelled: u64,
    /// Jobs in [`JobState::Skipped`].
    pub skipped: u64,
}

impl JobCounts {
    /// No jobs.
    pub fn new() -> Self {
        JobCounts::default()
    }

    fn place(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Queued => &mut self.queued,
            JobState::Blocked => &mut self.blocked,
            JobState::Running => &mut self.running,
            JobState::Succeeded => &mut self.succeeded,
            JobState::Failed => &mut self.failed,
            JobState::Cancelled => &mut self.cancelled,
            JobState::Skipped => &mut self.skipped,
        }
    }

    /// Count so many more jobs in a state.
    pub fn add(&mut self, state: JobState, jobs: u64) {
        *self.place(state) += jobs;
    }

    /// How many jobs are in a state.
    pub fn of(mut self, state: JobState) -> u64 {
        *self.place(state)
    }

    /// How many jobs there are.
    pub fn total(&self) -> u64 {
        self.open() + self.succeeded + self.failed + self.cancelled + self.skipped
    }

    /// How many jobs are not final.
    pub fn open(&self) -> u64 {
        self.queued + self.blocked + self.running
    }
}

impl fmt::Display for JobCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            JobState::Queued,
            JobState::Blocked,
            JobState::Running,
            JobState::Succeeded,
            JobState::Failed,
            JobState::Cancelled,
            JobState::Skipped,
        ];
        let mut separator = "";
        for state in all.into_iter().filter(|state| self.of(*state) > 0) {
            write!(f, "{separator}{} {state}", self.of(state))?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("no jobs") } else { Ok(()) }
    }
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunLine {
    /// The run.
    pub id: RunId,
    /// What it is for.
    pub purpose: RunPurpose,
    /// The component that was applied or removed, with its version.
    pub root: Address,
    /// Its state.
    pub state: RunState,
    /// The person or program that recorded it, if that is known.
    pub actor: Option<Actor>,
    /// Its jobs by state.
    pub jobs: JobCounts,
    /// When it was recorded; its jobs start then.
    pub created_at: Timestamp,
    /// When its last job ended.
    pub ended_at: Option<Timestamp>,
}

impl RunLine {
    /// What the line shows of a run with these jobs.
    pub fn of(run: &RunRow, jobs: JobCounts) -> Self {
        RunLine {
            id: run.id,
            purpose: run.purpose,
            root: run.root.clone(),
            state: run.state,
            actor: run.actor.clone(),
            jobs,
            created_at: run.created_at,
            ended_at: run.ended_at,
        }
    }
}

impl fmt::Display for RunLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run:{} {} {} ({})", self.id, self.root, self.state.name(), self.jobs)?;
        self.actor.as_ref().map_or(Ok(()), |actor| write!(f, " by {actor}"))
    }
}

/// A job in a list: its row without input, result and the causes of its failure.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobLine {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// The component.
    pub component: ComponentId,
    /// Kind, identifier, version and revision.
    pub target: Address,
    /// What it does.
    pub role: JobRole,
    /// The trigger or hook.
    pub method: String,
    /// For a spawned job the key, unique in its run.
    pub key: Option<String>,
    /// For a retried job the one before it.
    pub retry_of: Option<JobId>,
    /// Its state.
    pub state: JobState,
    /// Why it is blocked; at most [`MAX_LINE_TEXT`] bytes.
    pub blocked: Option<String>,
    /// When it was blocked; `None` if it is not, and for a job that an older program blocked.
    pub blocked_at: Option<Timestamp>,
    /// When it is queued again by itself, where that was said.
    pub blocked_until: Option<BlockedUntil>,
    /// Number of the current or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// How many attempts ended in a failure of their own.
    pub tries: u32,
    /// How many attempts were lost with their process.
    pub lost: u32,
    /// The worker that holds the current attempt.
    pub owner: Option<WorkerId>,
    /// What is asked of it.
    pub signals: JobSignals,
    /// The executor and the pool that were asked for, as the row has them:
    /// [`Placement::of_text`](crate::job::Placement::of_text) reads it.
    pub executor: Option<String>,
    /// Tries beyond the first.
    pub retries: u32,
    /// Not to be started before.
    pub not_before: Option<Timestamp>,
    /// Whether its end counts for nothing.
    pub tolerated: bool,
    /// Steps done and in total, as last reported.
    pub progress: Option<(u64, u64)>,
    /// Why it failed, was cancelled or skipped; at most [`MAX_LINE_TEXT`] bytes.
    pub error: Option<String>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When the current or last attempt started.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub ended_at: Option<Timestamp>,
}

impl JobLine {
    /// What the line shows of a job.
    pub fn of(job: &JobRow) -> Self {
        JobLine {
            id: job.id,
            run: job.run,
            component: job.component,
            target: job.target.clone(),
            role: job.role,
            method: job.method.clone(),
            key: job.key.clone(),
            retry_of: job.retry_of,
            state: job.state,
            blocked: job.blocked.as_deref().map(line_text),
            blocked_at: job.blocked_at,
            blocked_until: job.blocked_until,
            attempt: job.attempt,
            tries: job.tries,
            lost: job.lost,
            owner: job.owner,
            signals: job.signals(),
            executor: job.executor.clone(),
            retries: job.retries,
            not_before: job.not_before,
            tolerated: job.tolerated,
            progress: job.progress,
            error: job.failure.as_ref().map(|failure| line_text(&failure.message)),
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
        }
    }
}

impl fmt::Display for JobLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job:{} `{}` of {} {}", self.id, self.method, self.target, self.state)
    }
}

/// A place in the order of runs or jobs, and the direction in which they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct After<Id> {
    /// The last one before the place; `None`: the beginning.
    pub last: Option<Id>,
    /// Whether the newest come first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: usize,
}

impl<Id> After<Id> {
    /// The first so many, the newest first.
    pub fn newest(limit: usize) -> Self {
        After { last: None, newest_first: true, limit }
    }

    /// The first so many, the oldest first.
    pub fn oldest(limit: usize) -> Self {
        After { last: None, newest_first: false, limit }
    }

    /// Those that come after this one.
    pub fn after(self, last: Id) -> Self {
        After { last: Some(last), ..self }
    }
}

/// A place that a job has in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PoolPlace {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The worker that runs it.
    pub owner: WorkerId,
}

impl PoolPlace {
    /// The place of an attempt.
    pub fn new(job: JobId, attempt: u32, owner: WorkerId) -> Self {
        PoolPlace { job, attempt, owner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_lines_are_short() {
        assert_eq!(line_text("short"), "short");
        assert!(line_text(&"ß".repeat(5000)).len() <= MAX_LINE_TEXT);
    }

    #[test]
    fn counts_are_told_in_words() {
        let mut counts = JobCounts::new();
        assert_eq!(counts.to_string(), "no jobs");
        counts.add(JobState::Failed, 2);
        counts.add(JobState::Queued, 1);
        assert_eq!(counts.to_string(), "1 queued, 2 failed");
        assert_eq!((counts.total(), counts.open(), counts.of(JobState::Failed)), (3, 1, 2));
    }
}
