//! Tensors of bytes as numbers: formats of elements, wide instructions and threads that may block.

mod compute;
mod format;
mod half;
mod scan;

pub(crate) use compute::{compute, vectorized};
pub(crate) use format::{BF16, Bool, F16, F32, F64, FloatFormat, Format, Real, is_float};
pub(crate) use format::{I8, I16, I32, I64, U8, U16, U32, U64};
pub(crate) use format::{with_float, with_whole};
pub(crate) use scan::first_not_finite;
