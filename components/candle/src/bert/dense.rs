//! A linear layer whose weight is laid out once, for products with few rows.
//!
//! A text alone has some twenty tokens. A general product of matrices first copies the weight into
//! an order that its loops can read, which for so few rows takes as long as the product. Here the
//! weight is kept in that order.
//!
//! For so few rows, waiting for the weight takes longer than the arithmetic: the weights of an
//! encoder do not fit into the cache of a core, so each text reads all of them from further away.
//! The weight is therefore cut into panels that do fit, and the loops over one panel ask for the
//! next one. A panel is multiplied with all rows before the next one is touched.
//!
//! Each sum is over the inputs in their order, whatever the number of rows, so a text has the same
//! vector alone and among others.

use crate::simd::prefetch;
use pulp::{Arch, Simd, WithSimd};
use std::array;

/// Outputs that lie beside each other, for each input: two of the widest vectors.
const PANEL: usize = 32;
/// Vectors of sums per row.
const VECTORS: usize = 2;
/// Rows that are multiplied at once with vectors as wide as half a panel: as many sums as fit into
/// 32 registers.
const WIDE_ROWS: usize = 14;
/// The same for narrower vectors, which go with 16 registers.
const NARROW_ROWS: usize = 6;
/// Rows after which the weight is read again; so many stay in the cache. Whole blocks of either
/// size.
const TOGETHER: usize = 84;
/// Inputs after which the loops ask for more of the next panel.
const GROUP: usize = 8;
/// Values in a line of the cache.
const LINE: usize = 16;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Dense {
    inputs: usize,
    /// Panel after panel, each with [`PANEL`] outputs for each input; what is beyond the last
    /// output is 0.
    panels: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Dense {
    /// Lay out weights of `[outputs, inputs]`, of one or more layers with the same input, beside
    /// each other.
    pub(super) fn new(inputs: usize, weights: &[Vec<f32>], bias: Vec<f32>) -> Self {
        let mut panels = vec![0_f32; bias.len().div_ceil(PANEL) * PANEL * inputs];
        let rows = weights.iter().flat_map(|weight| weight.chunks_exact(inputs));
        for (output, row) in rows.enumerate() {
            let at = output / PANEL * PANEL * inputs + output % PANEL;
            for (value, place) in row.iter().zip(panels[at..].iter_mut().step_by(PANEL)) {
                *place = *value;
            }
        }
        Dense { inputs, panels, bias }
    }

    /// `x W` without the bias, which is added with what follows.
    pub(super) fn multiply(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut result = vec![0_f32; rows * self.bias.len()];
        Arch::new().dispatch(Multiply { dense: self, x, result: &mut result });
        result
    }
}

/// A product on its way to the widest instructions that this processor has.
struct Multiply<'a> {
    dense: &'a Dense,
    x: &'a [f32],
    result: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Multiply { dense: Dense { inputs, panels, bias }, x, result } = self;
        let (inputs, outputs) = (*inputs, bias.len());
        let most = if is_wide::<S>() { WIDE_ROWS } else { NARROW_ROWS };
        panels.chunks(LINE).take(PANEL * inputs / LINE).for_each(prefetch);
        let mut turned = Vec::new();
        for (x, result) in x.chunks(TOGETHER * inputs).zip(result.chunks_mut(TOGETHER * outputs)) {
            let rows = x.len() / inputs;
            let blocks = rows.div_ceil(most);
            // Even blocks: 17 rows are 9 and 8, not 14 and 3.
            let block = rows.div_ceil(blocks);
            turn(x, inputs, block, &mut turned);
            // How much of the next panel a block asks for after each group of inputs, so that all
            // blocks together ask for all of it.
            let share = (GROUP * PANEL).div_ceil(blocks).next_multiple_of(LINE);
            let mut following = panels.chunks_exact(PANEL * inputs).skip(1);
            for (panel, weight) in panels.chunks_exact(PANEL * inputs).enumerate() {
                let to = panel * PANEL;
                let part = Part { weight, to, width: PANEL.min(outputs - to), outputs };
                let mut next = following.next().unwrap_or_default().chunks(share);
                for (x, result) in
                    turned.chunks(block * inputs).zip(result.chunks_mut(block * outputs))
                {
                    part.multiply(simd, x.len() / inputs, x, result, &mut next);
                }
            }
        }
    }
}

/// Whether two vectors are a panel, which also says that there are 32 registers.
#[inline(always)]
fn is_wide<S: Simd>() -> bool {
    S::F32_LANES * VECTORS == PANEL
}

/// Lay rows out so that the values of one input lie beside each other, for blocks of `rows` rows
/// and what is left of them.
fn turn(x: &[f32], inputs: usize, rows: usize, turned: &mut Vec<f32>) {
    turned.resize(x.len(), 0.0);
    for (block, turned) in x.chunks(rows * inputs).zip(turned.chunks_mut(rows * inputs)) {
        let rows = block.len() / inputs;
        for (row, values) in block.chunks_exact(inputs).enumerate() {
            for (value, place) in values.iter().zip(turned[row..].iter_mut().step_by(rows)) {
                *place = *value;
            }
        }
    }
}

/// One panel of a weight, and where its outputs go.
struct Part<'a> {
    weight: &'a [f32],
    to: usize,
    width: usize,
    outputs: usize,
}

/// What of the next panel has not been asked for yet.
type Next<'a> = std::slice::Chunks<'a, f32>;

impl Part<'_> {
    /// Multiply with a block of rows, by a loop that is compiled for this number of them.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        x: &[f32],
        result: &mut [f32],
        next: &mut Next<'_>,
    ) {
        macro_rules! by_rows {
            ($($narrow:literal)*; $($wide:literal)*) => {
                match rows {
                    $($narrow => self.multiply_rows::<S, $narrow>(simd, x, result, next),)*
                    $($wide if is_wide::<S>() => self.multiply_rows::<S, $wide>(simd, x, result, next),)*
                    _ => unreachable!("a block has 1 to {NARROW_ROWS} rows, or to {WIDE_ROWS} with wide vectors"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6; 7 8 9 10 11 12 13 14);
    }

    #[inline(always)]
    fn multiply_rows<S: Simd, const R: usize>(
        &self,
        simd: S,
        x: &[f32],
        result: &mut [f32],
        next: &mut Next<'_>,
    ) {
        let lanes = VECTORS * S::F32_LANES;
        for from in (0..self.width).step_by(lanes) {
            let sums = sums::<S, R>(simd, x, self.weight, from, next);
            let count = lanes.min(self.width - from);
            for (sums, row) in sums.iter().zip(result.chunks_exact_mut(self.outputs)) {
                let row = &mut row[self.to + from..][..count];
                if count == lanes {
                    S::as_mut_simd_f32s(row).0.copy_from_slice(sums);
                } else {
                    let mut values = [0_f32; PANEL];
                    S::as_mut_simd_f32s(&mut values[..lanes]).0.copy_from_slice(sums);
                    row.copy_from_slice(&values[..count]);
                }
            }
        }
    }
}

/// `Σ x w` over the inputs, for `R` rows and the outputs of a panel from `from` on.
#[inline(always)]
fn sums<S: Simd, const R: usize>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    from: usize,
    next: &mut Next<'_>,
) -> [[S::f32s; VECTORS]; R] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (x, weight) in
        x.as_chunks::<R>().0.chunks(GROUP).zip(weight.as_chunks::<PANEL>().0.chunks(GROUP))
    {
        if let Some(next) = next.next() {
            next.chunks(LINE).for_each(prefetch);
        }
        for (x, weight) in x.iter().zip(weight) {
            let weight = S::as_simd_f32s(&weight[from..from + VECTORS * S::F32_LANES]).0;
            let weight: [S::f32s; VECTORS] = array::from_fn(|vector| weight[vector]);
            for (sums, x) in sums.iter_mut().zip(x) {
                let x = simd.splat_f32s(*x);
                for (sum, weight) in sums.iter_mut().zip(weight) {
                    *sum = simd.mul_add_e_f32s(x, weight, *sum);
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::Rng::new(seed);
        (0..count).map(|_| rng.uniform() - 0.5).collect()
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        let odd = [
            (1, 1, 1),
            (7, 24, 72),
            (13, 40, 24),
            (97, 24, 40),
            (200, 5, 130),
            (6, 64, 64),
            (0, 3, 4),
        ];
        let edges = [1, 5, 6, 7, 14, 15, 17, 18, 28, 29, 84, 85].map(|rows| (rows, 33, 67));
        for (rows, inputs, outputs) in odd.into_iter().chain(edges) {
            let (x, first, second) =
                (values(rows * inputs, 1), values(outputs * inputs, 2), values(3 * inputs, 3));
            let weight = [first.clone(), second.clone()].concat();
            let dense = Dense::new(inputs, &[first, second], vec![0.0; outputs + 3]);
            let found = dense.multiply(&x);
            assert_eq!(found.len(), rows * (outputs + 3));
            for (at, found) in found.iter().enumerate() {
                let (x, w) =
                    (&x[at / (outputs + 3) * inputs..], &weight[at % (outputs + 3) * inputs..]);
                let expected: f64 =
                    x.iter().zip(w).take(inputs).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-5,
                    "{rows} {inputs} {outputs} at {at}: {found} is not {expected}"
                );
            }
            if rows > 3 {
                let alone = dense.multiply(&x[3 * inputs..4 * inputs]);
                assert_eq!(
                    alone,
                    found[3 * (outputs + 3)..4 * (outputs + 3)],
                    "a row alone has the same bits"
                );
            }
        }
    }
    /// Narrower vectors have other blocks and several passes over a panel.
    #[test]
    fn products_without_vectors_are_the_same() {
        for (rows, outputs) in [1, 5, 6, 7, 12, 13, 17, 18, 85]
            .into_iter()
            .flat_map(|rows| [(rows, 70), (rows, 32), (rows, 9)])
        {
            let inputs = 19;
            let (x, weight) = (values(rows * inputs, 4), values(outputs * inputs, 5));
            let dense = Dense::new(inputs, &[weight], vec![0.0; outputs]);
            let expected = dense.multiply(&x);
            let run = |arch: Arch| {
                let mut result = vec![0_f32; rows * outputs];
                arch.dispatch(Multiply { dense: &dense, x: &x, result: &mut result });
                result
            };
            let near =
                |found: &[f32]| found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near(&run(Arch::Scalar)), "{rows} {outputs}");
        }
    }
}
