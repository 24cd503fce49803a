//! Jobs, their order and their attempts.

use crate::{
    codec::{Code, address, address_list, failure, json_or_mark, number, number_list, optional_json, optional_time, signals, text},
    sql::Sql,
};
use rusqlite::{Row, ToSql};
use superduper_core::{
    Address, Error, Result,
    store::{
        AttemptRow, BlockedUntil, ChangeCursor, ComponentId, JobBrief, JobDependency, JobFilter, JobId, JobRole, JobRow, JobState,
        OutputWriter, RunChanges, RunFilter, RunId, StoredVersion, Timestamp, WorkerId,
    },
};

const BRIEF: &str = "c.kind, c.identifier, j.version, j.revision, j.id, j.run, j.role, j.method, j.state, j.failure, j.key";

fn brief(row: &Row<'_>) -> rusqlite::Result<JobBrief> {
    Ok(JobBrief {
        id: JobId(row.get(4)?),
        run: RunId(row.get(5)?),
        target: address(row, 0)?,
        role: JobRole::of(row.get(6)?),
        method: text(row, 7)?.unwrap_or_default(),
        state: JobState::of(row.get(8)?),
        failure: failure(row, 9)?,
        key: text(row, 10)?,
    })
}

/// The newest job of each trigger or hook of some versions, and the spawned ones that did not succeed.
pub(super) fn newest_jobs(sql: Sql<'_>, versions: &[StoredVersion]) -> Result<Vec<JobBrief>> {
    let keys: Vec<(i64, u32)> = versions.iter().map(|version| (version.component.0, version.version())).collect();
    let keys = serde_json::to_string(&keys).map_err(|error| Error::internal("list versions").with_source(error))?;
    let query = format!(
        "SELECT {BRIEF} FROM job j JOIN component c ON c.id = j.component WHERE j.id IN ( \
            SELECT max(o.id) FROM json_each(?1) k CROSS JOIN job o ON o.component = k.value ->> 0 AND o.version = k.value ->> 1 \
            WHERE o.key IS NULL GROUP BY o.component, o.version, o.role, o.method \
            UNION ALL SELECT o.id FROM json_each(?1) k CROSS JOIN job o INDEXED BY job_unsucceeded \
            ON o.component = k.value ->> 0 AND o.version = k.value ->> 1 WHERE o.succeeded = 0 AND o.key IS NOT NULL AND (o.tolerated = 0 OR o.state < 3) \
            AND NOT EXISTS (SELECT 1 FROM job n WHERE n.retry_of = o.id)) ORDER BY j.id"
    );
    sql.query("read the newest jobs of components", &query, [keys], brief)
}

/// That a job `j` which did not succeed is the newest of its trigger or hook; of a spawned one that it was not tried again.
const UNHEALTHY: &str = "NOT EXISTS (SELECT 1 FROM job o WHERE o.component = j.component AND o.version = j.version \
    AND o.role = j.role AND o.method = j.method AND o.key IS NULL AND j.key IS NULL AND o.id > j.id) \
    AND (j.key IS NULL OR j.tolerated = 0 AND NOT EXISTS (SELECT 1 FROM job n WHERE n.retry_of = j.id))";

pub(crate) fn unhealthy(sql: Sql<'_>) -> Result<Vec<JobBrief>> {
    let query = format!(
        "SELECT {BRIEF} FROM job j INDEXED BY job_unsucceeded \
        CROSS JOIN component c ON c.id = j.component AND c.newest = j.version AND c.removed = 0 \
        WHERE j.succeeded = 0 AND {UNHEALTHY} ORDER BY j.id"
    );
    sql.query("read jobs that did not succeed", &query, [], brief)
}

/// The jobs of [`unhealthy`] that belong to a component or to what its newest version holds, each child in the version that is held.
pub(crate) fn unhealthy_below(sql: Sql<'_>, address: &Address) -> Result<Vec<JobBrief>> {
    let query = format!(
        "WITH RECURSIVE below (id, version) AS ( \
            SELECT id, newest FROM component WHERE kind = ?1 AND identifier = ?2 AND removed = 0 UNION \
            SELECT e.child, e.child_version FROM below JOIN component p ON p.id = below.id AND p.newest = below.version \
            JOIN version v ON v.component = p.id AND v.number = p.newest \
            JOIN edge e ON e.component = v.component AND e.version = v.number AND e.revision = v.revision) \
        SELECT {BRIEF} FROM below CROSS JOIN component c ON c.id = below.id AND c.newest = below.version AND c.removed = 0 \
        CROSS JOIN job j INDEXED BY job_unsucceeded ON j.component = c.id AND j.version = c.newest \
        WHERE j.succeeded = 0 AND {UNHEALTHY} ORDER BY j.id"
    );
    sql.query("read the jobs of a component that did not succeed", &query, (&address.kind, &address.identifier), brief)
}

/// The jobs that set outputs of components: each run that has a job of one of them is read once.
pub(crate) fn output_writers(sql: Sql<'_>, addresses: &[Address]) -> Result<Vec<OutputWriter>> {
    let query = "WITH asked AS (SELECT c.id FROM json_each(?1) k JOIN component c \
            ON c.kind = k.value ->> 0 AND c.identifier = k.value ->> 1 AND c.removed = 0), \
        held AS (SELECT j.run FROM asked CROSS JOIN job j ON j.component = asked.id AND j.key IS NULL \
            UNION SELECT j.run FROM asked CROSS JOIN job j ON j.component = asked.id AND j.key IS NOT NULL) \
        SELECT c.kind, c.identifier, j.version, j.revision, j.id, j.role, j.method, j.key, e.detail \
        FROM held CROSS JOIN event e ON e.run = held.run CROSS JOIN job j ON j.id = e.job CROSS JOIN component c ON c.id = j.component \
        WHERE e.kind = ?2 AND e.detail IS NOT NULL AND j.component IN (SELECT id FROM asked) ORDER BY e.seq";
    sql.query("read the jobs that set outputs", query, (address_list(addresses.iter()), "job.succeeded".code()), |row| {
        Ok(OutputWriter {
            job: JobId(row.get(4)?),
            target: address(row, 0)?,
            role: JobRole::of(row.get(5)?),
            method: text(row, 6)?.unwrap_or_default(),
            key: text(row, 7)?,
            outputs: text(row, 8)?.unwrap_or_default().split(", ").map(str::to_owned).collect(),
        })
    })
}

pub(crate) fn jobs(sql: Sql<'_>, filter: &JobFilter) -> Result<Vec<JobRow>> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(ids) = &filter.ids {
        conditions.push("j.id IN (SELECT value FROM json_each(?))".to_owned());
        values.push(Box::new(number_list(ids.iter().map(|id| id.0))));
    }
    if let Some(run) = filter.run {
        conditions.push("j.run = ?".to_owned());
        values.push(Box::new(run.0));
    }
    if let Some(target) = &filter.target {
        // Both halves have an index of their own.
        let of = "j.component IN (SELECT id FROM component WHERE kind = ? AND identifier = ?)";
        conditions.push(format!("({of} AND j.key IS NULL OR {of} AND j.key IS NOT NULL)"));
        for _ in 0..2 {
            values.push(Box::new(target.kind.clone()));
            values.push(Box::new(target.identifier.clone()));
        }
        if let Some(at) = target.version {
            conditions.push("j.version = ?".to_owned());
            values.push(Box::new(at.version));
        }
    }
    if let Some(roles) = &filter.roles {
        conditions.push("j.role IN (SELECT value FROM json_each(?))".to_owned());
        values.push(Box::new(number_list(roles.iter().map(|role| role.code()))));
    }
    if let Some(key) = &filter.key {
        conditions.push("j.key = ?".to_owned());
        values.push(Box::new(key.clone()));
    }
    let mut index = "";
    if let Some(states) = &filter.states {
        conditions.push("j.state IN (SELECT value FROM json_each(?))".to_owned());
        values.push(Box::new(number_list(states.iter().map(|state| state.code()))));
        if conditions.len() == 1 && !states.contains(&JobState::Succeeded) {
            conditions.push("j.succeeded = 0".to_owned());
            index = "INDEXED BY job_unsucceeded";
        }
    }
    values.push(Box::new(filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))));
    let condition = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let query = format!(
        "SELECT c.kind, c.identifier, j.version, j.revision, j.id, j.run, j.component, j.role, j.method, j.key, j.retry_of, j.state, \
            j.blocked, j.attempt, j.tries, j.lost, j.owner, j.cancel_requested, j.executor, j.retries, j.backoff_ms, j.timeout_ms, \
            j.not_before, j.progress_done, j.progress_total, j.result, j.failure, j.created_at, j.started_at, j.ended_at, \
            j.input, j.tolerated, j.blocked_since, j.blocked_until \
        FROM job j {index} CROSS JOIN component c ON c.id = j.component WHERE {condition} ORDER BY j.id DESC LIMIT ?"
    );
    let values = rusqlite::params_from_iter(values);
    let mut jobs = sql.query("read jobs", &query, values, job)?;
    jobs.reverse();
    Ok(jobs)
}

fn job(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let unsigned =
        |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.and_then(|number| u64::try_from(number).ok()));
    let state = JobState::of(row.get(11)?);
    let signals = signals(row.get(17)?);
    Ok(JobRow {
        id: JobId(row.get(4)?),
        run: RunId(row.get(5)?),
        component: ComponentId(row.get(6)?),
        target: address(row, 0)?,
        role: JobRole::of(row.get(7)?),
        method: text(row, 8)?.unwrap_or_default(),
        key: text(row, 9)?,
        retry_of: row.get::<_, Option<i64>>(10)?.map(JobId),
        state,
        blocked: text(row, 12)?,
        blocked_until: optional_time(row, 32)?.zip(optional_time(row, 33)?).map(|(since, until)| BlockedUntil { since, until }),
        attempt: number(row, 13)?,
        tries: number(row, 14)?,
        lost: number(row, 15)?,
        owner: row.get::<_, Option<i64>>(16)?.map(WorkerId),
        cancel_requested: signals.cancel,
        stop_requested: signals.stop,
        pause_requested: signals.pause,
        executor: text(row, 18)?,
        retries: number(row, 19)?,
        backoff_ms: unsigned(20)?.unwrap_or(0),
        timeout_ms: unsigned(21)?,
        not_before: optional_time(row, 22)?,
        input: optional_json(row, 30)?,
        tolerated: row.get(31)?,
        progress: unsigned(23)?.zip(unsigned(24)?),
        result: (state == JobState::Succeeded).then(|| json_or_mark(row, 25)).transpose()?,
        failure: failure(row, 26)?,
        created_at: Timestamp(row.get(27)?),
        started_at: optional_time(row, 28)?,
        ended_at: optional_time(row, 29)?,
    })
}

pub(crate) fn dependencies(sql: Sql<'_>, run: RunId) -> Result<Vec<JobDependency>> {
    let query = "SELECT d.job, d.needs, d.parameter, d.any_end FROM job j CROSS JOIN job_dependency d ON d.job = j.id WHERE j.run = ?1 \
        ORDER BY d.job, d.needs";
    sql.query("read the order of jobs", query, [run.0], dependency)
}

/// What changed in a run since a place in its changes.
pub(crate) fn changes(sql: Sql<'_>, run: RunId, after: ChangeCursor) -> Result<Option<RunChanges>> {
    let Some(row) = super::runs(sql, &RunFilter { id: Some(run), ..RunFilter::default() })?.pop() else { return Ok(None) };
    let query = "SELECT coalesce((SELECT max(seq) FROM event), 0), coalesce((SELECT max(seq) FROM job_change), 0), \
        coalesce((SELECT max(id) FROM job), 0)";
    let cursor = sql.query_first("read the newest changes", query, [], |row| {
        // Rows go with the end of their run.
        let silent = row.get::<_, i64>(1)?.max(after.silent);
        Ok(ChangeCursor { event: row.get(0)?, silent, job: row.get(2)? })
    })?;
    let cursor = cursor.unwrap_or_default();
    if after == ChangeCursor::default() {
        let jobs = jobs(sql, &JobFilter { run: Some(run), ..JobFilter::default() })?;
        return Ok(Some(RunChanges { run: row, jobs, dependencies: dependencies(sql, run)?, cursor }));
    }
    let query = "SELECT job FROM event WHERE run = ?1 AND seq > ?2 AND job IS NOT NULL \
        UNION SELECT j.value FROM job_change c CROSS JOIN json_each(c.jobs) j WHERE c.run = ?1 AND c.seq > ?3 \
        UNION SELECT id FROM job WHERE run = ?1 AND id > ?4";
    let changed = sql.query("read which jobs changed", query, (run.0, after.event, after.silent, after.job), |row| row.get::<_, i64>(0))?;
    if changed.is_empty() {
        return Ok(Some(RunChanges { run: row, jobs: Vec::new(), dependencies: Vec::new(), cursor }));
    }
    let query = "SELECT d.job, d.needs, d.parameter, d.any_end FROM json_each(?1) j CROSS JOIN job_dependency d ON d.job = j.value ORDER BY d.job, d.needs";
    let dependencies = sql.query("read the order of jobs", query, [number_list(changed.iter().copied())], dependency)?;
    let ids = Some(changed.into_iter().map(JobId).collect());
    Ok(Some(RunChanges { run: row, jobs: jobs(sql, &JobFilter { ids, ..JobFilter::default() })?, dependencies, cursor }))
}

fn dependency(row: &Row<'_>) -> rusqlite::Result<JobDependency> {
    Ok(JobDependency { job: JobId(row.get(0)?), needs: JobId(row.get(1)?), parameter: text(row, 2)?, any_end: row.get(3)? })
}

/// What a job waits for, and what waits for it.
pub(crate) fn edges(sql: Sql<'_>, job: JobId) -> Result<(Vec<JobDependency>, Vec<JobDependency>)> {
    let of = |column: &str| {
        let query = format!("SELECT job, needs, parameter, any_end FROM job_dependency WHERE {column} = ?1 ORDER BY job, needs");
        sql.query("read what a job waits for", &query, [job.0], dependency)
    };
    Ok((of("job")?, of("needs")?))
}

pub(crate) fn attempts(sql: Sql<'_>, job: JobId) -> Result<Vec<AttemptRow>> {
    let query = "SELECT number, started_at, ended_at, failure FROM attempt WHERE job = ?1 UNION ALL \
        SELECT attempt, started_at, ended_at, failure FROM job WHERE id = ?1 AND state > 2 AND phase IN (2, 3) ORDER BY 1";
    sql.query("read the attempts of a job", query, [job.0], |row| {
        let ended_at = optional_time(row, 2)?.unwrap_or(Timestamp(0));
        Ok(AttemptRow { job, number: number(row, 0)?, started_at: optional_time(row, 1)?, ended_at, failure: failure(row, 3)? })
    })
}

/// The owners that hold a job, ascending.
pub(crate) fn owners_of_taken_jobs(sql: Sql<'_>) -> Result<Vec<WorkerId>> {
    let query = "SELECT DISTINCT owner FROM job INDEXED BY job_unsucceeded WHERE succeeded = 0 AND owner IS NOT NULL ORDER BY owner";
    let mut owners: Vec<WorkerId> = sql.query("read the owners of jobs", query, [], |row| Ok(WorkerId(row.get(0)?)))?;
    let query = "SELECT DISTINCT owner FROM pool_place";
    owners.extend(sql.query("read the owners of places", query, [], |row| Ok(WorkerId(row.get(0)?)))?);
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}
