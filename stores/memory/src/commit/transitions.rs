//! The ends of attempts and jobs.
//!
//! Invariant: only the owner of the current attempt ends it; a final job is never touched again; a
//! success whose blobs a sweep takes, or may have taken, changes nothing.

use super::Commit;
use crate::state::{Counter, Dependency, Job, OutputValue};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use superduper_core::{
    Digest, Error, FailureKind, JobFailure, Result,
    store::{
        AttemptRow, Block, BlockedUntil, Completion, Finish, Finished, JobId, JobRow, JobState,
        MessageRow, OutputRow, Timestamp, WorkerId,
    },
};

/// With so many lost attempts a job is given up.
const MAX_LOST: u32 = 3;

impl Commit<'_> {
    pub(super) fn finish(&mut self, finish: Finish) -> Result<()> {
        let id = finish.job;
        let Some(row) = self.row_of(&finish) else {
            self.done.fenced.push(id);
            self.invalidate();
            return Ok(());
        };
        if matches!(finish.end, Finished::Succeeded(_)) && self.names_swept(&finish) {
            self.done.swept.push(id);
            self.invalidate();
            return Ok(());
        }
        if !finish.late {
            self.return_place(id, finish.attempt, finish.owner);
        }
        self.record_attempt(&finish);
        let at = finish.at;
        match finish.end {
            Finished::Succeeded(result) => {
                let outputs = self.keep_outputs(&row, finish.outputs)?;
                self.state.jobs.change(&id, |job| {
                    job.row.result = Some(result);
                    job.blobs = finish.blobs;
                });
                self.end_job_with(id, JobState::Succeeded, None, at, outputs);
                self.spawn(id, finish.spawned, finish.spawned_before)?;
                self.keep_messages(id, finish.messages);
            }
            Finished::Failed(failure) => {
                self.state.jobs.change(&id, |job| job.row.tries += 1);
                self.end_job(id, JobState::Failed, Some(failure), at);
            }
            Finished::Cancelled(failure) => {
                self.end_job(id, JobState::Cancelled, Some(failure), at)
            }
            Finished::Retry(failure, not_before) => {
                self.requeue(id, Some(not_before));
                self.state.jobs.change(&id, |job| job.row.tries += 1);
                self.event(at, Some(row.run), Some(id), "job.retrying", Some(failure.message));
            }
            Finished::Paused(reason) if row.pause_requested => {
                self.end_blocked(id, at, Block::new(reason))
            }
            Finished::Blocked(block) if !self.has_moved(&block) => self.end_blocked(id, at, block),
            // What the job waits for may have happened already.
            Finished::Released | Finished::Paused(_) | Finished::Blocked(_) => {
                self.requeue(id, row.not_before);
                if row.state == JobState::Running {
                    self.event(at, Some(row.run), Some(id), "job.released", None);
                } else {
                    self.silent_change(id);
                }
            }
        }
        Ok(())
    }

    /// The row of the job, if the attempt that ends is the current one of its owner.
    fn row_of(&self, finish: &Finish) -> Option<JobRow> {
        let is_current =
            |row: &JobRow| row.owner == Some(finish.owner) && row.attempt == finish.attempt;
        let job = self.state.jobs.get(&finish.job).filter(|job| is_current(&job.row))?;
        Some(job.row.clone())
    }

    /// Record the attempt, unless the job was given back.
    fn record_attempt(&mut self, finish: &Finish) {
        let failure = match &finish.end {
            Finished::Released | Finished::Blocked(_) | Finished::Paused(_) => return,
            Finished::Succeeded(_) => None,
            Finished::Failed(failure)
            | Finished::Cancelled(failure)
            | Finished::Retry(failure, _) => Some(failure.clone()),
        };
        self.start(finish.job, finish.attempt, finish.started_at);
        self.end_attempt(finish.job, finish.attempt, Some(finish.started_at), finish.at, failure);
    }

    /// Set the outputs of a success; returns their names for its event.
    fn keep_outputs(&mut self, row: &JobRow, outputs: Vec<OutputRow>) -> Result<Option<String>> {
        let version = row.target.version.map_or(0, |at| at.version);
        let names: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
        for output in outputs {
            if !self.state.versions.contains(&(row.component, version)) {
                return Err(Error::not_found(format!(
                    "there is no component `{}` to set output `{}` of",
                    row.target, output.name
                )));
            }
            let value = OutputValue { value: output.value, blobs: output.blobs };
            self.state.outputs.set((row.component, version, output.name), value);
        }
        Ok((!names.is_empty()).then(|| names.join(", ")))
    }

    fn keep_messages(&mut self, job: JobId, messages: Vec<(String, Value)>) {
        for (topic, payload) in messages {
            let id = self.state.count(Counter::Message);
            self.state.messages.set(id, MessageRow { id, job, topic, payload });
        }
    }

    /// Whether a component that an attempt read before it decided to wait has changed since.
    fn has_moved(&self, block: &Block) -> bool {
        block.has_moved(|address| {
            let component = self.state.live(address)?;
            let number = self.state.newest_version(component)?;
            Some((number, self.state.versions.get(&(component, number))?.revision))
        })
    }

    /// A blocked job ends without an attempt.
    pub(super) fn complete(&mut self, end: Completion) -> Result<()> {
        let id = end.job;
        let target = match self.state.jobs.get(&id).map(|job| &job.row) {
            Some(row) if row.state == JobState::Blocked && row.owner.is_none() => {
                row.target.clone()
            }
            _ => {
                self.invalidate();
                return Ok(());
            }
        };
        self.check_blobs(&target, &end.blobs)?;
        match end.end {
            Ok(value) => {
                self.state.jobs.change(&id, |job| {
                    job.row.result = Some(value);
                    job.blobs = end.blobs;
                });
                self.end_job_with(id, JobState::Succeeded, None, end.at, None);
            }
            Err(failure) => self.end_job(id, JobState::Failed, Some(failure), end.at),
        }
        Ok(())
    }

    fn end_blocked(&mut self, id: JobId, at: Timestamp, block: Block) {
        let Block { reason, until, .. } = block;
        let run = self.state.jobs.get(&id).map(|job| job.row.run);
        self.state.jobs.change(&id, |job| {
            job.row.state = JobState::Blocked;
            job.row.pause_requested = false;
            job.row.owner = None;
            job.row.blocked = Some(reason.clone());
            job.row.blocked_at = Some(at);
            job.row.blocked_until = until.map(|until| BlockedUntil { since: at, until });
        });
        self.event(at, run, Some(id), "job.blocked", Some(reason));
    }

    /// Whether an end names a blob that is being deleted, or that may have been since it was looked
    /// for.
    fn names_swept(&self, finish: &Finish) -> bool {
        let blobs =
            || finish.blobs.iter().chain(finish.outputs.iter().flat_map(|output| &output.blobs));
        if blobs().any(|blob| self.state.marked.contains(&blob.digest)) {
            return true;
        }
        let now = u64::try_from(self.state.counter(Counter::SweepEpoch)).unwrap_or(0);
        if finish.sweep_epoch.is_none_or(|seen| seen == now) {
            return false;
        }
        let referenced: HashSet<Digest> =
            self.state.blob_references().map(|(_, _, blob)| blob.digest).collect();
        blobs().any(|blob| !referenced.contains(&blob.digest))
    }

    fn spawn(
        &mut self,
        id: JobId,
        jobs: Vec<superduper_core::store::NewJob>,
        before: Vec<(JobId, usize)>,
    ) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let run = self
            .state
            .jobs
            .get(&id)
            .map(|job| job.row.run)
            .ok_or_else(|| Error::internal(format!("job {id} vanished")))?;
        let keys = jobs.iter().filter_map(|job| job.key.clone());
        let known: HashSet<JobId> =
            keys.filter_map(|key| self.state.job_keys.get(&(run, key)).copied()).collect();
        let tolerated: Vec<bool> = jobs.iter().map(|job| job.tolerated).collect();
        let ids = self.insert_jobs(run, jobs)?;
        let mut changed = BTreeSet::new();
        for (waiting, index) in before {
            let spawned = *ids.get(index).ok_or_else(|| {
                Error::invalid(format!(
                    "job {waiting} waits for number {index} of {} spawned jobs",
                    ids.len()
                ))
            })?;
            // What waits for the spawning job goes on without a tolerated one.
            self.add_dependency(
                waiting,
                spawned,
                Dependency { parameter: None, any_end: tolerated[index] },
            )?;
            changed.insert(waiting);
        }
        changed.into_iter().for_each(|waiting| self.silent_change(waiting));
        if self.state.jobs.get(&id).is_some_and(|job| job.row.cancel_requested) {
            // It did not look whether it is cancelled: what it spawned must not go on in its place.
            for spawned in ids.iter().filter(|id| !known.contains(id)) {
                self.state.jobs.change(spawned, |job| job.row.cancel_requested = true);
                self.silent_change(*spawned);
                let born_claimed =
                    self.done.claimed.iter_mut().filter(|claimed| claimed.job == *spawned);
                born_claimed.for_each(|claimed| claimed.signals.cancel = true);
            }
        }
        self.done.spawned.push((id, ids));
        Ok(())
    }

    fn end_attempt(
        &mut self,
        job: JobId,
        number: u32,
        started_at: Option<Timestamp>,
        ended_at: Timestamp,
        failure: Option<JobFailure>,
    ) {
        self.state.jobs.change(&job, |job| job.row.started_at = started_at);
        self.state
            .attempts
            .set((job, number), AttemptRow { job, number, started_at, ended_at, failure });
    }

    fn requeue(&mut self, id: JobId, not_before: Option<Timestamp>) {
        self.state.jobs.change(&id, |job| {
            job.row.state = JobState::Queued;
            job.row.owner = None;
            job.row.not_before = not_before;
        });
    }

    fn end_job(&mut self, id: JobId, state: JobState, failure: Option<JobFailure>, at: Timestamp) {
        let detail = failure.as_ref().map(|failure| failure.message.clone());
        self.end_job_with(id, state, failure, at, detail);
    }

    fn end_job_with(
        &mut self,
        id: JobId,
        state: JobState,
        failure: Option<JobFailure>,
        at: Timestamp,
        detail: Option<String>,
    ) {
        let mut run = None;
        self.state.jobs.change(&id, |Job { row, .. }| {
            row.state = state;
            row.owner = None;
            row.blocked = None;
            row.blocked_at = None;
            row.blocked_until = None;
            row.failure = failure;
            row.ended_at = Some(at);
            run = Some(row.run);
        });
        self.event(at, run, Some(id), &format!("job.{state}"), detail);
    }

    pub(super) fn settle(
        &mut self,
        id: JobId,
        state: JobState,
        failure: JobFailure,
        at: Timestamp,
    ) -> Result<()> {
        if !matches!(state, JobState::Skipped | JobState::Cancelled | JobState::Failed) {
            return Err(Error::invalid(format!("job {id} cannot be settled as {state}")));
        }
        match self.state.jobs.get(&id).map(|job| &job.row) {
            Some(row) if row.owner.is_none() && !row.state.is_terminal() => {
                self.end_job(id, state, Some(failure), at)
            }
            Some(row) if row.state == state => {}
            _ => self.invalidate(),
        }
        Ok(())
    }

    pub(super) fn block(&mut self, id: JobId, reason: Option<String>, at: Timestamp) {
        let Some(Job { row, .. }) = self.state.jobs.get(&id).filter(|job| job.row.owner.is_none())
        else {
            self.ignore();
            return;
        };
        let next = match (row.state, &reason) {
            (JobState::Queued, Some(_)) => JobState::Blocked,
            (JobState::Blocked, Some(_)) => {
                self.state.jobs.change(&id, |job| job.row.blocked = reason);
                self.silent_change(id);
                return;
            }
            (JobState::Blocked, None) => JobState::Queued,
            _ => {
                self.ignore();
                return;
            }
        };
        let run = row.run;
        self.state.jobs.change(&id, |job| {
            job.row.state = next;
            job.row.blocked = reason.clone();
            job.row.blocked_at = reason.as_ref().map(|_| at);
            job.row.blocked_until = None;
        });
        let kind = if next == JobState::Blocked { "job.blocked" } else { "job.unblocked" };
        self.event(at, Some(run), Some(id), kind, reason);
    }

    pub(super) fn reclaim(&mut self, owners: &[WorkerId], at: Timestamp) {
        self.return_places(|_, owner| owners.contains(&owner));
        let taken = self
            .state
            .jobs
            .iter()
            .filter(|(_, job)| job.row.owner.is_some_and(|owner| owners.contains(&owner)));
        let taken: Vec<_> = taken.map(|(id, job)| (*id, job.row.clone())).collect();
        for (id, row) in taken {
            self.done.reclaimed.push(id);
            self.requeue(id, row.not_before);
            if row.state != JobState::Running {
                self.silent_change(id);
                continue;
            }
            let lost = row.lost + 1;
            let failure = JobFailure::new(FailureKind::WorkerLost, "worker lost");
            self.state.jobs.change(&id, |job| job.row.lost = lost);
            self.end_attempt(id, row.attempt, row.started_at, at, Some(failure.clone()));
            self.event(
                at,
                Some(row.run),
                Some(id),
                "job.lost",
                Some(format!("attempt {}", row.attempt)),
            );
            if lost >= MAX_LOST {
                self.end_job(id, JobState::Failed, Some(failure), at);
            }
        }
    }
}
