//! What comes from outside: other processes, other runs, cancellation.

use super::*;

impl Driver {
    /// Read the run again: other processes and workers may have moved it. Gives whether anything moved.
    pub(super) async fn look(&mut self) -> Result<bool> {
        self.look_again(false).await
    }

    /// As [`Driver::look`]; with `ended_elsewhere` where it is known that jobs ended elsewhere since the last look.
    pub(super) async fn look_again(&mut self, ended_elsewhere: bool) -> Result<bool> {
        self.poll_externals().await?;
        self.db.reclaim_dead().await?;
        let id = self.run.id;
        let changes = self.db.metadata.changes(id, self.seen).await?;
        let changes = changes.ok_or_else(|| Error::not_found(format!("there is no run {id}")))?;
        let mut moved = false;
        let mut added = Vec::new();
        let mut grew = ended_elsewhere;
        for row in changes.jobs {
            let Some(index) = self.by_id.get(&row.id).copied() else {
                added.push(row);
                continue;
            };
            let was_open = self.node(index).is_some_and(|node| !node.unrecorded && !node.row.state.is_terminal());
            if was_open && row.state == JobState::Succeeded {
                // It may have set outputs, and may have spawned under keys that were known.
                grew = true;
                self.unshown.insert(row.target.clone());
            }
            moved |= self.renew(index, row);
        }
        self.show_outputs().await?;
        if !added.is_empty() || grew {
            moved = true;
            let new: HashSet<JobId> = added.iter().map(|row| row.id).collect();
            let mut spawned: HashSet<JobId> = added.iter().filter(|row| row.key.is_some()).map(|row| row.id).collect();
            spawned.extend(self.slots.iter().filter_map(|slot| match slot {
                Slot::Job(node) if node.row.key.is_some() => Some(node.row.id),
                _ => None,
            }));
            let (mine, others): (Vec<_>, Vec<_>) = changes.dependencies.into_iter().partition(|dependency| new.contains(&dependency.job));
            let older: Vec<(JobId, JobId)> = others
                .into_iter()
                .filter(|dependency| spawned.contains(&dependency.needs))
                .map(|dependency| (dependency.job, dependency.needs))
                .collect();
            // Edges first: what waited for the spawner must not start before the spawned jobs are known.
            self.add_rows(added, mine);
            for (job, needs) in older {
                self.wait_for(job, needs);
            }
        }
        // Only now: what failed half-way is told again.
        self.seen = changes.cursor;
        Ok(moved)
    }

    /// Take a row as it is on record now. Gives whether it had moved.
    fn renew(&mut self, index: usize, row: JobRow) -> bool {
        let owner = self.owner;
        let Some(node) = self.node(index) else { return false };
        if node.unrecorded || node.row.state.is_terminal() {
            return false;
        }
        let is_mine = row.owner == Some(owner) && row.attempt == node.row.attempt && !row.state.is_terminal();
        if is_mine && matches!(node.hold, Hold::Running | Hold::Ahead | Hold::Asked) {
            (node.row.tries, node.row.lost) = (row.tries, row.lost);
            return false;
        }
        // Who was quicker may be gone again by now: then the row is what it was before, and nobody has the job.
        let is_free = node.hold == Hold::Elsewhere && row.state == JobState::Queued && row.owner.is_none();
        if !is_free && row.state == node.row.state && row.attempt == node.row.attempt && row.owner == node.row.owner {
            return false;
        }
        match node.hold {
            Hold::Running if node.live.is_some() && was_taken_over(node, &row, owner) => self.abandon(index),
            // A worker recorded its own end. What is left of it is waited for: before the run ends, or before the next try.
            Hold::Running => {
                let goes_on = !row.state.is_terminal() && node.live.take().is_some();
                node.lingering |= goes_on;
                node.hold = Hold::Elsewhere;
                self.running -= usize::from(goes_on);
            }
            Hold::Ahead if row.owner != Some(owner) => {
                node.hold = Hold::Elsewhere;
                self.ahead.retain(|other| *other != index);
                // Its place is free for others.
                self.reserved.remove(&index);
            }
            // It was taken for this process, and nobody here knows: it starts now.
            Hold::Elsewhere if row.owner == Some(owner) && node.live.is_none() && !node.lingering => node.hold = Hold::None,
            _ => {}
        }
        let Some(node) = self.node(index) else { return false };
        node.row = row;
        self.adopt(index);
        self.cancel_as_marked(index);
        true
    }

    /// Show the outputs of versions whose jobs ended elsewhere. Those that could not be read are left for the next time, and
    /// nothing starts before.
    pub(super) async fn show_outputs(&mut self) -> Result<()> {
        while let Some(target) = self.unshown.first().cloned() {
            let stored = self.db.metadata.tree(target.clone()).await?.into_iter().next();
            let outputs: Vec<(String, Value)> = stored.map(|stored| stored.outputs.into_iter().collect()).unwrap_or_default();
            if !outputs.is_empty() {
                self.instances.outputs_committed(&target, &outputs);
            }
            self.unshown.remove(&target);
        }
        Ok(())
    }

    /// Another process has the job: what runs here no longer counts.
    pub(super) fn abandon(&mut self, index: usize) {
        let Some(node) = self.node(index) else { return };
        if let Some(attempt) = node.live.take() {
            std::mem::take(&mut node.cancel).abandon();
            node.lingering = true;
            node.hold = Hold::Elsewhere;
            let job = node.row.id;
            self.running -= 1;
            self.db.note_fenced(job, attempt);
        }
    }

    pub(super) async fn poll_externals(&mut self) -> Result<()> {
        if self.externals == 0 {
            return Ok(());
        }
        let open: Vec<(usize, JobId)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                Slot::External(external) if self.dag.progress(index) == Progress::Taken => Some((index, external.id)),
                _ => None,
            })
            .collect();
        let ids = open.iter().map(|(_, id)| *id).collect();
        let rows = self.db.metadata.jobs(JobFilter { ids: Some(ids), ..JobFilter::default() }).await?;
        let rows: HashMap<JobId, JobRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        // What is waited for and nobody has is run here too: its process may be gone.
        let left: HashSet<RunId> =
            rows.values().filter(|row| row.state == JobState::Queued && row.owner.is_none()).map(|row| row.run).collect();
        for run in left {
            // Boxed: that driver may wait for others in turn.
            let attach: BoxFuture<'_, Result<RunHandle>> = Box::pin(self.db.attach(run));
            attach.await?;
        }
        for (index, id) in open {
            let Slot::External(external) = &mut self.slots[index] else { continue };
            match rows.get(&id) {
                Some(row) if !row.state.is_terminal() => continue,
                Some(row) if row.state == JobState::Succeeded || !external.must_succeed => {
                    external.result = row.result.clone();
                    external.settled = Some(true);
                    self.dag.succeed(index);
                }
                None if !external.must_succeed => {
                    external.settled = Some(true);
                    self.dag.succeed(index);
                }
                _ => {
                    external.settled = Some(false);
                    for skipped in self.dag.lost(index) {
                        self.skip(skipped, index);
                    }
                }
            }
            self.externals -= 1;
        }
        if self.externals == 0 {
            self.stop_what_goes().await?;
        }
        Ok(())
    }

    pub(super) async fn look_for_cancellation(&mut self) -> Result<()> {
        let running: Vec<JobId> = self
            .slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Job(node) if matches!(node.hold, Hold::Running | Hold::Ahead) => Some(node.row.id),
                _ => None,
            })
            .collect();
        let rows = self.db.metadata.jobs(JobFilter { ids: Some(running), ..JobFilter::default() }).await?;
        for row in rows {
            let Some(index) = self.by_id.get(&row.id).copied() else { continue };
            if self.node(index).is_some_and(|node| node.cancel.ask_for_row(&row)) {
                self.cancel(index);
            }
        }
        Ok(())
    }

    pub(super) async fn on_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Look => {
                self.seen = ChangeCursor::default();
                self.look().await.map(|_| ())
            }
            Command::Ask(jobs, wish) => {
                for job in jobs {
                    if let Some(index) = self.by_id.get(&job).copied()
                        && let Some(node) = self.node(index)
                    {
                        node.cancel.ask(wish);
                    }
                }
                Ok(())
            }
            Command::Cancel(jobs) => {
                let indexes: Vec<usize> = match jobs {
                    Some(jobs) => jobs.iter().filter_map(|job| self.by_id.get(job).copied()).collect(),
                    None => (0..self.slots.len()).collect(),
                };
                for index in indexes {
                    self.cancel(index);
                }
                Ok(())
            }
        }
    }

    pub(super) fn cancel(&mut self, index: usize) {
        let Some(node) = self.node(index) else { return };
        if node.row.state.is_terminal() {
            return;
        }
        node.cancel.cancel();
        node.row.cancel_requested = true;
        if matches!(node.hold, Hold::Running | Hold::Ahead | Hold::Asked) {
            return;
        }
        let foreign = node.hold == Hold::Elsewhere && node.row.state != JobState::Blocked;
        if foreign {
            return;
        }
        let at = Timestamp::now();
        let failure = JobFailure::new(FailureKind::Cancelled, "cancelled before it started");
        node.row.state = JobState::Cancelled;
        node.row.failure = Some(failure.clone());
        node.row.ended_at = Some(at);
        node.hold = Hold::None;
        let job = node.row.id;
        self.delayed.retain(|(_, other), ()| *other != index);
        self.dag.take(index);
        self.ops.push(Op::Settle { job, state: JobState::Cancelled, failure, at });
        self.adopt(index);
    }
}

/// Whether an attempt that runs here lost its job; else its worker recorded the end itself.
pub(super) fn was_taken_over(node: &Node, row: &JobRow, owner: OwnerId) -> bool {
    // A job that was taken back before its start was on record has the same numbers, and one that was given back for
    // another try has one more of these.
    let back = row.state == JobState::Queued && row.owner.is_none() && row.tries == node.row.tries;
    row.attempt != node.row.attempt || row.lost > node.row.lost || row.owner.is_some_and(|other| other != owner) || back
}
