//! Panics of user code: caught where they happen, with their text and place.
//!
//! The standard library tells the place of a panic to the hook of the process alone. The hook set
//! here notes it for its own thread and then calls the hook that was there before, so what a
//! program prints stays as it is. Invariant: a place is given out only for the panic that was noted
//! with it.

use crate::unreturned::Unreturned;
use crate::{
    error::{FailureKind, JobFailure},
    panics::text_of,
};
use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

thread_local! {
    /// The text and place of the last panic of this thread.
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Note the places of panics from now on. Where a program sets a hook of its own later and does not
/// call this one, failures have no places.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let Some(location) = info.location() else { return };
    let noted = (text_of(info.payload()), location.to_string());
    let kept = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(noted)));
    kept.ignored("a thread that ends has no place to keep it any more");
}

/// Call a function; its panic is a failure.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, JobFailure> {
    prepare();
    LAST.with_borrow_mut(|last| *last = None);
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = text_of(&*panic);
        let noted = LAST.with_borrow_mut(Option::take).filter(|(noted, _)| *noted == text);
        let failure = JobFailure::new(FailureKind::Panic, format!("panicked: {text}"));
        JobFailure { location: noted.map(|(_, location)| location), ..failure }
    })
}

/// A future whose panic is a failure.
pub(crate) struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Caught<F> {
    pub(crate) fn new(future: F) -> Self {
        Caught(Box::pin(future))
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, JobFailure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match caught(|| self.0.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(failure) => Poll::Ready(Err(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_30_a_place_is_that_of_the_panic_which_was_caught() {
        let failure = caught::<()>(|| panic!("here")).expect_err("a panic");
        assert_eq!(failure.message, "panicked: here");
        assert!(failure.location.is_some_and(|location| location.contains("panics.rs:")));
        let mut old = None;
        let of_another = caught::<()>(|| {
            old = Some(catch_unwind(|| panic!("caught inside")).expect_err("a panic"));
            std::panic::resume_unwind(Box::new("of another thread"))
        });
        assert_eq!(
            of_another.expect_err("a panic").location,
            None,
            "that panic was noted by its own thread"
        );
        assert!(old.is_some());
    }
}
