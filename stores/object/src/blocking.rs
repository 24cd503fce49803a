//! Work that blocks.

use superduper_core::{Error, ErrorKind, Result, store::check_runtime};

/// Run what blocks on a thread that may block.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    check_runtime()?;
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Error::new(ErrorKind::Cancelled, "the runtime is shutting down")
                    .with_source(error)),
            }
        }
    }
}
