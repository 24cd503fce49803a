//! Writing what running jobs say about themselves.

use crate::{
    codec::{Code, signed},
    sql::Sql,
};
use superduper_core::{
    Result,
    store::{JobId, MIN_PROGRESS_MS, MetricRow, Telemetry, Timestamp},
};

pub(crate) fn write(sql: Sql<'_>, notes: &Telemetry) -> Result<()> {
    let head = ("INSERT INTO log (job, attempt, at, level, message)", 5, "");
    sql.insert("write log lines", head, &notes.logs, |row, log| {
        row.bind(log.job.0)?;
        row.bind(log.attempt)?;
        row.bind(log.at.0)?;
        row.bind(log.level.code())?;
        row.bind(&log.message)
    })?;
    write_progress(sql, &notes.progress, Timestamp::now())?;
    let head = "INSERT INTO metric (job, name, step, value, at)";
    let tail =
        " ON CONFLICT (job, name, step) DO UPDATE SET value = excluded.value, at = excluded.at";
    // SQLite takes what is no number for NULL.
    let finite: Vec<&MetricRow> =
        notes.metrics.iter().filter(|metric| metric.value.is_finite()).collect();
    sql.insert("write metrics", (head, 5, tail), &finite, |row, metric| {
        row.bind(metric.job.0)?;
        row.bind(&metric.name)?;
        row.bind(signed(metric.step))?;
        row.bind(metric.value)?;
        row.bind(metric.at.0)
    })
}

/// Keep what jobs reported; an event tells it at most once in a second and job.
fn write_progress(sql: Sql<'_>, progress: &[(JobId, u64, u64)], now: Timestamp) -> Result<()> {
    let mut told = Vec::new();
    for (job, done, total) in progress {
        let update = "UPDATE job SET progress_done = ?2, progress_total = ?3 WHERE id = ?1";
        sql.execute("write progress", update, (job.0, signed(*done), signed(*total)))?;
        // A clock that was set back does not silence a job.
        let update = "UPDATE job SET progressed_at = ?2 WHERE id = ?1 AND state < 3 \
            AND (progressed_at IS NULL OR ?2 - progressed_at >= ?3 OR progressed_at > ?2) RETURNING run";
        let values = (job.0, now.0, MIN_PROGRESS_MS);
        let run = sql.query_first("tell progress", update, values, |row| row.get::<_, i64>(0))?;
        told.extend(run.map(|run| (run, job.0, format!("{done}/{total}"))));
    }
    let head = ("INSERT INTO event (at, run, job, kind, detail)", 5, "");
    sql.insert("record events", head, &told, |row, (run, job, detail)| {
        row.bind(now.0)?;
        row.bind(run)?;
        row.bind(job)?;
        row.bind("job.progressed".code())?;
        row.bind(detail)
    })
}
