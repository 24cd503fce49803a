//! Logs and metrics of jobs.
//!
//! Invariant: a series with more numbers than points is gathered by SQLite; of its numbers only
//! those of single points reach this process.

use crate::{
    codec::{Code, number, signed, text},
    sql::Sql,
};
use superduper_core::{
    Result,
    store::{
        JobId, LogFilter, LogLevel, LogLine, LogRow, MetricFilter, MetricPoint, MetricRow,
        Timestamp,
    },
};

pub(crate) fn logs(sql: Sql<'_>, filter: &LogFilter) -> Result<Vec<LogLine>> {
    let query = "SELECT id, attempt, at, level, message FROM log \
        WHERE job = ?1 AND id > ?2 AND level >= ?3 AND (?4 IS NULL OR attempt = ?4) ORDER BY id LIMIT ?5";
    let limit = filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let values = (filter.job.0, filter.after, filter.level.code(), filter.attempt, limit);
    sql.query("read the log of a job", query, values, |row| {
        let line = LogRow {
            job: filter.job,
            attempt: number(row, 1)?,
            at: Timestamp(row.get(2)?),
            level: LogLevel::of(row.get(3)?),
            message: text(row, 4)?.unwrap_or_default(),
        };
        Ok(LogLine::new(row.get(0)?, line))
    })
}

pub(crate) fn metrics(sql: Sql<'_>, filter: &MetricFilter) -> Result<Vec<MetricPoint>> {
    let mut points = Vec::new();
    for job in &filter.jobs {
        let names = match &filter.names {
            Some(names) => names.clone(),
            None => names_of(sql, *job)?,
        };
        for name in &names {
            let series = Series { sql, job: *job, name };
            points.extend(series.points((filter.first, filter.last), filter.points)?);
        }
    }
    Ok(points)
}

/// The names under which a job measured, ascending: each is found by one step in the index.
fn names_of(sql: Sql<'_>, job: JobId) -> Result<Vec<String>> {
    let query = "WITH RECURSIVE found (name) AS (SELECT min(name) FROM metric WHERE job = ?1 \
            UNION ALL SELECT (SELECT min(name) FROM metric WHERE job = ?1 AND name > found.name) FROM found \
            WHERE found.name IS NOT NULL) \
        SELECT name FROM found WHERE name IS NOT NULL";
    sql.query("read the names of metrics", query, [job.0], |row| {
        Ok(text(row, 0)?.unwrap_or_default())
    })
}

/// What one job measured under one name.
struct Series<'s, 'n> {
    sql: Sql<'s>,
    job: JobId,
    name: &'n str,
}

impl Series<'_, '_> {
    fn points(&self, steps: (u64, u64), points: Option<usize>) -> Result<Vec<MetricPoint>> {
        let Some(points) = points else { return self.single(steps, None) };
        // One more than asked for tells whether there are too many.
        let single = self.single(steps, Some(points.saturating_add(1)))?;
        if single.len() <= points {
            return Ok(single);
        }
        let first = single.first().map_or(0, |point| point.step);
        let query = "SELECT max(step) FROM metric WHERE job = ?1 AND name = ?2 AND step <= ?3";
        let values = (self.job.0, self.name, signed(steps.1));
        let last =
            self.sql.query_first("read the last step of a metric", query, values, |row| {
                row.get::<_, i64>(0)
            })?;
        let last = last.map_or(first, unsigned);
        let buckets = MetricFilter::buckets(first, last, points);
        buckets.filter_map(|steps| self.bucket(steps).transpose()).collect()
    }

    fn single(&self, steps: (u64, u64), limit: Option<usize>) -> Result<Vec<MetricPoint>> {
        let query = "SELECT step, value, at FROM metric \
            WHERE job = ?1 AND name = ?2 AND step BETWEEN ?3 AND ?4 ORDER BY step LIMIT ?5";
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let values = (self.job.0, self.name, signed(steps.0), signed(steps.1), limit);
        self.sql.query("read a metric", query, values, |row| {
            Ok(MetricPoint::of(MetricRow {
                job: self.job,
                name: self.name.to_owned(),
                step: unsigned(row.get(0)?),
                value: row.get(1)?,
                at: Timestamp(row.get(2)?),
            }))
        })
    }

    /// The point of some steps; `None` if nothing was measured at them.
    fn bucket(&self, steps: (u64, u64)) -> Result<Option<MetricPoint>> {
        let query = "SELECT count(*), min(value), max(value), min(step), max(step) FROM metric \
            WHERE job = ?1 AND name = ?2 AND step BETWEEN ?3 AND ?4";
        let values = (self.job.0, self.name, signed(steps.0), signed(steps.1));
        let found = self.sql.query_first("gather a metric", query, values, |row| {
            let count = unsigned(row.get(0)?);
            if count == 0 {
                return Ok(None);
            }
            let (extremes, first, last) =
                ((row.get(1)?, row.get(2)?), unsigned(row.get(3)?), unsigned(row.get(4)?));
            Ok(Some((count, extremes, first, last)))
        })?;
        let Some((count, extremes, first, last)) = found.flatten() else { return Ok(None) };
        let first_at = self.single((first, first), None)?.first().map(|point| point.at);
        let last = self.single((last, last), None)?.pop();
        let first_at = first_at.unwrap_or(Timestamp(0));
        Ok(last.map(|last| last.spanning(extremes, count, (first, first_at))))
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
