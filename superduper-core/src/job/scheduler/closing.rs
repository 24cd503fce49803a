//! Closing a process, and cancelling jobs without a process that leads their run.

use super::{
    Abilities, Config, Effect, Fault, Loaded, Now, Phase, RunState, commit::Turns,
    permits::Permits, run_state::Call,
};
use crate::{
    error::{FailureKind, JobFailure},
    store::{self, Finished, JobId, JobSignals, JobState, Op, Timestamp, WorkerId},
};

impl RunState {
    /// Claim no more jobs, give back the jobs that have not started, and ask the running jobs to
    /// pause.
    pub(super) fn on_close(&mut self, now: Now) {
        self.closing = true;
        for index in 0..self.entries.len() {
            match self.entries[index].phase {
                Phase::Prefetched { .. } => self.end_unstarted(index, Finished::Released, now),
                Phase::Running { attempt, .. } => self.ask_to_pause(index, attempt),
                _ => {}
            }
        }
    }

    /// While closing, give back a job that was claimed and has not started.
    pub(super) fn give_back_closing(&mut self, index: usize, now: Now) {
        if self.closing && matches!(self.entries[index].phase, Phase::Prefetched { .. }) {
            self.end_unstarted(index, Finished::Released, now);
        }
    }

    /// Ask an attempt to pause. The request is not on record, so that another process continues the
    /// job.
    pub(super) fn ask_to_pause(&mut self, index: usize, attempt: u32) {
        let entry = &self.entries[index];
        let signals = JobSignals { pause: true, ..entry.signals };
        self.out.push(Effect::Signal { run: self.id, job: entry.id, attempt, signals });
    }

    /// Stop the attempts that still run. A thread cannot be stopped: its job keeps its claim until
    /// the thread returns.
    pub(super) fn on_close_now(&mut self) {
        self.stopping = true;
        for entry in &self.entries {
            if let Phase::Running { attempt, .. } = entry.phase {
                self.out.push(Effect::Stop { run: self.id, job: entry.id, attempt });
            }
        }
    }

    /// What an end means in a process that closes: an end that only came of the close gives the job
    /// back. An attempt that paused is no case of its own: the store queues a job that pauses
    /// without a request on record.
    pub(super) fn conclude_closing(&self, index: usize, end: Finished) -> Finished {
        let asked = self.entries[index].signals.cancel;
        match end {
            Finished::Succeeded(_) => end,
            _ if self.stopping && !asked => Finished::Released,
            end => end,
        }
    }

    /// Report once that this process has no job of the run any more.
    pub(super) fn tell_closed(&mut self) {
        let is_left = self.running == 0
            && self.unsent.is_empty()
            && self.saving == 0
            && self.prefetched.is_empty();
        // A claim whose commit is unknown may be on record.
        let is_claiming = self.call == Call::Commit || self.refresh;
        if self.closing
            && is_left
            && !is_claiming
            && self.ended.is_none()
            && !std::mem::replace(&mut self.told, true)
        {
            let failure = JobFailure::new(FailureKind::Cancelled, "this process was closed");
            self.out.push(Effect::Stopped { run: self.id, failure, ops: Vec::new() });
        }
    }
}

/// The operations that cancel jobs of a run, or all its jobs, in one commit and without a process
/// that leads the run. Jobs that no process has are cancelled, the jobs that need them are skipped,
/// and the run ends if all its jobs are final then. Jobs that a process has are left out: that
/// process must be told.
pub fn cancellations(loaded: Loaded, jobs: Option<Vec<JobId>>, at: Timestamp) -> Vec<Op> {
    decided(loaded, at, |run, now| {
        run.on_signal(jobs, JobSignals { cancel: true, ..JobSignals::default() }, now)
    })
}

/// The operations that follow from the end of a blocked job that came from outside: jobs that need
/// it are skipped if it failed, and the run ends if all its jobs are final then. They follow the
/// operation that completes the job.
pub fn after_completion(loaded: Loaded, job: JobId, state: JobState, at: Timestamp) -> Vec<Op> {
    decided(loaded, at, |run, _| {
        if let Some(index) = run.by_id.get(&job).copied() {
            run.set(index, Phase::Settling(state));
        }
    })
}

/// The operations that end a run whose jobs are all final, and settle jobs that can never run.
pub fn conclusions(loaded: Loaded, at: Timestamp) -> Vec<Op> {
    decided(loaded, at, |_, _| {})
}

/// What a process that runs no jobs decides about a run.
fn decided(loaded: Loaded, at: Timestamp, change: impl FnOnce(&mut RunState, Now)) -> Vec<Op> {
    if loaded.changes.run.state != store::RunState::Running {
        return Vec::new();
    }
    // A process that can run no job claims none.
    let config = Config {
        worker: WorkerId(0),
        permits: 0,
        shared: true,
        most_prefetched: 0,
        abilities: Abilities::of(|_| false),
        fault: Fault::None,
    };
    let (now, mut permits) = (Now { ms: 0, wall: at }, Permits::new(0));
    let mut run = RunState::new(&loaded.changes.run, &config, now.ms);
    run.take(loaded, now, &mut permits);
    change(&mut run, now);
    run.commit(now, &Turns::new(), &mut permits);
    let commit = run
        .out
        .into_iter()
        .find_map(|effect| if let Effect::Commit { ops, .. } = effect { Some(ops) } else { None });
    commit.unwrap_or_default()
}
