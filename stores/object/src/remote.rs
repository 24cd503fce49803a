//! Blobs as objects in the object store of a cloud.
//!
//! Invariant: an object appears when its upload is completed, which happens after its bytes were
//! checked. Uploads that nobody completed are invisible; a rule of the bucket should expire their
//! parts.

use crate::Check;
use futures_util::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use std::{ops::Range, path::PathBuf, sync::Arc, time::SystemTime};
use superduper_core::unreturned::{Site, Unreturned};
use superduper_core::{
    BoxFuture, Bytes, Digest, Error, Result,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, Chunks, Put, check_runtime},
};
use tokio::sync::mpsc;

/// Parts of an upload: at least 5 MiB are required, at most 10,000 parts are allowed.
const PART: u64 = 8 * 1024 * 1024;
const MOST_PARTS: u64 = 9_000;
const PARTS_AT_ONCE: usize = 3;

#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
    durable: bool,
    /// The URL with which another process opens the same place.
    shared: Option<PathBuf>,
}

impl Remote {
    pub(crate) fn cloud(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        location: String,
        shared: Option<PathBuf>,
    ) -> Self {
        Remote { store, prefix, location, durable: shared.is_some(), shared }
    }

    fn path(&self, digest: Digest) -> Path {
        let hex = digest.to_hex();
        self.prefix.clone().join("blake3").join(&hex[..2]).join(hex.as_str())
    }

    fn failed(&self, digest: Digest, what: &str, error: object_store::Error) -> Error {
        Error::store(format!("blob {digest} in artifact store `{}` {what}", self.location))
            .with_source(error)
    }

    async fn find(&self, digest: Digest) -> Result<Option<u64>> {
        match self.store.head(&self.path(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(digest, "cannot be looked up", error)),
        }
    }

    async fn write(&self, digest: Digest, size: u64, chunks: Chunks, rehash: bool) -> Result<Put> {
        check_runtime()?;
        if self.find(digest).await? == Some(size) {
            return Ok(Put::Exists);
        }
        let part_size = PART.max(size.div_ceil(MOST_PARTS));
        let mut parts = parts(chunks, Check::new(digest, size, rehash), part_size);
        let path = self.path(digest);
        if size <= part_size {
            let payload = parts.recv().await.unwrap_or_else(|| Err(ended_early(digest)))?;
            self.store
                .put(&path, payload)
                .await
                .map_err(|error| self.failed(digest, "cannot be written", error))?;
            return Ok(Put::Written);
        }
        let begun = self
            .store
            .put_multipart(&path)
            .await
            .map_err(|error| self.failed(digest, "cannot be begun", error))?;
        let mut upload = Upload(Some(begun));
        let mut under_way = FuturesUnordered::new();
        let mut sent = 0;
        while let Some(part) = parts.recv().await {
            let part = part?;
            sent += part.content_length() as u64;
            under_way.push(upload.get()?.put_part(part));
            if under_way.len() >= PARTS_AT_ONCE {
                under_way
                    .try_next()
                    .await
                    .map_err(|error| self.failed(digest, "cannot be written", error))?;
            }
        }
        while under_way
            .try_next()
            .await
            .map_err(|error| self.failed(digest, "cannot be written", error))?
            .is_some()
        {}
        if sent != size {
            return Err(ended_early(digest));
        }
        upload
            .get()?
            .complete()
            .await
            .map_err(|error| self.failed(digest, "cannot be completed", error))?;
        upload.0 = None;
        Ok(Put::Written)
    }
}

/// The thread that pulled the chunks is gone: the source panicked.
fn ended_early(digest: Digest) -> Error {
    Error::internal(format!("the source of blob {digest} ended early"))
}

/// Pull and check the chunks on a thread that may block. The last part, or the only one, comes when
/// all bytes were right.
fn parts(chunks: Chunks, mut check: Check, part_size: u64) -> mpsc::Receiver<Result<PutPayload>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let pull = || {
            let mut part = Vec::new();
            let mut length = 0;
            for chunk in chunks {
                let mut chunk = chunk?;
                check.update(&chunk)?;
                // All parts but the last have one size, as some stores ask for.
                while length + chunk.len() as u64 > part_size {
                    let rest = (part_size - length) as usize;
                    part.push(chunk.slice(0..rest).into_inner());
                    chunk = chunk.slice(rest..chunk.len());
                    if sender
                        .blocking_send(Ok(std::mem::take(&mut part).into_iter().collect()))
                        .is_err()
                    {
                        return Ok(());
                    }
                    length = 0;
                }
                length += chunk.len() as u64;
                part.push(chunk.into_inner());
            }
            check.finish()?;
            sender.blocking_send(Ok(part.into_iter().collect())).ignored("the upload has ended");
            Ok(())
        };
        if let Err(error) = pull() {
            sender.blocking_send(Err(error)).ignored("the upload has ended");
        }
    });
    receiver
}

/// An upload that is aborted unless it was completed.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    fn get(&mut self) -> Result<&mut Box<dyn MultipartUpload>> {
        self.0.as_mut().ok_or_else(|| Error::internal("an upload was used after its end"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                // Without the answer of the service, which may repeat credentials.
                let aborted =
                    upload.abort().await.map_err(|_| Error::store("the service did not abort it"));
                aborted.or_warn(Site::SWEEP, "aborting an upload");
            });
        }
    }
}

impl ArtifactStore for Remote {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities {
            durable: self.durable,
            shared: self.shared.clone(),
            local_files: false,
        }
    }

    fn put<'a>(&'a self, digest: Digest, size: u64, chunks: Chunks) -> BoxFuture<'a, Result<Put>> {
        Box::pin(self.write(digest, size, chunks, true))
    }

    fn put_immutable<'a>(
        &'a self,
        digest: Digest,
        size: u64,
        chunks: Chunks,
    ) -> BoxFuture<'a, Result<Put>> {
        Box::pin(self.write(digest, size, chunks, false))
    }

    fn get_range(&self, digest: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move {
            let mut failure = None;
            // Stores refuse an empty range, and answer one beyond the end each in their own way.
            if !range.is_empty() {
                match self.store.get_range(&self.path(digest), range.clone()).await {
                    Ok(bytes) if bytes.len() as u64 == range.end - range.start => {
                        return Ok(Bytes::from_inner(bytes));
                    }
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => failure = Some(error),
                }
            }
            let place = format!("blob {digest} in artifact store `{}`", self.location);
            match self.find(digest).await? {
                None => Err(Error::integrity(format!("{place} is missing"))),
                Some(size) if range.start > range.end || range.end > size => Err(Error::integrity(
                    format!("{place} has {size} bytes, asked for were {range:?}"),
                )),
                Some(_) => match failure {
                    Some(error) => Err(self.failed(digest, "cannot be read", error)),
                    None if range.is_empty() => Ok(Bytes::new()),
                    None => Err(Error::store(format!("{place} was read incompletely"))),
                },
            }
        })
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(self.find(digest))
    }

    fn delete(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.store.delete(&self.path(digest)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed(digest, "cannot be removed", error)),
            }
        })
    }

    fn list(
        &self,
        first: Option<u8>,
        _leftovers_before: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<Vec<BlobInfo>>> {
        Box::pin(async move {
            let mut blobs = Vec::new();
            let all = self.prefix.clone().join("blake3");
            let below = first.map_or(all.clone(), |byte| all.join(format!("{byte:02x}")));
            let mut objects = self.store.list(Some(&below));
            while let Some(object) = objects.next().await {
                let object = object.map_err(|error| {
                    Error::store(format!("artifact store `{}` cannot be listed", self.location))
                        .with_source(error)
                })?;
                // Other people's objects are none of ours.
                let Some(digest) =
                    object.location.filename().and_then(|name| Digest::from_hex(name).ok())
                else {
                    continue;
                };
                if self.path(digest) == object.location {
                    blobs.push(BlobInfo {
                        digest,
                        size: object.size,
                        modified: object.last_modified.into(),
                    });
                }
            }
            blobs.sort_unstable_by_key(|blob| blob.digest);
            Ok(blobs)
        })
    }

    fn quarantine(&self, digest: Digest) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let hex = digest.to_hex();
            let aside =
                self.prefix.clone().join("blake3").join(&hex[..2]).join(format!("{hex}.corrupt"));
            match self.store.rename(&self.path(digest), &aside).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed(digest, "cannot be moved aside", error)),
            }
        })
    }

    /// By an object that is written: the service says when.
    fn now(&self) -> BoxFuture<'_, Result<SystemTime>> {
        Box::pin(async move {
            let path = self.prefix.clone().join("clock");
            let failed = |error| {
                Error::store(format!(
                    "the clock of artifact store `{}` cannot be read",
                    self.location
                ))
                .with_source(error)
            };
            self.store.put(&path, PutPayload::default()).await.map_err(failed)?;
            Ok(self.store.head(&path).await.map_err(failed)?.last_modified.into())
        })
    }

    fn local_path(&self, _digest: Digest) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;

    #[tokio::test]
    async fn the_time_is_that_of_the_service() {
        let inner = Arc::new(object_store::memory::InMemory::new());
        let remote = Remote::cloud(inner.clone(), Path::default(), "x://y".to_owned(), None);
        let store = crate::ObjectStore(Backend::Remote(remote));
        let now = store.now().await.expect("a time");
        let written = inner.head(&Path::from("clock")).await.expect("an object was written");
        assert_eq!(now, SystemTime::from(written.last_modified));
    }
}
