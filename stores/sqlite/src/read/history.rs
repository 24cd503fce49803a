//! Runs, events, logs and messages.

use super::lines::{RUN, run_conditions, run_row, runs_of_component};
use crate::{
    codec::{Code, digest, json_or_mark, number, number_list, text},
    sql::Sql,
};
use superduper_core::{
    Result,
    store::{
        After, CheckpointRow, Cursor, EventRow, JobId, LogEntry, MessageRow, Page, RunFilter,
        RunId, RunRow, Timestamp,
    },
};

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(crate) fn runs(sql: Sql<'_>, filter: &RunFilter) -> Result<Vec<RunRow>> {
    let (mut conditions, mut values) = run_conditions(filter);
    if let Some(component) = &filter.component {
        let newest = After::newest(filter.limit.unwrap_or(usize::MAX));
        let found = runs_of_component(sql, component, filter, &newest)?;
        conditions.push("r.id IN (SELECT value FROM json_each(?))");
        values.push(Box::new(number_list(found)));
    }
    values.push(Box::new(filter.limit.map_or(-1, limit)));
    let condition = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let query = format!(
        "SELECT {RUN}, r.data FROM run r CROSS JOIN component c ON c.id = r.root WHERE {condition} ORDER BY r.id DESC LIMIT ?"
    );
    let mut runs = sql.query("read runs", &query, rusqlite::params_from_iter(values), |row| {
        Ok(RunRow { data: json_or_mark(row, 12)?, ..run_row(row)? })
    })?;
    runs.reverse();
    Ok(runs)
}

pub(crate) fn events(
    sql: Sql<'_>,
    after: &Cursor,
    run: Option<RunId>,
    at_most: usize,
) -> Result<Page<EventRow>> {
    let of_run = if run.is_some() { "run = ?3" } else { "?3 IS NULL" };
    let query = format!(
        "SELECT seq, at, run, job, kind, detail FROM event WHERE seq > ?1 AND {of_run} ORDER BY seq LIMIT ?2"
    );
    let rows = sql.query(
        "read events",
        &query,
        (after.number()?, limit(at_most), run.map(|run| run.0)),
        |row| {
            Ok(EventRow {
                seq: row.get(0)?,
                cursor: Cursor::of_number(row.get(0)?),
                at: Timestamp(row.get(1)?),
                run: row.get::<_, Option<i64>>(2)?.map(RunId),
                job: row.get::<_, Option<i64>>(3)?.map(JobId),
                kind: <&'static str>::of(row.get(4)?).to_owned(),
                detail: text(row, 5)?,
            })
        },
    )?;
    let next = rows.last().map_or_else(|| after.clone(), |last| Cursor::of_number(last.seq));
    Ok(Page { rows, next })
}

pub(crate) fn last_event(sql: Sql<'_>) -> Result<Cursor> {
    let newest =
        sql.query_first("read the newest event", "SELECT max(seq) FROM event", [], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
    Ok(Cursor::of_number(newest.flatten().unwrap_or(0)))
}

pub(crate) fn checkpoints(sql: Sql<'_>, job: JobId) -> Result<Vec<CheckpointRow>> {
    let query = "SELECT number, attempt, step, score, at, data FROM checkpoint WHERE job = ?1 ORDER BY number";
    sql.query("read the checkpoints of a job", query, [job.0], |row| {
        Ok(CheckpointRow {
            job,
            number: number(row, 0)?,
            attempt: number(row, 1)?,
            step: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            score: row.get(3)?,
            at: Timestamp(row.get(4)?),
            data: json_or_mark(row, 5)?,
        })
    })
}

pub(crate) fn messages(sql: Sql<'_>, after: &Cursor, at_most: usize) -> Result<Page<MessageRow>> {
    let query = "SELECT id, job, topic, payload FROM message WHERE id > ?1 ORDER BY id LIMIT ?2";
    let rows = sql.query("read messages", query, (after.number()?, limit(at_most)), |row| {
        let topic = text(row, 2)?.unwrap_or_default();
        Ok(MessageRow {
            id: row.get(0)?,
            job: JobId(row.get(1)?),
            topic,
            payload: json_or_mark(row, 3)?,
        })
    })?;
    let next = rows.last().map_or_else(|| after.clone(), |last| Cursor::of_number(last.id));
    Ok(Page { rows, next })
}

pub(crate) fn log_entries(
    sql: Sql<'_>,
    log: &str,
    after: u64,
    at_most: usize,
) -> Result<Vec<LogEntry>> {
    let query = "SELECT seq, at, run, payload, hash FROM log_entry WHERE log = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    sql.query(
        "read a log",
        query,
        (log, i64::try_from(after).unwrap_or(i64::MAX), limit(at_most)),
        |row| {
            Ok(LogEntry {
                seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                at: Timestamp(row.get(1)?),
                run: row.get::<_, Option<i64>>(2)?.map(RunId),
                payload: json_or_mark(row, 3)?,
                hash: digest(row, 4)?,
            })
        },
    )
}
