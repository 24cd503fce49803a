//! The parts of an encoder that are no matrix product, over rows of plain f32.
//!
//! Sums are kept in lanes, so that they can be vectorized; their order is fixed, so results do not
//! depend on the processor.

use crate::simd::vectorized;

/// Sums and largest values are kept in as many parts.
const LANES: usize = 16;

/// `Σ f(x)`, in lanes.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0_f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|value| f(*value)).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// e to the power of `x`, for `x` up to 0; relative error about 1e-7. Below -87 it is that of -87,
/// about 1e-38.
///
/// Source: the polynomial of Cephes' `expf`, S. Moshier, after splitting off a power of 2.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer in the low bits.
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    // ln 2 in two parts, the first of which has few digits.
    let r = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * scale
}

/// `x Φ(x)`, the Gaussian error linear unit.
///
/// Source: D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units", 2016; the error function by
/// M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", 1964, formula 7.1.26, whose
/// error is at most 1.5e-7.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t
        + 0.254_829_6)
        * t;
    let erf = 1.0 - p * exp(-z * z);
    0.5 * (x + x.abs() * erf)
}

/// Add a bias to each row and apply the unit.
pub(super) fn bias_gelu(values: &mut [f32], bias: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(bias.len()) {
                for (value, bias) in row.iter_mut().zip(bias) {
                    *value = gelu(*value + *bias);
                }
            }
        },
    );
}

/// The scale and shift of a normalization.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
}

impl Norm {
    /// `values ← normalize(values + bias + residual)`, row by row.
    ///
    /// Source: J. Ba et al., "Layer Normalization", 2016, equation 4.
    pub(super) fn add_and_normalize(&self, values: &mut [f32], bias: &[f32], residual: &[f32]) {
        let width = bias.len();
        vectorized(
            #[inline(always)]
            || {
                for (row, residual) in
                    values.chunks_exact_mut(width).zip(residual.chunks_exact(width))
                {
                    for ((value, bias), residual) in row.iter_mut().zip(bias).zip(residual) {
                        *value += *bias + *residual;
                    }
                    let mean = sum(row, |value| value) / width as f32;
                    let variance = sum(row, |value| (value - mean) * (value - mean)) / width as f32;
                    let factor = 1.0 / (variance + self.epsilon).sqrt();
                    for ((value, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift)
                    {
                        *value = (*value - mean) * factor * *scale + *shift;
                    }
                }
            },
        );
    }
}

/// Attention within each sentence: `softmax(q kᵀ / √d) v` for each head of width `d`.
///
/// `qkv` has a row per token, queries, keys and values beside each other, to which `bias` is added
/// first; `lengths` are the tokens of each sentence. The result has a row of `width` per token.
///
/// Source: A. Vaswani et al., "Attention Is All You Need", 2017, equation 1.
pub(super) fn attention(
    qkv: &mut [f32],
    bias: &[f32],
    lengths: &[usize],
    heads: usize,
) -> Vec<f32> {
    let width = bias.len() / 3;
    let head = width / heads;
    let mut result = vec![0_f32; qkv.len() / 3];
    let longest = lengths.iter().copied().max().unwrap_or(0).next_multiple_of(LANES);
    let (mut keys, mut scores) = (vec![0_f32; head * longest], vec![0_f32; longest]);
    vectorized(
        #[inline(always)]
        || {
            for row in qkv.chunks_exact_mut(3 * width) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += *bias);
            }
            let mut from = 0;
            for &length in lengths {
                let tokens = &qkv[from * 3 * width..(from + length) * 3 * width];
                let results = &mut result[from * width..(from + length) * width];
                let padded = length.next_multiple_of(LANES);
                for at in (0..heads).map(|index| index * head) {
                    attend(
                        tokens,
                        results,
                        (width, at, head),
                        &mut keys[..head * padded],
                        &mut scores[..padded],
                    );
                }
                from += length;
            }
        },
    );
    result
}

/// One head of one sentence: columns `at..at + head` of queries, keys and values. `keys` and
/// `scores` have room for its tokens, filled up to whole vectors.
#[inline(always)]
fn attend(
    tokens: &[f32],
    results: &mut [f32],
    (width, at, head): (usize, usize, usize),
    keys: &mut [f32],
    scores: &mut [f32],
) {
    let length = tokens.len() / (3 * width);
    transpose(tokens, (width, at, head), keys);
    let factor = 1.0 / (head as f32).sqrt();
    for (row, result) in tokens.chunks_exact(3 * width).zip(results.chunks_exact_mut(width)) {
        for (scores, keys) in
            scores.as_chunks_mut::<LANES>().0.iter_mut().zip(keys.chunks_exact(LANES * head))
        {
            let mut sums = [0_f32; LANES];
            for (query, keys) in row[at..at + head].iter().zip(keys.as_chunks::<LANES>().0) {
                let query = query * factor;
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum += query * key;
                }
            }
            *scores = sums;
        }
        scores[length..].fill(f32::NEG_INFINITY);
        let largest = largest(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - largest);
        }
        scores[length..].fill(0.0);
        let share = 1.0 / sum(scores, |score| score);
        scores.iter_mut().for_each(|score| *score *= share);
        let values = |from: usize| {
            scores
                .iter()
                .zip(tokens.chunks_exact(3 * width))
                .map(move |(share, row)| (share, &row[2 * width + from..]))
        };
        let (blocks, rest) = result[at..at + head].as_chunks_mut::<LANES>();
        let rest_at = at + blocks.len() * LANES;
        for (index, result) in blocks.iter_mut().enumerate() {
            let mut sums = [0_f32; LANES];
            for (share, values) in values(at + index * LANES) {
                for (sum, value) in sums.iter_mut().zip(&values[..LANES]) {
                    *sum += share * value;
                }
            }
            *result = sums;
        }
        for (index, result) in rest.iter_mut().enumerate() {
            *result = values(rest_at + index).map(|(share, values)| share * values[0]).sum();
        }
    }
}

/// The keys of a head, transposed in blocks, so that the scores of a block of keys grow side by
/// side, in a register. Keys that are not there stay whatever they were; their scores are
/// overwritten.
#[inline(always)]
fn transpose(tokens: &[f32], (width, at, head): (usize, usize, usize), keys: &mut [f32]) {
    for (block, keys) in tokens.chunks(LANES * 3 * width).zip(keys.chunks_exact_mut(LANES * head)) {
        for (token, row) in block.chunks_exact(3 * width).enumerate() {
            for (value, keys) in
                row[width + at..width + at + head].iter().zip(keys.as_chunks_mut::<LANES>().0)
            {
                keys[token] = *value;
            }
        }
    }
}

/// The largest of whole vectors of values.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(*value);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_units_are_exact_to_single_precision() {
        for step in 0..=8700 {
            let x = -f64::from(step) / 100.0;
            let relative = f64::from(exp(x as f32)) / f64::from(x as f32).exp() - 1.0;
            assert!(relative.abs() < 3e-7, "exp({x}): {relative}");
        }
        // Φ at 1 and 2 from tables of the normal distribution.
        for (x, expected) in [
            (1.0, 0.841_344_8),
            (-1.0, -0.158_655_25),
            (2.0, 2.0 * 0.977_249_9),
            (0.0, 0.0),
            (-9.0, 0.0),
            (30.0, 30.0),
        ] {
            assert!((gelu(x) - expected).abs() < 5e-7, "gelu({x}) is {}", gelu(x));
        }
    }

    #[test]
    fn rows_are_normalized() {
        let norm = Norm { scale: vec![2.0, 2.0, 1.0], shift: vec![0.0, 1.0, 0.0], epsilon: 0.0 };
        let mut values = [0.0, 1.0, 1.0, 4.0, 4.0, 10.0];
        norm.add_and_normalize(&mut values, &[1.0, 0.0, 0.0], &[0.0, 1.0, 2.0, 0.0, 1.0, -4.0]);
        // 1, 2, 3 and 5, 5, 6: means 2 and 16/3, variances 2/3 and 2/9.
        let s = 1.5_f32.sqrt();
        let expected =
            [-2.0 * s, 1.0, s, -2.0 / 2_f32.sqrt(), 1.0 - 2.0 / 2_f32.sqrt(), 2_f32.sqrt()];
        assert!(
            values.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-5),
            "{values:?}"
        );
    }

    #[test]
    fn attention_stays_in_its_sentence() {
        // One head of width 1, two sentences; with queries of 0 each token gets the mean of its
        // sentence's values.
        let mut qkv = [0.0, 5.0, 1.0, 0.0, -5.0, 3.0, 0.0, 1.0, 10.0];
        assert_eq!(attention(&mut qkv, &[0.0, 0.0, 1.0], &[2, 1], 1), [3.0, 3.0, 11.0]);
        // Weights 1 : e² by the second query.
        let mut qkv = [0.0, 0.0, 1.0, 1.0, 2.0, 3.0];
        let second = attention(&mut qkv, &[0.0; 3], &[2], 1)[1];
        let e2 = 2_f32.exp();
        assert!((second - (1.0 + 3.0 * e2) / (1.0 + e2)).abs() < 1e-6, "{second}");
    }
    #[test]
    fn attention_of_any_size_is_that_of_plain_loops() {
        let mut rng = crate::Rng::new(6);
        for (head, lengths) in [
            (1, vec![1, 16, 17]),
            (6, vec![33, 2]),
            (16, vec![15]),
            (20, vec![17, 31, 1]),
            (32, vec![18, 5]),
        ] {
            let (heads, tokens) = (3, lengths.iter().sum::<usize>());
            let width = heads * head;
            // Large enough that shares differ.
            let values: Vec<f32> =
                (0..tokens * 3 * width).map(|_| 4.0 * (rng.uniform() - 0.5)).collect();
            let found = attention(&mut values.clone(), &vec![0.0; 3 * width], &lengths, heads);
            let value = |token: usize, part: usize, column: usize| {
                f64::from(values[token * 3 * width + part * width + column])
            };
            let mut from = 0;
            for length in lengths {
                for (token, column) in (from..from + length)
                    .flat_map(|token| (0..width).map(move |column| (token, column)))
                {
                    let columns = column / head * head..(column / head + 1) * head;
                    let score = |key: usize| {
                        columns
                            .clone()
                            .map(|at| value(token, 0, at) * value(key, 1, at))
                            .sum::<f64>()
                    };
                    let shares: Vec<f64> = (from..from + length)
                        .map(|key| (score(key) / (head as f64).sqrt()).exp())
                        .collect();
                    let mixed: f64 = shares
                        .iter()
                        .zip(from..)
                        .map(|(share, key)| share * value(key, 2, column))
                        .sum();
                    let expected = mixed / shares.iter().sum::<f64>();
                    let found = f64::from(found[token * width + column]);
                    assert!(
                        (found - expected).abs() < 2e-6,
                        "head {head}, token {token}, column {column}: {found} is not {expected}"
                    );
                }
                from += length;
            }
        }
    }
}
