//! A file as a blob.
//!
//! Invariant: a file opened from a store was verified as a whole when it was opened.

use super::{
    Blob, BlobSource, Bytes, Hashed, StoredBlob,
    handle::{blocking, hash_chunks},
};
use crate::{
    artifact::contract::Chunks,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};
use std::{
    fmt, fs,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// The size of the pieces in which a file is read: they stay in the processor's cache while they
/// are hashed and written.
const PIECE: u64 = 1024 * 1024;

/// A file of this machine.
///
/// Applying a component streams the file into the artifact store. A loaded one is the store's own
/// file where the store is a folder, else a copy in the folder for temporary files that goes away
/// with the last clone.
///
/// # Assumptions
/// The file stays as it is until its component is applied: a change between planning and storing is
/// refused. Whoever gets the path of a loaded file does not write to it.
#[derive(Clone)]
pub struct File {
    path: PathBuf,
    /// Removes a temporary copy.
    _temporary: Option<Arc<tempfile::TempPath>>,
}

impl File {
    /// A file that exists. Nothing is read yet.
    ///
    /// # Errors
    /// `InvalidInput` for a path at which there is no readable file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let describe = |error| {
            Error::invalid(format!("file `{}` cannot be opened", path.display())).with_source(error)
        };
        // Relative paths would move with the current directory.
        let full = std::path::absolute(&path).map_err(describe)?;
        if !fs::metadata(&full).map_err(describe)?.is_file() {
            return Err(Error::invalid(format!("`{}` is no file", path.display()))
                .with_hint("`Folder::open` takes a folder"));
        }
        Ok(File { path: full, _temporary: None })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Read the whole file into memory.
    ///
    /// # Errors
    /// Those of reading it.
    pub async fn read(&self) -> Result<Bytes> {
        let path = self.path.clone();
        blocking(move || fs::read(&path).map(Bytes::from).map_err(|error| unreadable(&path, error)))
            .await
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.path.display())
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("file `{}` cannot be read", path.display()))
        .with_source(error)
}

/// What a file looked like when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

struct FileSource {
    file: File,
    hashed: Mutex<Option<Stamp>>,
}

impl FileSource {
    fn path(&self) -> &Path {
        &self.file.path
    }

    fn stamp(&self, file: &fs::File) -> Result<Stamp> {
        let found = file.metadata().map_err(|error| unreadable(self.path(), error))?;
        Ok(Stamp { size: found.len(), modified: found.modified().ok() })
    }

    fn open(&self) -> Result<fs::File> {
        fs::File::open(self.path()).map_err(|error| unreadable(self.path(), error))
    }

    fn changed(&self) -> Error {
        Error::new(
            ErrorKind::Conflict,
            format!("file `{}` changed while it was saved", self.path().display()),
        )
        .with_hint("leave the file alone while its component is applied, then apply it again")
    }
}

impl BlobSource for FileSource {
    fn chunks(&self) -> Result<Chunks> {
        let mut file = self.open()?;
        let hashed = *self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.is_some_and(|hashed| self.stamp(&file).ok() != Some(hashed)) {
            return Err(self.changed());
        }
        let path = self.path().to_owned();
        let mut last = bytes::Bytes::new();
        Ok(Box::new(std::iter::from_fn(move || {
            // Whoever pulls pieces is mostly done with one when asking for the next: its memory is
            // used again.
            let mut piece = if last.is_unique() {
                last.truncate(0);
                Vec::from(std::mem::take(&mut last))
            } else {
                Vec::new()
            };
            piece.reserve_exact(PIECE as usize);
            match Read::by_ref(&mut file).take(PIECE).read_to_end(&mut piece) {
                Ok(0) => None,
                Ok(_) => {
                    last = piece.into();
                    Some(Ok(Bytes::from_inner(last.clone())))
                }
                Err(error) => Some(Err(unreadable(&path, error))),
            }
        })))
    }

    fn hash(&self) -> Result<Hashed> {
        let before = self.stamp(&self.open()?)?;
        let hashed = hash_chunks(self.chunks()?)?;
        if self.stamp(&self.open()?)? != before || hashed.size != before.size {
            return Err(self.changed());
        }
        *self.hashed.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(hashed)
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let mut file = self.open()?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(range.end - range.start).read_to_end(&mut bytes))
            .map_err(|error| unreadable(self.path(), error))?;
        Ok(bytes.into())
    }
}

impl Blob for File {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        Arc::new(FileSource { file: (*value).clone(), hashed: Mutex::new(None) })
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            blob.check_size().await?;
            if let Some(path) = blob.local_path() {
                let file = File { path, _temporary: None };
                let source = FileSource { file: file.clone(), hashed: Mutex::new(None) };
                let hashed = blocking(move || source.hash())
                    .await
                    .map_err(|error| blob.corrupted("it cannot be read").with_source(error))?;
                blob.check_digest(hashed.digest)?;
                return Ok(file);
            }
            let failed = |error| {
                Error::store("a temporary file for a blob cannot be created").with_source(error)
            };
            let (file, path) = blocking(move || {
                tempfile::NamedTempFile::with_prefix("superduper-").map_err(failed)
            })
            .await?
            .into_parts();
            blob.copy_to(file).await?;
            Ok(File { path: path.to_path_buf(), _temporary: Some(Arc::new(path)) })
        })
    }
}
