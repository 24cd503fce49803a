//! What training and prediction jobs have in common: where they run, how long, how many, and how
//! long they are kept.

use crate::span::Span;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use superduper::{Error, JobPolicy, Result};

/// The reason on record of a job that is paused.
pub(crate) const PAUSED: &str = "paused";

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// On a thread of this process: cheap; a job that never looks at what is asked of it cannot be
    /// stopped.
    #[default]
    Thread,
    /// In a process of its own: it can crash, be limited and be killed without harm to this one.
    Process,
}

/// Limits of one attempt. `memory` and `cpu` need [`Isolation::Process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Time on the wall.
    pub wall: Option<Span>,
    /// Processor time.
    pub cpu: Option<Span>,
    /// Bytes of memory (`RLIMIT_DATA`).
    pub memory: Option<u64>,
    /// The longest time between two calls of `ctx.step`. The limit also ends a job process that is
    /// stopped or frozen.
    pub heartbeat: Option<Span>,
}

/// What happens after a failure or a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// Tries beyond the first; each goes on from the last checkpoint.
    pub retries: u32,
    /// The pause before the first of them; it doubles with each further one.
    pub backoff: Span,
    /// Whether the trainer takes over jobs that no live process has, when it is opened and, now and
    /// then, while it is open: at least once a minute. Else that is left to
    /// [`Trainer::resume`](crate::Trainer::resume).
    pub resume: bool,
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            retries: 0,
            backoff: Span::from(std::time::Duration::from_secs(1)),
            resume: false,
        }
    }
}

/// What training and prediction jobs have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobBase {
    /// Where jobs run.
    pub isolation: Isolation,
    /// How many run at once in a process; the others are QUEUED, in order. 0: as many as there are
    /// cores.
    pub max_concurrent: usize,
    /// How long a job is kept after its end; `None`: for ever.
    pub retention: Option<Span>,
    /// How long a cancelled job may go on before its process is killed.
    pub grace: Span,
    /// Limits of one attempt.
    pub limits: Limits,
    /// What happens after a failure or a crash.
    pub restart: Restart,
}

impl Default for JobBase {
    fn default() -> Self {
        JobBase {
            isolation: Isolation::Thread,
            max_concurrent: 0,
            retention: Some(Span::from(std::time::Duration::from_secs(86_400))),
            grace: Span::from(std::time::Duration::from_secs(10)),
            limits: Limits::default(),
            restart: Restart::default(),
        }
    }
}

impl JobBase {
    /// Refuse what cannot be kept.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let unusable = |what: &str| {
            Err(Error::invalid(format!("`{name}`: a limit of {what} cannot be kept in a thread"))
                .with_hint("choose the isolation `process`"))
        };
        let Limits { wall, cpu, memory, heartbeat } = self.limits;
        let spans = [("wall", wall), ("cpu", cpu), ("heartbeat", heartbeat)]
            .map(|(what, span)| (what, span.map(|span| span.get().is_zero())));
        let zero = spans
            .into_iter()
            .chain([("memory", memory.map(|bytes| bytes == 0))])
            .find(|(_, zero)| *zero == Some(true));
        if let Some((what, _)) = zero {
            return Err(Error::invalid(format!(
                "`{name}`: the limit `{what}` is 0, with which no job could run"
            ))
            .with_hint("leave it out where there is to be no limit"));
        }
        if self.isolation == Isolation::Thread && self.limits.memory.is_some() {
            return unusable("memory");
        }
        if self.isolation == Isolation::Thread && self.limits.cpu.is_some() {
            return unusable("processor time");
        }
        Ok(())
    }

    /// How many run at once.
    pub(crate) fn size(&self) -> usize {
        // Asking reads files of the system, and a policy is asked for several times per job.
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores =
            || *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        if self.max_concurrent == 0 { cores() } else { self.max_concurrent }
    }

    /// How a job of a pool is run.
    pub(crate) fn policy(&self, pool: String) -> JobPolicy {
        let executor = match self.isolation {
            Isolation::Thread => "threads",
            Isolation::Process => "process",
        };
        JobPolicy {
            executor: Some(executor.to_owned()),
            pool: Some((pool, self.size())),
            retries: Some(self.restart.retries),
            backoff: Some(self.restart.backoff.get()),
            timeout: self.limits.wall.map(Span::get),
            grace: Some(self.grace.get()),
            stall: self.limits.heartbeat.map(Span::get),
            memory: self.limits.memory,
            cpu: self.limits.cpu.map(Span::get),
        }
    }
}

/// The pool of a trainer's jobs.
pub(crate) fn pool(trainer: &str) -> String {
    format!("trainer {trainer}")
}
