//! Opening the database file: what it may be, how it is made, how connections are set.
//!
//! Invariant: a new database appears under its name by a rename, complete; a file that is not ours, or newer than this
//! program, is read and left as it is.

use crate::error::{failed, file_failed, is_busy};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};
use superduper_core::{Error, ErrorKind, Result};

/// `Sdup` in the header marks our files.
const APPLICATION_ID: i32 = 0x5364_7570;
/// The statements that make format 1, 2, … of the format before.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("schema-2.sql")];
const FORMAT: i64 = MIGRATIONS.len() as i64;
/// How long SQLite waits for a lock before it asks us.
const BUSY: Duration = Duration::from_secs(10);

pub(crate) const FILE: &str = "metadata.sqlite";

/// Open or make the database of a folder; the answer is the connection that writes.
pub(crate) fn open(folder: &Path) -> Result<Connection> {
    if folder.exists() && !folder.is_dir() {
        return Err(not_ours(folder, "it is a file, not a folder").with_hint("give the folder that holds, or is to hold, the database"));
    }
    let path = folder.join(FILE);
    if !path.exists() {
        create(folder, &path)?;
    }
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = check(&connection, &path)?;
    connection
        .execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000;")
        .map_err(failed("open"))?;
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 16777216;")
        .map_err(failed("set up the write-ahead log"))?;
    connection.set_prepared_statement_cache_capacity(192);
    if found < FORMAT {
        migrate(&connection, folder, found)?;
    }
    Ok(connection)
}

/// A connection for reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2000;").map_err(failed("open a connection for reads"))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The file that writers of all processes queue on.
pub(crate) fn open_write_lock(folder: &Path) -> Result<File> {
    let path = folder.join("write.lock");
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| file_failed(format!("open `{}`", path.display()), error))
}

/// Wait for a file lock, whatever signals arrive.
pub(crate) fn lock(file: &File) -> Result<()> {
    loop {
        match file.lock() {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file_failed("lock `write.lock`", error)),
        }
    }
}

/// Repeat what another program's lock keeps from happening; SQLite itself waits [`BUSY`] each time.
pub(crate) fn wait_out<T>(mut work: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let mut left = 60;
    loop {
        match work() {
            Err(error) if is_busy(&error) && left > 0 => left -= 1,
            outcome => return outcome,
        }
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| failed(format!("open `{}`", path.display()))(error))?;
    connection.busy_timeout(BUSY).map_err(failed("set the time to wait for locks"))?;
    // Plans that depend on bound values are made anew for each execution, which costs more than the execution.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed("keep plans stable"))?;
    Ok(connection)
}

/// The format of the file, if it is one of ours and not newer than this program.
fn check(connection: &Connection, path: &Path) -> Result<i64> {
    let pragma = |name: &str| wait_out(|| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)));
    let id = pragma("application_id").map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => not_ours(path, "it is no SQLite file"),
        _ => failed(format!("read `{}`", path.display()))(error),
    })?;
    if id != i64::from(APPLICATION_ID) {
        return Err(not_ours(path, "it is a SQLite file of something else"));
    }
    let format = pragma("user_version").map_err(failed(format!("read `{}`", path.display())))?;
    if format > FORMAT {
        let text = format!("`{}` has format {format}, this program knows formats up to {FORMAT}", path.display());
        return Err(Error::new(ErrorKind::Format, text).with_hint("open it with the newer version of superduper that wrote it"));
    }
    Ok(format)
}

fn not_ours(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Format, format!("`{}` is not a component database: {why}", path.display()))
        .with_hint("open another folder, or move that file away; it was not changed")
}

fn create(folder: &Path, path: &Path) -> Result<()> {
    let at = |action: &str, path: &Path| format!("{action} `{}`", path.display());
    fs::create_dir_all(folder).map_err(|error| file_failed(at("make the folder", folder), error))?;
    let guard = open_write_lock(folder)?;
    lock(&guard)?;
    if path.exists() {
        return Ok(());
    }
    let draft: PathBuf = folder.join(format!("{FILE}.new"));
    remove_draft(&draft);
    let connection = connect(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let mut text = String::from("PRAGMA synchronous = FULL; BEGIN IMMEDIATE;");
    MIGRATIONS.iter().for_each(|migration| text.push_str(migration));
    text.push_str(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT; PRAGMA journal_mode = WAL;"));
    connection.execute_batch(&text).map_err(failed(at("make the database", path)))?;
    connection.close().map_err(|(_, error)| failed(at("make the database", path))(error))?;
    fs::rename(&draft, path).map_err(|error| file_failed(at("make the database", path), error))?;
    sync_folder(folder).map_err(|error| file_failed(at("make the database", path), error))
}

fn remove_draft(draft: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        // What is not there need not go; what cannot be removed fails below, where it is in the way.
        let _ = fs::remove_file(format!("{}{suffix}", draft.display()));
    }
}

/// Make a rename in the folder outlast a loss of power.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn migrate(connection: &Connection, folder: &Path, found: i64) -> Result<()> {
    let guard = open_write_lock(folder)?;
    lock(&guard)?;
    let steps = MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0));
    for (index, step) in steps {
        let format = index + 1;
        let text = format!(
            "BEGIN IMMEDIATE; {step}; PRAGMA user_version = {format}; UPDATE meta SET value = {format} WHERE name = 'format'; COMMIT;"
        );
        wait_out(|| connection.execute_batch(&text)).map_err(failed(format!("bring the database to format {format}")))?;
    }
    Ok(())
}
