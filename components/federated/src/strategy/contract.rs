//! The trait of strategies.

use crate::Update;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use superduper::{BoxFuture, Result, Tensors};

/// What sites are to do differently for a strategy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// The factor `mu` of the proximal term `mu / 2 * ||w - w_global||²` that sites add to their
    /// loss; 0 for none. See [`FedProx`](crate::FedProx).
    pub proximal_mu: f64,
    /// After how many rounds the models of the sites are aggregated; in the rounds between, a site
    /// goes on with the model of another site. 0 for none. See [`FedDC`](crate::FedDC).
    pub daisy_chain_period: u64,
}

/// How the updates of a round become the next global model.
///
/// `Box<dyn Strategy>` can be a field of a component. A strategy of your own is a struct that
/// derives `Debug`, `Serialize` and `Deserialize`, with a name that no other strategy has:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use superduper_federated::{Aggregated, Strategy, Update};
/// use superduper::{BoxFuture, Error, Result, Tensors};
///
/// /// Takes the model of the site with the most samples.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Largest {}
///
/// #[typetag::serde(name = "my_crate.Largest")]
/// impl Strategy for Largest {
///     fn name(&self) -> &'static str {
///         "Largest"
///     }
///     fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
///         Ok(())
///     }
///     fn aggregate<'a>(
///         &'a self,
///         _round: u64,
///         _global: &'a Tensors,
///         _state: &'a Tensors,
///         updates: &'a [Update],
///     ) -> BoxFuture<'a, Result<Aggregated>> {
///         Box::pin(async move {
///             let largest = updates.iter().max_by_key(|update| (update.samples, &update.site));
///             let largest = largest.ok_or_else(|| Error::invalid("no site has answered"))?;
///             Ok(Aggregated::new(largest.tensors.clone()))
///         })
///     }
/// }
///
/// let strategy: Box<dyn Strategy> = serde_json::from_str(r#"{"type": "my_crate.Largest"}"#)?;
/// assert_eq!(strategy.name(), "Largest");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait Strategy: crate::HasClass + Debug + Send + Sync {
    /// The name of the strategy, for people.
    fn name(&self) -> &'static str;

    /// Refuse settings outside of their ranges, and those that cannot work with this number of
    /// sites or with the least number of replies that ends a round.
    ///
    /// # Errors
    /// `InvalidInput` that says how to mend it.
    fn check(&self, sites: usize, min_clients: usize) -> Result<()>;

    /// Whether the strategy compares the updates of single sites. Such a strategy cannot work
    /// behind a filter that [hides them](crate::Filter::hides_single_updates).
    fn needs_single_updates(&self) -> bool {
        false
    }

    /// What sites are to do differently.
    fn client(&self) -> ClientSettings {
        ClientSettings::default()
    }

    /// Make the global model of the next round.
    ///
    /// `round` counts from 0. `state` is what the round before gave; it is empty in round 0.
    ///
    /// # Guarantees
    /// The strategies of this crate give equal bits for every order of `updates`. The type and the
    /// shape of each tensor stay as they are. Of integers and booleans the largest value of the
    /// sites is taken, element by element: counters, such as those of batch normalization, count
    /// the most that a site has seen.
    ///
    /// # Assumptions
    /// Each update passed [`Update::check`].
    ///
    /// # Errors
    /// `InvalidInput` where there are no updates, two of one site, or tensors other than those of
    /// the global model; those of [`Tensors::get`].
    fn aggregate<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>>;
}

/// What a strategy makes of the updates of a round.
#[derive(Debug, Clone)]
pub struct Aggregated {
    /// The weights of the next global model.
    pub weights: Tensors,
    /// What the strategy needs in the next round; empty for most.
    pub state: Tensors,
}

impl Aggregated {
    /// These weights, without a state.
    pub fn new(weights: Tensors) -> Self {
        Aggregated { weights, state: Tensors::new() }
    }
}
