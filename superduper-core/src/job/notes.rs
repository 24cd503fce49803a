//! Logs, progress and metrics of jobs on their way to the store.

use super::overflow::LeftOut;
use crate::secret_mask::mask;
use crate::store::{JobId, LogRow, MetricRow, Telemetry};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
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
    left_out: Mutex<LeftOut>,
    pub(crate) filled: Notify,
}

impl NoteBuffer {
    /// Secrets are masked here.
    pub(crate) fn log(&self, mut row: LogRow) {
        row.message = mask(row.message);
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push(row);
        self.left_out().trim_logs(&mut logs, MOST_NOTES);
        self.filled.notify_one();
    }

    pub(crate) fn metric(&self, row: MetricRow) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.push(row);
        self.left_out().trim_metrics(&mut metrics, MOST_NOTES);
        self.filled.notify_one();
    }

    pub(crate) fn progress(&self, job: JobId, done: u64, total: u64) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(job, (done, total));
        self.filled.notify_one();
    }

    /// Keep notes that could not be written for the next time. If a job has reported newer progress
    /// since, that counts.
    pub(crate) fn put_back(&self, notes: Telemetry) {
        let Telemetry { mut logs, progress, mut metrics } = notes;
        self.left_out().take_back(&mut logs);
        {
            let mut newer = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
            logs.append(&mut newer);
            self.left_out().trim_logs(&mut logs, MOST_NOTES);
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
        self.left_out().trim_metrics(&mut metrics, MOST_NOTES);
        *newer = metrics;
        drop(newer);
        self.filled.notify_one();
    }

    fn left_out(&self) -> MutexGuard<'_, LeftOut> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job whose notes wait, for the report that they cannot be written.
    pub(crate) fn any_job(&self) -> Option<JobId> {
        let log =
            self.logs.lock().unwrap_or_else(PoisonError::into_inner).first().map(|row| row.job);
        let metric = || {
            self.metrics.lock().unwrap_or_else(PoisonError::into_inner).first().map(|row| row.job)
        };
        let progress =
            || self.progress.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied();
        log.or_else(metric).or_else(progress)
    }

    /// A copy of what waits.
    pub(super) fn seen(&self) -> Telemetry {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        Telemetry {
            logs: self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            progress: progress.iter().map(|(job, (done, total))| (*job, *done, *total)).collect(),
            metrics: self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(crate) fn take(&self) -> Option<Telemetry> {
        let mut logs = self.left_out().announce();
        logs.append(&mut self.logs.lock().unwrap_or_else(PoisonError::into_inner));
        let progress =
            std::mem::take(&mut *self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        let metrics =
            std::mem::take(&mut *self.metrics.lock().unwrap_or_else(PoisonError::into_inner));
        if logs.is_empty() && progress.is_empty() && metrics.is_empty() {
            return None;
        }
        Some(Telemetry {
            logs,
            progress: progress.into_iter().map(|(job, (done, total))| (job, done, total)).collect(),
            metrics,
        })
    }
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
