//! How far the models of sites are from each other.

use super::round::Round;
use crate::numeric::{FloatFormat, compute, is_float, vectorized, with_float};
use superduper::{Bytes, Result};

/// Elements that are compared at once.
const WIDTH: usize = 128;

/// The squared distance of each two sites.
pub(super) struct Distances {
    sites: usize,
    /// Row by row; only those of a site to later ones are computed, the others are 0.
    squares: Vec<f64>,
}

impl Distances {
    /// Compare the tensors of floats, in 64 bits. One tensor of all sites is in memory at a time.
    pub(super) async fn of(round: &Round<'_>) -> Result<Self> {
        let sites = round.updates.len();
        let mut distances = Distances { sites, squares: vec![0.0; sites * sites] };
        for (name, info) in round.tensors().filter(|(_, info)| is_float(info.dtype)) {
            let tensors = round.read_all(name).await?;
            let (dtype, count) = (info.dtype, info.shape.iter().product());
            let work = move || {
                with_float!(
                    dtype,
                    Format => distances.add::<Format>(&tensors, count),
                    else {},
                );
                distances
            };
            distances = compute(info.size().unwrap_or_default() * sites, work).await?;
        }
        Ok(distances)
    }

    /// The squared distance of two sites.
    pub(super) fn between(&self, one: usize, other: usize) -> f64 {
        self.squares[one.min(other) * self.sites + one.max(other)]
    }

    /// Add the squares of the differences of one tensor.
    fn add<F: FloatFormat>(&mut self, tensors: &[Bytes], count: usize) {
        let mut rows = vec![[0.0_f64; WIDTH]; self.sites];
        vectorized(
            #[inline(always)]
            || {
                for start in (0..count).step_by(WIDTH) {
                    let used = WIDTH.min(count - start);
                    for (row, tensor) in rows.iter_mut().zip(tensors) {
                        let raw = &F::raw(tensor)[start..start + used];
                        row.iter_mut().zip(raw).for_each(|(lane, raw)| *lane = F::get(*raw));
                        row[used..].fill(0.0);
                    }
                    for (one, row) in rows.iter().enumerate() {
                        let squares = &mut self.squares[one * self.sites..][..self.sites];
                        for (square, other) in squares.iter_mut().zip(&rows).skip(one + 1) {
                            *square += squared(row, other);
                        }
                    }
                }
            },
        );
    }
}

/// The squared distance of two rows, in eight sums side by side.
#[inline(always)]
fn squared(one: &[f64; WIDTH], other: &[f64; WIDTH]) -> f64 {
    let mut sums = [0.0; 8];
    for (one, other) in one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0) {
        for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
            let difference = one - other;
            *sum += difference * difference;
        }
    }
    sums.iter().sum()
}
