//! The trait of filters.

use crate::Update;
use std::fmt::Debug;
use superduper::{BoxFuture, Error, Result, Tensors};

/// What is done to an update before it leaves its site.
///
/// `Box<dyn Filter>` can be a field of a component. A filter of your own is a struct that derives
/// `Debug`, `Serialize` and `Deserialize`, with a name that no other filter has:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use superduper_federated::{Filter, Update};
/// use superduper::{BoxFuture, Result, Tensors};
///
/// /// Does not tell how many samples a site has.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct EqualSamples {}
///
/// #[typetag::serde(name = "my_crate.EqualSamples")]
/// impl Filter for EqualSamples {
///     fn name(&self) -> &'static str {
///         "EqualSamples"
///     }
///     fn check(&self) -> Result<()> {
///         Ok(())
///     }
///     fn apply<'a>(
///         &'a self,
///         _round: u64,
///         _global: &'a Tensors,
///         update: Update,
///         _seed: u64,
///     ) -> BoxFuture<'a, Result<Update>> {
///         Box::pin(async move { Ok(Update { samples: 1, ..update }) })
///     }
/// }
///
/// let filter: Box<dyn Filter> = serde_json::from_str(r#"{"type": "my_crate.EqualSamples"}"#)?;
/// assert_eq!(filter.name(), "EqualSamples");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait Filter: crate::HasClass + Debug + Send + Sync {
    /// The name of the filter, for people.
    fn name(&self) -> &'static str;

    /// Whether the server sees no single update any more, only what they add up to. A strategy
    /// that [needs them](crate::Strategy::needs_single_updates) cannot work behind such a filter.
    fn hides_single_updates(&self) -> bool {
        false
    }

    /// Refuse settings outside of their ranges.
    ///
    /// # Errors
    /// `InvalidInput` that says how to mend it.
    fn check(&self) -> Result<()>;

    /// Change an update that was learned from `global` in this round, which counts from 0.
    ///
    /// # Guarantees
    /// Names, shapes and types of the tensors stay as they are. The result is a function of the
    /// arguments: a repeated attempt gives equal bytes.
    ///
    /// # Errors
    /// `InvalidInput` for an update that does not fit the global model; those of [`Tensors::get`].
    fn apply<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        update: Update,
        seed: u64,
    ) -> BoxFuture<'a, Result<Update>>;
}

/// Apply filters, one after the other.
///
/// # Errors
/// Those of the filters, with the name of the filter before them.
pub async fn apply_filters(
    filters: &[Box<dyn Filter>],
    round: u64,
    global: &Tensors,
    mut update: Update,
    seed: u64,
) -> Result<Update> {
    for filter in filters {
        let named = |error: Error| error.context(format_args!("filter {}", filter.name()));
        update = filter.apply(round, global, update, seed).await.map_err(named)?;
    }
    Ok(update)
}
