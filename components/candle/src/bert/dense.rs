//! A linear layer whose weight is laid out once, for products with few rows.
//!
//! A text alone has some twenty tokens. A general product of matrices first copies the weight into an order that its loops can
//! read, which for so few rows takes as long as the product. Here the weight is kept in that order.
//! Each sum is over the inputs in their order, whatever the number of rows, so a text has the same vector alone and among others.

use pulp::{Arch, Simd, WithSimd};
use std::array;

/// Outputs that lie beside each other, for each input: four of the widest vectors.
const PANEL: usize = 64;
/// Rows that are multiplied at once: as many sums as fit into registers.
const ROWS: usize = 6;
/// Rows after which the weight is read again; so many stay in the cache.
const TOGETHER: usize = 16 * ROWS;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Dense {
    inputs: usize,
    /// Panel after panel, each with [`PANEL`] outputs for each input; what is beyond the last output is 0.
    panels: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Dense {
    /// Lay out weights of `[outputs, inputs]`, of one or more layers with the same input, beside each other.
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
        // Half as many registers go with vectors of half the width.
        if S::F32_LANES * 4 == PANEL { self.run::<S, 4>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Multiply { dense: Dense { inputs, panels, bias }, x, result } = self;
        let (inputs, outputs) = (*inputs, bias.len());
        let mut turned = Vec::new();
        for (x, result) in x.chunks(TOGETHER * inputs).zip(result.chunks_mut(TOGETHER * outputs)) {
            turn(x, inputs, &mut turned);
            for (panel, weight) in panels.chunks_exact(PANEL * inputs).enumerate() {
                let to = panel * PANEL;
                let part = Part { weight, to, width: PANEL.min(outputs - to), outputs };
                for (x, result) in turned.chunks(ROWS * inputs).zip(result.chunks_mut(ROWS * outputs)) {
                    match x.len() / inputs {
                        6 => part.multiply::<S, 6, VECTORS>(simd, x, result),
                        5 => part.multiply::<S, 5, VECTORS>(simd, x, result),
                        4 => part.multiply::<S, 4, VECTORS>(simd, x, result),
                        3 => part.multiply::<S, 3, VECTORS>(simd, x, result),
                        2 => part.multiply::<S, 2, VECTORS>(simd, x, result),
                        _ => part.multiply::<S, 1, VECTORS>(simd, x, result),
                    }
                }
            }
        }
    }
}

/// Lay rows out so that the values of one input lie beside each other, for [`ROWS`] rows or what is left of them.
fn turn(x: &[f32], inputs: usize, turned: &mut Vec<f32>) {
    turned.resize(x.len(), 0.0);
    for (block, turned) in x.chunks(ROWS * inputs).zip(turned.chunks_mut(ROWS * inputs)) {
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

impl Part<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const V: usize>(&self, simd: S, x: &[f32], result: &mut [f32]) {
        let lanes = V * S::F32_LANES;
        for from in (0..self.width).step_by(lanes) {
            let sums = sums::<S, R, V>(simd, x, self.weight, from);
            for (sums, row) in sums.iter().zip(result.chunks_exact_mut(self.outputs)) {
                let mut values = [0_f32; PANEL];
                S::as_mut_simd_f32s(&mut values[..lanes]).0.copy_from_slice(sums);
                let count = lanes.min(self.width - from);
                row[self.to + from..][..count].copy_from_slice(&values[..count]);
            }
        }
    }
}

/// `Σ x w` over the inputs, for `R` rows and the outputs of a panel from `from` on.
#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize>(simd: S, x: &[f32], weight: &[f32], from: usize) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (x, weight) in x.as_chunks::<R>().0.iter().zip(weight.as_chunks::<PANEL>().0) {
        let weight = S::as_simd_f32s(&weight[from..from + V * S::F32_LANES]).0;
        let weight: [S::f32s; V] = array::from_fn(|vector| weight[vector]);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = simd.splat_f32s(*x);
            for (sum, weight) in sums.iter_mut().zip(weight) {
                *sum = simd.mul_add_e_f32s(x, weight, *sum);
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
        for (rows, inputs, outputs) in [(1, 1, 1), (7, 24, 72), (13, 40, 24), (97, 24, 40), (200, 5, 130), (6, 64, 64), (0, 3, 4)] {
            let (x, first, second) = (values(rows * inputs, 1), values(outputs * inputs, 2), values(3 * inputs, 3));
            let weight = [first.clone(), second.clone()].concat();
            let dense = Dense::new(inputs, &[first, second], vec![0.0; outputs + 3]);
            let found = dense.multiply(&x);
            assert_eq!(found.len(), rows * (outputs + 3));
            for (at, found) in found.iter().enumerate() {
                let (x, w) = (&x[at / (outputs + 3) * inputs..], &weight[at % (outputs + 3) * inputs..]);
                let expected: f64 = x.iter().zip(w).take(inputs).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{rows} {inputs} {outputs} at {at}: {found} is not {expected}");
            }
            if rows > 3 {
                let alone = dense.multiply(&x[3 * inputs..4 * inputs]);
                assert_eq!(alone, found[3 * (outputs + 3)..4 * (outputs + 3)], "a row alone has the same bits");
            }
        }
    }
}
