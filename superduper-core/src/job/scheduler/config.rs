//! What a scheduler is told once, and the time it is told with each input.

use super::Fault;
use crate::{
    address::Address,
    store::{JobRole, Timestamp, WorkerId},
};
use std::{fmt, sync::Arc};

/// What a process needs to run a job.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The component. The process must know its kind.
    pub target: &'a Address,
    /// A trigger or a hook.
    pub role: JobRole,
    /// The name of the trigger or hook.
    pub method: &'a str,
    /// Where the job runs, as its row says.
    pub executor: Option<&'a str>,
}

/// Which jobs a process can run. It claims no other jobs.
#[derive(Clone)]
pub struct Abilities(Arc<dyn Fn(&Work<'_>) -> bool + Send + Sync>);

impl Abilities {
    /// All jobs.
    pub fn all() -> Self {
        Abilities::of(|_| true)
    }

    /// The jobs for which `can` returns `true`. It must always return the same for the same job.
    pub fn of(can: impl Fn(&Work<'_>) -> bool + Send + Sync + 'static) -> Self {
        Abilities(Arc::new(can))
    }

    /// Whether a job can be run.
    pub fn can(&self, work: &Work<'_>) -> bool {
        (self.0)(work)
    }
}

impl fmt::Debug for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Abilities")
    }
}

/// How one process schedules.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process, as stores know it.
    pub worker: WorkerId,
    /// How many attempts may run at once, apart from those of pools.
    pub permits: u32,
    /// Whether other processes may work on the same record.
    pub shared: bool,
    /// The most jobs of a run that are claimed ahead of a permit.
    pub most_prefetched: usize,
    /// Which jobs this process can run.
    pub abilities: Abilities,
    /// A fault to put in; the simulator shows that it is found.
    pub fault: Fault,
}

/// A moment, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a monotonic clock: what is waited for is measured by it alone.
    pub ms: u64,
    /// The time of day, which may be set: it is only written down.
    pub wall: Timestamp,
}

/// A pause after a call of the store failed.
pub(super) const PAUSE: u64 = 200;
/// How soon, and how late at most, rows that other processes move are read again while nothing runs
/// here.
pub(super) const POLL: (u64, u64) = (20, 500);
/// How often the record is read while attempts run here: signals of other processes are on it.
pub(super) const BUSY_POLL: u64 = 1000;
/// The same while jobs only wait for a time or for a place.
pub(super) const IDLE_POLL: u64 = 3000;
/// The shortest and the longest pause before a job whose pool was full is tried again.
pub(super) const PLACE_POLL: (u64, u64) = (20, 1000);
/// When the start of a prefetched job is put on record; a job that ends sooner tells it with its
/// end.
pub(super) const START_ON_RECORD: u64 = 20;
/// How long a job is kept that was prefetched and has no permit, where other workers live.
pub(super) const KEEP_PREFETCHED: u64 = 1000;
/// The first half and the longest of the pauses before a job tries again whose block was refused.
pub(super) const REFUSED_BLOCK: (u64, u64) = (2, 10_000);
