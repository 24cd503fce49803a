//! The cases, and the workers that they start.

mod apply;
mod artifact;
mod cold;
mod crash;
mod dag;
mod doors;
mod hooks;
mod learn;
mod many;
mod race;
mod recover;
mod train;
mod train_facts;
mod train_module;
mod tree;
mod upkeep;

use crate::driver::Driver;
use serde_json::Value;
use superduper::{Error, Result};

/// A group of measurements.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Driver) -> Result<()>,
    /// The script below `peers/` that measures the same.
    pub(crate) peer: &'static str,
}

const SUPERDUPER: &str = "superduper.sh";
const LEARN: &str = "learn.sh";
const CAIKIT: &str = "caikit.sh";

/// All cases, in the order in which `all` runs them.
pub(crate) const CASES: &[Case] = &[
    Case { name: "a_cold", run: cold::cold, peer: SUPERDUPER },
    Case { name: "b_apply", run: apply::apply, peer: SUPERDUPER },
    Case { name: "b_sql", run: apply::sql, peer: SUPERDUPER },
    Case { name: "b_lost", run: apply::lost, peer: SUPERDUPER },
    Case { name: "c_tree", run: tree::tree, peer: SUPERDUPER },
    Case { name: "d_dag", run: dag::dag, peer: SUPERDUPER },
    Case { name: "e_artifact", run: artifact::artifact, peer: SUPERDUPER },
    Case { name: "e_collide", run: artifact::collide, peer: SUPERDUPER },
    Case { name: "e_redo", run: artifact::redo, peer: SUPERDUPER },
    Case { name: "f_many", run: many::many, peer: SUPERDUPER },
    Case { name: "h_crash", run: crash::crash, peer: SUPERDUPER },
    Case { name: "h_race", run: race::race, peer: SUPERDUPER },
    Case { name: "h_recover", run: recover::recover, peer: SUPERDUPER },
    Case { name: "h_writers", run: race::writers, peer: SUPERDUPER },
    Case { name: "i_hooks", run: hooks::hooks, peer: SUPERDUPER },
    Case { name: "j_upkeep", run: upkeep::upkeep, peer: SUPERDUPER },
    Case { name: "j_train", run: train::train, peer: CAIKIT },
    Case { name: "j_facts", run: train_facts::facts, peer: CAIKIT },
    Case { name: "k_doors", run: doors::doors, peer: SUPERDUPER },
    Case { name: "mlp_epoch", run: learn::mlp_epoch, peer: LEARN },
    Case { name: "cnn_epoch", run: learn::cnn_epoch, peer: LEARN },
    Case { name: "embed", run: learn::embed, peer: LEARN },
];

/// The cases of these names.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Err(Error::invalid("no case is named").with_hint("name cases from `list`, or `all`"));
    }
    if names.iter().any(|name| name == "all") {
        return Ok(CASES.iter().collect());
    }
    let find = |name: &String| CASES.iter().find(|case| case.name == name);
    names
        .iter()
        .map(|name| find(name).ok_or_else(|| Error::invalid(format!("unknown case `{name}`")).with_hint("`list` names the cases")))
        .collect()
}

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
        "train" => train::train_worker(parameters).await,
        "train_facts" => train_facts::facts_worker().await,
        "train_one" => train_facts::one_worker(parameters).await,
        "train_find" => train_facts::find_worker().await,
        "epochs" => learn::epochs_worker(parameters).await,
        "embed" => learn::embed_worker(parameters).await,
        other => Err(Error::invalid(format!("unknown worker `{other}`"))),
    }
}

/// A number among a worker's parameters; 0 where there is none.
fn number(parameters: &Value, name: &str) -> usize {
    parameters[name].as_u64().unwrap_or(0) as usize
}

/// A text among a worker's parameters; empty where there is none.
fn text<'a>(parameters: &'a Value, name: &str) -> &'a str {
    parameters[name].as_str().unwrap_or_default()
}
