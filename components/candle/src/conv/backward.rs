//! The way back: gradients of weight and bias, and of the images where somebody asks for them.
//!
//! Patches are gathered again instead of being kept: that is cheaper than reading them back from
//! memory.

use super::{
    Sizes,
    sizes::NOWHERE,
    storage::{check, patches_of, slice},
};
use crate::{matrix::product, simd::vectorized};
use candle_core::{
    CpuStorage, CustomOp3, Layout, Result, Shape, WithDType, backend::BackendStorage, bail,
};
use std::sync::{Arc, OnceLock};

/// Gives one flat tensor: the gradients of weight and bias, then, if `of_x`, that of the images.
pub(super) struct Back {
    pub(super) sizes: Sizes,
    /// Which value of each pool was the largest.
    pub(super) chosen: Arc<OnceLock<Vec<u32>>>,
    pub(super) of_x: bool,
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "convolution-rectifier-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        check(&self.sizes, x_layout, weight_layout)?;
        let all = [(x, x_layout), (weight, weight_layout), (gradient, gradient_layout)];
        match x {
            CpuStorage::F32(_) => self.gradients::<f32>(all),
            CpuStorage::F64(_) => self.gradients::<f64>(all),
            other => bail!("a convolution needs f32 or f64, not {:?}", other.dtype()),
        }
    }
}

impl Back {
    fn gradients<T: WithDType>(
        &self,
        [x, weight, gradient]: [(&CpuStorage, &Layout); 3],
    ) -> Result<(CpuStorage, Shape)> {
        let Self { sizes, of_x, .. } = self;
        let Some(chosen) = self.chosen.get() else {
            bail!("a convolution has no gradient before it was computed")
        };
        let (x, weight, gradient) = (slice::<T>(x)?, slice::<T>(weight)?, slice::<T>(gradient)?);
        if gradient.len() != chosen.len() {
            bail!("{} values have a gradient of {} values", chosen.len(), gradient.len());
        }
        let zero = T::from_f64(0.0);
        let packed = T::to_cpu_storage_owned(sizes.pack(weight));
        let (together, offsets) = (sizes.together(), sizes.pool_offsets());
        let mut of_weight = vec![zero; weight.len()];
        let mut of_bias = vec![zero; sizes.filters];
        let mut of_images = vec![zero; if *of_x { x.len() } else { 0 }];
        let (mut patches, mut spread) = (Vec::new(), Vec::new());

        let pooled = together * sizes.result();
        for (part, images) in x.chunks(together * sizes.image()).enumerate() {
            let count = images.len() / sizes.image();
            let range = part * pooled..part * pooled + count * sizes.result();
            // Values between the pools stay zero: they are never written.
            spread.resize(count * sizes.places() * sizes.filters, zero);
            unpool(
                sizes,
                &offsets,
                &gradient[range.clone()],
                &chosen[range],
                &mut spread,
                &mut of_bias,
            );
            let gathered = patches_of(sizes, images, &mut patches);
            let unpooled = T::to_cpu_storage_owned(spread);
            let (rows, patch, filters) = (count * sizes.places(), sizes.patch(), sizes.filters);

            let weights = product(&gathered, &unpooled, (patch, filters, rows), (true, false))?;
            of_weight
                .iter_mut()
                .zip(T::cpu_storage_as_slice(&weights)?)
                .for_each(|(sum, value)| *sum += *value);
            if *of_x {
                let of_patches =
                    product(&unpooled, &packed, (rows, patch, filters), (false, true))?;
                let from = part * together * sizes.image();
                sizes.scatter(
                    T::cpu_storage_as_slice(&of_patches)?,
                    &mut of_images[from..from + images.len()],
                );
            }
            (patches, spread) = (T::cpu_storage_data(gathered)?, T::cpu_storage_data(unpooled)?);
        }

        Ok(flat(sizes, &of_weight, of_bias, of_images))
    }
}

/// The gradients in one tensor, that of the weight unpacked.
fn flat<T: WithDType>(
    sizes: &Sizes,
    of_weight: &[T],
    mut of_bias: Vec<T>,
    mut of_images: Vec<T>,
) -> (CpuStorage, Shape) {
    let mut all = vec![T::from_f64(0.0); of_weight.len()];
    sizes.each_weight(|plain, at| all[plain] = of_weight[at]);
    all.append(&mut of_bias);
    all.append(&mut of_images);
    let shape = Shape::from(all.len());
    (T::to_cpu_storage_owned(all), shape)
}

/// Bring the gradient of each pool to the value that was chosen, and sum it up for the bias.
fn unpool<T: WithDType>(
    sizes: &Sizes,
    offsets: &[usize],
    gradient: &[T],
    chosen: &[u32],
    spread: &mut [T],
    of_bias: &mut [T],
) {
    let (zero, filters) = (T::from_f64(0.0), sizes.filters);
    let images = gradient.chunks_exact(sizes.result()).zip(chosen.chunks_exact(sizes.result()));
    vectorized(
        #[inline(always)]
        || {
            for ((gradient, chosen), spread) in
                images.zip(spread.chunks_exact_mut(sizes.places() * filters))
            {
                sizes.each_pool(|to, from| {
                    let (gradient, chosen) =
                        (&gradient[from..from + filters], &chosen[from..from + filters]);
                    for (at, offset) in offsets.iter().enumerate() {
                        let values = &mut spread[to + offset..to + offset + filters];
                        for ((value, gradient), chosen) in
                            values.iter_mut().zip(gradient).zip(chosen)
                        {
                            *value = if *chosen == at as u32 { *gradient } else { zero };
                        }
                    }
                    for ((sum, gradient), chosen) in of_bias.iter_mut().zip(gradient).zip(chosen) {
                        *sum += if *chosen == NOWHERE { zero } else { *gradient };
                    }
                });
            }
        },
    );
}
