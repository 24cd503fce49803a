//! What can be trained: a model with named parameters and a loss, and how it scores.

use crate::{
    data::{Batch, Table},
    mode::Mode,
};
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use superduper::{Error, ErrorKind, Result, ResultExt};

/// What can be trained: named parameters and a loss.
pub trait Model {
    /// The parameters and buffers by name; always the same ones. A buffer, such as a running
    /// statistic, is saved with the parameters, but the loss does not depend on it while the model
    /// learns; see [`is_buffer`](crate::is_buffer).
    fn params(&self) -> &BTreeMap<String, Var>;

    /// The loss of a batch: a scalar that can be differentiated. It should be a mean over the rows.
    ///
    /// # Errors
    /// Those of the model; they end the training.
    fn loss(&self, batch: &Batch) -> Result<Tensor>;

    /// The loss of a batch in a mode: what [`TrainLoop`](crate::TrainLoop) learns from, in
    /// [`Mode::Train`]. The [`loss`](Model::loss), if the model computes the same in each mode.
    ///
    /// # Errors
    /// Those of the model; they end the training.
    fn loss_in(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        let _unused = mode;
        self.loss(batch)
    }

    /// Refuse a table that the model cannot learn from; called once, before the first step.
    ///
    /// # Errors
    /// `InvalidInput` that says what does not fit.
    fn check(&self, table: &Table) -> Result<()> {
        let _unused = table;
        Ok(())
    }

    /// How the model does on a table, with the parameters as they are; the mean loss, if nothing
    /// else is known.
    ///
    /// # Errors
    /// Those of the model.
    fn scores(&self, table: &Table) -> Result<Scores> {
        let mut sum = 0.0;
        for rows in table.chunks() {
            let rows: Vec<usize> = rows.collect();
            sum += f64::from(value(&self.loss(&table.batch(&rows)?)?)?) * rows.len() as f64;
        }
        Ok(Scores { loss: sum / table.rows() as f64, metrics: BTreeMap::new() })
    }
}

/// How a model does on rows that it does not learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The loss that the training makes small: of a classifier the cross entropy in nats, of a
    /// regression the mean squared error.
    pub loss: f64,
    /// What else the model can say, by name: `accuracy` of a classifier, `mse` of a regression.
    pub metrics: BTreeMap<String, f64>,
}

/// The value of a loss, which must be finite.
pub(crate) fn value(loss: &Tensor) -> Result<f32> {
    let value = loss
        .to_dtype(DType::F32)
        .and_then(|loss| loss.to_scalar::<f32>())
        .context(format_args!("loss of shape {:?}", loss.dims()))?;
    if value.is_finite() { Ok(value) } else { Err(not_finite(&format!("the loss is {value}"))) }
}

/// The error for a loss that is NaN or infinite.
pub(crate) fn not_finite(what: &str) -> Error {
    Error::new(ErrorKind::User, what.to_owned())
        .with_hint("lower the learning rate, or scale the features to about -1 to 1")
        .fatal()
}
