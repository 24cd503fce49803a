//! The thread that writes.
//!
//! Requests wait in a channel. All that wait at one time share a transaction, each in a savepoint
//! of its own, so that one fsync serves them all and a failing one takes back only itself.
//! Invariant: a request is answered after the COMMIT that holds its rows.

use crate::{
    error::{commit_failed, failed},
    open::{lock, wait_out},
    place::Place,
    sql::{Counters, Sql},
};
use rusqlite::Connection;
use std::{
    fs::File,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
};
use superduper_core::unreturned::{Site, Unreturned};
use superduper_core::{Error, Result, store::Durability};
use tokio::sync::oneshot;

/// So many requests share a transaction at most.
const GROUP: usize = 128;

/// A piece of work for the writer.
trait Request: Send {
    fn durability(&self) -> Durability;
    /// Do the work inside of a transaction; whether it succeeded.
    fn run(&mut self, sql: Sql<'_>) -> bool;
    /// Answer, with the error of the transaction if it has one.
    fn answer(self: Box<Self>, lost: Option<Error>);
}

struct Task<F, T> {
    durability: Durability,
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(Sql<'_>) -> Result<T> + Send> Request for Task<F, T> {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, sql: Sql<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(sql)));
        let outcome = outcome
            .unwrap_or_else(|_| Err(Error::internal("the metadata store panicked while it wrote")));
        let succeeded = outcome.is_ok();
        self.outcome = Some(outcome);
        succeeded
    }

    fn answer(self: Box<Self>, lost: Option<Error>) {
        let outcome = match (self.outcome, lost) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(outcome), None) => outcome,
            (None, None) => Err(Error::internal("the metadata store did not run a request")),
        };
        self.reply.send(outcome).ignored("nobody waits for the answer any more");
    }
}

/// A handle to the thread; dropping it lets the thread finish what waits, and waits for that.
#[derive(Debug)]
pub(crate) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        write_lock: File,
        place: Place,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let (requests, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("superduper-sqlite".to_owned())
            .spawn(move || {
                Loop { connection, write_lock, place, counters, synchronous: Durability::Relaxed }
                    .serve_all(&waiting)
            })
            .map_err(|error| {
                Error::store("start the thread that writes metadata").with_source(error)
            })?;
        Ok(Writer { requests: Some(requests), thread: Some(thread) })
    }

    /// Run some work in a transaction.
    pub(crate) async fn submit<T, F>(&self, durability: Durability, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Sql<'_>) -> Result<T> + Send + 'static,
    {
        let gone = || Error::store("write: the thread that writes metadata is gone");
        let (reply, answer) = oneshot::channel();
        let task = Task { durability, work: Some(work), outcome: None, reply };
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Box::new(task)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ignored("it catches panics of requests; another one was printed");
        }
    }
}

struct Loop {
    connection: Connection,
    write_lock: File,
    place: Place,
    counters: Arc<Counters>,
    synchronous: Durability,
}

impl Loop {
    fn serve_all(mut self, waiting: &mpsc::Receiver<Box<dyn Request>>) {
        let mut group: Vec<Box<dyn Request>> = Vec::new();
        while let Ok(first) = waiting.recv() {
            group.push(first);
            group.extend(waiting.try_iter().take(GROUP - 1));
            self.serve(&mut group);
        }
    }

    fn serve(&mut self, group: &mut Vec<Box<dyn Request>>) {
        let lost = self.transaction(group).err();
        for request in group.drain(..) {
            request.answer(lost.as_ref().map(copy));
        }
    }

    /// Run the group in one transaction; the error is one that lost the work of all.
    fn transaction(&mut self, group: &mut [Box<dyn Request>]) -> Result<()> {
        let full = group.iter().any(|request| request.durability() == Durability::Full);
        self.set_synchronous(if full { Durability::Full } else { Durability::Relaxed })?;
        lock(&self.write_lock)?;
        let outcome = self.locked(group);
        self.write_lock.unlock().or_warn(Site::RUN, "unlocking the database for writing");
        outcome
    }

    fn locked(&self, group: &mut [Box<dyn Request>]) -> Result<()> {
        self.place.check()?;
        self.control("BEGIN IMMEDIATE")?;
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        let outcome = self.run_all(group);
        match outcome {
            Ok(true) => self.run("COMMIT").map_err(commit_failed),
            Ok(false) => self.control("ROLLBACK"),
            Err(error) => Err(error),
        }
        .inspect_err(|_| {
            if !self.connection.is_autocommit() {
                // The error that brought us here is the one to return.
                self.connection
                    .execute_batch("ROLLBACK")
                    .or_warn(Site::RUN, "rolling a transaction back");
            }
        })
    }

    /// Whether there is something to commit.
    fn run_all(&self, group: &mut [Box<dyn Request>]) -> Result<bool> {
        let sql = Sql { connection: &self.connection, counters: &self.counters };
        if let [only] = group {
            let succeeded = only.run(sql);
            return if self.connection.is_autocommit() {
                Err(rolled_back())
            } else {
                Ok(succeeded)
            };
        }
        let mut any = false;
        for request in group {
            self.control("SAVEPOINT request")?;
            if request.run(sql) {
                any = true;
            } else if self.connection.is_autocommit() {
                return Err(rolled_back());
            } else {
                self.control("ROLLBACK TO request")?;
            }
            self.control("RELEASE request")?;
        }
        Ok(any)
    }

    /// Statements that begin and end transactions; they are not counted.
    fn control(&self, text: &str) -> Result<()> {
        self.run(text).map_err(failed("write"))
    }

    fn run(&self, text: &str) -> rusqlite::Result<()> {
        wait_out(|| {
            self.connection.prepare_cached(text).and_then(|mut statement| statement.execute([]))
        })
        .map(drop)
    }

    fn set_synchronous(&mut self, wanted: Durability) -> Result<()> {
        if self.synchronous != wanted {
            let text = if wanted == Durability::Full {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            };
            // Not from the cache of statements: SQLite obeys this pragma when it is prepared, not
            // when it is executed.
            wait_out(|| self.connection.execute_batch(text))
                .map_err(failed("set how safe a commit is"))?;
            self.synchronous = wanted;
        }
        Ok(())
    }
}

/// SQLite itself rolls a transaction back when the disk is full or fails.
fn rolled_back() -> Error {
    Error::store("write: an error of the disk; this change was taken back")
}

/// The same error once more, for another request of the group.
fn copy(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.to_string());
    match std::error::Error::source(error) {
        Some(source) => copy.with_source(source.to_string()),
        None => copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_can_change_many_times() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection =
            crate::open::open(folder.path(), Default::default()).expect("a new database");
        let place = Place::of(folder.path().join(crate::open::FILE)).expect("it is there");
        let write_lock = crate::open::open_write_lock(folder.path()).expect("a lock file");
        let mut writer = Loop {
            connection,
            write_lock,
            place,
            counters: Arc::default(),
            synchronous: Durability::Relaxed,
        };
        for (durability, level) in [(Durability::Relaxed, 1), (Durability::Full, 2)].repeat(3) {
            writer.set_synchronous(durability).expect("no transaction is open");
            let found = writer.connection.query_row("PRAGMA synchronous", [], |row| row.get(0));
            assert_eq!(found, Ok(level), "{durability:?}");
        }
    }

    #[test]
    fn a_full_disk_takes_the_change_back_and_says_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection =
            crate::open::open(folder.path(), Default::default()).expect("a new database");
        connection
            .execute_batch("CREATE TABLE filler (x); PRAGMA max_page_count = 1")
            .expect("the limit is what there is");
        let place = Place::of(folder.path().join(crate::open::FILE)).expect("it is there");
        let write_lock = crate::open::open_write_lock(folder.path()).expect("a lock file");
        let mut writer = Loop {
            connection,
            write_lock,
            place,
            counters: Arc::default(),
            synchronous: Durability::Relaxed,
        };
        for requests in [1, 2] {
            let (mut group, mut answers): (Vec<Box<dyn Request>>, Vec<_>) =
                (Vec::new(), Vec::new());
            for _ in 0..requests {
                let (reply, answer) = oneshot::channel();
                let work = |sql: Sql<'_>| {
                    sql.execute("write", "INSERT INTO filler VALUES (zeroblob(10000000))", [])
                };
                group.push(Box::new(Task {
                    durability: Durability::Full,
                    work: Some(work),
                    outcome: None,
                    reply,
                }));
                answers.push(answer);
            }
            writer.serve(&mut group);
            for mut answer in answers {
                let error = answer.try_recv().expect("an answer").expect_err("the disk is full");
                let text = error.to_string();
                assert!(
                    text.contains("this change was taken back")
                        && !text.contains("nothing was written"),
                    "{text}"
                );
            }
            let rows =
                writer.connection.query_row("SELECT count(*) FROM filler", [], |row| row.get(0));
            assert_eq!(rows, Ok(0));
        }
    }
}
