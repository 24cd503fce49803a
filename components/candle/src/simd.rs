//! Loops compiled for the widest instructions that this processor has.
//!
//! Programs are built for the oldest processor of their kind. `pulp`, which the `gemm` under candle brings along,
//! compiles a closure a second time for AVX-512 and chooses when the program runs. The results are those of the same
//! operations in the same order, so they do not depend on the choice.

/// Run loops with the widest instructions there are. Whatever they call must be inlined to profit.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
