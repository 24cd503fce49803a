//! Drives one run: takes ready jobs, hands them to executors, records what becomes of them.
//!
//! Invariants: a job starts only after its take is durable; what waits for a job starts only after that
//! job's result is durable. Results, takes and starts that are ready at the same time share one commit.

use super::{
    CancelToken, Instances, Outcome,
    dag::{Dag, Progress},
    executor::{Attempt, Ended},
    run_job::{Draft, JobSpec, conclude},
};
use crate::{
    Address, Error, FailureKind, JobFailure, Result,
    db::DbInner,
    plan::Removal,
    store::{
        Batch, Committed, Durability, Finish, Finished, JobDependency, JobFilter, JobId, JobRow, JobState, Op, OwnerId, RunFilter,
        RunPurpose, RunRow, RunState, Timestamp,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinHandle,
};

/// How long jobs that another process runs are left alone before looking again.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How often marks of cancellation are looked for while jobs run.
const CANCEL_POLL: Duration = Duration::from_secs(1);
/// The most jobs that are taken ahead of their start.
const MOST_AHEAD: usize = 512;

/// What the outside tells a driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Cancel these jobs, or all.
    Cancel(Option<Vec<JobId>>),
    /// Look at the store again.
    Look,
}

/// The outside's hold on a driver.
#[derive(Clone)]
pub(crate) struct RunHandle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) done: watch::Receiver<Option<Arc<Result<Outcome>>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Not ours.
    None,
    /// Asked for in the commit that is under way.
    Asked,
    /// Taken ahead; starts when there is a free slot.
    Ahead,
    /// An attempt is under way.
    Running,
    /// Waits for the time of its next try.
    Delayed,
    /// Another process has it, or it is blocked.
    Elsewhere,
}

struct Node {
    row: JobRow,
    hold: Hold,
    /// Dag indexes of jobs whose results are parameters, with the parameter's name.
    parameters: Vec<(String, usize)>,
    cancel: Arc<CancelToken>,
    /// The method of a late attempt has not returned.
    lingering: bool,
}

/// A job of another run that jobs of this one wait for.
struct External {
    id: JobId,
    /// Whether it must succeed; else any end will do.
    must_succeed: bool,
    result: Option<Value>,
}

enum Slot {
    Job(Box<Node>),
    External(External),
}

enum Message {
    Ended { index: usize, ended: Ended, permit: OwnedSemaphorePermit },
    Returned { index: usize },
}

/// What a commit under way was for.
#[derive(Default)]
struct Group {
    /// Jobs that it asks for.
    asked: Vec<usize>,
    /// How many attempts it ends; short jobs make large groups, and large groups take more ahead.
    ends: usize,
    /// Outputs that are to be shown once they are durable.
    outputs: Vec<(Address, Vec<(String, Value)>)>,
}

type CommitTask = JoinHandle<(Result<Committed>, Group)>;

/// Drives one run.
pub(crate) struct Driver {
    db: Arc<DbInner>,
    run: RunRow,
    owner: OwnerId,
    dag: Dag,
    slots: Vec<Slot>,
    by_id: HashMap<JobId, usize>,
    instances: Arc<Instances>,
    ops: Vec<Op>,
    group: Group,
    /// Whether a removal goes on where cleanup fails.
    forced: bool,
    /// Slots reserved for jobs that start as soon as their take is durable.
    reserved: HashMap<usize, OwnedSemaphorePermit>,
    ahead: VecDeque<usize>,
    ahead_limit: usize,
    running: usize,
    delayed: BTreeMap<(Timestamp, usize), ()>,
    externals: usize,
    ended: bool,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Driver {
    /// Start a driver for a run whose rows are given.
    pub(crate) fn start(
        db: &Arc<DbInner>,
        owner: OwnerId,
        run: RunRow,
        rows: Vec<JobRow>,
        dependencies: Vec<JobDependency>,
        instances: Arc<Instances>,
    ) -> RunHandle {
        let (commands_in, commands) = mpsc::unbounded_channel();
        let (done_in, done) = watch::channel(None);
        let (messages, inbox) = mpsc::unbounded_channel();
        let handle = RunHandle { commands: commands_in, done };
        let id = run.id;
        let forced = is_forced(&run);
        db.runs_lock().insert(id, handle.clone());
        let mut driver = Driver {
            db: db.clone(),
            run,
            owner,
            dag: Dag::default(),
            slots: Vec::with_capacity(rows.len()),
            by_id: HashMap::with_capacity(rows.len()),
            instances,
            ops: Vec::new(),
            group: Group::default(),
            forced,
            reserved: HashMap::new(),
            ahead: VecDeque::new(),
            ahead_limit: 0,
            running: 0,
            delayed: BTreeMap::new(),
            externals: 0,
            ended: false,
            messages,
            inbox,
            commands,
        };
        driver.add_rows(rows, dependencies);
        let db = db.clone();
        tokio::spawn(async move {
            let result = driver.drive().await;
            driver.release_held().await;
            let outcome = result.map(|()| driver.outcome());
            db.flush_notes().await;
            db.runs_lock().remove(&id);
            let _ = done_in.send(Some(Arc::new(outcome)));
        });
        handle
    }

    fn add_rows(&mut self, rows: Vec<JobRow>, dependencies: Vec<JobDependency>) {
        let mut needs: HashMap<JobId, Vec<JobDependency>> = HashMap::new();
        for dependency in dependencies {
            needs.entry(dependency.job).or_default().push(dependency);
        }
        let mut externals: HashMap<(JobId, bool), usize> = HashMap::new();
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
                        None => continue,
                    }
                } else {
                    let key = (need.needs, need.parameter.is_some());
                    match externals.get(&key) {
                        Some(index) => *index,
                        None => {
                            let index = self.dag.add(&[]);
                            self.dag.take(index);
                            self.slots.push(Slot::External(External { id: key.0, must_succeed: key.1, result: None }));
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
            let node = Node { row, hold: Hold::None, parameters, cancel: Arc::default(), lingering: false };
            self.slots.push(Slot::Job(Box::new(node)));
            self.adopt(index);
        }
    }

    /// Put the dag in line with the state on record.
    fn adopt(&mut self, index: usize) {
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
            JobState::Running if node.row.owner == Some(self.owner) && node.hold == Hold::None => {
                // Recorded as started by us in the same commit as the job itself.
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
                } else if let Some(time) = node.row.not_before.filter(|time| *time > Timestamp::now()) {
                    node.hold = Hold::Delayed;
                    self.dag.take(index);
                    self.delayed.insert((time, index), ());
                } else if matches!(node.hold, Hold::Elsewhere | Hold::None) && self.dag.progress(index) == Progress::Taken {
                    node.hold = Hold::None;
                    self.dag.give_back(index);
                }
            }
        }
    }

    fn node(&mut self, index: usize) -> Option<&mut Node> {
        match &mut self.slots[index] {
            Slot::Job(node) => Some(node),
            Slot::External(_) => None,
        }
    }

    async fn drive(&mut self) -> Result<()> {
        let mut commit: Option<CommitTask> = None;
        let mut poll = POLL.0;
        let mut failures = 0;
        let mut next_cancel_look = tokio::time::Instant::now() + CANCEL_POLL;
        self.poll_externals().await?;
        loop {
            self.wake_delayed();
            self.start_ahead();
            if commit.is_none() {
                self.ask_for_ready();
                self.end_if_done();
                commit = self.flush();
            }
            if commit.is_none() && self.dag.is_done() && self.running == 0 {
                return self.settle_end().await;
            }
            let away = self.waits_elsewhere();
            let wants_slot = !self.ahead.is_empty() || (self.dag.ready_count() > 0 && self.reserved.is_empty() && commit.is_none());
            let next_delayed = self.delayed.keys().next().map(|(time, _)| *time);
            tokio::select! {
                biased;
                Some(message) = self.inbox.recv() => {
                    self.on_message(message).await?;
                    while let Ok(message) = self.inbox.try_recv() {
                        self.on_message(message).await?;
                    }
                }
                Some(command) = self.commands.recv() => self.on_command(command).await?,
                result = async { match commit.as_mut() { Some(task) => task.await, None => std::future::pending().await } } => {
                    commit = None;
                    let (committed, group) = result.map_err(|error| Error::internal(format!("the commit task of run {} ended: {error}", self.run.id)))?;
                    match committed {
                        Ok(committed) => {
                            failures = 0;
                            self.db.committed();
                            self.on_committed(committed, group).await?;
                        }
                        Err(error) => {
                            failures += 1;
                            if !error.is_retryable() || failures > 3 {
                                return Err(error.context(format_args!("run {} stopped; `db.resume()` continues it", self.run.id)));
                            }
                            self.after_failed_commit(group.asked).await?;
                        }
                    }
                }
                permit = self.db.slots.clone().acquire_owned(), if wants_slot => {
                    drop(permit);
                }
                () = until(next_delayed) => {}
                () = tokio::time::sleep(poll), if away => {
                    poll = (poll * 2).min(POLL.1);
                    if self.look().await? {
                        poll = POLL.0;
                    }
                }
                () = tokio::time::sleep_until(next_cancel_look), if self.running > 0 && self.db.shared() => {
                    next_cancel_look = tokio::time::Instant::now() + CANCEL_POLL;
                    self.look_for_cancellation().await?;
                }
            }
        }
    }

    /// Whether progress depends on other processes or runs.
    fn waits_elsewhere(&self) -> bool {
        self.externals > 0
            || (self.running == 0
                && self.ahead.is_empty()
                && !self.dag.is_done()
                && self.slots.iter().any(|slot| matches!(slot, Slot::Job(node) if node.hold == Hold::Elsewhere)))
    }

    fn wake_delayed(&mut self) {
        let now = Timestamp::now();
        let mut late = Vec::new();
        while let Some(entry) = self.delayed.first_entry() {
            let (time, index) = *entry.key();
            if time > now {
                break;
            }
            entry.remove();
            match self.node(index) {
                // A retry starts only after the method of the late attempt has returned.
                Some(node) if node.lingering => late.push((now.plus_ms(50), index)),
                Some(node) => {
                    node.hold = Hold::None;
                    self.dag.give_back(index);
                }
                None => {}
            }
        }
        self.delayed.extend(late.into_iter().map(|key| (key, ())));
    }

    /// Start jobs that were taken ahead, as far as there are slots.
    fn start_ahead(&mut self) {
        while let Some(index) = self.ahead.front().copied() {
            let Ok(permit) = self.db.slots.clone().try_acquire_owned() else { return };
            self.ahead.pop_front();
            self.launch(index, permit);
        }
    }

    /// Ask for ready jobs: those that can start now, and some ahead while jobs are short.
    fn ask_for_ready(&mut self) {
        let mut now = Vec::new();
        let mut ahead = Vec::new();
        let mut room = self.ahead_limit.saturating_sub(self.ahead.len());
        while let Some(index) = self.dag.first_ready() {
            let permit = if self.ahead.is_empty() { self.db.slots.clone().try_acquire_owned().ok() } else { None };
            let starts = permit.is_some();
            match permit {
                Some(permit) => {
                    self.reserved.insert(index, permit);
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

    fn end_if_done(&mut self) {
        if self.ended || !self.dag.is_done() || self.running > 0 || self.run.state != RunState::Running {
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
        let state = if any(JobState::Failed) && !self.forced {
            RunState::Failed
        } else if any(JobState::Cancelled) && !self.forced {
            RunState::Cancelled
        } else {
            RunState::Succeeded
        };
        if self.run.purpose == RunPurpose::Remove && state == RunState::Succeeded {
            // The rows go in the same commit that ends the run.
            if let Ok(removal) = serde_json::from_value::<Removal>(self.run.data.clone()) {
                for (address, versions) in removal.versions {
                    self.ops.push(Op::Delete { address, versions });
                }
            }
        }
        self.run.state = state;
        self.run.ended_at = Some(at);
        self.ops.push(Op::EndRun { run: self.run.id, state, at });
    }

    fn flush(&mut self) -> Option<CommitTask> {
        if self.ops.is_empty() {
            return None;
        }
        let batch = Batch { expect: Vec::new(), ops: std::mem::take(&mut self.ops) };
        let group = std::mem::take(&mut self.group);
        let metadata = self.db.metadata.clone();
        Some(tokio::spawn(async move {
            let result = metadata.commit(batch, Durability::Full).await;
            (result, group)
        }))
    }

    async fn on_committed(&mut self, committed: Committed, group: Group) -> Result<()> {
        self.ahead_limit = if group.ends > 1 { (group.ends * 2).min(MOST_AHEAD) } else { 0 };
        for (target, outputs) in &group.outputs {
            self.instances.outputs_committed(target, outputs);
        }
        let owner = self.owner;
        let claimed: HashMap<JobId, u32> = committed.claimed.into_iter().collect();
        let mut look = false;
        for index in group.asked {
            let permit = self.reserved.remove(&index);
            let Some(node) = self.node(index) else { continue };
            match claimed.get(&node.row.id) {
                Some(attempt) => {
                    node.row.attempt = *attempt;
                    node.row.owner = Some(owner);
                    node.hold = Hold::Ahead;
                    match permit {
                        Some(permit) => self.launch(index, permit),
                        None => self.ahead.push_back(index),
                    }
                }
                None => {
                    node.hold = Hold::Elsewhere;
                    look = true;
                }
            }
        }
        if look || !committed.fenced.is_empty() {
            if self.ended {
                self.ended = false;
                self.run.state = RunState::Running;
                self.run.ended_at = None;
            }
            self.look().await?;
        }
        Ok(())
    }

    /// Nothing of the batch was written: its takes are void, its ends are asked for again.
    async fn after_failed_commit(&mut self, asked: Vec<usize>) -> Result<()> {
        for index in asked {
            self.reserved.remove(&index);
            if let Some(node) = self.node(index) {
                node.hold = Hold::None;
            }
            self.dag.give_back(index);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.look().await.map(|_| ())
    }

    fn launch(&mut self, index: usize, permit: OwnedSemaphorePermit) {
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
        node.row.state = JobState::Running;
        node.row.started_at = Some(Timestamp::now());
        let cancel = node.cancel.clone();
        let spec = JobSpec { row: node.row.clone(), attempt: node.row.attempt, owner, dependencies, waiting, forced };
        let name = spec.row.executor.clone().unwrap_or_else(|| default_executor.to_owned());
        self.running += 1;
        let attempt = Attempt { db: self.db.clone(), spec, instances: self.instances.clone(), cancel };
        let executor = self.db.executor(&name);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let ended = match executor {
                Ok(executor) => executor.execute(attempt).await,
                Err(error) => Ended::Lost(JobFailure::of(&error.context(format_args!("run {run}")).fatal())),
            };
            // The driver is gone only when the database is closed.
            let _ = messages.send(Message::Ended { index, ended, permit });
        });
    }

    async fn on_message(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Returned { index } => {
                if let Some(node) = self.node(index) {
                    node.lingering = false;
                }
                Ok(())
            }
            Message::Ended { index, ended, permit } => {
                self.running -= 1;
                match ended {
                    Ended::Here(draft) => self.on_draft(index, *draft, permit),
                    Ended::Recorded => self.look().await.map(|_| ()),
                    Ended::Lost(failure) => {
                        let owner = self.owner;
                        let Some(node) = self.node(index) else { return Ok(()) };
                        let at = Timestamp::now();
                        let end = conclude(&node.row, failure, node.cancel.is_cancelled(), at);
                        let finish = Finish {
                            job: node.row.id,
                            attempt: node.row.attempt,
                            owner,
                            started_at: node.row.started_at.unwrap_or(at),
                            at,
                            end,
                            outputs: Vec::new(),
                            blobs: Vec::new(),
                            spawned: Vec::new(),
                            spawned_before: Vec::new(),
                            messages: Vec::new(),
                        };
                        self.on_draft(index, Draft { finish, lingering: None }, permit)
                    }
                }
            }
        }
    }

    fn on_draft(&mut self, index: usize, draft: Draft, permit: OwnedSemaphorePermit) -> Result<()> {
        let Draft { finish, lingering } = draft;
        if let Some(returned) = lingering {
            if let Some(node) = self.node(index) {
                node.lingering = true;
            }
            let messages = self.messages.clone();
            tokio::spawn(async move {
                // The thread keeps its slot until it returns.
                let _ = returned.await;
                drop(permit);
                let _ = messages.send(Message::Returned { index });
            });
        }
        // Spawned jobs get their ids from the store, so what grows the run is recorded on its own.
        if !finish.spawned.is_empty() {
            return self.record_growth(index, finish);
        }
        if !finish.outputs.is_empty()
            && let Slot::Job(node) = &self.slots[index]
        {
            let outputs = finish.outputs.iter().map(|output| (output.name.clone(), output.value.clone())).collect();
            self.group.outputs.push((node.row.target.clone(), outputs));
        }
        self.apply_end(index, &finish);
        self.group.ends += 1;
        self.ops.push(Op::Finish(Box::new(finish)));
        Ok(())
    }

    /// Record an end with spawned jobs at once, and act on it when it is durable.
    fn record_growth(&mut self, index: usize, finish: Finish) -> Result<()> {
        self.running += 1;
        let metadata = self.db.metadata.clone();
        let messages = self.messages.clone();
        let db = self.db.clone();
        let instances = self.instances.clone();
        let target = match &self.slots[index] {
            Slot::Job(node) => node.row.target.clone(),
            Slot::External(_) => return Ok(()),
        };
        tokio::spawn(async move {
            let outputs: Vec<(String, Value)> = finish.outputs.iter().map(|output| (output.name.clone(), output.value.clone())).collect();
            let batch = Batch { expect: Vec::new(), ops: vec![Op::Finish(Box::new(finish))] };
            let ended = match metadata.commit(batch, Durability::Full).await {
                Ok(committed) => {
                    db.committed();
                    if committed.fenced.is_empty() {
                        instances.outputs_committed(&target, &outputs);
                    }
                    Ended::Recorded
                }
                Err(error) => Ended::Lost(JobFailure::of(&error.context("recording the result"))),
            };
            if let Ok(permit) = db.slots.clone().acquire_owned().await {
                let _ = messages.send(Message::Ended { index, ended, permit });
            }
        });
        Ok(())
    }

    /// Take the end of an attempt into the graph and the row.
    fn apply_end(&mut self, index: usize, finish: &Finish) {
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
                self.delayed.insert((*time, index), ());
            }
            Finished::Blocked(reason) => {
                row.state = JobState::Blocked;
                row.blocked = Some(reason.clone());
                node.hold = Hold::Elsewhere;
            }
            Finished::Released => {
                row.state = JobState::Queued;
                self.dag.give_back(index);
            }
        }
    }

    /// A job will never run because of another one.
    fn skip(&mut self, index: usize, because: usize) {
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

    async fn on_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Look => self.look().await.map(|_| ()),
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

    fn cancel(&mut self, index: usize) {
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

    /// Read the run again: other processes and workers may have moved it. Gives whether anything moved.
    async fn look(&mut self) -> Result<bool> {
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

    async fn poll_externals(&mut self) -> Result<()> {
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

    async fn look_for_cancellation(&mut self) -> Result<()> {
        let running: Vec<JobId> = self
            .slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Job(node) if matches!(node.hold, Hold::Running | Hold::Ahead) => Some(node.row.id),
                _ => None,
            })
            .collect();
        let rows = self.db.metadata.jobs(JobFilter { ids: Some(running), ..JobFilter::default() }).await?;
        for row in rows.into_iter().filter(|row| row.cancel_requested) {
            if let Some(index) = self.by_id.get(&row.id).copied() {
                self.cancel(index);
            }
        }
        Ok(())
    }

    /// The run is over: what a removal leaves to do, and the last word of the store.
    async fn settle_end(&mut self) -> Result<()> {
        if self.run.state == RunState::Running {
            // Another process ended it.
            if let Some(row) = self.db.metadata.runs(RunFilter { id: Some(self.run.id), ..RunFilter::default() }).await?.pop() {
                self.run = row;
            }
        }
        if self.run.purpose == RunPurpose::Remove && self.run.state == RunState::Succeeded {
            self.db.sweep_after_removal(&self.run).await?;
        }
        Ok(())
    }

    /// Give back what was taken and not started.
    async fn release_held(&mut self) {
        let (owner, at) = (self.owner, Timestamp::now());
        let mut ops = Vec::new();
        while let Some(index) = self.ahead.pop_front() {
            if let Some(node) = self.node(index) {
                ops.push(Op::Finish(Box::new(Finish {
                    job: node.row.id,
                    attempt: node.row.attempt,
                    owner,
                    started_at: at,
                    at,
                    end: Finished::Released,
                    outputs: Vec::new(),
                    blobs: Vec::new(),
                    spawned: Vec::new(),
                    spawned_before: Vec::new(),
                    messages: Vec::new(),
                })));
            }
        }
        if !ops.is_empty() {
            // A failure here only means that the jobs are reclaimed when this process is gone.
            let _ = self.db.metadata.commit(Batch { expect: Vec::new(), ops }, Durability::Full).await;
        }
    }

    fn outcome(&mut self) -> Outcome {
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

async fn until(time: Option<Timestamp>) {
    match time {
        Some(time) => {
            let ms = u64::try_from(time.0.saturating_sub(Timestamp::now().0)).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms + 1)).await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a run is a removal that goes on where cleanup fails.
pub(crate) fn is_forced(run: &RunRow) -> bool {
    run.purpose == RunPurpose::Remove && run.data.get("force").and_then(Value::as_bool) == Some(true)
}
