//! The mean with momentum on the server.

use super::{
    contract::{Aggregated, Strategy},
    server_step::server_step,
    settings::{decay, positive},
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Result, Tensors};

/// Federated averaging with momentum on the server.
///
/// With the global weights `x`, the mean of the sites `w` as [`FedAvg`](crate::FedAvg) has it, the
/// rate `η` and the momentum `β`:
///
/// ```text
/// m ← β m + (w - x)
/// x ← x + η m
/// ```
///
/// The state has `momentum/<tensor>`; it starts at 0. Only tensors of floats have one.
///
/// Source: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated
/// Visual Classification", 2019, arXiv:1909.06335.
///
/// # Errors
/// Beside those of every strategy: `InvalidInput` where no site has a sample, for a state of
/// another model or strategy, and where an element becomes infinite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvgM {
    /// η, the length of a step; above 0.
    pub server_learning_rate: f64,
    /// β, how long directions are remembered; from 0 to below 1.
    pub momentum: f64,
}

impl Default for FedAvgM {
    fn default() -> Self {
        FedAvgM { server_learning_rate: 1.0, momentum: 0.9 }
    }
}

#[typetag::serde(name = "federated.FedAvgM")]
impl Strategy for FedAvgM {
    fn name(&self) -> &'static str {
        "FedAvgM"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        positive("FedAvgM", "server_learning_rate", self.server_learning_rate)?;
        decay("FedAvgM", "momentum", self.momentum)
    }

    fn aggregate<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        let (rate, momentum) = (self.server_learning_rate, self.momentum);
        let rule = move |value: f64, difference: f64, [before]: [f64; 1]| {
            let after = momentum * before + difference;
            (value + rate * after, [after])
        };
        Box::pin(server_step("FedAvgM", ["momentum"], rule, global, state, updates))
    }
}
