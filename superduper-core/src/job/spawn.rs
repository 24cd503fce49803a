//! A job that another job asks for.

use super::{JobContext, JobPolicy};
use crate::{
    address::Address,
    encode::Encoded,
    error::{Error, Result},
};
use serde::Serialize;
use serde_json::Value;

/// A job that another job asks for with [`JobContext::spawn_with`].
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{JobContext, JobPolicy, Spawn, prelude::*};
///
/// #[derive(Component)]
/// struct Round {
///     identifier: String,
///     sites: Vec<String>,
/// }
///
/// #[triggers]
/// impl Round {
///     #[trigger("apply")]
///     fn open(&self, ctx: &JobContext) -> Result<()> {
///         for site in &self.sites {
///             let policy = JobPolicy { retries: Some(2), ..JobPolicy::default() };
///             // One site that fails must not end the round.
///             ctx.spawn_with(Spawn::new(site, ctx.address(), "train").input(site).policy(policy).tolerated())?;
///         }
///         // It runs when all sites have ended, whatever became of them.
///         ctx.spawn_with(Spawn::new("gather", ctx.address(), "gather").after_end(&self.sites))
///     }
///
///     #[trigger("call")]
///     fn train(&self, ctx: &JobContext) -> Result<usize> {
///         Ok(ctx.input::<String>()?.len())
///     }
///
///     #[trigger("call")]
///     async fn gather(&self, ctx: &JobContext) -> Result<usize> {
///         let mut sum = 0;
///         for site in &self.sites {
///             sum += ctx.result_of::<usize>(site).await.unwrap_or(0);
///         }
///         Ok(sum)
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is spawned before it is given to `spawn_with`"]
pub struct Spawn {
    pub(super) key: String,
    pub(super) target: Address,
    pub(super) trigger: String,
    /// Keys of jobs to wait for, and whether any end of them will do.
    pub(super) after: Vec<(String, bool)>,
    pub(super) input: Option<Result<Value>>,
    pub(super) policy: Option<JobPolicy>,
    pub(super) tolerated: bool,
}

impl Spawn {
    /// A trigger of a stored component, under a key that is unique in the run.
    pub fn new(key: impl Into<String>, component: &Address, trigger: impl Into<String>) -> Self {
        Spawn {
            key: key.into(),
            target: component.clone(),
            trigger: trigger.into(),
            after: Vec::new(),
            input: None,
            policy: None,
            tolerated: false,
        }
    }

    /// Run it once the jobs with these keys have succeeded. If one of them does not, this job is
    /// skipped.
    pub fn after(mut self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.after.extend(keys.into_iter().map(|key| (key.as_ref().to_owned(), false)));
        self
    }

    /// Run it once the jobs with these keys have ended, whatever became of them.
    pub fn after_end(mut self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.after.extend(keys.into_iter().map(|key| (key.as_ref().to_owned(), true)));
        self
    }

    /// Pass a value to the job, which reads it with [`JobContext::input`]. Every attempt and every
    /// retry of the job gets the same value.
    ///
    /// `spawn_with` refuses a value that JSON cannot hold, and one with artifacts: put those into
    /// an output of the component.
    pub fn input(mut self, value: impl Serialize) -> Self {
        self.input = Some(encode(&self.key, value));
        self
    }

    /// Set the policy of the job. Fields that the policy leaves unset come from the trigger.
    pub fn policy(mut self, policy: JobPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Tolerate a failure of the job. If the job fails or is cancelled, its run can still succeed,
    /// its component is not degraded, and the next apply does not retry it. A job that needs its
    /// success is skipped, and that skipped job fails the run unless it is tolerated too.
    pub fn tolerated(mut self) -> Self {
        self.tolerated = true;
        self
    }

    /// The key of the job.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The trigger that it runs.
    pub fn trigger(&self) -> &str {
        &self.trigger
    }

    /// The keys of the jobs that it waits for.
    pub fn waits_for(&self) -> impl Iterator<Item = &str> {
        self.after.iter().map(|(key, _)| key.as_str())
    }
}

impl JobContext {
    /// Let the run grow by a job; see [`JobContext::spawn`], which is the short form.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key and for an input with artifacts; `Encode`, with the path,
    /// for an input that JSON cannot hold. An unknown trigger or executor fails the spawning job
    /// when it ends.
    pub fn spawn_with(&self, mut spawned: Spawn) -> Result<()> {
        if spawned.key.is_empty() {
            return Err(Error::invalid("the key of a spawned job is empty"));
        }
        spawned.input = spawned.input.take().transpose()?.map(Ok);
        self.push_spawned(spawned);
        Ok(())
    }
}

fn encode(key: &str, value: impl Serialize) -> Result<Value> {
    let encoded = Encoded::of(&value);
    if encoded.is_err() {
        crate::json::drop_refused(value);
    }
    let encoded = encoded
        .map_err(|error| error.context(format_args!("the input of the spawned job `{key}`")))?;
    if !encoded.blobs.is_empty() {
        let text = format!("the input of the spawned job `{key}` holds artifacts");
        return Err(Error::invalid(text)
            .with_hint("store the artifacts in an output of the component, and pass only a name"));
    }
    Ok(encoded.value)
}
