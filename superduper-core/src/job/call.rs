//! One call of a hook or trigger, within the limits of its attempt.
//!
//! Invariants: a call that ends after its time limit has timed out, however late that is noticed. A
//! call that goes on after its attempt has ended, or after the end of its runtime, learns that the
//! next time it calls `ctx.check_cancelled()`.

use super::{
    CancelToken, JobContext,
    alarm::Alarm,
    instance::Instance,
    panics::{Caught, caught},
};
use crate::unreturned::Unreturned;
use crate::{
    component::{Component, TriggerCall},
    encode::Encoded,
    error::{Error, FailureKind, JobFailure, Result},
    plan::ADOPT,
    store::JobRole,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::Instant,
};
use tracing::Instrument;

/// How many times within the limit the engine looks for signs of life.
const LOOKS: u128 = 8;
/// How long an attempt that was abandoned may go on before it is stopped.
const HEARS: Duration = Duration::from_millis(500);
/// How long a stopped task has to reach its next await. A task that does not reach it in time
/// computes, and is left behind.
const GIVES_WAY: Duration = Duration::from_millis(100);

/// The limits of an attempt.
pub(super) struct Limits {
    pub(super) attempt: Option<Duration>,
    pub(super) stall: Option<Duration>,
    pub(super) grace: Duration,
}

/// One call of a hook or trigger.
pub(super) struct Call {
    pub(super) instance: Arc<Instance>,
    pub(super) ctx: JobContext,
    pub(super) role: JobRole,
    pub(super) method: String,
    /// Whether the method is called even if its setup failed.
    pub(super) force: bool,
}

impl Call {
    /// Call the hook or trigger. If the call goes on after a limit is over, `lingering` is set, and
    /// fires when the call has returned.
    pub(super) async fn run(
        self,
        limits: Limits,
        cancel: &Arc<CancelToken>,
        lingering: &mut Option<oneshot::Receiver<()>>,
    ) -> Result<Encoded, JobFailure> {
        if self.role == JobRole::OnCreate && self.method == ADOPT {
            return Ok(Encoded::null());
        }
        let component = &self.instance.component;
        let blocking = self.role == JobRole::Trigger
            && component
                .__trigger_specs()
                .iter()
                .any(|spec| spec.name == self.method && spec.blocking);
        let deadline = Deadline::after(limits.attempt);
        let watch = Watch {
            ctx: self.ctx.clone(),
            cancel,
            deadline,
            limits,
            since: None,
            lingering,
            is_back: false,
        };
        if blocking { self.on_a_thread(watch).await } else { self.on_the_runtime(watch).await }
    }

    async fn on_a_thread(self, mut watch: Watch<'_>) -> Result<Encoded, JobFailure> {
        let Call { instance, ctx, method, .. } = self;
        if !instance.is_set_up() {
            // The setup runs on the runtime, the method on a worker thread.
            let (setup_instance, setup_ctx) = (instance.clone(), ctx.clone());
            let setup = async move { setup_ctx.scope(setup_instance.set_up(&setup_ctx)).await };
            watch.task(setup, None).await?;
        }
        let (returned, has_returned) = oneshot::channel::<()>();
        let span = tracing::Span::current();
        let mut work = tokio::task::spawn_blocking(move || {
            let _attempt = span.enter();
            let result = ctx.scope_sync(|| caught(|| call_sync(&instance, &method, &ctx)));
            drop(returned);
            Timed::now(result)
        });
        watch.is_back = false;
        let mut alarm = watch.alarm(watch.limits.stall);
        let _in_call = watch.cancel.enter_call();
        // A thread cannot be stopped. If the job is cancelled, the thread is waited for. If a limit
        // is over, it is left behind.
        let failure = tokio::select! {
            biased;
            ended = &mut work => return watch.back(ended, &mut alarm),
            failure = alarm.rings() => failure,
        };
        *watch.lingering = Some(has_returned);
        Err(failure)
    }

    async fn on_the_runtime(self, mut watch: Watch<'_>) -> Result<Encoded, JobFailure> {
        let Call { instance, ctx, role, method, force } = self;
        let (cancel, stall) = (watch.cancel, watch.limits.stall);
        let _in_call = cancel.enter_call();
        let work = async move {
            ctx.scope(async {
                if let Err(error) = instance.set_up(&ctx).await
                    && !force
                {
                    return Err(error);
                }
                let component = &*instance.component;
                match role {
                    JobRole::OnCreate => {
                        component.__on_create(&ctx).await.map(|()| Encoded::null())
                    }
                    JobRole::Cleanup => component.__cleanup(&ctx).await.map(|()| Encoded::null()),
                    JobRole::Trigger => match component.__run(&method, &ctx) {
                        Some(TriggerCall::Async(call)) => call.await,
                        Some(TriggerCall::Sync(call)) => call(),
                        None => Err(unknown_trigger(&method, component)),
                    },
                }
            })
            .await
        };
        watch.task(work, stall).await
    }
}

/// The limits of a call. A call that has not come back when this is dropped is left behind.
struct Watch<'a> {
    ctx: JobContext,
    cancel: &'a Arc<CancelToken>,
    deadline: Deadline,
    limits: Limits,
    /// The limit for signs of life, when the watch began, and how many signs there were then.
    since: Option<(Duration, Instant, u64)>,
    lingering: &'a mut Option<oneshot::Receiver<()>>,
    is_back: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // This also runs if the runtime ends in the middle of the call: it waits for its threads,
        // so they must be told.
        if !self.is_back {
            self.ctx.leave_behind();
        }
    }
}

impl Watch<'_> {
    /// Set an alarm for the time limit, and for the limit of signs of life.
    fn alarm(&mut self, stall: Option<Duration>) -> Alarm {
        self.since = stall.map(|limit| (limit, Instant::now(), self.cancel.beats()));
        let (deadline, cancel) = (self.deadline, self.cancel.clone());
        let is_limited = deadline.at.is_some() || stall.is_some();
        let over = async move {
            tokio::select! {
                failure = deadline.passed() => failure,
                failure = stalled(&cancel, stall) => failure,
            }
        };
        Alarm::set(&self.ctx, is_limited.then_some(over))
    }

    /// Run a future in a task of its own: its panic, or its end in the middle of work, then harms
    /// nothing else.
    async fn task<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T>> + Send + 'static,
        stall: Option<Duration>,
    ) -> Result<T, JobFailure> {
        let (returned, has_returned) = oneshot::channel::<()>();
        let work = async move {
            let _returned = returned;
            Timed::now(Caught::new(work).await)
        };
        let mut task = tokio::spawn(work.instrument(tracing::Span::current()));
        let mut alarm = self.alarm(stall);
        let (cancel, grace) = (self.cancel, self.limits.grace);
        let stopped = async {
            cancel.cancelled().await;
            // The result of an abandoned attempt does not count: it only gets the time to notice.
            tokio::time::sleep(if cancel.is_abandoned() { grace.min(HEARS) } else { grace }).await;
        };
        let failure = tokio::select! {
            biased;
            ended = &mut task => return self.back(ended, &mut alarm),
            failure = alarm.rings() => failure,
            () = stopped => {
                self.stop(&task);
                // As with a thread, the job is not recorded as cancelled while the task still runs.
                task.await.ignored("it was stopped");
                return Err(JobFailure::new(FailureKind::Cancelled, "cancelled; it was stopped after the grace period"));
            }
        };
        self.stop(&task);
        if tokio::time::timeout(GIVES_WAY, &mut task).await.is_err() {
            *self.lingering = Some(has_returned);
        }
        Err(failure)
    }

    /// Let a task end at its next await, or when it calls `ctx.check_cancelled()`.
    fn stop<T>(&self, task: &JoinHandle<T>) {
        self.ctx.leave_behind();
        task.abort();
    }

    /// The result of a task or thread. Panics of the method were caught inside it; a panic here
    /// comes from dropping its state.
    fn back<T>(
        &mut self,
        ended: Result<Timed<T>, JoinError>,
        alarm: &mut Alarm,
    ) -> Result<T, JobFailure> {
        self.is_back = true;
        let Timed { result, at } = ended.map_err(stopped)?;
        if let Some(failure) = alarm.has_rung() {
            return Err(failure);
        }
        self.deadline.check(at)?;
        if let Some((limit, begun, beats)) = self.since.take()
            && at.duration_since(begun) > limit
            && self.cancel.beats() == beats
        {
            return Err(no_sign_of_life(limit));
        }
        result?.map_err(|error| JobFailure::of(&error))
    }
}

/// The result of a call, and when the call returned.
struct Timed<T> {
    result: Result<Result<T>, JobFailure>,
    at: Instant,
}

impl<T> Timed<T> {
    fn now(result: Result<Result<T>, JobFailure>) -> Self {
        Timed { result, at: Instant::now() }
    }
}

/// The time limit of an attempt.
#[derive(Clone, Copy)]
struct Deadline {
    limit: Duration,
    /// `None` without a limit, or if the limit is beyond the range of the clock.
    at: Option<Instant>,
}

impl Deadline {
    fn after(limit: Option<Duration>) -> Self {
        Deadline {
            limit: limit.unwrap_or_default(),
            at: limit.and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    fn failure(&self) -> JobFailure {
        JobFailure::new(
            FailureKind::Timeout,
            format!("the attempt ran longer than its time limit of {:?}", self.limit),
        )
    }

    async fn passed(&self) -> JobFailure {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        self.failure()
    }

    /// Refuse a result that came after the limit. A runtime whose threads are all busy may notice
    /// the result and the end of the limit at the same moment.
    fn check(&self, ended: Instant) -> Result<(), JobFailure> {
        if self.at.is_some_and(|at| ended > at) { Err(self.failure()) } else { Ok(()) }
    }
}

/// Ends when an attempt has given no sign of life for its limit.
///
/// The limit is over after a number of looks in a row that found no new sign. So the time in which
/// this process itself was suspended does not count.
async fn stalled(cancel: &CancelToken, limit: Option<Duration>) -> JobFailure {
    let Some(limit) = limit else { return std::future::pending().await };
    let (pause, looks) = looks(limit);
    let (mut seen, mut quiet) = (cancel.beats(), 0);
    while quiet < looks {
        tokio::time::sleep(pause).await;
        let now = cancel.beats();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
    no_sign_of_life(limit)
}

/// How long to wait between two looks for a sign of life, and how many looks in a row make up the
/// limit.
pub(super) fn looks(limit: Duration) -> (Duration, u32) {
    let looks = u32::try_from(limit.as_millis().clamp(1, LOOKS)).unwrap_or(1);
    (limit / looks, looks)
}

/// The failure of an attempt that gave no sign of life for its limit.
pub(super) fn no_sign_of_life(limit: Duration) -> JobFailure {
    JobFailure::new(FailureKind::Timeout, format!("the attempt gave no sign of life for {limit:?}"))
}

fn call_sync(instance: &Instance, method: &str, ctx: &JobContext) -> Result<Encoded> {
    match instance.component.__run(method, ctx) {
        Some(TriggerCall::Sync(call)) => call(),
        _ => Err(unknown_trigger(method, &*instance.component)),
    }
}

fn unknown_trigger(method: &str, component: &dyn Component) -> Error {
    Error::not_found(format!("`{}` has no trigger `{method}` in this program", component.kind()))
        .fatal()
}

/// Why a task did not come back.
pub(super) fn stopped(error: JoinError) -> JobFailure {
    match error.is_panic() {
        true => JobFailure::new(FailureKind::Panic, error.to_string()),
        false => JobFailure::new(FailureKind::Cancelled, "the task was stopped"),
    }
}
