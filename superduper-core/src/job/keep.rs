//! What a running job measures, keeps for a later attempt, and is asked for.
//!
//! Invariant: a checkpoint is one commit, after its blobs are durable and the metrics up to it are
//! written, and only the current attempt writes one.

use super::{JobContext, effects::save, record::sweep_epoch};
use crate::{
    db::Retry,
    digest::Digest,
    encode::{Encoded, decode_value, encode_checked},
    error::{Error, Result},
    store::{
        Batch, CheckpointRow, Expect, JobFilter, JobSignal, MetricRow, NewCheckpoint, Op, Timestamp,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

impl JobContext {
    /// The strongest signal to the job: to cancel, to stop, or to pause. `None`: it is to go on. A
    /// call costs a nanosecond.
    pub fn signal(&self) -> Option<JobSignal> {
        let signal = match self.is_left_behind() {
            true => Some(JobSignal::Cancel),
            false => self.cancel_token().strongest(),
        };
        self.cancel_token().saw(signal);
        signal
    }

    /// Say that the job is alive, for its policy's time limit without a sign of life. Costs a
    /// nanosecond.
    pub fn beat(&self) {
        self.cancel_token().beat();
    }

    /// Report a number after so many steps; another one for the same name and step takes its place.
    ///
    /// What is not finite cannot be stored: it becomes a line of the job's log.
    pub fn metric(&self, name: &str, step: u64, value: f64) {
        let Some(job) = self.job_id().filter(|_| !self.is_left_behind()) else { return };
        if value.is_finite() {
            self.set_measured();
            self.notes().metric(MetricRow {
                job,
                name: name.to_owned(),
                step,
                value,
                at: Timestamp::now(),
            });
            self.wake_note_writer();
        } else {
            self.log_at(
                crate::store::LogLevel::Warn,
                format!("metric `{name}` is {value} at step {step}"),
            );
        }
    }

    /// Keep the state of this attempt, so that a later one can go on from there; gives its number.
    ///
    /// The numbers in `drop` go in the same commit. [`Encoded::of_state`] keeps infinity and NaN.
    ///
    /// # Errors
    /// `Conflict`, fatal, where another attempt has taken over; `Store`, and those of reading
    /// blobs.
    pub async fn checkpoint(
        &self,
        step: u64,
        score: Option<f64>,
        state: Encoded,
        drop: Vec<u32>,
    ) -> Result<u32> {
        if let Some(kept) = self.kept() {
            self.env().add_blobs(&state.blobs);
            return Ok(kept.keep(step, score, &state, &drop));
        }
        let db = self.db()?;
        let inner = db.inner();
        let (Some(job), Some(owner)) = (self.job_id(), self.owner()) else {
            return Err(Error::invalid("only a job can keep a checkpoint"));
        };
        if self.is_left_behind() {
            self.check_cancelled()?;
        }
        // A later attempt goes on after this state: what was measured before it would not be
        // measured again.
        inner
            .try_flush_notes()
            .await
            .map_err(|error| error.context("writing the metrics before a checkpoint"))?;
        let mut retry = Retry::new(format!("keeping a checkpoint of job {job}"));
        let committed = loop {
            // As an apply does: a sweep since the blobs were looked for would have taken them.
            let epoch = sweep_epoch(inner).await?;
            let (data, blobs) = save(inner, state.clone(), "checkpoint").await?;
            let expect =
                if blobs.is_empty() { Vec::new() } else { vec![Expect::SweepEpoch(epoch)] };
            let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
            let (attempt, at) = (self.attempt(), Timestamp::now());
            let new = NewCheckpoint {
                job,
                attempt,
                owner,
                step,
                score,
                data,
                blobs,
                drop: drop.clone(),
                at,
            };
            let batch = Batch { expect, ops: vec![Op::Checkpoint(Box::new(new))] };
            match inner.commit_once(batch).await {
                Ok(committed) => break committed,
                Err(refused) => retry.again(inner, refused, epoch, &digests).await?,
            }
        };
        inner.committed();
        committed.checkpoints.first().map(|(_, number)| *number).ok_or_else(|| {
            Error::conflict(format!(
                "attempt {} of job {job} is no longer the current one; its checkpoint was not kept",
                self.attempt()
            ))
            .fatal()
        })
    }

    /// The checkpoints that this job has, after those of the jobs that it tries again; the newest
    /// last.
    ///
    /// # Errors
    /// `Store`.
    pub async fn checkpoints(&self) -> Result<Vec<CheckpointRow>> {
        if let Some(kept) = self.kept() {
            return Ok(kept.kept());
        }
        let db = self.db()?;
        let metadata = &db.inner().metadata;
        let mut jobs = Vec::new();
        let mut next = self.job_id();
        while let Some(job) = next {
            let rows =
                metadata.jobs(JobFilter { ids: Some(vec![job]), ..JobFilter::default() }).await?;
            next = rows.first().and_then(|row| row.retry_of);
            jobs.push(job);
        }
        let mut found = Vec::new();
        for job in jobs.into_iter().rev() {
            found.extend(metadata.checkpoints(job).await?);
        }
        Ok(found)
    }

    /// Encode a state, and see that reading it gives the same state again; infinity and NaN are
    /// kept, bit for bit.
    ///
    /// # Errors
    /// As for [`Encoded::of_state`].
    pub fn encode<T: Serialize + DeserializeOwned>(&self, state: &T) -> Result<Encoded> {
        encode_checked(state, self.registry(), true)
    }

    /// Read back what was encoded: the data of a checkpoint.
    ///
    /// # Errors
    /// `Decode` where it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self, value: Value, name: &str) -> Result<T> {
        decode_value(value, self.env(), name)
    }
}
