//! Deleting the past: jobs, runs and logs.

use super::Commit;
use std::collections::BTreeSet;
use superduper_core::{
    Error, Result,
    store::{ComponentId, JobId, RunId, RunState},
};

impl Commit<'_> {
    pub(super) fn forget(&mut self, runs: &[RunId], jobs: &[JobId], logs: &[JobId]) -> Result<()> {
        let gone: BTreeSet<JobId> =
            jobs.iter().copied().filter(|job| self.state.jobs.contains(job)).collect();
        if let Some(job) = gone.iter().find(|job| self.needs_job(**job, &gone)) {
            return Err(Error::conflict(format!(
                "job {job} cannot be forgotten: it is still needed"
            )));
        }
        for job in logs.iter().chain(&gone) {
            self.forget_logs(*job);
        }
        for job in &gone {
            self.forget_job(*job);
        }
        for run in runs.iter().copied() {
            let Some(row) = self.state.runs.get(&run) else { continue };
            let may_go = row.state != RunState::Running
                && self.state.runs.last_key() != Some(&run)
                && self.jobs_of(run).is_empty();
            if !may_go {
                return Err(Error::conflict(format!(
                    "run {run} cannot be forgotten: it is still needed"
                )));
            }
            self.forget_events(|event| event.run == Some(run));
            self.state.ended_counts.remove(&run);
            self.state.runs.remove(&run);
            let lists: Vec<_> = self.state.runs_of_component.iter().map(|(key, ())| *key).collect();
            for key in lists.into_iter().filter(|(_, listed)| *listed == run) {
                self.state.runs_of_component.remove(&key);
            }
        }
        Ok(())
    }

    fn jobs_of(&self, run: RunId) -> Vec<JobId> {
        let range = (run, JobId(0))..=(run, JobId(i64::MAX));
        self.state.jobs_of_run.range(range).map(|((_, job), ())| *job).collect()
    }

    fn needs_job(&self, id: JobId, gone: &BTreeSet<JobId>) -> bool {
        let Some(job) = self.state.jobs.get(&id) else { return false };
        let run = self.state.runs.get(&job.row.run);
        let waits = self
            .state
            .dependents
            .range((id, JobId(0))..=(id, JobId(i64::MAX)))
            .any(|((_, other), ())| !gone.contains(other));
        let retries = |(other, row): (&JobId, &crate::state::Job)| {
            row.row.retry_of == Some(id) && !gone.contains(other)
        };
        !job.row.state.is_terminal()
            || run.is_some_and(|run| run.state == RunState::Running)
            || self.state.jobs.last_key() == Some(&id)
            || waits
            || self.state.jobs.iter().any(retries)
            || self.state.messages.iter().any(|(_, message)| message.job == id)
    }

    fn forget_logs(&mut self, job: JobId) {
        let range = (job, 0)..=(job, usize::MAX);
        let keys: Vec<_> = self.state.logs.range(range).map(|(key, _)| *key).collect();
        self.done.forgotten_logs += keys.len() as u64;
        keys.iter().for_each(|key| self.state.logs.remove(key));
    }

    fn forget_job(&mut self, id: JobId) {
        let Some(job) = self.state.jobs.get(&id).cloned() else { return };
        let state = &mut *self.state;
        let needs: Vec<_> = state
            .dependencies
            .range((id, JobId(0))..=(id, JobId(i64::MAX)))
            .map(|(key, _)| *key)
            .collect();
        for (job, needs) in needs {
            state.dependencies.remove(&(job, needs));
            state.dependents.remove(&(needs, job));
        }
        let attempts: Vec<_> =
            state.attempts.range((id, 0)..=(id, u32::MAX)).map(|(key, _)| *key).collect();
        attempts.iter().for_each(|key| state.attempts.remove(key));
        let metrics: Vec<_> = state
            .metrics
            .range((id, String::new(), 0)..)
            .take_while(|((job, ..), _)| *job == id)
            .map(|(key, _)| key.clone())
            .collect();
        metrics.iter().for_each(|key| state.metrics.remove(key));
        let checkpoints: Vec<_> =
            state.checkpoints.range((id, 0)..=(id, u32::MAX)).map(|(key, _)| *key).collect();
        checkpoints.iter().for_each(|key| state.checkpoints.remove(key));
        let places: Vec<_> = state
            .places
            .iter()
            .filter(|(key, ())| key.1 == id)
            .map(|(key, ())| key.clone())
            .collect();
        places.iter().for_each(|key| state.places.remove(key));
        if let Some(key) = &job.row.key {
            state.job_keys.remove(&(job.row.run, key.clone()));
        }
        let version = job.row.target.version.map_or(0, |at| at.version);
        state.jobs_of_version.remove(&(job.row.component, version, id));
        state.jobs_of_run.remove(&(job.row.run, id));
        state.jobs_of_component.remove(&(job.row.component, id));
        state.jobs.remove(&id);
        self.unlist_run(job.row.component, job.row.run);
        self.forget_events(|event| event.job == Some(id));
    }

    /// A run that has no job of a component any more is not one of the component's runs, unless it
    /// is rooted at it.
    fn unlist_run(&mut self, component: ComponentId, run: RunId) {
        let has_job = self
            .jobs_of(run)
            .iter()
            .any(|job| self.state.jobs.get(job).is_some_and(|job| job.row.component == component));
        let name = self.state.components.get(&component).map(|row| row.address.path());
        let root = self.state.runs.get(&run).map(|row| row.root.path());
        if !has_job && name != root {
            self.state.runs_of_component.remove(&(component, run));
        }
    }

    fn forget_events(&mut self, goes: impl Fn(&superduper_core::store::EventRow) -> bool) {
        let newest = self.state.events.last_key().copied();
        let keys: Vec<i64> = self
            .state
            .events
            .iter()
            .filter(|(seq, event)| Some(**seq) != newest && goes(event))
            .map(|(seq, _)| *seq)
            .collect();
        keys.iter().for_each(|key| self.state.events.remove(key));
    }
}
