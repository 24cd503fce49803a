//! The folder of a database: what it may be before one is made there, and whether it is still where
//! it was.
//!
//! Invariants: a folder that cannot be, or is not to be, a database is refused before anything is
//! made. What was written to a file that nobody finds any more is never told to be on record.

use crate::{
    error::file_failed,
    open::{FILE, not_ours},
};
use rusqlite::OpenFlags;
use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};
use superduper_core::{Error, ErrorKind, Result};

/// SQLite opens no file with a longer path, the ending of its journal included.
const LONGEST: usize = 512;
/// The longest path that we open below the folder, with that ending.
const BELOW: usize = "/metadata.sqlite.new-journal".len();
/// What a folder may hold before there is a database in it: what making one leaves behind, and what
/// file systems and tools put into empty folders.
const HARMLESS: [&str; 8] = [
    "write.lock",
    "sweep.lock",
    "owners",
    "artifacts",
    "lost+found",
    ".DS_Store",
    ".gitkeep",
    ".gitignore",
];

/// Refuse what cannot be the folder of a database.
pub(crate) fn check(folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        return Err(not_ours(folder, "it is a file, not a folder")
            .with_hint("give the folder that holds, or is to hold, the database"));
    }
    let whole = resolved(folder)
        .map_err(|error| file_failed(format!("resolve `{}`", folder.display()), error))?;
    let bytes = whole.as_os_str().len();
    if bytes + BELOW > LONGEST {
        let text = format!(
            "the path of the folder has {bytes} bytes; SQLite opens databases whose path has at most {}",
            LONGEST - BELOW
        );
        return Err(Error::invalid(format!("{text}: `{}`", whole.display()))
            .with_hint("choose a folder with a shorter path"));
    }
    Ok(())
}

/// The path without symbolic links, as far as it is there: SQLite looks at that one.
fn resolved(folder: &Path) -> std::io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    let there = folder.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let whole = there.and_then(|(path, found)| Some(found.join(folder.strip_prefix(path).ok()?)));
    Ok(whole.unwrap_or(folder))
}

/// Refuse a folder without a database that holds something else.
pub(crate) fn check_vacant(folder: &Path) -> Result<()> {
    if folder.join(FILE).exists() {
        return Ok(());
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(file_failed(format!("read the folder `{}`", folder.display()), error));
        }
    };
    for entry in entries {
        let name = entry
            .map_err(|error| file_failed(format!("read the folder `{}`", folder.display()), error))?
            .file_name();
        if HARMLESS.iter().all(|harmless| name != *harmless)
            && !name.as_bytes().starts_with(FILE.as_bytes())
        {
            let why = format!("it holds other things, such as `{}`", name.display());
            return Err(not_ours(folder, &why)
                .with_hint("give a new or empty folder; nothing was changed in this one"));
        }
    }
    Ok(())
}

/// There is no database, and none is to be made.
pub(crate) fn missing(folder: &Path) -> Error {
    let what =
        if folder.exists() { "the folder has no database" } else { "there is no such folder" };
    Error::not_found(format!("no database in `{}`: {what}", folder.display()))
        .with_hint("check the path; `Db::open` makes a new database there")
}

/// What connections for reads open.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) path: PathBuf,
    pub(crate) flags: OpenFlags,
}

/// A way to read a database on a disk that cannot be written, if all of it is in the file itself.
pub(crate) fn immutable(folder: &Path) -> Option<Door> {
    let log = fs::metadata(folder.join(format!("{FILE}-wal")));
    if log.is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let path = folder.join(FILE);
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Some(Door {
        path: uri.into(),
        flags: OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    })
}

/// The file of a database as it was when it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    pub(crate) fn of(path: PathBuf) -> Result<Self> {
        let found = fs::metadata(&path)
            .map_err(|error| file_failed(format!("look at `{}`", path.display()), error))?;
        Ok(Place { file: (found.dev(), found.ino()), path })
    }

    /// Refuse to go on where the file is no longer under its name. A system that does not tell is
    /// believed to have it.
    pub(crate) fn check(&self) -> Result<()> {
        let what = match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.file => return Ok(()),
            Ok(_) => "replaced by another one",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "moved or deleted",
            Err(_) => return Ok(()),
        };
        let text = format!(
            "the database `{}` was {what} since this program opened it",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Store, text)
            .with_hint("open the database again, where it is now")
            .fatal())
    }
}
