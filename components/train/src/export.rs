//! Models and results as files or objects outside of the artifact store.
//!
//! Invariants: a file appears whole under its name (temporary file, fsync, rename), `model.json`
//! after all that it names; so does an object. What was written is on record with its digest, and
//! only that is deleted again.

use crate::{
    model_source::{MODEL, Source, read_only},
    save_path::SavePath,
    written::{Drafts, Written, failed},
};
use std::{
    fs::{self, File},
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use superduper::{
    BoxFuture, Bytes, Component, ComponentType, Digest, Encoded, Error, ErrorKind, JobContext,
    Result, downcast,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put, read_json},
};

const CHUNK: u64 = 4 << 20;

/// Fail where a place cannot be written to for sure. Called on a worker thread.
pub(crate) fn reach(place: &SavePath, ctx: &JobContext) -> Result<()> {
    match place {
        SavePath::Folder(folder) => reach_folder(folder, &Drafts::of(ctx)),
        #[cfg(feature = "s3")]
        SavePath::S3(place) => {
            tokio::runtime::Handle::current().block_on(crate::s3::Bucket::open(place)?.reach())
        }
        #[cfg(not(feature = "s3"))]
        SavePath::S3(_) => Err(crate::save_path::unsupported()),
    }
}

fn reach_folder(folder: &Path, drafts: &Drafts) -> Result<()> {
    // It is not made yet: what was there before is not this job's to delete.
    let nearest = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    if !nearest.is_dir() {
        return Err(
            Error::invalid(format!("`{}` is a file, not a folder", nearest.display())).fatal()
        );
    }
    let draft = nearest.join(drafts.probe());
    File::create(&draft)
        .and_then(|_| fs::remove_file(&draft))
        .map_err(|error| failed("write to", nearest, error))?;
    match fs::read(folder.join(MODEL)) {
        Ok(found) if !is_model(&found) => Err(Error::invalid(format!(
            "`{}` is there and is no model; it is not overwritten",
            folder.join(MODEL).display()
        ))
        .with_hint("give another folder, or move the file away")
        .fatal()),
        _ => Ok(()),
    }
}

/// Whether a file may be one that [`write_model`] wrote.
fn is_model(text: &[u8]) -> bool {
    // By its form: one of a kind or version that this program does not know is a model all the
    // same.
    read_json(text).is_ok_and(|document| document["$kind"].is_string())
}

/// Delete what jobs wrote, where it was not changed since.
pub(crate) async fn delete(all: Vec<Written>) -> Result<()> {
    for written in &all {
        let Some(place) = &written.place else { continue };
        #[cfg(feature = "s3")]
        crate::s3::Bucket::open(place)?.delete(&written.objects).await?;
        #[cfg(not(feature = "s3"))]
        return Err(crate::save_path::unsupported().context(place));
    }
    let deleted =
        tokio::task::spawn_blocking(move || all.iter().try_for_each(Written::delete)).await;
    deleted.map_err(|error| Error::internal(error.to_string()))?
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
        SavePath::S3(place) => {
            return runtime
                .block_on(crate::s3::Bucket::open(place)?.put_model(text, &blobs, &source, ctx));
        }
        #[cfg(not(feature = "s3"))]
        SavePath::S3(_) => return Err(crate::save_path::unsupported()),
    };
    let mut written = Written::folder(folder, ctx)?;
    let blob_folder = folder.join("blobs");
    if !blobs.is_empty() {
        written.make(&blob_folder)?;
        // It is part of the layout, so it is deleted when it is empty, also where it was there before.
        if written.folders.last() != Some(&blob_folder) {
            written.folders.push(blob_folder.clone());
        }
    }
    // Of a model that does not become whole blobs may stay: another job may have found them here,
    // and name them by now.
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

/// Load a model from the place that a training wrote it to, such as `info.path`: a folder, or with
/// the feature `s3` a place in an object store; see [`load_model`].
///
/// # Errors
/// As for [`load_model_dyn`]; `Decode` where it is of another type.
pub async fn load_model_from<M: ComponentType>(place: impl Into<SavePath>) -> Result<M> {
    load_model_dyn(place).await.and_then(downcast)
}

/// Load a model of any type that this program knows; see [`load_model_from`].
///
/// # Errors
/// `NotFound` where there is no model, or a secret is missing; `UnknownKind`; `Decode`; `Store` for
/// an object store that does not answer or refuses; `Unsupported` without the feature `s3`.
pub async fn load_model_dyn(place: impl Into<SavePath>) -> Result<Box<dyn Component>> {
    let place = place.into();
    let (text, blobs): (Vec<u8>, Arc<dyn ArtifactStore>) = match &place {
        SavePath::Folder(folder) => {
            let folder = Folder(folder.join("blobs"));
            let path = folder.0.with_file_name(MODEL);
            let read = tokio::task::spawn_blocking(move || {
                fs::read(&path).map_err(|error| failed("read", &path, error))
            });
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
    let document = read_json(&text).map_err(|error| {
        Error::new(ErrorKind::Decode, format!("`{MODEL}` in `{place}` is no model: {error}"))
    })?;
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

impl ArtifactStore for Folder {
    fn location(&self) -> String {
        self.0.display().to_string()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities { durable: true, shared: None, local_files: true }
    }

    fn put<'a>(
        &'a self,
        _digest: Digest,
        _size: u64,
        _chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        read_only()
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        use std::io::{Read, Seek, SeekFrom};
        let path = self.path(digest);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut bytes =
                    vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
                file.read_exact(&mut bytes)?;
                std::io::Result::Ok(Bytes::from(bytes))
            });
            let read = read.await.map_err(|error| Error::internal(error.to_string()))?;
            read.map_err(|error| {
                Error::integrity(format!("blob {digest} cannot be read")).with_source(error)
            })
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

    fn list(
        &self,
        _first: Option<u8>,
        _leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        read_only()
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.path(digest))
    }
}
