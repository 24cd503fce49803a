//! What a scheduler is told once, and the time it is told with each input.

use super::Fault;
use crate::store::{OwnerId, Timestamp};

/// How one process schedules.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process, as stores know it.
    pub worker: OwnerId,
    /// How many attempts may run at once, apart from those of pools.
    pub permits: u32,
    /// Whether other processes may work on the same record.
    pub shared: bool,
    /// The most jobs of a run that are claimed ahead of a permit.
    pub most_prefetched: usize,
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
/// How soon, and how late at most, rows that other processes move are read again while nothing runs here.
pub(super) const POLL: (u64, u64) = (20, 500);
/// How often the record is read while attempts run here: signals of other processes are on it.
pub(super) const BUSY_POLL: u64 = 1000;
/// The same while jobs only wait for a time or for a place.
pub(super) const IDLE_POLL: u64 = 3000;
/// When the start of a prefetched job is put on record; a job that ends sooner tells it with its end.
pub(super) const START_ON_RECORD: u64 = 20;
/// How long a job is kept that was prefetched and has no permit, where other workers live.
pub(super) const KEEP_PREFETCHED: u64 = 1000;
