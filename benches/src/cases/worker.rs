//! The table of the workers: processes that a case starts, each to do one thing.

use super::{
    access, apply, artifact, cold, crash, dag, doors, federated, hooks, learn, lines, many, race,
    recover, schema, train, train_facts, tree, upkeep,
};
use serde_json::Value;
use superduper::{Error, Result};

/// Do a worker's work.
pub(crate) async fn work(name: &str, parameters: &Value) -> Result<Value> {
    match name {
        "nothing" => Ok(serde_json::json!({})),
        "open" => cold::open().await,
        "seed" => many::seed(parameters).await,
        "apply_many" => apply::apply_many(parameters).await,
        "sql_count" => apply::sql_count(parameters).await,
        "lost" => apply::lost_worker().await,
        "tree" => tree::tree_worker(parameters).await,
        "dag" => dag::dag_worker(parameters).await,
        "spawned" => dag::spawned_worker(parameters).await,
        "doors" => doors::worker(parameters).await,
        "schema" => schema::worker(parameters).await,
        "lines_seed" => lines::seed(parameters).await,
        "lines" => lines::worker(parameters).await,
        "art_apply" => artifact::art_apply(parameters).await,
        "art_load" => artifact::art_load(parameters).await,
        "collide" => artifact::collide_worker().await,
        "redo" => artifact::redo_worker(parameters).await,
        "many" => many::many_worker(parameters).await,
        "crash_trigger" => crash::crash_trigger(parameters).await,
        "crash_rows" => crash::crash_rows(parameters).await,
        "blob_share" => crash::blob_share(parameters).await,
        "raises" => crash::raises(parameters).await,
        "recover_seed" => recover::seed(parameters).await,
        "recover" => recover::worker(parameters).await,
        "race" => race::race_worker(parameters).await,
        "upkeep_seed" => upkeep::seed(parameters).await,
        "upkeep" => upkeep::work(parameters).await,
        "writer" => race::writer(parameters).await,
        "hooks" => hooks::hooks_worker().await,
        "federated" => federated::worker(parameters).await,
        "aggregate" => federated::aggregate(parameters).await,
        "custom classes" => federated::custom_classes(parameters).await,
        "access" => access::worker(parameters).await,
        "train" => train::train_worker(parameters).await,
        "train_facts" => train_facts::facts_worker().await,
        "train_one" => train_facts::one_worker(parameters).await,
        "train_find" => train_facts::find_worker().await,
        "epochs" => learn::epochs_worker(parameters).await,
        "embed" => learn::embed_worker(parameters).await,
        other => Err(Error::invalid(format!("unknown worker `{other}`"))),
    }
}
