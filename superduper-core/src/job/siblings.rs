//! What a job reads of the job that spawned it, and of other spawned jobs of its run.

use super::{JobContext, describe, for_test::no_result};
use crate::{
    encode::decode_value,
    error::{Error, ErrorKind, Result},
    store::{JobFilter, JobId, JobRow, JobState, MetadataStore, RunId},
};
use serde::de::DeserializeOwned;

impl JobContext {
    /// What the job that spawned this one passed to it: [`Spawn::input`](super::Spawn::input).
    ///
    /// # Errors
    /// `NotFound` for a job without an input; `Decode` if the input is no `T`. Both are fatal:
    /// another attempt gets the same input.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        let identity = self.identity();
        let value = identity.input.clone().ok_or_else(|| {
            let name = identity
                .key
                .as_deref()
                .map_or_else(|| "this job".to_owned(), |key| format!("the spawned job `{key}`"));
            Error::not_found(format!("{name} has no input"))
                .with_hint("pass one with `Spawn::input`")
                .fatal()
        })?;
        decode_value(value, self.env(), "the input of the job").map_err(Error::fatal)
    }

    /// What the job that spawned this one passed to it, or a value where it passed none: for inputs
    /// that may be left out.
    ///
    /// # Errors
    /// `Decode`, fatal, if there is an input that is no `T`.
    pub fn input_or<T: DeserializeOwned>(&self, default: T) -> Result<T> {
        match self.identity().input {
            Some(_) => self.input(),
            None => Ok(default),
        }
    }

    /// The result of a spawned job of this run, by its key.
    ///
    /// If this job retries a job of an earlier run, the jobs of that earlier run are searched, too.
    ///
    /// # Errors
    /// `NotFound` if no job has the key, or if the job has not ended; `JobFailed` and `Cancelled`
    /// if it ended without a result; `Decode` if the result is no `T`; `Store`.
    pub async fn result_of<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        if let Some(kept) = self.kept() {
            let value = kept.result(key).map_or_else(|| no_result(key), Ok)?;
            return decode_value(value, self.env(), &format!("the result of `{key}`"));
        }
        let row = self.spawned_job(key).await?;
        let value = match (row.state, row.result) {
            (JobState::Succeeded, result) => result.unwrap_or_default(),
            (JobState::Failed | JobState::Skipped, result) => {
                return Err(describe(&JobRow { result, ..row }, ErrorKind::JobFailed));
            }
            (JobState::Cancelled, result) => {
                return Err(describe(&JobRow { result, ..row }, ErrorKind::Cancelled));
            }
            (state, _) => {
                let text = format!("job {} (`{key}`) has no result: it is {state}", row.id);
                return Err(Error::not_found(text)
                    .with_hint("wait for it with `Spawn::after` or `Spawn::after_end`"));
            }
        };
        decode_value(value, self.env(), &format!("the result of job {}", row.id))
            .map_err(|error| error.context(format_args!("result of `{key}`")))
    }

    /// As [`JobContext::result_of`], for a method that is not async.
    ///
    /// # Errors
    /// As for [`JobContext::result_of`]; `Unsupported` in async code.
    pub fn blocking_result_of<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        if let Some(kept) = self.kept() {
            let value = kept.result(key).map_or_else(|| no_result(key), Ok)?;
            return decode_value(value, self.env(), &format!("the result of `{key}`"));
        }
        let db = self.db()?;
        let runtime = &db.inner().runtime;
        // A runtime refuses to wait in async code by a panic.
        let may_wait =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(async {})))
                .is_ok();
        if !may_wait {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "`blocking_result_of` was called in async code",
            )
            .with_hint("use `ctx.result_of(key).await`")
            .fatal());
        }
        runtime.block_on(self.result_of(key))
    }

    async fn spawned_job(&self, key: &str) -> Result<JobRow> {
        let db = self.db()?;
        let found =
            find_spawned(&*db.inner().metadata, (self.run_id(), self.job_id()), key).await?;
        found.ok_or_else(|| {
            let run = self.run_id().map_or_else(|| "no run".to_owned(), |run| format!("run {run}"));
            Error::not_found(format!("no job of {run} has the key `{key}`"))
        })
    }
}

/// The spawned job of a key, in the run of a job, or in the run of the job that it retries.
pub(super) async fn find_spawned(
    metadata: &dyn MetadataStore,
    (mut run, mut job): (Option<RunId>, Option<JobId>),
    key: &str,
) -> Result<Option<JobRow>> {
    while let Some(at) = run {
        let filter = JobFilter { run: Some(at), key: Some(key.to_owned()), ..JobFilter::default() };
        if let Some(row) = metadata.jobs(filter).await?.pop() {
            return Ok(Some(row));
        }
        (run, job) = match job {
            Some(job) => before(metadata, job).await?,
            None => (None, None),
        };
    }
    Ok(None)
}

/// The job that a job retries, and its run.
async fn before(
    metadata: &dyn MetadataStore,
    job: JobId,
) -> Result<(Option<RunId>, Option<JobId>)> {
    let one = |id: JobId| JobFilter { ids: Some(vec![id]), ..JobFilter::default() };
    let Some(old) = metadata.jobs(one(job)).await?.pop().and_then(|row| row.retry_of) else {
        return Ok((None, None));
    };
    Ok((metadata.jobs(one(old)).await?.pop().map(|row| row.run), Some(old)))
}
