//! What a site answers in a round, and whether it fits the model.

use crate::numeric::{compute, first_not_finite};
use superduper::{Error, Result, Tensors};

/// How errors name the tensors that those of a site are compared with.
pub(crate) const GLOBAL: &str = "the global model";

/// What a site answers in a round.
#[derive(Debug, Clone)]
pub struct Update {
    /// The identifier of the site.
    pub site: String,
    /// The number of samples that the site learned from in this round.
    pub samples: u64,
    /// The weights of the site: named, shaped and typed as those of the global model.
    pub tensors: Tensors,
}

impl Update {
    /// What this site answers.
    pub fn new(site: impl Into<String>, samples: u64, tensors: Tensors) -> Self {
        Update { site: site.into(), samples, tensors }
    }

    /// Refuse what cannot be aggregated: tensors that are not those of the global model, and floats
    /// that are NaN or infinite.
    ///
    /// # Errors
    /// `InvalidInput` that names the site and the tensor, and the index of the first element that
    /// is not finite, counted row by row from 0; those of [`Tensors::get`].
    pub async fn check(&self, global: &Tensors) -> Result<()> {
        self.check_layout(global, GLOBAL)?;
        self.check_finite().await
    }

    /// Refuse names, shapes and types that are not those of the global model. Reads no tensor.
    pub(crate) fn check_global_layout(&self, global: &Tensors) -> Result<()> {
        self.check_layout(global, GLOBAL)
    }

    /// Refuse floats that are NaN or infinite.
    pub(crate) async fn check_finite(&self) -> Result<()> {
        for name in self.tensors.names() {
            let tensor = self.tensors.get(name).await.map_err(|error| self.at(name, error))?;
            let work = move || first_not_finite(tensor.info.dtype, &tensor.bytes);
            let size = self.tensors.info(name).and_then(|info| info.size()).unwrap_or_default();
            if let Some((index, value)) = compute(size, work).await? {
                let text = format!("element {index} is {value}");
                return Err(self.at(name, Error::invalid(text)).with_hint(
                    "the training of this site diverged: try a lower learning rate or clipping",
                ));
            }
        }
        Ok(())
    }

    /// Refuse names, shapes and types that are not those of other tensors, which `others` names.
    /// Reads no tensor.
    pub(crate) fn check_layout(&self, wanted: &Tensors, others: &str) -> Result<()> {
        check_same_layout(&format!("site `{}`", self.site), &self.tensors, wanted, others)
    }

    /// An error about a tensor of this site.
    pub(crate) fn at(&self, name: &str, error: Error) -> Error {
        error.context(format_args!("site `{}`, tensor `{name}`", self.site))
    }
}

/// Refuse names, shapes and types of tensors that are not those of other tensors; `whose` and
/// `others` name them.
pub(crate) fn check_same_layout(
    whose: &str,
    tensors: &Tensors,
    wanted: &Tensors,
    others: &str,
) -> Result<()> {
    let wrong = |name: &str, text: String| {
        Err(Error::invalid(text)
            .context(format_args!("{whose}, tensor `{name}`"))
            .with_hint(format!("names, shapes and types must be those of {others}")))
    };
    for name in wanted.names() {
        match (tensors.info(name), wanted.info(name)) {
            (Some(found), Some(wanted)) if found != wanted => {
                return wrong(name, format!("it is {found}, that of {others} is {wanted}"));
            }
            (None, _) => return wrong(name, format!("it is missing; {others} has it")),
            _ => {}
        }
    }
    match tensors.names().find(|name| wanted.info(name).is_none()) {
        Some(name) => wrong(name, format!("{others} has no such tensor")),
        None => Ok(()),
    }
}
