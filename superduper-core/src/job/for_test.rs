//! A context without a database: for unit tests that call a trigger or hook directly.
//!
//! Invariant: it behaves as the context of a first attempt that nobody asked to stop; what a
//! database would keep is kept here.

use super::{CancelToken, Identity, JobContext, NoteBuffer, Spawn};
use crate::{
    address::Address,
    component::{AsComponent, registry::Registry},
    db::Db,
    digest::Digest,
    encode::{DecodeEnv, Encoded},
    error::{Error, Result},
    store::{CheckpointRow, JobId, JobSignal, LogRow, MetricRow, RunId, Timestamp},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt, ops,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// The job of every test context.
const JOB: JobId = JobId(1);

/// A [`JobContext`] for a unit test, made by [`JobContext::for_test`]; it can be passed wherever
/// `&JobContext` is wanted. Afterwards it tells what the method did with it.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{JobContext, prelude::*};
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
///     weights: Output<f64>,
/// }
///
/// #[triggers]
/// impl Model {
///     #[trigger("apply")]
///     fn fit(&self, ctx: &JobContext) -> Result<f64> {
///         for step in 1..=3 {
///             ctx.progress(step, 3);
///         }
///         ctx.log("converged");
///         ctx.set(&self.weights, 0.5)?;
///         ctx.spawn("publish", ctx.address(), "publish", &[])?;
///         Ok(0.1)
///     }
///     #[trigger("call")]
///     fn publish(&self) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let model = Model { identifier: "m".into(), weights: Output::empty() };
/// let ctx = JobContext::for_test().on(&model);
/// assert_eq!(model.fit(&ctx)?, 0.1);
/// assert_eq!(ctx.logged(), ["converged"]);
/// assert_eq!(ctx.progressed(), Some((3, 3)));
/// assert_eq!(*model.weights.get()?, 0.5);
/// assert_eq!(ctx.spawned()[0].trigger, "publish");
/// # Ok::<(), superduper::Error>(())
/// ```
pub struct TestContext {
    ctx: JobContext,
    parts: Parts,
}

/// What the context is made of.
#[derive(Clone)]
struct Parts {
    identity: Identity,
    notes: Arc<NoteBuffer>,
    cancel: Arc<CancelToken>,
    kept: Arc<Kept>,
    /// Keeps the database open.
    db: Option<Db>,
}

/// What a database would keep.
#[derive(Default)]
pub(super) struct Kept {
    checkpoints: Mutex<Vec<CheckpointRow>>,
    results: Mutex<HashMap<String, Value>>,
}

impl Kept {
    fn checkpoints(&self) -> std::sync::MutexGuard<'_, Vec<CheckpointRow>> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a store keeps a checkpoint.
    pub(super) fn keep(&self, step: u64, score: Option<f64>, state: &Encoded, drop: &[u32]) -> u32 {
        let mut rows = self.checkpoints();
        let number = rows.last().map_or(1, |row| row.number + 1);
        rows.retain(|row| !drop.contains(&row.number));
        let (data, at) = (state.value().clone(), Timestamp::now());
        rows.push(CheckpointRow { job: JOB, number, attempt: 1, step, score, at, data });
        number
    }

    pub(super) fn kept(&self) -> Vec<CheckpointRow> {
        self.checkpoints().clone()
    }

    pub(super) fn result(&self, key: &str) -> Option<Value> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl JobContext {
    /// A context for a unit test that calls a trigger or a hook directly, without a database: see
    /// [`TestContext`] for what it is given and what it tells.
    ///
    /// Logs, progress, metrics, outputs, spawned jobs, messages and checkpoints are kept in memory.
    /// `ctx.db()` is an error until [`TestContext::with_db`] gives it one.
    pub fn for_test() -> TestContext {
        let name = Address::new("test.Component", "test");
        TestContext::of(Parts {
            identity: Identity {
                target: Address { version: Some((0, 0).into()), ..name },
                uuid: Digest::of(b"test"),
                run: Some(RunId(1)),
                job: Some(JOB),
                attempt: 1,
                key: None,
                input: None,
                owner: None,
            },
            notes: Arc::default(),
            cancel: Arc::default(),
            kept: Arc::default(),
            db: None,
        })
    }
}

impl TestContext {
    fn of(parts: Parts) -> Self {
        let db = parts.db.as_ref().map_or_else(Weak::new, |db| Arc::downgrade(db.inner()));
        let (registry, store) = match &parts.db {
            Some(db) => (db.inner().registry.clone(), Some(db.artifact_store().clone())),
            None => (Registry::global(), None),
        };
        let env = Arc::new(DecodeEnv::new(registry, store));
        let ctx = JobContext::new(
            parts.identity.clone(),
            db,
            env,
            HashMap::new(),
            parts.cancel.clone(),
            parts.notes.clone(),
        );
        TestContext { ctx: ctx.keeping(parts.kept.clone()), parts }
    }

    fn with(self, change: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = self.parts;
        change(&mut parts);
        TestContext::of(parts)
    }

    /// As for a job of this component, at version 0. Give it before the method is called.
    pub fn on(self, component: &impl AsComponent) -> Self {
        let component = component.as_component();
        component.__visit_outputs(&mut |name, output| output.name(name));
        let target = Address {
            version: Some((0, 0).into()),
            ..Address::new(component.kind(), component.identifier())
        };
        self.with(|parts| parts.identity.target = target)
    }

    /// As for a job with this input: see [`Spawn::input`].
    ///
    /// # Panics
    /// If JSON cannot hold the value.
    pub fn with_input(self, value: impl Serialize) -> Self {
        let value = json_of("the input", &value);
        self.with(|parts| parts.identity.input = Some(value))
    }

    /// As for a job that was spawned under this key.
    pub fn with_key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.with(|parts| parts.identity.key = Some(key))
    }

    /// As for a later attempt: `ctx.is_retry()` is true for all but the first.
    pub fn with_attempt(self, attempt: u32) -> Self {
        self.with(|parts| parts.identity.attempt = attempt)
    }

    /// The result of a spawned job of the run, for `ctx.result_of(key)`.
    ///
    /// # Panics
    /// If JSON cannot hold the value.
    pub fn with_result(self, key: impl Into<String>, value: impl Serialize) -> Self {
        let value = json_of("the result", &value);
        let key = key.into();
        self.parts.kept.results.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        self
    }

    /// The database that `ctx.db()` gives. Nothing is written to it by the context itself.
    pub fn with_db(self, db: &Db) -> Self {
        let db = db.clone();
        self.with(|parts| parts.db = Some(db))
    }

    /// Ask the method to end: `ctx.cancelled()` is true from now on, also while it runs.
    pub fn cancel(&self) {
        self.parts.cancel.cancel();
    }

    /// Send a signal to the method, which sees it through `ctx.signal()`.
    pub fn send(&self, signal: JobSignal) {
        self.parts.cancel.send(signal);
    }

    /// The lines that were logged.
    pub fn logged(&self) -> Vec<String> {
        self.log_rows().into_iter().map(|row| row.message).collect()
    }

    /// The lines that were logged, with level and time.
    pub fn log_rows(&self) -> Vec<LogRow> {
        self.parts.notes.seen().logs
    }

    /// Steps done and in total, as last reported.
    pub fn progressed(&self) -> Option<(u64, u64)> {
        self.ctx.reported_progress()
    }

    /// What was measured, in order: name, step and number.
    pub fn measured(&self) -> Vec<(String, u64, f64)> {
        let of = |row: MetricRow| (row.name, row.step, row.value);
        self.parts.notes.seen().metrics.into_iter().map(of).collect()
    }

    /// The jobs that were asked for, in order.
    pub fn spawned(&self) -> Vec<TestSpawned> {
        self.ctx.look_at_effects(|effects| effects.spawned.iter().map(TestSpawned::of).collect())
    }

    /// The messages that were emitted, in order: topic and payload.
    pub fn emitted(&self) -> Vec<(String, Value)> {
        self.ctx.look_at_effects(|effects| effects.messages.clone())
    }

    /// Why the method blocked its job, if it did.
    pub fn blocked(&self) -> Option<String> {
        self.ctx.reason_of_block()
    }
}

fn json_of(what: &str, value: &impl Serialize) -> Value {
    match Encoded::of(value) {
        Ok(encoded) => encoded.value,
        Err(error) => panic!("{what} of a test context cannot be stored: {error}"),
    }
}

impl ops::Deref for TestContext {
    type Target = JobContext;

    fn deref(&self) -> &JobContext {
        &self.ctx
    }
}

impl fmt::Debug for TestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestContext({})", self.parts.identity.target)
    }
}

/// A job that a method asked for, as a [`TestContext`] tells it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TestSpawned {
    /// The key.
    pub key: String,
    /// The component.
    pub component: Address,
    /// The trigger.
    pub trigger: String,
    /// Keys of the jobs that must have succeeded before.
    pub after: Vec<String>,
    /// Keys of the jobs that must have ended before.
    pub after_end: Vec<String>,
    /// The input.
    pub input: Option<Value>,
    /// Whether a failure is tolerated.
    pub tolerated: bool,
}

impl TestSpawned {
    fn of(spawn: &Spawn) -> Self {
        let keys = |any_end: bool| {
            let of = spawn.after.iter().filter(|(_, end)| *end == any_end);
            of.map(|(key, _)| key.clone()).collect()
        };
        TestSpawned {
            key: spawn.key.clone(),
            component: spawn.target.clone(),
            trigger: spawn.trigger.clone(),
            after: keys(false),
            after_end: keys(true),
            input: spawn.input.as_ref().and_then(|input| input.as_ref().ok()).cloned(),
            tolerated: spawn.tolerated,
        }
    }
}

/// The error of a test that asks for the database.
pub(super) fn no_database() -> Error {
    Error::not_found("this context is for a test and has no database")
        .with_hint("give it one with `JobContext::for_test().with_db(&db)`")
}

/// The error of a test that asks for a result that it did not give.
pub(super) fn no_result(key: &str) -> Result<Value> {
    let error = Error::not_found(format!("no job of this test has the key `{key}`"));
    Err(error.with_hint(format!("give its result with `.with_result(\"{key}\", …)`")))
}
