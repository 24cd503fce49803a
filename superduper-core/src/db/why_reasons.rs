//! The reasons why a job waits, and how they read.

use super::why::{name, run_name};
use crate::{
    address::Address,
    job::Lack,
    store::{JobId, JobLine, JobState, RunId, Timestamp, Worker, WorkerId},
};
use std::fmt;

/// What a job waits for: see [`Db::why`](crate::Db::why). Its `Display` says it in words.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Why {
    /// The job.
    pub job: JobLine,
    /// The live worker that holds it, if one does.
    pub worker: Option<Worker>,
    /// All that it waits for; empty if it waits for nothing.
    pub reasons: Vec<WaitReason>,
}

/// A reason why a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitReason {
    /// Another job of its run must end first.
    Job(AwaitedJob),
    /// A job of another run must end first: an earlier run of the same version, or of a component
    /// whose result it takes.
    JobOfRun(AwaitedJob),
    /// Its pool is full.
    Pool {
        /// The pool.
        pool: String,
        /// How many places the pool has, as far as this process knows.
        limit: u32,
        /// The jobs that have the places.
        jobs: Vec<JobId>,
    },
    /// No live process has what it takes to run it.
    NoWorker {
        /// What is missing.
        lack: Lack,
    },
    /// It is blocked.
    Blocked {
        /// Why, as the job or [`Db::block`](crate::Db::block) said; at most
        /// [`MAX_LINE_TEXT`](crate::store::MAX_LINE_TEXT) bytes.
        reason: String,
        /// Since when; `None` if an older program blocked it.
        since: Option<Timestamp>,
        /// When it is queued again by itself.
        until: Option<Timestamp>,
    },
    /// It failed, and pauses before the next try.
    Backoff {
        /// The end of the pause.
        until: Timestamp,
        /// How many attempts failed so far.
        tries: u32,
    },
    /// It is part of a removal, which waits for the jobs that are still at work on what goes.
    Removal {
        /// The run of the removal.
        run: RunId,
        /// Those jobs.
        jobs: Vec<AwaitedJob>,
    },
    /// It was asked to cancel, and the process that leads its run has not ended it yet.
    Cancelled {
        /// Its run.
        run: RunId,
    },
    /// A worker has claimed it, and starts it when the worker has room.
    Claimed(WorkerId),
    /// The worker that holds it is gone. The next process that looks takes the job over.
    WorkerGone {
        /// The worker.
        worker: WorkerId,
    },
    /// No live process leads its run: that process is gone.
    NotLed {
        /// The run.
        run: RunId,
    },
    /// The process that leads its run has no room: so many jobs may run there at once.
    Turn {
        /// The worker that leads the run.
        workers: Vec<WorkerId>,
        /// Jobs that run there; not all of them if there are many. With none, the job is about to
        /// start.
        jobs: Vec<JobId>,
    },
    /// No process has claimed it yet. Other processes are alive; the record does not say whether
    /// one of them leads its run.
    OtherWorkers {
        /// The run.
        run: RunId,
        /// The live workers.
        workers: Vec<WorkerId>,
        /// Jobs that run there; not all of them if there are many.
        jobs: Vec<JobId>,
    },
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwaitedJob {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Its state.
    pub state: JobState,
    /// Kind, identifier, version and revision of its component.
    pub target: Address,
    /// The trigger or hook.
    pub method: String,
}

impl AwaitedJob {
    /// What a line says of the job.
    pub fn of(line: &JobLine) -> Self {
        AwaitedJob {
            id: line.id,
            run: line.run,
            state: line.state,
            target: line.target.clone(),
            method: line.method.clone(),
        }
    }
}

impl fmt::Display for AwaitedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AwaitedJob { id, state, target, method, .. } = self;
        write!(f, "job:{id} (`{method}` of `{}`), which is {state}", name(target))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobLine { id, method, target, state, .. } = &self.job;
        write!(f, "job:{id} (`{method}` of `{}`) is {state}", name(target))?;
        if let Some(worker) = &self.worker {
            write!(f, " on {worker}")?;
        }
        let mut separator = if self.reasons.len() > 1 { ":\n- " } else { ": " };
        for reason in &self.reasons {
            write!(f, "{separator}{reason}")?;
            separator = "\n- ";
        }
        Ok(())
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Job(needed) => write!(f, "it waits for {needed}"),
            WaitReason::JobOfRun(needed) => {
                write!(f, "it waits for a job of {}: {needed}", run_name(needed.run))
            }
            WaitReason::Pool { pool, limit, jobs } => {
                let places = if *limit == 1 { "place" } else { "places" };
                write!(f, "the pool `{pool}` is full: {} has its {limit} {places}", ids(jobs))
            }
            WaitReason::NoWorker { lack } => write!(
                f,
                "no live process has {lack}: start a program that has it, and calls `db.work()` or `db.resume()`"
            ),
            WaitReason::Blocked { reason, since, until } => {
                let since = since.map_or_else(String::new, |at| format!(" since {at}"));
                let until = until.map_or_else(String::new, |at| format!(" until {at}"));
                write!(f, "it is blocked{since}{until}, because it waits for: {reason}")
            }
            WaitReason::Backoff { until, tries } => {
                let times = if *tries == 1 { "once" } else { "several times" };
                write!(f, "it failed {times} ({tries}), and is tried again at {until}")
            }
            WaitReason::Removal { run, jobs } => {
                let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
                write!(f, "the removal {} waits for {}", run_name(*run), jobs.join(" and for "))
            }
            WaitReason::Cancelled { run } => {
                write!(f, "it was asked to cancel: who leads {} ends it", run_name(*run))
            }
            WaitReason::Claimed(worker) => {
                write!(f, "worker:{worker} has claimed it, and starts it when it has room")
            }
            WaitReason::WorkerGone { worker } => write!(
                f,
                "worker:{worker}, which holds it, is gone: the next process that works, or calls `db.resume()`, takes it over"
            ),
            WaitReason::NotLed { run } => write!(
                f,
                "no live process leads {}: its process is gone, and `db.resume()` continues it",
                run_name(*run)
            ),
            WaitReason::Turn { workers, jobs } if jobs.is_empty() => {
                write!(f, "nothing: {} is about to start it", workers_of(workers))
            }
            WaitReason::Turn { workers, jobs } => write!(
                f,
                "{} has no room for it, or is about to start it: {} runs there",
                workers_of(workers),
                ids(jobs)
            ),
            WaitReason::OtherWorkers { run, workers, jobs } => {
                write!(f, "no process has claimed it yet; alive is {}", workers_of(workers))?;
                if !jobs.is_empty() {
                    write!(f, ", where {} runs", ids(jobs))?;
                }
                write!(f, ". If none leads {}, `db.resume()` continues it", run_name(*run))
            }
        }
    }
}

fn ids(jobs: &[JobId]) -> String {
    jobs.iter().map(|job| format!("job:{job}")).collect::<Vec<_>>().join(", ")
}

fn workers_of(workers: &[WorkerId]) -> String {
    let all: Vec<String> = workers.iter().map(|worker| format!("worker:{worker}")).collect();
    if all.is_empty() { "this process".to_owned() } else { all.join(", ") }
}
