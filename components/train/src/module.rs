//! What users train: the [`Train`] trait, and how a program finds the code for a stored module.

use crate::TrainContext;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use superduper::{Component, ComponentType, Error, ErrorKind, Result};

/// A component that can be trained; make it known with [`trains!`](crate::trains).
///
/// # Guarantees
/// - Each attempt runs on a copy of its own, decoded from the job's document, on which `postinit` and `setup` ran.
/// - The method runs on a worker thread, so it may block and compute as it likes.
/// - An attempt after a failure or a crash gets what the last durable [`checkpoint`](TrainContext::checkpoint) kept.
///
/// # Assumptions
/// It is at-least-once, as every job: what it does outside of the database it must tolerate to do again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be trained",
    label = "this type has no `impl Train`",
    note = "write `impl Train for {Self}`; the type is a struct with `#[derive(Component)]`"
)]
pub trait Train: ComponentType {
    /// Refuse what is set wrong, when it is submitted: better than to be told of it by a job that waited for its turn.
    ///
    /// # Errors
    /// `InvalidInput` that says what is wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Train, and give the model.
    ///
    /// # Errors
    /// Any; the job is then ERRORED, or tried again where its trainer says so.
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained>;
}

/// What training gives: a model, which is a component of any type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trained {
    pub(crate) model: Arc<dyn Component>,
}

impl Trained {
    /// This model.
    pub fn model(model: impl Component) -> Self {
        Trained { model: Arc::new(model) }
    }

    /// This model, which others hold too.
    pub fn shared(model: Arc<dyn Component>) -> Self {
        Trained { model }
    }
}

/// What [`trains!`](crate::trains) submits for a type.
#[doc(hidden)]
pub struct TrainEntry {
    pub kind: fn() -> &'static str,
    pub train: fn(Box<dyn Component>, &mut TrainContext) -> Result<Trained>,
}
inventory::collect!(TrainEntry);

impl TrainEntry {
    /// The entry of a type.
    pub const fn of<M: Train>() -> Self {
        TrainEntry { kind: M::__kind, train: train::<M> }
    }
}

fn train<M: Train>(module: Box<dyn Component>, ctx: &mut TrainContext) -> Result<Trained> {
    superduper::downcast::<M>(module)?.train(ctx)
}

/// Make types with an `impl Train` known, so that a job finds their code in this and in other processes:
/// `trains!(Regression, Classifier);`.
///
/// Without the macro: submit `TrainEntry::of::<Regression>()` to `inventory`.
///
/// A type without an `impl Train` is refused by the compiler, at its name:
/// ```compile_fail,E0277
/// use superduper::prelude::*;
/// use superduper_train::trains;
///
/// #[derive(Component)]
/// struct Regression {
///     identifier: String,
/// }
/// trains!(Regression); // `Regression` cannot be trained
/// ```
#[macro_export]
macro_rules! trains {
    ($($type:ty),+ $(,)?) => {$(
        $crate::__private::inventory::submit! { $crate::__private::TrainEntry::of::<$type>() }
    )+};
}

/// The code that trains modules of a kind.
pub(crate) fn entry(kind: &str) -> Result<&'static TrainEntry> {
    inventory::iter::<TrainEntry>.into_iter().find(|entry| (entry.kind)() == kind).ok_or_else(|| {
        let short = kind.rsplit('.').next().unwrap_or(kind);
        Error::new(ErrorKind::UnknownKind, format!("this program does not know how to train `{kind}`"))
            .with_hint(format!("write `superduper::train::trains!({short});` beside its `impl Train`, or `superduper_train::trains!({short});` where that crate is named itself"))
            .fatal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_known_is_told_with_the_line_to_write() {
        let error = entry("acme.Regression").err().expect("nothing makes it known");
        assert_eq!(error.kind(), ErrorKind::UnknownKind);
        assert!(!error.is_retryable(), "the same program does not learn it");
        assert_eq!(error.to_string().lines().next(), Some("this program does not know how to train `acme.Regression`"));
        assert_eq!(
            error.hint(),
            Some(
                "write `superduper::train::trains!(Regression);` beside its `impl Train`, or `superduper_train::trains!(Regression);` where \
                 that crate is named itself"
            )
        );
    }
}
