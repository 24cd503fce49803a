//! The table of the cases.

use super::{
    access, apply, artifact, cold, crash, dag, doors, federated, hooks, learn, lines, many, race,
    recover, schema, train, train_facts, tree, upkeep,
};
use crate::driver::Driver;
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
    Case { name: "l_schema", run: schema::schema, peer: SUPERDUPER },
    Case { name: "l_lines", run: lines::lines, peer: SUPERDUPER },
    Case { name: "m_federated", run: federated::federated, peer: SUPERDUPER },
    Case { name: "n_access", run: access::access, peer: SUPERDUPER },
    Case { name: "mlp_epoch", run: learn::mlp_epoch, peer: LEARN },
    Case { name: "cnn_epoch", run: learn::cnn_epoch, peer: LEARN },
    Case { name: "embed", run: learn::embed, peer: LEARN },
];

/// The cases of these names.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Err(
            Error::invalid("no case is named").with_hint("name cases from `list`, or `all`")
        );
    }
    if names.iter().any(|name| name == "all") {
        return Ok(CASES.iter().collect());
    }
    let find = |name: &String| CASES.iter().find(|case| case.name == name);
    names
        .iter()
        .map(|name| {
            find(name).ok_or_else(|| {
                Error::invalid(format!("unknown case `{name}`")).with_hint("`list` names the cases")
            })
        })
        .collect()
}
