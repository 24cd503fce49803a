//! Results that no caller gets: of background tasks, and of steps whose failure does not fail the
//! call.
//!
//! Invariant: no result is thrown away in silence. An error is recorded as one `warn` event with
//! [`or_warn`](Unreturned::or_warn), or the code says with [`ignored`](Unreturned::ignored) why no record is needed.
//! Stores, executors and other extensions use [`Site`] and [`Unreturned`] as the library does.

use crate::store::{JobId, RunId};
use std::{error::Error, fmt};

/// The part of the library that an event belongs to: its `tracing` target, and the run, job and
/// attempt if there is one.
///
/// ```
/// use superduper_core::unreturned::{Site, Unreturned};
///
/// let written = std::fs::remove_file("/no/such/file");
/// assert!(written.or_warn(Site::SWEEP, "removing a leftover").is_none());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Site {
    part: Part,
    run: Option<RunId>,
    job: Option<JobId>,
    attempt: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Run,
    Lease,
    Sweep,
    Worker,
    Retention,
}

impl Site {
    /// `superduper::run`: runs, their jobs, and their records in the store.
    pub const RUN: Site = Site::of(Part::Run);
    /// `superduper::lease`: which process runs what, and whether it is alive.
    pub const LEASE: Site = Site::of(Part::Lease);
    /// `superduper::sweep`: blobs and files that nothing needs any more.
    pub const SWEEP: Site = Site::of(Part::Sweep);
    /// `superduper::worker`: job processes.
    pub const WORKER: Site = Site::of(Part::Worker);
    /// `superduper::retention`: old jobs of trainers.
    pub const RETENTION: Site = Site::of(Part::Retention);

    const fn of(part: Part) -> Self {
        Site { part, run: None, job: None, attempt: None }
    }

    /// Name the run that the event is about.
    pub fn run(self, run: impl Into<Option<RunId>>) -> Self {
        Site { run: run.into(), ..self }
    }

    /// Name the job that the event is about.
    pub fn job(self, job: impl Into<Option<JobId>>) -> Self {
        Site { job: job.into(), ..self }
    }

    /// Name the attempt that the event is about.
    pub fn attempt(self, attempt: u32) -> Self {
        Site { attempt: Some(attempt), ..self }
    }

    /// Record an error that no caller gets, as one `warn` event. `doing` fits before "failed".
    pub fn warn(self, error: &(dyn Error + 'static), doing: &'static str) {
        let Site { part, run, job, attempt } = self;
        let (run, job, error) = (run.map(|run| run.0), job.map(|job| job.0), Causes(error));
        // A target must be a constant.
        macro_rules! warn {
            ($target:literal) => {
                tracing::warn!(target: $target, run, job, attempt, error = %error, "{doing} failed")
            };
        }
        match part {
            Part::Run => warn!("superduper::run"),
            Part::Lease => warn!("superduper::lease"),
            Part::Sweep => warn!("superduper::sweep"),
            Part::Worker => warn!("superduper::worker"),
            Part::Retention => warn!("superduper::retention"),
        }
    }
}

/// What becomes of a result that no caller gets.
pub trait Unreturned<T, E> {
    /// Returns the value. An error is recorded as one `warn` event, by [`Site::warn`]. `doing` fits
    /// before "failed".
    fn or_warn(self, site: Site, doing: &'static str) -> Option<T>
    where
        E: Error + 'static;

    /// Drop an error without a record. `because` says why no record is needed, for example "the
    /// receiver is gone".
    fn ignored(self, because: &'static str);
}

impl<T, E> Unreturned<T, E> for Result<T, E> {
    fn or_warn(self, site: Site, doing: &'static str) -> Option<T>
    where
        E: Error + 'static,
    {
        self.inspect_err(|error| site.warn(error, doing)).ok()
    }

    fn ignored(self, _because: &'static str) {}
}

/// An error with its causes, on one line.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
