//! A job as a run knows it.

use super::{Phase, permits::Lane};
use crate::{
    address::Address,
    store::{BlockedUntil, Finish, JobId, JobSignals},
};

/// How a job needs another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The other one must succeed.
    Success,
    /// The other one must end, however it does.
    AnyEnd,
}

/// An edge of the graph: the job at the other end, and how it is needed.
pub(super) type Edge = (usize, Kind);

/// What does not change about a job.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) target: Address,
    pub(super) method: String,
    pub(super) retries: u32,
    pub(super) backoff_ms: u64,
    /// Its end counts for nothing in the outcome of the run.
    pub(super) tolerated: bool,
}

/// A job.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: JobId,
    /// Changed by `RunState::set` alone.
    pub(super) phase: Phase,
    /// Whether it is of this run; one of another run only changes by its row.
    pub(super) own: bool,
    pub(super) lane: Lane,
    pub(super) facts: Facts,
    pub(super) tries: u32,
    /// Attempts lost with their process.
    pub(super) lost_attempts: u32,
    pub(super) signals: JobSignals,
    /// Threads of old attempts that have not returned; each has a permit.
    pub(super) late: u32,
    /// Whether the job itself holds a permit.
    pub(super) holds: bool,
    /// What the job means for those that need it, also while its end is on the way to the record.
    pub(super) verdict: Option<bool>,
    /// How many needs are not done, and how many never will be.
    pub(super) missing: u32,
    pub(super) lost: u32,
    pub(super) needs: Vec<Edge>,
    pub(super) after: Vec<Edge>,
    /// While it is `Ending`.
    pub(super) end: Option<Box<Finish>>,
    /// Whether that end was sent before, by a commit that may have been written.
    pub(super) resent: bool,
    /// The attempt whose end was ignored after it was sent twice: its own first commit may have
    /// fenced it.
    pub(super) unsure: Option<u32>,
    /// The last attempt that was started here.
    pub(super) used: u32,
    /// It was given back once: it is claimed only with a permit.
    pub(super) given_back: bool,
    /// Whether a late thread holds a place of the pool on record, and whether that thread returned
    /// while the end was being sent.
    pub(super) keeps_place: Option<u32>,
    pub(super) returned: bool,
    /// An attempt found that this program lacks something that the job needs.
    pub(super) unable: bool,
    /// How long its row says that it is blocked.
    pub(super) blocked: Option<BlockedUntil>,
    /// Its end asked to block it, and the row that says what became of that is not read yet.
    pub(super) blocking: bool,
    /// How often in a row that was refused, since what it had read had changed.
    pub(super) refused_blocks: u32,
}

impl Entry {
    pub(super) fn new(id: JobId, own: bool, lane: Lane, facts: Facts) -> Self {
        Entry {
            id,
            phase: Phase::Elsewhere,
            own,
            lane,
            facts,
            tries: 0,
            lost_attempts: 0,
            signals: JobSignals::default(),
            late: 0,
            holds: false,
            verdict: None,
            missing: 0,
            lost: 0,
            needs: Vec::new(),
            after: Vec::new(),
            end: None,
            resent: false,
            unsure: None,
            used: 0,
            given_back: false,
            keeps_place: None,
            returned: false,
            unable: false,
            blocked: None,
            blocking: false,
            refused_blocks: 0,
        }
    }

    /// How many permits it accounts for.
    pub(super) fn permits(&self) -> u32 {
        self.late + u32::from(self.holds)
    }
}
