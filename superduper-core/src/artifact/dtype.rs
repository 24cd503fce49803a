//! Element types of tensors, as safetensors names them.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! dtypes {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal $bits:literal,)*) => {
        /// The type of a tensor's elements. The order is that of the data in a safetensors file,
        /// from the end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Dtype {
            $($(#[doc = $doc])* #[serde(rename = $text)] $name,)*
        }

        impl Dtype {
            /// The length of one element in bits; below 8 for the formats that share bytes.
            pub fn bits(self) -> usize {
                match self {
                    $(Dtype::$name => $bits,)*
                }
            }

            /// The name in safetensors files.
            pub fn name(self) -> &'static str {
                match self {
                    $(Dtype::$name => $text,)*
                }
            }
        }
    };
}

dtypes! {
    /// True or false, one byte each.
    Bool "BOOL" 8,
    /// 4-bit float of the OCP microscaling formats.
    F4 "F4" 4,
    /// 6-bit float, 2 bits of exponent.
    F6E2M3 "F6_E2M3" 6,
    /// 6-bit float, 3 bits of exponent.
    F6E3M2 "F6_E3M2" 6,
    /// Unsigned 8-bit integer.
    U8 "U8" 8,
    /// Signed 8-bit integer.
    I8 "I8" 8,
    /// 8-bit float, 5 bits of exponent.
    F8E5M2 "F8_E5M2" 8,
    /// 8-bit float, 4 bits of exponent.
    F8E4M3 "F8_E4M3" 8,
    /// 8-bit power of two: a scale of the OCP microscaling formats.
    F8E8M0 "F8_E8M0" 8,
    /// 8-bit float, 4 bits of exponent, no negative zero.
    F8E4M3Fnuz "F8_E4M3FNUZ" 8,
    /// 8-bit float, 5 bits of exponent, no negative zero.
    F8E5M2Fnuz "F8_E5M2FNUZ" 8,
    /// Signed 16-bit integer.
    I16 "I16" 16,
    /// Unsigned 16-bit integer.
    U16 "U16" 16,
    /// 16-bit float of IEEE 754.
    F16 "F16" 16,
    /// 16-bit float with the exponent of `F32`.
    BF16 "BF16" 16,
    /// Signed 32-bit integer.
    I32 "I32" 32,
    /// Unsigned 32-bit integer.
    U32 "U32" 32,
    /// 32-bit float.
    F32 "F32" 32,
    /// Complex number of two 32-bit floats.
    C64 "C64" 64,
    /// 64-bit float.
    F64 "F64" 64,
    /// Signed 64-bit integer.
    I64 "I64" 64,
    /// Unsigned 64-bit integer.
    U64 "U64" 64,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type and shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The lengths of the dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The number of bytes; `None` where it overflows or is no whole number.
    pub fn size(&self) -> Option<usize> {
        let elements =
            self.shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))?;
        let bits = elements.checked_mul(self.dtype.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// A Rust number that is the element of a tensor.
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// The tensor's type.
    const DTYPE: Dtype;
    #[doc(hidden)]
    fn write(values: &[Self]) -> Vec<u8>;
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Vec<Self>;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that no other crate can implement it")]
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ty, $dtype:ident;)*) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DTYPE: Dtype = Dtype::$dtype;
            fn write(values: &[Self]) -> Vec<u8> {
                let mut bytes = vec![0; std::mem::size_of_val(values)];
                for (place, value) in bytes.chunks_exact_mut(size_of::<Self>()).zip(values) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                bytes
            }
            fn read(bytes: &[u8]) -> Vec<Self> {
                bytes.as_chunks().0.iter().map(|chunk| <$rust>::from_le_bytes(*chunk)).collect()
            }
        }
    )*};
}

elements! {
    u8, U8; i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; u64, U64; i64, I64; f32, F32; f64, F64;
}

/// A tensor in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct TensorData {
    /// Type and shape.
    pub info: TensorInfo,
    /// The elements, row by row, little-endian.
    pub bytes: super::Bytes,
}

impl TensorData {
    /// The elements as numbers.
    ///
    /// # Errors
    /// `InvalidInput` where the tensor has elements of another type.
    pub fn to_vec<E: Element>(&self) -> Result<Vec<E>> {
        if self.info.dtype != E::DTYPE {
            return Err(Error::invalid(format!(
                "the tensor has elements of type {}, not {}",
                self.info.dtype,
                E::DTYPE
            )));
        }
        Ok(E::read(&self.bytes))
    }
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorData({})", self.info)
    }
}
