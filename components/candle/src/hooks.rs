//! What is done to gradients between the backward pass and the optimizer's step.
//!
//! A hook is configuration, as an optimizer is: it keeps nothing between steps, so a training that
//! continues needs nothing of it.

use candle_core::{DType, Tensor, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Debug};
use superduper::{Error, ErrorKind, Result, ResultExt};

/// Changes gradients before the optimizer's step.
///
/// `Vec<Box<dyn GradientHook>>` can be a field of a component. A hook of your own is a struct that
/// derives `Debug`, `Serialize` and `Deserialize`, with a name that no other hook has:
///
/// ```
/// use candle_core::{Var, backprop::GradStore};
/// use serde::{Deserialize, Serialize};
/// use std::collections::BTreeMap;
/// use superduper_candle::GradientHook;
///
/// /// Trains nothing below a layer.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Freeze {
///     below: String,
/// }
///
/// #[typetag::serde(name = "my_crate.Freeze")]
/// impl GradientHook for Freeze {
///     fn change(&self, _step: u64, params: &BTreeMap<String, Var>, grads: &mut GradStore) -> superduper::Result<()> {
///         for (_, var) in params.range(..self.below.clone()) {
///             grads.remove(var);
///         }
///         Ok(())
///     }
/// }
///
/// let hook: Box<dyn GradientHook> = serde_json::from_str(r#"{"type": "my_crate.Freeze", "below": "l2"}"#)?;
/// let params = BTreeMap::from(["l1.bias", "l2.bias"].map(|name| (name.to_owned(), Var::new(&[1_f32], &candle_core::Device::Cpu).unwrap())));
/// let mut grads = (params["l1.bias"].as_tensor() * params["l2.bias"].as_tensor())?.sum_all()?.backward()?;
/// hook.change(0, &params, &mut grads)?;
/// assert!(grads.get(&params["l1.bias"]).is_none() && grads.get(&params["l2.bias"]).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait GradientHook: Debug + Send + Sync {
    /// Change the gradients of the step that is about to be taken, counted from 0. They are the
    /// mean over all rows of the step, also where it takes several parts
    /// ([`TrainLoop::accumulate`](crate::TrainLoop::accumulate)).
    ///
    /// # Errors
    /// Those of the hook; they end the training.
    fn change(
        &self,
        step: u64,
        params: &BTreeMap<String, Var>,
        grads: &mut GradStore,
    ) -> Result<()>;
}

/// Limits the norm of all gradients together: where `‖g‖ > max`, `g ← g · max / ‖g‖`.
///
/// Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
/// networks", ICML 2013, algorithm 1, over all parameters at once as in
/// `torch.nn.utils.clip_grad_norm_`.
///
/// ```
/// use superduper_candle::{ClipNorm, GradientHook};
///
/// let hook: Box<dyn GradientHook> = serde_json::from_str(r#"{"type": "candle.ClipNorm", "max": 1.0}"#)?;
/// assert_eq!(format!("{hook:?}"), format!("{:?}", ClipNorm { max: 1.0 }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipNorm {
    /// The largest norm; above 0.
    pub max: f64,
}

#[typetag::serde(name = "candle.ClipNorm")]
impl GradientHook for ClipNorm {
    fn change(
        &self,
        _step: u64,
        params: &BTreeMap<String, Var>,
        grads: &mut GradStore,
    ) -> Result<()> {
        if !(self.max > 0.0 && self.max.is_finite()) {
            return Err(Error::invalid(format!(
                "ClipNorm: `max` must be above 0, not {}",
                self.max
            ))
            .fatal());
        }
        let mut squares = 0.0;
        for (name, var) in params {
            let Some(gradient) = grads.get(var) else { continue };
            squares +=
                square(gradient).context(format_args!("norm of the gradient of `{name}`"))?;
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(Error::new(
                ErrorKind::User,
                format!("the norm of the gradients is {norm}"),
            )
            .with_hint("lower the learning rate")
            .fatal());
        }
        if norm <= self.max {
            return Ok(());
        }
        for (name, var) in params {
            let Some(gradient) = grads.remove(var) else { continue };
            let clipped = gradient
                .affine(self.max / norm, 0.0)
                .context(format_args!("clipping of the gradient of `{name}`"))?;
            grads.insert(var, clipped);
        }
        Ok(())
    }
}

/// The sum of the squares of a tensor.
fn square(tensor: &Tensor) -> candle_core::Result<f64> {
    let sum: f64 = tensor.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar()?;
    // Squares of large gradients, which are those to be clipped, may be too large for f32.
    if sum.is_finite() {
        Ok(sum)
    } else {
        tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Two parameters with the gradients (3, 0) and (0, 4, 12): together of norm 13.
    fn problem() -> (BTreeMap<String, Var>, GradStore) {
        let var = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        let params = BTreeMap::from([
            ("a".to_owned(), var(&[1.0, 1.0])),
            ("b".to_owned(), var(&[1.0, 1.0, 1.0])),
        ]);
        let slope = |name: &str, slope: &[f32]| {
            (params[name].as_tensor() * Tensor::new(slope, &Device::Cpu).unwrap())
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let loss = (slope("a", &[3.0, 0.0]) + slope("b", &[0.0, 4.0, 12.0])).unwrap();
        (params, loss.backward().unwrap())
    }

    fn gradient(name: &str, (params, grads): &(BTreeMap<String, Var>, GradStore)) -> Vec<f32> {
        grads.get(&params[name]).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gradients_are_clipped_to_their_common_norm() -> Result<()> {
        let mut short = problem();
        ClipNorm { max: 13.0 }.change(0, &short.0, &mut short.1)?;
        assert_eq!(
            (gradient("a", &short), gradient("b", &short)),
            (vec![3.0, 0.0], vec![0.0, 4.0, 12.0]),
            "of just that norm"
        );
        // 6.5 is half of 13.
        ClipNorm { max: 6.5 }.change(0, &short.0, &mut short.1)?;
        assert_eq!(
            (gradient("a", &short), gradient("b", &short)),
            (vec![1.5, 0.0], vec![0.0, 2.0, 6.0])
        );
        Ok(())
    }

    #[test]
    fn gradients_whose_squares_are_too_large_are_clipped() -> Result<()> {
        let (params, mut grads) = problem();
        grads.insert(&params["a"], Tensor::new(&[3e30_f32, -4e30], &Device::Cpu).unwrap());
        ClipNorm { max: 1.0 }.change(0, &params, &mut grads)?;
        let clipped = gradient("a", &(params, grads));
        assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] + 0.8).abs() < 1e-6, "{clipped:?}");
        Ok(())
    }

    #[test]
    fn what_cannot_be_clipped_is_refused() {
        let (params, mut grads) = problem();
        let error = ClipNorm { max: 0.0 }.change(0, &params, &mut grads).unwrap_err();
        assert_eq!(error.to_string(), "ClipNorm: `max` must be above 0, not 0");
        grads.insert(&params["a"], Tensor::new(&[f32::INFINITY, 0.0], &Device::Cpu).unwrap());
        let error = ClipNorm { max: 1.0 }.change(0, &params, &mut grads).unwrap_err();
        assert!(
            error.is_fatal() && error.to_string().starts_with("the norm of the gradients is inf"),
            "{error}"
        );
    }
}
