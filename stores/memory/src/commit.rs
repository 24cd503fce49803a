//! Writing a batch: conditions first, then the operations in order.
//!
//! Invariant: a function here either does what its operation says or returns an error, upon which
//! the caller undoes the whole batch; every change of a state appends its event at once.

mod components;
mod expect;
mod forget;
mod jobs;
mod names;
mod places;
mod transitions;

use crate::state::{Checkpoint, Counter, Job, State};
use std::collections::{BTreeMap, BTreeSet};
use superduper_core::{
    Address, Digest, Error, Result,
    store::{
        Batch, BlobRow, CheckpointRow, CommitToken, Committed, JobId, JobSignal, NewCheckpoint,
        NewRun, Op, RunId, RunPurpose, RunRow, RunState, Timestamp,
    },
};

/// A batch under way.
pub(crate) struct Commit<'a> {
    state: &'a mut State,
    run: Option<RunId>,
    /// The place of the operation under way in the batch.
    place: usize,
    done: Committed,
}

/// Write a batch; after an error the state must be undone.
pub(crate) fn commit(state: &mut State, batch: Batch) -> Result<Committed> {
    let token =
        if let Some(Op::Once { token, .. }) = batch.ops.first() { Some(*token) } else { None };
    if let Some(answer) = token.and_then(|token| state.answers.get(&token)) {
        return Ok(answer.1.clone());
    }
    expect::check(state, &batch.expect)?;
    let run = batch.ops.iter().any(|op| matches!(op, Op::Run(_))).then(|| state.next_run());
    let mut commit = Commit { state, run, place: 0, done: Committed::default() };
    let mut ops = batch.ops.into_iter().enumerate().peekable();
    while let Some((place, op)) = ops.next() {
        commit.place = place;
        match op {
            op if commit.done.invalidated && op.follows_an_end() => commit.ignore(),
            Op::Delete { address, versions } => {
                let mut deletions = vec![(address, versions)];
                while let Some((_, Op::Delete { address, versions })) =
                    ops.next_if(|(_, op)| matches!(op, Op::Delete { .. }))
                {
                    deletions.push((address, versions));
                }
                commit.delete(deletions)?;
            }
            op => commit.apply(op)?,
        }
    }
    if let Some(token) = token {
        keep_answer(commit.state, token, commit.done.clone());
    }
    Ok(commit.done)
}

/// How long an answer is kept, and how many are kept between two looks for old ones.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
const BETWEEN: i64 = 256;

fn keep_answer(state: &mut State, token: CommitToken, answer: Committed) {
    let now = Timestamp::now();
    state.answers.set(token, (now, answer));
    if state.count(Counter::Answer) % BETWEEN == 0 {
        let old = state
            .answers
            .iter()
            .filter(|(_, (at, _))| at.0 < now.0 - KEPT_MS)
            .map(|(token, _)| *token);
        for token in old.collect::<Vec<_>>() {
            state.answers.remove(&token);
        }
    }
}

impl Commit<'_> {
    /// The operation under way changes nothing.
    fn ignore(&mut self) {
        self.done.ignored.push(self.place);
    }

    /// The operation under way changes nothing, and neither does what follows it.
    fn invalidate(&mut self) {
        self.ignore();
        self.done.invalidated = true;
    }

    /// A job changes in a way that no event tells; one that is final does not change.
    fn silent_change(&mut self, id: JobId) {
        if let Some(run) = self
            .state
            .jobs
            .get(&id)
            .filter(|job| !job.row.state.is_terminal())
            .map(|job| job.row.run)
        {
            let place = self.state.count(Counter::SilentChange);
            self.state.silent.set((run, place), id);
        }
    }

    fn apply(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Once { .. } => Ok(()),
            Op::Append { .. }
                if self
                    .place
                    .checked_sub(1)
                    .is_some_and(|before| self.done.ignored.last() == Some(&before)) =>
            {
                self.ignore();
                Ok(())
            }
            Op::Append { log, payload, at } => {
                let entry = self.state.log_head(&log).entry(&log, at, self.done.run, payload);
                self.state.log_entries.set((log, entry.seq), entry);
                Ok(())
            }
            Op::Put(put) => self.put(put),
            Op::SetJobsPending { address, pending } => {
                let key = self.state.find_or_error(&address)?;
                self.state.versions.change(&key, |row| row.owes_jobs = pending);
                Ok(())
            }
            Op::Run(run) => self.start_run(run),
            Op::Jobs { run, jobs } => {
                let run = run
                    .or(self.run)
                    .ok_or_else(|| Error::invalid("the batch has jobs but no run"))?;
                self.refuse_jobs_of_removed(&jobs)?;
                let ids = self.insert_jobs(run, jobs)?;
                self.done.jobs.extend(ids);
                Ok(())
            }
            Op::Claim { jobs, owner, start, pool, at } => {
                self.claim(&jobs, (owner, pool), start, at);
                Ok(())
            }
            Op::ReturnPlace { job, attempt, owner } => {
                self.return_place(job, attempt, owner);
                Ok(())
            }
            Op::Start { job, attempt, at } => {
                if !self.start(job, attempt, at) {
                    self.ignore();
                }
                Ok(())
            }
            Op::Finish(finish) => self.finish(*finish),
            Op::Settle { job, state, failure, at } => self.settle(job, state, failure, at),
            Op::Block { job, reason, at } => {
                self.block(job, reason, at);
                Ok(())
            }
            Op::Release { job, blocked, at } => {
                match self.state.jobs.get(&job).map(|job| job.row.blocked_until) {
                    Some(found) if found == Some(blocked) => self.block(job, None, at),
                    _ => self.ignore(),
                }
                Ok(())
            }
            Op::Complete(end) => self.complete(*end),
            Op::Signal { jobs, signal } => {
                self.signal(&jobs, signal);
                Ok(())
            }
            Op::Checkpoint(new) => self.checkpoint(*new),
            Op::Reclaim { owners, at } => {
                self.reclaim(&owners, at);
                Ok(())
            }
            Op::EndRun { run, state, at } => self.end_run(run, state, at),
            Op::Removing { address, on } => self.removing(&address, on),
            Op::Delete { address, versions } => self.delete(vec![(address, versions)]),
            Op::CopyOutputs { address, from, to, outputs } => {
                self.copy_outputs(&address, from, to, outputs)
            }
            Op::Label { address, label, version, at } => self.label(&address, label, version, at),
            Op::Rename { from, to, at } => self.rename(&from, &to, at),
            Op::Rewrite { address, document, uuid, content_hash } => {
                self.rewrite(&address, document, uuid, content_hash)
            }
            Op::SetOutputs { address, outputs } => self.set_outputs(&address, outputs),
            Op::Relink { address, edges, blobs } => self.relink(&address, edges, blobs),
            Op::MarkForDeletion { digests, lock } => {
                self.check_lock(lock)?;
                self.mark_blobs(digests);
                Ok(())
            }
            Op::ConfirmDeleted { digests, lock } => {
                self.check_lock(lock)?;
                digests.iter().for_each(|digest| self.state.marked.remove(digest));
                self.state.count(Counter::SweepEpoch);
                Ok(())
            }
            Op::Forget { runs, jobs, logs } => self.forget(&runs, &jobs, &logs),
            Op::Delivered { message } => {
                self.state.messages.remove(&message);
                Ok(())
            }
        }
    }

    fn signal(&mut self, jobs: &[JobId], signal: JobSignal) {
        let is_open =
            |id: &&JobId| self.state.jobs.get(id).is_some_and(|job| !job.row.state.is_terminal());
        let open: Vec<JobId> = jobs.iter().filter(is_open).copied().collect();
        if open.is_empty() {
            self.ignore();
        }
        let mut by_run: BTreeMap<RunId, BTreeSet<JobId>> = BTreeMap::new();
        for id in open {
            let mut changed = None;
            self.state.jobs.change(&id, |Job { row, .. }| {
                let before = row.signals();
                match signal {
                    JobSignal::Cancel => row.cancel_requested = true,
                    JobSignal::Stop => row.stop_requested = true,
                    JobSignal::Pause => row.pause_requested = true,
                    JobSignal::Continue => row.pause_requested = false,
                }
                changed = (row.signals() != before).then_some(row.run);
            });
            self.silent_change(id);
            if let Some(run) = changed {
                by_run.entry(run).or_default().insert(id);
            }
        }
        for (run, jobs) in by_run {
            let jobs: Vec<JobId> = jobs.into_iter().collect();
            self.event_of(Timestamp::now(), run, "job.signalled", &jobs, Some(signal.name()));
        }
    }

    fn checkpoint(&mut self, new: NewCheckpoint) -> Result<()> {
        let target = match self.state.jobs.get(&new.job) {
            Some(Job { row, .. }) if row.owner == Some(new.owner) && row.attempt == new.attempt => {
                row.target.clone()
            }
            _ => {
                self.done.fenced.push(new.job);
                self.ignore();
                return Ok(());
            }
        };
        self.check_blobs(&target, &new.blobs)?;
        let mut of_job = self.state.checkpoints.range((new.job, 0)..=(new.job, u32::MAX));
        let number = of_job.next_back().map_or(1, |((_, last), _)| last + 1);
        let NewCheckpoint { job, attempt, step, score, data, blobs, at, .. } = new;
        let score = score.filter(|score| score.is_finite());
        let row = CheckpointRow { job, number, attempt, step, score, at, data };
        self.state.checkpoints.set((job, number), Checkpoint { row, blobs });
        new.drop.iter().for_each(|old| self.state.checkpoints.remove(&(job, *old)));
        self.done.checkpoints.push((job, number));
        Ok(())
    }

    fn start_run(&mut self, run: NewRun) -> Result<()> {
        if self.done.run.is_some() {
            return Err(Error::invalid("a batch records at most one run"));
        }
        let root = self.state.live_or_error(&run.root)?;
        if let (RunPurpose::Remove, Some(at)) = (run.purpose, run.root.version) {
            self.state.removals.set((root, at.version), ());
        }
        let id = self.state.next_run();
        let detail = run.root.to_string();
        let at = run.at;
        self.state.runs.set(id, RunRow::new(id, run));
        self.state.runs_of_component.set((root, id), ());
        self.done.run = Some(id);
        self.event(at, Some(id), None, "run.started", Some(detail));
        Ok(())
    }

    fn end_run(&mut self, run: RunId, state: RunState, at: Timestamp) -> Result<()> {
        if state == RunState::Running {
            return Err(Error::invalid(format!("run {run} cannot end as running")));
        }
        // A job that is open after all, because the end of its attempt was fenced off, keeps its
        // run open.
        let open = self.state.jobs_of_run.range((run, JobId(0))..=(run, JobId(i64::MAX))).any(
            |((_, id), ())| self.state.jobs.get(id).is_some_and(|job| !job.row.state.is_terminal()),
        );
        if !open && self.state.runs.get(&run).is_some_and(|row| row.state == RunState::Running) {
            self.state.runs.change(&run, |row| {
                row.state = state;
                row.ended_at = Some(at);
            });
            self.state.ended_counts.set(run, self.state.count_jobs(run));
            self.event(at, Some(run), None, "run.ended", Some(state.name().to_owned()));
            self.forget_silent_changes(run);
        } else {
            self.invalidate();
        }
        Ok(())
    }

    /// Each job that changed without an event in a run that has ended has also ended since, with an
    /// event.
    fn forget_silent_changes(&mut self, run: RunId) {
        let places: Vec<(RunId, i64)> =
            self.state.silent.range((run, 0)..=(run, i64::MAX)).map(|(place, _)| *place).collect();
        places.iter().for_each(|place| self.state.silent.remove(place));
    }

    /// Refuse what was decided under a sweep lock that was lost.
    fn check_lock(&self, lock: i64) -> Result<()> {
        match self.state.counter(Counter::SweepLock) {
            newest if newest == lock => Ok(()),
            newest => Err(Error::conflict(format!(
                "the sweep lock {lock} was lost: another process has taken lock {newest}"
            ))),
        }
    }

    fn mark_blobs(&mut self, digests: Vec<Digest>) {
        let referenced: std::collections::HashSet<Digest> =
            self.state.blob_references().map(|(_, _, blob)| blob.digest).collect();
        for digest in digests.into_iter().filter(|digest| !referenced.contains(digest)) {
            self.state.marked.set(digest, ());
            self.done.marked.push(digest);
        }
    }

    fn check_blobs(&self, address: &Address, blobs: &[BlobRow]) -> Result<()> {
        match blobs.iter().find(|blob| self.state.marked.contains(&blob.digest)) {
            Some(blob) => Err(Error::conflict(format!(
                "`{address}` names blob {}, which is being deleted",
                blob.digest
            ))),
            None => Ok(()),
        }
    }

    fn event(
        &mut self,
        at: Timestamp,
        run: Option<RunId>,
        job: Option<JobId>,
        kind: &str,
        detail: Option<String>,
    ) {
        self.state.append_event(at, run, job, kind, detail);
    }

    fn component_event(&mut self, at: Timestamp, kind: &str, detail: String) {
        self.event(at, self.run, None, kind, Some(detail));
    }
}
