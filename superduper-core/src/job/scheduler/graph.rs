//! Jobs and edges that are added to a run, and what an edge asks for.

use super::{
    Fault, Work,
    entry::{Edge, Entry, Facts, Kind},
    permits::{Lane, Permits, UNABLE},
    run_state::RunState,
};
use crate::{
    component::policy::Placement,
    store::{JobDependency, JobId, JobRow, NewJob},
};

impl Kind {
    /// Whether a need with this verdict still has to be waited for.
    pub(super) fn is_open(self, verdict: Option<bool>) -> bool {
        !self.is_met(verdict)
    }

    pub(super) fn is_met(self, verdict: Option<bool>) -> bool {
        match self {
            Kind::Success => verdict == Some(true),
            Kind::AnyEnd => verdict.is_some(),
        }
    }

    /// Whether what needs it will never run.
    pub(super) fn is_lost(self, verdict: Option<bool>) -> bool {
        self == Kind::Success && verdict == Some(false)
    }
}

impl RunState {
    fn lane_of(&self, work: &Work<'_>, permits: &mut Permits) -> Lane {
        // A forced removal goes on where a cleanup fails, also one that no program can run.
        if !self.purpose.forced && !self.config.abilities.can(work) && !self.has(Fault::ClaimsAll) {
            return UNABLE;
        }
        permits.lane(Placement::of_text(work.executor).pool.as_ref())
    }

    /// Add a job of this or another run from its row; the row itself is taken afterwards.
    pub(super) fn add_row(&mut self, row: &JobRow, permits: &mut Permits) -> usize {
        let facts = Facts {
            target: row.target.clone(),
            method: row.method.clone(),
            retries: row.retries,
            backoff_ms: row.backoff_ms,
            tolerated: row.tolerated,
        };
        let lane = self.lane_of(
            &Work {
                target: &row.target,
                role: row.role,
                method: &row.method,
                executor: row.executor.as_deref(),
            },
            permits,
        );
        self.add(Entry::new(row.id, row.run == self.id, lane, facts))
    }

    /// Add a job that an end of this process spawned.
    pub(super) fn add_spawned(&mut self, id: JobId, new: &NewJob, permits: &mut Permits) -> usize {
        let facts = Facts {
            target: new.target.clone(),
            method: new.method.clone(),
            retries: new.retries,
            backoff_ms: new.backoff_ms,
            tolerated: new.tolerated,
        };
        let lane = self.lane_of(
            &Work {
                target: &new.target,
                role: new.role,
                method: &new.method,
                executor: new.executor.as_deref(),
            },
            permits,
        );
        self.add(Entry::new(id, true, lane, facts))
    }

    fn add(&mut self, entry: Entry) -> usize {
        let index = self.entries.len();
        self.by_id.insert(entry.id, index);
        if entry.own {
            self.undecided += 1;
            self.away += 1;
        } else {
            self.others_open += 1;
        }
        self.entries.push(entry);
        index
    }

    /// Let one job wait for another; known edges are left alone. Jobs that are not known are told
    /// by the answer.
    pub(super) fn add_dependency(&mut self, edge: &JobDependency) -> Result<(), JobId> {
        let needs = *self.by_id.get(&edge.needs).ok_or(edge.needs)?;
        if let Some(job) = self.by_id.get(&edge.job).copied() {
            // A job of another run may have come to any end, unless its result is needed.
            let any = edge.any_end
                || self.purpose.forced
                || (!self.entries[needs].own && edge.parameter.is_none());
            self.add_edge(job, (needs, if any { Kind::AnyEnd } else { Kind::Success }));
        }
        Ok(())
    }

    pub(super) fn add_edge(&mut self, job: usize, (needs, kind): Edge) {
        if job == needs || !self.edges.insert((job, needs)) {
            return;
        }
        let verdict = self.entries[needs].verdict;
        self.entries[needs].after.push((job, kind));
        let entry = &mut self.entries[job];
        entry.needs.push((needs, kind));
        entry.missing += u32::from(kind.is_open(verdict));
        entry.lost += u32::from(kind.is_lost(verdict));
        self.queue(job);
    }
}
