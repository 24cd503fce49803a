//! Ends: of attempts, and of the run.

use super::*;
use tokio::sync::oneshot;

impl Driver {
    pub(super) async fn on_message(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Returned { index } => {
                self.seen = ChangeCursor::default();
                if let Some(node) = self.node(index) {
                    node.lingering = false;
                }
                Ok(())
            }
            Message::Granted { index, permit } => {
                // Cancelled, or taken by another process, while it waited: the permit goes back.
                if let Some(node) = self.node(index).filter(|node| node.hold == Hold::Pooled) {
                    node.hold = Hold::Asked;
                    let (jobs, owner, at) = (vec![node.row.id], self.owner, Timestamp::now());
                    self.reserved.insert(index, permit);
                    self.group.asked.push(index);
                    self.ops.push(Op::Claim { jobs, owner, start: true, at });
                }
                Ok(())
            }
            Message::Ended { index, attempt, ended, permit } => {
                let owner = self.owner;
                let Some(node) = self.node(index) else { return Ok(()) };
                let id = node.row.id;
                if node.live != Some(attempt) {
                    // It was abandoned: its effects are not stored, and its slot is free as soon as its thread has returned.
                    let thread = if let Ended::Here(mut draft) = ended { draft.lingering.take() } else { None };
                    node.lingering = thread.is_some();
                    self.seen = ChangeCursor::default();
                    if let Some(returned) = thread {
                        self.keep_until_returned(index, returned, permit);
                    }
                    return Ok(());
                }
                node.live = None;
                self.running -= 1;
                match ended {
                    Ended::Here(draft) => self.on_draft(index, *draft, permit),
                    Ended::Recorded => self.look().await.map(|_| ()),
                    Ended::Lost(failure) => {
                        let Some(node) = self.node(index) else { return Ok(()) };
                        let at = Timestamp::now();
                        let end = conclude(&node.row, failure, node.cancel.is_cancelled(), at);
                        let started_at = node.row.started_at.unwrap_or(at);
                        let finish = Finish::plain(id, attempt, owner, started_at, at, end);
                        self.on_draft(index, Draft::plain(finish), permit)
                    }
                }
            }
        }
    }

    pub(super) fn on_draft(&mut self, index: usize, draft: Draft, permit: Permit) -> Result<()> {
        let mut draft = draft;
        let mut held = None;
        if let Some(returned) = draft.lingering.take() {
            if let Some(node) = self.node(index) {
                node.lingering = true;
            }
            self.keep_until_returned(index, returned, permit);
        } else if matches!(permit, Permit::Pool(_)) {
            held = Some(permit);
        }
        // Spawned jobs get their ids from the store, so what grows the run is recorded on its own.
        if !draft.finish.spawned.is_empty() {
            return self.record_growth(index, draft, held);
        }
        let Draft { finish, blobs, looks, progress, .. } = draft;
        if !blobs.is_empty() {
            self.group.blobs.push((index, blobs, looks));
        }
        if !finish.outputs.is_empty()
            && let Slot::Job(node) = &self.slots[index]
        {
            let outputs = finish.outputs.iter().map(|output| (output.name.clone(), output.value.clone())).collect();
            self.group.outputs.push((node.row.id, node.row.target.clone(), outputs));
        }
        // Before what is decided on it.
        let place = self.ops.len();
        self.apply_end(index, &finish);
        if let Some(node) = self.node(index) {
            node.unrecorded = true;
            node.row.progress = progress.or(node.row.progress);
        }
        self.group.ends.push(index);
        self.group.permits.extend(held.map(|permit| (index, permit)));
        self.ops.insert(place, Op::Finish(Box::new(finish)));
        Ok(())
    }

    /// A thread that outlived its attempt keeps its slot until it returns.
    fn keep_until_returned(&self, index: usize, returned: oneshot::Receiver<()>, permit: Permit) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            // An error means that the thread is gone, too.
            let _ = returned.await;
            drop(permit);
            let _ = messages.send(Message::Returned { index });
        });
    }

    /// Record an end with spawned jobs at once, and act on it when it is durable.
    fn record_growth(&mut self, index: usize, draft: Draft, held: Option<Permit>) -> Result<()> {
        self.running += 1;
        let attempt = draft.finish.attempt;
        if let Some(node) = self.node(index) {
            node.live = Some(attempt);
        }
        let messages = self.messages.clone();
        let db = self.db.clone();
        let instances = self.instances.clone();
        let (row, cancel) = match &self.slots[index] {
            Slot::Job(node) => (node.row.clone(), node.cancel.clone()),
            Slot::External(_) => return Ok(()),
        };
        tokio::spawn(async move {
            let outputs: Vec<(String, Value)> =
                draft.finish.outputs.iter().map(|output| (output.name.clone(), output.value.clone())).collect();
            let ended = match record(&db, &row, draft, || cancel.is_cancelled()).await {
                Ok((committed, is_whole)) => {
                    db.committed();
                    if committed.fenced.is_empty() && is_whole {
                        instances.outputs_committed(&row.target, &outputs);
                    }
                    for job in committed.fenced {
                        db.note_fenced(job, attempt);
                    }
                    Ended::Recorded
                }
                Err(error) => Ended::Lost(JobFailure::of(&error.context("recording the result"))),
            };
            let _ = messages.send(Message::Ended { index, attempt, ended, permit: held.unwrap_or(Permit::Spent) });
        });
        Ok(())
    }

    /// Sweeps took blobs of these ends before they were on record: save the blobs again, and end the attempts anew.
    pub(super) fn record_again(&mut self, swept: &HashSet<JobId>, group: &mut Group) {
        let ends = std::mem::take(&mut group.ops).into_iter().filter_map(|op| match op {
            Op::Finish(finish) if swept.contains(&finish.job) => Some(*finish),
            other => {
                group.ops.push(other);
                None
            }
        });
        for finish in ends.collect::<Vec<Finish>>() {
            let Some(index) = self.by_id.get(&finish.job).copied() else { continue };
            let (owner, attempt) = (self.owner, finish.attempt);
            let Some(node) = self.node(index) else { continue };
            // As it is on record, until the end is.
            node.row.state = JobState::Running;
            node.row.owner = Some(owner);
            (node.row.result, node.row.ended_at) = (None, None);
            node.hold = Hold::Running;
            node.live = Some(attempt);
            self.running += 1;
            let of_this = |place: usize| place == index;
            let permit = group.permits.iter().position(|(place, _)| of_this(*place)).map(|found| group.permits.swap_remove(found).1);
            let kept = group.blobs.iter().position(|(place, ..)| of_this(*place)).map(|found| group.blobs.swap_remove(found));
            let (blobs, looks) = kept.map_or((Vec::new(), 0), |(_, blobs, looks)| (blobs, looks));
            let mut draft = Draft { finish, blobs, looks, lingering: None, progress: None };
            let (db, messages) = (self.db.clone(), self.messages.clone());
            tokio::spawn(async move {
                let ended = match draft.save_again(&db).await {
                    Ok(()) => Ended::Here(Box::new(draft)),
                    Err(error) => Ended::Lost(JobFailure::of(&error)),
                };
                let _ = messages.send(Message::Ended { index, attempt, ended, permit: permit.unwrap_or(Permit::Spent) });
            });
        }
    }

    /// Take the end of an attempt into the graph and the row.
    pub(super) fn apply_end(&mut self, index: usize, finish: &Finish) {
        let Some(node) = self.node(index) else { return };
        let row = &mut node.row;
        row.owner = None;
        row.started_at = Some(finish.started_at);
        node.hold = Hold::None;
        match &finish.end {
            Finished::Succeeded(value) => {
                row.state = JobState::Succeeded;
                row.result = Some(value.clone());
                row.failure = None;
                row.ended_at = Some(finish.at);
                self.dag.succeed(index);
            }
            Finished::Failed(failure) | Finished::Cancelled(failure) => {
                row.state = if matches!(finish.end, Finished::Failed(_)) { JobState::Failed } else { JobState::Cancelled };
                row.failure = Some(failure.clone());
                row.ended_at = Some(finish.at);
                self.adopt(index);
            }
            Finished::Retry(failure, time) => {
                row.state = JobState::Queued;
                row.tries += 1;
                row.failure = Some(failure.clone());
                row.not_before = Some(*time);
                node.hold = Hold::Delayed;
                let pause = u64::try_from(time.0.saturating_sub(finish.at.0)).unwrap_or(0);
                self.delayed.insert((Instant::now() + Duration::from_millis(pause), index), ());
            }
            // Whether a pause still holds, the record tells.
            Finished::Blocked(reason) | Finished::Paused(reason) => {
                row.state = JobState::Blocked;
                row.blocked = Some(reason.clone());
                // The wish to pause is fulfilled; the next attempt starts without it.
                node.cancel = Arc::default();
                node.hold = Hold::Elsewhere;
            }
            Finished::Released => {
                row.state = JobState::Queued;
                self.dag.give_back(index);
            }
        }
    }

    pub(super) fn end_if_done(&mut self) {
        if self.ended || !self.dag.is_done_but(self.externals) || self.running > 0 || self.run.state != RunState::Running {
            return;
        }
        if self.waits_for_live_jobs() {
            return;
        }
        if self.run.purpose == RunPurpose::Remove && !self.ops.is_empty() {
            // Rows go only when the success of every cleanup is durable.
            return;
        }
        self.ended = true;
        let at = Timestamp::now();
        let rows = || self.slots.iter().filter_map(|slot| if let Slot::Job(node) = slot { Some(&node.row) } else { None });
        let any = |state| rows().any(|row| row.state == state);
        let removal = match self.run.purpose {
            RunPurpose::Remove => Removal::of(&self.run).map(Some),
            RunPurpose::Apply => Ok(None),
        };
        // Nobody knows what a removal whose row is damaged is to delete: it deletes nothing, and its outcome says so.
        let state = if any(JobState::Failed) && !self.forced || removal.is_err() {
            RunState::Failed
        } else if any(JobState::Cancelled) && !self.forced {
            RunState::Cancelled
        } else {
            RunState::Succeeded
        };
        let mut deletions = Vec::new();
        if let (Ok(Some(removal)), RunState::Succeeded) = (removal, state) {
            // The rows go in the same commit that ends the run.
            // In the order of the batch they follow the end: where another process ended the run, what has this name now
            // may be a new component.
            deletions.extend(removal.versions.into_iter().map(|(address, versions)| Op::Delete { address, versions }));
        }
        self.run.state = state;
        self.run.ended_at = Some(at);
        self.ops.push(Op::EndRun { run: self.run.id, state, at });
        self.ops.append(&mut deletions);
    }

    /// The run is over: what a removal leaves to do, and the last word of the store.
    pub(super) async fn settle_end(&mut self) -> Result<()> {
        if self.run.state == RunState::Running {
            // Another process ended it.
            self.run = self.db.run_row(self.run.id).await?;
        }
        if self.run.purpose == RunPurpose::Remove && self.run.state == RunState::Succeeded {
            // The component is gone. What cannot be swept now is on record, and left for `gc`.
            let _ = self.db.sweep_after_removal(&self.run).await;
        }
        Ok(())
    }

    pub(super) fn outcome(&mut self) -> Outcome {
        let jobs = std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|slot| match slot {
                Slot::Job(node) => Some(node.row),
                Slot::External(_) => None,
            })
            .collect();
        Outcome { run: self.run.clone(), jobs, registry: self.db.registry.clone(), artifacts: Some(self.db.artifacts.clone()) }
    }
}
