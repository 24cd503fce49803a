//! Waiting for a condition, not for a time.

use std::time::{Duration, Instant};

/// So long a test waits for what must happen; on a busy machine too it takes a part of it.
const MOST: Duration = Duration::from_secs(60);

/// Wait until something holds.
///
/// # Panics
/// If it does not hold within a minute.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(())).await;
}

/// Wait until there is something.
///
/// # Panics
/// If there is nothing within a minute.
pub(crate) async fn found<T>(what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(begun.elapsed() < MOST, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
