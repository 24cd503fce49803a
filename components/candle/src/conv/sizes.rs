//! The arithmetic of patches and pools: which values of an image belong to them, and where they are
//! kept.

use crate::simd::vectorized;
use candle_core::WithDType;

/// The sizes of a convolution with step 1 and of the pooling after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) filters: usize,
    pub(crate) kernel: usize,
    pub(crate) padding: usize,
    pub(crate) pool: usize,
}

/// A place where the rectifier let nothing through.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Values of patches that are kept at once: 1 MiB of f32.
const PATCHES: usize = 1 << 18;

impl Sizes {
    /// Height and width of what the convolution gives; 0 where the kernel does not fit.
    fn convolved(&self) -> (usize, usize) {
        let side = |size: usize| (size + 2 * self.padding + 1).saturating_sub(self.kernel);
        (side(self.height), side(self.width))
    }

    /// Height and width of what the pooling gives; 0 where nothing is left.
    pub(crate) fn pooled(&self) -> (usize, usize) {
        let (height, width) = self.convolved();
        (height / self.pool, width / self.pool)
    }

    pub(super) fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The values of a patch.
    pub(super) fn patch(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// The patches of an image.
    pub(super) fn places(&self) -> usize {
        let (height, width) = self.convolved();
        height * width
    }

    pub(super) fn result(&self) -> usize {
        let (height, width) = self.pooled();
        height * width * self.filters
    }

    /// Images whose patches are kept at once.
    pub(super) fn together(&self) -> usize {
        (PATCHES / (self.places() * self.patch()).max(1)).max(1)
    }

    /// For each run of a patch that is inside of the image: where it is among the patches, in the
    /// image, and its length.
    #[inline(always)]
    fn each_run(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (height, width) = self.convolved();
        let run = self.kernel * self.channels;
        for y in 0..height {
            for x in 0..width {
                // Columns of the kernel that are inside of the image.
                let from = self.padding.saturating_sub(x).min(self.kernel);
                let to = (self.width + self.padding).saturating_sub(x).min(self.kernel);
                if from >= to {
                    continue;
                }
                for row in 0..self.kernel {
                    let Some(inside) =
                        (y + row).checked_sub(self.padding).filter(|inside| *inside < self.height)
                    else {
                        continue;
                    };
                    let patch = ((y * width + x) * self.kernel + row) * run + from * self.channels;
                    visit(
                        patch,
                        (inside * self.width + x + from - self.padding) * self.channels,
                        (to - from) * self.channels,
                    );
                }
            }
        }
    }

    /// Write the patches of images; what is outside of an image must be zero already.
    pub(super) fn gather<T: WithDType>(&self, images: &[T], patches: &mut [T]) {
        let (image, size) = (self.image(), self.places() * self.patch());
        vectorized(
            #[inline(always)]
            || {
                for (image, patches) in
                    images.chunks_exact(image).zip(patches.chunks_exact_mut(size))
                {
                    self.each_run(|patch, at, length| {
                        for (to, from) in
                            patches[patch..patch + length].iter_mut().zip(&image[at..at + length])
                        {
                            *to = *from;
                        }
                    });
                }
            },
        );
    }

    /// Add patches to the images they are from.
    pub(super) fn scatter<T: WithDType>(&self, patches: &[T], images: &mut [T]) {
        let (image, size) = (self.image(), self.places() * self.patch());
        vectorized(
            #[inline(always)]
            || {
                for (image, patches) in
                    images.chunks_exact_mut(image).zip(patches.chunks_exact(size))
                {
                    self.each_run(|patch, at, length| {
                        for (to, from) in
                            image[at..at + length].iter_mut().zip(&patches[patch..patch + length])
                        {
                            *to += *from;
                        }
                    });
                }
            },
        );
    }

    /// Where in the convolved image each value of a pool is, from its first one.
    pub(super) fn pool_offsets(&self) -> Vec<usize> {
        let (_, width) = self.convolved();
        (0..self.pool * self.pool)
            .map(|at| (at / self.pool * width + at % self.pool) * self.filters)
            .collect()
    }

    /// For each pool of an image: where its values begin in the convolved image, and where its
    /// result is.
    #[inline(always)]
    pub(super) fn each_pool(&self, mut visit: impl FnMut(usize, usize)) {
        let ((_, width), (pooled_height, pooled_width)) = (self.convolved(), self.pooled());
        for y in 0..pooled_height {
            for x in 0..pooled_width {
                visit(
                    (y * width + x) * self.pool * self.filters,
                    (y * pooled_width + x) * self.filters,
                );
            }
        }
    }

    /// `[filters, channels, kernel, kernel]` as the matrix `[patch, filters]`.
    pub(super) fn pack<T: WithDType>(&self, weight: &[T]) -> Vec<T> {
        let mut packed = vec![T::from_f64(0.0); weight.len()];
        self.each_weight(|plain, at| packed[at] = weight[plain]);
        packed
    }

    pub(super) fn each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let square = self.kernel * self.kernel;
        let mut plain = 0;
        for filter in 0..self.filters {
            for channel in 0..self.channels {
                for place in 0..square {
                    visit(plain, (place * self.channels + channel) * self.filters + filter);
                    plain += 1;
                }
            }
        }
    }
}
