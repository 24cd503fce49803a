//! Where a job stands, as one process sees it.
//!
//! | phase | the record says | left by |
//! |---|---|---|
//! | `Waiting` | queued, free | what it needs is done, or lost |
//! | `Ready` | queued, free | a permit, or room to prefetch |
//! | `Claiming` | unknown | the answer |
//! | `Prefetched` | ours | a permit; a release |
//! | `Running` | ours | its end; a lost lease |
//! | `Ending` | ours until the answer | the answer |
//! | `Settling` | free until the answer | the answer |
//! | `Backoff` | queued, free | a timer |
//! | `Blocked` | blocked | a changed row; a timer |
//! | `Elsewhere` | another worker's, or unknown | a changed row |
//! | `Final` | final | nothing |

use crate::store::JobState;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It needs jobs that are not done.
    Waiting,
    /// It can be claimed.
    Ready,
    /// A claim is on its way to the record; with a permit the job is to start at once.
    Claiming {
        /// Whether it holds a permit.
        permit: bool,
    },
    /// Claimed, and not started.
    Prefetched {
        /// The attempt that is to start.
        attempt: u32,
        /// Whether its start is on record already.
        started: bool,
        /// When it is given back.
        until: Option<u64>,
    },
    /// An attempt is under way.
    Running {
        /// Its number.
        attempt: u32,
        /// Whether the record says so.
        start: Start,
    },
    /// An attempt ended, which is not on record yet.
    Ending {
        /// Its number.
        attempt: u32,
        /// How far its end is.
        step: Step,
    },
    /// It is becoming final without an attempt.
    Settling(JobState),
    /// It is tried again later.
    Backoff {
        /// When.
        until: u64,
    },
    /// It waits for something outside.
    Blocked {
        /// When it is queued again by itself.
        until: Option<u64>,
    },
    /// Another worker has it, or what the record says is not known.
    Elsewhere,
    /// It is over.
    Final(JobState),
}

/// Whether the start of an attempt is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is.
    OnRecord,
    /// It is to be, from a time on.
    Due(u64),
    /// It is on its way.
    Sent,
}

/// How far the end of an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A sweep took one of its blobs, which is being saved again.
    Saving,
    /// It waits for the next commit.
    Unsent,
    /// It is on its way to the record.
    Sent,
}

macro_rules! names {
    ($($name:ident: $pattern:pat,)*) => {
        /// A phase without what belongs to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum PhaseName {
            $(#[doc = stringify!($name)] $name,)*
        }

        impl PhaseName {
            /// All of them.
            pub const ALL: &'static [PhaseName] = &[$(PhaseName::$name,)*];
        }

        impl Phase {
            /// Its name.
            pub fn name(self) -> PhaseName {
                match self {
                    $($pattern => PhaseName::$name,)*
                }
            }
        }
    };
}
names! {
    Waiting: Phase::Waiting,
    Ready: Phase::Ready,
    Claiming: Phase::Claiming { .. },
    Prefetched: Phase::Prefetched { .. },
    Running: Phase::Running { .. },
    Ending: Phase::Ending { .. },
    Settling: Phase::Settling(_),
    Backoff: Phase::Backoff { .. },
    Blocked: Phase::Blocked { .. },
    Elsewhere: Phase::Elsewhere,
    Final: Phase::Final(_),
}

impl Phase {
    /// The time at which something has to be done about it.
    pub(super) fn due(self) -> Option<u64> {
        match self {
            Phase::Backoff { until }
            | Phase::Prefetched { until: Some(until), .. }
            | Phase::Blocked { until: Some(until) } => Some(until),
            Phase::Running { start: Start::Due(time), .. } => Some(time),
            _ => None,
        }
    }

    /// Whether the record says that nobody has the job and that it is not final.
    pub(super) fn is_free(self) -> bool {
        matches!(
            self,
            Phase::Waiting | Phase::Ready | Phase::Backoff { .. } | Phase::Blocked { .. }
        )
    }
}
