//! A bundle that is read: a folder or a tar file.
//!
//! Invariant: a file is read only after its name was found to be one of a bundle, and never through
//! a link. A tar file is opened once: what is read later is of the same bundle, also if another one
//! has its name by then.

use super::{
    PIECE, is_file_name, is_folder_name,
    tar::{self, Entry, check_name, refused, truncated},
};
use crate::{
    artifact::Bytes,
    error::{Error, ErrorKind, Result},
    store::Chunks,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The files of a bundle.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Place {
    /// The folder, and its handle: while that is open no other folder gets its identity.
    Folder(PathBuf, Arc<File>),
    /// The tar file.
    Tar(Arc<Mutex<File>>),
}

/// What tells a folder from another one of the same name.
type Identity = (u64, u64);

impl Source {
    /// Find the files, without reading them. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("there is nothing"),
            _ => Error::store("it cannot be read").with_source(error),
        };
        let found = fs::metadata(path).map_err(cannot)?;
        if found.is_dir() {
            let place = Place::Folder(path.to_owned(), Arc::new(File::open(path).map_err(cannot)?));
            let mut entries = BTreeMap::new();
            return match walk(path, "", &mut entries) {
                Ok(()) => Ok(Source { place, entries }),
                Err(error) => Err(place.explain(error)),
            };
        }
        if !found.is_file() {
            return Err(Error::new(ErrorKind::Format, "it is neither a folder nor a file"));
        }
        let file = File::open(path).map_err(cannot)?;
        // Of the file that is open: the name may be another one's by now.
        let length = file.metadata().map_err(cannot)?.len();
        let entries =
            tar::index(std::io::BufReader::with_capacity(tar::BLOCK as usize, &file), length)?;
        Ok(Source { place: Place::Tar(Arc::new(Mutex::new(file))), entries })
    }

    /// Say of an error with a folder whose name another one has by now that this is the reason.
    pub(super) fn explain(&self, error: Error) -> Error {
        self.place.explain(error)
    }

    /// Whether another bundle has its name by now, so that the rest of this one cannot be read.
    pub(super) fn is_replaced(&self) -> bool {
        self.place.is_replaced()
    }

    /// The names of its files with their sizes.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry.size))
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// A whole file of at most so many bytes. Blocks.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let entry = self.entry(name)?;
        if entry.size > most {
            return Err(Error::new(
                ErrorKind::Format,
                format!("`{name}` has {} bytes, more than the {most} that are read", entry.size),
            ));
        }
        let mut bytes = vec![0; usize::try_from(entry.size).unwrap_or(0)];
        self.place
            .begin(name)?
            .read_exact(entry.offset, &mut bytes)
            .map_err(|error| unreadable(name, error))?;
        Ok(bytes)
    }

    /// The bytes of a file in pieces; one of a folder is opened when the first piece is pulled.
    pub(super) fn chunks(&self, name: &str) -> Result<Chunks> {
        let entry = self.entry(name)?;
        let (name, place) = (name.to_owned(), self.place.clone());
        let (mut at, end) = (entry.offset, entry.offset + entry.size);
        let mut file: Option<Opened> = None;
        let mut next = move || -> Result<Bytes> {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(place.begin(&name)?),
            };
            let mut piece = vec![0; usize::try_from((end - at).min(PIECE)).unwrap_or(0)];
            file.read_exact(at, &mut piece).map_err(|error| unreadable(&name, error))?;
            at += piece.len() as u64;
            Ok(piece.into())
        };
        let mut pieces = entry.size.div_ceil(PIECE);
        Ok(Box::new(std::iter::from_fn(move || {
            pieces = pieces.checked_sub(1)?;
            let piece = next();
            if piece.is_err() {
                pieces = 0;
            }
            Some(piece)
        })))
    }

    fn entry(&self, name: &str) -> Result<Entry> {
        self.entries.get(name).copied().ok_or_else(|| truncated(format!("`{name}` is missing")))
    }
}

impl Place {
    /// The file that has the bytes of an entry.
    fn begin(&self, name: &str) -> Result<Opened> {
        Ok(Opened(match self {
            Place::Folder(folder, _) => {
                let file = File::open(folder.join(name))
                    .map_err(|error| self.explain(unreadable(name, error)))?;
                Arc::new(Mutex::new(file))
            }
            Place::Tar(file) => file.clone(),
        }))
    }

    fn explain(&self, error: Error) -> Error {
        if !self.is_replaced() {
            return error;
        }
        Error::conflict("another bundle took its place while it was read")
            .with_source(error)
            .with_hint("import it again")
    }

    fn is_replaced(&self) -> bool {
        match self {
            Place::Folder(path, held) => {
                let of = |found: std::io::Result<fs::Metadata>| found.ok().as_ref().map(identity);
                of(fs::metadata(path)) != of(held.metadata())
            }
            Place::Tar(_) => false,
        }
    }
}

/// A file that is read at places, by several readers at once.
#[derive(Debug)]
struct Opened(Arc<Mutex<File>>);

impl Opened {
    fn read_exact(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(bytes)
    }
}

#[cfg(unix)]
fn identity(folder: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (folder.dev(), folder.ino())
}

/// Elsewhere the time when it was made has to do.
#[cfg(not(unix))]
fn identity(folder: &fs::Metadata) -> Identity {
    let made = folder
        .created()
        .ok()
        .and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    (made.as_secs(), u64::from(made.subsec_nanos()))
}

fn unreadable(name: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            truncated(format!("`{name}` became shorter while it was read"))
        }
        std::io::ErrorKind::NotFound => truncated(format!("`{name}` is missing")),
        _ => Error::store(format!("`{name}` of the bundle cannot be read")).with_source(error),
    }
}

/// Gather the files of a folder. It recurses no deeper than the names of a bundle do.
fn walk(root: &Path, folder: &str, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let cannot = |error| {
        Error::store(format!("folder `{folder}` of the bundle cannot be read")).with_source(error)
    };
    for found in fs::read_dir(root.join(folder)).map_err(cannot)? {
        let found = found.map_err(cannot)?;
        let own = found.file_name();
        let name = if folder.is_empty() {
            own.to_string_lossy().into_owned()
        } else {
            format!("{folder}/{}", own.to_string_lossy())
        };
        check_name(&name)?;
        // Of the entry itself: a link is not followed.
        let metadata = found.metadata().map_err(cannot)?;
        if metadata.is_symlink() {
            return Err(refused(&name, "it is a link"));
        } else if metadata.is_dir() {
            if !is_folder_name(&name) {
                return Err(refused(&name, "a bundle has no folder of that name"));
            }
            walk(root, &name, entries)?;
        } else if !metadata.is_file() {
            return Err(refused(&name, "it is a device or a socket"));
        } else if !is_file_name(&name) {
            return Err(refused(&name, "a bundle has no file of that name"));
        } else {
            entries.insert(name, Entry { offset: 0, size: metadata.len() });
        }
    }
    Ok(())
}
