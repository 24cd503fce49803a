//! A database in a folder whose SQL statements and transactions are counted.

use crate::measure::{Figures, Samples, Watch, round};
use std::{path::Path, sync::Arc, time::Duration};
use superduper::{Db, DbBuilder, Error, Result, prelude::BuildAt};
use superduper_sqlite::SqliteStore;

/// The database of a worker.
pub(crate) struct Counted {
    pub(crate) db: Db,
    store: Arc<SqliteStore>,
}

/// The file with the metadata, in the folder of a database.
const METADATA: &str = "metadata.sqlite";

impl Counted {
    /// Open the database of this worker's folder.
    pub(crate) async fn open() -> Result<Self> {
        Self::build(Db::builder()).await
    }

    /// Open it with a grace for the collection of garbage.
    pub(crate) async fn open_with(grace: Duration) -> Result<Self> {
        Self::build(Db::builder().gc_grace(grace)).await
    }

    async fn build(builder: DbBuilder) -> Result<Self> {
        let store = Arc::new(SqliteStore::open("db")?);
        let db = builder.metadata(store.clone()).at("db")?.build().await?;
        Ok(Counted { db, store })
    }

    /// Statements and transactions so far.
    fn counts(&self) -> (u64, u64) {
        (self.store.statements(), self.store.transactions())
    }

    /// Measure one operation, with its statements and transactions.
    pub(crate) async fn time<T>(
        &self,
        operation: impl Future<Output = Result<T>>,
    ) -> Result<(T, Figures)> {
        let before = self.counts();
        let watch = Watch::start();
        let done = operation.await?;
        let mut found = watch.stop();
        self.count(before, 1, &mut found);
        Ok((done, found))
    }

    /// Measure `n` equal operations: the median of each, and statements and transactions of an
    /// average one.
    pub(crate) async fn each(
        &self,
        n: usize,
        mut operation: impl AsyncFnMut(usize) -> Result<()>,
    ) -> Result<Figures> {
        let before = self.counts();
        let mut samples = Samples::default();
        for i in 0..n {
            let watch = Watch::start();
            operation(i).await?;
            samples.push(watch.split());
        }
        let mut found = samples.figures();
        self.count(before, n, &mut found);
        Ok(found)
    }

    fn count(&self, before: (u64, u64), n: usize, figures: &mut Figures) {
        let now = self.counts();
        figures.insert("statements".to_owned(), round((now.0 - before.0) as f64 / n.max(1) as f64));
        figures
            .insert("transactions".to_owned(), round((now.1 - before.1) as f64 / n.max(1) as f64));
    }
}

/// Ask the metadata of the database in a worker's folder; 0 where there is none yet.
pub(crate) fn count(folder: &Path, sql: &str) -> Result<i64> {
    let file = folder.join("db").join(METADATA);
    if !file.exists() {
        return Ok(0);
    }
    let connection = rusqlite::Connection::open(file).map_err(failed)?;
    connection.query_row(sql, (), |row| row.get(0)).map_err(failed)
}

/// How many rows all tables have together.
pub(crate) fn count_rows(folder: &Path) -> Result<i64> {
    let connection =
        rusqlite::Connection::open(folder.join("db").join(METADATA)).map_err(failed)?;
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .map_err(failed)?;
    let names = tables.query_map((), |row| row.get::<_, String>(0)).map_err(failed)?;
    let mut rows = 0;
    for name in names {
        let sql = format!("SELECT count(*) FROM \"{}\"", name.map_err(failed)?);
        rows += connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).map_err(failed)?;
    }
    Ok(rows)
}

/// Bytes of all files below a folder, and their number.
pub(crate) fn files_below(folder: &Path) -> Result<(u64, usize)> {
    let mut found = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let (bytes, number) =
            if meta.is_dir() { files_below(&entry.path())? } else { (meta.len(), 1) };
        found = (found.0 + bytes, found.1 + number);
    }
    Ok(found)
}

fn failed(error: rusqlite::Error) -> Error {
    Error::msg("the metadata could not be counted").with_source(error)
}
