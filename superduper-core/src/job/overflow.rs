//! Counts the rows that a full buffer of telemetry drops.
//!
//! Logs and metrics wait in memory for the store. If it does not answer for long, the oldest rows
//! are dropped, and the log of each job that lost some says how many. Invariant: the counts are
//! kept until the lines that tell them are written.

use crate::store::{JobId, LogLevel, LogRow, MetricRow, Timestamp};
use std::collections::BTreeMap;

/// Rows that were dropped, by job.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    counts: BTreeMap<JobId, Count>,
    /// The counts that are in the lines being written now.
    announced: BTreeMap<JobId, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    attempt: u32,
    lines: u64,
    numbers: u64,
}

impl LeftOut {
    /// Drop the oldest lines if there are more than `most`.
    pub(super) fn trim_logs(&mut self, logs: &mut Vec<LogRow>, most: usize) {
        for row in oldest(logs, most) {
            let count = self.counts.entry(row.job).or_default();
            (count.attempt, count.lines) = (row.attempt, count.lines + 1);
        }
    }

    /// Drop the oldest metric values if there are more than `most`.
    pub(super) fn trim_metrics(&mut self, metrics: &mut Vec<MetricRow>, most: usize) {
        for row in oldest(metrics, most) {
            self.counts.entry(row.job).or_default().numbers += 1;
        }
    }

    /// The lines that tell how many rows were dropped. They come before the rows that are left.
    pub(super) fn announce(&mut self) -> Vec<LogRow> {
        self.announced = std::mem::take(&mut self.counts);
        let at = Timestamp::now();
        let line = |(job, count): (&JobId, &Count)| LogRow {
            job: *job,
            attempt: count.attempt,
            at,
            level: LogLevel::Warn,
            message: format!(
                "{} older lines and {} older metric values of this job are missing: the store did not answer, and too many waited for it",
                count.lines, count.numbers
            ),
        };
        self.announced.iter().map(line).collect()
    }

    /// The lines could not be written: take them out again, and keep the counts for the next time.
    pub(super) fn take_back(&mut self, logs: &mut Vec<LogRow>) {
        let announced = std::mem::take(&mut self.announced);
        logs.drain(..announced.len().min(logs.len()));
        for (job, before) in announced {
            let count = self.counts.entry(job).or_default();
            count.attempt = count.attempt.max(before.attempt);
            (count.lines, count.numbers) =
                (count.lines + before.lines, count.numbers + before.numbers);
        }
    }
}

/// Take the oldest rows out if there are more than `most`: an eighth of `most` more than needed, so
/// that each row moves only a few times.
fn oldest<T>(rows: &mut Vec<T>, most: usize) -> impl Iterator<Item = T> {
    let surplus = rows.len().saturating_sub(most);
    let count = if surplus == 0 { 0 } else { (surplus + most / 8).min(rows.len()) };
    rows.drain(..count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(job: i64, texts: std::ops::Range<u32>) -> Vec<LogRow> {
        let line = |number: u32| LogRow {
            job: JobId(job),
            attempt: 2,
            at: Timestamp(0),
            level: LogLevel::Info,
            message: number.to_string(),
        };
        texts.map(line).collect()
    }

    #[test]
    fn the_oldest_lines_go_and_their_job_says_so_once_it_is_written() {
        let (mut left_out, mut logs) = (LeftOut::default(), lines(1, 0..100));
        left_out.trim_logs(&mut logs, 100);
        assert_eq!(logs.len(), 100, "it is not full");
        logs.extend(lines(2, 100..101));
        left_out.trim_logs(&mut logs, 100);
        assert_eq!((logs.len(), &*logs[0].message), (88, "13"));
        // Told twice, because the first time it could not be written; meanwhile more is left out.
        let mut told = left_out.announce();
        told.append(&mut logs);
        logs.extend(lines(2, 101..120));
        left_out.take_back(&mut told);
        told.append(&mut logs);
        let mut logs = told;
        left_out.trim_logs(&mut logs, 100);
        let told = left_out.announce();
        assert_eq!((told.len(), told[0].job, told[0].attempt), (1, JobId(1), 2));
        assert!(told[0].message.starts_with("32 older lines and 0 older"), "{}", told[0].message);
        assert_eq!(logs[0].message, "32");
        assert!(left_out.announce().is_empty());
    }
}
