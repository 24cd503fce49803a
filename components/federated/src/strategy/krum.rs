//! Krum and multi-Krum: the models that have the nearest neighbours.

use super::{
    contract::{Aggregated, Strategy},
    distances::Distances,
    mean::{Weighting, mean},
    round::Round,
};
use crate::Update;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Error, Result, Tensors};

/// The model of the site that is nearest to its neighbours.
///
/// With `n` sites of which `f` may be wrong, the score of site `i` is the sum of
/// `||w_i - w_j||²` over the `n - f - 2` other sites `j` that are nearest to it. The model of the
/// site with the lowest score is taken as it is; of equal scores that of the first site by its
/// identifier. The distance is over the tensors of floats. A tensor of all sites is in memory at a
/// time.
///
/// Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient
/// Descent", 2017, arXiv:1703.02757.
///
/// # Guarantees
/// The new model is that of a site; if `f` sites send what is far away, it is that of another one.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Krum {
    /// How many sites may be wrong, `f`; a round needs `2 * f + 3` replies.
    pub malicious: usize,
}

/// The mean of the models of the `keep` sites with the lowest scores of [`Krum`].
///
/// Each of them counts the same, as in the paper: a wrong site gains nothing by naming many
/// samples. Flower weights them with their samples.
///
/// Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient
/// Descent", 2017, arXiv:1703.02757, section 4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiKrum {
    /// How many sites may be wrong, `f`; a round needs `2 * f + 3` replies.
    pub malicious: usize,
    /// How many models are averaged; at least 1 and at most the replies of a round less `f`.
    pub keep: usize,
}

impl Default for MultiKrum {
    fn default() -> Self {
        MultiKrum { malicious: 0, keep: 1 }
    }
}

#[typetag::serde(name = "federated.Krum")]
impl Strategy for Krum {
    fn name(&self) -> &'static str {
        "Krum"
    }

    fn check(&self, _sites: usize, min_clients: usize) -> Result<()> {
        check("Krum", self.malicious, 1, min_clients)
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
        Box::pin(nearest("Krum", self.malicious, 1, global, updates))
    }
}

#[typetag::serde(name = "federated.MultiKrum")]
impl Strategy for MultiKrum {
    fn name(&self) -> &'static str {
        "MultiKrum"
    }

    fn check(&self, _sites: usize, min_clients: usize) -> Result<()> {
        check("MultiKrum", self.malicious, self.keep, min_clients)
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
        Box::pin(nearest("MultiKrum", self.malicious, self.keep, global, updates))
    }
}

/// Refuse settings that so few replies do not allow.
fn check(strategy: &str, malicious: usize, keep: usize, replies: usize) -> Result<()> {
    let needed = malicious.saturating_mul(2).saturating_add(3);
    if replies < needed {
        let text = format!(
            "{strategy}: with `malicious` = {malicious} a round needs {needed} replies, \
             not {replies}"
        );
        return Err(Error::invalid(text)
            .with_hint("raise `min_clients`, add sites or lower `malicious`")
            .fatal());
    }
    let most = replies - malicious;
    if keep == 0 || keep > most {
        let text = format!("{strategy}: `keep` must be from 1 to {most}, not {keep}");
        return Err(Error::invalid(text)
            .with_hint("at most the replies of a round less `malicious` can be right")
            .fatal());
    }
    Ok(())
}

/// The mean of the models with the lowest scores.
async fn nearest(
    strategy: &str,
    malicious: usize,
    keep: usize,
    global: &Tensors,
    updates: &[Update],
) -> Result<Aggregated> {
    let round = Round::new(global, updates)?;
    check(strategy, malicious, keep, round.updates.len())?;
    let scores = scores(&Distances::of(&round).await?, round.updates.len(), malicious);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&one, &other| scores[one].total_cmp(&scores[other]));
    order.truncate(keep);
    // The sums of the mean run in the order of the sites, not in that of the scores.
    order.sort_unstable();
    let kept = order.into_iter().map(|site| round.updates[site]).collect();
    let kept = Round { global, updates: kept };
    Ok(Aggregated::new(mean(&kept, Weighting::Equal).await?))
}

/// For each site the sum of the squared distances to its nearest neighbours.
fn scores(distances: &Distances, sites: usize, malicious: usize) -> Vec<f64> {
    let score = |site: usize| {
        let others = (0..sites).filter(|&other| other != site);
        let mut squares: Vec<f64> = others.map(|other| distances.between(site, other)).collect();
        squares.sort_by(f64::total_cmp);
        squares.iter().take(sites - malicious - 2).sum()
    };
    (0..sites).map(score).collect()
}
