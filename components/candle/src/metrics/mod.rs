//! How well a model does: as functions, each with its source, and as a [`Metric`] that a component
//! can declare.

mod classes;
mod metric;
mod ranking;
mod similarity;
mod values;

pub use classes::{
    Evaluation, accuracy, confusion_matrix, cross_entropy, evaluate, macro_f1, most_likely,
    perplexity,
};
pub use metric::{Accuracy, Auc, MacroF1, MeanSquaredError, Metric, Perplexity, Prediction};
pub use ranking::{auc, binary_auc};
pub use similarity::{Similarity, pearson, similarity, spearman};
pub use values::{RegressionMetrics, mean_squared_error, regression_metrics};
