//! The formats of elements that this crate computes with, and what it computes them in.
//!
//! Invariant: `write(read(raw))` gives `raw` again, but for NaN.

use super::half;
use superduper::Dtype;

/// How elements are stored.
pub(crate) trait Format: 'static {
    /// The bytes of one element, little-endian.
    type Raw: Copy + Default + Send + Sync;
    /// The number that an element is.
    type Lane: Copy + Default + Send + Sync + 'static;
    /// An integer that is ordered as the numbers are.
    type Key: Copy + Default + Ord;

    /// The elements of a tensor.
    fn raw(bytes: &[u8]) -> &[Self::Raw];
    /// The elements of a tensor, to be written.
    fn raw_mut(bytes: &mut [u8]) -> &mut [Self::Raw];
    /// The bytes of elements.
    fn bytes(raw: &[Self::Raw]) -> &[u8];
    /// The key of an element.
    fn key(raw: Self::Raw) -> Self::Key;
    /// The element of a key.
    fn of_key(key: Self::Key) -> Self::Raw;
    /// The number.
    fn read(raw: Self::Raw) -> Self::Lane;
    /// The element that is nearest to a number.
    fn write(lane: Self::Lane) -> Self::Raw;
}

/// How floats are stored, and what they are summed in.
pub(crate) trait FloatFormat: Format {
    /// `f32` for 16-bit floats, else `f64`: equal 32-bit floats then have themselves as their mean.
    type Sum: Real;

    /// Whether the number is neither NaN nor infinite.
    fn is_finite(raw: Self::Raw) -> bool;
    /// The number in the type of sums.
    fn widen(lane: Self::Lane) -> Self::Sum;
    /// The nearest number of the format's own type.
    fn narrow(sum: Self::Sum) -> Self::Lane;

    /// The factor of a site with so many of all samples.
    ///
    /// A part of 1, but for `F64`: there it is the number of samples, so that small whole numbers
    /// have means without rounding. A large bfloat16 times a number of samples would be infinite.
    fn weight(samples: u64, total: u128) -> Self::Sum;
    /// The mean that a sum of weighted numbers gives.
    fn mean(sum: Self::Sum, total: u128) -> Self::Sum;

    /// The number as 64-bit float.
    #[inline(always)]
    fn get(raw: Self::Raw) -> f64 {
        Self::widen(Self::read(raw)).into()
    }
    /// The element that is nearest to a number in the type of sums.
    #[inline(always)]
    fn put(sum: Self::Sum) -> Self::Raw {
        Self::write(Self::narrow(sum))
    }
}

/// A float that sums are computed in.
pub(crate) trait Real:
    Copy
    + Default
    + Send
    + Sync
    + 'static
    + Into<f64>
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
{
    /// The nearest of this type.
    fn from_f64(value: f64) -> Self;
}

impl Real for f64 {
    #[inline(always)]
    fn from_f64(value: f64) -> f64 {
        value
    }
}

impl Real for f32 {
    #[inline(always)]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

/// The bits of a float as an integer of the same order, and back: in negative numbers all bits but
/// the sign are flipped.
macro_rules! ordered {
    ($integer:ty) => {
        |bits: $integer| bits ^ ((bits >> (<$integer>::BITS - 1)) & <$integer>::MAX)
    };
}

macro_rules! formats {
    ($($name:ident, $lane:ty, $key:ty, $ordered:expr, $read:expr, $write:expr;)*) => {$(
        /// The format that safetensors files name like this.
        pub(crate) struct $name;
        impl Format for $name {
            type Raw = [u8; size_of::<$key>()];
            type Lane = $lane;
            type Key = $key;
            #[inline(always)]
            fn raw(bytes: &[u8]) -> &[Self::Raw] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn raw_mut(bytes: &mut [u8]) -> &mut [Self::Raw] {
                bytes.as_chunks_mut().0
            }
            #[inline(always)]
            fn bytes(raw: &[Self::Raw]) -> &[u8] {
                raw.as_flattened()
            }
            #[inline(always)]
            fn key(raw: Self::Raw) -> $key {
                $ordered(<$key>::from_le_bytes(raw))
            }
            #[inline(always)]
            fn of_key(key: $key) -> Self::Raw {
                $ordered(key).to_le_bytes()
            }
            #[inline(always)]
            fn read(raw: Self::Raw) -> $lane {
                $read(raw)
            }
            #[inline(always)]
            fn write(lane: $lane) -> Self::Raw {
                $write(lane)
            }
        }
    )*};
}

formats! {
    F64, f64, i64, ordered!(i64), f64::from_le_bytes, f64::to_le_bytes;
    F32, f32, i32, ordered!(i32), f32::from_le_bytes, f32::to_le_bytes;
    F16, f32, i16, ordered!(i16), |raw| half::from_f16(u16::from_le_bytes(raw)),
        |lane| half::to_f16(lane).to_le_bytes();
    BF16, f32, i16, ordered!(i16), |raw| half::from_bf16(u16::from_le_bytes(raw)),
        |lane| half::to_bf16(lane).to_le_bytes();
}

macro_rules! whole {
    ($($name:ident, $number:ty;)*) => {
        formats! {
            $($name, $number, $number, |number| number,
                <$number>::from_le_bytes, <$number>::to_le_bytes;)*
        }
    };
}

whole! {
    I64, i64; U64, u64; I32, i32; U32, u32; I16, i16; U16, u16; I8, i8; U8, u8; Bool, u8;
}

/// The part that some samples are of all.
fn part(samples: u64, total: u128) -> f64 {
    samples as f64 / total as f64
}

macro_rules! floats {
    ($($name:ident, $sum:ty, $bits:ty, $exponent:literal, $weight:expr, $mean:expr;)*) => {$(
        impl FloatFormat for $name {
            type Sum = $sum;
            #[inline(always)]
            fn is_finite(raw: Self::Raw) -> bool {
                <$bits>::from_le_bytes(raw) & $exponent != $exponent
            }
            #[inline(always)]
            fn widen(lane: Self::Lane) -> $sum {
                <$sum>::from(lane)
            }
            #[inline(always)]
            fn narrow(sum: $sum) -> Self::Lane {
                sum as Self::Lane
            }
            #[inline(always)]
            fn weight(samples: u64, total: u128) -> $sum {
                $weight(samples, total)
            }
            #[inline(always)]
            fn mean(sum: $sum, total: u128) -> $sum {
                $mean(sum, total)
            }
        }
    )*};
}

floats! {
    F64, f64, u64, 0x7ff0_0000_0000_0000, |samples, _| samples as f64,
        |sum, total| sum / total as f64;
    F32, f64, u32, 0x7f80_0000, part, |sum, _| sum;
    F16, f32, u16, 0x7c00, |samples, total| part(samples, total) as f32, |sum, _| sum;
    BF16, f32, u16, 0x7f80, |samples, total| part(samples, total) as f32, |sum, _| sum;
}

/// Whether elements of this type are weights: numbers that can be averaged.
pub(crate) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Compute with a type of floats as `$format`, or else.
macro_rules! with_float {
    ($dtype:expr, $format:ident => $body:expr, else $other:expr $(,)?) => {{
        use $crate::numeric as n;
        match $dtype {
            superduper::Dtype::F64 => {
                type $format = n::F64;
                $body
            }
            superduper::Dtype::F32 => {
                type $format = n::F32;
                $body
            }
            superduper::Dtype::F16 => {
                type $format = n::F16;
                $body
            }
            superduper::Dtype::BF16 => {
                type $format = n::BF16;
                $body
            }
            _ => $other,
        }
    }};
}
pub(crate) use with_float;

/// Compute with a type of integers or booleans as `$format`, or else.
macro_rules! with_whole {
    ($dtype:expr, $format:ident => $body:expr, else $other:expr $(,)?) => {{
        use $crate::numeric as n;
        match $dtype {
            superduper::Dtype::I64 => {
                type $format = n::I64;
                $body
            }
            superduper::Dtype::U64 => {
                type $format = n::U64;
                $body
            }
            superduper::Dtype::I32 => {
                type $format = n::I32;
                $body
            }
            superduper::Dtype::U32 => {
                type $format = n::U32;
                $body
            }
            superduper::Dtype::I16 => {
                type $format = n::I16;
                $body
            }
            superduper::Dtype::U16 => {
                type $format = n::U16;
                $body
            }
            superduper::Dtype::I8 => {
                type $format = n::I8;
                $body
            }
            superduper::Dtype::U8 => {
                type $format = n::U8;
                $body
            }
            superduper::Dtype::Bool => {
                type $format = n::Bool;
                $body
            }
            _ => $other,
        }
    }};
}
pub(crate) use with_whole;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_as_the_numbers_are() {
        let numbers = [f32::MIN, -1.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, f32::MAX, f32::INFINITY];
        let keys = numbers.map(|number| F32::key(number.to_le_bytes()));
        assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
        let numbers = [f64::MIN, -1.5, -1e-310, -0.0, 0.0, 1e-310, 2.0, f64::MAX];
        let keys = numbers.map(|number| F64::key(number.to_le_bytes()));
        assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
        for bits in 0..=u16::MAX {
            let raw = bits.to_le_bytes();
            assert_eq!(F16::of_key(F16::key(raw)), raw);
            assert_eq!(BF16::of_key(BF16::key(raw)), raw);
        }
        let (low, high) = (F16::key([0x00, 0xc0]), F16::key([0x00, 0xbc]));
        assert!(low < high, "-2 is below -1");
    }
}
