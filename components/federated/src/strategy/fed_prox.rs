//! The mean of models that were held near the global one.

use super::{
    contract::{Aggregated, ClientSettings, Strategy},
    fed_avg::average,
    settings::in_range,
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Result, Tensors};

/// [`FedAvg`](crate::FedAvg) of sites that add `mu / 2 * ||w - w_global||²` to their loss, which
/// keeps sites with unlike data from drifting apart.
///
/// The sites find `mu` in [`ClientSettings::proximal_mu`]; the server aggregates as `FedAvg` does.
///
/// Source: Li et al., "Federated Optimization in Heterogeneous Networks", 2018, arXiv:1812.06127.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FedProx {
    /// The factor of the proximal term; at least 0.
    pub mu: f64,
}

#[typetag::serde(name = "federated.FedProx")]
impl Strategy for FedProx {
    fn name(&self) -> &'static str {
        "FedProx"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        in_range("FedProx", "mu", self.mu, "at least 0", self.mu >= 0.0)
    }

    fn client(&self) -> ClientSettings {
        ClientSettings { proximal_mu: self.mu, ..ClientSettings::default() }
    }

    fn aggregate<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        _state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        Box::pin(average(global, updates))
    }
}
