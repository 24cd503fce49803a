//! What a hook or trigger is given: who it is, what it may report, what it may ask for.

use super::{
    CancelToken, NoteBuffer, Spawn,
    for_test::{Kept, no_database},
};
use crate::{
    address::Address,
    component::{
        output::{Output, PendingOutput},
        registry::Registry,
    },
    db::DbInner,
    digest::Digest,
    encode::{DecodeEnv, Encoded, decode_some, decode_value},
    error::{Error, ErrorKind, Result},
    store::{Block, JobId, JobSignal, LogLevel, LogRow, RunId, Timestamp, WorkerId},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What a hook or trigger is given.
///
/// It can be cloned and sent to other tasks and threads of the job.
#[derive(Clone)]
pub struct JobContext(Arc<Shared>);

/// Who a context is for.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) target: Address,
    pub(crate) uuid: Digest,
    pub(crate) run: Option<RunId>,
    pub(crate) job: Option<JobId>,
    pub(crate) attempt: u32,
    pub(crate) key: Option<String>,
    /// What the job that spawned this one passed to it.
    pub(crate) input: Option<Value>,
    /// Who runs the job.
    pub(crate) owner: Option<WorkerId>,
}

/// What a job leaves behind beside its result.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) outputs: Vec<PendingOutput>,
    pub(crate) spawned: Vec<Spawn>,
    pub(crate) messages: Vec<(String, Value)>,
}

struct Shared {
    identity: Identity,
    db: Weak<DbInner>,
    env: Arc<DecodeEnv>,
    dependencies: HashMap<String, Value>,
    cancel: Arc<CancelToken>,
    overlay: Mutex<HashMap<usize, Arc<dyn Any + Send + Sync>>>,
    effects: Mutex<Effects>,
    blocked: Mutex<Option<(Block, Option<JobSignal>)>>,
    progress: (AtomicU64, AtomicU64),
    /// The attempt has ended for its job, though its thread goes on.
    over: AtomicBool,
    /// Whether the job recorded a metric.
    measured: AtomicBool,
    notes: Arc<NoteBuffer>,
    /// For a test without a database.
    kept: Option<Arc<Kept>>,
}

tokio::task_local! {
    static CURRENT: JobContext;
}

/// The value that the current job has set for an output, if it has.
pub(crate) fn current_overlay(key: usize) -> Option<Arc<dyn Any + Send + Sync>> {
    CURRENT
        .try_with(|ctx| {
            ctx.0.overlay.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
        })
        .ok()
        .flatten()
}

/// The context of the job that is running here.
pub(crate) fn current() -> Option<JobContext> {
    CURRENT.try_with(Clone::clone).ok()
}

impl JobContext {
    pub(crate) fn new(
        identity: Identity,
        db: Weak<DbInner>,
        env: Arc<DecodeEnv>,
        dependencies: HashMap<String, Value>,
        cancel: Arc<CancelToken>,
        notes: Arc<NoteBuffer>,
    ) -> Self {
        JobContext(Arc::new(Shared {
            identity,
            db,
            env,
            dependencies,
            cancel,
            overlay: Mutex::default(),
            effects: Mutex::default(),
            blocked: Mutex::default(),
            progress: (AtomicU64::new(0), AtomicU64::new(0)),
            over: AtomicBool::new(false),
            measured: AtomicBool::new(false),
            notes,
            kept: None,
        }))
    }

    /// The context of a test, which is not in use yet.
    pub(super) fn keeping(mut self, kept: Arc<Kept>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.kept = Some(kept);
        }
        self
    }

    pub(super) fn set_measured(&self) {
        self.0.measured.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_measured(&self) -> bool {
        self.0.measured.load(Ordering::Relaxed)
    }

    /// What a test keeps in place of a database.
    pub(super) fn kept(&self) -> Option<&Arc<Kept>> {
        self.0.kept.as_ref()
    }

    /// Look at what the job leaves behind so far.
    pub(super) fn look_at_effects<R>(&self, look: impl FnOnce(&Effects) -> R) -> R {
        look(&self.0.effects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn reason_of_block(&self) -> Option<String> {
        let blocked = self.0.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.as_ref().map(|(block, _)| block.reason.clone())
    }

    /// Run a future as part of this job.
    pub(crate) async fn scope<F: Future>(&self, future: F) -> F::Output {
        CURRENT.scope(self.clone(), future).await
    }

    /// Run a function as part of this job.
    pub(crate) fn scope_sync<R>(&self, call: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), call)
    }

    pub(crate) fn take_effects(&self) -> Effects {
        std::mem::take(&mut *self.0.effects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn cancel_token(&self) -> &CancelToken {
        &self.0.cancel
    }

    /// The attempt has ended while its thread goes on: whatever it still does is in vain.
    pub(super) fn leave_behind(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    pub(super) fn is_left_behind(&self) -> bool {
        self.0.over.load(Ordering::Acquire) || self.0.cancel.is_abandoned()
    }

    pub(super) fn notes(&self) -> &NoteBuffer {
        &self.0.notes
    }

    pub(super) fn owner(&self) -> Option<WorkerId> {
        self.0.identity.owner
    }

    /// The types that the job's database knows.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.0.env.registry.clone()
    }

    pub(super) fn env(&self) -> &Arc<DecodeEnv> {
        &self.0.env
    }

    /// Make sure that logs, progress and metrics are written soon.
    pub(super) fn wake_note_writer(&self) {
        if let Some(db) = self.0.db.upgrade() {
            db.start_note_writer();
        }
    }

    /// Steps done and in total, where the job has reported them.
    pub(crate) fn reported_progress(&self) -> Option<(u64, u64)> {
        let (done, total) =
            (self.0.progress.0.load(Ordering::Relaxed), self.0.progress.1.load(Ordering::Relaxed));
        (total > 0).then_some((done, total))
    }

    /// Why it is blocked, and what was asked of it then.
    pub(crate) fn take_blocked(&self) -> Option<(Block, Option<JobSignal>)> {
        self.0.blocked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Kind, identifier, version and revision of the component.
    pub fn address(&self) -> &Address {
        &self.0.identity.target
    }

    /// The version of the component.
    pub fn version(&self) -> u32 {
        self.0.identity.target.version.map_or(0, |at| at.version)
    }

    /// The content label of the component: `Kind:identifier:uuid`.
    pub fn huuid(&self) -> String {
        let Identity { target, uuid, .. } = &self.0.identity;
        format!("{}:{}:{}", target.kind, target.identifier, uuid.short())
    }

    /// The job; `None` in an explicit `db.setup(&component)`.
    pub fn job_id(&self) -> Option<JobId> {
        self.0.identity.job
    }

    /// The run that the job belongs to.
    pub fn run_id(&self) -> Option<RunId> {
        self.0.identity.run
    }

    /// The key under which the job was spawned.
    pub fn key(&self) -> Option<&str> {
        self.0.identity.key.as_deref()
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.identity.attempt
    }

    /// Whether this job may have run before: an earlier attempt failed, or was lost with its
    /// process.
    pub fn is_retry(&self) -> bool {
        self.0.identity.attempt > 1
    }

    /// Whether somebody asked to cancel the job, or its time is over. Long work should look now and
    /// then and return early.
    pub fn cancelled(&self) -> bool {
        self.0.cancel.is_cancelled() || self.is_left_behind()
    }

    /// Wait until somebody asks to cancel the job; for `select!` beside the work.
    pub async fn until_cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    /// Return early with `?` where the job was cancelled, or its time is over.
    ///
    /// # Errors
    /// `Cancelled`; `Timeout`.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.0.over.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the attempt was given up before; what it does is in vain",
            )
            .fatal());
        }
        if self.cancelled() {
            Err(Error::new(ErrorKind::Cancelled, "the job was cancelled"))
        } else {
            Ok(())
        }
    }

    /// Report steps done and steps in total; shown by events and `db.jobs`.
    pub fn progress(&self, done: u64, total: u64) {
        self.0.progress.0.store(done, Ordering::Relaxed);
        self.0.progress.1.store(total, Ordering::Relaxed);
        self.beat();
        // A later attempt reports its own.
        if let Some(job) = self.0.identity.job.filter(|_| !self.is_left_behind()) {
            self.0.notes.progress(job, done, total);
            if let Some(db) = self.0.db.upgrade() {
                db.announce_progress(job, self.0.identity.run, done, total);
            }
        }
    }

    /// Add a line to the job's log.
    pub fn log(&self, message: impl fmt::Display) {
        self.log_at(LogLevel::Info, message.to_string());
    }

    pub(crate) fn log_at(&self, level: LogLevel, message: String) {
        if let Some(job) = self.0.identity.job {
            let row = LogRow {
                job,
                attempt: self.0.identity.attempt,
                at: Timestamp::now(),
                level,
                message,
            };
            self.0.notes.log(row);
            self.wake_note_writer();
        }
    }

    /// Set an output of the component: visible in this job at once, elsewhere when the job's result
    /// is durable.
    ///
    /// # Errors
    /// `NotSaved` for an output that is not a field of the job's component; `Encode`, with the
    /// path, for a value that JSON cannot hold, or that would be read back as another one.
    pub fn set<T: Serialize + DeserializeOwned + Send + Sync + 'static>(
        &self,
        output: &Output<T>,
        value: T,
    ) -> Result<()> {
        if self.kept().is_some() {
            output.own_for_test(&self.0.identity.target.to_string());
        }
        let pending = output.pending(value, self.registry())?;
        if self.kept().is_some() {
            // No store makes it visible later.
            output.fill(pending.value.clone());
        }
        self.0
            .overlay
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pending.key, pending.value.clone());
        let mut effects = self.0.effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.outputs.retain(|other| other.key != pending.key);
        effects.outputs.push(pending);
        Ok(())
    }

    /// Let the run grow by a job: `trigger` of a stored component, once the jobs with the keys
    /// `after` are done.
    ///
    /// It is recorded together with this job's result. A key that the run already has adds nothing,
    /// so a job that is tried again spawns the same jobs. What waits for this job, and the run's
    /// end, wait for spawned jobs too.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key. An unknown trigger fails the job with `NotFound` when its
    /// method has returned.
    pub fn spawn(
        &self,
        key: impl Into<String>,
        component: &Address,
        trigger: impl Into<String>,
        after: &[&str],
    ) -> Result<()> {
        self.spawn_with(Spawn::new(key, component, trigger).after(after.iter().copied()))
    }

    pub(super) fn push_spawned(&self, spawned: Spawn) {
        self.0.effects.lock().unwrap_or_else(PoisonError::into_inner).spawned.push(spawned);
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Change why the attempt is blocked.
    pub(super) fn blocks(&self, change: impl FnOnce(&mut Block)) {
        let mut blocked = self.0.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        change(
            &mut blocked
                .get_or_insert_with(|| (Block::default(), self.cancel_token().reason_to_block()))
                .0,
        );
    }

    /// Send a message to the outside, together with this job's result; see `db.on_message`.
    ///
    /// The handler gets it as JSON: which type reads it, if any, is not known here.
    ///
    /// # Errors
    /// `Encode`, with the path, for a payload that JSON cannot hold: a non-finite float, equal keys
    /// of a map, `Some` of what is null.
    pub fn emit(&self, topic: impl Into<String>, payload: impl Serialize) -> Result<()> {
        let topic = topic.into();
        let encoded = Encoded::of(&payload);
        if encoded.is_err() {
            crate::json::drop_refused(payload);
        }
        let payload =
            encoded.map_err(|error| error.context(format_args!("a message of topic `{topic}`")))?;
        if !payload.blobs.is_empty() {
            return Err(Error::invalid(
                "a message cannot hold artifacts; put them into an output and send their address",
            ));
        }
        self.0
            .effects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .messages
            .push((topic, payload.value));
        Ok(())
    }

    /// The database, for looking things up; a job that applies something must `.detach()`.
    ///
    /// # Errors
    /// `NotFound` while the database is being closed.
    pub fn db(&self) -> Result<crate::db::Db> {
        self.0.db.upgrade().map(crate::db::Db::from_inner).ok_or_else(|| {
            if self.kept().is_some() {
                return no_database();
            }
            // Another process may go on with the job.
            Error::not_found("the database of this job is closed").retryable()
        })
    }

    /// The result of a trigger that this one depends on; `null` where an optional one was left out.
    /// `in_option`: the parameter is an `Option` around the type of the result, and is `None` only
    /// for what was left out.
    #[doc(hidden)]
    pub fn __dependency<T: DeserializeOwned>(&self, name: &str, in_option: bool) -> Result<T> {
        let value = self.0.dependencies.get(name).cloned();
        let ran = value.is_some();
        let (value, owner) = (value.unwrap_or_default(), format!("the result of `{name}`"));
        let read = if ran && in_option {
            decode_some(value, &self.0.env, &owner)
        } else {
            decode_value(value, &self.0.env, &owner)
        };
        read.map_err(|error| error.context(format_args!("result of `{name}`")).fatal())
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobContext({}, attempt {})", self.0.identity.target, self.0.identity.attempt)
    }
}
