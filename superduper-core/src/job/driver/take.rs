//! Taking jobs and starting them.

use super::{super::Placement, *};

impl Driver {
    pub(super) fn wake_delayed(&mut self) {
        let now = Instant::now();
        let mut late = Vec::new();
        while let Some(entry) = self.delayed.first_entry() {
            let (time, index) = *entry.key();
            if time > now {
                break;
            }
            entry.remove();
            match self.node(index) {
                // A retry starts only after the method of the late attempt has returned.
                Some(node) if node.lingering => late.push((now + super::adopt::LINGER, index)),
                Some(node) if node.hold == Hold::Delayed => {
                    node.hold = Hold::None;
                    self.dag.give_back(index);
                    self.skip_if_lost(index);
                }
                _ => {}
            }
        }
        self.delayed.extend(late.into_iter().map(|key| (key, ())));
    }

    fn slot(&mut self) -> Option<OwnedSemaphorePermit> {
        self.spare.take().or_else(|| self.db.slots.clone().try_acquire_owned().ok())
    }

    /// Start jobs that were taken ahead, as far as there are slots.
    pub(super) fn start_ahead(&mut self) {
        while let Some(first) = self.ahead.front().copied() {
            if self.has_lapsed() {
                return;
            }
            let of_first = self.reserved.remove(&first).or_else(|| self.slot().map(Permit::Slot));
            let (place, index, permit) = match of_first {
                Some(permit) => (0, first, permit),
                None => {
                    // One that has its place already waits for nobody in front of it.
                    let Some(place) = self.ahead.iter().position(|index| self.reserved.contains_key(index)) else { return };
                    let index = self.ahead[place];
                    let Some(permit) = self.reserved.remove(&index) else { return };
                    (place, index, permit)
                }
            };
            self.ahead.remove(place);
            self.launch(index, permit);
        }
    }

    /// Put the starts of attempts on record that were taken ahead and last.
    ///
    /// Else a job that runs for hours would be listed as queued, and its attempt would not count where it ends with the process.
    pub(super) fn record_starts(&mut self) {
        let now = Instant::now();
        while let Some((time, index, attempt)) = self.unstarted.front().copied() {
            let started = self.node(index).filter(|node| node.live == Some(attempt)).map(|node| (node.row.id, node.row.started_at));
            if started.is_some() && time > now {
                return;
            }
            self.unstarted.pop_front();
            if let Some((job, at)) = started {
                self.ops.push(Op::Start { job, attempt, at: at.unwrap_or_else(Timestamp::now) });
            }
        }
    }

    /// Ask for ready jobs: those that can start now, and some ahead while jobs are short.
    pub(super) fn ask_for_ready(&mut self) {
        let mut now = Vec::new();
        let mut ahead = Vec::new();
        let mut room = self.ahead_limit.saturating_sub(self.ahead.len());
        while let Some(index) = self.dag.first_ready() {
            if let Some(node) = self.node(index)
                && let Some(pool) = node.pool.clone()
            {
                node.hold = Hold::Pooled;
                let job = node.row.id;
                self.dag.take(index);
                let messages = self.messages.clone();
                // Who is told of a permit and is gone drops it, which gives it to the next.
                self.db.pools.get(&pool).enter(job, move |permit| {
                    let _ = messages.send(Message::Granted { index, permit: Permit::Pool(permit) });
                });
                continue;
            }
            let permit = if self.ahead.is_empty() { self.slot() } else { None };
            let starts = permit.is_some();
            match permit {
                Some(permit) => {
                    self.reserved.insert(index, Permit::Slot(permit));
                }
                None if room > 0 => room -= 1,
                None => break,
            }
            self.dag.take(index);
            let Some(node) = self.node(index) else { continue };
            node.hold = Hold::Asked;
            let id = node.row.id;
            self.group.asked.push(index);
            if starts { now.push(id) } else { ahead.push(id) }
        }
        let (owner, at) = (self.owner, Timestamp::now());
        for (jobs, start) in [(now, true), (ahead, false)] {
            if !jobs.is_empty() {
                self.ops.push(Op::Claim { jobs, owner, start, at });
            }
        }
    }

    pub(super) fn launch(&mut self, index: usize, permit: Permit) {
        if self.has_lapsed() {
            // It may not be ours any more: it waits until the record was read again.
            self.reserved.insert(index, permit);
            self.ahead.push_back(index);
            return;
        }
        let run = self.run.id;
        let waiting: Vec<JobId> = self.dag.waiting_for(index).into_iter().filter_map(|other| Some(self.node(other)?.row.id)).collect();
        let parameters = match self.node(index) {
            Some(node) => std::mem::take(&mut node.parameters),
            None => return,
        };
        let mut dependencies = HashMap::with_capacity(parameters.len());
        for (name, other) in &parameters {
            let value = match &self.slots[*other] {
                Slot::Job(node) => node.row.result.clone(),
                Slot::External(external) => external.result.clone(),
            };
            dependencies.insert(name.clone(), value.unwrap_or_default());
        }
        let owner = self.owner;
        let forced = self.forced;
        let default_executor = self.db.options.executor;
        let Some(node) = self.node(index) else { return };
        node.parameters = parameters;
        node.hold = Hold::Running;
        node.row.owner = Some(owner);
        let is_on_record = node.row.state == JobState::Running;
        node.row.state = JobState::Running;
        node.row.started_at = Some(Timestamp::now());
        let attempt_number = node.row.attempt;
        node.live = Some(attempt_number);
        let cancel = node.cancel.clone();
        let spec = JobSpec { row: node.row.clone(), attempt: node.row.attempt, owner, dependencies, waiting, forced };
        let name = Placement::of_text(spec.row.executor.as_deref()).executor.unwrap_or_else(|| default_executor.to_owned());
        self.running += 1;
        if !is_on_record {
            self.unstarted.push_back((Instant::now() + START_ON_RECORD, index, attempt_number));
        }
        let attempt = Attempt { db: self.db.clone(), spec, instances: self.instances.clone(), cancel };
        let executor = self.db.executor(&name);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let ended = match executor {
                Ok(executor) => executor.execute(attempt).await,
                Err(error) => Ended::Lost(JobFailure::of(&error.context(format_args!("run {run}")).fatal())),
            };
            // The driver is gone only when the database is closed.
            let _ = messages.send(Message::Ended { index, attempt: attempt_number, ended, permit });
        });
    }

    /// Results that are at hand are not thrown away, though nothing comes after them here.
    fn take_ends(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            let Message::Ended { index, attempt, ended: Ended::Here(draft), permit } = message else { continue };
            let Some(node) = self.node(index).filter(|node| node.live == Some(attempt)) else { continue };
            if draft.finish.spawned.is_empty() {
                node.live = None;
                self.running -= 1;
                // It only adds to what is to be written.
                let _ = self.on_draft(index, *draft, permit);
            }
        }
    }

    /// The driver stops: give back what was taken and not started, and, where it stops in the middle, what runs. Its attempts are
    /// told that they no longer count: whoever goes on with the run starts others.
    pub(super) async fn let_go(&mut self, in_the_middle: bool) {
        if let Some(commit) = self.commit.take()
            && let Ok((Err(_), group)) = commit.await
        {
            self.after_failed_commit(group);
        }
        // What a commit that was written says is read by whoever goes on.
        let mut ops = Vec::new();
        if in_the_middle {
            self.take_ends();
            ops.extend(std::mem::take(&mut self.ops).into_iter().filter(|op| matches!(op, Op::Finish(_))));
        }
        let (owner, at) = (self.owner, Timestamp::now());
        let mut given_back: Vec<usize> = std::mem::take(&mut self.ahead).into();
        if in_the_middle {
            given_back.extend((0..self.slots.len()).filter(|index| matches!(&self.slots[*index], Slot::Job(node) if node.live.is_some())));
        }
        for index in given_back {
            let Some(node) = self.node(index) else { continue };
            if node.live.take().is_some() {
                std::mem::take(&mut node.cancel).abandon();
            }
            let finish = Finish::plain(node.row.id, node.row.attempt, owner, node.row.started_at.unwrap_or(at), at, Finished::Released);
            ops.push(Op::Finish(Box::new(finish)));
        }
        if !ops.is_empty() {
            // A failure here only means that the jobs are reclaimed when this process is gone, or goes on with the run.
            let _ = self.db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await;
        }
    }
}
