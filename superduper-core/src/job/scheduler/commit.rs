//! What one commit decides: ends first, then starts, settlements, claims, and the end of the run.
//!
//! Invariant: what is decided on an end or a settlement follows it in the batch, so that the store
//! leaves it out if it ignores the end or the settlement.

use super::{
    Effect, Fault, Now, Phase, Start, Step,
    entry::{Edge, Entry},
    permits::{GENERAL, Lane, Permits},
    run_state::{Call, Care, RunState, Sent},
};
use crate::{
    error::{FailureKind, JobFailure},
    store::{self, JobId, JobState, Op, Pool},
};
use std::collections::{BTreeSet, HashMap};

/// The jobs whose turn it is in pools: those of the lowest ids among all runs of the process.
pub(super) type Turns = HashMap<Lane, BTreeSet<JobId>>;

impl RunState {
    /// Whether a call of the store could be made now.
    pub(super) fn may_call(&self, now: Now) -> bool {
        self.call == Call::None && now.ms >= self.not_before && !self.is_stopped()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.told && self.ended.is_none()
    }

    /// Make the commit that is due, if there is one.
    pub(super) fn commit(&mut self, now: Now, turns: &Turns, permits: &mut Permits) {
        let mut ops = Vec::new();
        self.send_ends(&mut ops);
        if self.care == Care::Together {
            self.send_starts(now, &mut ops);
            self.send_settlements(now, &mut ops);
            if self.ended.is_none() {
                if !self.closing {
                    self.send_claims(now, turns, permits, &mut ops);
                    self.send_releases(now, &mut ops);
                }
                self.send_end_of_run(now, &mut ops);
            }
        }
        if !ops.is_empty() {
            self.call = Call::Commit;
            self.out.push(Effect::Commit { run: self.id, ops });
        }
    }

    fn send_ends(&mut self, ops: &mut Vec<Op>) {
        let most = if self.care == Care::Alone { 1 } else { usize::MAX };
        for index in self.unsent.iter().copied().take(most).collect::<Vec<_>>() {
            let entry = &self.entries[index];
            let (Phase::Ending { attempt, .. }, Some(end)) = (entry.phase, entry.end.clone())
            else {
                continue;
            };
            ops.push(Op::Finish(end));
            self.sent.push(Sent::End(index));
            self.set(index, Phase::Ending { attempt, step: Step::Sent });
        }
        if ops.is_empty() {
            self.care = Care::Together;
        }
    }

    /// Put starts on record that are due: else a job that runs for hours would be listed as queued.
    fn send_starts(&mut self, now: Now, ops: &mut Vec<Op>) {
        for index in self.due_by(now) {
            let Phase::Running { attempt, start: Start::Due(since) } = self.entries[index].phase
            else {
                continue;
            };
            let early =
                i64::try_from(now.ms.saturating_sub(since) + super::config::START_ON_RECORD)
                    .unwrap_or(0);
            let at = store::Timestamp(now.wall.0.saturating_sub(early));
            ops.push(Op::Start { job: self.entries[index].id, attempt, at });
            self.sent.push(Sent::Start(index));
            self.set(index, Phase::Running { attempt, start: Start::Sent });
        }
    }

    fn send_settlements(&mut self, now: Now, ops: &mut Vec<Op>) {
        while let Some(index) = self.doomed.pop_first() {
            let entry = &self.entries[index];
            if !entry.phase.is_free() || !(entry.lost > 0 || entry.signals.cancel) {
                continue;
            }
            let (state, failure) = if entry.signals.cancel {
                (
                    JobState::Cancelled,
                    JobFailure::new(FailureKind::Cancelled, "cancelled before it started"),
                )
            } else {
                (JobState::Skipped, JobFailure::new(FailureKind::Upstream, self.why_lost(index)))
            };
            ops.push(Op::Settle { job: entry.id, state, failure: failure.clone(), at: now.wall });
            self.sent.push(Sent::Settle(index, Box::new((failure, now.wall))));
            self.set(index, Phase::Settling(state));
        }
    }

    /// Which need keeps a job from ever running.
    fn why_lost(&self, index: usize) -> String {
        let lost = self.entries[index]
            .needs
            .iter()
            .find(|(need, kind)| kind.is_lost(self.entries[*need].verdict));
        let Some(need) = lost.map(|(need, _)| &self.entries[*need]) else {
            return "upstream failed".to_owned();
        };
        if !need.own {
            return format!("upstream failed: job {}", need.id);
        }
        let state = match need.phase {
            Phase::Final(state) | Phase::Settling(state) => state,
            _ if matches!(
                need.end.as_ref().map(|end| &end.end),
                Some(store::Finished::Cancelled(_))
            ) =>
            {
                JobState::Cancelled
            }
            _ => JobState::Failed,
        };
        format!(
            "upstream {state}: job {} (`{}` of `{}`)",
            need.id, need.facts.method, need.facts.target
        )
    }

    fn send_claims(&mut self, now: Now, turns: &Turns, permits: &mut Permits, ops: &mut Vec<Op>) {
        let (mut start, mut ahead) = (Vec::new(), Vec::new());
        let mut room = self.prefetch_limit.saturating_sub(self.prefetched.len());
        for lane in self.ready.keys().copied().collect::<Vec<_>>() {
            let mut in_pool = Vec::new();
            let turn = turns.get(&lane);
            let Some(ready) = self.ready.get(&lane) else { continue };
            for index in ready {
                let entry = &self.entries[*index];
                if lane != GENERAL && !turn.is_some_and(|turn| turn.contains(&entry.id)) {
                    continue;
                }
                if entry.late > 0 && !self.has(Fault::LateRetry) {
                    continue;
                }
                if permits.take(lane) {
                    if lane == GENERAL { start.push(*index) } else { in_pool.push(*index) }
                } else if lane != GENERAL || room == 0 {
                    break;
                } else if !entry.given_back {
                    room -= 1;
                    ahead.push(*index);
                }
            }
            self.send_claim(in_pool, true, permits.pool_of(lane), now, ops);
        }
        self.send_claim(start, true, None, now, ops);
        self.send_claim(ahead, false, None, now, ops);
    }

    /// Queue blocked jobs again whose time has come.
    fn send_releases(&mut self, now: Now, ops: &mut Vec<Op>) {
        for index in self.due_by(now) {
            if let (Phase::Blocked { .. }, Some(blocked)) =
                (self.entries[index].phase, self.entries[index].blocked)
            {
                ops.push(Op::Release { job: self.entries[index].id, blocked, at: now.wall });
                self.sent.push(Sent::Release(index));
                self.set(index, Phase::Elsewhere);
            }
        }
    }

    fn send_claim(
        &mut self,
        indexes: Vec<usize>,
        permit: bool,
        pool: Option<Pool>,
        now: Now,
        ops: &mut Vec<Op>,
    ) {
        if indexes.is_empty() {
            return;
        }
        let jobs = indexes.iter().map(|index| self.entries[*index].id).collect();
        for index in &indexes {
            self.entries[*index].holds = permit;
            self.set(*index, Phase::Claiming { permit });
        }
        let pool = pool.filter(|_| !self.has(Fault::LocalPools));
        ops.push(Op::Claim { jobs, owner: self.config.worker, start: permit, pool, at: now.wall });
        self.sent.push(Sent::Claim(indexes));
    }

    /// The run ends in the commit of its last end; a removal deletes rows only when every cleanup
    /// is on record.
    fn send_end_of_run(&mut self, now: Now, ops: &mut Vec<Op>) {
        // Nor while jobs of other runs are at work on what goes.
        let open = self.undecided > 0
            || (self.purpose.is_removal && (!ops.is_empty() || self.others_open > 0));
        if open || !self.unsent.is_empty() {
            return;
        }
        let state = self.outcome();
        ops.push(Op::EndRun { run: self.id, state, at: now.wall });
        self.sent.push(Sent::EndRun(state, now.wall));
        if self.purpose.is_removal && state == store::RunState::Succeeded {
            // They follow the end in the batch: where another process ended the run, what has this
            // name now may be new.
            for (address, versions) in self.purpose.deletions.clone() {
                ops.push(Op::Delete { address, versions });
                self.sent.push(Sent::Delete);
            }
        }
    }

    /// Whether a job that counts was skipped since it needs the success of a tolerated job.
    fn lacks_tolerated(&self, entry: &Entry) -> bool {
        let is_skipped = matches!(
            entry.phase,
            Phase::Final(JobState::Skipped) | Phase::Settling(JobState::Skipped)
        );
        let lacks = |(need, kind): &Edge| {
            self.entries[*need].facts.tolerated && kind.is_lost(self.entries[*need].verdict)
        };
        entry.own && !entry.facts.tolerated && is_skipped && entry.needs.iter().any(lacks)
    }

    fn outcome(&self) -> store::RunState {
        if self.spoiled.is_some() {
            return store::RunState::Failed;
        }
        let is = |state: JobState| {
            self.entries.iter().filter(|entry| entry.own && !entry.facts.tolerated).any(|entry| {
                match entry.phase {
                    Phase::Final(other) | Phase::Settling(other) => other == state,
                    Phase::Ending { .. } => match entry.end.as_ref().map(|end| &end.end) {
                        Some(store::Finished::Cancelled(_)) => state == JobState::Cancelled,
                        Some(store::Finished::Failed(_)) => state == JobState::Failed,
                        _ => false,
                    },
                    _ => false,
                }
            })
        };
        if self.purpose.forced {
            store::RunState::Succeeded
        } else if is(JobState::Failed) {
            store::RunState::Failed
        } else if is(JobState::Cancelled) {
            store::RunState::Cancelled
        } else if self.entries.iter().any(|entry| self.lacks_tolerated(entry)) {
            store::RunState::Failed
        } else {
            store::RunState::Succeeded
        }
    }
}
