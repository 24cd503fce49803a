//! Attempts: their starts, what is asked of them, their ends.

use super::{
    Effect, Fault, Now, Phase, Report, Start, Step,
    config::START_ON_RECORD,
    permits::{FIRST_POOL, GENERAL, Permits},
    run_state::RunState,
};
use crate::{
    error::{FailureKind, JobFailure},
    job::run_job::conclude_with,
    store::{Finish, Finished, JobId, JobSignals},
};

impl RunState {
    /// Start prefetched jobs as far as there are permits.
    pub(super) fn start_prefetched(&mut self, now: Now, permits: &mut Permits) {
        if self.closing || (self.stale && !self.has(Fault::StalePrefetchedStart)) {
            return;
        }
        for index in self.prefetched.iter().copied().collect::<Vec<_>>() {
            let entry = &self.entries[index];
            let Phase::Prefetched { attempt, started, .. } = entry.phase else { continue };
            if entry.late > 0 && !self.has(Fault::LateRetry) {
                continue;
            }
            if permits.take(entry.lane) {
                self.entries[index].holds = true;
                let start =
                    if started { Start::OnRecord } else { Start::Due(now.ms + START_ON_RECORD) };
                self.start(index, attempt, start);
            } else if entry.lane == GENERAL && permits.lanes().len() == FIRST_POOL {
                return;
            }
        }
    }

    /// Start an attempt whose claim is on record; the job holds a permit.
    pub(super) fn start(&mut self, index: usize, attempt: u32, start: Start) {
        self.set(index, Phase::Running { attempt, start });
        let entry = &mut self.entries[index];
        entry.used = attempt;
        let (run, job, tries, lost, signals) =
            (self.id, entry.id, entry.tries, entry.lost_attempts, entry.signals);
        self.out.push(Effect::Start { run, job, attempt, tries, lost, signals });
    }

    /// Take what is asked of a job now.
    pub(super) fn signal(&mut self, index: usize, signals: JobSignals) {
        let entry = &mut self.entries[index];
        if !entry.own || std::mem::replace(&mut entry.signals, signals) == signals {
            return;
        }
        let (run, job) = (self.id, entry.id);
        if let Phase::Running { attempt, .. } = entry.phase {
            self.out.push(Effect::Signal { run, job, attempt, signals });
        }
        self.queue(index);
    }

    /// Jobs, or all of them, are asked for something.
    pub(super) fn on_signal(&mut self, jobs: Option<Vec<JobId>>, asked: JobSignals, now: Now) {
        let indexes: Vec<usize> = match jobs {
            Some(jobs) => jobs.iter().filter_map(|job| self.by_id.get(job).copied()).collect(),
            None => (0..self.entries.len()).collect(),
        };
        for index in indexes {
            let known = self.entries[index].signals;
            let signals = JobSignals {
                cancel: known.cancel || asked.cancel,
                stop: known.stop || asked.stop,
                pause: known.pause || asked.pause,
            };
            self.signal(index, signals);
            self.cancel_prefetched(index, now);
        }
    }

    /// A job that was claimed, and that is cancelled before it starts, needs no permit to end.
    pub(super) fn cancel_prefetched(&mut self, index: usize, now: Now) {
        let entry = &self.entries[index];
        if matches!(entry.phase, Phase::Prefetched { .. }) && entry.signals.cancel {
            let failure = JobFailure::new(FailureKind::Cancelled, "cancelled before it started");
            self.end_unstarted(index, Finished::Cancelled(failure), now);
        }
    }

    /// End the claim of a job that was not started.
    pub(super) fn end_unstarted(&mut self, index: usize, end: Finished, now: Now) {
        let Phase::Prefetched { attempt, .. } = self.entries[index].phase else { return };
        let finish = Finish::plain(
            self.entries[index].id,
            attempt,
            self.config.worker,
            now.wall,
            now.wall,
            end,
        );
        self.end(index, attempt, finish);
    }

    /// The end of an attempt is to be put on record.
    pub(super) fn end(&mut self, index: usize, attempt: u32, finish: Finish) {
        let entry = &mut self.entries[index];
        entry.end = Some(Box::new(finish));
        entry.resent = false;
        self.set(index, Phase::Ending { attempt, step: Step::Unsent });
    }

    /// An attempt came back.
    pub(super) fn on_ended(
        &mut self,
        job: JobId,
        attempt: u32,
        report: Report,
        late: bool,
        now: Now,
        permits: &mut Permits,
    ) {
        let Some(index) = self.by_id.get(&job).copied() else { return };
        if !matches!(self.entries[index].phase, Phase::Running { attempt: current, .. } if current == attempt)
        {
            // It was abandoned: its thread has the permit, until it returns.
            if !late || self.has(Fault::LatePlaceFreed) {
                self.on_returned(job, permits);
            }
            return;
        }
        let entry = &mut self.entries[index];
        if late {
            entry.late += u32::from(std::mem::take(&mut entry.holds));
        } else if entry.lane == GENERAL {
            self.give_permit(index, permits);
        }
        match report {
            Report::Recorded => {
                // Its row has changed since it was read.
                self.give_permit(index, permits);
                self.set(index, Phase::Elsewhere);
                self.refresh = true;
            }
            Report::Unable => {
                self.entries[index].unable = true;
                let id = self.entries[index].id;
                self.end(
                    index,
                    attempt,
                    Finish::plain(
                        id,
                        attempt,
                        self.config.worker,
                        now.wall,
                        now.wall,
                        Finished::Released,
                    ),
                );
            }
            Report::Finish(mut finish) => {
                finish.late = late && self.entries[index].lane >= FIRST_POOL;
                self.entries[index].keeps_place = finish.late.then_some(attempt);
                self.entries[index].returned = false;
                finish.end = self.conclude_closing(index, finish.end);
                finish.end = self.conclude(index, finish.end, now);
                self.end(index, attempt, *finish);
            }
        }
    }

    /// What an end means for the job: a failure may be followed by another try.
    fn conclude(&self, index: usize, end: Finished, now: Now) -> Finished {
        let entry = &self.entries[index];
        match end {
            Finished::Failed(failure) => conclude_with(
                failure,
                (entry.tries, entry.facts.retries, entry.facts.backoff_ms),
                entry.signals.cancel,
                now.wall,
            ),
            end => end,
        }
    }

    /// The thread of an attempt that does not count any more has returned.
    pub(super) fn on_returned(&mut self, job: JobId, permits: &mut Permits) {
        let Some(index) = self.by_id.get(&job).copied() else { return };
        let entry = &mut self.entries[index];
        if entry.late > 0 {
            entry.late -= 1;
            permits.give(entry.lane);
        }
        if entry.keeps_place.is_none() {
            return;
        }
        match (entry.phase, &mut entry.end) {
            // The end is not sent yet: it then says that the thread has returned.
            (Phase::Ending { step: Step::Unsent | Step::Saving, .. }, Some(end)) => {
                end.late = false;
                if entry.resent {
                    // The first commit may have been written, and then this end is ignored.
                    entry.returned = true;
                } else {
                    entry.keeps_place = None;
                }
            }
            // The end is being sent. Returned before it, the place would be kept for ever.
            (Phase::Ending { .. }, _) => entry.returned = true,
            _ => self.return_place(index),
        }
    }

    /// Free the place of a late thread.
    pub(super) fn return_place(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.returned = false;
        let (run, job) = (self.id, entry.id);
        if let Some(attempt) = entry.keeps_place.take() {
            self.out.push(Effect::ReturnPlace { run, job, attempt });
        }
    }

    /// The blobs of an end were saved again, or could not be.
    pub(super) fn on_saved(
        &mut self,
        job: JobId,
        attempt: u32,
        saved: Result<u64, JobFailure>,
        now: Now,
    ) {
        let Some(index) = self.by_id.get(&job).copied() else { return };
        let saving = Phase::Ending { attempt, step: Step::Saving };
        if self.entries[index].phase != saving {
            return;
        }
        match saved {
            Ok(epoch) => {
                if let Some(end) = &mut self.entries[index].end {
                    end.sweep_epoch = Some(epoch);
                }
                self.set(index, Phase::Ending { attempt, step: Step::Unsent });
            }
            Err(failure) => self.fail_end(index, attempt, failure, now),
        }
    }

    /// The end of an attempt cannot be put on record as it is: the attempt failed.
    pub(super) fn fail_end(&mut self, index: usize, attempt: u32, failure: JobFailure, now: Now) {
        let end = self.conclude(index, Finished::Failed(failure), now);
        let entry = &self.entries[index];
        let started_at = entry.end.as_ref().map_or(now.wall, |end| end.started_at);
        let mut finish =
            Finish::plain(entry.id, attempt, self.config.worker, started_at, now.wall, end);
        finish.late = entry.keeps_place.is_some();
        // Through another phase: the verdict is made from the new end.
        self.set(index, Phase::Ending { attempt, step: Step::Saving });
        self.end(index, attempt, finish);
    }
}
