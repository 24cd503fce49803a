//! Strategies that some wrong sites cannot mislead: median and trimmed mean of each element.

use super::{
    contract::{Aggregated, Strategy},
    settings::in_range,
    trimmed::trimmed,
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Result, Tensors};

/// The median of the sites, element by element; the mean of the two in the middle if their number
/// is even.
///
/// Each site counts the same, whatever number of samples it names. Of integers and booleans the
/// one in the middle is taken, or the larger one of the two: so wrong sites cannot choose a counter
/// either. A tensor of all sites is in memory at a time.
///
/// Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
/// 2018, arXiv:1803.01498, definition 1.
///
/// # Guarantees
/// While less than half of the sites are wrong, each element lies between values of right sites.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinateMedian {}

#[typetag::serde(name = "federated.CoordinateMedian")]
impl Strategy for CoordinateMedian {
    fn name(&self) -> &'static str {
        "CoordinateMedian"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        Ok(())
    }

    fn needs_single_updates(&self) -> bool {
        true
    }

    fn aggregate<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        _state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        Box::pin(trimmed(global, updates, |sites| (sites - 1) / 2))
    }
}

/// The mean of the sites without the largest and the smallest `floor(beta * n)` of `n` values,
/// element by element.
///
/// Each site counts the same, whatever number of samples it names. Of integers and booleans the
/// largest of the values that are left is taken. A tensor of all sites is in memory at a time.
///
/// Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
/// 2018, arXiv:1803.01498, definition 2. The default is that of Flower.
///
/// # Guarantees
/// While at most `floor(beta * n)` sites are wrong, each element lies between values of right
/// sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrimmedMean {
    /// The part of the sites that is cut at each side; from 0 to below 0.5.
    pub beta: f64,
}

impl Default for TrimmedMean {
    fn default() -> Self {
        TrimmedMean { beta: 0.2 }
    }
}

#[typetag::serde(name = "federated.TrimmedMean")]
impl Strategy for TrimmedMean {
    fn name(&self) -> &'static str {
        "TrimmedMean"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        let inside = (0.0..0.5).contains(&self.beta);
        in_range("TrimmedMean", "beta", self.beta, "at least 0 and below 0.5", inside)
    }

    fn needs_single_updates(&self) -> bool {
        true
    }

    fn aggregate<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        _state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        Box::pin(async move {
            self.check(updates.len(), updates.len())?;
            trimmed(global, updates, |sites| (self.beta * sites as f64) as usize).await
        })
    }
}
