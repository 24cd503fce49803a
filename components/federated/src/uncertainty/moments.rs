//! The first two moments of weights, of a site and of all sites together.

use crate::{
    strategy::{Round, Weighting, mean},
    update::Update,
};
use superduper::{Error, Result, Tensors};

/// The mean of weights over steps of a training, and the mean of their squares.
///
/// Both have the same names, shapes and types. `F32` or `F64` is needed for a small variance:
/// it is the difference of two numbers that are nearly equal.
#[derive(Debug, Clone)]
pub struct Moments {
    /// The mean of each element.
    pub mean: Tensors,
    /// The mean of the square of each element.
    pub square: Tensors,
}

/// The moments that a site answers.
#[derive(Debug, Clone)]
pub struct MomentUpdate {
    /// The identifier of the site.
    pub site: String,
    /// The number of samples that the site learned from.
    pub samples: u64,
    /// Its moments.
    pub moments: Moments,
}

impl MomentUpdate {
    /// What this site answers.
    pub fn new(site: impl Into<String>, samples: u64, moments: Moments) -> Self {
        MomentUpdate { site: site.into(), samples, moments }
    }
}

impl Moments {
    /// The moments of all sites together: the means of both, weighted by samples.
    ///
    /// Source: Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning", 2019,
    /// arXiv:1902.02476, section 3.2, for the moments.
    ///
    /// # Guarantees
    /// Equal bits for every order of `updates`.
    ///
    /// # Errors
    /// `InvalidInput` where there are no updates, two of one site, no sample at all, a float that
    /// is NaN or infinite, or where names, shapes or types of two sites, or of the two moments of
    /// one, differ: the text names site and tensor. Those of [`Tensors::get`].
    pub async fn merge(updates: &[MomentUpdate]) -> Result<Moments> {
        let Some(first) = updates.iter().min_by(|one, other| one.site.cmp(&other.site)) else {
            return Err(Error::invalid("there are no moments to merge"));
        };
        let wanted = &first.moments.mean;
        let others = format!("the first moment of site `{}`", first.site);
        let merged = async |moment: fn(&Moments) -> &Tensors, which: &str| {
            let named = |error: Error| error.context(which);
            let of = |update: &MomentUpdate| {
                Update::new(&*update.site, update.samples, moment(&update.moments).clone())
            };
            let updates: Vec<Update> = updates.iter().map(of).collect();
            let round = Round::like(wanted, &others, &updates).map_err(named)?;
            for update in &round.updates {
                update.check_finite().await.map_err(named)?;
            }
            mean(&round, Weighting::Samples).await.map_err(named)
        };
        Ok(Moments {
            mean: merged(|moments| &moments.mean, "first moments").await?,
            square: merged(|moments| &moments.square, "second moments").await?,
        })
    }
}
