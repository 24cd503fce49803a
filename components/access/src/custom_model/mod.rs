//! Models in the form that data scientists know: seven methods. Needs the feature `candle`.

mod contract;
pub(crate) mod run;

pub use contract::{CustomModel, Forward};
