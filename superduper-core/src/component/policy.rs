//! How a job is run, where that is chosen for each job rather than in its trigger's attribute.
//!
//! Invariant: what a job's row says in `executor` is all that another process needs to run it the
//! same way.

use crate::component::trigger::TriggerSpec;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a trigger of one component is run: what `#[trigger("apply", policy = "method")]` asks that
/// method for when the component is applied. What is not set is as the attribute says.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{JobPolicy, prelude::*};
///
/// #[derive(Component)]
/// struct Fit {
///     identifier: String,
///     isolated: bool,
/// }
///
/// #[triggers]
/// impl Fit {
///     fn policy(&self) -> JobPolicy {
///         JobPolicy { executor: self.isolated.then(|| "process".to_owned()), ..JobPolicy::default() }
///     }
///
///     #[trigger("apply", policy = "policy")]
///     fn fit(&self) -> Result<()> {
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPolicy {
    /// The name of the executor: `threads`, `process`, or one that
    /// [`DbBuilder::with_executor`](crate::DbBuilder::with_executor) registered.
    pub executor: Option<String>,
    /// The name of a pool, and how many of its jobs may run at once in all processes of the
    /// database together. Jobs get their places in the order in which they were recorded. They do
    /// not count among the jobs that
    /// [`DbBuilder::parallelism`](crate::DbBuilder::parallelism) limits.
    pub pool: Option<(String, usize)>,
    /// Tries beyond the first.
    pub retries: Option<u32>,
    /// The pause before the first retry.
    pub backoff: Option<Duration>,
    /// The time limit of an attempt.
    pub timeout: Option<Duration>,
    /// How long a cancelled job may go on before it is stopped by force, where that is possible.
    pub grace: Option<Duration>,
    /// How long an attempt may go without [`JobContext::beat`](crate::JobContext::beat) or
    /// progress. It then fails as timed out. In `process`, the parent kills the job process, also
    /// if that is stopped (`SIGSTOP`) or frozen. Before the limit begins to count, a job process
    /// has a minute, or the limit if that is longer, to load its program.
    pub stall: Option<Duration>,
    /// The most memory that a job process may hold, in bytes; not in `threads`.
    pub memory: Option<u64>,
    /// The most processor time that a job process may use; not in `threads`.
    pub cpu: Option<Duration>,
}

/// What a job's row says of how it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The executor; the default of the database where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// See [`JobPolicy::pool`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<(String, usize)>,
    /// See [`JobPolicy::grace`], in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// See [`JobPolicy::stall`], in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// See [`JobPolicy::memory`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// See [`JobPolicy::cpu`], in seconds, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<u64>,
    /// Whether the policy came with a spawned job: another try of the job keeps it, whatever the
    /// trigger says then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

impl Placement {
    /// What the text in a row says: the name of an executor alone, or JSON with more.
    ///
    /// A text that cannot be read names an executor that does not exist: a job does not run
    /// elsewhere, or without its limits, because its row is damaged.
    pub fn of_text(text: Option<&str>) -> Self {
        let named =
            |text: &str| Placement { executor: Some(text.to_owned()), ..Placement::default() };
        match text {
            Some(text) if text.starts_with('{') => {
                serde_json::from_str(text).unwrap_or_else(|_| named(text))
            }
            Some(text) => named(text),
            None => Placement::default(),
        }
    }

    /// The text for a row.
    pub(crate) fn to_text(&self) -> Option<String> {
        if *self == (Placement { executor: self.executor.clone(), ..Placement::default() }) {
            return self.executor.clone();
        }
        serde_json::to_string(self).ok()
    }

    /// The text for a row of a spawned job that came with a policy of its own.
    pub(crate) fn kept(text: Option<&str>) -> Option<String> {
        Placement { kept: true, ..Placement::of_text(text) }.to_text()
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace_ms.map(Duration::from_millis)
    }

    pub(crate) fn stall(&self) -> Option<Duration> {
        self.stall_ms.map(Duration::from_millis)
    }
}

impl JobPolicy {
    /// This policy, and where it leaves something open, another one.
    pub(crate) fn or(self, other: JobPolicy) -> Self {
        JobPolicy {
            executor: self.executor.or(other.executor),
            pool: self.pool.or(other.pool),
            retries: self.retries.or(other.retries),
            backoff: self.backoff.or(other.backoff),
            timeout: self.timeout.or(other.timeout),
            grace: self.grace.or(other.grace),
            stall: self.stall.or(other.stall),
            memory: self.memory.or(other.memory),
            cpu: self.cpu.or(other.cpu),
        }
    }

    /// What goes into the row, with the executor of the trigger's attribute where the policy names
    /// none.
    pub(crate) fn placement(&self, executor: Option<&str>) -> Placement {
        Placement {
            executor: self.executor.clone().or_else(|| executor.map(str::to_owned)),
            pool: self.pool.clone(),
            grace_ms: self.grace.map(millis),
            stall_ms: self.stall.map(millis),
            memory: self.memory,
            kept: false,
            cpu_s: self
                .cpu
                .map(|limit| limit.as_secs().saturating_add(u64::from(limit.subsec_nanos() > 0))),
        }
    }
}

/// How a job of a trigger is run: as its attribute says, but where the policy says something else.
pub(crate) struct Running {
    /// The text for the row.
    pub(crate) executor: Option<String>,
    pub(crate) retries: u32,
    pub(crate) backoff_ms: u64,
    pub(crate) timeout_ms: Option<u64>,
}

impl Running {
    pub(crate) fn of(policy: Option<&JobPolicy>, spec: Option<&TriggerSpec>) -> Self {
        let executor = spec.and_then(|spec| spec.executor);
        let placement = match policy {
            Some(policy) => policy.placement(executor),
            None => Placement { executor: executor.map(str::to_owned), ..Placement::default() },
        };
        Running {
            executor: placement.to_text(),
            retries: policy
                .and_then(|policy| policy.retries)
                .unwrap_or_else(|| spec.map_or(0, |spec| spec.retries)),
            backoff_ms: policy
                .and_then(|policy| policy.backoff)
                .map_or_else(|| spec.map_or(0, |spec| spec.backoff_ms), millis),
            timeout_ms: policy
                .and_then(|policy| policy.timeout)
                .map(millis)
                .or_else(|| spec.and_then(|spec| spec.timeout_ms)),
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_round_trip_and_plain_names_stay_plain() {
        let plain = JobPolicy::default().placement(Some("process"));
        assert_eq!(plain.to_text().as_deref(), Some("process"));
        assert_eq!(JobPolicy::default().placement(None).to_text(), None);
        let policy = JobPolicy {
            pool: Some(("gpu \"0\"".into(), 2)),
            cpu: Some(Duration::from_millis(1500)),
            ..JobPolicy::default()
        };
        let full = policy.placement(Some("process"));
        assert_eq!(full.cpu_s, Some(2));
        assert_eq!(Placement::of_text(full.to_text().as_deref()), full);
        assert_eq!(Placement::of_text(Some("process")), plain);
        assert_eq!(
            Placement::of_text(Some("{\"cut")).executor.as_deref(),
            Some("{\"cut"),
            "a damaged row names nothing that runs it"
        );
    }
}
