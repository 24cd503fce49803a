//! A pull towards given parameters while others are learned.

use crate::weights::{Weights, is_buffer};
use candle_core::{Tensor, Var, backprop::GradStore};
use std::collections::BTreeMap;
use superduper::{Error, Result, ResultExt};

/// Parameters that a training is to stay close to.
///
/// With parameters `w` and the anchor `a` the loss of each step gets the term `μ/2 · ‖w - a‖²`,
/// so `μ (w - a)` is added to the gradients. Buffers have no part in it, see [`is_buffer`].
///
/// Source: T. Li et al., "Federated Optimization in Heterogeneous Networks" (FedProx), MLSys 2020,
/// arXiv 1812.06127, equation 2.
///
/// ```
/// use superduper_candle::{
///     Anchor, Architecture, Optimizer, Sgd, Table, TrainLoop, go_on,
/// };
///
/// let network = Architecture::Linear { inputs: 1 }.init(7)?;
/// let global = network.weights()?;
/// let rows = Table::of_values(1, vec![-1.0, 0.0, 1.0], vec![-3.0, 0.0, 3.0])?;
/// let optimizer = Sgd { learning_rate: 0.1, ..Sgd::default() };
/// let anchor = Some(Anchor { mu: 0.5, weights: &global });
/// let training = TrainLoop { epochs: 5, anchor, ..TrainLoop::default() };
/// training.run(&network, &rows, &optimizer, &mut optimizer.init(), |_| go_on())?;
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a> {
    /// μ, how strong the pull is; at least 0. With 0 the training is the one without an anchor, bit
    /// by bit.
    pub mu: f64,
    /// a, the parameters to stay close to: those of the model, by name and shape.
    pub weights: &'a Weights,
}

/// An anchor of a model, ready to pull.
pub(crate) struct Pull {
    mu: f64,
    anchor: BTreeMap<String, Tensor>,
}

impl Pull {
    /// `None` for an anchor that does not pull.
    pub(crate) fn new(anchor: &Anchor<'_>, params: &BTreeMap<String, Var>) -> Result<Option<Self>> {
        let Anchor { mu, weights } = *anchor;
        if !(mu >= 0.0 && mu.is_finite()) {
            return Err(
                Error::invalid(format!("the `mu` of an anchor is at least 0, not {mu}")).fatal()
            );
        }
        weights.check_finite().map_err(|error| error.context("anchor"))?;
        let mut tensors = BTreeMap::new();
        for (name, var) in params.iter().filter(|(name, _)| !is_buffer(name)) {
            let array = weights.get(name).ok_or_else(|| {
                Error::invalid(format!("the anchor has no values for parameter `{name}`"))
            })?;
            if array.shape() != var.dims() {
                let (found, needed) = (array.shape(), var.dims());
                return Err(Error::invalid(format!(
                    "the anchor of parameter `{name}` has shape {found:?}, the model needs {needed:?}"
                )));
            }
            let tensor = array
                .to_tensor()?
                .to_dtype(var.dtype())
                .context(format_args!("anchor of `{name}`"))?;
            tensors.insert(name.clone(), tensor);
        }
        if let Some((name, _)) = weights.iter().find(|(name, _)| !params.contains_key(*name)) {
            return Err(
                Error::invalid(format!("the model has no parameter `{name}`")).context("anchor")
            );
        }
        Ok((mu > 0.0).then_some(Pull { mu, anchor: tensors }))
    }

    /// Add `μ (w - a)` to the gradients; gives `μ/2 · ‖w - a‖²`. A parameter without a gradient is
    /// not trained, and not pulled.
    pub(crate) fn apply(
        &self,
        params: &BTreeMap<String, Var>,
        grads: &mut GradStore,
    ) -> Result<f64> {
        let mut squares = 0.0;
        for (name, anchor) in &self.anchor {
            let Some(var) = params.get(name) else { continue };
            let Some(gradient) = grads.remove(var) else { continue };
            let mut pull = || {
                let away = var.as_detached_tensor().sub(anchor)?;
                squares +=
                    away.sqr()?.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
                gradient.add(&away.affine(self.mu, 0.0)?)
            };
            let pulled = pull().context(format_args!("pull of `{name}` to its anchor"))?;
            grads.insert(var, pulled);
        }
        Ok(self.mu / 2.0 * squares)
    }
}
