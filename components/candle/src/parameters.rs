//! Named parameters: their values at the start, and whether given ones fit a model.
//!
//! A value at the start depends on nothing but the seed, the parameter's name and its shape.

use crate::{
    Rng,
    array::Array,
    weights::{Weights, is_counter},
};
use candle_core::{DType, Var};
use std::collections::BTreeMap;
use superduper::{Error, Result};

/// Parameters of these shapes as they are at the start, named `layer.weight` and `layer.bias`.
///
/// Weights and biases of a layer whose units have `n` inputs are uniform in `±1/√n`, as in
/// PyTorch's `torch.nn.Linear` and `torch.nn.Conv2d`, a form of Y. LeCun et al., "Efficient
/// BackProp", 1998, section 4.6. A layer with `layer.running_mean` is a batch norm: weight and
/// running variance are 1, the rest is 0.
pub(crate) fn init(shapes: &BTreeMap<String, Vec<usize>>, seed: u64) -> Result<Weights> {
    let mut weights = Weights::new();
    for (name, shape) in shapes {
        let layer = name.split('.').next().unwrap_or_default();
        if let Some(constant) = of_norm(shapes, layer, name) {
            let count = shape.iter().product();
            if is_counter(name) {
                weights.insert_integers(name, Array::new(shape.clone(), vec![0; count])?);
            } else {
                weights.insert(name, Array::new(shape.clone(), vec![constant; count])?);
            }
            continue;
        }
        let inputs: usize =
            shapes.get(&format!("{layer}.weight")).map_or(1, |shape| shape[1..].iter().product());
        let bound = 1.0 / (inputs as f32).sqrt();
        let mut rng = Rng::named(seed, name);
        let data =
            (0..shape.iter().product()).map(|_| bound * (2.0 * rng.uniform() - 1.0)).collect();
        weights.insert(name, Array::new(shape.clone(), data)?);
    }
    Ok(weights)
}

/// The value at the start of a parameter of a batch norm; `None` for that of another layer.
fn of_norm(shapes: &BTreeMap<String, Vec<usize>>, layer: &str, name: &str) -> Option<f32> {
    shapes.contains_key(&format!("{layer}.running_mean")).then(|| {
        let one = name.ends_with(".weight") || name.ends_with(".running_var");
        if one { 1.0 } else { 0.0 }
    })
}

/// Refuse parameters that are missing, too many, or of another shape; and a counter that is no
/// integer, or another parameter that is one.
pub(crate) fn check(
    shapes: &BTreeMap<String, Vec<usize>>,
    params: &BTreeMap<String, Var>,
) -> Result<()> {
    for (name, shape) in shapes {
        let var = params.get(name).ok_or_else(|| {
            Error::invalid(format!("parameter `{name}` of shape {shape:?} is missing"))
        })?;
        if var.dims() != shape {
            return Err(Error::invalid(format!(
                "parameter `{name}` has shape {:?}, the model needs {shape:?}",
                var.dims()
            )));
        }
        if is_counter(name) != (var.dtype() == DType::I64) {
            let needed = if is_counter(name) { "an integer" } else { "a floating-point number" };
            return Err(Error::invalid(format!(
                "parameter `{name}` is {:?}, the model needs {needed}",
                var.dtype()
            )));
        }
    }
    match params.keys().find(|name| !shapes.contains_key(*name)) {
        Some(name) => Err(Error::invalid(format!("the model has no parameter `{name}`"))),
        None => Ok(()),
    }
}
