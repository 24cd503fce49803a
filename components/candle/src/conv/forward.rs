//! From images to pooled ones: patches, one product, and the largest value of each pool.

use super::{
    Sizes,
    backward::Back,
    sizes::NOWHERE,
    storage::{check, patches_of, slice},
};
use crate::{matrix::product, simd::vectorized};
use candle_core::{
    CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType,
    backend::BackendStorage, bail,
};
use std::sync::{Arc, OnceLock};
use superduper::unreturned::Unreturned;

/// `pool(max(0, x * weight + bias))` for `x` of shape `[rows, height, width, channels]`: shape
/// `[rows, height', width', filters]`.
pub(crate) fn block(x: &Tensor, weight: &Tensor, bias: &Tensor, sizes: Sizes) -> Result<Tensor> {
    x.apply_op3(weight, bias, Block { sizes, rectified: true, chosen: Arc::default() })
}

/// `x * weight + bias` for sizes without a pool: shape `[rows, height', width', filters]`.
pub(super) fn unrectified(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    sizes: Sizes,
) -> Result<Tensor> {
    x.apply_op3(weight, bias, Block { sizes, rectified: false, chosen: Arc::default() })
}

struct Block {
    sizes: Sizes,
    /// Without a rectifier the pools are of one value.
    rectified: bool,
    /// Which value of each pool was the largest, for the way back.
    chosen: Arc<OnceLock<Vec<u32>>>,
}

impl CustomOp3 for Block {
    fn name(&self) -> &'static str {
        "convolution-rectifier-pool"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = &self.sizes;
        let rows = check(sizes, x_layout, weight_layout)?;
        if bias_layout.dims() != [sizes.filters] {
            bail!("{} filters have a bias of shape {:?}", sizes.filters, bias_layout.dims());
        }
        let (height, width) = sizes.pooled();
        let mut chosen = vec![NOWHERE; rows * sizes.result()];
        let result = match x.dtype() {
            DType::F32 => forward::<f32>(
                self,
                [(x, x_layout), (weight, weight_layout), (bias, bias_layout)],
                &mut chosen,
            )?,
            DType::F64 => forward::<f64>(
                self,
                [(x, x_layout), (weight, weight_layout), (bias, bias_layout)],
                &mut chosen,
            )?,
            other => bail!("a convolution needs f32 or f64, not {other:?}"),
        };
        self.chosen
            .set(chosen)
            .ignored("candle calls this once per operation; a second call would choose the same");
        Ok((result, Shape::from((rows, height, width, sizes.filters))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let back = Back { sizes: self.sizes, chosen: self.chosen.clone(), of_x: x.track_op() };
        // One flat tensor: the gradients of weight, bias and, where it is asked for, x.
        let all = x.apply_op3_no_bwd(weight, &gradient.contiguous()?, &back)?;
        let (weights, biases) = (weight.elem_count(), bias.elem_count());
        let of_weight = all.narrow(0, 0, weights)?.reshape(weight.shape())?;
        let of_bias = all.narrow(0, weights, biases)?;
        let of_x = x
            .track_op()
            .then(|| all.narrow(0, weights + biases, x.elem_count())?.reshape(x.shape()))
            .transpose()?;
        Ok((of_x, Some(of_weight), Some(of_bias)))
    }
}

fn forward<T: WithDType>(
    block: &Block,
    [x, weight, bias]: [(&CpuStorage, &Layout); 3],
    chosen: &mut [u32],
) -> Result<CpuStorage> {
    let sizes = &block.sizes;
    let (x, bias) = (slice::<T>(x)?, slice::<T>(bias)?);
    let weight = T::to_cpu_storage_owned(sizes.pack(slice::<T>(weight)?));
    let (together, offsets) = (sizes.together(), sizes.pool_offsets());
    let mut result = vec![T::from_f64(0.0); chosen.len()];
    let mut patches = Vec::new();
    let parts =
        x.chunks(together * sizes.image()).zip(result.chunks_mut(together * sizes.result()));
    for ((images, result), chosen) in parts.zip(chosen.chunks_mut(together * sizes.result())) {
        let rows = images.len() / sizes.image() * sizes.places();
        let gathered = patches_of(sizes, images, &mut patches);
        let convolved =
            product(&gathered, &weight, (rows, sizes.filters, sizes.patch()), (false, false))?;
        patches = T::cpu_storage_data(gathered)?;
        let convolved = T::cpu_storage_as_slice(&convolved)?;
        if block.rectified {
            choose(sizes, &offsets, convolved, bias, result, chosen);
        } else {
            shift(convolved, bias, result, chosen);
        }
    }
    Ok(T::to_cpu_storage_owned(result))
}

/// Add the bias; each value is the only one of its pool.
fn shift<T: WithDType>(convolved: &[T], bias: &[T], result: &mut [T], chosen: &mut [u32]) {
    chosen.fill(0);
    let filters = bias.len().max(1);
    for (result, convolved) in result.chunks_exact_mut(filters).zip(convolved.chunks_exact(filters))
    {
        for ((result, value), bias) in result.iter_mut().zip(convolved).zip(bias) {
            *result = *value + *bias;
        }
    }
}

/// Pool and rectify: the bias is the same in a pool, so it is added to the largest value alone.
fn choose<T: WithDType>(
    sizes: &Sizes,
    offsets: &[usize],
    convolved: &[T],
    bias: &[T],
    result: &mut [T],
    chosen: &mut [u32],
) {
    let (zero, filters) = (T::from_f64(0.0), sizes.filters);
    let images = convolved
        .chunks_exact(sizes.places() * filters)
        .zip(result.chunks_exact_mut(sizes.result()));
    vectorized(
        #[inline(always)]
        || {
            for ((convolved, result), chosen) in images.zip(chosen.chunks_exact_mut(sizes.result()))
            {
                sizes.each_pool(|from, to| {
                    let (result, chosen) =
                        (&mut result[to..to + filters], &mut chosen[to..to + filters]);
                    result.copy_from_slice(&convolved[from..from + filters]);
                    chosen.fill(0);
                    for (at, offset) in offsets.iter().enumerate().skip(1) {
                        let values = &convolved[from + offset..from + offset + filters];
                        for ((best, chosen), value) in
                            result.iter_mut().zip(chosen.iter_mut()).zip(values)
                        {
                            let better = *value > *best;
                            *best = if better { *value } else { *best };
                            *chosen = if better { at as u32 } else { *chosen };
                        }
                    }
                    for ((best, chosen), bias) in result.iter_mut().zip(chosen.iter_mut()).zip(bias)
                    {
                        let value = *best + *bias;
                        let through = value > zero;
                        *best = if through { value } else { zero };
                        *chosen = if through { *chosen } else { NOWHERE };
                    }
                });
            }
        },
    );
}
