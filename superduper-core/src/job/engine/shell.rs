//! The task of an engine: it hands inputs to the scheduler, and has its effects done.
//!
//! Invariant: a lapse of the lease is told before any input that came after it.

use super::{
    book::Book,
    handle::{Ending, Lane, Places},
};
use crate::{
    db::DbInner,
    error::{Error, Result},
    job::{
        Instances,
        executor::AttemptEnd,
        record::ResultBlobs,
        scheduler::{Config, Fault, Input, Loaded, Now, Scheduler},
    },
    store::{Committed, JobId, JobRow, RunId, Timestamp, WorkerId},
    unreturned::Unreturned,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// The most jobs of a run that are claimed ahead of a permit.
const MOST_PREFETCHED: usize = 512;

/// A run that is handed over.
pub(super) struct Attach {
    /// Whoever handed it over may be gone by the time it is taken.
    pub(super) db: Arc<DbInner>,
    pub(super) loaded: Loaded,
    pub(super) instances: Arc<Instances>,
    pub(super) places: Option<Places>,
    pub(super) told: watch::Sender<Ending>,
}

/// What the task is told.
pub(super) enum Message {
    Attach(Box<Attach>),
    Input(Input),
    Reserve {
        lanes: Vec<Lane>,
        reply: oneshot::Sender<Vec<bool>>,
    },
    Release(Vec<Lane>),
    Limit(String, u32),
    /// Asks for the jobs that run.
    Running(oneshot::Sender<Vec<JobId>>),
    /// Callers that wait for a run are told that this process closed, even if jobs still run.
    TellClosed,
    Committed {
        run: RunId,
        deletes: bool,
        answer: Result<Committed>,
    },
    Read {
        run: RunId,
        answer: Result<Loaded>,
    },
    Looked {
        run: RunId,
        answer: Result<(Vec<JobRow>, bool)>,
    },
    Ended {
        run: RunId,
        job: JobId,
        attempt: u32,
        ended: AttemptEnd,
    },
    Saved {
        run: RunId,
        job: JobId,
        attempt: u32,
        blobs: ResultBlobs,
        answer: Result<u64>,
    },
}

/// The task's own state.
pub(super) struct Shell {
    pub(super) db: Weak<DbInner>,
    pub(super) owner: WorkerId,
    pub(super) scheduler: Scheduler,
    pub(super) books: HashMap<RunId, Book>,
    /// For those who answer. It keeps nothing alive by itself.
    pub(super) messages: mpsc::WeakUnboundedSender<Message>,
    /// Inputs that the shell itself makes.
    pub(super) own: Vec<Input>,
    pub(super) timer: Option<u64>,
    begun: Instant,
    lapses: u64,
}

impl Shell {
    /// Start the task; it ends when nobody can tell it anything any more.
    pub(super) fn start(
        db: &Arc<DbInner>,
        owner: WorkerId,
        permits: u32,
        limits: HashMap<String, u32>,
    ) -> mpsc::UnboundedSender<Message> {
        let (messages, inbox) = mpsc::unbounded_channel();
        let shared = db.shared();
        let config = Config {
            worker: owner,
            permits,
            shared,
            most_prefetched: MOST_PREFETCHED,
            abilities: db.program.abilities(),
            fault: Fault::None,
        };
        let mut scheduler = Scheduler::new(config);
        limits.iter().for_each(|(name, limit)| scheduler.limit_pool(name, *limit));
        let shell = Shell {
            db: Arc::downgrade(db),
            owner,
            scheduler,
            books: HashMap::new(),
            messages: messages.downgrade(),
            own: Vec::new(),
            timer: None,
            begun: Instant::now(),
            lapses: db.metadata.lease_lapses(),
        };
        tokio::spawn(shell.run(inbox));
        messages
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        // A database is not closed while runs of it are under way.
        let mut open = None;
        loop {
            let timer = self.timer.map(|ms| self.begun + std::time::Duration::from_millis(ms));
            let message = tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(message) => message,
                    None => return,
                },
                () = at(timer) => {
                    self.timer = None;
                    Message::Input(Input::Timer)
                }
            };
            let Some(db) = self.db.upgrade() else { return };
            self.take(&db, message);
            while let Ok(message) = inbox.try_recv() {
                self.take(&db, message);
            }
            self.decide(&db);
            open = if self.books.is_empty() { None } else { open.or(Some(db)) };
        }
    }

    fn now(&self) -> Now {
        Now {
            ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall: Timestamp::now(),
        }
    }

    /// Whether this process stood still for its lease since that was told.
    pub(super) fn has_lapsed(&self, db: &DbInner) -> bool {
        db.metadata.lease_lapses() != self.lapses
    }

    pub(super) fn on(&mut self, db: &DbInner, input: Input) {
        let lapses = db.metadata.lease_lapses();
        if std::mem::replace(&mut self.lapses, lapses) != lapses {
            crate::job::events::lapsed();
            self.scheduler.on(Input::Lapsed, self.now());
        }
        self.scheduler.on(input, self.now());
    }

    /// Decide, and have done what is decided, until nothing follows from it here.
    fn decide(&mut self, db: &Arc<DbInner>) {
        loop {
            let effects = self.scheduler.decide(self.now());
            // Of larger runs it would be most of the work.
            debug_assert!(
                !self.scheduler.is_small() || self.scheduler.check() == Ok(()),
                "{:?}",
                self.scheduler.check()
            );
            for effect in effects {
                self.act(db, effect);
            }
            if self.own.is_empty() {
                return;
            }
            for input in std::mem::take(&mut self.own) {
                self.on(db, input);
            }
        }
    }

    fn take(&mut self, db: &Arc<DbInner>, message: Message) {
        match message {
            Message::Input(input) => self.on(db, input),
            Message::Attach(attach) => {
                self.attach(*attach);
                // Its places are free for a moment: nobody else may be given them.
                self.decide(db);
            }
            Message::Reserve { lanes, reply } => {
                // Who waits already comes first.
                self.decide(db);
                let granted = self.scheduler.reserve(&lanes);
                if let Err(granted) = reply.send(granted) {
                    // Who asked is gone.
                    let lanes: Vec<Lane> = lanes
                        .into_iter()
                        .zip(granted)
                        .filter_map(|(lane, granted)| granted.then_some(lane))
                        .collect();
                    self.scheduler.release(&lanes);
                }
            }
            Message::Release(lanes) => self.scheduler.release(&lanes),
            Message::Limit(name, limit) => self.scheduler.limit_pool(&name, limit),
            Message::Running(reply) => {
                let running = self.scheduler.runs().flat_map(|run| run.held()).collect();
                reply.send(running).ignored("the caller does not wait for the answer any more");
            }
            Message::TellClosed => {
                for (run, book) in &self.books {
                    book.told.send_replace(Some(Arc::new(Err(super::act::closed(*run)))));
                }
            }
            Message::Committed { run, deletes, answer } => self.committed(db, run, deletes, answer),
            Message::Read { run, answer } => match answer {
                Ok(loaded) => self.on(db, Input::Rows(Box::new(loaded))),
                Err(error) => self.read_failed(db, run, error),
            },
            Message::Looked { run, answer } => match answer {
                Ok((rows, other_workers)) => {
                    self.on(db, Input::Looked { run, rows, other_workers })
                }
                Err(error) => self.read_failed(db, run, error),
            },
            Message::Ended { run, job, attempt, ended } => self.ended(db, run, job, attempt, ended),
            Message::Saved { run, job, attempt, blobs, answer } => {
                self.saved(db, run, job, attempt, blobs, answer)
            }
        }
    }

    fn attach(&mut self, Attach { db, loaded, instances, places, told }: Attach) {
        if let Some(mut places) = places {
            // Those who are to have them take them in the next decision.
            self.scheduler.release(&std::mem::take(&mut places.lanes));
        }
        let run = loaded.changes.run.id;
        let waits_for_others = !loaded.others.is_empty();
        self.books.insert(run, Book::new(&loaded.changes.run, instances, told));
        self.on(&db, Input::Attach(Box::new(loaded)));
        if waits_for_others {
            // Their processes may be gone.
            self.on(&db, Input::Refresh { run });
        }
    }

    fn committed(
        &mut self,
        db: &Arc<DbInner>,
        run: RunId,
        deletes: bool,
        answer: Result<Committed>,
    ) {
        match answer {
            Ok(answer) => {
                if let Some(book) = self.books.get_mut(&run) {
                    book.trouble.clear();
                }
                self.on(db, Input::Written { run, answer: Box::new(answer) });
            }
            Err(error) if error.is_retryable() => {
                self.on(db, Input::Unknown { run });
                self.count_failure(db, run, error);
            }
            Err(error) => {
                let failure = crate::error::JobFailure::of(&error);
                if let Some(book) = self.books.get_mut(&run) {
                    if deletes {
                        book.log_refused_deletion(db, &error);
                    }
                    book.trouble.last = Some(error);
                }
                self.on(db, Input::Refused { run, failure });
            }
        }
    }

    fn read_failed(&mut self, db: &Arc<DbInner>, run: RunId, error: Error) {
        self.on(db, Input::ReadFailed { run });
        self.count_failure(db, run, error);
    }

    /// A run whose store fails too often is let go.
    fn count_failure(&mut self, db: &Arc<DbInner>, run: RunId, error: Error) {
        let Some(book) = self.books.get_mut(&run) else { return };
        if book.trouble.count(error) {
            let failure = book.trouble.failure();
            self.on(db, Input::GiveUp { run, failure });
        }
    }

    fn saved(
        &mut self,
        db: &Arc<DbInner>,
        run: RunId,
        job: JobId,
        attempt: u32,
        blobs: ResultBlobs,
        answer: Result<u64>,
    ) {
        let saved = answer.map_err(|error| crate::error::JobFailure::of(&error));
        if let Some(book) = self.books.get_mut(&run) {
            book.keep_blobs(job, attempt, blobs);
        }
        self.on(db, Input::Saved { run, job, attempt, saved });
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
