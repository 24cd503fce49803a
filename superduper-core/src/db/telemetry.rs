//! Reading the logs and metrics of jobs.
//!
//! Invariant: a read has all that jobs of this process wrote before it began.

use super::Db;
use crate::{
    error::Result,
    future::BoxFuture,
    store::{JobId, LogFilter, LogLevel, LogLine, MetricFilter, MetricPoint},
};
use std::{future::IntoFuture, ops::RangeBounds};

/// The lines of a job's log, the oldest first; await it. Made by [`Db::logs`].
///
/// To follow a log, pass the id of the last line to [`Logs::after`].
///
/// # Errors
/// `Store`.
#[must_use = "nothing is read until it is awaited"]
#[derive(Debug, Clone)]
pub struct Logs {
    db: Db,
    filter: LogFilter,
}

/// What jobs measured, by job, name and step; await it. Made by [`Db::metrics`].
///
/// # Errors
/// `Store`.
#[must_use = "nothing is read until it is awaited"]
#[derive(Debug, Clone)]
pub struct Metrics {
    db: Db,
    filter: MetricFilter,
}

impl Db {
    /// What a job logged.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # use superduper::store::{JobId, LogLevel};
    /// # async fn example(db: superduper::Db, job: JobId) -> superduper::Result<()> {
    /// let mut seen = 0;
    /// loop {
    ///     let lines = db.logs(job).after(seen).limit(500).level(LogLevel::Info).await?;
    ///     let Some(last) = lines.last() else { break };
    ///     seen = last.id;
    ///     // … show the lines
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn logs(&self, job: JobId) -> Logs {
        Logs { db: self.clone(), filter: LogFilter::of(job) }
    }

    /// What jobs measured.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # use superduper::store::JobId;
    /// # async fn example(db: superduper::Db, job: JobId) -> superduper::Result<()> {
    /// // For a chart of 800 pixels: no peak is lost, however many steps there are.
    /// let curve = db.metrics([job]).names(["loss"]).points(800).await?;
    /// let peak = curve.iter().max_by(|one, other| one.max.total_cmp(&other.max));
    /// // A look at the steps around the peak.
    /// if let Some(peak) = peak {
    ///     let near = db.metrics([job]).names(["loss"]).range(peak.first_step..=peak.step).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(&self, jobs: impl IntoIterator<Item = JobId>) -> Metrics {
        Metrics { db: self.clone(), filter: MetricFilter::of(jobs) }
    }
}

impl Logs {
    /// Only the lines after the one with this id.
    pub fn after(mut self, id: i64) -> Self {
        self.filter = self.filter.after(id);
        self
    }

    /// At most so many lines, the oldest.
    pub fn limit(mut self, lines: usize) -> Self {
        self.filter = self.filter.limit(lines);
        self
    }

    /// Only lines of this level and of more serious ones.
    pub fn level(mut self, level: LogLevel) -> Self {
        self.filter = self.filter.level(level);
        self
    }

    /// Only the lines of one attempt. Attempt 0 has the lines about the job that came later.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.filter = self.filter.attempt(attempt);
        self
    }
}

impl Metrics {
    /// Only metrics of these names.
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.filter = self.filter.names(names);
        self
    }

    /// Only these steps, such as `100..200`.
    pub fn range(mut self, steps: impl RangeBounds<u64>) -> Self {
        self.filter = self.filter.range(steps);
        self
    }

    /// At most so many points of each series, a series being what one job measured under one name.
    ///
    /// A series with more numbers is read in buckets: stretches of steps of equal length. Each
    /// point has the least, the greatest and the last number of its bucket, so that no peak is
    /// lost. The store computes them; the numbers themselves are not read into this process. A
    /// series with no more numbers than points is read as it is.
    pub fn points(mut self, points: usize) -> Self {
        self.filter = self.filter.points(points);
        self
    }
}

impl IntoFuture for Logs {
    type Output = Result<Vec<LogLine>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let db = self.db.inner();
            db.flush_notes().await;
            db.metadata.logs(self.filter).await
        })
    }
}

impl IntoFuture for Metrics {
    type Output = Result<Vec<MetricPoint>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let db = self.db.inner();
            db.flush_notes().await;
            db.metadata.metrics(self.filter).await
        })
    }
}
