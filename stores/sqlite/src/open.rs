//! Opening the database file: what it may be, how it is made, how connections are set.
//!
//! Invariant: a new database appears under its name by a rename, complete, in a folder whose own
//! name outlasts a loss of power; a file that is not ours, or newer than this program, is read and
//! left as it is.

use crate::{
    error::{failed, file_failed, is_busy, is_unwritable},
    place::{self, Door},
};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};
use superduper_core::unreturned::Unreturned;
use superduper_core::{Error, ErrorKind, Result, store::OpenMode};

/// `Sdup` in the header marks our files.
const APPLICATION_ID: i32 = 0x5364_7570;
/// The statements that make format 1, 2, … of the format before.
const MIGRATIONS: &[&str] =
    &[include_str!("schema-1.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];
const FORMAT: i64 = MIGRATIONS.len() as i64;
/// How long SQLite waits for a lock before it asks us.
const BUSY: Duration = Duration::from_secs(10);

pub(crate) const FILE: &str = "metadata.sqlite";

/// Open the database of a folder, or make it where that is allowed; the answer is the connection
/// that writes.
pub(crate) fn open(folder: &Path, mode: OpenMode) -> Result<Connection> {
    place::check(folder)?;
    let path = folder.join(FILE);
    if !path.exists() {
        if mode != OpenMode::Create {
            return Err(place::missing(folder));
        }
        create(folder, &path)?;
    }
    sync_log(folder, |path| OpenOptions::new().write(true).open(path))
        .map_err(|error| file_failed(format!("synchronize `{}`", path.display()), error))?;
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = check(&connection, &path)?;
    connection
        .execute_batch(
            "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000;",
        )
        .map_err(failed("open"))?;
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 16777216;")
        .map_err(failed("set up the write-ahead log"))?;
    connection.set_prepared_statement_cache_capacity(192);
    if found < FORMAT {
        migrate(&connection, folder)?;
    }
    Ok(connection)
}

/// Execute a transaction; one that failed in the middle before is rolled back first.
fn run_again(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.execute_batch(text)
}

/// Put on disk what a process that was killed in a commit had written and not synchronized.
///
/// SQLite takes a whole commit in the log for done. What is read from it is acted on, as when an
/// apply finds nothing to change, and must not be lost with the power later.
fn sync_log(
    folder: &Path,
    open: impl FnOnce(PathBuf) -> std::io::Result<File>,
) -> std::io::Result<()> {
    let log = match open(folder.join(format!("{FILE}-wal"))) {
        Ok(log) => log,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if log.metadata()?.len() > 0 {
        log.sync_all()?;
        sync_folder(folder)?;
    }
    Ok(())
}

/// The database of a folder that is only to be read: what connections to it open.
pub(crate) fn open_read_only(folder: &Path) -> Result<Door> {
    place::check(folder)?;
    let path = folder.join(FILE);
    if !path.exists() {
        return Err(place::missing(folder));
    }
    let synced = sync_log(folder, File::open);
    synced.map_err(|error| file_failed(format!("synchronize `{}`", path.display()), error))?;
    let mut door = Door { path: path.clone(), flags: OpenFlags::SQLITE_OPEN_READ_ONLY };
    let look = |door: &Door| {
        connect(&door.path, door.flags).and_then(|connection| check(&connection, &path))
    };
    let found = look(&door).or_else(|error| {
        // Where nothing can be written, not even SQLite's files beside the database, nobody else
        // writes either.
        let unwritable = is_unwritable(&error).then(|| place::immutable(folder)).flatten();
        door = unwritable.ok_or(error)?;
        look(&door)
    })?;
    if found < FORMAT {
        let text =
            format!("`{}` has format {found}, this program reads format {FORMAT}", path.display());
        return Err(Error::new(ErrorKind::Format, text)
            .with_hint("open it once without `read_only()`, which brings it forward"));
    }
    Ok(door)
}

/// A connection for reads.
pub(crate) fn open_reader(door: &Door) -> Result<Connection> {
    let connection = connect(&door.path, door.flags)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2000;")
        .map_err(failed("open a connection for reads"))?;
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
    // Plans that depend on bound values are made anew for each execution, which costs more than the
    // execution.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failed("keep plans stable"))?;
    Ok(connection)
}

/// The format of the file, if it is one of ours and not newer than this program.
fn check(connection: &Connection, path: &Path) -> Result<i64> {
    let pragma = |name: &str| {
        wait_out(|| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)))
    };
    let id = pragma("application_id").map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => not_ours(path, "it is no SQLite file"),
        _ => failed(format!("read `{}`", path.display()))(error),
    })?;
    if id != i64::from(APPLICATION_ID) {
        return Err(not_ours(path, "it is a SQLite file of something else"));
    }
    let format = pragma("user_version").map_err(failed(format!("read `{}`", path.display())))?;
    if format > FORMAT {
        let text = format!(
            "`{}` has format {format}, this program knows formats up to {FORMAT}",
            path.display()
        );
        return Err(Error::new(ErrorKind::Format, text)
            .with_hint("open it with the newer version of superduper that wrote it"));
    }
    Ok(format)
}

pub(crate) fn not_ours(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("`{}` is not a component database: {why}", path.display()),
    )
    .with_hint("open another folder, or move that file away; it was not changed")
}

fn create(folder: &Path, path: &Path) -> Result<()> {
    let at = |action: &str, path: &Path| format!("{action} `{}`", path.display());
    make_folders(folder).map_err(|error| file_failed(at("make the folder", folder), error))?;
    let guard = open_write_lock(folder)?;
    lock(&guard)?;
    if path.exists() {
        return Ok(());
    }
    let draft: PathBuf = folder.join(format!("{FILE}.new"));
    remove_draft(&draft);
    let connection =
        connect(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let mut text = String::from("PRAGMA synchronous = FULL; BEGIN IMMEDIATE;");
    MIGRATIONS.iter().for_each(|part| text.push_str(part));
    text.push_str(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT; PRAGMA journal_mode = WAL;"));
    connection.execute_batch(&text).map_err(failed(at("make the database", path)))?;
    connection.close().map_err(|(_, error)| failed(at("make the database", path))(error))?;
    fs::rename(&draft, path).map_err(|error| file_failed(at("make the database", path), error))?;
    sync_folder(folder).map_err(|error| file_failed(at("make the database", path), error))
}

fn remove_draft(draft: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        // A missing file need not be removed. A file that cannot be removed makes the next step
        // fail.
        let mut path = OsString::from(draft);
        path.push(suffix);
        fs::remove_file(path).ignored("what is in the way fails below");
    }
}

/// Make a folder and those above it, so that their names outlast a loss of power.
fn make_folders(folder: &Path) -> std::io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(&folder)?;
    // The folder itself may be there because a process made it and died before this.
    for made in missing.iter().copied().chain(missing.is_empty().then_some(&*folder)) {
        made.parent().map_or(Ok(()), sync_folder)?;
    }
    Ok(())
}

/// Make names in the folder outlast a loss of power.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Bring an older database to today's format, in one transaction; a copy of the old one stays
/// beside it.
fn migrate(connection: &Connection, folder: &Path) -> Result<()> {
    let guard = open_write_lock(folder)?;
    lock(&guard)?;
    let path = folder.join(FILE);
    // Another process may have done it while this one waited.
    let found = check(connection, &path)?;
    if found >= FORMAT {
        return Ok(());
    }
    back_up(connection, folder, found)?;
    let steps = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    let mut text = String::from("PRAGMA synchronous = FULL; BEGIN IMMEDIATE;");
    steps.for_each(|step| text.push_str(step));
    text.push_str(&format!("PRAGMA user_version = {FORMAT}; UPDATE meta SET value = {FORMAT} WHERE name = 'format'; COMMIT;"));
    text.push_str("PRAGMA synchronous = NORMAL;");
    wait_out(|| run_again(connection, &text)).map_err(failed(format!(
        "bring `{}` from format {found} to format {FORMAT}",
        path.display()
    )))
}

/// Copy the database to `metadata.sqlite.format-<n>`, which appears complete or not at all.
fn back_up(connection: &Connection, folder: &Path, format: i64) -> Result<()> {
    let target = folder.join(format!("{FILE}.format-{format}"));
    let action = || format!("back up the database of format {format} to `{}`", target.display());
    let draft = folder.join(format!("{FILE}.new"));
    remove_draft(&draft);
    let name = draft
        .to_str()
        .ok_or_else(|| Error::store(format!("{}: the path is not UTF-8", action())))?;
    wait_out(|| connection.execute("VACUUM INTO ?1", [name])).map_err(failed(action()))?;
    let synced = File::open(&draft)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&draft, &target));
    synced.and_then(|()| sync_folder(folder)).map_err(|error| file_failed(action(), error))
}
