//! Models and results as files or objects outside of the artifact store.
//!
//! Invariants: a file appears whole under its name (temporary file, fsync, rename), `model.json` after all that it
//! names; so does an object. What was written is on record with its digest, and only that is deleted again.

use crate::{S3Path, SavePath};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
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
use superduper::unreturned::{Site, Unreturned};
use superduper::{
    BoxFuture, Bytes, Component, ComponentType, Digest, Encoded, Error, ErrorKind, JobContext, Result, Value, downcast,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, BlobRow, Chunks, Put, read_json},
};

pub(crate) const MODEL: &str = "model.json";
const CHUNK: u64 = 4 << 20;
/// So often at most the blobs of a model are saved again for one read.
const SAVES: u32 = 100;

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
    /// The place of the objects.
    pub(crate) place: Option<S3Path>,
    /// Objects, in the order of writing.
    pub(crate) objects: Vec<WrittenObject>,
    /// Whose drafts are whose; empty in what was read back.
    #[serde(skip)]
    pub(crate) drafts: Drafts,
}

/// Names of unfinished files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Drafts {
    /// Of all attempts of this job and of no other one.
    job: String,
    attempt: u32,
}

impl Drafts {
    fn of(ctx: &JobContext) -> Self {
        let uuid = ctx.huuid().rsplit(':').next().unwrap_or_default().to_owned();
        Drafts { job: format!(".{uuid}-{}-", ctx.job_id().map_or(0, |job| job.0)), attempt: ctx.attempt() }
    }

    fn name(&self, serial: u64) -> String {
        format!("{}{}-{}-{serial}.tmp", self.job, self.attempt, std::process::id())
    }

    /// Delete what earlier attempts, killed in the middle, left.
    fn clear(&self, folder: &Path) {
        let current = format!("{}{}-", self.job, self.attempt);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&self.job) && name.ends_with(".tmp") && !name.starts_with(&current) {
                // A draft that stays does no harm.
                fs::remove_file(entry.path()).or_warn(Site::SWEEP, "removing a draft of an earlier attempt");
            }
        }
    }
}

/// An object that a job wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WrittenObject {
    /// Its key in the bucket.
    pub(crate) key: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// What the service calls this state of it.
    pub(crate) etag: Option<String>,
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(format_args!("{what} `{}`", path.display()))
}

impl Written {
    pub(crate) fn folder(path: &Path, ctx: &JobContext) -> Result<Self> {
        let mut written = Written { path: Some(path.to_owned()), drafts: Drafts::of(ctx), ..Written::default() };
        written.make(path)?;
        Ok(written)
    }

    /// Make a folder, and note those that were not there.
    fn make(&mut self, folder: &Path) -> Result<()> {
        let missing: Vec<PathBuf> = folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(folder).map_err(|error| failed("make the folder", folder, error))?;
        self.folders.extend(missing.into_iter().rev());
        self.drafts.clear(folder);
        Ok(())
    }

    /// Write a file under its name, all of it or nothing; nothing where the attempt was cancelled or given up.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        digest: Digest,
        ctx: &JobContext,
        write: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let folder = path.parent().unwrap_or(path);
        let draft = folder.join(self.drafts.name(SERIAL.fetch_add(1, Ordering::Relaxed)));
        let result = File::create_new(&draft).map_err(|error| failed("write", &draft, error)).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all().map_err(|error| failed("write", &draft, error))?;
            ctx.check_cancelled()?;
            fs::rename(&draft, path).map_err(|error| failed("write", path, error))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("write", folder, error))
        });
        if result.is_err() {
            // Return the error. A draft that stays does no harm.
            fs::remove_file(&draft).or_warn(Site::SWEEP.job(ctx.job_id()), "removing a draft");
        }
        result?;
        self.files.push((path.to_owned(), digest));
        Ok(())
    }

    /// Leave alone what another job wrote to the same place too; the place may be known by another path there.
    pub(crate) fn leave(&mut self, other: &Written) {
        let below = |base: Option<&Path>, path: &Path| base.and_then(|base| path.strip_prefix(base).ok()).unwrap_or(path).to_owned();
        let theirs: HashSet<PathBuf> = other.files.iter().map(|(path, _)| below(other.path.as_deref(), path)).collect();
        let base = self.path.clone();
        self.files.retain(|(path, _)| !theirs.contains(&below(base.as_deref(), path)));
        self.objects.retain(|object| !other.objects.iter().any(|others| others.key == object.key));
    }

    /// Delete what was written and is still as it was, and the folders that are empty then.
    pub(crate) fn delete(&self) -> Result<()> {
        for (path, digest) in &self.files {
            match digest_of(path) {
                Ok(found) if found == *digest => match fs::remove_file(path) {
                    // Another sweep was there first.
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("delete", path, error)),
                    _ => {}
                },
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", path, error)),
            }
        }
        for folder in self.folders.iter().rev() {
            fs::remove_dir(folder).ignored("a folder with files of others stays");
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

/// Fail where a place cannot be written to for sure. Called on a worker thread.
pub(crate) fn reach(place: &SavePath, ctx: &JobContext) -> Result<()> {
    match place {
        SavePath::Folder(folder) => reach_folder(folder, &Drafts::of(ctx)),
        #[cfg(feature = "s3")]
        SavePath::S3(place) => tokio::runtime::Handle::current().block_on(crate::s3::Bucket::open(place)?.reach()),
        #[cfg(not(feature = "s3"))]
        SavePath::S3(_) => Err(crate::save_path::unsupported()),
    }
}

fn reach_folder(folder: &Path, drafts: &Drafts) -> Result<()> {
    // It is not made yet: what was there before is not this job's to delete.
    let nearest = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    if !nearest.is_dir() {
        return Err(Error::invalid(format!("`{}` is a file, not a folder", nearest.display())).fatal());
    }
    let draft = nearest.join(format!("{}{}-reach.tmp", drafts.job, drafts.attempt));
    File::create(&draft).and_then(|_| fs::remove_file(&draft)).map_err(|error| failed("write to", nearest, error))?;
    match fs::read(folder.join(MODEL)) {
        Ok(found) if !is_model(&found) => {
            Err(Error::invalid(format!("`{}` is there and is no model; it is not overwritten", folder.join(MODEL).display()))
                .with_hint("give another folder, or move the file away")
                .fatal())
        }
        _ => Ok(()),
    }
}

/// Whether a file may be one that [`write_model`] wrote.
fn is_model(text: &[u8]) -> bool {
    // By its form: one of a kind or version that this program does not know is a model all the same.
    read_json(text).is_ok_and(|document| document["$kind"].is_string())
}

/// Delete what jobs wrote and nobody changed since.
pub(crate) async fn delete(all: Vec<Written>) -> Result<()> {
    for written in &all {
        let Some(place) = &written.place else { continue };
        #[cfg(feature = "s3")]
        crate::s3::Bucket::open(place)?.delete(&written.objects).await?;
        #[cfg(not(feature = "s3"))]
        return Err(crate::save_path::unsupported().context(place));
    }
    let deleted = tokio::task::spawn_blocking(move || all.iter().try_for_each(Written::delete)).await;
    deleted.map_err(|error| Error::internal(error.to_string()))?
}

/// A model that is being written elsewhere. Nothing on record names its blobs yet, so that a sweep of the artifact store may
/// take them: they are saved again then.
pub(crate) struct Source<'a> {
    encoded: Encoded,
    store: &'a Arc<dyn ArtifactStore>,
}

impl Source<'_> {
    /// Document and blobs.
    async fn save(&self) -> Result<(Value, Vec<BlobRow>)> {
        let (document, mut blobs) = self.encoded.clone().save(self.store).await?;
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        Ok((document, blobs))
    }

    pub(crate) async fn read(&self, digest: Digest, range: Range<u64>) -> Result<Bytes> {
        let mut tries = 0;
        loop {
            match self.store.get_range(digest, range.clone()).await {
                Err(_) if tries < SAVES && self.store.size(digest).await?.is_none() => {
                    tries += 1;
                    self.save().await?;
                }
                read => return read,
            }
        }
    }
}

/// Write a model: its document and its blobs. Called on a worker thread.
pub(crate) fn write_model(
    model: &Arc<dyn Component>,
    store: &Arc<dyn ArtifactStore>,
    place: &SavePath,
    ctx: &JobContext,
) -> Result<Written> {
    let runtime = tokio::runtime::Handle::current();
    ctx.check_cancelled()?;
    let source = Source { encoded: Encoded::checked(model)?, store };
    let (document, blobs) = runtime.block_on(source.save())?;
    let text = serde_json::to_vec(&document)?;
    let folder = match place {
        SavePath::Folder(folder) => folder,
        #[cfg(feature = "s3")]
        SavePath::S3(place) => return runtime.block_on(crate::s3::Bucket::open(place)?.put_model(text, &blobs, &source, ctx)),
        #[cfg(not(feature = "s3"))]
        SavePath::S3(_) => return Err(crate::save_path::unsupported()),
    };
    let mut written = Written::folder(folder, ctx)?;
    let blob_folder = folder.join("blobs");
    if !blobs.is_empty() {
        written.make(&blob_folder)?;
        // Whoever made it: it is part of the layout, and goes when it is empty.
        if written.folders.last() != Some(&blob_folder) {
            written.folders.push(blob_folder.clone());
        }
    }
    // Of a model that does not become whole blobs may stay: another job may have found them here, and name them by now.
    for blob in &blobs {
        let path = blob_folder.join(blob.digest.to_hex());
        written.file(&path, blob.digest, ctx, |file| {
            let mut at = 0;
            while at < blob.size {
                let end = blob.size.min(at + CHUNK);
                ctx.beat();
                ctx.check_cancelled()?;
                let bytes = runtime.block_on(source.read(blob.digest, at..end))?;
                file.write_all(&bytes)?;
                at = end;
            }
            Ok(())
        })?;
    }
    written.file(&folder.join(MODEL), Digest::of(&text), ctx, |file| Ok(file.write_all(&text)?))?;
    Ok(written)
}

/// Load a model from the folder that a training wrote, without any database.
///
/// Its blobs are read, and verified, when they are asked for.
///
/// # Errors
/// `NotFound` where there is no model; `Decode` where it is of another type.
pub async fn load_model<M: ComponentType>(folder: impl AsRef<Path>) -> Result<M> {
    load_model_dyn(folder.as_ref()).await.and_then(downcast)
}

/// Load a model from the place that a training wrote it to, such as `info.path`: a folder, or with the feature `s3` a place
/// in an object store; see [`load_model`].
///
/// # Errors
/// As for [`load_model_dyn`]; `Decode` where it is of another type.
pub async fn load_model_from<M: ComponentType>(place: impl Into<SavePath>) -> Result<M> {
    load_model_dyn(place).await.and_then(downcast)
}

/// Load a model of any type that this program knows; see [`load_model_from`].
///
/// # Errors
/// `NotFound` where there is no model, or a secret is missing; `UnknownKind`; `Decode`; `Store` for an object store that does
/// not answer or refuses; `Unsupported` without the feature `s3`.
pub async fn load_model_dyn(place: impl Into<SavePath>) -> Result<Box<dyn Component>> {
    let place = place.into();
    let (text, blobs): (Vec<u8>, Arc<dyn ArtifactStore>) = match &place {
        SavePath::Folder(folder) => {
            let folder = Folder(folder.join("blobs"));
            let path = folder.0.with_file_name(MODEL);
            let read = tokio::task::spawn_blocking(move || fs::read(&path).map_err(|error| failed("read", &path, error)));
            let text = read.await.map_err(|error| Error::internal(error.to_string()))?;
            (text.map_err(|error| no_model(&place).with_source(error))?, Arc::new(folder))
        }
        #[cfg(feature = "s3")]
        SavePath::S3(at) => {
            let bucket = crate::s3::Bucket::open(at)?;
            let text = bucket.read(MODEL).await?.ok_or_else(|| no_model(&place))?;
            (text.to_vec(), Arc::new(bucket))
        }
        #[cfg(not(feature = "s3"))]
        SavePath::S3(_) => return Err(crate::save_path::unsupported()),
    };
    let document =
        read_json(&text).map_err(|error| Error::new(ErrorKind::Decode, format!("`{MODEL}` in `{place}` is no model: {error}")))?;
    Encoded::read(document, Some(blobs))
}

fn no_model(place: &SavePath) -> Error {
    Error::not_found(format!("there is no model in `{place}`"))
}

/// The blobs of an exported model, to be read.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_hex())
    }
}

pub(crate) fn read_only<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "an exported model is not written to")) })
}

impl ArtifactStore for Folder {
    fn location(&self) -> String {
        self.0.display().to_string()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities { durable: true, shared: None, local_files: true }
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
