//! The mean, weighted by samples.

use super::{
    contract::{Aggregated, Strategy},
    mean::{Weighting, mean},
    round::Round,
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Result, Tensors};

/// Federated averaging: the new weights are `sum(n_i * w_i) / sum(n_i)`, where site `i` learned
/// `w_i` from `n_i` samples.
///
/// Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
/// Data", 2017, arXiv:1602.05629, algorithm 1.
///
/// # Guarantees
/// - `F64` and `F32` are summed in 64 bits, `F16` and `BF16` in 32 bits.
/// - Replies are added one after the other: beside the sums of one tensor, memory holds one reply
///   to it, or as many as 64 MiB hold.
/// - A site with 0 samples has no weight.
///
/// # Errors
/// Beside those of every strategy: `InvalidInput` where no site has a sample.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvg {}

#[typetag::serde(name = "federated.FedAvg")]
impl Strategy for FedAvg {
    fn name(&self) -> &'static str {
        "FedAvg"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        Ok(())
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

/// What [`FedAvg`] does with the updates of a round.
pub(crate) async fn average(global: &Tensors, updates: &[Update]) -> Result<Aggregated> {
    let round = Round::new(global, updates)?;
    Ok(Aggregated::new(mean(&round, Weighting::Samples).await?))
}
