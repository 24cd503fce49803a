//! What an optimizer remembers between steps.
//!
//! Moments are named `slot.parameter`, such as `m.l1.weight`, and have the shape of their
//! parameter. The state is plain data; only [`OptimizerState::each_parameter`] touches candle,
//! through an in-place operation, because the values of a `Var` cannot be borrowed otherwise.

use crate::{array::Array, weights::Weights};
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Var, backprop::GradStore};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, collections::BTreeMap};
use superduper::{Error, Result, ResultExt};

/// The steps taken and the moments of an optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimizerState {
    step: u64,
    moments: Weights,
}

impl OptimizerState {
    /// The state of a training that was saved.
    pub fn new(step: u64, moments: Weights) -> Self {
        OptimizerState { step, moments }
    }

    /// The number of steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The moments by name.
    pub fn moments(&self) -> &Weights {
        &self.moments
    }

    pub(super) fn advance(&mut self) {
        self.step += 1;
    }

    /// Call `change(values, gradient, moments)` for each parameter that has a gradient, in the
    /// order of the names.
    ///
    /// The slices have the same length and are in row-major order. There is one moment per slot,
    /// zero at the first step.
    ///
    /// # Errors
    /// `InvalidInput` for a moment or gradient of another shape than its parameter, or a parameter
    /// that is not f32.
    pub fn each_parameter<const N: usize>(
        &mut self,
        slots: [&str; N],
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        mut change: impl FnMut(&mut [f32], &[f32], [&mut [f32]; N]),
    ) -> Result<()> {
        for (name, var) in params {
            let Some(gradient) = grads.get(var) else { continue };
            if var.dtype() != DType::F32 || gradient.dims() != var.dims() {
                return Err(Error::invalid(format!(
                    "parameter `{name}` is {:?} of shape {:?}, its gradient of shape {:?}; optimizers need f32 and equal shapes",
                    var.dtype(),
                    var.dims(),
                    gradient.dims()
                )));
            }
            let keys = slots.map(|slot| format!("{slot}.{name}"));
            for key in &keys {
                if let Some(moment) =
                    self.moments.get(key).filter(|moment| moment.shape() != var.dims())
                {
                    return Err(Error::invalid(format!(
                        "moment `{key}` has shape {:?}, its parameter has shape {:?}",
                        moment.shape(),
                        var.dims()
                    ))
                    .fatal());
                }
            }
            let mut moments = keys
                .each_ref()
                .map(|key| self.moments.remove(key).unwrap_or_else(|| Array::zeros(var.dims())));
            // Gradients of transposed factors are strided.
            let done = gradient.contiguous().and_then(|gradient| {
                let apply = RefCell::new(|values: &mut [f32], gradient: &[f32]| {
                    change(values, gradient, moments.each_mut().map(Array::data_mut));
                });
                var.inplace_op2(&gradient, &Change(apply))
            });
            for (key, moment) in keys.into_iter().zip(moments) {
                self.moments.insert(key, moment);
            }
            done.context(format_args!("update of parameter `{name}`"))?;
        }
        Ok(())
    }
}

/// Gives a closure the values of a parameter and of its gradient.
struct Change<F>(RefCell<F>);

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp2 for Change<F> {
    fn name(&self) -> &'static str {
        "optimizer-update"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        slope: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), CpuStorage::F32(gradient)) = (values, gradient) else {
            candle_core::bail!("an optimizer needs f32 parameters and gradients");
        };
        let (Some((from, to)), Some((slope_from, slope_to))) =
            (layout.contiguous_offsets(), slope.contiguous_offsets())
        else {
            candle_core::bail!("an optimizer needs contiguous parameters and gradients");
        };
        (self.0.borrow_mut())(&mut values[from..to], &gradient[slope_from..slope_to]);
        Ok(())
    }
}
