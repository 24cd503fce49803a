//! What is read of the logs and metrics of jobs, and which of them.
//!
//! [`LogRow`](super::LogRow) and [`MetricRow`] are what a job writes; [`LogLine`] and
//! [`MetricPoint`] are what a reader gets.

use super::rows::{JobId, LogLevel, MetricRow, Timestamp};
use std::ops::{Bound, RangeBounds};

/// A line of a job's log, as it is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// The place of the line: the ids of a job's lines ascend. [`LogFilter::after`] takes it.
    pub id: i64,
    /// The job.
    pub job: JobId,
    /// The attempt; 0 for a line about the job that came later.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// How serious.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

impl LogLine {
    /// A line that was written as `row`.
    pub fn new(id: i64, row: super::LogRow) -> Self {
        let super::LogRow { job, attempt, at, level, message } = row;
        LogLine { id, job, attempt, at, level, message }
    }
}

/// Which lines of a job's log to read; what is set must all match.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogFilter {
    /// The job.
    pub job: JobId,
    /// Lines whose id is greater; 0 for all.
    pub after: i64,
    /// At most so many, the oldest.
    pub limit: Option<usize>,
    /// Lines of this level and of more serious ones.
    pub level: LogLevel,
    /// Lines of this attempt.
    pub attempt: Option<u32>,
}

impl LogFilter {
    /// All lines of a job.
    pub fn of(job: JobId) -> Self {
        LogFilter { job, after: 0, limit: None, level: LogLevel::Trace, attempt: None }
    }

    /// Lines whose id is greater.
    pub fn after(self, id: i64) -> Self {
        LogFilter { after: id, ..self }
    }

    /// At most so many lines, the oldest.
    pub fn limit(self, lines: usize) -> Self {
        LogFilter { limit: Some(lines), ..self }
    }

    /// Lines of this level and of more serious ones.
    pub fn level(self, level: LogLevel) -> Self {
        LogFilter { level, ..self }
    }

    /// Lines of one attempt.
    pub fn attempt(self, attempt: u32) -> Self {
        LogFilter { attempt: Some(attempt), ..self }
    }

    /// Whether a line matches, apart from the limit.
    pub fn matches(&self, id: i64, row: &super::LogRow) -> bool {
        row.job == self.job
            && id > self.after
            && row.level >= self.level
            && self.attempt.is_none_or(|attempt| row.attempt == attempt)
    }
}

/// A point of a series: one number that a job measured, or the numbers of some steps in a row.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricPoint {
    /// The job.
    pub job: JobId,
    /// What was measured.
    pub name: String,
    /// The last step of the point.
    pub step: u64,
    /// The number at that step.
    pub value: f64,
    /// When it was measured.
    pub at: Timestamp,
    /// The least number of the point.
    pub min: f64,
    /// The greatest number of the point.
    pub max: f64,
    /// How many numbers the point stands for; 1 for a single number.
    pub count: u64,
    /// The first step of the point.
    pub first_step: u64,
    /// When the number at the first step was measured.
    pub first_at: Timestamp,
}

impl MetricPoint {
    /// The point of one number.
    pub fn of(row: MetricRow) -> Self {
        let MetricRow { job, name, step, value, at } = row;
        MetricPoint {
            job,
            name,
            step,
            value,
            at,
            min: value,
            max: value,
            count: 1,
            first_step: step,
            first_at: at,
        }
    }

    /// The points of a series, given its numbers by ascending step: at most `points`.
    pub fn of_series(rows: Vec<MetricRow>, points: Option<usize>) -> Vec<Self> {
        let (Some(points), Some(first), Some(last)) = (points, rows.first(), rows.last()) else {
            return rows.into_iter().map(MetricPoint::of).collect();
        };
        if rows.len() <= points.max(1) {
            return rows.into_iter().map(MetricPoint::of).collect();
        }
        let mut buckets = MetricFilter::buckets(first.step, last.step, points);
        let (mut made, mut end): (Vec<MetricPoint>, Option<u64>) = (Vec::new(), None);
        for row in rows {
            match made.last_mut().filter(|_| end.is_some_and(|end| row.step <= end)) {
                Some(point) => point.add(&row),
                None => {
                    end = buckets.find(|(_, end)| row.step <= *end).map(|(_, end)| end);
                    made.push(MetricPoint::of(row));
                }
            }
        }
        made
    }

    /// The number of a later step joins the point.
    fn add(&mut self, row: &MetricRow) {
        (self.step, self.value, self.at) = (row.step, row.value, row.at);
        (self.min, self.max) = (self.min.min(row.value), self.max.max(row.value));
        self.count += 1;
    }

    /// This point with what it stands for: the least and the greatest number of `count` numbers,
    /// and the first step with its time.
    pub fn spanning(self, (min, max): (f64, f64), count: u64, first: (u64, Timestamp)) -> Self {
        MetricPoint { min, max, count, first_step: first.0, first_at: first.1, ..self }
    }
}

impl From<MetricPoint> for MetricRow {
    /// The last number of the point.
    fn from(point: MetricPoint) -> Self {
        let MetricPoint { job, name, step, value, at, .. } = point;
        MetricRow { job, name, step, value, at }
    }
}

/// Which metrics to read, and in how many points; what is set must all match.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricFilter {
    /// Of these jobs.
    pub jobs: Vec<JobId>,
    /// Of these names.
    pub names: Option<Vec<String>>,
    /// From this step on.
    pub first: u64,
    /// Up to this step, included.
    pub last: u64,
    /// At most so many points of each series, which is what one job measured under one name.
    pub points: Option<usize>,
}

impl MetricFilter {
    /// All that these jobs measured.
    pub fn of(jobs: impl IntoIterator<Item = JobId>) -> Self {
        let mut jobs: Vec<JobId> = jobs.into_iter().collect();
        jobs.sort_unstable();
        jobs.dedup();
        MetricFilter { jobs, names: None, first: 0, last: u64::MAX, points: None }
    }

    /// Of these names.
    pub fn names(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        MetricFilter { names: Some(names), ..self }
    }

    /// Of these steps.
    pub fn range(self, steps: impl RangeBounds<u64>) -> Self {
        let first = match steps.start_bound() {
            Bound::Included(step) => Some(*step),
            Bound::Excluded(step) => step.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match steps.end_bound() {
            Bound::Included(step) => Some(*step),
            Bound::Excluded(step) => step.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        // No step is after 1 and before 0.
        let (first, last) = first.zip(last).unwrap_or((1, 0));
        MetricFilter { first, last, ..self }
    }

    /// At most so many points of each series; at least 1.
    pub fn points(self, points: usize) -> Self {
        MetricFilter { points: Some(points.max(1)), ..self }
    }

    /// The steps of the buckets, first and last, in which a store gathers a series that has more
    /// numbers than points: stretches of equal length from the first step of the series to its
    /// last, at most `points`. A bucket without a number makes no point.
    pub fn buckets(first: u64, last: u64, points: usize) -> impl Iterator<Item = (u64, u64)> {
        let length = u128::from(last.saturating_sub(first)) / points.max(1) as u128 + 1;
        let starts = std::iter::successors(Some(u128::from(first)), move |start| {
            Some(start + length).filter(|next| *next <= u128::from(last))
        });
        let step = |step: u128| u64::try_from(step).unwrap_or(u64::MAX);
        starts.map(move |start| (step(start), step(start + length - 1).min(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(step: u64, value: f64) -> MetricRow {
        MetricRow { job: JobId(1), name: "loss".into(), step, value, at: Timestamp(step as i64) }
    }

    #[test]
    fn n10_buckets_cover_every_step_once() {
        for (first, last, points) in
            [(0, 0, 1), (0, 9, 3), (5, 104, 7), (0, u64::MAX, 1), (1, u64::MAX, 1000), (3, 4, 50)]
        {
            let buckets: Vec<_> = MetricFilter::buckets(first, last, points).collect();
            assert!(buckets.len() <= points, "{first}..={last} in {points}: {buckets:?}");
            assert_eq!((buckets[0].0, buckets.last().unwrap().1), (first, last));
            assert!(buckets.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }

    #[test]
    fn n10_a_series_in_fewer_points_keeps_its_extremes() {
        let rows: Vec<_> =
            (0..1000).map(|step| number(step, if step == 517 { 9. } else { 1. })).collect();
        let points = MetricPoint::of_series(rows.clone(), Some(10));
        assert_eq!(points.len(), 10);
        assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 1000);
        assert_eq!(points.iter().map(|point| point.max).fold(0., f64::max), 9.);
        assert_eq!((points[5].first_step, points[5].step, points[5].value), (500, 599, 1.));
        let single = MetricPoint::of_series(rows[510..520].to_vec(), Some(10));
        assert!(single.iter().all(|point| point.count == 1) && single[7].value == 9.);
        // Far apart: empty stretches make no points.
        let far =
            MetricPoint::of_series(vec![number(0, 1.), number(9, 2.), number(1000, 3.)], Some(2));
        assert_eq!(
            far.iter().map(|point| (point.first_step, point.step)).collect::<Vec<_>>(),
            [(0, 9), (1000, 1000)]
        );
    }

    #[test]
    fn n10_ranges_of_every_form() {
        let steps = |filter: MetricFilter| (filter.first, filter.last);
        let all = || MetricFilter::of([JobId(1)]);
        assert_eq!(steps(all().range(..)), (0, u64::MAX));
        assert_eq!(steps(all().range(3..5)), (3, 4));
        assert_eq!(steps(all().range(3..=5)), (3, 5));
        assert_eq!(steps(all().range(..0)), (1, 0));
    }
}
