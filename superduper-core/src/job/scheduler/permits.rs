//! How many attempts may run at once: all without a pool share one lane, each pool has one of its
//! own.
//!
//! Invariant: a permit is out exactly as long as a job holds it, a thread of a late attempt runs,
//! or it is reserved for a job that is being recorded.

use super::config::PLACE_POLL;
use crate::store::Pool;
use std::collections::HashMap;

/// A lane, by its place.
pub(super) type Lane = usize;

/// The lane of jobs without a pool.
pub(super) const GENERAL: Lane = 0;
/// The lane of jobs that this process cannot run: it has no permits.
pub(super) const UNABLE: Lane = 1;
/// The lane of the first pool.
pub(super) const FIRST_POOL: Lane = 2;

#[derive(Debug)]
struct State {
    /// The name of the pool; `None` for a lane without one.
    name: Option<String>,
    capacity: u32,
    out: u32,
    /// How many of those that are out are for jobs that are not recorded yet.
    reserved: u32,
    /// Other processes have all places: until then none is looked for. How often that was so, one
    /// time after the other.
    not_before: u64,
    waits: u32,
    /// Whether the limit was set for this process, whatever rows say.
    is_set: bool,
}

/// The permits of one process.
#[derive(Debug)]
pub(super) struct Permits {
    lanes: Vec<State>,
    pools: HashMap<String, Lane>,
}

impl Permits {
    pub(super) fn new(general: u32) -> Self {
        let lane = |capacity| State {
            name: None,
            capacity,
            out: 0,
            reserved: 0,
            not_before: 0,
            waits: 0,
            is_set: true,
        };
        Permits { lanes: vec![lane(general), lane(0)], pools: HashMap::new() }
    }

    /// The lane of a job; of a pool the limit that was set counts, else the one that was named
    /// last.
    pub(super) fn lane(&mut self, pool: Option<&(String, usize)>) -> Lane {
        let Some((name, limit)) = pool else { return GENERAL };
        let lane = self.pool(name);
        if !self.lanes[lane].is_set {
            self.lanes[lane].capacity = u32::try_from((*limit).max(1)).unwrap_or(u32::MAX);
        }
        lane
    }

    pub(super) fn set_limit(&mut self, name: &str, limit: u32) {
        let lane = self.pool(name);
        (self.lanes[lane].capacity, self.lanes[lane].is_set) = (limit.max(1), true);
    }

    fn pool(&mut self, name: &str) -> Lane {
        if let Some(lane) = self.pools.get(name) {
            return *lane;
        }
        self.lanes.push(State {
            name: Some(name.to_owned()),
            capacity: 1,
            out: 0,
            reserved: 0,
            not_before: 0,
            waits: 0,
            is_set: false,
        });
        self.pools.insert(name.to_owned(), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// The pool of a lane, as a claim names it.
    pub(super) fn pool_of(&self, lane: Lane) -> Option<Pool> {
        let State { name, capacity, .. } = &self.lanes[lane];
        name.clone().map(|name| Pool { name, limit: *capacity })
    }

    /// Other processes have all places of a pool: it is asked for one a little later, each time
    /// later.
    pub(super) fn pause(&mut self, lane: Lane, now: u64) {
        let state = &mut self.lanes[lane];
        state.not_before = now + (PLACE_POLL.0 << state.waits.min(8)).min(PLACE_POLL.1);
        state.waits += 1;
    }

    /// A place was there.
    pub(super) fn resume(&mut self, lane: Lane) {
        (self.lanes[lane].not_before, self.lanes[lane].waits) = (0, 0);
    }

    /// Until when no place of a lane is looked for.
    pub(super) fn paused_until(&self, lane: Lane, now: u64) -> Option<u64> {
        Some(self.lanes[lane].not_before).filter(|time| *time > now)
    }

    pub(super) fn lanes(&self) -> std::ops::Range<Lane> {
        0..self.lanes.len()
    }

    pub(super) fn free(&self, lane: Lane) -> u32 {
        self.lanes[lane].capacity.saturating_sub(self.lanes[lane].out)
    }

    pub(super) fn out(&self, lane: Lane) -> u32 {
        self.lanes[lane].out
    }

    /// Take a permit, if one is free.
    pub(super) fn take(&mut self, lane: Lane) -> bool {
        let is_free = self.free(lane) > 0;
        self.lanes[lane].out += u32::from(is_free);
        is_free
    }

    /// Take a permit for a job that is about to be recorded, if one is free.
    pub(super) fn reserve(&mut self, lane: Lane) -> bool {
        let is_free = self.take(lane);
        self.lanes[lane].reserved += u32::from(is_free);
        is_free
    }

    pub(super) fn unreserve(&mut self, lane: Lane) {
        self.lanes[lane].reserved = self.lanes[lane].reserved.saturating_sub(1);
        self.give(lane);
    }

    pub(super) fn reserved(&self, lane: Lane) -> u32 {
        self.lanes[lane].reserved
    }

    pub(super) fn give(&mut self, lane: Lane) {
        // `check` compares with what jobs hold.
        self.lanes[lane].out = self.lanes[lane].out.saturating_sub(1);
    }
}
