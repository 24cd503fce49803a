//! Loops compiled for the widest instructions that this processor has, and memory that they ask for
//! ahead of its use.
//!
//! Programs are built for the oldest processor of their kind. `pulp`, which the `gemm` under candle
//! brings along, compiles a closure a second time for AVX-512 and chooses when the program runs.
//! The loops here do the same operations in the same order either way; the products of matrices
//! come from `gemm`, which promises that for one processor only.

/// Run loops with the widest instructions there are. Whatever they call must be inlined to profit.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Ask for the memory under the first of these values, which will be read soon. Changes nothing but
/// when it arrives.
///
/// The memory goes to the second level of the cache: more is asked for than the first one holds. On
/// processors other than x86-64 this does nothing, because safe code has no such instruction there.
#[cfg(feature = "encoders")]
#[inline(always)]
pub(crate) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(values.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
