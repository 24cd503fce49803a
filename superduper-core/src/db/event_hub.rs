//! One reader of the store for all that follow the events of a database in this process.
//!
//! Whoever waits for an event may be the one that reads: it holds `reader` while it does, and the
//! others wait for what it finds. So there is no task that a runtime could take along at its end,
//! and nothing is read while nobody waits. A caller may stop polling while it is the one that reads;
//! another one reads in its place then.
//!
//! Invariant: `rows` are the newest events before `head`, in their order, without a gap. The number
//! of an event in that order never changes.

use super::DbInner;
use crate::{
    error::Result,
    store::{Cursor, EventRow, RunId},
    unreturned::Unreturned,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// How often the store is asked for events of other processes.
const POLL: Duration = Duration::from_millis(100);
/// After this time without a read, those who wait do not rely on the one that is to read.
const STALLED: Duration = Duration::from_secs(1);
/// How many events are read at once.
pub(super) const PAGE: usize = 256;
/// How many of the newest events are kept for those who are slow.
const KEPT: usize = 4096;

/// The newest events, as they were read for all.
pub(crate) struct EventHub {
    state: Mutex<State>,
    /// Held by the one who reads.
    reader: tokio::sync::Mutex<()>,
    /// A read is asked for that must not wait for its time.
    urge: Notify,
    /// Changes after each read.
    reads: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    seats: usize,
    /// The place behind the newest row; `None` until the first read after a time without seats.
    head: Option<Cursor>,
    rows: VecDeque<EventRow>,
    /// The number of the first row.
    first: u64,
    /// The numbers of the reads that began, that ended and that somebody waits for.
    begun: u64,
    ended: u64,
    wanted: u64,
    /// When the last read began.
    read_at: Option<Instant>,
    /// When the last read ended that read all.
    done_at: Option<Instant>,
    /// The commits of this process before the last read began.
    commits: u64,
}

impl State {
    /// The number that the next row gets.
    fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// Add what was read after a place; `false` if another read has added something meanwhile.
    fn push(&mut self, after: Option<&Cursor>, rows: Vec<EventRow>, head: Cursor) -> bool {
        if self.head.as_ref() != after {
            return false;
        }
        self.rows.extend(rows);
        while self.rows.len() > KEPT {
            self.rows.pop_front();
            self.first += 1;
        }
        self.head = Some(head);
        true
    }

    fn is_stalled(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= STALLED)
    }
}

/// What the hub has from a number on.
pub(super) struct Found {
    /// The rows that were asked for.
    pub(super) rows: Vec<EventRow>,
    /// The number behind all rows that were looked at, and the place behind the last of them.
    pub(super) next: u64,
    pub(super) cursor: Option<Cursor>,
}

/// As long as somebody has a seat, the hub keeps what it read.
pub(super) struct Seat(Arc<DbInner>);

impl Seat {
    pub(super) fn take(db: &Arc<DbInner>) -> Self {
        let mut state = db.hub.state();
        if state.seats == 0 {
            // What is between the head and now may be very much, and nobody waits for it.
            (state.head, state.first) = (None, state.end());
            state.done_at = None;
            state.rows.clear();
        }
        state.seats += 1;
        drop(state);
        Seat(db.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.hub.state().seats -= 1;
    }
}

impl EventHub {
    pub(super) fn new() -> Self {
        EventHub {
            state: Mutex::default(),
            reader: tokio::sync::Mutex::default(),
            urge: Notify::new(),
            reads: watch::channel(0).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that the next event gets. Events that are committed after this was called have
    /// that number or a later one.
    pub(super) async fn join(&self, db: &DbInner) -> Result<u64> {
        let begun = self.state().head.is_some();
        if !begun {
            self.refresh(db).await?;
        }
        Ok(self.state().end())
    }

    /// Wait for a read that begins after this call: what was committed before is known then.
    /// Returns the number and the place behind it. Calls that wait at the same time share a read.
    pub(super) async fn refresh(&self, db: &DbInner) -> Result<(u64, Cursor)> {
        let wanted = {
            let mut state = self.state();
            let next = state.begun + 1;
            state.wanted = state.wanted.max(next);
            next
        };
        self.urge.notify_one();
        self.until(db, |state| state.ended >= wanted).await?;
        let state = self.state();
        Ok((state.end(), state.head.clone().unwrap_or_default()))
    }

    /// Whether the store was not read to its end for longer than a few polls.
    pub(super) fn is_late(&self) -> bool {
        self.state().done_at.is_none_or(|at| at.elapsed() >= 3 * POLL)
    }

    /// Wait until there is an event of this number. Returns the place behind all that are known.
    pub(super) async fn wait_for(&self, db: &DbInner, number: u64) -> Result<Cursor> {
        self.until(db, |state| state.end() > number).await?;
        Ok(self.state().head.clone().unwrap_or_default())
    }

    /// The events from a number on, of a run or of all; `None` if some of them are not kept any
    /// more.
    pub(super) fn from(&self, number: u64, run: Option<RunId>) -> Option<Found> {
        let state = self.state();
        let skip = usize::try_from(number.checked_sub(state.first)?).unwrap_or(usize::MAX);
        let rows = state.rows.iter().skip(skip);
        let of_run = |row: &&EventRow| run.is_none_or(|run| row.run == Some(run));
        Some(Found {
            rows: rows.clone().filter(of_run).cloned().collect(),
            next: state.end().max(number),
            cursor: rows.last().map(|row| row.cursor.clone()),
        })
    }

    /// The number behind the event with this `seq`, if it is among those from `number` on, else
    /// `number`; `None` if some of those are not kept any more.
    pub(super) fn behind(&self, number: u64, seq: Option<i64>) -> Option<u64> {
        let state = self.state();
        let skip = usize::try_from(number.checked_sub(state.first)?).unwrap_or(usize::MAX);
        let place = state.rows.iter().skip(skip).position(|row| Some(row.seq) == seq);
        Some(place.map_or(number, |place| number + place as u64 + 1))
    }

    /// Wait until something holds of what was read, and read in the meantime unless another caller
    /// does.
    async fn until(&self, db: &DbInner, holds: impl Fn(&State) -> bool) -> Result<()> {
        let mut reads = self.reads.subscribe();
        loop {
            reads.mark_unchanged();
            if holds(&self.state()) {
                return Ok(());
            }
            tokio::select! {
                reader = self.reader.lock() => {
                    // Another caller may have read while this one waited for its turn.
                    if !holds(&self.state()) {
                        self.pause(db).await;
                        self.read(db).await?;
                    }
                    drop(reader);
                }
                changed = reads.changed() => changed.ignored("the hub holds the channel open"),
                () = tokio::time::sleep(STALLED) => {
                    if self.state().is_stalled() {
                        self.read(db).await?;
                    }
                }
            }
        }
    }

    /// Wait until there may be something to read.
    async fn pause(&self, db: &DbInner) {
        let (seen, pause) = {
            let state = self.state();
            if state.wanted > state.begun {
                return;
            }
            let pause = state.read_at.map(|at| POLL.saturating_sub(at.elapsed()));
            (state.commits, pause.unwrap_or_default())
        };
        let mut commits = db.commits.subscribe();
        tokio::select! {
            changed = commits.wait_for(|count| *count != seen) => {
                changed.map(drop).ignored("the database holds the channel open");
            }
            () = tokio::time::sleep(pause) => {}
            () = self.urge.notified() => {}
        }
    }

    async fn read(&self, db: &DbInner) -> Result<()> {
        let (number, mut head) = {
            let mut state = self.state();
            state.begun += 1;
            state.commits = *db.commits.borrow();
            state.read_at = Some(Instant::now());
            (state.begun, state.head.clone())
        };
        loop {
            let (rows, next) = match &head {
                None => (Vec::new(), db.metadata.last_event().await?),
                Some(after) => {
                    let page = db.metadata.events(after.clone(), None, PAGE).await?;
                    (page.rows, page.next)
                }
            };
            let is_full = rows.len() == PAGE;
            let mut state = self.state();
            let is_added = state.push(head.as_ref(), rows, next);
            if is_added && !is_full {
                state.ended = state.ended.max(number);
                state.done_at = Some(Instant::now());
                break;
            }
            head = state.head.clone();
        }
        self.reads.send_modify(|count| *count += 1);
        Ok(())
    }
}
