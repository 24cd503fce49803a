//! Which processes are alive: each owner holds a lock on a file of its own.
//!
//! Invariant: an owner's file is locked before its row can be seen, so that a file whose lock is free, or no file at
//! all, means that the owner is gone.

use crate::{error::file_failed, sql::Sql};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use superduper_core::{
    Result,
    store::{OwnerId, Timestamp},
};

/// The owners that this store object enlisted; their locks go with it.
#[derive(Debug)]
pub(crate) struct Owners {
    folder: PathBuf,
    held: Mutex<BTreeMap<OwnerId, File>>,
}

impl Owners {
    pub(crate) fn new(folder: &Path) -> Self {
        Owners { folder: folder.join("owners"), held: Mutex::new(BTreeMap::new()) }
    }

    fn path(&self, owner: OwnerId) -> PathBuf {
        self.folder.join(format!("{owner}.lock"))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<OwnerId, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Make an owner, in a write transaction; [`Owners::hold`] it once that is durable.
    pub(crate) fn enlist(&self, sql: Sql<'_>) -> Result<(OwnerId, File)> {
        loop {
            let insert = "INSERT INTO lease (process, created_at) VALUES (?1, ?2)";
            sql.execute("enlist this process", insert, (std::process::id(), Timestamp::now().0))?;
            let owner = OwnerId(sql.connection.last_insert_rowid());
            let path = self.path(owner);
            let failed = |error| file_failed(format!("make the lock file `{}`", path.display()), error);
            fs::create_dir_all(&self.folder).map_err(failed)?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => return Ok((owner, file)),
                // The file of an owner whose row was never durable. Waiting for it here would stop all writers.
                Err(TryLockError::WouldBlock) => sql.execute("enlist this process", "DELETE FROM lease WHERE id = ?1", [owner.0])?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            };
        }
    }

    /// Keep the lock of an owner that is on record.
    pub(crate) fn hold(&self, (owner, file): (OwnerId, File)) -> OwnerId {
        self.held().insert(owner, file);
        owner
    }

    /// Let an owner go, in a write transaction.
    pub(crate) fn retire(&self, sql: Sql<'_>, owner: OwnerId) -> Result<()> {
        sql.execute("retire an owner", "UPDATE lease SET retired = 1 WHERE id = ?1", [owner.0])?;
        if self.held().remove(&owner).is_some() {
            self.forget(owner);
        }
        Ok(())
    }

    /// The owners on record that are gone; owners of this object count as alive.
    pub(crate) fn dead(&self, sql: Sql<'_>) -> Result<Vec<OwnerId>> {
        let all = sql.query("read the owners", "SELECT id, retired FROM lease", [], |row| Ok((OwnerId(row.get(0)?), row.get(1)?)))?;
        let held: BTreeSet<OwnerId> = self.held().keys().copied().collect();
        Ok(all.into_iter().filter(|(id, retired)| !held.contains(id) && (*retired || self.is_free(*id))).map(|(id, _)| id).collect())
    }

    /// Drop the rows and files of dead owners that hold no job, in a write transaction.
    pub(crate) fn bury(&self, sql: Sql<'_>, dead: &[OwnerId]) -> Result<()> {
        for owner in dead {
            sql.execute("forget an owner", "DELETE FROM lease WHERE id = ?1", [owner.0])?;
            self.forget(*owner);
        }
        Ok(())
    }

    fn is_free(&self, owner: OwnerId) -> bool {
        let file = match OpenOptions::new().write(true).open(self.path(owner)) {
            Ok(file) => file,
            Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
        };
        // The lock goes with the file at the end of this function. Where locks do not work, nobody is declared dead.
        !matches!(file.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
    }

    fn forget(&self, owner: OwnerId) {
        // A file that stays is empty and harmless: its id is never given again.
        let _ = fs::remove_file(self.path(owner));
    }
}
