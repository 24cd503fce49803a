//! What a scheduler is told, and what it wants done.

use crate::{
    error::JobFailure,
    store::{
        ChangeCursor, Committed, Finish, JobId, JobRow, JobSignals, JobState, Op, RunChanges,
        RunId, RunState, Timestamp,
    },
};

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// This process is to run the jobs of a run: it recorded the run, or took it from the record.
    Attach(Box<Loaded>),
    /// The answer to [`Effect::Read`].
    Rows(Box<Loaded>),
    /// The answer to [`Effect::Look`].
    Looked {
        /// The run.
        run: RunId,
        /// The jobs as they are on record.
        rows: Vec<JobRow>,
        /// Whether other workers live.
        other_workers: bool,
    },
    /// A read, or a look, failed.
    ReadFailed {
        /// The run.
        run: RunId,
    },
    /// A commit was written.
    Written {
        /// The run.
        run: RunId,
        /// What it did.
        answer: Box<Committed>,
    },
    /// A commit was not written, and would not be if it were tried again.
    Refused {
        /// The run.
        run: RunId,
        /// Why.
        failure: JobFailure,
    },
    /// A commit failed: it may have been written, or not.
    Unknown {
        /// The run.
        run: RunId,
    },
    /// An attempt ended.
    Ended {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// How.
        report: Report,
        /// Whether a thread of it still runs; [`Input::Returned`] follows.
        late: bool,
    },
    /// The thread of an attempt that ended late has returned.
    Returned {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
    },
    /// The answer to [`Effect::Save`].
    Saved {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// The epoch of sweeps that was read before the blobs were saved; or why they could not be.
        saved: Result<u64, JobFailure>,
    },
    /// Jobs of a run, or all of them, are asked for something; it is on record already.
    Signal {
        /// The run.
        run: RunId,
        /// The jobs; `None`: all.
        jobs: Option<Vec<JobId>>,
        /// What is asked; what is not is left as it is.
        signals: JobSignals,
    },
    /// The record may have moved.
    Refresh {
        /// The run.
        run: RunId,
    },
    /// The store has failed for too long: this process is to let the run go. No call of the run is
    /// in flight.
    GiveUp {
        /// The run.
        run: RunId,
        /// Why.
        failure: JobFailure,
    },
    /// This process closes: it claims no more jobs, and asks the running jobs to pause.
    Close {
        /// Whether the grace is over: the jobs that still run are stopped.
        now: bool,
    },
    /// The time of [`Effect::Timer`] has come.
    Timer,
    /// This process stood still for its lease: other processes may have taken its jobs over.
    Lapsed,
}

impl Input {
    /// All kinds of inputs.
    pub const NAMES: [&'static str; 16] = [
        "Attach",
        "Rows",
        "Looked",
        "ReadFailed",
        "Written",
        "Refused",
        "Unknown",
        "Ended",
        "Returned",
        "Saved",
        "Signal",
        "Refresh",
        "GiveUp",
        "Close",
        "Timer",
        "Lapsed",
    ];

    /// Its place among the kinds.
    pub fn kind(&self) -> usize {
        match self {
            Input::Attach(_) => 0,
            Input::Rows(_) => 1,
            Input::Looked { .. } => 2,
            Input::ReadFailed { .. } => 3,
            Input::Written { .. } => 4,
            Input::Refused { .. } => 5,
            Input::Unknown { .. } => 6,
            Input::Ended { .. } => 7,
            Input::Returned { .. } => 8,
            Input::Saved { .. } => 9,
            Input::Signal { .. } => 10,
            Input::Refresh { .. } => 11,
            Input::GiveUp { .. } => 12,
            Input::Close { .. } => 13,
            Input::Timer => 14,
            Input::Lapsed => 15,
        }
    }
}

/// A run as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// The run and what changed in it, at one moment.
    pub changes: RunChanges,
    /// Jobs of other runs that jobs of this one wait for, read at that moment or later.
    pub others: Vec<JobRow>,
    /// Whether other workers live.
    pub other_workers: bool,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Report {
    /// With this. Of a failure the scheduler decides whether it is the end of the job, another try
    /// or a cancellation.
    Finish(Box<Finish>),
    /// Who ran it has recorded its end.
    Recorded,
    /// Nothing ran: this program lacks something that the job needs. The job is given back, and not
    /// claimed here again.
    Unable,
}

/// Something is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Write these operations; the answer is `Written`, `Refused` or `Unknown`.
    Commit {
        /// The run.
        run: RunId,
        /// The operations.
        ops: Vec<Op>,
    },
    /// Take jobs away from workers that died, then read what changed; the answer is `Rows` or
    /// `ReadFailed`.
    Read {
        /// The run.
        run: RunId,
        /// Since when.
        after: ChangeCursor,
        /// Jobs of other runs to be read too, with those that are found to be needed.
        others: Vec<JobId>,
    },
    /// Read these jobs alone: whether they are still ours, and what is asked of them; the answer is
    /// `Looked` or `ReadFailed`.
    Look {
        /// The run.
        run: RunId,
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// Start an attempt.
    Start {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// How many attempts ended in a failure of their own.
        tries: u32,
        /// How many attempts were lost with their process.
        lost: u32,
        /// What is asked of the job.
        signals: JobSignals,
    },
    /// Pass on what is asked of a running attempt.
    Signal {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
        /// All that is asked of it.
        signals: JobSignals,
    },
    /// An attempt no longer counts: stop it. Its end is told by `Ended` all the same.
    Abandon {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// This process ends: stop an attempt, whose end counts all the same.
    Stop {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// Save the blobs of an end again, since a sweep took one.
    Save {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// Write that a late thread has returned, so that its place in a pool is free:
    /// [`Op::ReturnPlace`].
    ReturnPlace {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// The end of an attempt is on record: show its outputs.
    Recorded {
        /// The run.
        run: RunId,
        /// How it ended.
        end: Box<Finish>,
        /// The ids of the jobs that it spawned.
        spawned: Vec<JobId>,
    },
    /// A job became final without an attempt.
    Settled {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// `Cancelled` or `Skipped`.
        state: JobState,
        /// Why.
        failure: JobFailure,
        /// When.
        at: Timestamp,
    },
    /// What was read counts: here it is, to be kept.
    Took(Box<Loaded>),
    /// The end of an attempt does not count, since the job was taken over.
    Fenced {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// Another process ended a job: its outputs are on record.
    EndedElsewhere {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
    },
    /// Send [`Input::Timer`] at this time, in place of an earlier one.
    Timer(u64),
    /// A run is over: tell who waits for it.
    Done {
        /// The run.
        run: RunId,
        /// How it ended.
        state: RunState,
        /// When, where that is known.
        at: Option<Timestamp>,
    },
    /// This process cannot go on with a run: tell who waits for it.
    Stopped {
        /// The run.
        run: RunId,
        /// Why.
        failure: JobFailure,
        /// Ends that are not on record, and claims that are given back: to be written if that can
        /// be.
        ops: Vec<Op>,
    },
}
