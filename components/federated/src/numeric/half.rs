//! 16-bit floats as 32-bit ones and back, without branches, so that loops of them vectorize.
//!
//! Invariant: a 16-bit float survives the way there and back, and the way back rounds to the
//! nearest, ties to even (IEEE 754-2019, 4.3.1).

/// The value of an IEEE 754 binary16.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff) << 13;
    // The product moves the exponent by 112, the difference of the biases; subnormals come right.
    let scaled = (f32::from_bits(rest) * f32::from_bits(0x7780_0000)).to_bits();
    let special = rest | 0x7f80_0000;
    f32::from_bits(sign | if rest >= 0x0f80_0000 { special } else { scaled })
}

/// The nearest IEEE 754 binary16.
#[inline(always)]
pub(crate) fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let size = bits & 0x7fff_ffff;
    let special = if size > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    // Adding 0.5 rounds at the last place of a subnormal.
    let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    // The bias changes by 112 exponents; half of the last place is added, one less for even.
    let normal = size.wrapping_sub(112 << 23).wrapping_add(0xfff + ((size >> 13) & 1)) >> 13;
    let size = if size >= 0x4780_0000 {
        special
    } else if size < 0x3880_0000 {
        small
    } else {
        normal
    };
    (sign | size) as u16
}

/// The value of a bfloat16.
#[inline(always)]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_16_bit_float_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = from_f16(bits);
            if value.is_nan() {
                assert!(from_f16(to_f16(value)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(to_f16(value), bits);
            }
            let value = from_bf16(bits);
            if value.is_nan() {
                assert!(from_bf16(to_bf16(value)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(to_bf16(value), bits);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_formats() {
        assert_eq!(from_f16(0x3c00), 1.0);
        assert_eq!(from_f16(0xc000), -2.0);
        assert_eq!(from_f16(0x7bff), 65504.0);
        assert_eq!(from_f16(0x0001), 2.0_f32.powi(-24));
        assert_eq!(from_f16(0x7c00), f32::INFINITY);
        assert_eq!(from_bf16(0x3f80), 1.0);
        assert_eq!(from_bf16(0xff80), f32::NEG_INFINITY);
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_go_to_even() {
        // Between two neighbours the middle goes to the even one, and what is beside it to its side.
        for bits in 0..0x7bff_u16 {
            let (low, high) = (from_f16(bits), from_f16(bits + 1));
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(to_f16(middle), even, "{bits:#06x}");
            assert_eq!(to_f16(middle.next_down()), bits);
            assert_eq!(to_f16(-middle.next_up()), (bits + 1) | 0x8000);
        }
        assert_eq!(to_f16(65519.996), 0x7bff);
        assert_eq!(to_f16(65520.0), 0x7c00);
        assert_eq!(to_f16(f32::MAX), 0x7c00);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8001)), 0x3f81);
    }
}
