//! What the components that learn a table have in common: how they train, what they hold out, how rows enter them.

use crate::{
    data::Table,
    optim::{AdamW, Optimizer},
    schedule::{Constant, Schedule},
    train::{Model, Training, report_to},
};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use superduper::{Artifact, Error, ErrorKind, JobContext, Result, ResultExt};

/// What `fit` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The rows trained on.
    pub rows: usize,
    /// The steps taken.
    pub steps: u64,
    /// The mean loss of the last epoch: of a classifier in nats, of a regression the mean squared error.
    pub loss: f64,
}

/// The settings of a component that learns a table.
pub(crate) struct Fit<'a> {
    pub(crate) table: &'a Artifact<Table>,
    pub(crate) epochs: u64,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) held_out: f64,
    pub(crate) optimizer: &'a dyn Optimizer,
    pub(crate) schedule: &'a dyn Schedule,
}

impl Fit<'_> {
    /// Train on the rows that are not held out, in a job.
    pub(crate) fn train(&self, model: &dyn Model, ctx: &JobContext) -> Result<Fitted> {
        let (rows, _) = self.split()?;
        let training = Training { epochs: self.epochs, batch: self.batch, seed: self.seed, schedule: self.schedule };
        let mut state = self.optimizer.init();
        let history = training.run(model, &rows, self.optimizer, &mut state, report_to(ctx))?;
        Ok(Fitted { rows: rows.rows(), steps: state.step(), loss: history.final_loss().unwrap_or_default() })
    }

    /// The rows that are held out; `None` where there are none.
    pub(crate) fn held_out(&self) -> Result<Option<Table>> {
        let (_, held_out) = self.split()?;
        Ok((!held_out.is_empty()).then_some(held_out))
    }

    fn split(&self) -> Result<(Table, Table)> {
        wait(self.table.get())?.split(self.seed, self.held_out)
    }
}

/// Rows of features as a tensor of shape `[rows, inputs]`.
pub(crate) fn features(rows: &[impl AsRef<[f32]>], inputs: usize) -> Result<Tensor> {
    let mut features = Vec::with_capacity(rows.len() * inputs);
    for (index, row) in rows.iter().map(AsRef::as_ref).enumerate() {
        if row.len() != inputs {
            return Err(Error::invalid(format!("row {index} has {} features, the model needs {inputs}", row.len())));
        }
        features.extend_from_slice(row);
    }
    Tensor::from_vec(features, (rows.len(), inputs), &Device::Cpu).context("features")
}

/// The only one of a batch of one row.
pub(crate) fn only<T: Copy>(results: &[T]) -> Result<T> {
    results.first().copied().ok_or_else(|| Error::internal("no result for a row"))
}

/// Wait in a plain `fn` trigger, which runs on a worker thread.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => Err(Error::new(ErrorKind::Unsupported, "a trigger was called outside of a runtime").with_source(error)),
    }
}

pub(crate) fn thirty() -> u64 {
    30
}
pub(crate) fn thirty_two() -> usize {
    32
}
pub(crate) fn one_fifth() -> f64 {
    0.2
}
pub(crate) fn adamw() -> Box<dyn Optimizer> {
    Box::new(AdamW::default())
}
pub(crate) fn constant() -> Box<dyn Schedule> {
    Box::new(Constant {})
}
