//! Where loops run: on threads that may block, with the widest instructions of the processor.
//!
//! Programs are built for the oldest processor of their kind. `pulp` compiles a closure again for
//! AVX2 and for AVX-512, and chooses when the program runs. The loops of this crate do the same
//! operations in the same order either way, so that the bits of a result do not depend on the
//! machine.

use superduper::{Error, Result};
use tokio::runtime::Handle;

/// Work on fewer bytes than this is done at once: to hand it to another thread takes longer.
const INLINE: usize = 1 << 20;

/// Run loops with the widest instructions there are. Whatever they call must be inlined to profit.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Run work on so many bytes without holding up the other tasks of the runtime.
pub(crate) async fn compute<R: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R> {
    let runtime = match Handle::try_current() {
        Ok(runtime) if bytes >= INLINE => runtime,
        _ => return Ok(work()),
    };
    match runtime.spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::internal("the runtime stops").with_source(error)),
        },
    }
}
