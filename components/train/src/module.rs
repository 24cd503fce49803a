//! What users train: the [`Train`] trait, and how a program finds the code for a stored module.

use crate::{args::Args, context::TrainContext};
use serde::{Deserialize, Serialize};
use std::{any::Any, sync::Arc};
use superduper::{Component, ComponentType, Error, ErrorKind, Result};

/// A component that can be trained; make it known with [`trains!`](crate::trains).
///
/// # Guarantees
/// - Each attempt runs on a copy of its own, decoded from the job's document, on which `postinit`
///   and `setup` ran.
/// - The method runs on a worker thread, so it may block and compute as it likes.
/// - An attempt after a failure or a crash gets what the last durable
///   [`checkpoint`](TrainContext::checkpoint) kept.
///
/// # Assumptions
/// It is at-least-once, as every job: what it does outside of the database it must tolerate to do
/// again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be trained",
    label = "this type has no `impl Train`",
    note = "write `impl Train for {Self}`; the type is a struct with `#[derive(Component)]`"
)]
pub trait Train: ComponentType {
    /// Refuse what is set wrong, in the fields and in the arguments, when the module is submitted:
    /// better than to be told of it by a job that waited for its turn.
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// # use superduper_train::{Args, prelude::*};
    /// # #[derive(Component, Clone)]
    /// # struct Mean { identifier: String }
    /// impl Train for Mean {
    ///     fn check(&self, args: &Args) -> Result<()> {
    ///         args.only(&["scale", "steps"])?; // a misspelt name is refused
    ///         match args.get_or("scale", 1.0)? {
    ///             scale if scale > 0.0 => Ok(()),
    ///             scale => Err(Error::invalid(format!("`scale` must be positive, not {scale}"))),
    ///         }
    ///     }
    /// #   fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
    /// #       Ok(Trained::model(self.clone()))
    /// #   }
    ///     // …
    /// }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` that says what is wrong.
    fn check(&self, args: &Args) -> Result<()> {
        let _none = args;
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

    /// The model, in a test of a module.
    ///
    /// # Errors
    /// `Decode` for a model of another type.
    pub fn get<M: ComponentType>(&self) -> Result<&M> {
        let any: &dyn Any = &*self.model;
        any.downcast_ref().ok_or_else(|| {
            let text = format!("the model is a `{}`, not a `{}`", self.model.kind(), M::__kind());
            Error::new(ErrorKind::Decode, text)
        })
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
    pub version: u32,
    pub check: fn(&dyn Component, &Args) -> Result<()>,
    pub train: fn(Box<dyn Component>, &mut TrainContext) -> Result<Trained>,
}
inventory::collect!(TrainEntry);

impl TrainEntry {
    /// The entry of a type.
    pub const fn of<M: Train>() -> Self {
        TrainEntry {
            kind: M::__kind,
            version: M::SPEC.version,
            check: check::<M>,
            train: train::<M>,
        }
    }
}

fn check<M: Train>(module: &dyn Component, args: &Args) -> Result<()> {
    match (module as &dyn Any).downcast_ref::<M>() {
        Some(module) => module.check(args),
        None => Err(Error::internal(format!(
            "`{}` is of another type than its kind `{}`",
            std::any::type_name::<M>(),
            M::__kind()
        ))),
    }
}

fn train<M: Train>(module: Box<dyn Component>, ctx: &mut TrainContext) -> Result<Trained> {
    superduper::downcast::<M>(module)?.train(ctx)
}

/// Make types with an `impl Train` known, so that a job finds their code in this and in other
/// processes: `trains!(Regression, Classifier);`.
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

/// The kinds that this program can train, sorted.
pub(crate) fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> =
        inventory::iter::<TrainEntry>.into_iter().map(|entry| (entry.kind)()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The code that trains modules of a kind.
pub(crate) fn entry(kind: &str) -> Result<&'static TrainEntry> {
    let known = inventory::iter::<TrainEntry>.into_iter().find(|entry| (entry.kind)() == kind);
    known.ok_or_else(|| {
        let short = kind.rsplit('.').next().unwrap_or(kind);
        let text = format!("this program does not know how to train `{kind}`");
        Error::new(ErrorKind::UnknownKind, text)
            .with_hint(format!(
                "write `superduper::train::trains!({short});` beside its `impl Train`, or \
                 `superduper_train::trains!({short});` where that crate is named itself; {}",
                match kinds().as_slice() {
                    [] => "no kind can be trained so far".to_owned(),
                    kinds => format!("kinds that can be trained: {}", kinds.join(", ")),
                }
            ))
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
        assert_eq!(
            error.to_string().lines().next(),
            Some("this program does not know how to train `acme.Regression`")
        );
        let hint = error.hint().expect("a hint");
        let line = "write `superduper::train::trains!(Regression);` beside its `impl Train`, or \
                    `superduper_train::trains!(Regression);` where that crate is named itself; ";
        assert!(hint.starts_with(line), "{hint}");
        assert!(hint.contains("kinds that can be trained: retention.Plain"), "{hint}");
    }
}
