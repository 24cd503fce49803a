//! Recording the ends of attempts beside sweeps of blobs.
//!
//! The blobs of a result are looked for, and saved where they are missing, before the commit that
//! names them; a sweep may take one between the two. The store then leaves the end out, and the
//! blobs are looked for again. Invariant: no end names a blob that a sweep took.

use super::run_job::{AttemptResult, conclude};
use crate::unreturned::Site;
use crate::{
    artifact::BlobHandle,
    db::{DbInner, Retry},
    digest::Digest,
    error::{Error, JobFailure, Result},
    store::{Batch, Committed, Durability, Finish, JobFilter, JobRow, Op},
};
use std::{sync::Arc, time::Duration};

/// A store that fails is asked again so often, and after so long each time.
pub(super) const MOST_FAILURES: u32 = 10;
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// The blobs of a result and its outputs; with them one that a sweep took before the end was on
/// record is saved again.
#[derive(Default)]
pub(crate) struct ResultBlobs {
    handles: Vec<Arc<BlobHandle>>,
    /// The tries to save the blobs again, and the epoch of sweeps of the last try; `None` before
    /// the first.
    retry: Option<(Retry<Option<u64>>, Option<u64>)>,
}

impl ResultBlobs {
    pub(super) fn new(handles: Vec<Arc<BlobHandle>>) -> Self {
        ResultBlobs { handles, retry: None }
    }

    /// Look for the blobs again, and save those that a sweep took; gives the epoch of sweeps from
    /// before that.
    ///
    /// # Errors
    /// `Integrity` for one whose bytes are nowhere any more; those of the stores.
    pub(super) async fn save_again(&mut self, db: &Arc<DbInner>) -> Result<u64> {
        let digests: Vec<Digest> = self.handles.iter().filter_map(|blob| blob.digest()).collect();
        let (retry, seen) =
            self.retry.get_or_insert_with(|| (Retry::new("saving the blobs of the result"), None));
        let refused = Error::conflict("a sweep took one of them before the result was on record");
        retry.again(db, refused, *seen, &digests).await?;
        let epoch = sweep_epoch(db).await?;
        *seen = Some(epoch);
        for blob in &self.handles {
            blob.save(&db.artifacts).await.map_err(|error| {
                // Another attempt makes them again.
                error.context("a sweep came before the result was on record").retryable()
            })?;
        }
        Ok(epoch)
    }
}

/// How many sweeps were completed; to be read before blobs are looked for.
pub(super) async fn sweep_epoch(db: &Arc<DbInner>) -> Result<u64> {
    Ok(db.metadata.snapshot(Vec::new()).await?.sweep_epoch)
}

/// Whether an end that was ignored is on record: because it was written by a commit whose answer
/// was lost.
async fn is_written(db: &Arc<DbInner>, row: &JobRow, attempt: u32) -> Result<bool> {
    let rows =
        db.metadata.jobs(JobFilter { ids: Some(vec![row.id]), ..JobFilter::default() }).await?;
    Ok(rows.iter().any(|now| now.attempt == attempt && now.owner.is_none() && now.lost == row.lost))
}

/// Record an end in a commit of its own; where its blobs are gone for good, the failure instead.
/// Gives whether it is the end as it was given.
///
/// # Errors
/// Those of the store.
pub(super) async fn record(
    db: &Arc<DbInner>,
    row: &JobRow,
    mut result: AttemptResult,
    cancelled: impl Fn() -> bool,
) -> Result<(Committed, bool)> {
    let mut is_whole = true;
    let mut failures = 0;
    loop {
        let batch =
            Batch { expect: Vec::new(), ops: vec![Op::Finish(Box::new(result.finish.clone()))] };
        let mut committed = match db.metadata.commit(batch, Durability::Full).await {
            // An end is a fact: what may or may not be written is written once more.
            Err(error) if error.is_retryable() && failures < MOST_FAILURES => {
                failures += 1;
                Site::RUN
                    .run(row.run)
                    .job(row.id)
                    .attempt(result.finish.attempt)
                    .warn(&error, "recording the end of an attempt");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            committed => committed?,
        };
        if failures > 0
            && !committed.fenced.is_empty()
            && is_written(db, row, result.finish.attempt).await?
        {
            committed.fenced.clear();
        }
        if committed.swept.is_empty() {
            return Ok((committed, is_whole));
        }
        match result.blobs.save_again(db).await {
            Ok(epoch) => result.finish.sweep_epoch = Some(epoch),
            Err(error) => {
                let Finish { job, attempt, owner, started_at, at, .. } = result.finish;
                let end = conclude(row, JobFailure::of(&error), cancelled(), at);
                result.finish = Finish::plain(job, attempt, owner, started_at, at, end);
                is_whole = false;
            }
        }
    }
}
