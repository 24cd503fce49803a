//! Lines of lists, and reads that go by a place in an order.

use crate::state::{Job, State};
use std::{collections::BTreeSet, ops::Bound};
use superduper_core::{
    Address,
    job::Placement,
    store::{
        After, ComponentFilter, ComponentHealth, ComponentId, ComponentLine, JobCounts, JobFilter,
        JobId, JobLine, JobRow, PoolPlace, RunFilter, RunId, RunLine, RunRow, RunState,
        UnhealthyJobs, WorkerId,
    },
};

impl State {
    pub(crate) fn component_lines(
        &self,
        filter: &ComponentFilter,
        after: Option<Address>,
        limit: usize,
    ) -> Vec<ComponentLine> {
        let after = after.map(|address| (address.kind, address.identifier));
        let first = filter.kind.clone().map(|kind| (kind, String::new()));
        let from = match (after, first) {
            (Some(after), Some(first)) if after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let is_labelled = |id: &ComponentId| {
            let has = |label: &String| self.labels.contains(&(*id, label.clone()));
            filter.label.as_ref().is_none_or(has)
        };
        self.names
            .range((from, Bound::Unbounded))
            .take_while(|((kind, _), _)| filter.kind.as_ref().is_none_or(|wanted| wanted == kind))
            .filter(|((kind, identifier), id)| filter.names(kind, identifier) && is_labelled(id))
            .filter_map(|((kind, identifier), id)| self.component_line(*id, kind, identifier))
            .take(limit)
            .collect()
    }

    fn component_line(
        &self,
        id: ComponentId,
        kind: &str,
        identifier: &str,
    ) -> Option<ComponentLine> {
        let ComponentHealth { listed, unhealthy } = self.health(&Address::new(kind, identifier))?;
        let mut line = ComponentLine::new(id, listed.address, listed.created_at);
        line.versions = listed.versions.len() as u64;
        line.labels = self
            .labels
            .range((id, String::new())..)
            .take_while(|((of, _), _)| *of == id)
            .map(|((_, label), (version, _))| (label.clone(), *version))
            .collect();
        line.type_version = listed.type_version;
        line.removing = listed.removing;
        line.owes_jobs = listed.owes_jobs;
        line.updated_at = listed.updated_at;
        for job in unhealthy {
            let is_same = |group: &&mut UnhealthyJobs| {
                (&group.kind, group.role, &group.method, group.state)
                    == (&job.target.kind, job.role, &job.method, job.state)
            };
            match line.unhealthy.iter_mut().find(is_same) {
                Some(group) => group.jobs += 1,
                None => line.unhealthy.push(UnhealthyJobs::new(
                    job.target.kind,
                    job.role,
                    job.method,
                    job.state,
                    1,
                )),
            }
        }
        Some(line)
    }

    /// The components of a name, those included that were removed.
    fn named(&self, address: &Address) -> Vec<ComponentId> {
        let is_one = |name: &Address| name.path() == address.path();
        self.components.iter().filter(|(_, row)| is_one(&row.address)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn job_lines(&self, filter: &JobFilter, after: &After<JobId>) -> Vec<JobLine> {
        let ids = self.candidates(filter, after);
        let wanted = |id: &JobId| {
            self.jobs.get(id).map(|job| &job.row).filter(|row| job_matches(filter, row))
        };
        let rows: Box<dyn Iterator<Item = JobId>> =
            if after.newest_first { Box::new(ids.rev()) } else { Box::new(ids) };
        rows.filter_map(|id| wanted(&id).map(JobLine::of)).take(after.limit).collect()
    }

    /// The jobs that may match, ascending: all that lie behind a place, by the narrowest index.
    fn candidates<'s>(
        &'s self,
        filter: &JobFilter,
        after: &After<JobId>,
    ) -> Box<dyn DoubleEndedIterator<Item = JobId> + 's> {
        let (least, most) = match (after.last, after.newest_first) {
            (None, _) => (JobId(i64::MIN), JobId(i64::MAX)),
            (Some(last), true) => (JobId(i64::MIN), JobId(last.0.saturating_sub(1))),
            (Some(last), false) => (JobId(last.0.saturating_add(1)), JobId(i64::MAX)),
        };
        if least > most {
            return Box::new(std::iter::empty());
        }
        if let Some(ids) = &filter.ids {
            let ids: BTreeSet<JobId> = ids.iter().copied().collect();
            return Box::new(ids.into_iter().filter(move |id| (least..=most).contains(id)));
        }
        if let Some(run) = filter.run {
            return Box::new(
                self.jobs_of_run.range((run, least)..=(run, most)).map(|((_, id), ())| *id),
            );
        }
        let named = filter.target.as_ref().map(|target| self.named(target));
        match named.as_deref() {
            None => Box::new(self.jobs.range(least..=most).map(|(id, _)| *id)),
            Some([one]) => Box::new(
                self.jobs_of_component.range((*one, least)..=(*one, most)).map(|((_, id), ())| *id),
            ),
            // A component that was removed and applied again.
            Some(several) => {
                let of = |component: &ComponentId| {
                    self.jobs_of_component.range((*component, least)..=(*component, most))
                };
                let ids: BTreeSet<JobId> =
                    several.iter().flat_map(of).map(|((_, id), ())| *id).collect();
                Box::new(ids.into_iter())
            }
        }
    }

    pub(crate) fn run_lines(&self, filter: &RunFilter, after: &After<RunId>) -> Vec<RunLine> {
        let (least, most) = match (after.last, after.newest_first) {
            (None, _) => (RunId(i64::MIN), RunId(i64::MAX)),
            (Some(last), true) => (RunId(i64::MIN), RunId(last.0.saturating_sub(1))),
            (Some(last), false) => (RunId(last.0.saturating_add(1)), RunId(i64::MAX)),
        };
        if least > most {
            return Vec::new();
        }
        let runs = self.runs_matching(filter, least, most);
        let line = |row: &RunRow| RunLine::of(row, self.counts(row));
        if after.newest_first {
            runs.rev().take(after.limit).map(line).collect()
        } else {
            runs.take(after.limit).map(line).collect()
        }
    }

    /// The runs that match, ascending.
    fn runs_matching<'s>(
        &'s self,
        filter: &'s RunFilter,
        least: RunId,
        most: RunId,
    ) -> Box<dyn DoubleEndedIterator<Item = &'s RunRow> + 's> {
        let matches = |row: &&RunRow| run_matches(filter, row);
        match &filter.component {
            None => Box::new(self.runs.range(least..=most).map(|(_, row)| row).filter(matches)),
            Some(component) => {
                let of =
                    |id: &ComponentId| self.runs_of_component.range((*id, least)..=(*id, most));
                let ids: BTreeSet<RunId> =
                    self.named(component).iter().flat_map(of).map(|((_, run), ())| *run).collect();
                Box::new(ids.into_iter().filter_map(|id| self.runs.get(&id)).filter(matches))
            }
        }
    }

    pub(crate) fn filter_runs(&self, filter: &RunFilter) -> Vec<RunRow> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let runs = self.runs_matching(filter, RunId(i64::MIN), RunId(i64::MAX));
        let mut runs: Vec<RunRow> = runs.rev().take(limit).cloned().collect();
        runs.reverse();
        runs
    }

    /// The jobs of a run by state: kept of a run that has ended.
    fn counts(&self, run: &RunRow) -> JobCounts {
        match self.ended_counts.get(&run.id) {
            Some(counts) => *counts,
            None => self.count_jobs(run.id),
        }
    }

    pub(crate) fn count_jobs(&self, run: RunId) -> JobCounts {
        let mut counts = JobCounts::new();
        self.jobs_of(run).for_each(|job| counts.add(job.row.state, 1));
        counts
    }

    pub(crate) fn jobs_of(&self, run: RunId) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs_of_run
            .range((run, JobId(i64::MIN))..=(run, JobId(i64::MAX)))
            .filter_map(|((_, id), ())| self.jobs.get(id))
    }

    pub(crate) fn pool_places(&self, pool: &str) -> Vec<PoolPlace> {
        let first = (pool.to_owned(), JobId(i64::MIN), 0, WorkerId(i64::MIN));
        self.places
            .range(first..)
            .take_while(|((name, ..), ())| name == pool)
            .map(|((_, job, attempt, owner), ())| PoolPlace::new(*job, *attempt, *owner))
            .collect()
    }
}

/// Whether a job is one of those that a filter asks for.
pub(crate) fn job_matches(filter: &JobFilter, row: &JobRow) -> bool {
    let is_in = |pool: &String| {
        Placement::of_text(row.executor.as_deref()).pool.is_some_and(|(name, _)| name == *pool)
    };
    let is_of = |target: &Address| {
        let number = row.target.version.map(|at| at.version);
        (&target.kind, &target.identifier) == (&row.target.kind, &row.target.identifier)
            && target.version.is_none_or(|at| Some(at.version) == number)
    };
    filter.ids.as_ref().is_none_or(|ids| ids.contains(&row.id))
        && filter.run.is_none_or(|run| run == row.run)
        && filter.key.as_ref().is_none_or(|key| row.key.as_ref() == Some(key))
        && filter.roles.as_ref().is_none_or(|roles| roles.contains(&row.role))
        && filter.states.as_ref().is_none_or(|states| states.contains(&row.state))
        && filter.kind.as_ref().is_none_or(|kind| *kind == row.target.kind)
        && filter.method.as_ref().is_none_or(|method| *method == row.method)
        && filter.owner.is_none_or(|owner| row.owner == Some(owner))
        && filter.pool.as_ref().is_none_or(is_in)
        && filter.target.as_ref().is_none_or(is_of)
}

fn run_matches(filter: &RunFilter, row: &RunRow) -> bool {
    let is_by = |name: &String| row.actor.as_ref().is_some_and(|actor| actor.name == *name);
    filter.id.is_none_or(|id| id == row.id)
        && (!filter.unfinished || row.state == RunState::Running)
        && filter.states.as_ref().is_none_or(|states| states.contains(&row.state))
        && filter.actor.as_ref().is_none_or(is_by)
}
