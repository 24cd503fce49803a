//! The search for numbers that are not finite.

use super::{vectorized, with_float};
use superduper::Dtype;

/// Elements of one step: the bytes of a step fit the first level of the cache.
const STEP: usize = 4096;

/// The first element that is NaN or infinite; the index counts row by row. None in a tensor that
/// has no floats.
pub(crate) fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f64)> {
    fn scan<F: super::FloatFormat>(bytes: &[u8]) -> Option<(usize, f64)> {
        let raw = F::raw(bytes);
        let step = vectorized(
            #[inline(always)]
            || {
                // The end is looked for once a step, so that the loop inside vectorizes.
                raw.chunks(STEP)
                    .position(|step| !step.iter().fold(true, |all, &x| all & F::is_finite(x)))
            },
        )?;
        let start = step * STEP;
        let found = raw[start..].iter().position(|&element| !F::is_finite(element))?;
        Some((start + found, F::get(raw[start + found])))
    }
    with_float!(dtype, Format => scan::<Format>(bytes), else None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_found_wherever_it_is() {
        for place in [0, 7, 8, 4095, 4096, 9_990, 9_999] {
            let mut values = vec![f32::MAX; 10_000];
            values[place] = f32::NEG_INFINITY;
            values[9_999] = f32::NEG_INFINITY;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(first_not_finite(Dtype::F32, &bytes), Some((place, f64::NEG_INFINITY)));
        }
        assert_eq!(first_not_finite(Dtype::F16, &[0, 0, 0, 0x7c]), Some((1, f64::INFINITY)));
        assert_eq!(first_not_finite(Dtype::F16, &[0xff, 0x7b]), None);
        assert_eq!(first_not_finite(Dtype::I32, &[0xff; 8]), None);
    }
}
