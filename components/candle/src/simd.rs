//! Loops compiled for the widest instructions that this processor has.
//!
//! Programs are built for the oldest processor of their kind. `pulp`, which the `gemm` under candle brings along,
//! compiles a closure a second time for AVX-512 and chooses when the program runs. The loops here do the same operations in
//! the same order either way; the products of matrices come from `gemm`, which promises that for one processor only.

/// Run loops with the widest instructions there are. Whatever they call must be inlined to profit.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
