//! What comes from outside: other processes, other runs, cancellation.

use super::*;

impl Driver {
    /// Read the run again: other processes and workers may have moved it. Gives whether anything moved.
    pub(super) async fn look(&mut self) -> Result<bool> {
        self.poll_externals().await?;
        self.db.reclaim_dead().await?;
        let rows = self.db.metadata.jobs(JobFilter { run: Some(self.run.id), ..JobFilter::default() }).await?;
        let mut moved = false;
        let mut added = Vec::new();
        for row in rows {
            let Some(index) = self.by_id.get(&row.id).copied() else {
                added.push(row);
                continue;
            };
            let owner = self.owner;
            let Some(node) = self.node(index) else { continue };
            let busy =
                matches!(node.hold, Hold::Running | Hold::Ahead | Hold::Asked) && !row.state.is_terminal() && row.owner == Some(owner);
            if node.row.state.is_terminal() || busy && row.attempt == node.row.attempt {
                continue;
            }
            if row.state != node.row.state || row.attempt != node.row.attempt || row.owner != node.row.owner {
                moved = true;
                // A retry that a worker recorded, or a job given back, is free again.
                if node.hold == Hold::Running && row.owner.is_none() {
                    node.hold = Hold::Elsewhere;
                }
                node.row = row;
                self.adopt(index);
            }
        }
        if !added.is_empty() {
            moved = true;
            let dependencies = self.db.metadata.dependencies(self.run.id).await?;
            let new: HashSet<JobId> = added.iter().map(|row| row.id).collect();
            let older: Vec<(JobId, JobId)> = dependencies
                .iter()
                .filter(|dependency| new.contains(&dependency.needs) && !new.contains(&dependency.job))
                .map(|dependency| (dependency.job, dependency.needs))
                .collect();
            let mine: Vec<JobDependency> = dependencies.into_iter().filter(|dependency| new.contains(&dependency.job)).collect();
            // Edges first: what waited for the spawner must not start before the spawned jobs are known.
            self.add_rows(added, mine);
            for (job, needs) in older {
                if let (Some(job), Some(needs)) = (self.by_id.get(&job).copied(), self.by_id.get(&needs).copied()) {
                    self.dag.need(job, needs);
                }
            }
        }
        Ok(moved)
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
        for (index, id) in open {
            let Slot::External(external) = &mut self.slots[index] else { continue };
            match rows.get(&id) {
                Some(row) if !row.state.is_terminal() => continue,
                Some(row) if row.state == JobState::Succeeded || !external.must_succeed => {
                    external.result = row.result.clone();
                    self.dag.succeed(index);
                }
                None if !external.must_succeed => self.dag.succeed(index),
                _ => {
                    for skipped in self.dag.lost(index) {
                        self.skip(skipped, index);
                    }
                }
            }
            self.externals -= 1;
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
            Command::Look => self.look().await.map(|_| ()),
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
