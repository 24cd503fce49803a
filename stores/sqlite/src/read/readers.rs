//! The connections that reads use.

use crate::{
    error::failed,
    open::{open_reader, wait_out},
    place::{Door, Place},
    sql::{Counters, Sql},
};
use rusqlite::Connection;
use std::sync::{Mutex, PoisonError};
use superduper_core::Result;
use superduper_core::unreturned::{Site, Unreturned};

/// So many connections are kept for the next read.
const IDLE: usize = 4;

/// Connections for reads.
#[derive(Debug)]
pub(crate) struct Readers {
    door: Door,
    place: Place,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(door: Door, place: Place) -> Self {
        Readers { door, place, idle: Mutex::new(Vec::new()) }
    }

    /// Run a read with one or more statements.
    pub(crate) fn read<T>(
        &self,
        counters: &Counters,
        read: impl FnOnce(Sql<'_>) -> Result<T>,
    ) -> Result<T> {
        // A connection goes on reading a file that was deleted.
        self.place.check()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.door)?,
        };
        let control = |text: &str| {
            let run =
                || connection.prepare_cached(text).and_then(|mut statement| statement.execute([]));
            wait_out(run).map_err(failed("read"))
        };
        control("BEGIN")?;
        let outcome = read(Sql { connection: &connection, counters });
        // A connection that cannot leave its transaction is closed instead of being kept.
        if control("COMMIT").or_warn(Site::RUN, "ending a read").is_some() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        outcome
    }
}
