//! The jobs of one run, as one process sees them.
//!
//! Invariant: [`RunState::set`] alone changes a phase, and with it every index of phases and what
//! the job means for those that need it.

use super::{
    Config, Effect, Fault, Phase, PhaseName,
    entry::Entry,
    permits::{Lane, Permits},
};
use crate::{
    address::Address,
    error::JobFailure,
    store::{self, ChangeCursor, JobId, JobState, RunId, RunPurpose},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The call of the store that is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    None,
    Commit,
    Read {
        /// Whether what it gives counts: the lease did not lapse since it was asked for.
        current: bool,
    },
}

/// What an operation of the commit in flight is about, in the order of the batch.
#[derive(Debug)]
pub(super) enum Sent {
    End(usize),
    Start(usize),
    /// With the reason, and when.
    Settle(usize, Box<(JobFailure, store::Timestamp)>),
    Claim(Vec<usize>),
    /// A blocked job is queued again.
    Release(usize),
    EndRun(store::RunState, store::Timestamp),
    Delete,
}

/// How far a commit that the store refuses is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// All that is there shares a commit.
    Together,
    /// One end at a time, to find the one that is refused.
    Alone,
}

/// What a run is for.
#[derive(Debug)]
pub(super) struct Purpose {
    pub(super) is_removal: bool,
    /// A removal goes on where cleanup fails.
    pub(super) forced: bool,
    /// What a removal deletes as it ends.
    pub(super) deletions: Vec<(Address, Vec<u32>)>,
}

/// The jobs of one run.
#[derive(Debug)]
pub struct RunState {
    pub(super) id: RunId,
    pub(super) config: Config,
    pub(super) purpose: Purpose,
    pub(super) entries: Vec<Entry>,
    pub(super) by_id: HashMap<JobId, usize>,
    pub(super) edges: HashSet<(usize, usize)>,
    // Indexes of phases; `set` alone writes them.
    pub(super) ready: BTreeMap<Lane, BTreeSet<usize>>,
    pub(super) prefetched: BTreeSet<usize>,
    pub(super) due: BTreeSet<(u64, usize)>,
    pub(super) unsent: BTreeSet<usize>,
    pub(super) running: usize,
    pub(super) saving: usize,
    /// Own jobs whose rows others move.
    pub(super) away: usize,
    /// Own jobs without a verdict; jobs of other runs without one.
    pub(super) undecided: usize,
    pub(super) others_open: usize,
    /// Free jobs that may have to be cancelled or skipped.
    pub(super) doomed: BTreeSet<usize>,
    // The store.
    pub(super) call: Call,
    pub(super) sent: Vec<Sent>,
    pub(super) care: Care,
    pub(super) cursor: ChangeCursor,
    /// The record has to be read before anything else is decided.
    pub(super) refresh: bool,
    /// Jobs whose claim was ignored, or that blocked, since the record was read.
    pub(super) unclear: Vec<usize>,
    /// The lease lapsed since the record was read: nothing starts.
    pub(super) stale: bool,
    pub(super) not_before: u64,
    pub(super) last_read: u64,
    pub(super) poll: u64,
    pub(super) prefetch_limit: usize,
    pub(super) other_workers: bool,
    // The end.
    /// Why the run cannot end as its jobs say.
    pub(super) spoiled: Option<JobFailure>,
    pub(super) ended: Option<(store::RunState, Option<store::Timestamp>)>,
    pub(super) told: bool,
    /// This process closes: it claims no more jobs.
    pub(super) closing: bool,
    /// The grace is over: the jobs that still ran here were stopped.
    pub(super) stopping: bool,
    pub(super) out: Vec<Effect>,
}

impl RunState {
    pub(super) fn new(row: &store::RunRow, config: &Config, now: u64) -> Self {
        RunState {
            id: row.id,
            config: config.clone(),
            purpose: Purpose::of(row),
            entries: Vec::new(),
            by_id: HashMap::new(),
            edges: HashSet::new(),
            ready: BTreeMap::new(),
            prefetched: BTreeSet::new(),
            due: BTreeSet::new(),
            unsent: BTreeSet::new(),
            running: 0,
            saving: 0,
            away: 0,
            undecided: 0,
            others_open: 0,
            doomed: BTreeSet::new(),
            call: Call::None,
            sent: Vec::new(),
            care: Care::Together,
            cursor: ChangeCursor::default(),
            refresh: false,
            unclear: Vec::new(),
            stale: false,
            not_before: 0,
            last_read: now,
            poll: super::config::POLL.0,
            prefetch_limit: 0,
            other_workers: false,
            spoiled: None,
            ended: None,
            told: false,
            closing: false,
            stopping: false,
            out: Vec::new(),
        }
    }

    /// The run.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The phase of every job, by its id.
    pub fn phases(&self) -> impl Iterator<Item = (JobId, PhaseName)> {
        self.entries.iter().map(|entry| (entry.id, entry.phase.name()))
    }

    /// The jobs of which this process has a claim, or a thread that has not returned.
    pub fn held(&self) -> impl Iterator<Item = JobId> {
        let is_held = |entry: &&Entry| {
            let is_claimed = matches!(
                entry.phase.name(),
                PhaseName::Claiming
                    | PhaseName::Prefetched
                    | PhaseName::Running
                    | PhaseName::Ending
            );
            is_claimed || entry.late > 0
        };
        self.entries.iter().filter(is_held).map(|entry| entry.id)
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.config.fault == fault
    }

    /// Change the phase of a job.
    pub(super) fn set(&mut self, index: usize, phase: Phase) {
        let (lane, own) = (self.entries[index].lane, self.entries[index].own);
        let old = std::mem::replace(&mut self.entries[index].phase, phase);
        if old == phase {
            return;
        }
        self.index(index, old, (lane, own), false);
        self.index(index, phase, (lane, own), true);
        if !matches!(phase, Phase::Ending { .. }) {
            self.entries[index].end = None;
        }
        self.judge(index);
    }

    /// Write a phase into the indexes, or take it out.
    fn index(&mut self, index: usize, phase: Phase, (lane, own): (Lane, bool), enters: bool) {
        use super::Step;
        let set = match phase {
            Phase::Ready => Some(self.ready.entry(lane).or_default()),
            Phase::Prefetched { .. } => Some(&mut self.prefetched),
            Phase::Ending { step: Step::Unsent, .. } => Some(&mut self.unsent),
            _ => None,
        };
        if let Some(set) = set {
            if enters {
                set.insert(index)
            } else {
                set.remove(&index)
            };
        }
        if let Some(time) = phase.due() {
            if enters {
                self.due.insert((time, index))
            } else {
                self.due.remove(&(time, index))
            };
        }
        let count = match phase {
            Phase::Running { .. } => &mut self.running,
            Phase::Ending { step: Step::Saving, .. } => &mut self.saving,
            Phase::Elsewhere | Phase::Blocked { .. } if own => &mut self.away,
            _ => return,
        };
        *count = if enters { *count + 1 } else { *count - 1 };
    }

    /// What a phase means for those that need the job.
    fn verdict(&self, index: usize) -> Option<bool> {
        use super::Step;
        use crate::store::Finished;
        let entry = &self.entries[index];
        match entry.phase {
            Phase::Final(state) => Some(state == JobState::Succeeded),
            Phase::Settling(state) => Some(state == JobState::Succeeded),
            Phase::Ending { step: Step::Unsent | Step::Sent, .. } => {
                let end = entry.end.as_ref()?;
                match &end.end {
                    Finished::Succeeded(_)
                        if end.spawned.is_empty() || self.has(Fault::SpawnedTooLate) =>
                    {
                        Some(true)
                    }
                    Finished::Failed(_) | Finished::Cancelled(_) => Some(false),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Tell those that need a job what it means for them now.
    fn judge(&mut self, index: usize) {
        let verdict = self.verdict(index);
        let entry = &mut self.entries[index];
        let old = std::mem::replace(&mut entry.verdict, verdict);
        if old == verdict {
            return;
        }
        let open = if entry.own { &mut self.undecided } else { &mut self.others_open };
        *open = *open + usize::from(verdict.is_none()) - usize::from(old.is_none());
        let after = std::mem::take(&mut self.entries[index].after);
        for (other, kind) in &after {
            let entry = &mut self.entries[*other];
            entry.missing =
                entry.missing + u32::from(kind.is_open(verdict)) - u32::from(kind.is_open(old));
            entry.lost =
                entry.lost + u32::from(kind.is_lost(verdict)) - u32::from(kind.is_lost(old));
            self.queue(*other);
        }
        self.entries[index].after = after;
    }

    /// Put a free job where its needs and signals say.
    pub(super) fn queue(&mut self, index: usize) {
        let entry = &self.entries[index];
        if !entry.own {
            return;
        }
        if entry.phase.is_free() && (entry.lost > 0 || entry.signals.cancel) {
            self.doomed.insert(index);
        }
        if matches!(entry.phase, Phase::Waiting | Phase::Ready) {
            let phase = if entry.missing == 0 { Phase::Ready } else { Phase::Waiting };
            self.set(index, phase);
        }
    }

    /// Give the permit of a job back.
    pub(super) fn give_permit(&mut self, index: usize, permits: &mut Permits) {
        let entry = &mut self.entries[index];
        if std::mem::take(&mut entry.holds) {
            permits.give(entry.lane);
        }
    }

    /// What is known of a job does not hold: the record has to be read.
    pub(super) fn forget(&mut self, index: usize, permits: &mut Permits) {
        self.give_permit(index, permits);
        self.set(index, Phase::Elsewhere);
        self.refresh = true;
        // The row may not have changed since it was read.
        self.cursor = ChangeCursor::default();
    }

    /// Whether nothing of the run is left for this process.
    pub(super) fn is_over(&self) -> bool {
        self.told
            && self.call == Call::None
            && self.running == 0
            && self.entries.iter().all(|entry| entry.permits() == 0)
    }
}

impl Purpose {
    fn of(row: &store::RunRow) -> Self {
        let is_removal = row.purpose == RunPurpose::Remove;
        let removal = serde_json::from_value::<crate::plan::Removal>(row.data.clone())
            .ok()
            .filter(|_| is_removal);
        Purpose {
            is_removal,
            forced: crate::job::engine::is_forced(row),
            deletions: removal.map(|removal| removal.versions).unwrap_or_default(),
        }
    }
}
