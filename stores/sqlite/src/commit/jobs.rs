//! Recording jobs and taking them.
//!
//! Invariant: the ids of jobs recorded together are consecutive, and a key names one job of its
//! run.

use super::{Commit, Of};
use crate::codec::{Code, asked, json_text, number, number_list, signals, signed};
use std::{borrow::Cow, collections::HashMap};
use superduper_core::{
    Address, Error, Result,
    store::{
        Claimed, JobId, JobRef, JobRole, JobState, NewJob, Pool, Timestamp, WorkerId, being_removed,
    },
};

/// A job that has no row yet.
struct NewRow<'b> {
    job: &'b NewJob,
    target: (i64, u32, u32),
    /// What is asked of it from the beginning.
    asked: i64,
    /// The owner that claims the job; `None` if its pool is full.
    owner: Option<WorkerId>,
}

impl NewRow<'_> {
    fn owner(&self) -> Option<i64> {
        self.owner.map(|owner| owner.0)
    }
}

impl<'b> Commit<'_, 'b> {
    /// Refuse jobs that would make use of a version that is being removed.
    pub(super) fn refuse_jobs_of_removed(&self, jobs: &[NewJob]) -> Result<()> {
        match jobs.iter().find(|job| job.role != JobRole::Cleanup && self.is_going(job)) {
            Some(job) => {
                Err(being_removed(&job.target.at(job.target.version.map_or(0, |at| at.version))))
            }
            None => Ok(()),
        }
    }

    fn is_going(&self, job: &NewJob) -> bool {
        job.target.version.is_some_and(|at| self.known.is_being_removed(&job.target, at.version))
    }

    /// Record jobs, with what is asked of them; the answer has an old id where the key is known
    /// already.
    pub(super) fn insert_jobs(
        &mut self,
        run: i64,
        jobs: &'b [NewJob],
        asked: i64,
    ) -> Result<Vec<JobId>> {
        let mut keys = self.known_keys(run, jobs)?;
        let mut rows: Vec<NewRow<'b>> = Vec::with_capacity(jobs.len());
        // The place of each job among the new rows, or the id that its key has.
        let mut places: Vec<Result<usize, i64>> = Vec::with_capacity(jobs.len());
        let mut last: Option<(&Address, (i64, u32, u32))> = None;
        for job in jobs {
            if let Some(known) = job.key.as_deref().and_then(|key| keys.get(key)) {
                self.done.known.extend(known.err().map(JobId));
                places.push(*known);
                continue;
            }
            if let Some(key) = &job.key {
                keys.insert(key, Ok(rows.len()));
            }
            let target = match last {
                Some((address, target)) if *address == job.target => target,
                _ => self.target(job)?,
            };
            last = Some((&job.target, target));
            places.push(Ok(rows.len()));
            let asked = if job.role != JobRole::Cleanup && self.is_going(job) {
                asked | asked::CANCEL
            } else {
                asked
            };
            let owner = job.claim.filter(|_| job.blocked.is_none());
            rows.push(NewRow { job, target, asked, owner });
        }
        self.limit_claims(&mut rows)?;
        self.write_jobs(run, &rows)?;
        let first = self.sql.connection.last_insert_rowid() + 1 - rows.len() as i64;
        let id =
            |place: &Result<usize, i64>| place.map_or_else(|id| id, |place| first + place as i64);
        let ids: Vec<JobId> = places.iter().map(|place| JobId(id(place))).collect();
        self.write_dependencies(first, &rows, &ids)?;
        self.tell_inserted(run, first, &rows)?;
        Ok(ids)
    }

    /// Write the event that tells all new jobs, and those of jobs that are not merely queued; take
    /// the places of those that are claimed.
    fn tell_inserted(&mut self, run: i64, first: i64, rows: &[NewRow<'b>]) -> Result<()> {
        if let Some(row) = rows.first() {
            let added: Vec<JobId> = (first..).take(rows.len()).map(JobId).collect();
            self.event_of(row.job.at, run, "job.added", &added, None);
        }
        for (row, id) in rows.iter().zip(first..) {
            let of = Of::Job { run, job: id };
            if let (Some(owner), Some(pool)) = (row.owner, &row.job.pool) {
                self.take_places(Some(pool), std::iter::once((JobId(id), 1)), owner)?;
            }
            if let Some(reason) = &row.job.blocked {
                self.event(row.job.at, of, "job.blocked", Some(Cow::Borrowed(reason)));
            } else if row.owner().is_some() {
                self.done.claimed.push(Claimed {
                    job: JobId(id),
                    attempt: 1,
                    tries: 0,
                    lost: 0,
                    signals: signals(row.asked),
                });
                self.event(row.job.at, of, "job.started", None);
            }
        }
        Ok(())
    }

    /// Drop the claims of jobs whose pool is full: they are recorded as queued.
    fn limit_claims(&self, rows: &mut [NewRow<'_>]) -> Result<()> {
        let mut free: HashMap<&str, usize> = HashMap::new();
        for row in rows.iter_mut().filter(|row| row.owner.is_some()) {
            let Some(pool) = &row.job.pool else { continue };
            let left = match free.entry(&pool.name) {
                std::collections::hash_map::Entry::Occupied(left) => left.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(self.free_places(Some(pool))?)
                }
            };
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => row.owner = None,
            }
        }
        Ok(())
    }

    fn known_keys(
        &self,
        run: i64,
        jobs: &'b [NewJob],
    ) -> Result<HashMap<&'b str, Result<usize, i64>>> {
        let asked: HashMap<&str, &'b str> =
            jobs.iter().filter_map(|job| job.key.as_deref()).map(|key| (key, key)).collect();
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        let list: Vec<&str> = asked.keys().copied().collect();
        let list = serde_json::to_string(&list)
            .map_err(|error| Error::internal("list the keys of jobs").with_source(error))?;
        let text =
            "SELECT key, id FROM job WHERE run = ?1 AND key IN (SELECT value FROM json_each(?2))";
        let known = self.sql.query("read the keys of jobs", text, (run, list), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        Ok(known.into_iter().filter_map(|(key, id)| Some((*asked.get(&*key)?, Err(id)))).collect())
    }

    fn target(&self, job: &NewJob) -> Result<(i64, u32, u32)> {
        let Some(at) = job.target.version else {
            return Err(Error::invalid(format!("a job of `{}` names no version", job.target)));
        };
        let (component, version, newest) = self.known.revision_or_error(&job.target)?;
        if at.revision.is_some_and(|revision| revision > newest) {
            return Err(Error::not_found(format!("there is no component `{}`", job.target)));
        }
        Ok((component, version, at.revision.unwrap_or(newest)))
    }

    fn write_jobs(&self, run: i64, rows: &[NewRow<'_>]) -> Result<()> {
        let head = "INSERT INTO job (run, component, version, revision, role, method, state, attempt, phase, owner, retries, backoff_ms, \
            timeout_ms, created_at, started_at, retry_of, key, executor, blocked, cancel_requested, input, tolerated, blocked_since)";
        self.sql.insert(
            "record jobs",
            (head, 23, ""),
            rows,
            |row, new @ NewRow { job, target, asked, .. }| {
                let owner = new.owner();
                let state = match (&job.blocked, owner) {
                    (Some(_), _) => JobState::Blocked,
                    (None, Some(_)) => JobState::Running,
                    (None, None) => JobState::Queued,
                };
                row.bind(run)?;
                row.bind(target.0)?;
                row.bind(target.1)?;
                row.bind(target.2)?;
                row.bind(job.role.code())?;
                row.bind(&job.method)?;
                row.bind(state.code())?;
                row.bind(owner.is_some())?;
                row.bind(owner.is_some())?;
                row.bind(owner)?;
                row.bind(job.retries)?;
                row.bind(signed(job.backoff_ms))?;
                row.bind(job.timeout_ms.map(signed))?;
                row.bind(job.at.0)?;
                row.bind(owner.map(|_| job.at.0))?;
                row.bind(job.retry_of.map(|id| id.0))?;
                row.bind(job.key.as_deref())?;
                row.bind(job.executor.as_deref())?;
                row.bind(job.blocked.as_deref())?;
                row.bind(asked)?;
                row.bind(job.input.as_ref().map(json_text))?;
                row.bind(job.tolerated)?;
                row.bind(job.blocked.as_ref().map(|_| job.at.0))
            },
        )
    }

    fn write_dependencies(&self, first: i64, rows: &[NewRow<'_>], ids: &[JobId]) -> Result<()> {
        let mut needs = Vec::new();
        for (row, job) in rows.iter().zip(first..) {
            for need in &row.job.needs {
                let other = match need.job {
                    JobRef::Id(id) => id,
                    JobRef::New(index) => *ids.get(index).ok_or_else(|| {
                        Error::invalid(format!(
                            "a job waits for number {index} of {} new jobs",
                            ids.len()
                        ))
                    })?,
                };
                needs.push((job, other.0, need.parameter.as_deref(), need.any_end));
            }
        }
        self.depend(&needs)
    }

    /// Record that jobs wait for others: the one that waits, the other, the parameter that takes
    /// its result, and whether any end of the other will do.
    pub(super) fn depend(&self, needs: &[(i64, i64, Option<&str>, bool)]) -> Result<()> {
        let tail = " ON CONFLICT (job, needs) DO UPDATE SET parameter = coalesce(parameter, excluded.parameter), \
            any_end = min(any_end, excluded.any_end)";
        let head = "INSERT INTO job_dependency (job, needs, parameter, any_end)";
        self.sql.insert(
            "record the order of jobs",
            (head, 4, tail),
            needs,
            |row, (job, other, parameter, any_end)| {
                row.bind(job)?;
                row.bind(other)?;
                row.bind(parameter)?;
                row.bind(any_end)
            },
        )
    }

    pub(super) fn claim(
        &mut self,
        jobs: &[JobId],
        (owner, pool): (WorkerId, Option<&Pool>),
        start: bool,
        at: Timestamp,
    ) -> Result<()> {
        let mut wanted = jobs.to_vec();
        if pool.is_some() {
            wanted = self.free_jobs(jobs)?;
            let full = wanted.split_off(self.free_places(pool)?.min(wanted.len()));
            self.done.full.extend(full);
        }
        let list = number_list(wanted.iter().map(|job| job.0));
        let set = if start { "state = 2, phase = 1, started_at = ?3" } else { "phase = 0" };
        let text = format!(
            "UPDATE OR FAIL job SET owner = ?2, attempt = attempt + 1, {set} \
            WHERE id IN (SELECT value FROM json_each(?1)) AND state = 0 AND owner IS NULL \
            RETURNING id, attempt, tries, lost, cancel_requested, run"
        );
        let values: [&dyn rusqlite::ToSql; 3] = [&list, &owner.0, &at.0];
        let values = if start { &values[..] } else { &values[..2] };
        let mut taken = self.sql.query("take jobs", &text, values, |row| {
            let (attempt, tries, lost, signals) =
                (number(row, 1)?, number(row, 2)?, number(row, 3)?, signals(row.get(4)?));
            Ok((
                Claimed { job: JobId(row.get(0)?), attempt, tries, lost, signals },
                row.get::<_, i64>(5)?,
            ))
        })?;
        let in_order = |pair: &[JobId]| pair[0] < pair[1];
        if jobs.windows(2).all(in_order) {
            taken.sort_unstable_by_key(|(claimed, _)| claimed.job);
        } else {
            let places: HashMap<JobId, usize> =
                jobs.iter().enumerate().rev().map(|(place, id)| (*id, place)).collect();
            taken.sort_unstable_by_key(|(claimed, _)| places.get(&claimed.job).copied());
        }
        if taken.is_empty() {
            self.ignore();
        }
        self.take_places(
            pool,
            taken.iter().map(|(claimed, _)| (claimed.job, claimed.attempt)),
            owner,
        )?;
        for (claimed, run) in taken {
            self.done.claimed.push(claimed);
            let job = claimed.job.0;
            if start {
                self.event(at, Of::Job { run, job }, "job.started", attempt_text(claimed.attempt));
            } else {
                self.silent_change(run, job);
            }
        }
        Ok(())
    }

    /// The jobs among these that are queued and not claimed, in the order of their ids.
    fn free_jobs(&self, jobs: &[JobId]) -> Result<Vec<JobId>> {
        let list = number_list(jobs.iter().map(|job| job.0));
        let text = "SELECT id FROM job WHERE id IN (SELECT value FROM json_each(?1)) AND state = 0 AND owner IS NULL ORDER BY id";
        self.sql.query("look for free jobs", text, [list], |row| Ok(JobId(row.get(0)?)))
    }

    pub(super) fn start(&mut self, job: JobId, attempt: u32, at: Timestamp) -> Result<()> {
        let text = "UPDATE OR FAIL job SET state = 2, phase = 1, started_at = ?3 \
            WHERE id = ?1 AND attempt = ?2 AND state = 0 AND owner IS NOT NULL RETURNING run";
        if let Some(run) =
            self.sql.query_first("start a job", text, (job.0, attempt, at.0), |row| row.get(0))?
        {
            self.event(at, Of::Job { run, job: job.0 }, "job.started", attempt_text(attempt));
        } else {
            self.ignore();
        }
        Ok(())
    }
}

/// The first attempt needs no mention.
pub(super) fn attempt_text(attempt: u32) -> Option<Cow<'static, str>> {
    (attempt > 1).then(|| format!("attempt {attempt}").into())
}
