//! A connection whose statements are prepared once and counted.

use crate::error::failed;
use rusqlite::{CachedStatement, Connection, Row, Statement, ToSql};
use std::sync::atomic::{AtomicU64, Ordering};
use superduper_core::Result;

/// How often the store spoke to SQLite; BEGIN and COMMIT are no statements.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) statements: AtomicU64,
    pub(crate) transactions: AtomicU64,
}

/// A connection inside of a transaction.
#[derive(Clone, Copy)]
pub(crate) struct Sql<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) counters: &'c Counters,
}

/// Binds the values of a row one after the other.
pub(crate) struct Binder<'a, 'c> {
    statement: &'a mut Statement<'c>,
    next: usize,
}

impl Binder<'_, '_> {
    pub(crate) fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.next += 1;
        self.statement.raw_bind_parameter(self.next, value)
    }
}

/// Rows of one INSERT for long lists; what is left over goes in smaller ones.
const CHUNKS: [usize; 2] = [64, 16];

impl<'c> Sql<'c> {
    /// A prepared statement, to be executed once.
    pub(crate) fn prepare(&self, text: &str) -> rusqlite::Result<CachedStatement<'c>> {
        self.counters.statements.fetch_add(1, Ordering::Relaxed);
        self.connection.prepare_cached(text)
    }

    /// Execute; the answer is the number of rows changed.
    pub(crate) fn execute(
        &self,
        what: &str,
        text: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize> {
        self.prepare(text).and_then(|mut statement| statement.execute(values)).map_err(failed(what))
    }

    /// All rows of a query, each made into a value.
    pub(crate) fn query<T>(
        &self,
        what: &str,
        text: &str,
        values: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.prepare(text)
            .and_then(|mut statement| statement.query_map(values, row)?.collect())
            .map_err(failed(what))
    }

    /// The first row of a query, if there is one.
    pub(crate) fn query_first<T>(
        &self,
        what: &str,
        text: &str,
        values: impl rusqlite::Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let first = || {
            let mut statement = self.prepare(text)?;
            let mut rows = statement.query(values)?;
            let value = rows.next()?.map(row).transpose()?;
            // A statement with RETURNING has written all its rows only when it is stepped to its
            // end.
            while rows.next()?.is_some() {}
            Ok(value)
        };
        first().map_err(failed(what))
    }

    /// Insert many rows with few statements: `head` ends before `VALUES`, `tail` follows the rows.
    pub(crate) fn insert<R>(
        &self,
        what: &str,
        (head, columns, tail): (&str, usize, &str),
        rows: &[R],
        mut bind: impl FnMut(&mut Binder<'_, '_>, &R) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let mut insert = |chunk: &[R]| {
            let mut statement = self.prepare(&insert_text(head, columns, tail, chunk.len()))?;
            let mut binder = Binder { statement: &mut statement, next: 0 };
            for row in chunk {
                bind(&mut binder, row)?;
            }
            statement.raw_execute()
        };
        let mut rest = rows;
        for size in CHUNKS {
            while rest.len() >= size {
                let (chunk, left) = rest.split_at(size);
                insert(chunk).map_err(failed(what))?;
                rest = left;
            }
        }
        if !rest.is_empty() {
            insert(rest).map_err(failed(what))?;
        }
        Ok(())
    }
}

fn insert_text(head: &str, columns: usize, tail: &str, rows: usize) -> String {
    let row = columns * 2 + 2;
    let mut text = String::with_capacity(head.len() + tail.len() + rows * row + 10);
    text.push_str(head);
    text.push_str(" VALUES ");
    for index in 0..rows {
        text.push_str(if index == 0 { "(" } else { ",(" });
        for column in 0..columns {
            text.push_str(if column == 0 { "?" } else { ",?" });
        }
        text.push(')');
    }
    text.push_str(tail);
    text
}
