//! The mean of what is left without the largest and the smallest values of each element.

use super::{
    contract::Aggregated,
    network::{Network, WIDTH},
    round::{Round, unsupported},
};
use crate::{
    Update,
    numeric::{FloatFormat, Format, Real, compute, with_float, with_whole},
};
use superduper::{Bytes, Result, TensorData, Tensors};

/// Cut the `cut(n)` largest and smallest values of `n` sites, element by element, and take the mean
/// of the others; of integers and booleans the largest of the others.
pub(super) async fn trimmed(
    global: &Tensors,
    updates: &[Update],
    cut: impl Fn(usize) -> usize,
) -> Result<Aggregated> {
    let round = Round::new(global, updates)?;
    let cut = cut(round.updates.len());
    let mut weights = round.empty();
    for (name, info) in round.tensors() {
        let sites = round.read_all(name).await?;
        let (dtype, count) = (info.dtype, info.shape.iter().product());
        let work = move || {
            with_float!(dtype, Format => return Some(mean::<Format>(&sites, count, cut)), else {});
            with_whole!(dtype, Format => Some(largest::<Format>(&sites, count, cut)), else None)
        };
        let size = info.size().unwrap_or_default() * round.updates.len();
        let bytes = compute(size, work).await?.ok_or_else(|| unsupported(name, info))?;
        weights.insert(name, TensorData { info: info.clone(), bytes: bytes.into() })?;
    }
    Ok(Aggregated::new(weights))
}

/// The mean of the values that are left.
fn mean<F: FloatFormat>(sites: &[Bytes], count: usize, cut: usize) -> Vec<u8> {
    let left = cut..sites.len() - cut;
    let total = left.len() as u128;
    let weight = F::weight(1, total);
    let mut bytes = Vec::with_capacity(count * std::mem::size_of::<F::Raw>());
    Network::new(sites.len(), left.clone()).each_block::<F>(
        sites,
        count,
        #[inline(always)]
        |rows, used| {
            let mut sums = [F::Sum::from_f64(-0.0); WIDTH];
            for row in &rows[left.clone()] {
                for (sum, key) in sums.iter_mut().zip(row) {
                    *sum = *sum + weight * F::widen(F::read(F::of_key(*key)));
                }
            }
            let raw = sums.map(
                #[inline(always)]
                |sum| F::put(F::mean(sum, total)),
            );
            bytes.extend_from_slice(F::bytes(&raw[..used]));
        },
    );
    bytes
}

/// The largest of the values that are left.
fn largest<F: Format>(sites: &[Bytes], count: usize, cut: usize) -> Vec<u8> {
    let last = sites.len() - cut - 1;
    let mut bytes = Vec::with_capacity(count * std::mem::size_of::<F::Raw>());
    Network::new(sites.len(), last..last + 1).each_block::<F>(
        sites,
        count,
        #[inline(always)]
        |rows, used| {
            let raw = rows[last].map(
                #[inline(always)]
                |key| F::of_key(key),
            );
            bytes.extend_from_slice(F::bytes(&raw[..used]));
        },
    );
    bytes
}
