//! How certain a model is: models drawn around the mean of a training, and what their predictions
//! say together.

mod dropout;
mod moments;
mod predictions;
mod report;
mod swag;

pub use dropout::dropout;
pub use moments::{MomentUpdate, Moments};
pub use predictions::{Predictions, softmax};
pub use report::{Entropies, RowUncertainty, Uncertainty};
pub use swag::SwagModel;
