//! Triggers: methods that run as jobs when something happens to their component.

use crate::future::BoxFuture;
use crate::{
    component::policy::JobPolicy,
    encode::Encoded,
    error::{BoxError, Error, Result},
    job::JobContext,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// When a trigger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// `#[trigger("apply")]`: when its component is applied.
    Apply,
    /// `#[trigger("call")]`: only when a job asks for it with `ctx.spawn`.
    Call,
}

/// Which changes of an update run a trigger again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Those of the fields named in `watch` and `requires`.
    Fields(&'static [&'static str]),
    /// `watch = "*"`: any.
    Any,
}

/// One trigger that another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// The method waited for.
    pub name: &'static str,
    /// Whether a parameter takes its result.
    pub parameter: bool,
    /// Whether that parameter is an `Option`, which gets `None` where the other has unmet
    /// requirements.
    pub optional: bool,
}

/// What `#[trigger(…)]` says, apart from the method itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerSpec {
    /// The method.
    pub name: &'static str,
    /// When it runs.
    pub event: Event,
    /// What it waits for: `depends_on` and parameters, in the order they are written.
    pub depends_on: &'static [Dependency],
    /// The fields that must be set.
    pub requires: &'static [&'static str],
    /// Which changes of an update run it again.
    pub watch: Watch,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// The pause before the first retry, in milliseconds; it doubles with each further one.
    pub backoff_ms: u64,
    /// The time limit of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The executor it asks for: `threads`, `process`.
    pub executor: Option<&'static str>,
    /// Whether the method is a plain `fn`, which runs on a worker thread.
    pub blocking: bool,
    /// Whether the method takes the context, without which it sets no output.
    pub context: bool,
    /// The outputs that its body sets with `ctx.set(&self.field, …)`. Those that it sets through
    /// other functions are not in the list: they are known once a job has set them.
    pub sets: &'static [&'static str],
}

/// How a trigger is called.
#[doc(hidden)]
pub enum Run<T> {
    Async(for<'a> fn(&'a T, &'a JobContext) -> BoxFuture<'a, Result<Encoded>>),
    Sync(fn(&T, &JobContext) -> Result<Encoded>),
}

/// A field named in `requires` and the test whether it is set.
#[doc(hidden)]
pub type RequiredField<T> = (&'static str, fn(&T) -> bool);

/// A trigger of a type: written by `#[triggers]`.
#[doc(hidden)]
pub struct Trigger<T: 'static> {
    pub spec: TriggerSpec,
    pub requires: &'static [RequiredField<T>],
    pub run: Run<T>,
    /// How the trigger is run for one component, where that is no constant.
    pub policy: Option<fn(&T) -> JobPolicy>,
}

/// What a field must be to be named in `requires`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used with `requires`",
    label = "a field of this type is always present, so it cannot be a requirement",
    note = "`requires` works on `Option<T>`, `bool`, `String`, `Vec<T>`, sets and maps; implement `superduper::schema::Requirement` for a type of your own"
)]
pub trait Requirement {
    /// Whether the field is set.
    fn is_met(&self) -> bool;
}
impl<T> Requirement for Option<T> {
    fn is_met(&self) -> bool {
        self.is_some()
    }
}
impl Requirement for bool {
    fn is_met(&self) -> bool {
        *self
    }
}
macro_rules! requirement_not_empty {
    ($([$($generics:tt)*] $type:ty),+ $(,)?) => {$(
        impl<$($generics)*> Requirement for $type {
            fn is_met(&self) -> bool {
                !self.is_empty()
            }
        }
    )+};
}
requirement_not_empty!([] String, [T] Vec<T>, [T] VecDeque<T>, [T] BTreeSet<T>, [T, S] HashSet<T, S>, [K, V] BTreeMap<K, V>, [K, V, S] HashMap<K, V, S>);

/// What a trigger or callable may return: `Result<T, E>` with `T: Serialize` and any error, or
/// nothing.
#[diagnostic::on_unimplemented(
    message = "a trigger or callable must return `Result<T, E>` with `T: Serialize` and any error `E`, or nothing",
    label = "`{Self}` cannot be recorded as a result"
)]
pub trait TriggerOutput {
    /// The type that a dependent's parameter must have.
    type Value;
    /// Encode the result.
    ///
    /// # Errors
    /// The method's own error, or one of encoding.
    fn into_encoded(self) -> Result<Encoded>;

    /// Encode the result by a function that also sees that it can be read back, where the type of
    /// the value can be read.
    #[doc(hidden)]
    fn __into_encoded(self, _checked: Option<Encode<Self::Value>>) -> Result<Encoded>
    where
        Self: Sized,
    {
        self.into_encoded()
    }
}

/// A function that encodes a value.
#[doc(hidden)]
pub type Encode<T> = fn(&T) -> Result<Encoded>;
impl TriggerOutput for () {
    type Value = ();
    fn into_encoded(self) -> Result<Encoded> {
        Ok(Encoded::null())
    }
}
impl<T: Serialize, E: Into<BoxError>> TriggerOutput for std::result::Result<T, E> {
    type Value = T;
    fn into_encoded(self) -> Result<Encoded> {
        match self {
            Ok(value) => or_drop(value, Encoded::of),
            Err(error) => Err(Error::from(error.into())),
        }
    }

    fn __into_encoded(self, checked: Option<Encode<T>>) -> Result<Encoded> {
        match (self, checked) {
            (Ok(value), Some(checked)) => or_drop(value, checked),
            (result, _) => result.into_encoded(),
        }
    }
}

fn or_drop<T>(value: T, encode: impl FnOnce(&T) -> Result<Encoded>) -> Result<Encoded> {
    let encoded = encode(&value);
    if encoded.is_err() {
        crate::json::drop_refused(value);
    }
    encoded
}

/// Whether a parameter can take the result of the trigger it is named after.
#[diagnostic::on_unimplemented(
    message = "this parameter takes the result of the trigger it is named after, which is `{Output}`",
    label = "expected `{Output}` or `Option<{Output}>`"
)]
pub trait TakesResult<Output> {}
impl<T> TakesResult<T> for T {}
impl<T> TakesResult<T> for Option<T> {}
