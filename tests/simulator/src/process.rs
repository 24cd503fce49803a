//! A process of a world: its scheduler, its clocks, and the attempts that run in it.

use std::collections::HashSet;
use superduper_core::{
    simulate::{Abilities, Config, Fault, Now, Scheduler},
    store::{JobId, RunId, Timestamp, WorkerId},
};

use crate::record::{BASE, SPECIAL};

/// How many attempts run at once in a process, beside those of the pool.
pub(crate) const PERMITS: u32 = 2;

/// An attempt of which something runs.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    pub(crate) pooled: bool,
    /// It is out of time, and its thread goes on.
    pub(crate) late: bool,
    /// The scheduler knows that.
    pub(crate) told: bool,
}

/// A process; one that was killed and started again has another life.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) scheduler: Scheduler,
    pub(crate) worker: WorkerId,
    pub(crate) life: u32,
    pub(crate) alive: bool,
    /// It is about to end, and starts nothing.
    pub(crate) closing: bool,
    /// It stands still from a time until another.
    pub(crate) paused: (u64, u64),
    pub(crate) lapsed: bool,
    /// What its clocks differ by: the monotonic one, and the one of the day.
    pub(crate) mono: u64,
    pub(crate) wall: i64,
    pub(crate) timer: u64,
    /// How often it woke up in a row and did nothing.
    pub(crate) idle: u32,
    pub(crate) live: Vec<Live>,
    pub(crate) runs: Vec<RunId>,
    pub(crate) done: HashSet<RunId>,
    /// Runs that it is about to let go, since the store fails.
    pub(crate) lets_go: HashSet<RunId>,
}

impl Process {
    pub(crate) fn new(
        place: usize,
        worker: WorkerId,
        life: u32,
        runs: Vec<RunId>,
        fault: Fault,
    ) -> Self {
        // Only the first process has all there is.
        let abilities = Abilities::of(move |work| place == 0 || work.method != SPECIAL);
        let config =
            Config { worker, permits: PERMITS, shared: true, most_prefetched: 2, abilities, fault };
        Process {
            scheduler: Scheduler::new(config),
            worker,
            life,
            alive: true,
            closing: false,
            paused: (0, 0),
            lapsed: false,
            mono: 10_000 * (u64::from(life) + 1),
            wall: 0,
            timer: 0,
            idle: 0,
            live: Vec::new(),
            runs,
            done: HashSet::new(),
            lets_go: HashSet::new(),
        }
    }

    /// The time as this process sees it.
    pub(crate) fn now(&self, time: u64) -> Now {
        let wall = BASE + i64::try_from(time).unwrap_or(0) + self.wall;
        Now { ms: time + self.mono, wall: Timestamp(wall) }
    }

    pub(crate) fn stands_still(&self, time: u64) -> bool {
        time < self.paused.1
    }

    pub(crate) fn live(&self, job: JobId, attempt: u32) -> Option<usize> {
        self.live.iter().position(|live| (live.job, live.attempt) == (job, attempt))
    }
}
