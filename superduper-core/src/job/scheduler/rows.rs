//! Taking the record as it was read. No commit of the run is in flight then.

use super::{
    Effect, Loaded, Now, Phase, Start,
    config::{KEEP_PREFETCHED, POLL, REFUSED_BLOCK},
    permits::{Permits, UNABLE},
    run_state::{Call, RunState},
};
use crate::{
    job::run_job::backoff_ms,
    store::{self, Finished, JobDependency, JobRow, JobSignals, JobState, RunChanges},
};

/// How long a retry still has to wait.
///
/// The time on record is of a clock that may have been set since: it is believed for no longer than
/// the whole pause.
fn remaining(row: &JobRow, now: Now, trusts_clock: bool) -> Option<u64> {
    let left = u64::try_from(row.not_before?.0.saturating_sub(now.wall.0)).ok()?;
    let pause = if trusts_clock { left } else { left.min(backoff_ms(row.backoff_ms, row.tries)) };
    Some(pause).filter(|pause| *pause > 0)
}

impl RunState {
    /// Take the answer to a read.
    pub(super) fn on_rows(&mut self, loaded: Loaded, now: Now, permits: &mut Permits) {
        let current = self.call == Call::Read { current: true } || self.has(super::Fault::OldRead);
        self.call = Call::None;
        self.last_read = now.ms;
        if !current {
            // What was asked for before the lease lapsed says nothing of what came after it.
            return;
        }
        self.stale = false;
        self.take(loaded, now, permits);
        self.leave_to_others();
    }

    /// Stop leading the run if none of its jobs can go on here, and no other worker lives whose
    /// program could have what is missing.
    fn leave_to_others(&mut self) {
        let waits = |entry: &super::entry::Entry| match entry.phase {
            Phase::Ready => entry.lane == UNABLE,
            Phase::Waiting => true,
            _ => entry.verdict.is_some(),
        };
        let is_unable = self.ready.get(&UNABLE).is_some_and(|ready| !ready.is_empty());
        let is_idle = self.unsent.is_empty()
            && self.doomed.is_empty()
            && self.ended.is_none()
            && !self.refresh;
        if is_unable && is_idle && !self.other_workers && self.entries.iter().all(waits) {
            self.told = true;
            self.out.push(Effect::Done { run: self.id, state: store::RunState::Running, at: None });
        }
    }

    /// Take rows as the record has them now.
    pub(super) fn take(&mut self, loaded: Loaded, now: Now, permits: &mut Permits) {
        let Loaded { changes, others, .. } = &loaded;
        self.other_workers = loaded.other_workers;
        if changes.run.state != store::RunState::Running {
            self.ended.get_or_insert((changes.run.state, changes.run.ended_at));
        }
        let mut moved = false;
        for row in others.iter().chain(&changes.jobs) {
            if !self.by_id.contains_key(&row.id) {
                self.add_row(row, permits);
                moved = true;
            }
        }
        self.take_dependencies(&changes.dependencies);
        // Kept first: what is told about a job below is told of its row.
        let place = self.out.len();
        for row in others.iter().chain(&changes.jobs) {
            moved |= self.sync_with_row(row, now, permits);
        }
        self.cursor = changes.cursor;
        self.clear_up(changes);
        self.poll = if moved { POLL.0 } else { (self.poll * 2).min(POLL.1) };
        self.out.insert(place, Effect::Took(Box::new(loaded)));
    }

    /// A job whose claim was ignored, or that blocked, and that is not among the changes, is looked
    /// for in all that is on record.
    fn clear_up(&mut self, changes: &RunChanges) {
        let unclear = std::mem::take(&mut self.unclear);
        let is_told =
            |index: &usize| changes.jobs.iter().any(|row| row.id == self.entries[*index].id);
        if unclear
            .iter()
            .any(|index| self.entries[*index].phase == Phase::Elsewhere && !is_told(index))
        {
            self.read_again();
        }
    }

    /// Before the rows: what waits for a spawner must not start before it waits for the spawned
    /// jobs.
    fn take_dependencies(&mut self, dependencies: &[JobDependency]) {
        for dependency in dependencies {
            if self.add_dependency(dependency).is_err() {
                // Its row was recorded after these were read; the next read has it.
                self.refresh = true;
            }
        }
    }

    /// Take a row; whether the job moved.
    fn sync_with_row(&mut self, row: &JobRow, now: Now, permits: &mut Permits) -> bool {
        let Some(index) = self.by_id.get(&row.id).copied() else { return false };
        let before = self.entries[index].phase;
        match before {
            // Whether an end counts, the answer to its commit says.
            Phase::Final(_) | Phase::Ending { .. } => {
                self.take_signals(index, row.signals());
                return false;
            }
            Phase::Running { attempt, start } => {
                if self.is_mine(row, attempt) {
                    self.go_on(index, row, attempt, start);
                    return false;
                }
                self.leave(index, row, attempt);
            }
            Phase::Prefetched { attempt, .. } if self.is_mine(row, attempt) => {
                (self.entries[index].tries, self.entries[index].lost_attempts) =
                    (row.tries, row.lost);
                self.take_signals(index, row.signals());
                return false;
            }
            _ => {}
        }
        self.follow(index, row, now, permits);
        self.entries[index].phase != before
    }

    pub(super) fn is_mine(&self, row: &JobRow, attempt: u32) -> bool {
        row.owner == Some(self.config.worker) && row.attempt == attempt && !row.state.is_terminal()
    }

    /// An attempt runs here, and the record says so, too.
    pub(super) fn go_on(&mut self, index: usize, row: &JobRow, attempt: u32, start: Start) {
        (self.entries[index].tries, self.entries[index].lost_attempts) = (row.tries, row.lost);
        if row.state == JobState::Running && start != Start::OnRecord {
            self.set(index, Phase::Running { attempt, start: Start::OnRecord });
        }
        self.take_signals(index, row.signals());
    }

    /// An attempt runs here that the record does not know any more: its thread keeps the permit
    /// until it returns.
    fn leave(&mut self, index: usize, row: &JobRow, attempt: u32) {
        let entry = &mut self.entries[index];
        entry.late += u32::from(std::mem::take(&mut entry.holds));
        // A job that was taken back before its start was on record has the same numbers.
        let taken_back =
            row.state == JobState::Queued && row.owner.is_none() && row.tries == entry.tries;
        let others = row.owner.is_some_and(|owner| owner != self.config.worker);
        let taken_over =
            row.attempt != attempt || row.lost > entry.lost_attempts || others || taken_back;
        // Else who ran it recorded its end.
        if taken_over {
            let (run, job) = (self.id, entry.id);
            if self.config.fault == super::Fault::AbandonCancels {
                entry.signals.cancel = true;
            }
            self.out.push(Effect::Abandon { run, job, attempt });
            self.out.push(Effect::Fenced { run, job, attempt });
        }
    }

    /// Put a job where its row says.
    fn follow(&mut self, index: usize, row: &JobRow, now: Now, permits: &mut Permits) {
        self.give_permit(index, permits);
        let same_try = self.entries[index].tries == row.tries;
        (self.entries[index].tries, self.entries[index].lost_attempts) = (row.tries, row.lost);
        self.tell_unsure(index, row);
        let phase = match row.owner {
            _ if row.state.is_terminal() => Phase::Final(row.state),
            Some(owner) if owner == self.config.worker && self.entries[index].own => {
                let until = self.other_workers.then_some(now.ms + KEEP_PREFETCHED);
                Phase::Prefetched {
                    attempt: row.attempt,
                    started: row.state == JobState::Running,
                    until,
                }
            }
            Some(_) => Phase::Elsewhere,
            None if row.state == JobState::Blocked => self.blocked(index, row, now),
            None if !self.entries[index].own => Phase::Elsewhere,
            // It would block again and again if what it read can never match.
            None if std::mem::take(&mut self.entries[index].blocking) => {
                let entry = &mut self.entries[index];
                entry.refused_blocks += 1;
                Phase::Backoff {
                    until: now.ms
                        + REFUSED_BLOCK
                            .0
                            .saturating_mul(1 << entry.refused_blocks.min(12))
                            .min(REFUSED_BLOCK.1),
                }
            }
            None => match (
                self.entries[index].phase,
                remaining(row, now, self.has(super::Fault::TrustedClock)),
            ) {
                // Its own pause is measured by a clock that nobody sets.
                (same @ Phase::Backoff { .. }, _) if same_try => same,
                (_, Some(pause)) => Phase::Backoff { until: now.ms + pause },
                (same @ (Phase::Waiting | Phase::Ready), None) => same,
                (_, None) => Phase::Waiting,
            },
        };
        let (run, job) = (self.id, row.id);
        self.set(index, phase);
        self.take_signals(index, row.signals());
        self.queue(index);
        match phase {
            Phase::Final(JobState::Succeeded) if self.entries[index].own => {
                self.out.push(Effect::EndedElsewhere { run, job })
            }
            // An attempt starts once: this one was here, and its end did not come to the record.
            Phase::Prefetched { attempt, .. } if attempt <= self.entries[index].used => {
                self.end_unstarted(index, Finished::Released, now);
            }
            Phase::Prefetched { .. } => {
                self.cancel_prefetched(index, now);
                self.give_back_closing(index, now);
            }
            _ => {}
        }
    }

    /// The phase of a blocked job. How long it stays blocked is measured by a clock that nobody
    /// sets.
    fn blocked(&mut self, index: usize, row: &JobRow, now: Now) -> Phase {
        self.entries[index].blocking = false;
        self.entries[index].refused_blocks = 0;
        let known = std::mem::replace(&mut self.entries[index].blocked, row.blocked_until);
        match (self.entries[index].phase, row.blocked_until) {
            (same @ Phase::Blocked { .. }, _) if known == row.blocked_until => same,
            // A job of another run is released by the process that leads that run.
            (_, Some(blocked)) if self.entries[index].own => {
                let left = |time: store::Timestamp| {
                    u64::try_from(blocked.until.0.saturating_sub(time.0)).unwrap_or(0)
                };
                // The clock may have been set back since: the job waits no longer than it was to
                // wait from the beginning.
                Phase::Blocked { until: Some(now.ms + left(now.wall).min(left(blocked.since))) }
            }
            _ => Phase::Blocked { until: None },
        }
    }

    /// Whether an end that was sent twice, and ignored, was on record from the first time.
    fn tell_unsure(&mut self, index: usize, row: &JobRow) {
        let entry = &mut self.entries[index];
        let Some(attempt) = entry.unsure.take() else { return };
        let (run, job) = (self.id, entry.id);
        // Where it was, the row says how it ended.
        let written =
            row.attempt == attempt && row.owner.is_none() && row.lost == entry.lost_attempts;
        if !written {
            self.out.push(Effect::Fenced { run, job, attempt });
        }
    }

    /// Take what is asked of a job on record. A wish to pause may have been taken back since.
    pub(super) fn take_signals(&mut self, index: usize, row: JobSignals) {
        let known = self.entries[index].signals;
        let signals = JobSignals {
            cancel: known.cancel || row.cancel,
            stop: known.stop || row.stop,
            pause: row.pause,
        };
        self.signal(index, signals);
    }
}
