//! Blobs as files of a folder.
//!
//! Invariant: a file below `blake3/` is complete. Puts write to `incoming/`, synchronize the file,
//! rename it and synchronize the folder; whatever stops them leaves at most a file in `incoming/`,
//! which `list` clears away. A file in `incoming/` is locked while it is written, so that leftovers
//! can be told from puts under way. A put returns only when the names of all folders above the file
//! were synchronized in this process, whoever made them.

use crate::Check;
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind as IoKind, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};
use superduper_core::unreturned::{Site, Unreturned};
use superduper_core::{
    BoxFuture, Bytes, Digest, Error, Result,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};

const INCOMING: &str = "incoming";

#[derive(Debug)]
pub(crate) struct Folder {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    root: PathBuf,
    /// The folders whose own names are known to be on disk.
    durable: Mutex<BTreeSet<PathBuf>>,
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Folder {
    /// A folder as it is: one that is missing has no blobs, and takes none.
    pub(crate) fn as_it_is(path: &Path) -> Result<Self> {
        let describe = |error| {
            Error::store(format!("artifact folder `{}` cannot be opened", path.display()))
                .with_source(error)
        };
        let root = std::path::absolute(path).map_err(describe)?;
        Ok(Folder { place: Arc::new(Place { root, durable: Mutex::default() }) })
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let describe = |error| {
            Error::store(format!("artifact folder `{}` cannot be opened", path.display()))
                .with_source(error)
        };
        let root = std::path::absolute(path).map_err(describe)?;
        let missing: Vec<PathBuf> = root
            .ancestors()
            .skip(1)
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        fs::create_dir_all(&root).map_err(describe)?;
        fs::read_dir(&root).map_err(describe)?;
        for made in missing {
            made.parent().map_or(Ok(()), sync_folder)?;
        }
        Ok(Folder { place: Arc::new(Place { root, durable: Mutex::default() }) })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        path(&self.place.root, digest)
    }

    /// Run file operations on a thread that may block.
    fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<R> + Send + 'static,
    ) -> BoxFuture<'static, Result<R>> {
        let place = self.place.clone();
        Box::pin(async move { crate::blocking::blocking(move || work(&place.root)).await })
    }

    fn start_put(
        &self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
        rehash: bool,
    ) -> BoxFuture<'static, Result<Put>> {
        let place = self.place.clone();
        Box::pin(async move {
            // Dropping the future stops the thread at its next chunk.
            let stop = StopOnDrop(Arc::default());
            let stopped = stop.0.clone();
            crate::blocking::blocking(move || {
                put(&place, digest, chunks, Check::new(digest, size, rehash), &stopped).map_err(
                    |error| {
                        let blob =
                            format!("blob {digest} in artifact folder `{}`", place.root.display());
                        if error.kind() == superduper_core::ErrorKind::Store {
                            error.context(blob)
                        } else {
                            error
                        }
                    },
                )
            })
            .await
        })
    }
}

struct StopOnDrop(Arc<AtomicBool>);
impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn path(root: &Path, digest: Digest) -> PathBuf {
    let hex = digest.to_hex();
    root.join("blake3").join(&hex[..2]).join(hex)
}

/// An I/O error with what was attempted; the caller adds the blob and the folder.
fn failed(what: &str, error: std::io::Error) -> Error {
    let full = matches!(error.kind(), IoKind::StorageFull | IoKind::QuotaExceeded);
    let denied = matches!(error.kind(), IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem);
    let result = Error::store(what).with_source(error);
    match (full, denied) {
        (true, _) => result.with_hint(
            "make room on the disk, then apply again; nothing was stored under the blob's name",
        ),
        (_, true) => result.with_hint("give this user the right to write to the folder"),
        _ => result,
    }
}

/// Removes an unfinished file.
struct Incoming {
    path: PathBuf,
    published: bool,
}
impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.published {
            fs::remove_file(&self.path).or_warn(Site::SWEEP, "removing an unfinished file");
        }
    }
}

fn put(
    place: &Place,
    digest: Digest,
    chunks: Chunks,
    mut check: Check,
    stop: &AtomicBool,
) -> Result<Put> {
    let root = &*place.root;
    let target = path(root, digest);
    let parent = root.join("blake3").join(&digest.to_hex()[..2]);
    match fs::metadata(&target) {
        Ok(found) if found.len() == check.size => {
            // Garbage collection goes by age. Another writer may have renamed the file without
            // having synchronized the folder yet.
            let touched = File::open(&target).and_then(|file| file.set_modified(SystemTime::now()));
            touched.or_warn(Site::SWEEP, "refreshing the time of a blob");
            sync_folder(&parent)?;
            place.keep(&parent)?;
            return Ok(Put::Exists);
        }
        Err(error) if error.kind() != IoKind::NotFound => {
            return Err(failed("its file cannot be looked at", error));
        }
        // A file of another length is damaged: it is replaced.
        _ => {}
    }
    let incoming = root.join(INCOMING);
    make_folder(&incoming)?;
    let (mut writer, mut file) = create(&incoming, digest)?;
    for chunk in chunks {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(
                superduper_core::ErrorKind::Cancelled,
                format!("the put of blob {digest} was dropped"),
            ));
        }
        let chunk = chunk?;
        check.update(&chunk)?;
        writer.write_all(&chunk).map_err(|error| failed("it cannot be written", error))?;
    }
    check.finish()?;
    writer.sync_all().map_err(|error| failed("it cannot be synchronized", error))?;
    make_folder(&root.join("blake3"))?;
    make_folder(&parent)?;
    fs::rename(&file.path, &target).map_err(|error| failed("its file cannot be renamed", error))?;
    file.published = true;
    // Its lock goes with it: only now may the file be taken for a leftover, and it has another
    // name.
    drop(writer);
    sync_folder(&parent)?;
    place.keep(&parent)?;
    Ok(Put::Written)
}

fn create(incoming: &Path, digest: Digest) -> Result<(File, Incoming)> {
    loop {
        // A process of another machine may have our id: only a file that did not exist is ours.
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = incoming.join(format!("{}-{}-{serial}", digest.short(), std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                file.lock().map_err(|error| failed("a file cannot be locked", error))?;
                let made = Incoming { path, published: false };
                // Before it was locked, it may have been cleared away as a leftover.
                if made.path.exists() {
                    return Ok((file, made));
                }
            }
            Err(error) if error.kind() == IoKind::AlreadyExists => {}
            Err(error) => return Err(failed("a file cannot be created", error)),
        }
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != IoKind::AlreadyExists => {
            Err(failed("a folder cannot be created", error))
        }
        _ => Ok(()),
    }
}

impl Place {
    /// Make the names of a folder and of those above it, up to the root, outlast a loss of power.
    ///
    /// A folder that was there may have been made by somebody who did not come to synchronize it,
    /// so each process does it once.
    fn keep(&self, folder: &Path) -> Result<()> {
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(&self.root)) {
            if self.durable().contains(folder) {
                continue;
            }
            folder.parent().map_or(Ok(()), sync_folder)?;
            self.durable().insert(folder.to_owned());
        }
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("its folder cannot be synchronized", error))
}

/// Elsewhere a folder cannot be opened as a file; the rename is journaled.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

fn read(root: &Path, digest: Digest, range: Range<u64>) -> Result<Bytes> {
    let place = || format!("blob {digest} in artifact folder `{}`", root.display());
    let cannot = |error: std::io::Error| {
        if error.kind() == IoKind::NotFound {
            Error::integrity(format!("{} is missing", place()))
        } else {
            failed("it cannot be read", error).context(place())
        }
    };
    let mut file = File::open(path(root, digest)).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    if range.start > range.end || range.end > length {
        return Err(Error::integrity(format!(
            "{} has {length} bytes, asked for were {range:?}",
            place()
        )));
    }
    let wanted = range.end - range.start;
    let mut bytes = Vec::with_capacity(
        usize::try_from(wanted).map_err(|_| Error::store("the range does not fit into memory"))?,
    );
    file.seek(SeekFrom::Start(range.start)).map_err(cannot)?;
    file.take(wanted).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 != wanted {
        return Err(Error::integrity(format!("{} became shorter while it was read", place())));
    }
    Ok(bytes.into())
}

/// Remove a file that no process writes: a process that writes it holds its lock.
fn remove_leftover(path: &Path) -> std::io::Result<()> {
    let removed = File::open(path).and_then(|file| match file.try_lock() {
        Ok(()) => fs::remove_file(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    });
    match removed {
        Err(error) if error.kind() != IoKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn list(
    root: &Path,
    first: Option<u8>,
    leftovers_before: Option<SystemTime>,
) -> Result<Vec<BlobInfo>> {
    let cannot = |error| {
        failed("it cannot be listed", error)
            .context(format_args!("artifact folder `{}`", root.display()))
    };
    if let Some(before) = leftovers_before {
        for (file, found) in files(&root.join(INCOMING)).map_err(cannot)? {
            if found.modified().is_ok_and(|modified| modified < before) {
                remove_leftover(&file).map_err(cannot)?;
            }
        }
    }
    let mut blobs = Vec::new();
    let all = root.join("blake3");
    let folders = match first {
        Some(byte) => vec![all.join(format!("{byte:02x}"))],
        None => folders(&all).map_err(cannot)?,
    };
    for folder in folders {
        for (file, found) in files(&folder).map_err(cannot)? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Other people's files are none of ours.
            let Ok(digest) = Digest::from_hex(name) else { continue };
            if path(root, digest) == file {
                blobs.push(BlobInfo {
                    digest,
                    size: found.len(),
                    modified: found.modified().map_err(cannot)?,
                });
            }
        }
    }
    blobs.sort_unstable_by_key(|blob| blob.digest);
    Ok(blobs)
}

/// The file keeps its bytes under a name that is no digest; an older one of that name is replaced.
fn quarantine(root: &Path, digest: Digest) -> Result<()> {
    let file = path(root, digest);
    match fs::rename(&file, file.with_extension("corrupt")) {
        Ok(()) => file.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == IoKind::NotFound => Ok(()),
        Err(error) => Err(failed("it cannot be moved aside", error)
            .context(format_args!("blob {digest} in `{}`", root.display()))),
    }
}

fn entries(folder: &Path) -> std::io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) => found.push((entry.path(), metadata)),
            // Renamed or removed since.
            Err(error) if error.kind() == IoKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, fs::Metadata)>> {
    Ok(entries(folder)?.into_iter().filter(|(_, metadata)| metadata.is_file()).collect())
}

fn folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    Ok(entries(folder)?
        .into_iter()
        .filter(|(_, metadata)| metadata.is_dir())
        .map(|(path, _)| path)
        .collect())
}

impl ArtifactStore for Folder {
    fn location(&self) -> String {
        self.place.root.display().to_string()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities {
            durable: true,
            shared: Some(self.place.root.clone()),
            local_files: true,
        }
    }

    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        self.start_put(digest, size, chunks, true)
    }

    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        self.start_put(digest, size, chunks, false)
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.run(move |root| read(root, digest, range))
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        self.run(move |root| match fs::metadata(path(root, digest)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            Err(error) => Err(failed("it cannot be looked at", error)
                .context(format_args!("blob {digest} in `{}`", root.display()))),
        })
    }

    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.run(move |root| match fs::remove_file(path(root, digest)) {
            Err(error) if error.kind() != IoKind::NotFound => {
                Err(failed("it cannot be removed", error)
                    .context(format_args!("blob {digest} in `{}`", root.display())))
            }
            _ => Ok(()),
        })
    }

    fn list(
        &self,
        first: Option<u8>,
        leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        self.run(move |root| list(root, first, leftovers_before))
    }

    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        self.run(move |root| quarantine(root, digest))
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        path.is_file().then_some(path)
    }
}
