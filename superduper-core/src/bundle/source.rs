//! A bundle that is read: a folder or a tar file.
//!
//! Invariant: a file is read only after its name was found to be one of a bundle, and never through a link.

use super::{
    PIECE, is_file_name, is_folder_name,
    tar::{self, Entry, check_name, refused, truncated},
};
use crate::{Bytes, Error, ErrorKind, Result, store::Chunks};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The files of a bundle.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    folder: bool,
    entries: BTreeMap<String, Entry>,
}

impl Source {
    /// Find the files, without reading them. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let found = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("there is nothing"),
            _ => Error::store("it cannot be read").with_source(error),
        })?;
        let entries = if found.is_dir() {
            let mut entries = BTreeMap::new();
            walk(path, "", &mut entries)?;
            entries
        } else if found.is_file() {
            tar::index(std::io::BufReader::with_capacity(tar::BLOCK as usize, open(path)?), found.len())?
        } else {
            return Err(Error::new(ErrorKind::Format, "it is neither a folder nor a file"));
        };
        Ok(Source { path: path.to_owned(), folder: found.is_dir(), entries })
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
            return Err(Error::new(ErrorKind::Format, format!("`{name}` has {} bytes, more than the {most} that are read", entry.size)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(entry.size).unwrap_or(0));
        self.begin(name, entry)?.take(entry.size).read_to_end(&mut bytes).map_err(|error| unreadable(name, error))?;
        if bytes.len() as u64 == entry.size { Ok(bytes) } else { Err(truncated(format!("`{name}` became shorter while it was read"))) }
    }

    /// The bytes of a file in pieces; it is opened when the first one is pulled.
    pub(super) fn chunks(&self, name: &str) -> Result<Chunks> {
        let entry = self.entry(name)?;
        let (name, mut left) = (name.to_owned(), entry.size);
        let place = self.place(&name);
        let mut file: Option<File> = None;
        let mut next = move || -> Result<Bytes> {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(begin(&place, &name, entry)?),
            };
            let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(0)];
            file.read_exact(&mut piece).map_err(|error| unreadable(&name, error))?;
            left -= piece.len() as u64;
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

    fn place(&self, name: &str) -> PathBuf {
        if self.folder { self.path.join(name) } else { self.path.clone() }
    }

    fn begin(&self, name: &str, entry: Entry) -> Result<File> {
        begin(&self.place(name), name, entry)
    }
}

fn begin(place: &Path, name: &str, entry: Entry) -> Result<File> {
    let mut file = File::open(place).map_err(|error| unreadable(name, error))?;
    file.seek(SeekFrom::Start(entry.offset)).map_err(|error| unreadable(name, error))?;
    Ok(file)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::store("it cannot be read").with_source(error))
}

fn unreadable(name: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => truncated(format!("`{name}` became shorter while it was read")),
        std::io::ErrorKind::NotFound => truncated(format!("`{name}` is missing")),
        _ => Error::store(format!("`{name}` of the bundle cannot be read")).with_source(error),
    }
}

/// Gather the files of a folder. It recurses no deeper than the names of a bundle do.
fn walk(root: &Path, folder: &str, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let cannot = |error| Error::store(format!("folder `{folder}` of the bundle cannot be read")).with_source(error);
    for found in fs::read_dir(root.join(folder)).map_err(cannot)? {
        let found = found.map_err(cannot)?;
        let own = found.file_name();
        let name = if folder.is_empty() { own.to_string_lossy().into_owned() } else { format!("{folder}/{}", own.to_string_lossy()) };
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
