//! What a successful attempt leaves behind, on its way to the record: result, outputs, spawned
//! jobs, messages.
//!
//! Invariant: blobs are durable before a commit names them.

use super::{Instances, JobSpec, context::Effects, record::sweep_epoch, spawned::resolve_spawned};
use crate::{
    artifact::BlobHandle,
    db::DbInner,
    encode::{Encoded, save_encoded},
    error::Result,
    store::{BlobRow, NewJob, OutputRow},
};
use serde_json::Value;
use std::sync::Arc;

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
    let encoded =
        || std::iter::once(&result).chain(effects.outputs.iter().map(|output| &output.encoded));
    let handles: Vec<Arc<BlobHandle>> =
        encoded().flat_map(|encoded| encoded.blobs.iter().cloned()).collect();
    // Read before the blobs are looked for: the commit then tells whether a sweep came after that.
    let sweep_epoch = if handles.is_empty() { None } else { Some(sweep_epoch(db).await?) };
    let (value, blobs) =
        save(db, result, "result").await.map_err(|error| error.context("the result"))?;
    let mut outputs = Vec::with_capacity(effects.outputs.len());
    for output in effects.outputs {
        let (value, blobs) = save(db, output.encoded, output.name)
            .await
            .map_err(|error| error.context(format_args!("output `{}`", output.name)))?;
        outputs.push(OutputRow { name: output.name.to_owned(), value, blobs });
    }
    let spawned = resolve_spawned(db, spec, instances, effects.spawned).await?;
    Ok(Success { value, blobs, handles, sweep_epoch, outputs, spawned, messages: effects.messages })
}

pub(super) async fn save(
    db: &Arc<DbInner>,
    encoded: Encoded,
    path: &str,
) -> Result<(Value, Vec<BlobRow>)> {
    save_encoded(&db.artifacts, encoded, path).await
}
