//! The mean of tensors, weighted by samples.
//!
//! Invariant: each element is summed in the order of the sites, whatever else is done in blocks;
//! so neither the order of arrival nor the sizes of blocks change a bit.

use super::round::{Round, unsupported};
use crate::numeric::{FloatFormat, Real, compute, is_float, vectorized, with_float};
use superduper::{Bytes, Error, Result, TensorData, TensorInfo, Tensors};

/// How many bytes of replies to one tensor are held at a time, where one reply is smaller. Several
/// sites are then added to a block of sums while it is in the cache.
const HELD: usize = 64 << 20;

/// Elements of a block: their sums fit the first level of the cache.
const BLOCK: usize = 1024;

/// What the mean of a round is weighted with.
pub(crate) enum Weighting {
    /// With the number of samples of each site.
    Samples,
    /// Each site counts the same.
    Equal,
}

/// The factors of the sites of a round.
pub(crate) struct Weights {
    samples: Vec<u64>,
    total: u128,
}

impl Weights {
    /// The factors for the updates of a round.
    pub(crate) fn new(round: &Round<'_>, weighting: &Weighting) -> Result<Self> {
        let samples: Vec<u64> = match weighting {
            Weighting::Samples => round.updates.iter().map(|update| update.samples).collect(),
            Weighting::Equal => vec![1; round.updates.len()],
        };
        let total = samples.iter().map(|&samples| u128::from(samples)).sum();
        if total == 0 {
            return Err(Error::invalid("the sites learned from 0 samples, so they have no mean")
                .with_hint("`samples` of an update is the number of samples of its training"));
        }
        Ok(Weights { samples, total })
    }
}

/// The mean of each tensor; the largest values of integers and booleans.
pub(crate) async fn mean(round: &Round<'_>, weighting: Weighting) -> Result<Tensors> {
    let weights = Weights::new(round, &weighting)?;
    let mut means = round.empty();
    for (name, info) in round.tensors() {
        let tensor = if is_float(info.dtype) {
            mean_of(round, &weights, name, info).await?
        } else {
            round.largest(name, info).await?
        };
        means.insert(name, tensor)?;
    }
    Ok(means)
}

/// The mean of one tensor of floats.
async fn mean_of(
    round: &Round<'_>,
    weights: &Weights,
    name: &str,
    info: &TensorInfo,
) -> Result<TensorData> {
    let bytes = with_float!(info.dtype, Format => {
        let (sums, size) = sums::<Format>(round, weights, name, info).await?;
        compute(size, move || bytes_of(sums)).await?
    }, else return Err(unsupported(name, info)));
    Ok(TensorData { info: info.clone(), bytes: bytes.into() })
}

/// The sums of one tensor, to which the last sites are still to be added.
pub(crate) struct Sums<F: FloatFormat> {
    count: usize,
    total: u128,
    /// The sums of the sites before; empty if there are none.
    before: Vec<F::Sum>,
    last: Vec<(Bytes, F::Sum)>,
}

impl<F: FloatFormat> Sums<F> {
    /// Compute the means block by block, each once: the index of its first element, and its means.
    /// To be called where loops are vectorized.
    #[inline(always)]
    pub(crate) fn each_block(&self, mut visit: impl FnMut(usize, &[F::Sum])) {
        let mut block = [F::Sum::default(); BLOCK];
        for start in (0..self.count).step_by(BLOCK) {
            let sums = &mut block[..BLOCK.min(self.count - start)];
            match self.before.get(start..start + sums.len()) {
                Some(before) => sums.copy_from_slice(before),
                None => sums.fill(zero::<F>()),
            }
            add::<F>(sums, start, &self.last);
            sums.iter_mut().for_each(|sum| *sum = F::mean(*sum, self.total));
            visit(start, sums);
        }
    }
}

/// The weighted sums of a tensor, and the number of bytes that are still to be read for them.
///
/// Holds the sums and either one reply or [`HELD`] bytes of replies.
pub(crate) async fn sums<F: FloatFormat>(
    round: &Round<'_>,
    weights: &Weights,
    name: &str,
    info: &TensorInfo,
) -> Result<(Sums<F>, usize)> {
    let (count, total) = (info.shape.iter().product(), weights.total);
    let size = info.size().unwrap_or_default();
    let mut sums: Sums<F> = Sums { count, total, before: Vec::new(), last: Vec::new() };
    for (update, &samples) in round.updates.iter().zip(&weights.samples) {
        if samples == 0 {
            continue;
        }
        if (sums.last.len() + 1) * size > HELD && !sums.last.is_empty() {
            sums = compute(size * sums.last.len(), move || added(sums)).await?;
        }
        sums.last.push((round.read(update, name).await?, F::weight(samples, total)));
    }
    let size = size * sums.last.len();
    Ok((sums, size))
}

/// What sums start from: a sum of nothing but -0.0 stays -0.0, so that equal models have themselves
/// as their mean.
#[inline(always)]
fn zero<F: FloatFormat>() -> F::Sum {
    F::Sum::from_f64(-0.0)
}

/// Add the last sites to the sums, and let go of their bytes.
fn added<F: FloatFormat>(mut sums: Sums<F>) -> Sums<F> {
    let Sums { count, before, last, .. } = &mut sums;
    vectorized(
        #[inline(always)]
        || {
            if before.is_empty() {
                // Block by block, so that the memory is written once and not filled before.
                before.reserve_exact(*count);
                for start in (0..*count).step_by(BLOCK) {
                    let mut block = [zero::<F>(); BLOCK];
                    let block = &mut block[..BLOCK.min(*count - start)];
                    add::<F>(block, start, last);
                    before.extend_from_slice(block);
                }
            } else {
                for (place, block) in before.chunks_mut(BLOCK).enumerate() {
                    add::<F>(block, place * BLOCK, last);
                }
            }
        },
    );
    last.clear();
    sums
}

/// Add sites to a block of sums whose first element has this index, four sites in one pass.
#[inline(always)]
fn add<F: FloatFormat>(sums: &mut [F::Sum], start: usize, sites: &[(Bytes, F::Sum)]) {
    let range = start..start + sums.len();
    let (fours, rest) = sites.as_chunks::<4>();
    for four in fours {
        let [a, b, c, d] = four.each_ref().map(|site| &F::raw(&site.0)[range.clone()]);
        let weights = four.each_ref().map(|site| site.1);
        for (index, sum) in sums.iter_mut().enumerate() {
            let elements = [a[index], b[index], c[index], d[index]];
            for (element, weight) in elements.into_iter().zip(weights) {
                *sum = *sum + weight * F::widen(F::read(element));
            }
        }
    }
    for site in rest {
        for (sum, element) in sums.iter_mut().zip(&F::raw(&site.0)[range.clone()]) {
            *sum = *sum + site.1 * F::widen(F::read(*element));
        }
    }
}

/// The bytes of the means.
fn bytes_of<F: FloatFormat>(sums: Sums<F>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sums.count * std::mem::size_of::<F::Raw>());
    vectorized(
        #[inline(always)]
        || {
            let mut block = [F::Raw::default(); BLOCK];
            sums.each_block(
                #[inline(always)]
                |_, means| {
                    let block = &mut block[..means.len()];
                    block.iter_mut().zip(means).for_each(|(raw, mean)| *raw = F::put(*mean));
                    bytes.extend_from_slice(F::bytes(block));
                },
            );
        },
    );
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::F32;

    #[test]
    fn the_sizes_of_groups_change_no_bit() {
        let count = 2 * BLOCK + 17;
        let site = |site: usize| {
            let values = (0..count).map(|i| ((i * 7919 + site * 104_729) % 1000) as f32 / 7.0);
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            (Bytes::from(bytes), <F32 as FloatFormat>::weight(1 + site as u64, 91))
        };
        let sites: Vec<_> = (0..13).map(site).collect();
        let grouped = |size: usize| {
            let mut sums: Sums<F32> =
                Sums { count, total: 91, before: Vec::new(), last: Vec::new() };
            for group in sites.chunks(size) {
                if !sums.last.is_empty() {
                    sums = added(sums);
                }
                sums.last.extend_from_slice(group);
            }
            bytes_of(sums)
        };
        let one = grouped(1);
        assert_eq!(one.len(), count * 4);
        assert!((2..=13).all(|size| grouped(size) == one));
    }
}
