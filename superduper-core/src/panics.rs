//! Panics of user code, as errors: of `postinit`, of serde implementations and of hooks that are
//! called outside of a job.
//!
//! Invariant: what a component does while it is written or read ends the call with an error, not
//! the caller's task.

use crate::error::{Error, Result};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Call user code; `place` says what it was doing.
pub(crate) fn caught<T>(
    place: impl FnOnce() -> String,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    // What the panic left half-done is dropped with the error.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(error(&place(), &*panic)))
}

/// The error of a panic.
pub(crate) fn error(place: &str, panic: &(dyn Any + Send)) -> Error {
    Error::panicked(format!("{place} panicked: {}", text_of(panic)))
}

/// A future of user code whose panics are errors.
pub(crate) struct Caught<F>(pub(crate) &'static str, pub(crate) Pin<Box<F>>);

impl<T, F: Future<Output = Result<T>>> Future for Caught<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Caught(place, work) = &mut *self;
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(error(place, &*panic))),
        }
    }
}
