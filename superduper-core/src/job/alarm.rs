//! The limits of attempts, watched beside the runtime that runs them.
//!
//! A method that computes may hold every thread of its runtime, or the thread that drives its
//! timers. So limits are watched on a runtime with one thread, which nothing else uses. Invariant:
//! soon after a limit is over, `ctx.check_cancelled()` in the method says so, whatever its runtime
//! does.

use super::JobContext;
use crate::error::JobFailure;
use crate::unreturned::{Site, Unreturned};
use std::sync::OnceLock;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::AbortHandle,
};

/// Rings when a limit of an attempt is over. Dropping the alarm ends the watch.
pub(super) struct Alarm(Option<(oneshot::Receiver<JobFailure>, AbortHandle)>);

impl Alarm {
    /// Ring, and leave the attempt behind, when `over` completes. Without `over` the alarm never
    /// rings.
    pub(super) fn set(
        ctx: &JobContext,
        over: Option<impl Future<Output = JobFailure> + Send + 'static>,
    ) -> Self {
        Alarm(over.map(|over| {
            let (rings, rung) = oneshot::channel();
            let ctx = ctx.clone();
            let watch = beside().spawn(async move {
                rings.send(over.await).ignored("the attempt came back in this moment");
                ctx.leave_behind();
            });
            (rung, watch.abort_handle())
        }))
    }

    /// Wait until it rings.
    pub(super) async fn rings(&mut self) -> JobFailure {
        if let Some((rung, _)) = &mut self.0
            && let Ok(failure) = rung.await
        {
            return failure;
        }
        std::future::pending().await
    }

    /// The failure that the alarm rang for, if it has: a runtime whose threads are all busy polls
    /// it late.
    pub(super) fn has_rung(&mut self) -> Option<JobFailure> {
        self.0.as_mut().and_then(|(rung, _)| rung.try_recv().ok())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, watch)) = &self.0 {
            watch.abort();
        }
    }
}

/// The runtime of alarms, which lives as long as the process. If its thread cannot be started, the
/// runtime of the attempt is used.
fn beside() -> Handle {
    static BESIDE: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .or_warn(Site::WORKER, "starting the runtime of time limits")?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("superduper-alarm".to_owned());
        let started = thread.spawn(move || runtime.block_on(std::future::pending::<()>()));
        started.or_warn(Site::WORKER, "starting the thread of time limits")?;
        Some(handle)
    };
    BESIDE.get_or_init(start).clone().unwrap_or_else(Handle::current)
}
