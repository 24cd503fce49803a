//! Taking rows of the store into the graph of a run.

use super::{super::Placement, *};

/// How soon a job is looked at again whose late attempt has not returned.
pub(super) const LINGER: Duration = Duration::from_millis(50);

/// How long a retry still has to wait.
///
/// The time on record is of a clock that may have been set since: it is believed for no longer than the whole pause.
fn remaining(row: &JobRow) -> Option<Duration> {
    let left = u64::try_from(row.not_before?.0.saturating_sub(Timestamp::now().0)).ok()?;
    let pause = backoff_ms(row.backoff_ms, row.tries);
    Some(Duration::from_millis(left.min(pause))).filter(|pause| !pause.is_zero())
}

impl Driver {
    pub(super) fn add_rows(&mut self, rows: Vec<JobRow>, dependencies: Vec<JobDependency>) {
        let mut needs: HashMap<JobId, Vec<JobDependency>> = HashMap::new();
        for dependency in dependencies {
            needs.entry(dependency.job).or_default().push(dependency);
        }
        let mut externals: HashMap<(JobId, bool), usize> = HashMap::new();
        let mut later = Vec::new();
        let here: HashSet<JobId> = rows.iter().map(|row| row.id).chain(self.by_id.keys().copied()).collect();
        for row in rows {
            let id = row.id;
            if self.by_id.contains_key(&id) {
                continue;
            }
            let mut indexes = Vec::new();
            let mut parameters = Vec::new();
            for need in needs.remove(&id).unwrap_or_default() {
                let index = if here.contains(&need.needs) {
                    // A spawned job may be needed by an older one; that edge is added afterwards.
                    match self.by_id.get(&need.needs) {
                        Some(index) => *index,
                        None => {
                            later.push((id, need.needs));
                            continue;
                        }
                    }
                } else {
                    let key = (need.needs, need.parameter.is_some());
                    match externals.get(&key) {
                        Some(index) => *index,
                        None => {
                            let index = self.dag.add(&[]);
                            self.dag.take(index);
                            self.slots.push(Slot::External(External { id: key.0, must_succeed: key.1, result: None, settled: None }));
                            self.externals += 1;
                            externals.insert(key, index);
                            index
                        }
                    }
                };
                if let Some(parameter) = need.parameter {
                    parameters.push((parameter, index));
                }
                indexes.push(index);
            }
            let index = self.dag.add(&indexes);
            self.by_id.insert(id, index);
            let pool = Placement::of_text(row.executor.as_deref()).pool;
            let node =
                Node { row, hold: Hold::None, parameters, cancel: Arc::default(), live: None, lingering: false, unrecorded: false, pool };
            self.slots.push(Slot::Job(Box::new(node)));
            self.adopt(index);
            self.skip_if_lost(index);
            self.cancel_as_marked(index);
        }
        for (job, needs) in later {
            self.wait_for(job, needs);
        }
    }

    /// Let a job wait for a spawned one too.
    pub(super) fn wait_for(&mut self, job: JobId, needs: JobId) {
        if let (Some(job), Some(needs)) = (self.by_id.get(&job).copied(), self.by_id.get(&needs).copied()) {
            self.dag.need(job, needs);
            self.skip_if_lost(job);
        }
    }

    /// A job that nobody has, and that somebody asked to cancel, is cancelled: who was asked is gone.
    pub(super) fn cancel_as_marked(&mut self, index: usize) {
        let Slot::Job(node) = &self.slots[index] else { return };
        let waits = matches!(node.row.state, JobState::Queued | JobState::Blocked) && node.row.owner.is_none();
        if node.row.cancel_requested && waits && !node.unrecorded {
            self.cancel(index);
        }
    }

    /// A job that was lost with what it needs, before it was known here, is skipped on record too.
    pub(super) fn skip_if_lost(&mut self, index: usize) {
        if let Some(because) = self.dag.lost_need(index)
            && self.dag.progress(index) == Progress::Lost
        {
            self.skip(index, because);
            for skipped in self.dag.lost(index) {
                self.skip(skipped, index);
            }
        }
    }

    /// Put the dag in line with the state on record.
    pub(super) fn adopt(&mut self, index: usize) {
        let Slot::Job(node) = &mut self.slots[index] else { return };
        let state = node.row.state;
        match state {
            JobState::Succeeded => self.dag.succeed(index),
            JobState::Failed | JobState::Cancelled | JobState::Skipped => {
                if self.forced {
                    self.dag.succeed(index);
                } else {
                    for skipped in self.dag.lost(index) {
                        self.skip(skipped, index);
                    }
                }
            }
            JobState::Running | JobState::Queued if node.row.owner == Some(self.owner) && node.hold == Hold::None => {
                // Recorded as ours, and not started: such as a job taken in the same commit as it was recorded.
                node.hold = Hold::Ahead;
                self.dag.take(index);
                self.ahead.push_back(index);
            }
            JobState::Running | JobState::Blocked => {
                if !matches!(node.hold, Hold::Running | Hold::Ahead | Hold::Asked) {
                    node.hold = Hold::Elsewhere;
                    self.dag.take(index);
                }
            }
            JobState::Queued => {
                if node.row.owner.is_some_and(|owner| owner != self.owner) {
                    node.hold = Hold::Elsewhere;
                    self.dag.take(index);
                } else if let Some(pause) = remaining(&node.row).or(node.lingering.then_some(LINGER)) {
                    node.hold = Hold::Delayed;
                    self.dag.take(index);
                    self.delayed.insert((Instant::now() + pause, index), ());
                } else if matches!(node.hold, Hold::Elsewhere | Hold::None) && self.dag.progress(index) == Progress::Taken {
                    node.hold = Hold::None;
                    self.dag.give_back(index);
                    self.skip_if_lost(index);
                }
            }
        }
    }

    /// A job will never run because of another one.
    pub(super) fn skip(&mut self, index: usize, because: usize) {
        let cause = match &self.slots[because] {
            Slot::Job(node) => format!("upstream {}: job {} (`{}` of `{}`)", node.row.state, node.row.id, node.row.method, node.row.target),
            Slot::External(external) => format!("upstream failed: job {}", external.id),
        };
        let failure = JobFailure::new(FailureKind::Upstream, cause);
        let at = Timestamp::now();
        let Some(node) = self.node(index) else { return };
        if node.row.state.is_terminal() {
            return;
        }
        node.row.state = JobState::Skipped;
        node.row.failure = Some(failure.clone());
        node.row.ended_at = Some(at);
        let job = node.row.id;
        self.ops.push(Op::Settle { job, state: JobState::Skipped, failure, at });
    }
}
