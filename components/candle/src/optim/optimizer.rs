//! The trait of optimizers, and what they share.

use super::OptimizerState;
use candle_core::{Var, backprop::GradStore};
use std::{collections::BTreeMap, fmt::Debug};
use superduper::{Error, Result};

/// A rule that moves parameters along their gradients.
///
/// `Box<dyn Optimizer>` can be a field of a component. An optimizer of your own is a struct that
/// derives `Debug`, `Serialize` and `Deserialize`, with a name that no other optimizer has:
///
/// ```
/// use candle_core::{Var, backprop::GradStore};
/// use serde::{Deserialize, Serialize};
/// use std::collections::BTreeMap;
/// use superduper_candle::{Optimizer, OptimizerState};
///
/// /// Moves each parameter by a fixed length.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct SignDescent {
///     learning_rate: f64,
/// }
///
/// #[typetag::serde(name = "my_crate.SignDescent")]
/// impl Optimizer for SignDescent {
///     fn update(&self, state: &mut OptimizerState, params: &BTreeMap<String, Var>, grads: &GradStore, factor: f64) -> superduper::Result<()> {
///         let length = (self.learning_rate * factor) as f32;
///         state.each_parameter([], params, grads, |values, gradient, []| {
///             for (value, slope) in values.iter_mut().zip(gradient) {
///                 *value -= length * slope.signum();
///             }
///         })
///     }
/// }
///
/// let optimizer: Box<dyn Optimizer> = serde_json::from_str(r#"{"type": "my_crate.SignDescent", "learning_rate": 0.1}"#)?;
/// let x = Var::new(&[3_f32, -2.0], &candle_core::Device::Cpu)?;
/// let grads = x.sqr()?.sum_all()?.backward()?;
/// optimizer.step(&mut optimizer.init(), &BTreeMap::from([("x".to_owned(), x.clone())]), &grads, 1.0)?;
/// assert_eq!(x.to_vec1::<f32>()?, [2.9, -1.9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait Optimizer: Debug + Send + Sync {
    /// The state before the first step.
    fn init(&self) -> OptimizerState {
        OptimizerState::default()
    }

    /// Move the parameters once. The learning rate is multiplied by `factor`, see
    /// [`crate::Schedule`].
    ///
    /// [`OptimizerState::step`] is the number of steps taken before this one.
    ///
    /// # Errors
    /// `InvalidInput` for a setting outside its range or a state that belongs to other parameters.
    /// The parameters may then have been moved in part.
    fn update(
        &self,
        state: &mut OptimizerState,
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        factor: f64,
    ) -> Result<()>;

    /// Do one [`update`](Optimizer::update) and count it. Parameters without a gradient stay as
    /// they are.
    ///
    /// # Errors
    /// Those of `update`; the step is then not counted.
    fn step(
        &self,
        state: &mut OptimizerState,
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        factor: f64,
    ) -> Result<()> {
        self.update(state, params, grads, factor)?;
        state.advance();
        Ok(())
    }
}

/// Refuse a setting that is not in its range; `range` is how the range reads.
pub(super) fn check(
    optimizer: &str,
    setting: &str,
    value: f64,
    range: &str,
    inside: bool,
) -> Result<()> {
    if inside && value.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("{optimizer}: `{setting}` must be {range}, not {value}")).fatal())
}
