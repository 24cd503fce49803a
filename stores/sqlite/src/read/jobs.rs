//! Jobs, their order and their attempts.

use crate::{
    codec::{
        Code, address, address_list, failure, json_or_mark, number, number_list, optional_json,
        optional_time, signals, text,
    },
    sql::Sql,
};
use rusqlite::{Row, ToSql};
use std::collections::HashMap;
use superduper_core::{
    Address, Error, Result,
    store::{
        AttemptRow, BlockedUntil, ChangeCursor, ComponentHealth, ComponentId, JobBrief,
        JobDependency, JobFilter, JobId, JobRole, JobRow, JobState, OutputWriter, RunChanges,
        RunFilter, RunId, StoredVersion, Timestamp, WorkerId,
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

/// The newest job of each trigger or hook of some versions, and the spawned ones that did not
/// succeed.
pub(super) fn newest_jobs(sql: Sql<'_>, versions: &[StoredVersion]) -> Result<Vec<JobBrief>> {
    let keys: Vec<(i64, u32)> =
        versions.iter().map(|version| (version.component.0, version.version())).collect();
    let keys = serde_json::to_string(&keys)
        .map_err(|error| Error::internal("list versions").with_source(error))?;
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

/// That a job `j` which did not succeed is the newest of its trigger or hook; of a spawned one that
/// it was not tried again.
pub(super) const UNHEALTHY: &str = "NOT EXISTS (SELECT 1 FROM job o WHERE o.component = j.component AND o.version = j.version \
    AND o.role = j.role AND o.method = j.method AND o.key IS NULL AND j.key IS NULL AND o.id > j.id) \
    AND (j.key IS NULL OR (j.tolerated = 0 OR j.state < 3) AND NOT EXISTS (SELECT 1 FROM job n WHERE n.retry_of = j.id))";

pub(crate) fn unhealthy(sql: Sql<'_>) -> Result<Vec<JobBrief>> {
    let query = format!(
        "SELECT {BRIEF} FROM job j INDEXED BY job_unsucceeded \
        CROSS JOIN component c ON c.id = j.component AND c.newest = j.version AND c.removed = 0 \
        WHERE j.succeeded = 0 AND {UNHEALTHY} ORDER BY j.id"
    );
    sql.query("read jobs that did not succeed", &query, [], brief)
}

/// The components of a list `k`, each with all that its newest version holds, each child in the
/// version that is held. `of` says which component `c` belongs to an entry of the list.
pub(super) fn below(of: &str) -> String {
    format!(
        "WITH RECURSIVE below (root, id, version) AS ( \
            SELECT c.id, c.id, c.newest FROM json_each(?1) k CROSS JOIN component c ON {of} UNION \
            SELECT below.root, e.child, e.child_version FROM below JOIN component p ON p.id = below.id AND p.newest = below.version \
            JOIN version v INDEXED BY version_key ON v.component = p.id AND v.number = p.newest \
            JOIN edge e ON e.component = v.component AND e.version = v.number AND e.revision = v.revision)"
    )
}

/// The lines of components in the listing, each with those jobs of [`unhealthy`] that belong to it
/// or to what its newest version holds.
pub(crate) fn health_of(
    sql: Sql<'_>,
    addresses: &[Address],
) -> Result<Vec<Option<ComponentHealth>>> {
    let list = address_list(addresses.iter());
    let mut of: HashMap<i64, ComponentHealth> = super::list_of(sql, &list)?
        .into_iter()
        .map(|listed| (listed.component.0, ComponentHealth { listed, unhealthy: Vec::new() }))
        .collect();
    if !of.is_empty() {
        let query = format!(
            "{} SELECT {BRIEF}, below.root FROM below CROSS JOIN component c ON c.id = below.id AND c.newest = below.version AND c.removed = 0 \
            CROSS JOIN job j INDEXED BY job_unsucceeded ON j.component = c.id AND j.version = c.newest \
            WHERE j.succeeded = 0 AND {UNHEALTHY} ORDER BY j.id",
            below("c.kind = k.value ->> 0 AND c.identifier = k.value ->> 1 AND c.removed = 0")
        );
        let what = "read the jobs of components that did not succeed";
        let jobs =
            sql.query(what, &query, [list], |row| Ok((row.get::<_, i64>(11)?, brief(row)?)))?;
        for (root, job) in jobs {
            if let Some(health) = of.get_mut(&root) {
                health.unhealthy.push(job);
            }
        }
    }
    let by_path: HashMap<String, ComponentHealth> =
        of.into_values().map(|health| (health.listed.address.path(), health)).collect();
    Ok(addresses.iter().map(|address| by_path.get(&address.path()).cloned()).collect())
}

/// The jobs that set outputs of components: each run that has a job of one of them is read once.
pub(crate) fn output_writers(sql: Sql<'_>, addresses: &[Address]) -> Result<Vec<OutputWriter>> {
    let query = "WITH asked AS (SELECT c.id FROM json_each(?1) k JOIN component c \
            ON c.kind = k.value ->> 0 AND c.identifier = k.value ->> 1 AND c.removed = 0), \
        held AS (SELECT DISTINCT j.run FROM asked CROSS JOIN job j INDEXED BY job_component_run ON j.component = asked.id) \
        SELECT c.kind, c.identifier, j.version, j.revision, j.id, j.role, j.method, j.key, e.detail \
        FROM held CROSS JOIN event e ON e.run = held.run CROSS JOIN job j ON j.id = e.job CROSS JOIN component c ON c.id = j.component \
        WHERE e.kind = ?2 AND e.detail IS NOT NULL AND j.component IN (SELECT id FROM asked) ORDER BY e.seq";
    sql.query(
        "read the jobs that set outputs",
        query,
        (address_list(addresses.iter()), "job.succeeded".code()),
        |row| {
            Ok(OutputWriter {
                job: JobId(row.get(4)?),
                target: address(row, 0)?,
                role: JobRole::of(row.get(5)?),
                method: text(row, 6)?.unwrap_or_default(),
                key: text(row, 7)?,
                outputs: text(row, 8)?.unwrap_or_default().split(", ").map(str::to_owned).collect(),
            })
        },
    )
}

/// Conditions, and the values of their places in order.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) wanted: Vec<String>,
    pub(super) values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    pub(super) fn add(&mut self, text: impl Into<String>, value: impl ToSql + 'static) {
        self.wanted.push(text.into());
        self.values.push(Box::new(value));
    }
}

/// The conditions of a filter on jobs `j` and their components `c`. `components`: those of the
/// target, where they are known.
pub(super) fn conditions(filter: &JobFilter, components: Option<&[i64]>) -> Conditions {
    let mut found = Conditions::default();
    if let Some(ids) = &filter.ids {
        let list = number_list(ids.iter().map(|id| id.0));
        found.add("j.id IN (SELECT value FROM json_each(?))", list);
    }
    if let Some(run) = filter.run {
        found.add("j.run = ?", run.0);
    }
    if let Some(target) = &filter.target {
        of_target(target, components, &mut found);
    }
    if let Some(roles) = &filter.roles {
        let list = number_list(roles.iter().map(|role| role.code()));
        found.add("j.role IN (SELECT value FROM json_each(?))", list);
    }
    if let Some(key) = &filter.key {
        found.add("j.key = ?", key.clone());
    }
    if let Some(states) = &filter.states {
        let list = number_list(states.iter().map(|state| state.code()));
        found.add("j.state IN (SELECT value FROM json_each(?))", list);
    }
    if let Some(kind) = &filter.kind {
        found.add("c.kind = ?", kind.clone());
    }
    if let Some(method) = &filter.method {
        found.add("j.method = ?", method.clone());
    }
    if let Some(pool) = &filter.pool {
        let of = "CASE WHEN json_valid(j.executor) THEN j.executor ->> '$.pool[0]' END = ?";
        found.add(of, pool.clone());
    }
    if let Some(owner) = filter.owner {
        found.add("j.owner = ?", owner.0);
    }
    found
}

fn of_target(target: &Address, components: Option<&[i64]>, found: &mut Conditions) {
    let name = address_list(std::iter::once(target));
    let of = "j.component IN (SELECT n.id FROM json_each(?) k CROSS JOIN component n \
        ON n.kind = k.value ->> 0 AND n.identifier = k.value ->> 1)";
    match components {
        // The jobs of one component are read in the order of their ids.
        Some([one]) => found.add("j.component = ?", *one),
        // Both halves have an index of their own that finds the jobs of a version.
        None if target.version.is_some() => {
            let halves = format!("({of} AND j.key IS NULL OR {of} AND j.key IS NOT NULL)");
            found.add(halves, name.clone());
            found.values.push(Box::new(name));
        }
        _ => found.add(of, name),
    }
    if let Some(at) = target.version {
        found.add("j.version = ?", at.version);
    }
}

pub(crate) fn jobs(sql: Sql<'_>, filter: &JobFilter) -> Result<Vec<JobRow>> {
    let Conditions { mut wanted, mut values } = conditions(filter, None);
    let is_by_state = wanted.len() == 1
        && filter.states.as_ref().is_some_and(|states| !states.contains(&JobState::Succeeded));
    let mut index = "";
    if is_by_state {
        wanted.push("j.succeeded = 0".to_owned());
        index = "INDEXED BY job_unsucceeded";
    }
    values
        .push(Box::new(filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))));
    let condition = if wanted.is_empty() { "1".to_owned() } else { wanted.join(" AND ") };
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
    let unsigned = |column: usize| {
        Ok::<_, rusqlite::Error>(
            row.get::<_, Option<i64>>(column)?.and_then(|number| u64::try_from(number).ok()),
        )
    };
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
        blocked_at: optional_time(row, 32)?,
        blocked_until: optional_time(row, 32)?
            .zip(optional_time(row, 33)?)
            .map(|(since, until)| BlockedUntil { since, until }),
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
    let Some(row) = super::runs(sql, &RunFilter { id: Some(run), ..RunFilter::default() })?.pop()
    else {
        return Ok(None);
    };
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
        return Ok(Some(RunChanges {
            run: row,
            jobs,
            dependencies: dependencies(sql, run)?,
            cursor,
        }));
    }
    let query = "SELECT job FROM event WHERE run = ?1 AND seq > ?2 AND job IS NOT NULL AND kind <> ?5 \
        UNION SELECT j.value FROM job_change c CROSS JOIN json_each(c.jobs) j WHERE c.run = ?1 AND c.seq > ?3 \
        UNION SELECT id FROM job WHERE run = ?1 AND id > ?4";
    let changed = sql.query(
        "read which jobs changed",
        query,
        (run.0, after.event, after.silent, after.job, "job.progressed".code()),
        |row| row.get::<_, i64>(0),
    )?;
    if changed.is_empty() {
        return Ok(Some(RunChanges {
            run: row,
            jobs: Vec::new(),
            dependencies: Vec::new(),
            cursor,
        }));
    }
    let query = "SELECT d.job, d.needs, d.parameter, d.any_end FROM json_each(?1) j CROSS JOIN job_dependency d ON d.job = j.value ORDER BY d.job, d.needs";
    let dependencies = sql.query(
        "read the order of jobs",
        query,
        [number_list(changed.iter().copied())],
        dependency,
    )?;
    let ids = Some(changed.into_iter().map(JobId).collect());
    Ok(Some(RunChanges {
        run: row,
        jobs: jobs(sql, &JobFilter { ids, ..JobFilter::default() })?,
        dependencies,
        cursor,
    }))
}

fn dependency(row: &Row<'_>) -> rusqlite::Result<JobDependency> {
    Ok(JobDependency {
        job: JobId(row.get(0)?),
        needs: JobId(row.get(1)?),
        parameter: text(row, 2)?,
        any_end: row.get(3)?,
    })
}

/// What a job waits for, and what waits for it.
pub(crate) fn edges(sql: Sql<'_>, job: JobId) -> Result<(Vec<JobDependency>, Vec<JobDependency>)> {
    let of = |column: &str| {
        let query = format!(
            "SELECT job, needs, parameter, any_end FROM job_dependency WHERE {column} = ?1 ORDER BY job, needs"
        );
        sql.query("read what a job waits for", &query, [job.0], dependency)
    };
    Ok((of("job")?, of("needs")?))
}

pub(crate) fn attempts(sql: Sql<'_>, job: JobId) -> Result<Vec<AttemptRow>> {
    let query = "SELECT number, started_at, ended_at, failure FROM attempt WHERE job = ?1 UNION ALL \
        SELECT attempt, started_at, ended_at, failure FROM job WHERE id = ?1 AND state > 2 AND phase IN (2, 3) ORDER BY 1";
    sql.query("read the attempts of a job", query, [job.0], |row| {
        let ended_at = optional_time(row, 2)?.unwrap_or(Timestamp(0));
        Ok(AttemptRow {
            job,
            number: number(row, 0)?,
            started_at: optional_time(row, 1)?,
            ended_at,
            failure: failure(row, 3)?,
        })
    })
}

/// The owners that hold a job, ascending.
pub(crate) fn owners_of_taken_jobs(sql: Sql<'_>) -> Result<Vec<WorkerId>> {
    let query = "SELECT DISTINCT owner FROM job INDEXED BY job_unsucceeded WHERE succeeded = 0 AND owner IS NOT NULL ORDER BY owner";
    let mut owners: Vec<WorkerId> =
        sql.query("read the owners of jobs", query, [], |row| Ok(WorkerId(row.get(0)?)))?;
    let query = "SELECT DISTINCT owner FROM pool_place";
    owners.extend(
        sql.query("read the owners of places", query, [], |row| Ok(WorkerId(row.get(0)?)))?,
    );
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}
