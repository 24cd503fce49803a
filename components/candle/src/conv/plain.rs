//! Convolution and max-pooling apart from each other, for what is done between them.

use super::{Sizes, forward::unrectified};
use candle_core::{Result, Tensor};

/// `x * weight + bias` for `x` of shape `[rows, height, width, channels]`: shape
/// `[rows, height', width', filters]`. Nothing is pooled.
pub(crate) fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor, sizes: Sizes) -> Result<Tensor> {
    unrectified(x, weight, bias, Sizes { pool: 1, ..sizes })
}

/// The largest value of each square of what [`plain`] gave. What does not fill a square is left
/// out.
pub(crate) fn pool(x: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let Sizes { pool, filters, .. } = sizes;
    if pool == 1 {
        return Ok(x.clone());
    }
    let (rows, (height, width)) = (x.dim(0)?, sizes.pooled());
    let whole = x.narrow(1, 0, height * pool)?.narrow(2, 0, width * pool)?.contiguous()?;
    whole.reshape(vec![rows, height, pool, width, pool, filters])?.max(4)?.max(2)
}
