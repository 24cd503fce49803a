//! A place where calls of a store wait until a test lets them go on.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Open at first.
#[derive(Debug)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    waiting: AtomicUsize,
    passes: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Gate {
            is_closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            passes: Semaphore::new(0),
        }
    }

    /// Let calls wait from now on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Let one call go on.
    pub(crate) fn let_one_pass(&self) {
        self.passes.add_permits(1);
    }

    /// Let all go on.
    pub(crate) fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
        self.passes.add_permits(self.waiting.load(Ordering::SeqCst));
    }

    /// Wait until a call waits.
    pub(crate) async fn reached(&self) {
        let begun = Instant::now();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "no call came to the gate");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn pass(&self) {
        if self.is_closed.load(Ordering::SeqCst) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.passes.acquire().await.expect("the gate stands").forget();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
