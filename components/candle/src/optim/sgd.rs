//! Stochastic gradient descent with momentum.

use super::{Optimizer, OptimizerState, optimizer::check};
use candle_core::{Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::Result;

/// Stochastic gradient descent with momentum.
///
/// With gradient `g`, learning rate `η`, momentum `μ` and a buffer `b` that starts at 0:
///
/// ```text
/// b ← μ b + (g + λ θ)
/// θ ← θ - η b
/// ```
///
/// Source: the formula of `torch.optim.SGD` (without dampening), a form of B. Polyak, "Some methods
/// of speeding up the convergence of iteration methods", 1964.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// η, the length of a step; above 0.
    pub learning_rate: f64,
    /// μ, how much of the last step is kept; from 0 to below 1. With 0 no state is kept.
    pub momentum: f64,
    /// λ, the weight of the squared norm of the parameters in the loss, halved; at least 0.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { learning_rate: 1e-2, momentum: 0.0, weight_decay: 0.0 }
    }
}

#[typetag::serde(name = "candle.Sgd")]
impl Optimizer for Sgd {
    fn update(
        &self,
        state: &mut OptimizerState,
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        factor: f64,
    ) -> Result<()> {
        check("Sgd", "learning_rate", self.learning_rate, "above 0", self.learning_rate > 0.0)?;
        check(
            "Sgd",
            "momentum",
            self.momentum,
            "at least 0 and below 1",
            (0.0..1.0).contains(&self.momentum),
        )?;
        check("Sgd", "weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0.0)?;

        let rate = (self.learning_rate * factor) as f32;
        let (momentum, decay) = (self.momentum as f32, self.weight_decay as f32);
        if self.momentum == 0.0 {
            return state.each_parameter([], params, grads, |values, gradient, []| {
                for (value, &g) in values.iter_mut().zip(gradient) {
                    *value -= rate * (g + decay * *value);
                }
            });
        }
        state.each_parameter(["b"], params, grads, |values, gradient, [buffer]| {
            for ((value, &g), b) in values.iter_mut().zip(gradient).zip(buffer) {
                *b = momentum * *b + (g + decay * *value);
                *value -= rate * *b;
            }
        })
    }
}
