//! Work that goes on if its caller stops waiting.

use crate::{
    error::{Error, Result},
    unreturned::{Site, Unreturned},
};
use tokio::sync::oneshot;

/// Do some work in a task of its own, and wait for it. If the caller is gone when the work fails,
/// the error is recorded.
///
/// # Errors
/// That of the work; `Internal` if it panicked, or if its runtime ended.
pub(super) async fn detached<T: Send + 'static>(
    site: Site,
    doing: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(unheard) = reply.send(work.await) {
            unheard.or_warn(site, doing);
        }
    });
    answer.await.unwrap_or_else(|_| {
        Err(Error::internal(format!("{doing}: its task panicked, or its runtime ended")))
    })
}
