//! Metrics as data: a component declares which ones it wants.

use super::{
    accuracy, auc, confusion_matrix, macro_f1, mean_squared_error, most_likely, perplexity,
};
use crate::data::Table;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use superduper::{Error, Result};

/// What a model says of the rows of a table.
#[derive(Debug, Clone)]
pub enum Prediction {
    /// The score of each class, of shape `[rows, classes]`; their softmax is the probability.
    Logits(Tensor),
    /// A value per row.
    Values(Vec<f32>),
}

/// A number that says how well a model does.
///
/// `Box<dyn Metric>` can be a field of a component, see [`crate::Validation`]. A metric of your own
/// is a struct that derives `Debug`, `Serialize` and `Deserialize`, with a name that no other
/// metric has:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use superduper_candle::{Table, metrics::{Metric, Prediction, most_likely}};
///
/// /// How many rows are wrong.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Mistakes {}
///
/// #[typetag::serde(name = "my_crate.Mistakes")]
/// impl Metric for Mistakes {
///     fn name(&self) -> String {
///         "mistakes".to_owned()
///     }
///
///     fn score(&self, prediction: &Prediction, table: &Table) -> superduper::Result<f64> {
///         let predicted = most_likely(self.logits(prediction)?)?;
///         Ok(predicted.iter().zip(table.labels()).filter(|(predicted, label)| predicted != label).count() as f64)
///     }
/// }
///
/// let logits = candle_core::Tensor::new(&[[0.9_f32, 0.1], [0.8, 0.2]], &candle_core::Device::Cpu)?;
/// let table = Table::new(1, vec![0.0, 0.0], vec![0, 1])?;
/// assert_eq!(Mistakes {}.score(&Prediction::Logits(logits), &table)?, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[typetag::serde(tag = "type")]
pub trait Metric: Debug + Send + Sync {
    /// The name under which its score is stored.
    fn name(&self) -> String;

    /// The score of a prediction for the rows of a table.
    ///
    /// # Errors
    /// `InvalidInput` for a prediction or table that the metric is not for.
    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64>;

    /// The scores of classes, for a metric that needs them.
    ///
    /// # Errors
    /// `InvalidInput` for a prediction of values.
    fn logits<'a>(&self, prediction: &'a Prediction) -> Result<&'a Tensor> {
        match prediction {
            Prediction::Logits(logits) => Ok(logits),
            Prediction::Values(_) => Err(Error::invalid(format!(
                "the metric `{}` is for classes, the model predicts values",
                self.name()
            ))),
        }
    }
}

/// See [`accuracy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {}

#[typetag::serde(name = "candle.Accuracy")]
impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".to_owned()
    }

    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64> {
        accuracy(&most_likely(self.logits(prediction)?)?, table.labels())
    }
}

/// See [`macro_f1`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacroF1 {}

#[typetag::serde(name = "candle.MacroF1")]
impl Metric for MacroF1 {
    fn name(&self) -> String {
        "macro_f1".to_owned()
    }

    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64> {
        let logits = self.logits(prediction)?;
        let predicted = most_likely(logits)?;
        Ok(macro_f1(&confusion_matrix(&predicted, table.labels(), logits.dims()[1])?))
    }
}

/// See [`auc`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auc {}

#[typetag::serde(name = "candle.Auc")]
impl Metric for Auc {
    fn name(&self) -> String {
        "auc".to_owned()
    }

    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64> {
        auc(self.logits(prediction)?, table.labels())
    }
}

/// See [`perplexity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perplexity {}

#[typetag::serde(name = "candle.Perplexity")]
impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".to_owned()
    }

    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64> {
        perplexity(self.logits(prediction)?, table.labels())
    }
}

/// See [`mean_squared_error`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeanSquaredError {}

#[typetag::serde(name = "candle.MeanSquaredError")]
impl Metric for MeanSquaredError {
    fn name(&self) -> String {
        "mean_squared_error".to_owned()
    }

    fn score(&self, prediction: &Prediction, table: &Table) -> Result<f64> {
        match (prediction, table.targets()) {
            (Prediction::Values(values), Some(targets)) => mean_squared_error(values, targets),
            _ => Err(Error::invalid(format!(
                "the metric `{}` is for values, the model or the table has classes",
                self.name()
            ))),
        }
    }
}
