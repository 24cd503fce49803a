//! Places in pools.
//!
//! Invariant: a job that was claimed in a pool has a row in `pool_place` until the end of its
//! attempt is recorded, or until its owner is reclaimed. If a late thread still runs at the end,
//! the job has the row until the thread has returned.

use super::Commit;
use crate::codec::number_list;
use superduper_core::{
    Result,
    store::{JobId, Pool, WorkerId},
};

impl Commit<'_, '_> {
    /// How many places of a pool are free; without a pool there is no limit.
    pub(super) fn free_places(&self, pool: Option<&Pool>) -> Result<usize> {
        let Some(pool) = pool else { return Ok(usize::MAX) };
        let text = "SELECT COUNT(*) FROM pool_place WHERE pool = ?1";
        let taken =
            self.sql.query_first("count the places of a pool", text, [&pool.name], |row| {
                row.get::<_, u32>(0)
            })?;
        Ok(pool.limit.saturating_sub(taken.unwrap_or(0)) as usize)
    }

    pub(super) fn take_places(
        &self,
        pool: Option<&Pool>,
        jobs: impl Iterator<Item = (JobId, u32)>,
        owner: WorkerId,
    ) -> Result<()> {
        let Some(pool) = pool else { return Ok(()) };
        let jobs: Vec<(JobId, u32)> = jobs.collect();
        let head =
            ("INSERT INTO pool_place (pool, job, attempt, owner)", 4, " ON CONFLICT DO NOTHING");
        self.sql.insert("take places of a pool", head, &jobs, |row, (job, attempt)| {
            row.bind(&pool.name)?;
            row.bind(job.0)?;
            row.bind(attempt)?;
            row.bind(owner.0)
        })
    }

    pub(super) fn return_place(&self, job: JobId, attempt: u32, owner: WorkerId) -> Result<()> {
        let text = "DELETE FROM pool_place WHERE job = ?1 AND attempt = ?2 AND owner = ?3";
        self.sql.execute("return a place of a pool", text, (job.0, attempt, owner.0)).map(drop)
    }

    /// Return the places of owners that are gone.
    pub(super) fn return_places_of(&self, owners: &[WorkerId]) -> Result<()> {
        let text = "DELETE FROM pool_place WHERE owner IN (SELECT value FROM json_each(?1))";
        self.sql
            .execute(
                "return places of a pool",
                text,
                [number_list(owners.iter().map(|owner| owner.0))],
            )
            .map(drop)
    }
}
