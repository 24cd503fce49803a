//! Places in pools.
//!
//! Invariant: a job that was claimed in a pool holds a place until the end of its attempt is
//! recorded, or until its owner is reclaimed. If a late thread still runs at the end, the job holds
//! the place until the thread has returned.

use super::Commit;
use superduper_core::store::{JobId, Pool, WorkerId};

impl Commit<'_> {
    /// Take a place, if the pool has a free one; a job without a pool needs none.
    pub(super) fn take_place(
        &mut self,
        pool: Option<&Pool>,
        (job, attempt): (JobId, u32),
        owner: WorkerId,
    ) -> bool {
        let Some(pool) = pool else { return true };
        let taken = self.state.places.iter().filter(|((name, ..), ())| *name == pool.name).count();
        if u32::try_from(taken).is_ok_and(|taken| taken < pool.limit) {
            self.state.places.set((pool.name.clone(), job, attempt, owner), ());
            return true;
        }
        false
    }

    pub(super) fn return_place(&mut self, job: JobId, attempt: u32, owner: WorkerId) {
        self.return_places(|place, of| (place, of) == ((job, attempt), owner));
    }

    pub(super) fn return_places(&mut self, is_one: impl Fn((JobId, u32), WorkerId) -> bool) {
        let places = self.state.places.iter().map(|(place, ())| place);
        let returned: Vec<_> = places
            .filter(|(_, job, attempt, owner)| is_one((*job, *attempt), *owner))
            .cloned()
            .collect();
        returned.iter().for_each(|place| self.state.places.remove(place));
    }
}
