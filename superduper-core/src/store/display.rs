//! Rows as people read them: one line each.

use super::{JobBrief, JobRow, JobState, RunPurpose, RunRow, RunState};
use std::fmt;

impl fmt::Display for RunPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunPurpose::Apply => "apply",
            RunPurpose::Remove => "remove",
        })
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `run 3 (apply acme.Model/churn@0.0) succeeded at 2026-03-01T09:05:00.250Z`.
impl fmt::Display for RunRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunRow { id, purpose, root, state, .. } = self;
        write!(f, "run {id} ({purpose} {root}) {state}")?;
        match self.ended_at {
            Some(at) => write!(f, " at {at}"),
            None => write!(f, " since {}", self.created_at),
        }
    }
}

/// `job 7 (fit of acme.Model/churn@0.0) failed at 2026-03-01T09:05:00.250Z: no data`.
impl fmt::Display for JobRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobRow { id, method, target, key, state, .. } = self;
        write_job(f, (id, method, key.as_deref(), target), *state)?;
        match state {
            JobState::Queued | JobState::Blocked => write!(f, " since {}", self.created_at)?,
            JobState::Running => {
                write!(f, " since {}", self.started_at.unwrap_or(self.created_at))?;
                if let Some((done, total)) = self.progress {
                    write!(f, ", {done}/{total}")?;
                }
            }
            _ => write!(f, " at {}", self.ended_at.unwrap_or(self.created_at))?,
        }
        match (&self.blocked, &self.failure) {
            (Some(reason), _) if *state == JobState::Blocked => write!(f, ": {reason}"),
            (_, Some(failure)) if state.is_terminal() => write!(f, ": {failure}"),
            _ => Ok(()),
        }
    }
}

/// `job 7 (fit of acme.Model/churn@0.0) failed: no data`.
impl fmt::Display for JobBrief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobBrief { id, method, target, key, state, failure, .. } = self;
        write_job(f, (id, method, key.as_deref(), target), *state)?;
        failure.as_ref().map_or(Ok(()), |failure| write!(f, ": {failure}"))
    }
}

fn write_job(
    f: &mut fmt::Formatter<'_>,
    (id, method, key, target): (&super::JobId, &str, Option<&str>, &crate::address::Address),
    state: JobState,
) -> fmt::Result {
    write!(f, "job {id} ({method}")?;
    if let Some(key) = key {
        write!(f, " as `{key}`")?;
    }
    write!(f, " of {target}) {state}")
}
