//! What the engine says of runs and jobs, as `tracing` events; `docs/events.md` lists them.
//!
//! Invariant: events that occur for every job have the level `debug`, and nothing is formatted
//! unless a subscriber asks for it.

use super::scheduler::Report;
use crate::store::{Committed, Finish, Finished, JobId, NewJob, RunId, WorkerId};
use tracing::{Level, debug, info};

const RUN: &str = "superduper::run";
const LEASE: &str = "superduper::lease";

/// A run was recorded.
pub(crate) fn recorded(run: RunId, jobs: &[NewJob], ids: &[JobId]) {
    debug!(target: RUN, run = run.0, jobs = jobs.len(), "recorded");
    if tracing::enabled!(target: RUN, Level::DEBUG) {
        for (_, id) in jobs.iter().zip(ids).filter(|(job, _)| job.claim.is_some()) {
            debug!(target: RUN, run = run.0, job = id.0, attempt = 1, "claim");
        }
    }
}

/// A commit of the engine was written.
pub(crate) fn written(run: RunId, ops: usize, committed: &Committed) {
    let (claimed, ignored) = (committed.claimed.len(), committed.ignored.len());
    debug!(target: RUN, run = run.0, ops, claimed, ignored, "commit");
    if tracing::enabled!(target: RUN, Level::DEBUG) {
        for claimed in &committed.claimed {
            debug!(target: RUN, run = run.0, job = claimed.job.0, attempt = claimed.attempt, "claim");
        }
    }
}

/// An attempt starts; the span is that of the attempt.
pub(crate) fn started(run: RunId, job: JobId, attempt: u32) -> tracing::Span {
    debug!(target: RUN, run = run.0, job = job.0, attempt, "start");
    tracing::debug_span!(target: RUN, "attempt", run = run.0, job = job.0, attempt)
}

/// An attempt ended.
pub(crate) fn ended(run: RunId, job: JobId, attempt: u32, report: &Report) {
    let how = match report {
        Report::Recorded => "recorded by its job process",
        Report::Unable => "given back: this program lacks something that the job needs",
        Report::Finish(finish) => how(finish),
    };
    debug!(target: RUN, run = run.0, job = job.0, attempt, how, "end");
}

fn how(finish: &Finish) -> &'static str {
    match finish.end {
        Finished::Succeeded(_) => "succeeded",
        Finished::Failed(_) | Finished::Retry(..) => "failed",
        Finished::Cancelled(_) => "cancelled",
        Finished::Blocked(_) | Finished::Paused(_) => "blocked",
        Finished::Released => "given back",
    }
}

/// The lease of this process lapsed: its jobs may have been taken over.
pub(crate) fn lapsed() {
    info!(target: LEASE, "the lease of this process lapsed");
}

/// The jobs of processes that are gone were queued again.
pub(crate) fn took_over(owners: &[WorkerId], jobs: usize) {
    info!(target: LEASE, workers = owners.len(), jobs, "take-over: the jobs of processes that are gone are queued again");
}

/// The end of an attempt of this process was not written.
pub(crate) fn fenced(job: JobId, attempt: u32) {
    info!(target: LEASE, job = job.0, attempt, "fence: the job was taken over, and this attempt does not count");
}

/// This process leads a run that it reads from the record.
pub(crate) fn led_on(run: RunId) {
    info!(target: RUN, run = run.0, "resume: this process leads the run from the record");
}
