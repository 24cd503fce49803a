//! The storage under the tensors of a convolution: whether it fits, its values, its patches.

use super::Sizes;
use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

/// The number of images, where the shapes fit.
pub(super) fn check(sizes: &Sizes, x: &Layout, weight: &Layout) -> Result<usize> {
    let Sizes { channels, height, width, filters, kernel, .. } = *sizes;
    if x.dims().get(1..) != Some(&[height, width, channels])
        || weight.dims() != [filters, channels, kernel, kernel]
    {
        bail!("images {:?} and weight {:?} do not fit {sizes:?}", x.dims(), weight.dims());
    }
    Ok(x.dims()[0])
}

pub(super) fn slice<'a, T: WithDType>(
    (storage, layout): (&'a CpuStorage, &Layout),
) -> Result<&'a [T]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("a convolution needs contiguous tensors, not {layout:?}")
    };
    Ok(&T::cpu_storage_as_slice(storage)?[from..to])
}

/// The patches of images as a storage, in memory that is used again.
pub(super) fn patches_of<T: WithDType>(
    sizes: &Sizes,
    images: &[T],
    patches: &mut Vec<T>,
) -> CpuStorage {
    let mut taken = std::mem::take(patches);
    // What is outside of an image stays zero: it is never written.
    taken.resize(images.len() / sizes.image() * sizes.places() * sizes.patch(), T::from_f64(0.0));
    sizes.gather(images, &mut taken);
    T::to_cpu_storage_owned(taken)
}
