//! The gradients of a step: computed part by part, pulled to an anchor, changed by hooks.

use crate::{
    anchor::Pull,
    data::Table,
    hooks::GradientHook,
    mode::Mode,
    model::{Model, not_finite, value},
    optim::{Optimizer, OptimizerState},
};
use candle_core::{Var, backprop::GradStore};
use std::collections::BTreeMap;
use superduper::{Error, Result, ResultExt};

/// What the steps of a training have in common.
pub(crate) struct Learning<'a> {
    /// What is done to the gradients, in this order.
    pub(crate) hooks: &'a [Box<dyn GradientHook>],
    /// The seed of dropout.
    pub(crate) seed: u64,
    /// Rows that are computed at once.
    pub(crate) batch: usize,
    pub(crate) model: &'a dyn Model,
    pub(crate) table: &'a Table,
    pub(crate) optimizer: &'a dyn Optimizer,
    pub(crate) pull: Option<Pull>,
}

impl Learning<'_> {
    /// Move the parameters once; gives the loss from before.
    pub(crate) fn step(
        &self,
        rows: &[usize],
        state: &mut OptimizerState,
        factor: f64,
    ) -> Result<f32> {
        let (mut loss, mut grads) = self.gradients(rows, state.step())?;
        let params = self.model.params();
        if let Some(pull) = &self.pull {
            loss += pull.apply(params, &mut grads)? as f32;
            if !loss.is_finite() {
                return Err(not_finite(&format!("the loss with the pull to the anchor is {loss}")));
            }
        }
        for hook in self.hooks {
            hook.change(state.step(), params, &mut grads)
                .map_err(|error| error.context(format!("{hook:?}")))?;
        }
        self.optimizer.step(state, params, &grads, factor)?;
        Ok(loss)
    }

    /// The mean loss of some rows and its gradients, computed part by part.
    fn gradients(&self, rows: &[usize], step: u64) -> Result<(f32, GradStore)> {
        let Learning { seed, batch, model, table, .. } = *self;
        let mode = |part| Mode::Train { seed, step, part };
        if rows.len() <= batch {
            let loss = model.loss_in(&table.batch(rows)?, mode(0))?;
            return Ok((value(&loss)?, loss.backward().context("gradients")?));
        }
        let mut sum: Option<(f32, GradStore)> = None;
        for (index, part) in rows.chunks(batch).enumerate() {
            // The loss is a mean over the rows of the part; weighted, the parts add up to the mean
            // over all rows.
            let weight = part.len() as f64 / rows.len() as f64;
            let loss = model
                .loss_in(&table.batch(part)?, mode(index as u64))?
                .affine(weight, 0.0)
                .context("loss of a part")?;
            let value = value(&loss)?;
            let grads = loss.backward().context("gradients")?;
            sum = Some(match sum {
                None => (value, grads),
                Some((total, so_far)) => (total + value, add(so_far, grads, model.params())?),
            });
        }
        sum.ok_or_else(|| Error::internal("a step without rows"))
    }
}

/// Add gradients, parameter by parameter.
fn add(
    mut sum: GradStore,
    mut more: GradStore,
    params: &BTreeMap<String, Var>,
) -> Result<GradStore> {
    for (name, var) in params {
        let Some(more) = more.remove(var) else { continue };
        let total = match sum.remove(var) {
            Some(so_far) => {
                (so_far + more).context(format_args!("sum of the gradients of `{name}`"))?
            }
            None => more,
        };
        sum.insert(var, total);
    }
    Ok(sum)
}
