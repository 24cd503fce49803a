//! Which inputs met which phases.

use superduper_core::simulate::{Input, PhaseName, Scheduler};
use superduper_core::store::{JobId, RunId};

const PHASES: usize = PhaseName::ALL.len();
const INPUTS: usize = Input::NAMES.len();

/// How often an input met a job in a phase.
#[derive(Debug, Clone)]
pub struct Coverage(pub [[u64; INPUTS]; PHASES]);

impl Default for Coverage {
    fn default() -> Self {
        Coverage([[0; INPUTS]; PHASES])
    }
}

/// Pairs that cannot meet: a call of the store answers while it is in flight, and an attempt ends
/// once.
///
/// An answer to a commit meets no job in the phase that only the answer to a read ends, and the
/// other way round.
fn cannot_meet(phase: PhaseName, input: &str) -> bool {
    use PhaseName::*;
    match input {
        // A run is attached before it has jobs here.
        "Attach" => true,
        // No commit is in flight while the record is read.
        "Rows" | "Looked" | "ReadFailed" | "GiveUp" => matches!(phase, Claiming | Settling),
        // While a thread of an older attempt runs, its job is neither claimed nor started here;
        // what it needs is done.
        "Ended" => matches!(phase, Waiting | Claiming | Prefetched | Ending),
        "Returned" => matches!(phase, Waiting | Claiming | Prefetched | Running),
        "Saved" => phase != Ending,
        _ => false,
    }
}

impl Coverage {
    /// Note what an input is about to meet.
    pub(crate) fn note(&mut self, scheduler: &Scheduler, input: &Input) {
        let (run, job) = about(input);
        for state in scheduler.runs().filter(|state| run.is_none_or(|run| run == state.id())) {
            for (_, phase) in state.phases().filter(|(id, _)| job.is_none_or(|job| job == *id)) {
                self.0[place(phase)][input.kind()] += 1;
            }
        }
    }

    /// Add what another world met.
    pub fn add(&mut self, other: &Coverage) {
        for (all, one) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *all += one;
        }
    }

    /// Pairs that could meet and never did.
    pub fn empty(&self) -> Vec<String> {
        let pairs = PhaseName::ALL
            .iter()
            .flat_map(|phase| Input::NAMES.iter().map(move |input| (*phase, *input)));
        let never = pairs.filter(|(phase, input)| {
            let kind = Input::NAMES.iter().position(|name| name == input).unwrap_or(0);
            !cannot_meet(*phase, input) && self.0[place(*phase)][kind] == 0
        });
        never.map(|(phase, input)| format!("{phase:?} x {input}")).collect()
    }

    /// How many pairs met, and how many could.
    pub fn met(&self) -> (usize, usize) {
        let all = PhaseName::ALL
            .iter()
            .flat_map(|phase| Input::NAMES.iter().map(move |input| (*phase, *input)));
        let legal = all.filter(|(phase, input)| !cannot_meet(*phase, input)).count();
        (legal - self.empty().len(), legal)
    }
}

fn place(phase: PhaseName) -> usize {
    PhaseName::ALL.iter().position(|name| *name == phase).unwrap_or(0)
}

/// The run and the job that an input is about; `None`: all.
fn about(input: &Input) -> (Option<RunId>, Option<JobId>) {
    match input {
        Input::Attach(loaded) | Input::Rows(loaded) => (Some(loaded.changes.run.id), None),
        Input::ReadFailed { run }
        | Input::Written { run, .. }
        | Input::Refused { run, .. }
        | Input::Unknown { run } => (Some(*run), None),
        Input::Ended { run, job, .. }
        | Input::Returned { run, job }
        | Input::Saved { run, job, .. } => (Some(*run), Some(*job)),
        Input::Looked { run, .. }
        | Input::GiveUp { run, .. }
        | Input::Signal { run, .. }
        | Input::Refresh { run } => (Some(*run), None),
        Input::Timer | Input::Lapsed | Input::Close { .. } => (None, None),
    }
}
