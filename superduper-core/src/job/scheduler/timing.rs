//! What a run does because time has passed, and when it wants to be woken.

use super::{
    Effect, Fault, Now, Phase,
    config::{BUSY_POLL, IDLE_POLL},
    permits::{GENERAL, UNABLE},
    run_state::{Call, RunState},
};
use crate::store::{Finished, JobRow};

impl RunState {
    /// The jobs whose time has come.
    pub(super) fn due_by(&self, now: Now) -> Vec<usize> {
        self.due.iter().take_while(|(time, _)| *time <= now.ms).map(|(_, index)| *index).collect()
    }

    /// Jobs whose pause is over can be claimed.
    pub(super) fn wake(&mut self, now: Now) {
        for index in self.due_by(now) {
            if matches!(self.entries[index].phase, Phase::Backoff { .. }) {
                self.set(index, Phase::Waiting);
                self.queue(index);
            }
        }
    }

    /// Give jobs back that were prefetched and have waited for a permit for too long: another
    /// worker may have one.
    pub(super) fn give_back_prefetched(&mut self, now: Now) {
        if !self.stale {
            for index in self.due_by(now) {
                self.end_unstarted(index, Finished::Released, now);
            }
        }
    }

    /// When the record has to be read next.
    fn next_read(&self) -> Option<u64> {
        if self.refresh {
            return Some(self.not_before);
        }
        if self.ended.is_some() {
            return None;
        }
        let waits_for_program =
            self.running == 0 && self.ready.get(&UNABLE).is_some_and(|ready| !ready.is_empty());
        let waits_for_place = self.ready.values().any(|ready| !ready.is_empty());
        let every =
            if self.others_open > 0 || waits_for_program || (self.away > 0 && self.running == 0) {
                self.poll
            } else if !self.config.shared {
                return None;
            } else if self.running > 0 {
                BUSY_POLL
            } else if self.away > 0 || !self.due.is_empty() || waits_for_place {
                IDLE_POLL
            } else {
                return None;
            };
        Some((self.last_read + every).max(self.not_before))
    }

    /// Read the record, if that is due. Whether it is.
    pub(super) fn read(&mut self, now: Now) -> bool {
        if self.next_read().is_none_or(|time| time > now.ms) {
            return false;
        }
        let only_looks =
            !self.refresh && self.away == 0 && self.others_open == 0 && !self.waits_long();
        self.refresh = false;
        self.call = Call::Read { current: true };
        if only_looks {
            let ours = |entry: &&super::entry::Entry| {
                matches!(entry.phase, Phase::Running { .. } | Phase::Prefetched { .. })
            };
            let jobs = self.entries.iter().filter(ours).map(|entry| entry.id).collect();
            self.out.push(Effect::Look { run: self.id, jobs });
            return true;
        }
        // Usually there are none, and then a large run is not searched for them.
        let is_open = |entry: &&super::entry::Entry| !entry.own && entry.verdict.is_none();
        let others = if self.others_open == 0 {
            Vec::new()
        } else {
            self.entries.iter().filter(is_open).map(|entry| entry.id).collect()
        };
        self.out.push(Effect::Read { run: self.id, after: self.cursor, others });
        true
    }

    /// Whether a job waits for a time or for a place in a pool: another process may end it
    /// meanwhile.
    fn waits_long(&self) -> bool {
        let in_pools = self.ready.iter().any(|(lane, ready)| *lane != GENERAL && !ready.is_empty());
        in_pools
            || self.due.iter().any(|(_, index)| {
                matches!(self.entries[*index].phase, Phase::Backoff { .. } | Phase::Blocked { .. })
            })
    }

    /// Take what was read of single jobs: one that is not ours any more may have spawned others, so
    /// all is read then.
    pub(super) fn on_looked(&mut self, rows: Vec<JobRow>, other_workers: bool, now: Now) {
        let current = self.call == Call::Read { current: true };
        self.call = Call::None;
        self.last_read = now.ms;
        if !current {
            return;
        }
        self.other_workers = other_workers;
        for row in rows {
            let Some(index) = self.by_id.get(&row.id).copied() else { continue };
            match self.entries[index].phase {
                Phase::Running { attempt, start } if self.is_mine(&row, attempt) => {
                    self.go_on(index, &row, attempt, start)
                }
                Phase::Prefetched { attempt, .. } if self.is_mine(&row, attempt) => {
                    self.take_signals(index, row.signals())
                }
                Phase::Running { .. } | Phase::Prefetched { .. } => self.read_again(),
                _ => {}
            }
            self.cancel_prefetched(index, now);
        }
    }

    pub(super) fn on_read_failed(&mut self, now: Now) {
        self.call = Call::None;
        self.refresh = true;
        self.not_before = now.ms + super::config::PAUSE;
    }

    /// The lease lapsed: what is believed here may not be so, and a read under way does not count.
    pub(super) fn on_lapsed(&mut self) {
        self.stale = true;
        self.read_again();
        if let Call::Read { current } = &mut self.call {
            *current = false;
        }
    }

    /// When the run wants to be woken.
    pub(super) fn next_wake(&self, now: Now) -> Option<u64> {
        if self.has(Fault::Spin) {
            return Some(now.ms + 1);
        }
        if self.is_stopped() || (self.told && self.call == Call::None) {
            return None;
        }
        let due = self.due.iter().map(|(time, _)| *time).find(|time| *time > now.ms);
        // A process that closes releases no job.
        let is_stuck = |index: &usize| {
            self.closing && matches!(self.entries[*index].phase, Phase::Blocked { .. })
        };
        let late_start =
            self.due_by(now).iter().any(|index| !is_stuck(index)).then_some(self.not_before);
        let unsent =
            (!self.unsent.is_empty() || !self.doomed.is_empty()).then_some(self.not_before);
        // While a call is in flight its answer comes first.
        let call = [self.next_read(), unsent, late_start]
            .into_iter()
            .flatten()
            .min()
            .filter(|_| self.call == Call::None);
        [due, call].into_iter().flatten().min().map(|time| time.max(now.ms + 1))
    }
}
