//! A job that is about to be recorded.

use super::{
    batch::{Need, NewJob, Pool},
    rows::{JobId, JobRole, Timestamp, WorkerId},
};
use crate::address::Address;
use serde_json::Value;

impl NewJob {
    /// A job without dependencies, retries, a pool or a time limit.
    pub fn new(target: Address, role: JobRole, method: impl Into<String>, at: Timestamp) -> Self {
        NewJob {
            target,
            role,
            method: method.into(),
            key: None,
            retry_of: None,
            blocked: None,
            executor: None,
            retries: 0,
            backoff_ms: 0,
            timeout_ms: None,
            needs: Vec::new(),
            input: None,
            tolerated: false,
            claim: None,
            pool: None,
            at,
        }
    }

    /// Kind, identifier, version and revision.
    pub fn target(mut self, target: Address) -> Self {
        self.target = target;
        self
    }

    /// What it does.
    pub fn role(mut self, role: JobRole) -> Self {
        self.role = role;
        self
    }

    /// The key of a spawned job.
    pub fn key(mut self, key: impl Into<Option<String>>) -> Self {
        self.key = key.into();
        self
    }

    /// The job that it tries again.
    pub fn retry_of(mut self, retry_of: impl Into<Option<JobId>>) -> Self {
        self.retry_of = retry_of.into();
        self
    }

    /// What it waits for outside.
    pub fn blocked(mut self, blocked: impl Into<Option<String>>) -> Self {
        self.blocked = blocked.into();
        self
    }

    /// The executor asked for.
    pub fn executor(mut self, executor: impl Into<Option<String>>) -> Self {
        self.executor = executor.into();
        self
    }

    /// Tries beyond the first.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Pause before the first retry.
    pub fn backoff_ms(mut self, backoff_ms: u64) -> Self {
        self.backoff_ms = backoff_ms;
        self
    }

    /// Time limit of an attempt.
    pub fn timeout_ms(mut self, timeout_ms: impl Into<Option<u64>>) -> Self {
        self.timeout_ms = timeout_ms.into();
        self
    }

    /// What it waits for inside.
    pub fn needs(mut self, needs: Vec<Need>) -> Self {
        self.needs = needs;
        self
    }

    /// What the job that spawned it passes to it.
    pub fn input(mut self, input: impl Into<Option<Value>>) -> Self {
        self.input = input.into();
        self
    }

    /// Whether a failure of it is tolerated.
    pub fn tolerated(mut self, tolerated: bool) -> Self {
        self.tolerated = tolerated;
        self
    }

    /// The owner that takes it and starts it at once.
    pub fn claim(mut self, claim: impl Into<Option<WorkerId>>) -> Self {
        self.claim = claim.into();
        self
    }

    /// The pool that the claim counts in.
    pub fn pool(mut self, pool: impl Into<Option<Pool>>) -> Self {
        self.pool = pool.into();
        self
    }
}
