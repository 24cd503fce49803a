//! Writes what jobs note: logs, progress, metrics.
//!
//! The writer has a thread and a runtime of its own. A trigger that computes holds a thread of the
//! runtime that it was started on, perhaps the only thread. Other tasks of that runtime then wait
//! until the trigger is done. Invariant: notes are written soon after they are made, whatever
//! triggers do.

use crate::unreturned::{Site, Unreturned};
use crate::{error::Result, job::NoteBuffer, store::MetadataStore};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, Notify};

/// How long after the first note the notes are written, and the longest pause while the store
/// fails.
const SOON: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(5);

/// Writes what jobs of a database note. Its thread ends when this is dropped.
pub(crate) struct NoteWriter(Arc<Shared>);

struct Shared {
    notes: Arc<NoteBuffer>,
    /// The thread does not keep the store open.
    metadata: Weak<dyn MetadataStore>,
    /// One write at a time, so that notes are written in their order.
    gate: Mutex<()>,
    started: AtomicBool,
    closed: Notify,
}

impl NoteWriter {
    pub(super) fn new(metadata: &Arc<dyn MetadataStore>, notes: &Arc<NoteBuffer>) -> Self {
        NoteWriter(Arc::new(Shared {
            notes: notes.clone(),
            metadata: Arc::downgrade(metadata),
            gate: Mutex::default(),
            started: AtomicBool::new(false),
            closed: Notify::new(),
        }))
    }

    /// Start the thread, unless it was started before.
    pub(super) fn start(&self) {
        if self.0.started.load(Ordering::Acquire) || self.0.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.0.clone();
        let started = std::thread::Builder::new()
            .name("superduper-notes".to_owned())
            .spawn(move || shared.run());
        if started.or_warn(Site::RUN, "starting the thread that writes logs").is_none() {
            // The next note tries again.
            self.0.started.store(false, Ordering::Release);
        }
    }

    /// Write what was noted so far; waits for a write that is under way.
    pub(super) async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }
}

impl Drop for NoteWriter {
    fn drop(&mut self) {
        self.0.closed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        // However the thread ends, also by a panic of the store: the next note starts it again.
        let _ends = Ends(&self.started);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Some(runtime) = runtime.or_warn(Site::RUN, "starting the runtime that writes logs") {
            runtime.block_on(self.write());
        }
    }

    async fn write(&self) {
        let mut pause = SOON;
        loop {
            tokio::select! {
                () = self.notes.filled.notified() => {}
                () = self.closed.notified() => return,
            }
            if tokio::time::timeout(pause, self.closed.notified()).await.is_ok() {
                return;
            }
            // The pause grows while the store fails.
            let waiting = self.notes.any_job();
            let written = self
                .flush()
                .await
                .or_warn(Site::RUN.job(waiting), "writing logs, progress and metrics");
            pause = if written.is_some() { SOON } else { (pause * 2).min(LATEST) };
        }
    }

    async fn flush(&self) -> Result<()> {
        let _one_at_a_time = self.gate.lock().await;
        let Some(notes) = self.notes.take() else { return Ok(()) };
        let Some(metadata) = self.metadata.upgrade() else { return Ok(()) };
        let written = metadata.record_telemetry(notes.clone()).await;
        if written.is_err() {
            self.notes.put_back(notes);
        }
        written
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
