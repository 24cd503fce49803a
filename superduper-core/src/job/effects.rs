//! What a successful attempt leaves behind, on its way to the record: result, outputs, spawned jobs, messages.
//!
//! Invariant: blobs are durable before a commit names them.

use super::{Instances, JobSpec, context::Effects, record::sweep_epoch, spawned::resolve_spawned};
use crate::{
    Error, Result,
    artifact::BlobHandle,
    db::DbInner,
    encode::{Encoded, patch_pending},
    store::{ArtifactStore, BlobRow, NewJob, OutputRow},
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// What a successful attempt records.
pub(super) struct Success {
    pub(super) value: Value,
    pub(super) blobs: Vec<BlobRow>,
    pub(super) handles: Vec<Arc<BlobHandle>>,
    pub(super) sweep_epoch: Option<u64>,
    pub(super) outputs: Vec<OutputRow>,
    pub(super) spawned: Vec<NewJob>,
    pub(super) messages: Vec<(String, Value)>,
}

/// Save the blobs of result and outputs, and resolve the spawned jobs.
pub(super) async fn store_effects(
    db: &Arc<DbInner>,
    spec: &JobSpec,
    instances: &Arc<Instances>,
    result: Encoded,
    effects: Effects,
) -> Result<Success> {
    let encoded = || std::iter::once(&result).chain(effects.outputs.iter().map(|output| &output.encoded));
    let handles: Vec<Arc<BlobHandle>> = encoded().flat_map(|encoded| encoded.blobs.iter().cloned()).collect();
    // Read before the blobs are looked for: the commit then tells whether a sweep came after that.
    let sweep_epoch = if handles.is_empty() { None } else { Some(sweep_epoch(db).await?) };
    let (value, blobs) = save(db, result, "result").await.map_err(|error| error.context("the result"))?;
    let mut outputs = Vec::with_capacity(effects.outputs.len());
    for output in effects.outputs {
        let (value, blobs) =
            save(db, output.encoded, output.name).await.map_err(|error| error.context(format_args!("output `{}`", output.name)))?;
        outputs.push(OutputRow { name: output.name.to_owned(), value, blobs });
    }
    let spawned = resolve_spawned(db, spec, instances, effects.spawned).await?;
    Ok(Success { value, blobs, handles, sweep_epoch, outputs, spawned, messages: effects.messages })
}

pub(super) async fn save(db: &Arc<DbInner>, encoded: Encoded, path: &str) -> Result<(Value, Vec<BlobRow>)> {
    save_encoded(&db.artifacts, encoded, path).await
}

/// Save the blobs of a value and put their digests into it.
pub(crate) async fn save_encoded(store: &Arc<dyn ArtifactStore>, encoded: Encoded, path: &str) -> Result<(Value, Vec<BlobRow>)> {
    let Encoded { mut value, blobs } = encoded;
    if blobs.is_empty() {
        return Ok((value, Vec::new()));
    }
    let names: Vec<(String, Arc<BlobHandle>)> = blobs.iter().map(|blob| (blob.name(), blob.clone())).collect();
    hash_all(&blobs).await?;
    let mut rows = Vec::with_capacity(blobs.len());
    for (index, blob) in blobs.iter().enumerate() {
        blob.save(store).await?;
        if let Some(hashed) = blob.hashed() {
            rows.push(BlobRow { path: format!("{path}[{index}]"), digest: hashed.digest, size: hashed.size });
        }
    }
    let pending: HashMap<&str, &Arc<BlobHandle>> = names.iter().map(|(name, blob)| (name.as_str(), blob)).collect();
    patch_pending(&mut value, &pending);
    Ok((value, rows))
}

/// Hash blobs where blocking is allowed.
pub(crate) async fn hash_all(blobs: &[Arc<BlobHandle>]) -> Result<()> {
    let open: Vec<Arc<BlobHandle>> = blobs.iter().filter(|blob| blob.digest().is_none()).cloned().collect();
    if open.is_empty() {
        return Ok(());
    }
    crate::runtime_check::current()?;
    tokio::task::spawn_blocking(move || open.iter().try_for_each(|blob| blob.hash()))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
}
