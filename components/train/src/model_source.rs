//! A model on its way to another place: its document, and its blobs as the artifact store has them.

use std::{ops::Range, sync::Arc};
use superduper::{
    BoxFuture, Bytes, Digest, Encoded, Error, ErrorKind, Result, Value,
    store::{ArtifactStore, BlobRow},
};

/// The file that says what a model is, and names its blobs.
pub(crate) const MODEL: &str = "model.json";
/// So often at most the blobs of a model are saved again for one read.
const SAVES: u32 = 100;

/// A model that is being written elsewhere. Nothing on record names its blobs yet, so that a sweep
/// of the artifact store may take them: they are saved again then.
pub(crate) struct Source<'a> {
    pub(crate) encoded: Encoded,
    pub(crate) store: &'a Arc<dyn ArtifactStore>,
}

impl Source<'_> {
    /// Document and blobs.
    pub(crate) async fn save(&self) -> Result<(Value, Vec<BlobRow>)> {
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

/// What a store of an exported model answers to writes.
pub(crate) fn read_only<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async {
        Err(Error::new(ErrorKind::Unsupported, "an exported model is not written to"))
    })
}
