//! Named parameters: their values at the start, and whether given ones fit a model.
//!
//! A value at the start depends on nothing but the seed, the parameter's name and its shape.

use crate::{
    Rng,
    weights::{Array, Weights},
};
use candle_core::Var;
use std::collections::BTreeMap;
use superduper::{Error, Result};

/// Random parameters of these shapes, named `layer.weight` and `layer.bias`.
///
/// Weights and biases of a layer whose units have `n` inputs are uniform in `±1/√n`, as in PyTorch's
/// `torch.nn.Linear` and `torch.nn.Conv2d`, a form of Y. LeCun et al., "Efficient BackProp", 1998, section 4.6.
pub(crate) fn init(shapes: &BTreeMap<String, Vec<usize>>, seed: u64) -> Result<Weights> {
    let mut weights = Weights::new();
    for (name, shape) in shapes {
        let layer = name.split('.').next().unwrap_or_default();
        let inputs: usize = shapes.get(&format!("{layer}.weight")).map_or(1, |shape| shape[1..].iter().product());
        let bound = 1.0 / (inputs as f32).sqrt();
        let mut rng = Rng::named(seed, name);
        let data = (0..shape.iter().product()).map(|_| bound * (2.0 * rng.uniform() - 1.0)).collect();
        weights.insert(name, Array::new(shape.clone(), data)?);
    }
    Ok(weights)
}

/// Refuse parameters that are missing, too many, or of another shape.
pub(crate) fn check(shapes: &BTreeMap<String, Vec<usize>>, params: &BTreeMap<String, Var>) -> Result<()> {
    for (name, shape) in shapes {
        let var = params.get(name).ok_or_else(|| Error::invalid(format!("parameter `{name}` of shape {shape:?} is missing")))?;
        if var.dims() != shape {
            return Err(Error::invalid(format!("parameter `{name}` has shape {:?}, the model needs {shape:?}", var.dims())));
        }
    }
    match params.keys().find(|name| !shapes.contains_key(*name)) {
        Some(name) => Err(Error::invalid(format!("the model has no parameter `{name}`"))),
        None => Ok(()),
    }
}
