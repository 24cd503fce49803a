//! How a component that only knows "some model" lets it predict.
//!
//! A field of type `Box<dyn Component>` can hold any model. Types that can predict a table say so
//! with
//! [`predictor!`](crate::predictor), and are found by their type; nothing else has to know them.

use crate::{data::Table, metrics::Prediction};
use std::any::Any;
use superduper::{__private::inventory, BoxFuture, Component, ComponentType, Error, Result};

/// A model that says something of each row of a table; [`predictor!`](crate::predictor) makes it
/// known.
pub trait Predictor: ComponentType {
    /// What the model says of the rows, in their order.
    ///
    /// # Errors
    /// Those of the model; `NotSetUp` where it was not trained.
    fn predict_table(&self, table: &Table) -> impl Future<Output = Result<Prediction>> + Send;
}

/// Predict with a component of any type that is a [`Predictor`].
///
/// # Errors
/// Those of [`Predictor::predict_table`]; `InvalidInput` for a type that is none, naming those that
/// are.
pub async fn predict_table(model: &dyn Component, table: &Table) -> Result<Prediction> {
    let entries = || inventory::iter::<PredictorEntry>.into_iter();
    for entry in entries() {
        if let Some(prediction) = (entry.predict)(model, table) {
            return prediction.await;
        }
    }
    let mut known: Vec<&str> = entries().map(|entry| (entry.kind)()).collect();
    known.sort_unstable();
    let text = format!("`{}/{}` cannot predict a table", model.kind(), model.identifier());
    Err(Error::invalid(text).with_hint(format!(
        "kinds that can: {}; `predictor!` makes others known",
        known.join(", ")
    )))
}

/// Make a [`Predictor`] known, so that a [`Validation`](crate::Validation) can hold it:
/// `predictor!(MyModel);`.
#[macro_export]
macro_rules! predictor {
    ($type:ty) => {
        $crate::__private::inventory::submit! {
            $crate::__private::PredictorEntry::of::<$type>()
        }
    };
}

/// `None` for a component of another type.
type PredictTable =
    for<'a> fn(&'a dyn Component, &'a Table) -> Option<BoxFuture<'a, Result<Prediction>>>;

/// What [`predictor!`](crate::predictor) registers.
#[doc(hidden)]
pub struct PredictorEntry {
    kind: fn() -> &'static str,
    predict: PredictTable,
}

impl PredictorEntry {
    pub const fn of<T: Predictor>() -> Self {
        fn predict<'a, T: Predictor>(
            model: &'a dyn Component,
            table: &'a Table,
        ) -> Option<BoxFuture<'a, Result<Prediction>>> {
            let model = (model as &dyn Any).downcast_ref::<T>()?;
            Some(Box::pin(model.predict_table(table)))
        }
        PredictorEntry { kind: T::__kind, predict: predict::<T> }
    }
}

inventory::collect!(PredictorEntry);
