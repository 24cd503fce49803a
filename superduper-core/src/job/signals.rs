//! The signals to an attempt, and its signs of life.
//!
//! Invariant: an attempt that was abandoned stays cancelled.

use crate::store::{JobRow, JobSignal};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use tokio::sync::Notify;

/// The signals to an attempt, above all its cancellation, and its signs of life. The engine and the
/// attempt share this token.
#[derive(Debug, Default)]
pub(crate) struct CancelToken {
    abandoned: AtomicBool,
    bits: AtomicU8,
    /// Whether the job saw a pause when it looked last.
    saw_pause: AtomicBool,
    notify: Notify,
    /// Notified when a signal changes.
    changed: Notify,
    /// Signs of life of the attempt.
    beats: AtomicU64,
    /// Whether the attempt is in a call that has to give signs of life.
    in_call: AtomicBool,
}

const PAUSE: u8 = 1;
const STOP: u8 = 2;
const CANCEL: u8 = 4;

impl CancelToken {
    /// Count a sign of life.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How many signs of life there were.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// From now on and until the guard is dropped, the attempt is in a call that has to give signs
    /// of life.
    pub(super) fn enter_call(&self) -> InCall<'_> {
        self.in_call.store(true, Ordering::Release);
        InCall(self)
    }

    pub(super) fn is_in_call(&self) -> bool {
        self.in_call.load(Ordering::Acquire)
    }

    pub(crate) fn cancel(&self) {
        self.bits.fetch_or(CANCEL, Ordering::AcqRel);
        self.notify.notify_waiters();
        self.changed.notify_one();
    }

    /// Wait for the next signal. At most one task may wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Stop an attempt whose job was taken over: it must leave no mark on the job.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.cancel();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(crate) fn send(&self, signal: JobSignal) {
        let (before, bit, on) = match signal {
            JobSignal::Cancel => return self.cancel(),
            JobSignal::Stop => (self.bits.fetch_or(STOP, Ordering::AcqRel), STOP, true),
            JobSignal::Pause => (self.bits.fetch_or(PAUSE, Ordering::AcqRel), PAUSE, true),
            JobSignal::Continue => (self.bits.fetch_and(!PAUSE, Ordering::AcqRel), PAUSE, false),
        };
        if (before & bit != 0) != on {
            self.changed.notify_one();
        }
    }

    /// Take over the signals that a row has. Returns whether the job is to be cancelled.
    pub(crate) fn ask_for_row(&self, row: &JobRow) -> bool {
        if row.stop_requested {
            self.send(JobSignal::Stop);
        }
        self.send(if row.pause_requested { JobSignal::Pause } else { JobSignal::Continue });
        row.cancel_requested
    }

    /// The job has looked, and this is what it saw.
    pub(crate) fn saw(&self, signal: Option<JobSignal>) {
        self.saw_pause.store(signal == Some(JobSignal::Pause), Ordering::Release);
    }

    /// What a job that blocks now does it for: a pause, if it saw one when it looked last. The pause may
    /// have been taken back since, and then the record has to tell whether the job waits.
    pub(crate) fn reason_to_block(&self) -> Option<JobSignal> {
        match self.saw_pause.load(Ordering::Acquire) {
            true => Some(JobSignal::Pause),
            false => self.strongest(),
        }
    }

    /// The strongest signal.
    pub(crate) fn strongest(&self) -> Option<JobSignal> {
        match self.bits.load(Ordering::Acquire) {
            0 => None,
            bits if bits & CANCEL != 0 => Some(JobSignal::Cancel),
            bits if bits & STOP != 0 => Some(JobSignal::Stop),
            _ => Some(JobSignal::Pause),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.strongest() == Some(JobSignal::Cancel)
    }

    pub(crate) async fn cancelled(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}

/// See [`CancelToken::enter_call`].
pub(super) struct InCall<'a>(&'a CancelToken);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.in_call.store(false, Ordering::Release);
    }
}
