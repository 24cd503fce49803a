//! The files of a folder on disk, and their bytes as a tar file.
//!
//! Invariant: equal files under equal names give equal bytes, whatever their times, owners,
//! permissions and order on disk are.

use super::check_part;
use crate::{
    artifact::{
        Bytes,
        contract::Chunks,
        tar::{self, FILE, FOLDER, padding},
    },
    error::{Error, ErrorKind, Result},
};
use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The size of the pieces in which files are read.
const PIECE: u64 = 1024 * 1024;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// From the folder, with `/`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    modified: Option<SystemTime>,
}

/// The files of a folder, by name. Blocks.
///
/// # Errors
/// `InvalidInput` for what cannot be stored: names that are no text or too long, links that leave
/// the folder, devices.
pub(super) fn list(root: &Path) -> Result<Vec<Listed>> {
    let cannot = |path: &Path| {
        let text = format!("folder `{}` cannot be read", path.display());
        move |error: std::io::Error| Error::invalid(text).with_source(error)
    };
    let own = root.file_name().unwrap_or_default();
    let own = check_name(root, own)?;
    let inside = fs::canonicalize(root).map_err(cannot(root))?;
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for found in fs::read_dir(&folder).map_err(cannot(&folder))? {
            let found = found.map_err(cannot(&folder))?;
            let path = found.path();
            let name = format!("{prefix}{}", check_name(&path, &found.file_name())?);
            // Of the entry itself: a link is not followed.
            let mut metadata = found.metadata().map_err(cannot(&path))?;
            if metadata.is_symlink() {
                metadata = behind_link(&path, &inside)?;
            }
            if metadata.is_dir() {
                folders.push((path, format!("{name}/")));
                continue;
            }
            if !metadata.is_file() {
                return Err(refused(&path, "it is a device or a socket"));
            }
            if tar::header(FILE, &format!("{own}/{name}"), 0).is_none() {
                return Err(refused(&path, "its name is too long for a tar file"));
            }
            let modified = metadata.modified().ok();
            files.push(Listed { name, path, size: metadata.len(), modified });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn check_name<'a>(path: &Path, name: &'a OsStr) -> Result<&'a str> {
    let text = name.to_str().ok_or_else(|| refused(path, "its name is not UTF-8"))?;
    match check_part(text) {
        Ok(()) => Ok(text),
        Err(why) => Err(refused(path, why)),
    }
}

/// The file that a link of the folder leads to.
fn behind_link(path: &Path, inside: &Path) -> Result<fs::Metadata> {
    let lost = |error| refused(path, "it is a link that leads nowhere").with_source(error);
    let target = fs::canonicalize(path).map_err(lost)?;
    if !target.starts_with(inside) {
        return Err(refused(path, "it is a link that leaves the folder")
            .with_hint("copy the folder with what its links lead to, as `cp -rL` does"));
    }
    let metadata = fs::metadata(&target).map_err(lost)?;
    if metadata.is_dir() {
        return Err(refused(path, "it is a link to a folder"));
    }
    Ok(metadata)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::invalid(format!("`{}` cannot be part of an artifact: {why}", path.display()))
}

/// The error for a folder whose files changed while they were read.
pub(super) fn changed(root: &Path) -> Error {
    let text = format!("folder `{}` changed while it was saved", root.display());
    Error::new(ErrorKind::Conflict, text)
        .with_hint("leave its files alone while its component is applied, then apply it again")
}

/// A part of the tar file.
enum Piece {
    Bytes(Vec<u8>),
    File(Listed),
}

/// The tar file of a folder called `own`, in pieces. Pulling them blocks.
pub(super) fn pack(root: &Path, own: &str, files: Vec<Listed>) -> Result<Chunks> {
    let head = |kind: u8, name: &str, size: u64| {
        let block = tar::header(kind, name, size).map(|block| block.to_vec());
        block.ok_or_else(|| Error::internal("a name that was checked has no room"))
    };
    let mut pieces = vec![Piece::Bytes(head(FOLDER, &format!("{own}/"), 0)?)];
    for file in files {
        pieces.push(Piece::Bytes(head(FILE, &format!("{own}/{}", file.name), file.size)?));
        let padding = vec![0; padding(file.size) as usize];
        if file.size > 0 {
            pieces.push(Piece::File(file));
            pieces.push(Piece::Bytes(padding));
        }
    }
    pieces.push(Piece::Bytes(vec![0; 1024]));
    let (root, mut pieces) = (root.to_owned(), pieces.into_iter());
    let mut open: Option<(fs::File, u64)> = None;
    let mut next = move || -> Result<Option<Bytes>> {
        loop {
            if let Some((file, left)) = &mut open {
                let bytes = read_piece(&root, file, left)?;
                if *left == 0 {
                    open = None;
                }
                return Ok(Some(bytes));
            }
            match pieces.next() {
                None => return Ok(None),
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Ok(Some(bytes.into())),
                Some(Piece::File(listed)) => {
                    let file = fs::File::open(&listed.path);
                    let file = file.map_err(|error| changed(&root).with_source(error))?;
                    open = Some((file, listed.size));
                }
            }
        }
    };
    let mut failed = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let piece = next();
        failed = piece.is_err();
        piece.transpose()
    })))
}

/// The next bytes of a file of which so many are left; after the last ones it must end.
fn read_piece(root: &Path, file: &mut fs::File, left: &mut u64) -> Result<Bytes> {
    let failed = |error| changed(root).with_source(error);
    let mut bytes = vec![0; usize::try_from((*left).min(PIECE)).unwrap_or(0)];
    file.read_exact(&mut bytes).map_err(failed)?;
    *left -= bytes.len() as u64;
    if *left == 0 && file.read(&mut [0]).map_err(failed)? > 0 {
        return Err(changed(root));
    }
    Ok(bytes.into())
}
