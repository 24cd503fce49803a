//! Drives one run: takes ready jobs, hands them to executors, records what becomes of them.
//!
//! Invariants: a job starts only after its take is durable; what waits for a job starts only after that
//! job's result is durable. Results, takes and starts that are ready at the same time share one commit.

mod adopt;
mod end;
mod look;
mod recover;
mod removal;
mod take;

use super::{
    CancelToken, Instances, Outcome,
    dag::{Dag, Progress},
    executor::{Attempt, Ended},
    pool::PoolPermit,
    record::{MOST_FAILURES, PAUSE, record},
    run_job::{Draft, JobSpec, backoff_ms, conclude},
};
use crate::{
    Address, Error, FailureKind, JobFailure, Result,
    artifact::BlobHandle,
    db::DbInner,
    lifecycle::BoxFuture,
    plan::Removal,
    store::{
        Batch, ChangeCursor, Claimed, Committed, Durability, Finish, Finished, JobDependency, JobFilter, JobId, JobRow, JobSignals,
        JobState, Op, OwnerId, RunId, RunPurpose, RunRow, RunState, Timestamp, Wish,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// How long jobs that another process runs are left alone before looking again.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How often marks of cancellation, and jobs that another process runs, are looked for while jobs run here.
const BUSY_POLL: Duration = Duration::from_secs(1);
/// The same while all that is left waits for a time or a place: another process may end it meanwhile.
const IDLE_POLL: Duration = Duration::from_secs(3);
/// When the start of a job that was taken ahead is put on record: one that ends sooner tells it with its end.
const START_ON_RECORD: Duration = Duration::from_millis(20);
/// A failure so long ago says nothing of the store as it is.
const LONG_AGO: Duration = Duration::from_secs(60);
/// The most jobs that are taken ahead of their start.
const MOST_AHEAD: usize = 512;

/// What the outside tells a driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Cancel these jobs, or all.
    Cancel(Option<Vec<JobId>>),
    /// Ask something of these jobs.
    Ask(Vec<JobId>, Wish),
    /// Look at the store again.
    Look,
}

/// The right of one attempt to run: a place among all, or among those of a pool. Dropped at the attempt's end.
#[expect(dead_code, reason = "what a permit is for is that it is dropped")]
pub(crate) enum Permit {
    Slot(OwnedSemaphorePermit),
    Pool(PoolPermit),
    /// None: nothing of the attempt runs any more, only its end is still to be recorded.
    Spent,
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
    /// Waits for a place in its pool.
    Pooled,
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
    /// The attempt that runs here and counts; an abandoned one does not.
    live: Option<u32>,
    /// The method of a late or abandoned attempt has not returned.
    lingering: bool,
    /// The row is ahead of the record: the end of an attempt is on its way to the store.
    unrecorded: bool,
    /// The pool that limits it, with its limit.
    pool: Option<(String, usize)>,
}

impl Node {
    /// Take what is asked of the job on record; a pause that was taken back since is not asked again.
    fn take_signals(&mut self, signals: JobSignals) {
        self.row.cancel_requested |= signals.cancel;
        self.row.stop_requested |= signals.stop;
        self.row.pause_requested = signals.pause;
        if self.cancel.ask_for_row(&self.row) {
            self.cancel.cancel();
        }
    }
}

/// A job of another run that jobs of this one wait for.
struct External {
    id: JobId,
    /// Whether it must succeed; else any end will do.
    must_succeed: bool,
    result: Option<Value>,
    /// Whether it came to the end that was needed; `None` while it is open.
    settled: Option<bool>,
}

enum Slot {
    Job(Box<Node>),
    External(External),
}

enum Message {
    Ended { index: usize, attempt: u32, ended: Ended, permit: Permit },
    Returned { index: usize },
    Granted { index: usize, permit: Permit },
}

/// The outputs that a job set: the job, its component, names and values.
type SetOutputs = (JobId, Address, Vec<(String, Value)>);

/// What a commit under way was for.
#[derive(Default)]
struct Group {
    /// Jobs that it asks for.
    asked: Vec<usize>,
    /// Jobs whose attempts it ends; short jobs make large groups, and large groups take more ahead.
    ends: Vec<usize>,
    /// Outputs of jobs that are to be shown once they are durable.
    outputs: Vec<SetOutputs>,
    /// Places in pools of attempts that have ended; free when that is on record, so that no more jobs of a pool are on
    /// record as running than may run.
    permits: Vec<(usize, Permit)>,
    /// The blobs of ends that name some, and how often they were saved again: a sweep may take one before the commit.
    blobs: Vec<(usize, Vec<Arc<BlobHandle>>, u32)>,
    /// What is written, for another try where the store fails.
    ops: Vec<Op>,
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
    /// The commit that is under way.
    commit: Option<CommitTask>,
    /// How often the store failed, one time soon after the other.
    failures: u32,
    last_failure: Option<Instant>,
    /// Versions whose jobs ended elsewhere, and whose outputs are not shown here yet.
    unshown: BTreeSet<Address>,
    /// Whether a removal goes on where cleanup fails.
    forced: bool,
    /// Slots reserved for jobs that start as soon as their take is durable.
    reserved: HashMap<usize, Permit>,
    ahead: VecDeque<usize>,
    /// A slot that was waited for; kept until the next jobs are started, or nobody would ever get it.
    spare: Option<OwnedSemaphorePermit>,
    ahead_limit: usize,
    running: usize,
    /// By the monotonic clock: one that is set must neither hurry nor hold up a retry.
    delayed: BTreeMap<(Instant, usize), ()>,
    /// Attempts whose start is not on record, with the times when it has to be.
    unstarted: VecDeque<(Instant, usize, u32)>,
    externals: usize,
    ended: bool,
    /// How often this process stood still for its lease, as far as this driver took note.
    lapses: u64,
    /// Up to where the changes of the run were read; the beginning where a row that did not change has to be looked at again.
    seen: ChangeCursor,
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
        mut permits: HashMap<usize, Permit>,
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
            commit: None,
            failures: 0,
            last_failure: None,
            unshown: BTreeSet::new(),
            forced,
            reserved: HashMap::new(),
            ahead: VecDeque::new(),
            spare: None,
            ahead_limit: 0,
            running: 0,
            delayed: BTreeMap::new(),
            unstarted: VecDeque::new(),
            externals: 0,
            ended: false,
            lapses: db.metadata.lapses(),
            seen: ChangeCursor::default(),
            messages,
            inbox,
            commands,
        };
        let permits: Vec<(JobId, Permit)> =
            rows.iter().enumerate().filter_map(|(place, row)| Some((row.id, permits.remove(&place)?))).collect();
        driver.add_rows(rows, dependencies);
        for (job, permit) in permits {
            if let Some(index) = driver.by_id.get(&job) {
                driver.reserved.insert(*index, permit);
            }
        }
        let db = db.clone();
        tokio::spawn(async move {
            let result = driver.drive_on().await;
            driver.let_go(result.is_err()).await;
            let outcome = result.map(|()| driver.outcome());
            db.flush_notes().await;
            db.runs_lock().remove(&id);
            let _ = done_in.send(Some(Arc::new(outcome)));
        });
        handle
    }

    fn node(&mut self, index: usize) -> Option<&mut Node> {
        match &mut self.slots[index] {
            Slot::Job(node) => Some(node),
            Slot::External(_) => None,
        }
    }

    /// Drive to the end, also over failures of the store that pass.
    async fn drive_on(&mut self) -> Result<()> {
        let mut again = false;
        loop {
            let error = match self.drive(again).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if self.last_failure.is_some_and(|at| at.elapsed() > LONG_AGO) {
                self.failures = 0;
            }
            self.last_failure = Some(Instant::now());
            self.failures += 1;
            if !error.is_retryable() || self.failures > MOST_FAILURES {
                return Err(error.context(format_args!("run {} stopped; `db.resume()` continues it", self.run.id)));
            }
            again = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn drive(&mut self, again: bool) -> Result<()> {
        let mut poll = POLL.0;
        let (mut looked, mut look_took) = (Instant::now(), Duration::ZERO);
        if again {
            if let Some(commit) = self.commit.as_mut() {
                let ended = commit.await;
                self.commit = None;
                self.on_commit(ended).await?;
            }
            // Something was read in vain: what is believed here may not be so.
            self.recover().await?;
        } else {
            self.poll_externals().await?;
        }
        self.stop_what_goes().await?;
        loop {
            if self.commit.is_none() && self.has_lapsed() {
                self.recover().await?;
            }
            self.wake_delayed();
            self.start_ahead();
            self.record_starts();
            if self.commit.is_none() {
                self.ask_for_ready();
                self.end_if_done();
                self.commit = self.flush();
            }
            self.spare = None;
            if self.commit.is_none() && self.dag.is_done_but(self.externals) && self.running == 0 && !self.waits_for_live_jobs() {
                return self.settle_end().await;
            }
            let away = self.waits_elsewhere();
            let wants_slot = !self.ahead.is_empty() || (self.dag.ready_count() > 0 && self.reserved.is_empty() && self.commit.is_none());
            let next_delayed = self.delayed.keys().next().map(|(time, _)| *time);
            // A look at a run of very many jobs takes its time; it must not take all.
            let next_look = looked + if self.running > 0 { BUSY_POLL } else { IDLE_POLL }.max(look_took * 10);
            let next_start = self.unstarted.front().map(|(time, ..)| *time);
            tokio::select! {
                biased;
                Some(message) = self.inbox.recv() => {
                    self.on_message(message).await?;
                    while let Ok(message) = self.inbox.try_recv() {
                        self.on_message(message).await?;
                    }
                }
                Some(command) = self.commands.recv() => self.on_command(command).await?,
                ended = async { match self.commit.as_mut() { Some(task) => task.await, None => std::future::pending().await } } => {
                    self.commit = None;
                    self.on_commit(ended).await?;
                }
                permit = self.db.slots.clone().acquire_owned(), if wants_slot => self.spare = permit.ok(),
                () = until(next_delayed) => {}
                () = until(next_start) => {}
                () = tokio::time::sleep(poll), if away => {
                    poll = (poll * 2).min(POLL.1);
                    if self.look().await? {
                        poll = POLL.0;
                    }
                }
                () = tokio::time::sleep_until(next_look), if (self.running > 0 || self.waits_long()) && self.db.shared() => {
                    let begun = Instant::now();
                    self.look_for_cancellation().await?;
                    // Watched from now on, so that their leases have run out by the time a slot is free for their jobs.
                    self.db.reclaim_dead().await?;
                    if self.any_elsewhere() || self.waits_long() {
                        self.look().await?;
                    }
                    (looked, look_took) = (Instant::now(), begun.elapsed());
                }
            }
        }
    }

    /// Whether progress depends on other processes or runs.
    fn waits_elsewhere(&self) -> bool {
        self.externals > 0 || (self.running == 0 && self.ahead.is_empty() && !self.dag.is_done_but(self.externals) && self.any_elsewhere())
    }

    fn any_elsewhere(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Job(node) if node.hold == Hold::Elsewhere))
    }

    /// Whether a job waits for its time or its place, while another process may end it.
    fn waits_long(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Job(node) if matches!(node.hold, Hold::Delayed | Hold::Pooled)))
    }

    /// Whether this process stood still for so long that its jobs may have been taken over since.
    fn has_lapsed(&self) -> bool {
        self.db.metadata.lapses() != self.lapses
    }

    fn flush(&mut self) -> Option<CommitTask> {
        if self.ops.is_empty() {
            return None;
        }
        let mut group = std::mem::take(&mut self.group);
        group.ops = std::mem::take(&mut self.ops);
        let batch = Batch { expect: Vec::new(), ops: group.ops.clone() };
        let metadata = self.db.metadata.clone();
        Some(tokio::spawn(async move {
            let result = metadata.commit(batch, Durability::Full).await;
            (result, group)
        }))
    }

    async fn on_commit(&mut self, ended: Result<(Result<Committed>, Group), tokio::task::JoinError>) -> Result<()> {
        let (committed, group) =
            ended.map_err(|error| Error::internal(format!("the commit task of run {} ended: {error}", self.run.id)))?;
        match committed {
            Ok(committed) => {
                self.failures = 0;
                self.db.committed();
                self.on_committed(committed, group).await
            }
            // It is written again, in front of what came after.
            Err(error) => {
                self.after_failed_commit(group);
                if self.ended && self.end_without_deletion(&error) { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn on_committed(&mut self, committed: Committed, mut group: Group) -> Result<()> {
        self.ahead_limit = if group.ends.len() > 1 { (group.ends.len() * 2).min(MOST_AHEAD) } else { 0 };
        for index in &group.ends {
            if let Some(node) = self.node(*index) {
                node.unrecorded = false;
            }
        }
        let fenced: HashSet<JobId> = committed.fenced.iter().copied().collect();
        let swept: HashSet<JobId> = committed.swept.iter().copied().collect();
        if !swept.is_empty() {
            self.record_again(&swept, &mut group);
        }
        for (_, target, outputs) in group.outputs.iter().filter(|(job, ..)| !fenced.contains(job) && !swept.contains(job)) {
            self.instances.outputs_committed(target, outputs);
        }
        for op in &group.ops {
            if let Op::Finish(finish) = op
                && fenced.contains(&finish.job)
            {
                self.db.note_fenced(finish.job, finish.attempt);
                // A commit that was told to have failed may have been written all the same.
                if let Some(index) = self.by_id.get(&finish.job).copied()
                    && let Slot::Job(node) = &self.slots[index]
                {
                    self.unshown.insert(node.row.target.clone());
                }
            }
        }
        let owner = self.owner;
        let claimed: HashMap<JobId, Claimed> = committed.claimed.into_iter().map(|claimed| (claimed.job, claimed)).collect();
        // What the record made of an attempt that gave up: it may have been released, or cancelled, meanwhile.
        let gave_up = |op: &Op| matches!(op, Op::Finish(finish) if matches!(finish.end, Finished::Blocked(_) | Finished::Paused(_)));
        let mut look = group.ops.iter().any(gave_up);
        for index in group.asked {
            let permit = self.reserved.remove(&index);
            let Some(node) = self.node(index) else { continue };
            match claimed.get(&node.row.id) {
                Some(claimed) => {
                    // Another process may have had it meanwhile: the answer says what became of it there.
                    (node.row.attempt, node.row.tries, node.row.lost) = (claimed.attempt, claimed.tries, claimed.lost);
                    node.take_signals(claimed.signals);
                    node.row.owner = Some(owner);
                    node.hold = Hold::Ahead;
                    if permit.is_some() {
                        // It was taken to start at once, and is on record so.
                        node.row.state = JobState::Running;
                    }
                    match permit {
                        Some(permit) => self.launch(index, permit),
                        None => self.ahead.push_back(index),
                    }
                }
                None => {
                    node.hold = Hold::Elsewhere;
                    // Who was quicker may have given it back before this is read.
                    self.seen = ChangeCursor::default();
                    look = true;
                }
            }
        }
        if committed.invalidated {
            self.recover().await?;
        } else if look {
            self.look().await?;
        }
        Ok(())
    }

    /// Nothing of the batch was written: it is tried again, in front of what came after.
    fn after_failed_commit(&mut self, mut group: Group) {
        group.ops.append(&mut self.ops);
        self.ops = std::mem::take(&mut group.ops);
        group.asked.append(&mut self.group.asked);
        group.permits.append(&mut self.group.permits);
        group.blobs.append(&mut self.group.blobs);
        group.outputs.append(&mut self.group.outputs);
        group.ends.append(&mut self.group.ends);
        self.group = group;
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether a run is a removal that goes on where cleanup fails.
pub(crate) fn is_forced(run: &RunRow) -> bool {
    run.purpose == RunPurpose::Remove && run.data.get("force").and_then(Value::as_bool) == Some(true)
}
