//! Saving the blobs of values.

use super::{Encoded, patch_pending};
use crate::{
    artifact::{BlobHandle, contract::ArtifactStore},
    error::{Error, Result},
    store::BlobRow,
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// Save the blobs of a value and put their digests into it.
pub(crate) async fn save_encoded(
    store: &Arc<dyn ArtifactStore>,
    encoded: Encoded,
    path: &str,
) -> Result<(Value, Vec<BlobRow>)> {
    let Encoded { mut value, blobs } = encoded;
    if blobs.is_empty() {
        return Ok((value, Vec::new()));
    }
    let names: Vec<(String, Arc<BlobHandle>)> =
        blobs.iter().map(|blob| (blob.name(), blob.clone())).collect();
    hash_all(&blobs).await?;
    let mut rows = Vec::with_capacity(blobs.len());
    for (index, blob) in blobs.iter().enumerate() {
        blob.save(store).await?;
        if let Some(hashed) = blob.hashed() {
            rows.push(BlobRow {
                path: format!("{path}[{index}]"),
                digest: hashed.digest,
                size: hashed.size,
            });
        }
    }
    let pending: HashMap<&str, &Arc<BlobHandle>> =
        names.iter().map(|(name, blob)| (name.as_str(), blob)).collect();
    patch_pending(&mut value, &pending);
    Ok((value, rows))
}

/// Hash blobs where blocking is allowed.
pub(crate) async fn hash_all(blobs: &[Arc<BlobHandle>]) -> Result<()> {
    let open: Vec<Arc<BlobHandle>> =
        blobs.iter().filter(|blob| blob.digest().is_none()).cloned().collect();
    if open.is_empty() {
        return Ok(());
    }
    crate::runtime_check::current()?;
    tokio::task::spawn_blocking(move || open.iter().try_for_each(|blob| blob.hash()))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
}
