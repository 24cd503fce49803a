//! What a commit did: written, refused, or unknown.

use super::{
    Effect, Fault, Now, Phase, Start, Step,
    config::{KEEP_PREFETCHED, PAUSE},
    permits::Permits,
    run_state::{Call, Care, RunState, Sent},
};
use crate::{
    error::JobFailure,
    job::run_job::backoff_ms,
    store::{
        self, ChangeCursor, Claimed, Committed, Finish, Finished, JobId, JobRef, JobState, Op,
        Timestamp,
    },
};
use std::collections::{HashMap, HashSet};

/// What one commit did, as the ends of its parts need it.
struct Answer {
    claimed: HashMap<JobId, Claimed>,
    full: HashSet<JobId>,
    ignored: HashSet<usize>,
    /// The first end or settlement that was ignored: decisions behind it were left out.
    invalid_from: usize,
    swept: HashSet<JobId>,
    spawned: HashMap<JobId, Vec<JobId>>,
    known: HashSet<JobId>,
}

impl RunState {
    pub(super) fn on_written(&mut self, committed: Committed, now: Now, permits: &mut Permits) {
        self.call = Call::None;
        let sent = std::mem::take(&mut self.sent);
        let is_ground =
            |place: &usize| matches!(sent.get(*place), Some(Sent::End(_) | Sent::Settle(..)));
        let answer = Answer {
            invalid_from: committed.ignored.iter().copied().find(is_ground).unwrap_or(usize::MAX),
            claimed: committed.claimed.into_iter().map(|claimed| (claimed.job, claimed)).collect(),
            full: committed.full.into_iter().collect(),
            ignored: committed.ignored.into_iter().collect(),
            swept: committed.swept.into_iter().collect(),
            spawned: committed.spawned.into_iter().collect(),
            known: committed.known.into_iter().collect(),
        };
        let ends = sent.iter().filter(|sent| matches!(sent, Sent::End(_))).count();
        self.prefetch_limit =
            if ends > 1 { (ends * 2).min(self.config.most_prefetched) } else { 0 };
        for (place, sent) in sent.into_iter().enumerate() {
            let ignored = answer.ignored.contains(&place);
            let left_out = ignored && place > answer.invalid_from;
            match sent {
                Sent::End(index) => self.end_answered(index, ignored, &answer, now, permits),
                Sent::Start(index) => self.start_answered(index, ignored, left_out, now),
                Sent::Settle(index, _) if left_out => self.left_out(index, permits),
                Sent::Claim(indexes) if left_out => {
                    indexes.into_iter().for_each(|index| self.left_out(index, permits));
                }
                Sent::Settle(index, why) => match self.entries[index].phase {
                    Phase::Settling(state) if !ignored || self.has(Fault::BlindSettle) => {
                        self.settled(index, state, *why)
                    }
                    _ => self.forget(index, permits),
                },
                Sent::Claim(indexes) => indexes
                    .into_iter()
                    .for_each(|index| self.claim_answered(index, &answer, now, permits)),
                Sent::EndRun(state, at) if !ignored => self.ended = Some((state, Some(at))),
                Sent::EndRun(..) => self.read_again(),
                // Another process may have released it, or ended it.
                Sent::Release(index) => self.ask_for_row(index, permits),
                Sent::Delete => {}
            }
        }
    }

    /// Read all of the record: rows may matter that did not change since they were read.
    pub(super) fn read_again(&mut self) {
        self.refresh = true;
        self.cursor = ChangeCursor::default();
    }

    /// The row of a job has changed since it was read, by the last commit or by another process. The
    /// changes that are read next have it. Reading the whole run for each such job would cost the
    /// square of its jobs.
    fn ask_for_row(&mut self, index: usize, permits: &mut Permits) {
        self.give_permit(index, permits);
        self.set(index, Phase::Elsewhere);
        self.unclear.push(index);
        self.refresh = true;
    }

    /// A job is final without an attempt, and the record says so.
    fn settled(&mut self, index: usize, state: JobState, (failure, at): (JobFailure, Timestamp)) {
        self.set(index, Phase::Final(state));
        let (run, job) = (self.id, self.entries[index].id);
        self.out.push(Effect::Settled { run, job, state, failure, at });
    }

    fn end_answered(
        &mut self,
        index: usize,
        ignored: bool,
        answer: &Answer,
        now: Now,
        permits: &mut Permits,
    ) {
        let entry = &self.entries[index];
        let Phase::Ending { attempt, step: Step::Sent } = entry.phase else { return };
        let (run, job) = (self.id, entry.id);
        if answer.swept.contains(&job) {
            self.set(index, Phase::Ending { attempt, step: Step::Saving });
            self.out.push(Effect::Save { run, job, attempt });
            return;
        }
        if ignored && !self.has(Fault::FencedEndCounts) {
            // The place went with the claim, unless the first commit of this very end was written
            // and fenced the second.
            if self.entries[index].returned {
                self.return_place(index);
            }
            if self.entries[index].resent {
                self.entries[index].unsure = Some(attempt);
            } else {
                self.out.push(Effect::Fenced { run, job, attempt });
            }
            return self.forget(index, permits);
        }
        self.give_permit(index, permits);
        // It had a place, which is free now.
        permits.resume(self.entries[index].lane);
        if self.entries[index].returned {
            self.return_place(index);
        }
        let Some(end) = self.entries[index].end.take() else { return };
        self.end_counts(index, &end, answer, now, permits);
        let spawned = answer.spawned.get(&job).cloned().unwrap_or_default();
        self.out.push(Effect::Recorded { run, end, spawned });
    }

    /// The end of an attempt is on record.
    fn end_counts(
        &mut self,
        index: usize,
        end: &Finish,
        answer: &Answer,
        now: Now,
        permits: &mut Permits,
    ) {
        match &end.end {
            Finished::Succeeded(_) => {
                self.add_all_spawned(end, answer, permits);
                self.set(index, Phase::Final(JobState::Succeeded));
            }
            Finished::Failed(_) => {
                self.entries[index].tries += 1;
                self.set(index, Phase::Final(JobState::Failed));
            }
            Finished::Cancelled(_) => self.set(index, Phase::Final(JobState::Cancelled)),
            Finished::Retry(..) => {
                let entry = &mut self.entries[index];
                entry.tries += 1;
                // Not by the times that are written down: the clock may have been set between them.
                let pause = backoff_ms(entry.facts.backoff_ms, entry.tries);
                self.set(index, Phase::Backoff { until: now.ms + pause });
                self.queue(index);
            }
            Finished::Released => {
                self.entries[index].given_back = true;
                if self.entries[index].unable {
                    // The job holds no permit any more, so its lane may change.
                    self.entries[index].lane = super::permits::UNABLE;
                }
                self.set(index, Phase::Waiting);
                self.queue(index);
            }
            // What the record made of an attempt that gave up, it alone says: the wish to pause may
            // have been taken back.
            end @ (Finished::Blocked(_) | Finished::Paused(_)) => {
                self.entries[index].signals.pause = false;
                self.entries[index].blocking = matches!(end, Finished::Blocked(_));
                self.ask_for_row(index, permits);
            }
        }
    }

    /// The ids of spawned jobs are known now. Called before the spawner's success is told to what
    /// needs it.
    fn add_all_spawned(&mut self, end: &Finish, answer: &Answer, permits: &mut Permits) {
        let Some(ids) = answer.spawned.get(&end.job) else { return };
        for (new, id) in end.spawned.iter().zip(ids) {
            if self.by_id.contains_key(id) {
                continue;
            }
            let index = self.add_spawned(*id, new, permits);
            if answer.known.contains(id) {
                // Another process spawned it under the same key: its row has to be read.
                self.read_again();
            } else {
                self.set(index, Phase::Waiting);
            }
        }
        let find = |state: &Self, id: &JobId| state.by_id.get(id).copied();
        let forced = self.purpose.forced;
        let kind_of = |any_end: bool| {
            if forced || any_end { super::entry::Kind::AnyEnd } else { super::entry::Kind::Success }
        };
        for (new, id) in end.spawned.iter().zip(ids).filter(|(_, id)| !answer.known.contains(id)) {
            let Some(index) = find(self, id) else { continue };
            for need in &new.needs {
                let needed = match need.job {
                    JobRef::New(place) => ids.get(place).and_then(|id| find(self, id)),
                    JobRef::Id(id) => find(self, &id),
                };
                match needed {
                    Some(needed) => self.add_edge(index, (needed, kind_of(need.any_end))),
                    None => self.read_again(),
                }
            }
        }
        for (waiting, place) in &end.spawned_before {
            let spawned = ids.get(*place).and_then(|id| find(self, id));
            if let (Some(waiting), Some(spawned)) = (find(self, waiting), spawned) {
                // What waits for the spawning job goes on without a tolerated one.
                self.add_edge(waiting, (spawned, kind_of(end.spawned[*place].tolerated)));
            }
        }
        for id in ids {
            if let Some(index) = find(self, id) {
                self.queue(index);
            }
        }
    }

    fn start_answered(&mut self, index: usize, ignored: bool, left_out: bool, now: Now) {
        if let Phase::Running { attempt, start: Start::Sent } = self.entries[index].phase {
            let start = if left_out { Start::Due(now.ms) } else { Start::OnRecord };
            self.set(index, Phase::Running { attempt, start });
            if ignored {
                self.read_again();
            }
        }
    }

    /// What was decided on something that did not hold was left out: the job is as it was, and is
    /// decided on again.
    fn left_out(&mut self, index: usize, permits: &mut Permits) {
        self.give_permit(index, permits);
        self.set(index, Phase::Waiting);
        self.queue(index);
        self.refresh = true;
    }

    fn claim_answered(&mut self, index: usize, answer: &Answer, now: Now, permits: &mut Permits) {
        let Phase::Claiming { permit } = self.entries[index].phase else { return };
        if answer.full.contains(&self.entries[index].id) {
            return self.wait_for_place(index, now, permits);
        }
        let Some(claimed) = answer.claimed.get(&self.entries[index].id).copied() else {
            return self.ask_for_row(index, permits);
        };
        let Claimed { attempt, tries, lost, signals, .. } = claimed;
        let entry = &mut self.entries[index];
        // Another process may have had it meanwhile.
        if self.config.fault != Fault::OldTries {
            entry.tries = tries;
        }
        entry.lost_attempts = lost;
        entry.given_back = false;
        permits.resume(entry.lane);
        entry.signals.cancel |= signals.cancel;
        entry.signals.stop |= signals.stop;
        entry.signals.pause = signals.pause;
        let may_start = permit
            && (!self.stale || self.has(Fault::StaleClaimedStart))
            && !self.entries[index].signals.cancel;
        if may_start && !self.closing {
            return self.start(index, attempt, Start::OnRecord);
        }
        self.give_permit(index, permits);
        let until = self.other_workers.then_some(now.ms + KEEP_PREFETCHED);
        self.set(index, Phase::Prefetched { attempt, started: permit, until });
        self.cancel_prefetched(index, now);
        self.give_back_closing(index, now);
    }

    /// Other processes have all places of the pool: the job waits with the others of its lane, in
    /// the order of ids.
    fn wait_for_place(&mut self, index: usize, now: Now, permits: &mut Permits) {
        self.give_permit(index, permits);
        permits.pause(self.entries[index].lane, now.ms);
        self.set(index, Phase::Waiting);
        self.queue(index);
    }

    /// Nothing is known of the commit: ends are facts and are sent again, all else is decided
    /// again.
    pub(super) fn on_unknown(&mut self, now: Now, permits: &mut Permits) {
        self.call = Call::None;
        self.not_before = now.ms + PAUSE;
        self.read_again();
        self.take_back(now, permits, true);
    }

    /// The commit in flight was not written, or may not have been.
    fn take_back(&mut self, now: Now, permits: &mut Permits, may_be_written: bool) {
        for sent in std::mem::take(&mut self.sent) {
            match sent {
                Sent::End(index) if self.has(Fault::LostEnd) => self.forget(index, permits),
                Sent::End(index) => {
                    if let Phase::Ending { attempt, .. } = self.entries[index].phase {
                        self.entries[index].resent |= may_be_written;
                        self.set(index, Phase::Ending { attempt, step: Step::Unsent });
                    }
                }
                Sent::Start(index) => {
                    if let Phase::Running { attempt, start: Start::Sent } =
                        self.entries[index].phase
                    {
                        self.set(index, Phase::Running { attempt, start: Start::Due(now.ms) });
                    }
                }
                Sent::Claim(indexes) if self.has(Fault::LostPermit) => {
                    for index in indexes {
                        self.set(index, Phase::Elsewhere);
                    }
                }
                Sent::Settle(index, _) | Sent::Release(index) => self.forget(index, permits),
                Sent::Claim(indexes) => {
                    indexes.into_iter().for_each(|index| self.forget(index, permits))
                }
                Sent::EndRun(..) | Sent::Delete => {}
            }
        }
    }

    /// The commit will never be written: it is not repeated as it was.
    pub(super) fn on_refused(&mut self, failure: JobFailure, now: Now, permits: &mut Permits) {
        self.call = Call::None;
        let ends: Vec<usize> = self
            .sent
            .iter()
            .filter_map(|sent| if let Sent::End(index) = sent { Some(*index) } else { None })
            .collect();
        let deletes = self.sent.iter().any(|sent| matches!(sent, Sent::Delete));
        let all = self.sent.len();
        self.take_back(now, permits, false);
        self.read_again();
        match (&ends[..], deletes) {
            // What is to be deleted is in use: the run ends as failed, and deletes nothing.
            (_, true) => self.spoiled = Some(failure),
            ([], _) => self.stop(failure, now, permits),
            ([index], _) if all == 1 => self.refuse_end(*index, failure, now, permits),
            _ => self.care = Care::Alone,
        }
    }

    /// An end that cannot be recorded fails its attempt; where that cannot be either, the run
    /// stops.
    fn refuse_end(&mut self, index: usize, failure: JobFailure, now: Now, permits: &mut Permits) {
        let Phase::Ending { attempt, .. } = self.entries[index].phase else { return };
        let is_plain = self.entries[index]
            .end
            .as_ref()
            .is_some_and(|end| !matches!(end.end, Finished::Succeeded(_)));
        if is_plain {
            self.stop(failure, now, permits);
        } else {
            self.fail_end(index, attempt, failure, now);
        }
    }

    /// This process cannot go on with the run: what it has of it is given back, and what runs no
    /// longer counts.
    pub(super) fn stop(&mut self, failure: JobFailure, now: Now, permits: &mut Permits) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let mut ops = Vec::new();
        for index in 0..self.entries.len() {
            let (run, job) = (self.id, self.entries[index].id);
            let given_back = |attempt| {
                Finish::plain(
                    job,
                    attempt,
                    self.config.worker,
                    now.wall,
                    now.wall,
                    Finished::Released,
                )
            };
            match self.entries[index].phase {
                Phase::Running { attempt, .. } => {
                    let mut end = given_back(attempt);
                    end.late = self.entries[index].lane >= super::permits::FIRST_POOL;
                    self.entries[index].keeps_place = end.late.then_some(attempt);
                    ops.push(Op::Finish(Box::new(end)));
                    let entry = &mut self.entries[index];
                    entry.late += u32::from(std::mem::take(&mut entry.holds));
                    self.out.push(Effect::Abandon { run, job, attempt });
                }
                Phase::Ending { .. } => {
                    if let Some(mut end) = self.entries[index].end.take() {
                        // A thread that has returned keeps no place, whether or not this end was
                        // written before.
                        end.late &= !self.entries[index].returned;
                        ops.push(Op::Finish(end));
                    }
                    if self.entries[index].returned {
                        self.return_place(index);
                    }
                }
                Phase::Prefetched { attempt, .. } => {
                    ops.push(Op::Finish(Box::new(given_back(attempt))))
                }
                Phase::Final(_) => continue,
                _ => {}
            }
            self.give_permit(index, permits);
            self.set(index, Phase::Elsewhere);
        }
        self.out.push(Effect::Stopped { run: self.id, failure, ops });
    }

    /// What of another state of the same run still runs here keeps its permits.
    pub(super) fn inherit(&mut self, old: &RunState, permits: &mut Permits) {
        for entry in old.entries.iter().filter(|entry| entry.permits() > 0) {
            match self.by_id.get(&entry.id) {
                Some(index) => {
                    self.entries[*index].late += entry.permits();
                    self.entries[*index].used = entry.used;
                    self.entries[*index].keeps_place = entry.keeps_place;
                }
                None => (0..entry.permits()).for_each(|_| permits.give(entry.lane)),
            }
        }
    }

    /// Tell once that the run is over.
    pub(super) fn tell_end(&mut self) {
        let Some((state, at)) = self.ended else { return };
        let is_settled = self.call == Call::None && self.unsent.is_empty() && self.saving == 0;
        if is_settled && !std::mem::replace(&mut self.told, true) {
            let state = if self.spoiled.is_some() { store::RunState::Failed } else { state };
            self.out.push(Effect::Done { run: self.id, state, at });
        }
    }
}
