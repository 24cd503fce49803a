//! Recording jobs and taking them.
//!
//! Invariant: the ids of jobs recorded together are consecutive, and a key names one job of its
//! run.

use super::Commit;
use crate::state::{Dependency, Job};
use std::collections::HashSet;
use superduper_core::{
    Address, Error, Result, VersionRef,
    store::{
        Claimed, ComponentId, JobId, JobRef, JobRole, JobRow, JobState, NewJob, Pool, RunId,
        Timestamp, WorkerId, being_removed, event_of_jobs,
    },
};

impl Commit<'_> {
    /// Refuse jobs that would make use of a version that is being removed.
    pub(super) fn refuse_jobs_of_removed(&self, jobs: &[NewJob]) -> Result<()> {
        match jobs.iter().find(|job| job.role != JobRole::Cleanup && self.is_going(&job.target)) {
            Some(job) => {
                Err(being_removed(&job.target.at(job.target.version.map_or(0, |at| at.version))))
            }
            None => Ok(()),
        }
    }

    /// Whether the version of an address is being removed.
    pub(super) fn is_going(&self, target: &Address) -> bool {
        self.state
            .find(target)
            .is_some_and(|(component, version)| self.state.is_being_removed(component, version))
    }

    /// Record jobs; the answer has an old id where the key is known already.
    pub(super) fn insert_jobs(&mut self, run: RunId, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        if !self.state.runs.contains(&run) {
            return Err(Error::not_found(format!("there is no run {run}")));
        }
        // What was counted when the run ended, if it has.
        self.state.ended_counts.remove(&run);
        self.tell_added(run, &jobs);
        let mut ids: Vec<JobId> = Vec::with_capacity(jobs.len());
        let mut needs = Vec::new();
        for job in jobs {
            if let Some(known) =
                job.key.as_ref().and_then(|key| self.state.job_keys.get(&(run, key.clone())))
            {
                ids.push(*known);
                self.done.known.push(*known);
                continue;
            }
            let id = self.state.next_job();
            ids.push(id);
            needs.extend(job.needs.iter().cloned().map(|need| (id, need)));
            self.insert_job(id, run, job)?;
        }
        for (id, need) in needs {
            let other = match need.job {
                JobRef::Id(other) => other,
                JobRef::New(index) => *ids.get(index).ok_or_else(|| {
                    Error::invalid(format!(
                        "a job waits for number {index} of {} new jobs",
                        ids.len()
                    ))
                })?,
            };
            self.add_dependency(
                id,
                other,
                Dependency { parameter: need.parameter, any_end: need.any_end },
            )?;
        }
        Ok(ids)
    }

    /// An event tells the jobs that are about to get rows: those whose key the run does not have.
    fn tell_added(&mut self, run: RunId, jobs: &[NewJob]) {
        let (mut keys, mut count) = (HashSet::new(), 0);
        for job in jobs {
            let is_new = job.key.as_ref().is_none_or(|key| {
                !self.state.job_keys.contains(&(run, key.clone())) && keys.insert(key)
            });
            count += usize::from(is_new);
        }
        let Some(first) = jobs.first().filter(|_| count > 0) else { return };
        let added: Vec<JobId> = (self.state.next_job().0..).take(count).map(JobId).collect();
        self.event_of(first.at, run, "job.added", &added, None);
    }

    /// An event about jobs of a run.
    pub(super) fn event_of(
        &mut self,
        at: Timestamp,
        run: RunId,
        kind: &str,
        jobs: &[JobId],
        what: Option<&str>,
    ) {
        let (job, detail) = event_of_jobs(jobs, what);
        self.event(at, Some(run), job, kind, detail);
    }

    pub(super) fn add_dependency(
        &mut self,
        job: JobId,
        needs: JobId,
        new: Dependency,
    ) -> Result<()> {
        for id in [job, needs] {
            if !self.state.jobs.contains(&id) {
                return Err(Error::not_found(format!("there is no job {id}")));
            }
        }
        let merged = match self.state.dependencies.get(&(job, needs)).cloned() {
            Some(known) => Dependency {
                parameter: known.parameter.or(new.parameter),
                any_end: known.any_end && new.any_end,
            },
            None => new,
        };
        self.state.dependencies.set((job, needs), merged);
        self.state.dependents.set((needs, job), ());
        Ok(())
    }

    fn insert_job(&mut self, id: JobId, run: RunId, job: NewJob) -> Result<()> {
        let (component, revision) = self.target(&job)?;
        let version = job.target.version.map_or(0, |at| at.version);
        let owner = job.claim.filter(|_| job.blocked.is_none());
        let owner = owner.filter(|owner| self.take_place(job.pool.as_ref(), (id, 1), *owner));
        if let Some(key) = &job.key {
            self.state.job_keys.set((run, key.clone()), id);
        }
        let (at, blocked) = (job.at, job.blocked.clone());
        // Others are refused before they come here, unless they were spawned.
        let cancel_requested =
            job.role != JobRole::Cleanup && self.state.is_being_removed(component, version);
        let exact = VersionRef { version, revision: Some(revision) };
        let target = Address { version: Some(exact), ..job.target.clone() };
        let row =
            JobRow { cancel_requested, target, ..JobRow::new(id, run, component, job, owner) };
        let signals = row.signals();
        self.state.jobs.set(id, Job { row, blobs: Vec::new(), progressed_at: None });
        self.state.jobs_of_run.set((run, id), ());
        self.state.jobs_of_version.set((component, version, id), ());
        self.state.jobs_of_component.set((component, id), ());
        if !self.state.runs_of_component.contains(&(component, run)) {
            self.state.runs_of_component.set((component, run), ());
        }
        if let Some(reason) = blocked {
            self.event(at, Some(run), Some(id), "job.blocked", Some(reason));
        } else if owner.is_some() {
            self.done.claimed.push(Claimed { job: id, attempt: 1, tries: 0, lost: 0, signals });
            self.event(at, Some(run), Some(id), "job.started", None);
        }
        Ok(())
    }

    fn target(&self, job: &NewJob) -> Result<(ComponentId, u32)> {
        let Some(at) = job.target.version else {
            return Err(Error::invalid(format!("a job of `{}` names no version", job.target)));
        };
        let key = self.state.find_or_error(&job.target)?;
        let newest = self.state.versions.get(&key).map_or(0, |row| row.revision);
        if at.revision.is_some_and(|revision| revision > newest) {
            return Err(Error::not_found(format!("there is no component `{}`", job.target)));
        }
        if let Some(other) = job.retry_of.filter(|other| !self.state.jobs.contains(other)) {
            return Err(Error::not_found(format!("there is no job {other}")));
        }
        Ok((key.0, at.revision.unwrap_or(newest)))
    }

    pub(super) fn claim(
        &mut self,
        jobs: &[JobId],
        (owner, pool): (WorkerId, Option<Pool>),
        start: bool,
        at: Timestamp,
    ) {
        let before = self.done.claimed.len();
        let mut jobs = jobs.to_vec();
        if pool.is_some() {
            jobs.sort_unstable();
        }
        for id in &jobs {
            let is_free = |job: &&Job| job.row.state == JobState::Queued && job.row.owner.is_none();
            let Some(attempt) =
                self.state.jobs.get(id).filter(is_free).map(|job| job.row.attempt + 1)
            else {
                continue;
            };
            if !self.take_place(pool.as_ref(), (*id, attempt), owner) {
                self.done.full.push(*id);
                continue;
            }
            let mut claimed = None;
            self.state.jobs.change(id, |Job { row, .. }| {
                row.attempt += 1;
                row.owner = Some(owner);
                claimed = Some(Claimed {
                    job: *id,
                    attempt: row.attempt,
                    tries: row.tries,
                    lost: row.lost,
                    signals: row.signals(),
                });
            });
            let Some(claimed) = claimed else { continue };
            self.done.claimed.push(claimed);
            if start {
                self.start(*id, claimed.attempt, at);
            } else {
                self.silent_change(*id);
            }
        }
        if self.done.claimed.len() == before {
            self.ignore();
        }
    }

    /// A job starts that was claimed before; whether it was not on record as started.
    pub(super) fn start(&mut self, id: JobId, attempt: u32, at: Timestamp) -> bool {
        let current = |row: &JobRow| {
            row.state == JobState::Queued && row.owner.is_some() && row.attempt == attempt
        };
        let Some(run) =
            self.state.jobs.get(&id).filter(|job| current(&job.row)).map(|job| job.row.run)
        else {
            return false;
        };
        self.state.jobs.change(&id, |job| {
            job.row.state = JobState::Running;
            job.row.started_at = Some(at);
        });
        self.event(
            at,
            Some(run),
            Some(id),
            "job.started",
            (attempt > 1).then(|| format!("attempt {attempt}")),
        );
        true
    }
}
