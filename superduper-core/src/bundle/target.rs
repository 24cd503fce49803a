//! A bundle that is written: a folder or a tar file.
//!
//! Invariant: until [`Target::publish`] everything is in a hidden neighbour of the target, which
//! goes away when the export fails; then the whole appears under its name by one rename, after it
//! was synchronized.

use super::{
    MANIFEST,
    tar::{header, padding},
};
use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    io::{ErrorKind as IoKind, Write},
    path::{Path, PathBuf},
};
use tempfile::{NamedTempFile, TempDir};

#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    replace: bool,
    draft: Draft,
}

#[derive(Debug)]
enum Draft {
    Folder { folder: TempDir, file: Option<File>, folders: Vec<PathBuf> },
    Tar { file: NamedTempFile, size: u64 },
}

impl Target {
    /// Begin to write. A name that ends in `.tar` becomes a tar file, any other a folder. Blocks.
    pub(super) fn begin(path: &Path, replace: bool) -> Result<Self> {
        let path = std::path::absolute(path)
            .map_err(|error| Error::store("its place cannot be found").with_source(error))?;
        let is_tar =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
        check_free(&path, replace, is_tar)?;
        let parent = parent(&path);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| Error::invalid("it is not the name of a file or folder"))?;
        let prefix = format!(".{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        let cannot = |error| Error::store("a file beside it cannot be written").with_source(error);
        #[cfg(unix)]
        {
            // Like any new file, not like a secret one: whoever may read the folder may read the
            // bundle.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(if is_tar { 0o666 } else { 0o777 }));
        }
        let draft = if is_tar {
            Draft::Tar { file: builder.tempfile_in(parent).map_err(cannot)?, size: 0 }
        } else {
            Draft::Folder {
                folder: builder.tempdir_in(parent).map_err(cannot)?,
                file: None,
                folders: Vec::new(),
            }
        };
        Ok(Target { path, replace, draft })
    }

    /// Begin a file of so many bytes.
    pub(super) fn start(&mut self, name: &str, bytes: u64) -> Result<()> {
        match &mut self.draft {
            Draft::Tar { file, size } => {
                *size = bytes;
                file.write_all(&header(name, bytes)?).map_err(failed)
            }
            Draft::Folder { folder, file, folders } => {
                let path = folder.path().join(name);
                let parent = parent(&path);
                if !folders.iter().any(|known| known == parent) {
                    fs::create_dir_all(parent).map_err(failed)?;
                    let above = parent.ancestors().take_while(|above| *above != folder.path());
                    for above in above.map(Path::to_owned).collect::<Vec<_>>() {
                        if !folders.contains(&above) {
                            folders.push(above);
                        }
                    }
                }
                *file = Some(File::create_new(path).map_err(failed)?);
                Ok(())
            }
        }
    }

    /// Append to the file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.draft {
            Draft::Tar { file, .. } => file.write_all(bytes).map_err(failed),
            Draft::Folder { file, .. } => match file {
                Some(file) => file.write_all(bytes).map_err(failed),
                None => Err(Error::internal("a bundle is written before a file of it is begun")),
            },
        }
    }

    /// Complete the file.
    pub(super) fn end(&mut self) -> Result<()> {
        match &mut self.draft {
            Draft::Tar { file, size } => {
                file.write_all(&[0; 512][..padding(*size) as usize]).map_err(failed)
            }
            Draft::Folder { file, .. } => {
                file.take().map_or(Ok(()), |file| file.sync_all()).map_err(failed)
            }
        }
    }

    /// Write a whole file.
    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.start(name, bytes.len() as u64)?;
        self.write(bytes)?;
        self.end()
    }

    /// Let the bundle appear under its name.
    pub(super) fn publish(self) -> Result<()> {
        let Target { path, replace, draft } = self;
        match draft {
            Draft::Tar { mut file, .. } => {
                file.write_all(&[0; 1024]).map_err(failed)?;
                file.as_file().sync_all().map_err(failed)?;
                let renamed =
                    if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
                renamed.map_err(|error| {
                    if error.error.kind() == IoKind::AlreadyExists {
                        exists()
                    } else {
                        failed(error.error)
                    }
                })?;
            }
            Draft::Folder { folder, folders, .. } => {
                // A name is durable when the folder that holds it is.
                folders
                    .iter()
                    .chain([&folder.path().to_owned()])
                    .try_for_each(|folder| sync(folder))?;
                if replace && path.exists() {
                    exchange(folder, &path)?;
                } else {
                    fs::rename(folder.path(), &path).map_err(|error| match error.kind() {
                        IoKind::AlreadyExists
                        | IoKind::DirectoryNotEmpty
                        | IoKind::NotADirectory => exists(),
                        _ => failed(error),
                    })?;
                    // It is no longer under the name that would be cleared away.
                    let _kept = folder.keep();
                }
            }
        }
        sync(parent(&path))
    }
}

/// Put a folder in the place of another: in one step, where the file system can exchange two names.
fn exchange(new: TempDir, path: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new.path(), CWD, path, RenameFlags::EXCHANGE).is_ok() {
            // The old one has the name that is cleared away now.
            return Ok(());
        }
    }
    exchange_by_renames(new, path)
}

/// As [`exchange`]. Dying between the renames leaves the old one in a hidden folder beside.
fn exchange_by_renames(new: TempDir, path: &Path) -> Result<()> {
    let aside =
        tempfile::Builder::new().prefix(".replaced.").tempdir_in(parent(path)).map_err(failed)?;
    let old = aside.path().join("bundle");
    fs::rename(path, &old).map_err(failed)?;
    if let Err(error) = fs::rename(new.path(), path) {
        // The old bundle comes back, or stays where it is: it is not lost.
        if fs::rename(&old, path).is_err() {
            let _kept = aside.keep();
        }
        return Err(failed(error));
    }
    // It is no longer under the name that would be cleared away.
    let _kept = new.keep();
    Ok(())
}

/// Refuse a name that is taken, early; and to replace what is no bundle, at all.
fn check_free(path: &Path, replace: bool, is_tar: bool) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !replace {
        return Err(exists());
    }
    let is_bundle =
        if is_tar { found.is_file() } else { found.is_dir() && path.join(MANIFEST).is_file() };
    if is_bundle {
        Ok(())
    } else {
        Err(Error::invalid("what is there is not a bundle of this form and is not replaced"))
    }
}

fn exists() -> Error {
    Error::invalid("it exists already").with_hint("choose another name, or `.replace()` the bundle")
}

fn failed(error: std::io::Error) -> Error {
    let full = matches!(error.kind(), IoKind::StorageFull | IoKind::QuotaExceeded);
    let failed = Error::store("it cannot be written").with_source(error);
    if full {
        failed.with_hint("make room on the disk; nothing is left under the bundle's name")
    } else {
        failed
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Elsewhere than on Unix a folder cannot be opened as a file.
fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    } else {
        Ok(())
    }
}
