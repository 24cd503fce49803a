//! The outside's hold on the engine of a process.
//!
//! Invariant: a run is registered here once, from before the scheduler knows it until its end was
//! told.

use super::shell::{Attach, Message, Shell};
use crate::{
    db::DbInner,
    error::Result,
    job::{
        Instances, Outcome,
        scheduler::{Input, Loaded},
    },
    store::{JobId, JobSignal, JobSignals, Pool, RunId, WorkerId},
    unreturned::Unreturned,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long attempts that were stopped have to end: a thread may take for ever.
const STOP: Duration = Duration::from_secs(2);

/// Why a message that cannot be sent is dropped.
const GONE: &str = "the task of the engine is gone with its runtime; the next call starts another one from the record";

/// How a run ended here, or why this process had to stop.
pub(crate) type Ending = Option<Arc<Result<Outcome>>>;

/// The pool of a job with its limit; `None`: the job is among all that have none.
pub(crate) type Lane = Option<(String, usize)>;

/// What the outside tells of a run.
#[derive(Debug)]
pub(crate) enum Command {
    /// Cancel these jobs, or all.
    Cancel(Option<Vec<JobId>>),
    /// A signal to these jobs.
    Signal(Vec<JobId>, JobSignal),
    /// Look at the store again.
    Look,
}

impl Command {
    fn into_input(self, run: RunId) -> Input {
        let none = JobSignals::default();
        match self {
            Command::Cancel(jobs) => {
                Input::Signal { run, jobs, signals: JobSignals { cancel: true, ..none } }
            }
            Command::Signal(jobs, JobSignal::Stop) => {
                Input::Signal { run, jobs: Some(jobs), signals: JobSignals { stop: true, ..none } }
            }
            Command::Signal(jobs, JobSignal::Pause) => {
                Input::Signal { run, jobs: Some(jobs), signals: JobSignals { pause: true, ..none } }
            }
            Command::Signal(jobs, JobSignal::Cancel) => Command::Cancel(Some(jobs)).into_input(run),
            // What was taken back, the record tells.
            Command::Signal(_, JobSignal::Continue) | Command::Look => Input::Refresh { run },
        }
    }
}

/// The outside's hold on a run.
#[derive(Clone)]
pub(crate) struct RunHandle {
    pub(crate) run: RunId,
    messages: mpsc::UnboundedSender<Message>,
    pub(crate) done: watch::Receiver<Ending>,
}

impl RunHandle {
    /// The hold on a run that other processes lead. Messages that are sent to it are dropped.
    pub(super) fn of_others(run: RunId, done: watch::Receiver<Ending>) -> Self {
        RunHandle { run, messages: mpsc::unbounded_channel().0, done }
    }

    /// Tell something; a run that is over needs no telling.
    pub(crate) fn tell(&self, command: Command) {
        self.messages.send(Message::Input(command.into_input(self.run))).ignored(GONE);
    }
}

/// Places for jobs that are about to be recorded. They are given back when this is dropped.
pub(crate) struct Places {
    messages: mpsc::UnboundedSender<Message>,
    /// Which of the jobs that were asked for may start at once.
    pub(crate) granted: Vec<bool>,
    /// The lanes of those.
    pub(super) lanes: Vec<Lane>,
}

impl Drop for Places {
    fn drop(&mut self) {
        if !self.lanes.is_empty() {
            self.messages.send(Message::Release(std::mem::take(&mut self.lanes))).ignored(GONE);
        }
    }
}

struct Alive {
    messages: mpsc::UnboundedSender<Message>,
    runs: HashMap<RunId, RunHandle>,
}

/// All runs that this process leads.
pub(crate) struct Engine {
    /// How many attempts may run at once, apart from those of pools.
    permits: u32,
    /// Limits of pools that were set for this process.
    limits: Mutex<HashMap<String, u32>>,
    /// While its task lives; that may end with its runtime.
    alive: Mutex<Option<Alive>>,
    /// A task that is started from then on claims nothing.
    closed: AtomicBool,
}

impl Engine {
    pub(crate) fn new(permits: usize) -> Self {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        Engine {
            permits,
            limits: Mutex::default(),
            alive: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// What is alive; where its runtime has ended, nothing is.
    fn lock(&self) -> MutexGuard<'_, Option<Alive>> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.take_if(|alive| alive.messages.is_closed());
        alive
    }

    /// The hold on a run that is under way here.
    pub(crate) fn handle(&self, run: RunId) -> Option<RunHandle> {
        self.lock().as_ref()?.runs.get(&run).cloned()
    }

    /// The hold on any run that is under way here.
    pub(crate) fn any_but(&self, others: &HashSet<RunId>) -> Option<RunHandle> {
        self.lock()
            .as_ref()?
            .runs
            .iter()
            .find(|(run, _)| !others.contains(run))
            .map(|(_, handle)| handle.clone())
    }

    /// The runs that are led here.
    pub(crate) fn led(&self) -> HashSet<RunId> {
        self.lock().as_ref().map(|alive| alive.runs.keys().copied().collect()).unwrap_or_default()
    }

    /// Start the task, unless it lives.
    fn start<'a>(
        &self,
        alive: &'a mut Option<Alive>,
        db: &Arc<DbInner>,
        owner: WorkerId,
    ) -> &'a mut Alive {
        alive.get_or_insert_with(|| {
            let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let messages = Shell::start(db, owner, self.permits, limits);
            if self.closed.load(Ordering::Acquire) {
                messages.send(Message::Input(Input::Close { now: false })).ignored(GONE);
            }
            Alive { messages, runs: HashMap::new() }
        })
    }

    /// Hand over a run that was read, or was just recorded. One that is under way here already
    /// stays as it is.
    pub(crate) fn lead(
        &self,
        db: &Arc<DbInner>,
        owner: WorkerId,
        loaded: Loaded,
        instances: Arc<Instances>,
        places: Option<Places>,
    ) -> RunHandle {
        let run = loaded.changes.run.id;
        let mut alive = self.lock();
        let alive = self.start(&mut alive, db, owner);
        if let Some(handle) = alive.runs.get(&run) {
            return handle.clone();
        }
        let (told, done) = watch::channel(None);
        let handle = RunHandle { run, messages: alive.messages.clone(), done };
        alive.runs.insert(run, handle.clone());
        alive
            .messages
            .send(Message::Attach(Box::new(Attach {
                db: db.clone(),
                loaded,
                instances,
                places,
                told,
            })))
            .ignored(GONE);
        handle
    }

    /// Claim no more jobs, ask the running jobs to pause, and stop the jobs that still run after
    /// the grace. Returns the jobs whose threads have not returned even then: they keep their
    /// claims until the threads return.
    pub(crate) async fn close(&self, grace: Duration) -> Vec<JobId> {
        self.closed.store(true, Ordering::Release);
        let Some(messages) = self.lock().as_ref().map(|alive| alive.messages.clone()) else {
            return Vec::new();
        };
        for (now, limit) in [(false, grace), (true, STOP)] {
            messages.send(Message::Input(Input::Close { now })).ignored(GONE);
            let runs: Vec<RunHandle> = self
                .lock()
                .as_ref()
                .map(|alive| alive.runs.values().cloned().collect())
                .unwrap_or_default();
            let all_told = async {
                for mut run in runs {
                    run.done.wait_for(Option::is_some).await.ignored(GONE);
                }
            };
            if tokio::time::timeout(limit, all_told).await.is_ok() {
                break;
            }
        }
        messages.send(Message::TellClosed).ignored(GONE);
        // Also where all were told: an earlier close may have told them, while threads go on.
        let (reply, running) = oneshot::channel();
        messages.send(Message::Running(reply)).ignored(GONE);
        running.await.unwrap_or_default()
    }

    /// A run is over, or was let go.
    pub(super) fn forget(&self, run: RunId) {
        if let Some(alive) = self.lock().as_mut() {
            alive.runs.remove(&run);
        }
    }

    /// Take places for jobs that are about to be recorded, as far as there are free ones.
    pub(crate) async fn reserve(
        &self,
        db: &Arc<DbInner>,
        owner: WorkerId,
        lanes: Vec<Lane>,
    ) -> Places {
        let messages = self.start(&mut self.lock(), db, owner).messages.clone();
        let mut places = Places { messages, granted: vec![false; lanes.len()], lanes: Vec::new() };
        let (reply, answer) = oneshot::channel();
        places.messages.send(Message::Reserve { lanes: lanes.clone(), reply }).ignored(GONE);
        // A task that is gone grants nothing; then they are claimed later.
        if let Ok(granted) = answer.await {
            places.lanes = lanes
                .into_iter()
                .zip(&granted)
                .filter_map(|(lane, granted)| granted.then_some(lane))
                .collect();
            places.granted = granted;
        }
        places
    }

    /// A pool as a claim names it: with the limit that was set for this process, otherwise with the
    /// limit of the job.
    pub(crate) fn pool(&self, (name, limit): &(String, usize)) -> Pool {
        let set = self.limits.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        let limit = set.unwrap_or_else(|| u32::try_from((*limit).max(1)).unwrap_or(u32::MAX));
        Pool { name: name.clone(), limit }
    }

    /// Set the limit of a pool: jobs on record may name another one, of an earlier time.
    pub(crate) fn limit_pool(&self, name: &str, limit: usize) {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).max(1);
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), limit);
        if let Some(alive) = self.lock().as_ref() {
            alive.messages.send(Message::Limit(name.to_owned(), limit)).ignored(GONE);
        }
    }
}
