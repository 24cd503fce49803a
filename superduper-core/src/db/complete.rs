//! Ends of blocked jobs that come from outside: an answer of a person, or of another system.
//!
//! Invariant: a process that completes a job runs none of them, nor any other job of its run.

use super::{Db, DbInner};
use crate::{
    encode::Encoded,
    error::{Error, JobFailure, Result},
    job::{Command, after_completion, load_quietly, save_encoded},
    store::{Batch, BlobRow, Completion, Expect, JobId, JobState, Op, Timestamp},
};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// How often a commit is tried if other processes move the job in between.
const MOST_TRIES: u32 = 16;

impl Db {
    /// End a blocked job as succeeded, with a result from outside. If a process leads the run, it
    /// starts the jobs that wait for this one. If not, `resume` or `work` starts them.
    ///
    /// One commit records the end of the job and, if it was the last one, of its run. This process
    /// runs none of the jobs.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db, job: superduper::store::JobId) -> superduper::Result<()> {
    /// // The job returned `Err(ctx.block("a review").into())`.
    /// db.complete(job, "approved by the data owner").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for an unknown job; `InvalidInput` for a job that is not blocked; `Encode`, with
    /// the path, for a value that JSON cannot hold; `Conflict` if other processes kept changing the
    /// run; `Store`.
    pub async fn complete(&self, job: JobId, value: impl Serialize) -> Result<()> {
        self.inner().check_writable("complete a job")?;
        let encoded = Encoded::of(&value);
        if encoded.is_err() {
            crate::json::drop_refused(value);
        }
        let encoded =
            encoded.map_err(|error| error.context(format_args!("the result of job {job}")))?;
        end(self, job, End::Success(encoded)).await
    }

    /// End a blocked job as failed, for a reason from outside. Jobs that need its success are
    /// skipped. The job is not retried, whatever its policy says.
    ///
    /// # Errors
    /// As for [`Db::complete`].
    pub async fn reject(&self, job: JobId, failure: impl Into<JobFailure>) -> Result<()> {
        self.inner().check_writable("reject a job")?;
        end(self, job, End::Failure(failure.into())).await
    }
}

enum End {
    Success(Encoded),
    Failure(JobFailure),
}

async fn end(db: &Db, job: JobId, end: End) -> Result<()> {
    let inner = db.inner();
    let row = db.job(job).await?;
    let refuse = |state: JobState| {
        Err(Error::invalid(format!(
            "job {job} is {state}, not blocked; only a blocked job ends from outside"
        )))
    };
    if row.state != JobState::Blocked {
        return refuse(row.state);
    }
    let mut retry = super::Retry::new(format!("completing job {job}"));
    for _ in 0..MOST_TRIES {
        let names_blobs = matches!(&end, End::Success(encoded) if !encoded.blobs.is_empty());
        let epoch =
            if names_blobs { inner.metadata.snapshot(Vec::new()).await?.sweep_epoch } else { 0 };
        let (value, blobs) = match &end {
            End::Success(encoded) => {
                let (value, blobs) =
                    save_encoded(&inner.artifacts, encoded.clone(), "result").await?;
                (Ok(value), blobs)
            }
            End::Failure(failure) => (Err(failure.clone()), Vec::new()),
        };
        let digests: Vec<_> = blobs.iter().map(|blob| blob.digest).collect();
        let expect = if blobs.is_empty() { Vec::new() } else { vec![Expect::SweepEpoch(epoch)] };
        let action = if value.is_ok() { "complete" } else { "reject" };
        let audit = db.audit(action, format_args!("job {job}"));
        match write(inner, &row, (value, blobs), expect, audit).await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let now = db.job(job).await?;
                if now.state != JobState::Blocked {
                    return refuse(now.state);
                }
            }
            Err(refused) => retry.again(inner, refused, epoch, &digests).await?,
        }
    }
    Err(Error::conflict(format!("completing job {job}: other processes moved it again and again")))
}

/// Write one commit. Returns whether the job ended by it.
async fn write(
    db: &Arc<DbInner>,
    row: &crate::store::JobRow,
    (end, blobs): (Result<Value, JobFailure>, Vec<BlobRow>),
    expect: Vec<Expect>,
    audit: Option<Op>,
) -> Result<bool> {
    let at = Timestamp::now();
    let loaded = load_quietly(db, row.run).await?;
    let state = if end.is_ok() { JobState::Succeeded } else { JobState::Failed };
    let mut ops = vec![Op::Complete(Box::new(Completion { job: row.id, end, blobs, at }))];
    ops.extend(audit);
    let follows = after_completion(loaded, row.id, state, at);
    // What a removal deletes, the process that leads it deletes.
    if !follows.iter().any(|op| matches!(op, Op::Delete { .. })) {
        ops.extend(follows);
    }
    let ends_run = ops.iter().any(|op| matches!(op, Op::EndRun { .. }));
    let committed = db.commit_once(Batch { expect, ops }).await?;
    db.committed();
    let is_over = ends_run && committed.ignored.is_empty();
    match db.engine.handle(row.run) {
        Some(handle) => handle.tell(Command::Look),
        None if !is_over => super::cancel::conclude(db, row.run).await?,
        None => {}
    }
    Ok(!committed.ignored.contains(&0))
}
