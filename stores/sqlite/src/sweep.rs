//! The lock of sweeps: a file lock with a number on record.

use crate::{commit::blobs::sweep_lock, store::Shared};
use std::{fs::File, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};
use superduper_core::{BoxFuture, Result, store::SweepLock};

/// A lock that was taken.
///
/// The file lock ends with the process. The database also stores a lock number, which each new
/// holder increases. So a holder whose lock file was deleted or replaced notices that it lost the
/// lock.
#[derive(Debug)]
pub(crate) struct FileLock {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) token: i64,
    pub(crate) shared: Arc<Shared>,
}

impl FileLock {
    /// Whether the file is still under its name.
    fn is_in_place(&self) -> bool {
        let same = |ours: std::fs::Metadata, now: std::fs::Metadata| {
            (ours.dev(), ours.ino()) == (now.dev(), now.ino())
        };
        self.file
            .metadata()
            .and_then(|ours| Ok(same(ours, std::fs::metadata(&self.path)?)))
            .unwrap_or(false)
    }
}

impl SweepLock for FileLock {
    fn token(&self) -> i64 {
        self.token
    }

    fn holds(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(
            async move { Ok(self.is_in_place() && self.shared.read(sweep_lock)? == self.token) },
        )
    }
}
