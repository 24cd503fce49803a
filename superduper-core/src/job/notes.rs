//! Logs, progress and metrics of jobs on their way to the store.

use crate::store::{JobId, LogRow, MetricRow, Notes};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tokio::sync::Notify;

/// The most lines, and the most metrics, that wait for a store that does not answer.
const MOST_NOTES: usize = 200_000;

/// Logs and progress of jobs on their way to the store; written in groups.
#[derive(Default)]
pub(crate) struct NoteBuffer {
    logs: Mutex<Vec<LogRow>>,
    progress: Mutex<BTreeMap<JobId, (u64, u64)>>,
    metrics: Mutex<Vec<MetricRow>>,
    pub(crate) filled: Notify,
}

impl NoteBuffer {
    pub(crate) fn log(&self, row: LogRow) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        self.filled.notify_one();
    }

    pub(crate) fn metric(&self, row: MetricRow) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        self.filled.notify_one();
    }

    pub(crate) fn progress(&self, job: JobId, done: u64, total: u64) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(job, (done, total));
        self.filled.notify_one();
    }

    /// Keep what could not be written, for the next time; of what came since, the newer progress counts.
    pub(crate) fn put_back(&self, notes: Notes) {
        let Notes { mut logs, progress, mut metrics } = notes;
        {
            let mut newer = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
            logs.append(&mut newer);
            logs.truncate(MOST_NOTES);
            *newer = logs;
        }
        {
            let mut newer = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            for (job, done, total) in progress {
                newer.entry(job).or_insert((done, total));
            }
        }
        let mut newer = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.append(&mut newer);
        metrics.truncate(MOST_NOTES);
        *newer = metrics;
        drop(newer);
        self.filled.notify_one();
    }

    pub(crate) fn take(&self) -> Option<Notes> {
        let logs = std::mem::take(&mut *self.logs.lock().unwrap_or_else(PoisonError::into_inner));
        let progress = std::mem::take(&mut *self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        let metrics = std::mem::take(&mut *self.metrics.lock().unwrap_or_else(PoisonError::into_inner));
        if logs.is_empty() && progress.is_empty() && metrics.is_empty() {
            return None;
        }
        Some(Notes { logs, progress: progress.into_iter().map(|(job, (done, total))| (job, done, total)).collect(), metrics })
    }
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
