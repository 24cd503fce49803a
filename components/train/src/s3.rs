//! Models as objects of a service that speaks S3: `path/model.json` and `path/blobs/…`.
//!
//! Invariants: `model.json` is written after all that it names, and deleted before; an object
//! appears whole. No key is in any text made here: services repeat access keys in what they answer,
//! so answers are searched for them.

use crate::{
    model_source::{MODEL, Source, read_only},
    save_path::S3Path,
    written::{Written, WrittenObject},
};
use futures_util::TryStreamExt;
use object_store::{
    BackoffConfig, ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig, aws::AmazonS3Builder, path::Path,
};
use std::{fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration, time::SystemTime};
use superduper::unreturned::{Site, Unreturned};
use superduper::{
    BoxFuture, Bytes, Digest, Error, Hasher, JobContext, Result,
    store::{ArtifactCapabilities, ArtifactStore, BlobInfo, BlobRow, Chunks, Put},
};

/// The size of a part: at least 5 MiB are required, at most 10,000 parts are allowed. So much of a
/// model is in memory at once.
const PART: u64 = 8 << 20;
const MOST_PARTS: u64 = 9_000;

/// Of an answer, so much is repeated.
const ANSWER: usize = 600;

/// A service that is down is given up after about half a minute, whatever it is that does not come.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(15);

/// A place in a bucket.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    place: S3Path,
    prefix: Path,
    hidden: [String; 2],
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.place)
    }
}

impl Bucket {
    pub(crate) fn open(place: &S3Path) -> Result<Self> {
        let [access, secret] =
            [place.access_key.reveal()?.clone(), place.secret_key.reveal()?.clone()];
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(&place.region)
            .with_access_key_id(&access)
            .with_secret_access_key(&secret)
            // Not every service that speaks S3 knows bulk deletion, and a model is few objects.
            .with_disable_bulk_delete(true)
            .with_allow_http(place.endpoint.starts_with("http://"))
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(CONNECT)
                    .with_timeout(REQUEST)
                    .with_allow_http(true),
            )
            .with_retry(RetryConfig { backoff, max_retries: 5, retry_timeout: RETRY });
        if !place.endpoint.is_empty() {
            builder = builder.with_endpoint(place.endpoint.trim_end_matches('/'));
        }
        let hidden = [access, secret];
        let store = builder.build().map_err(|error| {
            Error::invalid(format!("`{place}` cannot be used: {}", answer(&error, &hidden)))
        })?;
        let prefix = Path::parse(&place.path)
            .map_err(|error| Error::invalid(format!("the path of `{place}`: {error}")))?;
        Ok(Bucket { store: Arc::new(store), place: place.clone(), prefix, hidden })
    }

    fn at(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, piece| path.join(piece))
    }

    fn blob(digest: Digest) -> String {
        format!("blobs/{}", digest.to_hex())
    }

    /// What went wrong, in words that say what to do; the answer of the service is the source,
    /// without keys.
    fn failed(&self, what: &str, error: object_store::Error) -> Error {
        let answer = answer(&error, &self.hidden);
        let (place, S3Path { bucket, endpoint, access_key, secret_key, .. }) =
            (&self.place, &self.place);
        let text = format!("cannot {what} `{place}` at `{endpoint}`");
        use object_store::Error as E;
        let made = match error {
            _ if has_no_bucket(&answer) => {
                Error::store(format!("{text}: there is no bucket `{bucket}`"))
                    .with_hint("make it, or name another")
                    .fatal()
            }
            _ if is_refused(&answer) => {
                Error::store(format!("{text}: the credentials are refused"))
                    .with_hint(format!(
                        "look at {access_key:?} and {secret_key:?}, and at the region"
                    ))
                    .fatal()
            }
            E::Unauthenticated { .. } | E::PermissionDenied { .. } => {
                Error::store(format!("{text}: it is not permitted"))
                    .with_hint("let these credentials list, read, write and delete there")
                    .fatal()
            }
            E::NotFound { .. } => Error::store(format!("{text}: it is not there")),
            _ => Error::store(format!("{text}: the service does not answer as it should")),
        };
        made.with_source(Error::msg(answer.chars().take(ANSWER).collect::<String>()))
    }

    /// Fail where nothing can be written for sure: no such bucket, credentials that are refused, a
    /// service that is down.
    pub(crate) async fn reach(&self) -> Result<()> {
        match self.store.list(Some(&self.prefix)).try_next().await {
            // Who may write need not be allowed to list.
            Err(error @ object_store::Error::PermissionDenied { .. })
                if !is_refused(&answer(&error, &self.hidden)) =>
            {
                Ok(())
            }
            listed => listed.map(drop).map_err(|error| self.failed("reach", error)),
        }
    }

    /// Write a model: the blobs, then the document.
    pub(crate) async fn put_model(
        &self,
        document: Vec<u8>,
        blobs: &[BlobRow],
        source: &Source<'_>,
        ctx: &JobContext,
    ) -> Result<Written> {
        let mut objects = Vec::new();
        for blob in blobs {
            let etag = self.put_blob(blob, source, ctx).await?;
            let key = self.at(&Bucket::blob(blob.digest)).to_string();
            objects.push(WrittenObject { key, digest: blob.digest, size: blob.size, etag });
        }
        ctx.check_cancelled()?;
        let (digest, size) = (Digest::of(&document), document.len() as u64);
        let put = self
            .store
            .put(&self.at(MODEL), document.into())
            .await
            .map_err(|error| self.failed("write to", error))?;
        objects.push(WrittenObject {
            key: self.at(MODEL).to_string(),
            digest,
            size,
            etag: put.e_tag,
        });
        Ok(Written { place: Some(self.place.clone()), objects, ..Written::default() })
    }

    /// Write a blob: small ones at once, others in parts, one after the other; gives its etag.
    async fn put_blob(
        &self,
        blob: &BlobRow,
        source: &Source<'_>,
        ctx: &JobContext,
    ) -> Result<Option<String>> {
        let path = self.at(&Bucket::blob(blob.digest));
        let part = PART.max(blob.size.div_ceil(MOST_PARTS));
        let mut hasher = Hasher::new();
        let mut next = async |at: u64| {
            ctx.beat();
            ctx.check_cancelled()?;
            let bytes = source.read(blob.digest, at..blob.size.min(at + part)).await?;
            hasher.update(&bytes);
            if at + bytes.len() as u64 == blob.size && hasher.finish() != blob.digest {
                return Err(Error::integrity(format!(
                    "blob {} of the artifact store is damaged; it is not written to `{}`",
                    blob.digest, self.place
                )));
            }
            Ok(PutPayload::from(bytes.into_inner()))
        };
        if blob.size <= part {
            let put = self.store.put(&path, next(0).await?).await;
            return put.map(|put| put.e_tag).map_err(|error| self.failed("write to", error));
        }
        let mut upload = self
            .store
            .put_multipart(&path)
            .await
            .map_err(|error| self.failed("write to", error))?;
        let sent = async {
            for number in 0..blob.size.div_ceil(part) {
                upload
                    .put_part(next(number * part).await?)
                    .await
                    .map_err(|error| self.failed("write to", error))?;
            }
            upload.complete().await.map_err(|error| self.failed("write to", error))
        };
        match sent.await {
            Ok(put) => Ok(put.e_tag),
            Err(error) => {
                // Parts of an upload that is never completed cost money and cannot be seen.
                let aborted =
                    upload.abort().await.map_err(|error| self.failed("abort an upload to", error));
                aborted.or_warn(Site::SWEEP, "aborting an upload");
                Err(error)
            }
        }
    }

    /// Write a small object below the place.
    pub(crate) async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(&self.at(name), bytes.into()).await;
        put.map(|_| ()).map_err(|error| self.failed("write to", error))
    }

    /// An object below the place; `None` where it is not there.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let got = async { self.store.get(&self.at(name)).await?.bytes().await };
        match got.await {
            Ok(bytes) => Ok(Some(Bytes::from_inner(bytes))),
            Err(error @ object_store::Error::NotFound { .. })
                if !has_no_bucket(&answer(&error, &self.hidden)) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("read", error)),
        }
    }

    /// Delete objects that are still what was written. Between look and deletion there is a moment
    /// in which another one may write; S3 has no condition for deletions that all services know.
    pub(crate) async fn delete(&self, objects: &[WrittenObject]) -> Result<()> {
        for object in objects.iter().rev() {
            let path = Path::parse(&object.key)
                .map_err(|error| Error::integrity(format!("key `{}`: {error}", object.key)))?;
            let found = match self.store.head(&path).await {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(self.failed("delete from", error)),
            };
            // An equal etag is the state that was written. Another one may have the same bytes all
            // the same.
            let known = found.e_tag.is_some() && found.e_tag == object.etag;
            if found.size == object.size
                && (known || self.digest_of(&path, found.size).await? == object.digest)
            {
                match self.store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(self.failed("delete from", error)),
                }
            }
        }
        Ok(())
    }

    async fn digest_of(&self, path: &Path, size: u64) -> Result<Digest> {
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < size {
            let end = size.min(at + PART);
            hasher.update(
                &self
                    .store
                    .get_range(path, at..end)
                    .await
                    .map_err(|error| self.failed("read", error))?,
            );
            at = end;
        }
        Ok(hasher.finish())
    }
}

/// The text of an error with its causes, without keys.
fn answer(error: &object_store::Error, hidden: &[String; 2]) -> String {
    let mut answer = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !answer.contains(&text) {
            answer = format!("{answer}: {text}");
        }
        source = cause.source();
    }
    hidden
        .iter()
        .filter(|key| !key.is_empty())
        .fold(answer, |answer, key| answer.replace(key.as_str(), "***"))
}

fn has_no_bucket(answer: &str) -> bool {
    answer.contains("NoSuchBucket")
}

fn is_refused(answer: &str) -> bool {
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"]
        .iter()
        .any(|code| answer.contains(code))
}

/// The blobs of an exported model, to be read; who asks verifies them.
impl ArtifactStore for Bucket {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn capabilities(&self) -> ArtifactCapabilities {
        ArtifactCapabilities { durable: true, shared: None, local_files: false }
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
        Box::pin(async move {
            // Services refuse an empty range.
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            match self.store.get_range(&self.at(&Bucket::blob(digest)), range.clone()).await {
                Ok(bytes) if bytes.len() as u64 == range.end - range.start => {
                    Ok(Bytes::from_inner(bytes))
                }
                Ok(_) | Err(object_store::Error::NotFound { .. }) => Err(Error::integrity(
                    format!("blob {digest} in `{}` is missing or too short", self.place),
                )),
                Err(error) => Err(self.failed("read", error)),
            }
        })
    }

    fn size(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async move {
            match self.store.head(&self.at(&Bucket::blob(digest))).await {
                Ok(found) => Ok(Some(found.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(self.failed("read", error)),
            }
        })
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

    fn local_path(&self, _digest: Digest) -> Option<PathBuf> {
        None
    }
}
