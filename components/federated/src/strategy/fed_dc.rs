//! The mean of models that travelled from site to site.

use super::{
    contract::{Aggregated, ClientSettings, Strategy},
    fed_avg::average,
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Error, Result, Tensors};

/// [`FedAvg`](crate::FedAvg) at each end of a period; in the rounds between, each site goes on with
/// the model of another site. It helps sites with few samples.
///
/// The training finds the period in [`ClientSettings::daisy_chain_period`]; at its end the server
/// aggregates as `FedAvg` does.
///
/// Source: Kamp et al., "Federated Learning from Small Datasets", 2021, arXiv:2110.03469,
/// algorithm 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FedDC {
    /// The number of rounds of a period; at least 1, and with 1 it is `FedAvg`.
    pub daisy_chain_period: u64,
}

#[typetag::serde(name = "federated.FedDC")]
impl Strategy for FedDC {
    fn name(&self) -> &'static str {
        "FedDC"
    }

    fn check(&self, sites: usize, _min_clients: usize) -> Result<()> {
        match (self.daisy_chain_period, sites) {
            (0, _) => {
                Err(Error::invalid("FedDC: `daisy_chain_period` must be at least 1, not 0").fatal())
            }
            (2.., 0 | 1) => Err(Error::invalid("FedDC: a single site has no other to go on with")
                .with_hint("add a site, or take `FedAvg`")
                .fatal()),
            _ => Ok(()),
        }
    }

    fn client(&self) -> ClientSettings {
        ClientSettings { daisy_chain_period: self.daisy_chain_period, ..ClientSettings::default() }
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
