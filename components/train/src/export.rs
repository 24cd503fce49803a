//! Models and results as files outside of the artifact store.
//!
//! Invariants: a file appears whole under its name (temporary file, fsync, rename), `model.json` after all that it
//! names. What was written is on record with its digest, and only that is deleted again.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use superduper::{
    BoxFuture, Bytes, Component, ComponentType, Digest, Encoded, Error, ErrorKind, Result, downcast,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put},
};

const MODEL: &str = "model.json";
const CHUNK: u64 = 4 << 20;

/// What a job wrote outside of the artifact store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Written {
    /// The artifact path.
    pub(crate) path: Option<PathBuf>,
    /// Files with the digests of their bytes.
    pub(crate) files: Vec<(PathBuf, Digest)>,
    /// Folders that were not there before, outermost first.
    pub(crate) folders: Vec<PathBuf>,
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(format_args!("{what} `{}`", path.display()))
}

impl Written {
    pub(crate) fn folder(path: &Path) -> Result<Self> {
        let mut written = Written { path: Some(path.to_owned()), ..Written::default() };
        written.make(path)?;
        Ok(written)
    }

    /// Make a folder, and note those that were not there.
    fn make(&mut self, folder: &Path) -> Result<()> {
        let missing: Vec<PathBuf> = folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(folder).map_err(|error| failed("make the folder", folder, error))?;
        self.folders.extend(missing.into_iter().rev());
        Ok(())
    }

    /// Write a file under its name, all of it or nothing.
    pub(crate) fn file(&mut self, path: &Path, digest: Digest, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let folder = path.parent().unwrap_or(path);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let draft = folder.join(format!(".{}-{serial}.tmp", std::process::id()));
        let result = File::create(&draft).map_err(|error| failed("write", &draft, error)).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all().map_err(|error| failed("write", &draft, error))?;
            fs::rename(&draft, path).map_err(|error| failed("write", path, error))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("write", folder, error))
        });
        if result.is_err() {
            // The error is what counts; a draft that stays is in nobody's way.
            let _ = fs::remove_file(&draft);
        }
        result?;
        self.files.push((path.to_owned(), digest));
        Ok(())
    }

    /// Delete what was written and is still as it was, and the folders that are empty then.
    pub(crate) fn delete(&self) -> Result<()> {
        for (path, digest) in &self.files {
            match digest_of(path) {
                Ok(found) if found == *digest => fs::remove_file(path).map_err(|error| failed("delete", path, error))?,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", path, error)),
            }
        }
        for folder in self.folders.iter().rev() {
            // A folder with files of others stays.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = superduper::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Write a model into a folder: its document and its blobs. Called on a worker thread.
pub(crate) fn write_model(model: &Arc<dyn Component>, store: &Arc<dyn ArtifactStore>, folder: &Path) -> Result<Written> {
    let runtime = tokio::runtime::Handle::current();
    let (document, mut blobs) = runtime.block_on(Encoded::of(model)?.save(store))?;
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    let mut written = Written::folder(folder)?;
    let blob_folder = folder.join("blobs");
    if !blobs.is_empty() {
        written.make(&blob_folder)?;
        // Whoever made it: it is part of the layout, and goes when it is empty.
        if written.folders.last() != Some(&blob_folder) {
            written.folders.push(blob_folder.clone());
        }
    }
    for blob in blobs {
        let path = blob_folder.join(blob.digest.to_hex());
        written.file(&path, blob.digest, |file| {
            let mut at = 0;
            while at < blob.size {
                let end = blob.size.min(at + CHUNK);
                let bytes = runtime.block_on(store.get_range(blob.digest, at..end))?;
                file.write_all(&bytes)?;
                at = end;
            }
            Ok(())
        })?;
    }
    let text = serde_json::to_vec(&document)?;
    written.file(&folder.join(MODEL), Digest::of(&text), |file| Ok(file.write_all(&text)?))?;
    Ok(written)
}

/// Load a model from the folder that a training wrote, without any database.
///
/// Its blobs are read, and verified, when they are asked for.
///
/// # Errors
/// `NotFound` where there is no model; `Decode` where it is of another type.
pub async fn load_model<M: ComponentType>(folder: impl AsRef<Path>) -> Result<M> {
    load_model_dyn(folder).await.and_then(downcast)
}

/// Load a model of any type that this program knows; see [`load_model`].
///
/// # Errors
/// `NotFound` where there is no model; `UnknownKind`; `Decode`.
pub async fn load_model_dyn(folder: impl AsRef<Path>) -> Result<Box<dyn Component>> {
    let folder = folder.as_ref().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let path = folder.join(MODEL);
        let text = fs::read(&path).map_err(|error| {
            Error::not_found(format!("there is no model in `{}`", folder.display())).with_source(failed("read", &path, error))
        })?;
        let document = serde_json::from_slice(&text)
            .map_err(|error| Error::new(ErrorKind::Decode, format!("`{}` is no model", path.display())).with_source(error))?;
        Encoded::read(document, Some(Arc::new(Folder(folder.join("blobs")))))
    });
    read.await.map_err(|error| Error::internal(error.to_string()))?
}

/// The blobs of an exported model, to be read.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_hex())
    }
}

fn read_only<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "an exported model is not written to")) })
}

impl ArtifactStore for Folder {
    fn location(&self) -> String {
        self.0.display().to_string()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities { durable: true, shared: true, local_files: true }
    }

    fn put<'a>(&'a self, _digest: Digest, _size: u64, _chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        read_only()
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        use std::io::{Read, Seek, SeekFrom};
        let path = self.path(digest);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
                file.read_exact(&mut bytes)?;
                std::io::Result::Ok(Bytes::from(bytes))
            });
            let read = read.await.map_err(|error| Error::internal(error.to_string()))?;
            read.map_err(|error| Error::integrity(format!("blob {digest} cannot be read")).with_source(error))
        })
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        let size = fs::metadata(self.path(digest)).ok().map(|file| file.len());
        Box::pin(async move { Ok(size) })
    }

    fn delete(&self, _digest: Digest) -> BoxFuture<'_, Result<()>> {
        read_only()
    }

    fn quarantine(&self, _digest: Digest) -> BoxFuture<'_, Result<()>> {
        read_only()
    }

    fn list(&self, _first: Option<u8>, _leftovers_before: Option<SystemTime>) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        read_only()
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.path(digest))
    }
}
