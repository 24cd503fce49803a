//! Optimizers on the server whose steps adapt to each element: Adam and Yogi.

use super::{
    contract::{Aggregated, Strategy},
    server_step::server_step,
    settings::{decay, positive},
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Result, Tensors};

/// Adam on the server.
///
/// With the global weights `x`, the mean of the sites `w` as [`FedAvg`](crate::FedAvg) has it, and
/// `d = w - x`:
///
/// ```text
/// m ← β₁ m + (1 - β₁) d
/// v ← β₂ v + (1 - β₂) d²
/// x ← x + η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + τ)
/// ```
///
/// The state has `m/<tensor>` and `v/<tensor>`; both start at 0. Only tensors of floats have them.
/// As in Flower 1.42, `t` is 2 in the first round: the rounds of Flower count from 1, and its
/// exponents are one more.
///
/// Source: Reddi et al., "Adaptive Federated Optimization", 2020, arXiv:2003.00295, algorithm 2,
/// with the correction of the bias of Kingma and Ba, "Adam: A Method for Stochastic Optimization",
/// 2014, arXiv:1412.6980, section 2. The defaults are those of Flower.
///
/// # Errors
/// Beside those of every strategy: `InvalidInput` where no site has a sample, for a state of
/// another model or strategy, and where an element becomes infinite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FedAdam {
    /// η, the length of a step; above 0.
    pub eta: f64,
    /// β₁, how long directions are remembered; from 0 to below 1.
    pub beta1: f64,
    /// β₂, how long squares are remembered; from 0 to below 1.
    pub beta2: f64,
    /// τ, keeps the divisor away from 0; above 0.
    pub tau: f64,
}

impl Default for FedAdam {
    fn default() -> Self {
        FedAdam { eta: 0.1, beta1: 0.9, beta2: 0.99, tau: 1e-3 }
    }
}

#[typetag::serde(name = "federated.FedAdam")]
impl Strategy for FedAdam {
    fn name(&self) -> &'static str {
        "FedAdam"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        check("FedAdam", [self.eta, self.beta1, self.beta2, self.tau])
    }

    fn aggregate<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        let FedAdam { eta, beta1, beta2, tau } = *self;
        let exponent = round as f64 + 2.0;
        let eta = eta * (1.0 - beta2.powf(exponent)).sqrt() / (1.0 - beta1.powf(exponent));
        let rule = move |x: f64, d: f64, [m, v]: [f64; 2]| {
            let m = beta1 * m + (1.0 - beta1) * d;
            let v = beta2 * v + (1.0 - beta2) * d * d;
            (x + eta * m / (v.sqrt() + tau), [m, v])
        };
        Box::pin(server_step("FedAdam", ["m", "v"], rule, global, state, updates))
    }
}

/// Yogi on the server: as [`FedAdam`], but the mean of squares falls slowly.
///
/// With the global weights `x`, the mean of the sites `w` as [`FedAvg`](crate::FedAvg) has it, and
/// `d = w - x`:
///
/// ```text
/// m ← β₁ m + (1 - β₁) d
/// v ← v - (1 - β₂) d² sign(v - d²)
/// x ← x + η m / (√v + τ)
/// ```
///
/// The state has `m/<tensor>` and `v/<tensor>`; both start at 0. Only tensors of floats have them.
///
/// Source: Reddi et al., "Adaptive Federated Optimization", 2020, arXiv:2003.00295, algorithm 2.
/// The defaults are those of Flower.
///
/// # Errors
/// Those of [`FedAdam`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FedYogi {
    /// η, the length of a step; above 0.
    pub eta: f64,
    /// β₁, how long directions are remembered; from 0 to below 1.
    pub beta1: f64,
    /// β₂, how long squares are remembered; from 0 to below 1.
    pub beta2: f64,
    /// τ, keeps the divisor away from 0; above 0.
    pub tau: f64,
}

impl Default for FedYogi {
    fn default() -> Self {
        FedYogi { eta: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 }
    }
}

#[typetag::serde(name = "federated.FedYogi")]
impl Strategy for FedYogi {
    fn name(&self) -> &'static str {
        "FedYogi"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        check("FedYogi", [self.eta, self.beta1, self.beta2, self.tau])
    }

    fn aggregate<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        let FedYogi { eta, beta1, beta2, tau } = *self;
        let rule = move |x: f64, d: f64, [m, v]: [f64; 2]| {
            let m = beta1 * m + (1.0 - beta1) * d;
            let square = d * d;
            // `f64::signum` of 0 is 1; here it has to be 0.
            let sign = f64::from(i8::from(v > square) - i8::from(v < square));
            let v = v - (1.0 - beta2) * square * sign;
            (x + eta * m / (v.sqrt() + tau), [m, v])
        };
        Box::pin(server_step("FedYogi", ["m", "v"], rule, global, state, updates))
    }
}

/// Refuse `eta`, `beta1`, `beta2` and `tau` outside of their ranges.
fn check(strategy: &str, [eta, beta1, beta2, tau]: [f64; 4]) -> Result<()> {
    positive(strategy, "eta", eta)?;
    decay(strategy, "beta1", beta1)?;
    decay(strategy, "beta2", beta2)?;
    positive(strategy, "tau", tau)
}
