//! Adam with decoupled weight decay.

use super::{Optimizer, OptimizerState, optimizer::check};
use candle_core::{Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::Result;

/// Adam with decoupled weight decay.
///
/// With gradient `g` at step `t`, counted from 1, and learning rate `η`:
///
/// ```text
/// θ ← θ - η λ θ
/// m ← β₁ m + (1 - β₁) g
/// v ← β₂ v + (1 - β₂) g²
/// θ ← θ - η · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)
/// ```
///
/// Source: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
/// algorithm 2, with `η λ` as the decay, as in PyTorch. The defaults are those of PyTorch. All
/// parameters decay, biases too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// η, the length of a step; above 0.
    pub learning_rate: f64,
    /// β₁, how long gradients are remembered; from 0 to below 1.
    pub beta1: f64,
    /// β₂, how long squared gradients are remembered; from 0 to below 1.
    pub beta2: f64,
    /// ε, keeps the divisor away from 0; above 0.
    pub epsilon: f64,
    /// λ, how fast parameters shrink; at least 0.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

#[typetag::serde(name = "candle.AdamW")]
impl Optimizer for AdamW {
    fn update(
        &self,
        state: &mut OptimizerState,
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        factor: f64,
    ) -> Result<()> {
        let range = "at least 0 and below 1";
        check("AdamW", "learning_rate", self.learning_rate, "above 0", self.learning_rate > 0.0)?;
        check("AdamW", "beta1", self.beta1, range, (0.0..1.0).contains(&self.beta1))?;
        check("AdamW", "beta2", self.beta2, range, (0.0..1.0).contains(&self.beta2))?;
        check("AdamW", "epsilon", self.epsilon, "above 0", self.epsilon > 0.0)?;
        check("AdamW", "weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0.0)?;

        let rate = self.learning_rate * factor;
        let t = (state.step() + 1) as f64;
        // Everything that is the same for all values is computed once, in f64.
        let keep = (1.0 - rate * self.weight_decay) as f32;
        let length = (rate / (1.0 - self.beta1.powf(t))) as f32;
        let spread = (1.0 / (1.0 - self.beta2.powf(t)).sqrt()) as f32;
        let (beta1, beta2, epsilon) = (self.beta1 as f32, self.beta2 as f32, self.epsilon as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);

        state.each_parameter(["m", "v"], params, grads, |values, gradient, [m, v]| {
            for (((value, &g), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *value = keep * *value - length * *m / (v.sqrt() * spread + epsilon);
            }
        })
    }
}
