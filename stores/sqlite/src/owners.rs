//! Which processes are alive: each owner holds a lock on a file of its own, and beats in it.
//!
//! Invariants: an owner's file is locked before its row can be seen, so that a file whose lock is
//! free, or no file at all, means that the owner is gone. Of an owner whose lock is held, only the
//! monotonic clocks of the observer and of the owner say whether its lease holds; no time of day
//! does.

use crate::{
    codec::{optional_number, optional_time},
    error::file_failed,
    heartbeat::{Beat, Heartbeat, Sightings},
    sql::Sql,
};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use superduper_core::unreturned::Site;
use superduper_core::{
    Result,
    store::{NewWorker, Timestamp, Worker, WorkerId},
};

/// The owners that this store object enlisted; their locks go with it.
#[derive(Debug)]
pub(crate) struct Owners {
    folder: PathBuf,
    heartbeat: Heartbeat,
    sightings: Mutex<Sightings>,
}

impl Owners {
    pub(crate) fn new(folder: &Path) -> Self {
        Owners {
            folder: folder.join("owners"),
            heartbeat: Heartbeat::default(),
            sightings: Mutex::default(),
        }
    }

    fn path(&self, owner: WorkerId) -> PathBuf {
        self.folder.join(format!("{owner}.lock"))
    }

    /// How long owners that are enlisted from now on may stand still.
    pub(crate) fn set_lease(&self, ttl: Duration) {
        self.heartbeat.set_ttl(ttl);
    }

    /// How often the owners of this object stood still for as long as their lease.
    pub(crate) fn lease_lapses(&self) -> u64 {
        self.heartbeat.lease_lapses(Instant::now())
    }

    /// Make an owner, in a write transaction; [`Owners::hold`] it once that is durable.
    pub(crate) fn register_worker(
        &self,
        sql: Sql<'_>,
        worker: &NewWorker,
    ) -> Result<(WorkerId, File)> {
        let kinds = serde_json::Value::from(&*worker.kinds).to_string();
        let executors = serde_json::Value::from(&*worker.executors).to_string();
        loop {
            let insert = "INSERT INTO lease (process, created_at, kinds, artifacts, host, program, executors) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            sql.execute(
                "enlist this process",
                insert,
                (
                    worker.pid.unwrap_or_else(std::process::id),
                    Timestamp::now().0,
                    &kinds,
                    &worker.artifacts,
                    &worker.host,
                    &worker.program,
                    &executors,
                ),
            )?;
            let owner = WorkerId(sql.connection.last_insert_rowid());
            let path = self.path(owner);
            let failed =
                |error| file_failed(format!("make the lock file `{}`", path.display()), error);
            fs::create_dir_all(&self.folder).map_err(failed)?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => return Ok((owner, file)),
                // The file of an owner whose row was never durable. Waiting for it here would stop
                // all writers.
                Err(TryLockError::WouldBlock) => sql.execute(
                    "enlist this process",
                    "DELETE FROM lease WHERE id = ?1",
                    [owner.0],
                )?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            };
        }
    }

    /// Keep the lock of an owner that is on record.
    pub(crate) fn hold(&self, (owner, file): (WorkerId, File)) -> Result<WorkerId> {
        let added = self.heartbeat.add(owner, file);
        added.map_err(|error| {
            file_failed(format!("beat in the lock file `{}`", self.path(owner).display()), error)
        })?;
        Ok(owner)
    }

    /// Let an owner go, in a write transaction.
    pub(crate) fn deregister_worker(&self, sql: Sql<'_>, owner: WorkerId) -> Result<()> {
        sql.execute("retire an owner", "UPDATE lease SET retired = 1 WHERE id = ?1", [owner.0])?;
        if self.heartbeat.remove(owner) {
            self.forget(owner);
        }
        Ok(())
    }

    /// The owners on record that are gone or stood still too long; owners of this object count as
    /// alive.
    pub(crate) fn dead(&self, sql: Sql<'_>) -> Result<Dead> {
        let all = sql.query("read the owners", "SELECT id, retired FROM lease", [], |row| {
            Ok((WorkerId(row.get(0)?), row.get(1)?))
        })?;
        let here = self.heartbeat.owners();
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        sightings.keep(&all.iter().map(|(id, _)| *id).collect());
        let mut dead = Dead::default();
        for (owner, retired) in all.into_iter().filter(|(id, _)| !here.contains(id)) {
            match self.sight(owner) {
                _ if retired => dead.gone.push(owner),
                Sight::Gone => dead.gone.push(owner),
                Sight::Held(Some(beat)) if sightings.stands_still(owner, beat, Instant::now()) => {
                    dead.paused.push(owner)
                }
                Sight::Held(_) => {}
            }
        }
        Ok(dead)
    }

    /// The owners on record that are none of these, ascending.
    pub(crate) fn live(&self, sql: Sql<'_>) -> Result<Vec<WorkerId>> {
        let all = sql.query(
            "read the owners",
            "SELECT id FROM lease WHERE retired = 0 ORDER BY id",
            [],
            |row| Ok(WorkerId(row.get(0)?)),
        )?;
        let Dead { gone, paused } = self.dead(sql)?;
        Ok(all
            .into_iter()
            .filter(|owner| !gone.contains(owner) && !paused.contains(owner))
            .collect())
    }

    /// The live owners, with what they say of themselves.
    pub(crate) fn workers(&self, sql: Sql<'_>) -> Result<Vec<Worker>> {
        let live = self.live(sql)?;
        let of_text = |text: String| serde_json::from_str(&text).unwrap_or_default();
        let read = |row: &rusqlite::Row<'_>| {
            let mut new = NewWorker::new();
            new.kinds = of_text(row.get(1)?);
            new.artifacts = row.get(2)?;
            new.host = row.get(3)?;
            new.pid = optional_number(row, 4)?;
            new.program = row.get(5)?;
            new.executors = of_text(row.get(6)?);
            let mut worker = Worker::of(WorkerId(row.get(0)?), new);
            worker.since = optional_time(row, 7)?;
            Ok(worker)
        };
        let query = "SELECT id, kinds, artifacts, host, process, program, executors, created_at FROM lease ORDER BY id";
        let all = sql.query("read the workers", query, [], read)?;
        Ok(all.into_iter().filter(|worker| live.contains(&worker.id)).collect())
    }

    /// Drop the rows and files of owners that are gone and hold no job, in a write transaction.
    pub(crate) fn reap(&self, sql: Sql<'_>, gone: &[WorkerId]) -> Result<()> {
        for owner in gone {
            sql.execute("forget an owner", "DELETE FROM lease WHERE id = ?1", [owner.0])?;
            self.forget(*owner);
        }
        Ok(())
    }

    fn sight(&self, owner: WorkerId) -> Sight {
        let file = match File::open(self.path(owner)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Sight::Gone,
            Err(_) => return Sight::Held(None),
        };
        // The lock goes with the file at the end of this function. Where locks do not work, nobody
        // is declared gone.
        match file.try_lock() {
            Ok(()) => Sight::Gone,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {
                Sight::Held(Beat::read(&file))
            }
        }
    }

    fn forget(&self, owner: WorkerId) {
        // A file that stays is small and harmless: its id is never given again.
        match fs::remove_file(self.path(owner)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Site::LEASE.warn(&error, "removing the file of a worker")
            }
            _ => {}
        }
    }
}

/// Owners whose jobs can be taken over.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// Their processes are gone, or they retired.
    pub(crate) gone: Vec<WorkerId>,
    /// Their processes are there and stand still. Their rows and files must stay: they may wake up
    /// and go on as owners.
    pub(crate) paused: Vec<WorkerId>,
}

impl Dead {
    /// Those that hold one of these jobs' locks, and those that are gone without.
    pub(crate) fn split(self, taken: &BTreeSet<WorkerId>) -> (Vec<WorkerId>, Vec<WorkerId>) {
        let (mut with_jobs, without): (Vec<_>, Vec<_>) =
            self.gone.into_iter().partition(|owner| taken.contains(owner));
        with_jobs.extend(self.paused.into_iter().filter(|owner| taken.contains(owner)));
        with_jobs.sort_unstable();
        (with_jobs, without)
    }
}

/// What can be seen of an owner from outside.
enum Sight {
    Gone,
    /// Its lock is held; the beat is absent where an older program holds it.
    Held(Option<Beat>),
}
