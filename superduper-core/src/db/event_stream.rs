//! Events as a stream.
//!
//! Invariant: a stream reads the store by itself only to catch up with what happened before; then
//! it has its events from the hub, which reads once for all.

use super::{
    Db, DbInner,
    event_hub::{PAGE, Seat},
    events::Event,
};
use crate::{
    error::Result,
    store::{Cursor, EventRow, RunId},
};
use std::{collections::VecDeque, fmt, sync::Arc};
use tokio::sync::broadcast::{self, error::TryRecvError};

/// Where a stream is.
#[derive(Debug, Clone)]
enum Place {
    /// Before the first call of `next`: it begins with what happens then.
    Now,
    /// What follows is read from the store, after the event of this number.
    Store(Cursor, Option<i64>),
    /// What follows comes from the hub, from this number on; the place before it.
    Hub(u64, Cursor),
}

/// Events in order. All streams of a process share one reader, which finds the events of other
/// processes by looking ten times a second.
pub struct EventStream {
    db: Arc<DbInner>,
    run: Option<RunId>,
    place: Place,
    /// Taken by the first call of `next`.
    seat: Option<Seat>,
    /// The place behind the last event that `next` returned.
    returned: Option<Cursor>,
    none: bool,
    waiting: VecDeque<Event>,
    progress: broadcast::Receiver<Event>,
    over: bool,
}

impl EventStream {
    fn new(db: &Arc<DbInner>, run: Option<RunId>, after: Option<Cursor>, none: bool) -> Self {
        EventStream {
            db: db.clone(),
            run,
            returned: after.clone(),
            place: after.map_or(Place::Now, |after| Place::Store(after, None)),
            seat: None,
            none,
            waiting: VecDeque::new(),
            progress: db.progress.subscribe(),
            over: false,
        }
    }

    pub(super) fn of_run(db: &Arc<DbInner>, run: Option<RunId>) -> Self {
        EventStream::new(db, run, Some(Cursor::default()), run.is_none())
    }

    /// The next event; `None` after the end of the run that is followed.
    ///
    /// # Errors
    /// `Store`.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        if self.none {
            return Ok(None);
        }
        crate::runtime_check::current()?;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                if let Event::Recorded(row) = &event {
                    self.returned = Some(row.cursor.clone());
                }
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            if self.seat.is_none() {
                self.seat = Some(Seat::take(&self.db));
            }
            match self.place.clone() {
                Place::Now => {
                    let (number, head) = self.db.hub.refresh(&self.db).await?;
                    self.returned = Some(head.clone());
                    self.place = Place::Hub(number, head);
                }
                Place::Store(after, seq) => self.catch_up(after, seq).await?,
                Place::Hub(number, after) => {
                    if let Some(event) = self.follow(number, after).await? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Read from the store; with the last event so far, go on with the hub.
    async fn catch_up(&mut self, after: Cursor, seq: Option<i64>) -> Result<()> {
        let db = self.db.clone();
        // What the page does not have is committed later, and gets this number or a later one.
        let mut number = db.hub.join(&db).await?;
        if seq.is_none() && after != Cursor::default() {
            // A place that was given may be ahead of what the hub has read.
            number = db.hub.refresh(&db).await?.0;
        }
        let page = db.metadata.events(after, self.run, PAGE).await?;
        let is_last = page.rows.len() < PAGE;
        let (after, seq) = (page.next.clone(), page.rows.last().map_or(seq, |row| Some(row.seq)));
        self.push(page.rows);
        self.place = Place::Store(after.clone(), seq);
        if !is_last || self.over {
            return Ok(());
        }
        // The hub may have read a part of the page, too: up to its last event, once it has read all
        // that the page has. Both orders are the same.
        let behind = match db.hub.refresh(&db).await {
            Ok(_) => db.hub.behind(number, seq),
            // What was read is not lost. The next call tells the error if it lasts.
            Err(_) if !self.waiting.is_empty() => None,
            Err(error) => return Err(error),
        };
        if let Some(number) = behind {
            self.place = Place::Hub(number, after);
        }
        Ok(())
    }

    /// Take what the hub has, or wait for more; the answer is a report of progress that came
    /// meanwhile.
    async fn follow(&mut self, number: u64, after: Cursor) -> Result<Option<Event>> {
        let db = self.db.clone();
        let Some(found) = db.hub.from(number, self.run) else {
            // It was slow, and what it needs is not kept any more.
            self.place = Place::Store(after, None);
            return Ok(None);
        };
        let is_empty = found.rows.is_empty();
        self.place = Place::Hub(found.next, found.cursor.unwrap_or(after));
        self.push(found.rows);
        if !is_empty {
            return Ok(None);
        }
        if db.hub.is_late() {
            // Dense reports of progress break off each wait below, and the read in it.
            db.hub.refresh(&db).await?;
            return Ok(None);
        }
        tokio::select! {
            grown = db.hub.wait_for(&db, found.next) => grown.map(|_| None),
            event = self.progress.recv() => Ok(event.ok().filter(|event| self.follows(event))),
        }
    }

    fn push(&mut self, rows: Vec<EventRow>) {
        if rows.is_empty() {
            return;
        }
        // What jobs reported before they ended comes before their end, and is not lost with the end
        // of the run.
        self.take_progress();
        for row in rows {
            if self.run.is_some() && row.kind == "run.ended" {
                self.over = true;
            }
            self.waiting.push_back(Event::Recorded(row));
        }
    }

    fn take_progress(&mut self) {
        loop {
            match self.progress.try_recv() {
                Ok(event) if self.follows(&event) => self.waiting.push_back(event),
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Whether a report of progress is of the run that is followed.
    fn follows(&self, event: &Event) -> bool {
        self.run.is_none() || matches!(event, Event::Progress { run, .. } if *run == self.run)
    }

    /// The place behind the last event that [`EventStream::next`] returned. A new stream that
    /// begins there returns what follows. `None` before the first call of `next` on a stream of
    /// [`Db::events`].
    pub fn cursor(&self) -> Option<&Cursor> {
        self.returned.as_ref()
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventStream({:?})", self.place)
    }
}

impl Db {
    /// What happens in a run, from its beginning to its end.
    pub fn run_events(&self, run: RunId) -> EventStream {
        EventStream::of_run(self.inner(), Some(run))
    }

    /// What happens from now on.
    pub fn events(&self) -> EventStream {
        EventStream::new(self.inner(), None, None, false)
    }

    /// What happened after a place in the order of events, and what happens from now on. The
    /// default cursor is the beginning.
    pub fn events_after(&self, after: Cursor) -> EventStream {
        EventStream::new(self.inner(), None, Some(after), false)
    }

    /// Wait until something has happened after a place in the order of events, in this process or
    /// in another one. Returns the place behind what has happened so far: pass it to the next call.
    /// The first call takes the default cursor; it returns at once if anything is on record.
    ///
    /// It reads no events for its caller, and however many callers wait, the store is read as for
    /// one. A view that shows the state of something reads it again after each return.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # use superduper::store::Cursor;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// let mut seen = Cursor::default();
    /// loop {
    ///     seen = db.changed(&seen).await?;
    ///     // … read and show what is on record
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Store`; `InvalidInput` for a cursor of another store.
    pub async fn changed(&self, after: &Cursor) -> Result<Cursor> {
        crate::runtime_check::current()?;
        let db = self.inner();
        let _seat = Seat::take(db);
        let (number, head) = db.hub.refresh(db).await?;
        if head != *after && !db.metadata.events(after.clone(), None, 1).await?.is_empty() {
            return db.metadata.last_event().await;
        }
        db.hub.wait_for(db, number).await
    }
}
