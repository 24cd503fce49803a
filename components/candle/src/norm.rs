//! Batch norm: each channel with mean 0 and variance 1 over the batch, then scaled and shifted.
//!
//! With the values `x` of a channel, `n` of them in the batch:
//!
//! ```text
//! y = γ (x - mean) / √(var + ε) + β,   var = Σ (x - mean)² / n
//! running_mean ← (1 - m) running_mean + m mean
//! running_var  ← (1 - m) running_var  + m var n / (n - 1)
//! ```
//!
//! with `ε` = 1e-5 and `m` = 0.1, as `torch.nn.BatchNorm1d` and `BatchNorm2d`. Source: S. Ioffe and
//! C. Szegedy, "Batch Normalization", ICML 2015, arXiv 1502.03167, algorithms 1 and 2.
//!
//! Invariant: no gradient flows to the running statistics, so no optimizer moves them.

use crate::mode::Mode;
use candle_core::{Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// ε, keeps the divisor away from 0.
const EPSILON: f64 = 1e-5;

/// m, the weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Names and shapes of the tensors of a batch norm: those of PyTorch.
pub(crate) fn parameters(layer: &str, channels: usize) -> [(String, Vec<usize>); 5] {
    [
        (format!("{layer}.weight"), vec![channels]),
        (format!("{layer}.bias"), vec![channels]),
        (format!("{layer}.running_mean"), vec![channels]),
        (format!("{layer}.running_var"), vec![channels]),
        (format!("{layer}.num_batches_tracked"), Vec::new()),
    ]
}

/// The name of the batch norm after a layer.
pub(crate) fn after(layer: &str) -> String {
    format!("{layer}_bn")
}

/// Normalize `x`, whose last dimension is that of the channels.
///
/// A batch with one value per channel has no variance. It is normalized with the running
/// statistics, and does not change them.
pub(crate) fn batch_norm(
    x: &Tensor,
    params: &BTreeMap<String, Var>,
    layer: &str,
    mode: Mode,
) -> Result<Tensor> {
    let param = |name: &str| match params.get(&format!("{layer}.{name}")) {
        Some(var) => Ok(var),
        None => bail!("there is no parameter `{layer}.{name}`"),
    };
    let (weight, bias) = (param("weight")?, param("bias")?);
    let (running_mean, running_var) = (param("running_mean")?, param("running_var")?);
    let channels = weight.dim(0)?;
    let flat = x.reshape(((), channels))?;
    let count = flat.dim(0)?;
    let scaled = if mode.is_train() && count > 1 {
        let mean = flat.mean_keepdim(0)?;
        let centered = flat.broadcast_sub(&mean)?;
        let var = centered.sqr()?.mean_keepdim(0)?;
        let unbiased = count as f64 / (count as f64 - 1.0);
        update(running_mean, &mean.detach().squeeze(0)?)?;
        update(running_var, &var.detach().squeeze(0)?.affine(unbiased, 0.0)?)?;
        let batches = param("num_batches_tracked")?;
        batches.set(&batches.as_detached_tensor().add(&batches.ones_like()?)?)?;
        centered.broadcast_div(&var.affine(1.0, EPSILON)?.sqrt()?)?
    } else {
        let deviation = running_var.as_detached_tensor().affine(1.0, EPSILON)?.sqrt()?;
        flat.broadcast_sub(&running_mean.as_detached_tensor())?.broadcast_div(&deviation)?
    };
    scaled.broadcast_mul(weight)?.broadcast_add(bias)?.reshape(x.shape())
}

/// Move a running statistic towards that of a batch.
fn update(running: &Var, batch: &Tensor) -> Result<()> {
    let kept = running.as_detached_tensor().affine(1.0 - MOMENTUM, 0.0)?;
    running.set(&kept.add(&batch.affine(MOMENTUM, 0.0)?)?)
}
