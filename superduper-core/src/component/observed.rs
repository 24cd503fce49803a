//! What the outside world looks like, seen from a component.

use crate::{
    encode::Encoded,
    error::{Error, Result},
};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What [`Lifecycle::observe`](crate::Lifecycle::observe) saw.
///
/// ```
/// # use superduper_core as superduper;
/// use superduper::Observed;
///
/// // Two replicas run where the component may declare three.
/// let seen = Observed::present().with("replicas", 2)?;
/// # let _ = seen;
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed(pub(crate) Sight);

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Sight {
    /// The component cannot look.
    #[default]
    Nothing,
    Missing,
    Present(BTreeMap<String, Value>),
}

impl Observed {
    /// The component cannot or does not look; what a type without `observe` says.
    pub fn nothing() -> Self {
        Observed(Sight::Nothing)
    }

    /// What the component stands for does not exist outside.
    pub fn missing() -> Self {
        Observed(Sight::Missing)
    }

    /// It exists; add what was seen of its fields with [`Observed::with`].
    pub fn present() -> Self {
        Observed(Sight::Present(BTreeMap::new()))
    }

    /// A field of the component, by its name in the source, has this value outside.
    ///
    /// # Errors
    /// `Encode` for a value that JSON cannot hold; `InvalidInput` after [`Observed::missing`].
    pub fn with(mut self, field: &str, value: impl Serialize) -> Result<Self> {
        if self.0 == Sight::Nothing {
            self.0 = Sight::Present(BTreeMap::new());
        }
        match &mut self.0 {
            Sight::Present(fields) => {
                fields.insert(field.to_owned(), Encoded::of(&value)?.value);
                Ok(self)
            }
            _ => Err(Error::invalid(format!(
                "field `{field}` cannot be seen on something that is missing"
            ))),
        }
    }
}
