//! Lines of lists, and reads that go by a place in an order.
//!
//! Invariant: a page is found by an index from its place on; it reads no documents, inputs or
//! results.

use super::jobs::{Conditions, UNHEALTHY, below, conditions};
use crate::{
    codec::{
        Code, address, failure, number, number_list, optional_number, optional_time, signals, text,
    },
    sql::Sql,
};
use rusqlite::{Row, ToSql};
use std::collections::HashMap;
use superduper_core::{
    Address, Result,
    store::{
        Actor, After, BlockedUntil, ComponentFilter, ComponentId, ComponentLine, JobCounts,
        JobFilter, JobId, JobLine, JobRole, JobRow, JobState, PoolPlace, RunFilter, RunId, RunLine,
        RunPurpose, RunRow, RunState, Timestamp, UnhealthyJobs, WorkerId,
    },
};

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The comparison and the order that read on from a place.
fn direction(newest_first: bool) -> (&'static str, &'static str) {
    if newest_first { ("<", "DESC") } else { (">", "ASC") }
}

/// The place itself; where there is none, one before all others.
fn place(last: Option<i64>, newest_first: bool) -> i64 {
    last.unwrap_or(if newest_first { i64::MAX } else { i64::MIN })
}

/// The components of a name, those included that were removed.
fn named(sql: Sql<'_>, address: &Address) -> Result<Vec<i64>> {
    let query = "SELECT id FROM component WHERE kind = ?1 AND identifier = ?2";
    sql.query("find a component", query, (&address.kind, &address.identifier), |row| row.get(0))
}

/// The conditions of a filter on components `c`, from a place on.
fn component_conditions(
    filter: &ComponentFilter,
    after: Option<&Address>,
) -> (Vec<&'static str>, Vec<Box<dyn ToSql>>) {
    let mut wanted: Vec<&str> = vec!["c.removed = 0"];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(kind) = &filter.kind {
        wanted.push("c.kind = ?");
        values.push(Box::new(kind.clone()));
    }
    match after {
        // An index is read from a place in all its columns only if the comparison names them all.
        Some(after) if filter.kind.as_ref() == Some(&after.kind) => {
            wanted.push("c.identifier > ?");
            values.push(Box::new(after.identifier.clone()));
        }
        Some(after) => {
            wanted.push("(c.kind, c.identifier) > (?, ?)");
            values.push(Box::new(after.kind.clone()));
            values.push(Box::new(after.identifier.clone()));
        }
        None => {}
    }
    if let Some(text) = &filter.text {
        wanted.push("instr(lower(c.kind || '/' || c.identifier), ?) > 0");
        values.push(Box::new(text.to_ascii_lowercase()));
    }
    if let Some(label) = &filter.label {
        wanted.push("EXISTS (SELECT 1 FROM label l WHERE l.component = c.id AND l.name = ?)");
        values.push(Box::new(label.clone()));
    }
    (wanted, values)
}

pub(crate) fn component_lines(
    sql: Sql<'_>,
    filter: &ComponentFilter,
    after: Option<&Address>,
    at_most: usize,
) -> Result<Vec<ComponentLine>> {
    let (wanted, mut values) = component_conditions(filter, after);
    values.push(Box::new(limit(at_most)));
    let query = format!(
        "SELECT c.kind, c.identifier, c.newest, v.revision, c.id, c.removing, v.type_version, v.owes_jobs, v.updated_at, \
            (SELECT count(*) FROM version n INDEXED BY version_key WHERE n.component = c.id), \
            iif(c.newest = 0, v.created_at, (SELECT f.created_at FROM version f WHERE f.component = c.id AND f.number = \
                (SELECT min(m.number) FROM version m INDEXED BY version_key WHERE m.component = c.id))), \
            (SELECT json_group_array(json_array(l.name, l.version)) FROM \
                (SELECT name, version FROM label WHERE component = c.id ORDER BY name) l) \
        FROM component c CROSS JOIN version v ON v.component = c.id AND v.number = c.newest \
        WHERE {} ORDER BY c.kind, c.identifier LIMIT ?",
        wanted.join(" AND ")
    );
    let values = rusqlite::params_from_iter(values);
    let mut lines = sql.query("read a page of components", &query, values, |row| {
        let id = ComponentId(row.get(4)?);
        let mut line = ComponentLine::new(id, address(row, 0)?, Timestamp(row.get(10)?));
        line.removing = row.get(5)?;
        line.type_version = number(row, 6)?;
        line.owes_jobs = row.get(7)?;
        line.updated_at = Timestamp(row.get(8)?);
        line.versions = u64::try_from(row.get::<_, i64>(9)?).unwrap_or(0);
        let labels = text(row, 11)?.unwrap_or_default();
        line.labels = serde_json::from_str(&labels).unwrap_or_default();
        Ok(line)
    })?;
    count_unhealthy(sql, &mut lines)?;
    Ok(lines)
}

fn count_unhealthy(sql: Sql<'_>, lines: &mut [ComponentLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let query = format!(
        "{} SELECT below.root, c.kind, j.role, j.method, j.state, count(*) \
        FROM below CROSS JOIN component c ON c.id = below.id AND c.newest = below.version AND c.removed = 0 \
        CROSS JOIN job j INDEXED BY job_unsucceeded ON j.component = c.id AND j.version = c.newest \
        WHERE j.succeeded = 0 AND {UNHEALTHY} GROUP BY 1, 2, 3, 4, 5",
        below("c.id = k.value")
    );
    let ids = number_list(lines.iter().map(|line| line.component.0));
    let groups = sql.query("count jobs that did not succeed", &query, [ids], |row| {
        let jobs = u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0);
        let (role, state) = (JobRole::of(row.get(2)?), JobState::of(row.get(4)?));
        let (kind, method) = (text(row, 1)?.unwrap_or_default(), text(row, 3)?.unwrap_or_default());
        Ok((row.get::<_, i64>(0)?, UnhealthyJobs::new(kind, role, method, state, jobs)))
    })?;
    let mut of: HashMap<i64, Vec<UnhealthyJobs>> = HashMap::new();
    groups.into_iter().for_each(|(id, group)| of.entry(id).or_default().push(group));
    for line in lines {
        line.unhealthy = of.remove(&line.component.0).unwrap_or_default();
    }
    Ok(())
}

/// So many jobs that did not succeed are sorted rather than looked for among all jobs.
const FEW_UNSUCCEEDED: i64 = 5000;

/// Whether a page of jobs that did not succeed is found among these, without an order.
fn by_unsucceeded(sql: Sql<'_>, filter: &JobFilter) -> Result<bool> {
    let is_narrower = filter.ids.is_some() || filter.run.is_some() || filter.target.is_some();
    let states = filter.states.as_ref();
    let is_open = filter.owner.is_some();
    if is_narrower || !(is_open || states.is_some_and(|all| !all.contains(&JobState::Succeeded))) {
        return Ok(false);
    }
    let query = "SELECT count(*) FROM (SELECT 1 FROM job INDEXED BY job_unsucceeded WHERE succeeded = 0 LIMIT ?1)";
    let count = sql.query_first("count jobs", query, [FEW_UNSUCCEEDED], |row| row.get::<_, i64>(0));
    Ok(count?.unwrap_or(0) < FEW_UNSUCCEEDED)
}

pub(crate) fn job_lines(
    sql: Sql<'_>,
    filter: &JobFilter,
    after: &After<JobId>,
) -> Result<Vec<JobLine>> {
    let components = match &filter.target {
        Some(target) => Some(named(sql, target)?),
        None => None,
    };
    let Conditions { mut wanted, mut values } = conditions(filter, components.as_deref());
    let (behind, order) = direction(after.newest_first);
    wanted.push(format!("j.id {behind} ?"));
    values.push(Box::new(place(after.last.map(|id| id.0), after.newest_first)));
    values.push(Box::new(limit(after.limit)));
    let mut index = "";
    if by_unsucceeded(sql, filter)? {
        wanted.push("j.succeeded = 0".to_owned());
        index = "INDEXED BY job_unsucceeded";
    }
    let query = format!(
        "SELECT c.kind, c.identifier, j.version, j.revision, j.id, j.run, j.component, j.role, j.method, j.key, j.retry_of, j.state, \
            j.blocked, j.blocked_since, j.blocked_until, j.attempt, j.tries, j.lost, j.owner, j.cancel_requested, \
            j.executor, j.retries, j.not_before, j.tolerated, j.progress_done, j.progress_total, \
            iif(octet_length(j.failure) <= 65536, j.failure, NULL), j.created_at, j.started_at, j.ended_at, octet_length(j.failure) \
        FROM job j {index} CROSS JOIN component c ON c.id = j.component WHERE {} ORDER BY j.id {order} LIMIT ?",
        wanted.join(" AND ")
    );
    sql.query("read a page of jobs", &query, rusqlite::params_from_iter(values), line)
}

fn line(row: &Row<'_>) -> rusqlite::Result<JobLine> {
    let unsigned = |column: usize| {
        Ok::<_, rusqlite::Error>(
            row.get::<_, Option<i64>>(column)?.and_then(|number| u64::try_from(number).ok()),
        )
    };
    let signals = signals(row.get(19)?);
    let (blocked_at, until) = (optional_time(row, 13)?, optional_time(row, 14)?);
    let mut line = JobLine::of(&JobRow {
        id: JobId(row.get(4)?),
        run: RunId(row.get(5)?),
        component: ComponentId(row.get(6)?),
        target: address(row, 0)?,
        role: JobRole::of(row.get(7)?),
        method: text(row, 8)?.unwrap_or_default(),
        key: text(row, 9)?,
        retry_of: row.get::<_, Option<i64>>(10)?.map(JobId),
        state: JobState::of(row.get(11)?),
        blocked: text(row, 12)?,
        blocked_at,
        blocked_until: blocked_at.zip(until).map(|(since, until)| BlockedUntil { since, until }),
        attempt: number(row, 15)?,
        tries: number(row, 16)?,
        lost: number(row, 17)?,
        owner: row.get::<_, Option<i64>>(18)?.map(WorkerId),
        cancel_requested: signals.cancel,
        stop_requested: signals.stop,
        pause_requested: signals.pause,
        executor: text(row, 20)?,
        retries: number(row, 21)?,
        backoff_ms: 0,
        timeout_ms: None,
        not_before: optional_time(row, 22)?,
        input: None,
        tolerated: row.get(23)?,
        progress: unsigned(24)?.zip(unsigned(25)?),
        result: None,
        failure: failure(row, 26)?,
        created_at: Timestamp(row.get(27)?),
        started_at: optional_time(row, 28)?,
        ended_at: optional_time(row, 29)?,
    });
    if let (None, Some(bytes)) = (&line.error, row.get::<_, Option<i64>>(30)?) {
        line.error = Some(format!("its failure has {bytes} bytes: read the job to see it"));
    }
    Ok(line)
}

/// The conditions of a filter on runs `r`, apart from that on the component.
pub(super) fn run_conditions(filter: &RunFilter) -> (Vec<&'static str>, Vec<Box<dyn ToSql>>) {
    let mut wanted: Vec<&str> = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(id) = filter.id {
        wanted.push("r.id = ?");
        values.push(Box::new(id.0));
    }
    if filter.unfinished {
        wanted.push("r.state = 0");
    }
    if let Some(states) = &filter.states {
        wanted.push("r.state IN (SELECT value FROM json_each(?))");
        values.push(Box::new(number_list(states.iter().map(|state| state.code()))));
    }
    if let Some(actor) = &filter.actor {
        wanted.push("r.actor = ?");
        values.push(Box::new(actor.clone()));
    }
    (wanted, values)
}

/// The first runs behind a place that have a job of a component, or are rooted at it, and match the
/// rest of the filter. Of each run one entry of an index is read, however many jobs it has.
pub(super) fn runs_of_component(
    sql: Sql<'_>,
    component: &Address,
    filter: &RunFilter,
    after: &After<RunId>,
) -> Result<Vec<i64>> {
    let (behind, order) = direction(after.newest_first);
    let next = if after.newest_first { "max" } else { "min" };
    let from = place(after.last.map(|id| id.0), after.newest_first);
    let mut found = Vec::new();
    for id in named(sql, component)? {
        let (mut wanted, of_filter) = run_conditions(filter);
        wanted.push("1");
        let wanted = wanted.join(" AND ");
        let of_jobs = format!(
            "WITH RECURSIVE h (id) AS ( \
                SELECT {next}(run) FROM job INDEXED BY job_component_run WHERE component = ?1 AND run {behind} ?2 \
                UNION ALL SELECT (SELECT {next}(j.run) FROM job j INDEXED BY job_component_run \
                    WHERE j.component = ?1 AND j.run {behind} h.id) FROM h WHERE h.id IS NOT NULL) \
            SELECT r.id FROM h CROSS JOIN run r ON r.id = h.id WHERE {wanted} LIMIT ?3"
        );
        let rooted = format!(
            "SELECT r.id FROM run r INDEXED BY run_root WHERE r.root = ?1 AND r.id {behind} ?2 AND {wanted} ORDER BY r.id {order} LIMIT ?3"
        );
        // The numbered values come first; those of the filter follow them.
        let own: [Box<dyn ToSql>; 3] = [Box::new(id), Box::new(from), Box::new(limit(after.limit))];
        let values: Vec<Box<dyn ToSql>> = own.into_iter().chain(of_filter).collect();
        let values: Vec<&dyn ToSql> = values.iter().map(|value| &**value).collect();
        for query in [of_jobs, rooted] {
            let query = numbered(&query);
            found.extend(sql.query(
                "find the runs of a component",
                &query,
                &values[..],
                |row| row.get::<_, i64>(0),
            )?);
        }
    }
    found.sort_unstable();
    found.dedup();
    if after.newest_first {
        found.reverse();
    }
    found.truncate(after.limit);
    Ok(found)
}

/// The values without a number get the numbers from 4 on, wherever they stand.
fn numbered(query: &str) -> String {
    let mut text = String::with_capacity(query.len() + 8);
    let (mut next, mut rest) = (4, query);
    while let Some(at) = rest.find('?') {
        let (head, tail) = rest.split_at(at + 1);
        text.push_str(head);
        if !tail.starts_with(|c: char| c.is_ascii_digit()) {
            text.push_str(&next.to_string());
            next += 1;
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// The columns of a run without its data, for [`run_row`].
pub(super) const RUN: &str = "c.kind, c.identifier, r.root_version, r.root_revision, r.id, r.purpose, r.state, r.created_at, r.ended_at, \
    r.actor, r.origin, r.note";

/// A run from the columns of [`RUN`], without its data.
pub(super) fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let actor = match text(row, 9)? {
        Some(name) => Some(Actor { name, origin: text(row, 10)?, note: text(row, 11)? }),
        None => None,
    };
    Ok(RunRow {
        id: RunId(row.get(4)?),
        purpose: RunPurpose::of(row.get(5)?),
        root: address(row, 0)?,
        state: RunState::of(row.get(6)?),
        data: serde_json::Value::Null,
        actor,
        created_at: Timestamp(row.get(7)?),
        ended_at: optional_time(row, 8)?,
    })
}

pub(crate) fn run_lines(
    sql: Sql<'_>,
    filter: &RunFilter,
    after: &After<RunId>,
) -> Result<Vec<RunLine>> {
    let (mut wanted, mut values) = run_conditions(filter);
    if let Some(component) = &filter.component {
        let found = runs_of_component(sql, component, filter, after)?;
        wanted.push("r.id IN (SELECT value FROM json_each(?))");
        values.push(Box::new(number_list(found)));
    }
    let (_, order) = direction(after.newest_first);
    wanted.push(if after.newest_first { "r.id < ?" } else { "r.id > ?" });
    values.push(Box::new(place(after.last.map(|id| id.0), after.newest_first)));
    values.push(Box::new(limit(after.limit)));
    let query = format!(
        "SELECT {RUN}, r.jobs FROM run r CROSS JOIN component c ON c.id = r.root WHERE {} ORDER BY r.id {order} LIMIT ?",
        wanted.join(" AND ")
    );
    let rows =
        sql.query("read a page of runs", &query, rusqlite::params_from_iter(values), |row| {
            Ok((run_row(row)?, text(row, 12)?))
        })?;
    let kept: Vec<(RunRow, Option<JobCounts>)> =
        rows.into_iter().map(|(row, jobs)| (row, jobs.as_deref().and_then(counts_of))).collect();
    let open = kept.iter().filter(|(_, counts)| counts.is_none()).map(|(row, _)| row.id.0);
    let mut counted = count_jobs(sql, &number_list(open))?;
    Ok(kept
        .into_iter()
        .map(|(row, counts)| {
            let counts = counts.or_else(|| counted.remove(&row.id.0)).unwrap_or_default();
            RunLine::of(&row, counts)
        })
        .collect())
}

/// What the column `jobs` of a run holds: how many jobs there are in each state, by its code.
fn counts_of(text: &str) -> Option<JobCounts> {
    let Ok(numbers) = serde_json::from_str::<Vec<u64>>(text) else { return None };
    let mut counts = JobCounts::new();
    for (code, jobs) in (0..).zip(numbers) {
        counts.add(JobState::of(code), jobs);
    }
    Some(counts)
}

/// The jobs of runs by state, counted.
fn count_jobs(sql: Sql<'_>, runs: &str) -> Result<HashMap<i64, JobCounts>> {
    let mut counted: HashMap<i64, JobCounts> = HashMap::new();
    if runs == "[]" {
        return Ok(counted);
    }
    let query = "SELECT j.run, j.state, count(*) FROM json_each(?1) k CROSS JOIN job j INDEXED BY job_run ON j.run = k.value GROUP BY 1, 2";
    let rows = sql.query("count the jobs of runs", query, [runs], |row| {
        Ok((row.get::<_, i64>(0)?, JobState::of(row.get(1)?), row.get::<_, i64>(2)?))
    })?;
    for (run, state, jobs) in rows {
        counted.entry(run).or_default().add(state, u64::try_from(jobs).unwrap_or(0));
    }
    Ok(counted)
}

pub(crate) fn pool_places(sql: Sql<'_>, pool: &str) -> Result<Vec<PoolPlace>> {
    let query = "SELECT job, attempt, owner FROM pool_place WHERE pool = ?1 ORDER BY job, attempt";
    sql.query("read the places of a pool", query, [pool], |row| {
        let attempt = optional_number(row, 1)?.unwrap_or(0);
        Ok(PoolPlace::new(JobId(row.get(0)?), attempt, WorkerId(row.get(2)?)))
    })
}
