//! What SQLite's errors mean to a user.

use rusqlite::ErrorCode;
use superduper_core::{Error, ErrorKind};

/// Turn an error of SQLite into one of ours; `action` fits after "failed to".
pub(crate) fn failed(action: impl std::fmt::Display) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| {
        let failed = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::store(format!("{action}: the disk is full; this change was taken back"))
                .with_hint("make room on the disk and try again"),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Error::store(format!("{action}: the database cannot be written")).with_hint("check the permissions of its folder").fatal()
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::integrity(format!("{action}: the database is damaged"))
                .with_hint("restore it from a backup, or recover what is readable with `sqlite3 metadata.sqlite .recover`"),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::store(format!("{action}: another program holds a lock on the database"))
                    .with_hint("close programs such as `sqlite3` that have a transaction open on it")
            }
            Some(ErrorCode::ConstraintViolation) => Error::not_found(format!("{action}: it refers to something that is not in the store")),
            _ => Error::store(action.to_string()),
        };
        failed.with_source(error)
    }
}

/// A commit failed. Where the disk failed, its last write may be on it all the same.
pub(crate) fn commit_failed(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => {
            Error::store("write: the disk failed in the middle of a commit; whether the change is on record is unknown")
                .with_hint("look at what is on record, once the disk works, before the change is made again")
                .with_source(error)
        }
        _ => failed("write")(error),
    }
}

/// Whether somebody else holds a lock that will be released in time.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether SQLite could not make its files beside the database.
pub(crate) fn is_unwritable(error: &Error) -> bool {
    let source = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<rusqlite::Error>());
    source.is_some_and(|source| {
        matches!(source.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    })
}

/// An input or output error of a file beside the database.
pub(crate) fn file_failed(action: impl std::fmt::Display, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Store, action.to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn what_is_on_record_after_a_failed_commit_is_said_or_unknown() {
        let text = |code| {
            commit_failed(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).to_string()
        };
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE] {
            assert!(text(code).contains("unknown"), "{}", text(code));
        }
        assert!(text(ffi::SQLITE_FULL).contains("taken back"), "{}", text(ffi::SQLITE_FULL));
    }
}
