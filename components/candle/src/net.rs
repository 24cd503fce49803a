//! What all networks have in common: named parameters that fit their sizes, probabilities, classes,
//! the loss.
//!
//! Invariant: the parameters of a [`Net`] are those that its sizes ask for, by name and shape.

use crate::{
    classes,
    data::{Batch, Table},
    metrics::{accuracy, cross_entropy, most_likely},
    mode::Mode,
    model::{Model, Scores},
    parameters,
    weights::Weights,
};
use candle_core::{D, Tensor, Var};
use std::{collections::BTreeMap, fmt::Debug};
use superduper::{Error, Result, ResultExt};

/// The sizes of a kind of network that classifies, and how it computes.
///
/// A kind of your own is a type with these methods; [`Net`] adds all the rest.
pub trait NetSpec: Debug + Clone + Send + Sync {
    /// What a row is called in errors.
    const ROWS: &'static str = "features";

    /// Name and shape of each parameter and buffer, named `layer.weight` and `layer.bias`; weights
    /// are `[outputs, inputs, …]`. A batch norm also has `layer.running_mean`, `layer.running_var`
    /// and `layer.num_batches_tracked`, which is an integer.
    fn parameters(&self) -> BTreeMap<String, Vec<usize>>;

    /// The number of features of a row.
    fn inputs(&self) -> usize;

    /// The number of classes.
    fn classes(&self) -> usize;

    /// Refuse sizes that no network can have.
    ///
    /// # Errors
    /// `InvalidInput` for an empty layer.
    fn check(&self) -> Result<()>;

    /// The score of each class for rows of shape `[rows, inputs]`: shape `[rows, classes]`.
    ///
    /// # Errors
    /// Those of candle.
    fn logits(&self, params: &BTreeMap<String, Var>, rows: &Tensor) -> Result<Tensor>;

    /// The same in a mode. The [`logits`](NetSpec::logits), if the network computes the same in
    /// each mode.
    ///
    /// # Errors
    /// Those of candle.
    fn logits_in(
        &self,
        params: &BTreeMap<String, Var>,
        rows: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        let _unused = mode;
        self.logits(params, rows)
    }
}

/// A network that classifies: its sizes and parameters. See [`Mlp`](crate::Mlp) and
/// [`Cnn`](crate::Cnn).
#[derive(Debug)]
pub struct Net<S> {
    spec: S,
    params: BTreeMap<String, Var>,
}

impl<S: NetSpec> Net<S> {
    /// Make a model with random parameters.
    ///
    /// Weights and biases of a layer whose units have `n` inputs are uniform in `±1/√n`, as in
    /// PyTorch's `torch.nn.Linear` and `torch.nn.Conv2d`, a form of Y. LeCun et al., "Efficient
    /// BackProp", 1998, section 4.6. Those of a batch norm are 1 and 0, and its running statistics
    /// those of no batches: mean 0, variance 1.
    ///
    /// # Errors
    /// `InvalidInput` for an empty layer.
    pub fn init(spec: S, seed: u64) -> Result<Self> {
        spec.check()?;
        let weights = parameters::init(&spec.parameters(), seed)?;
        Net::from_weights(spec, &weights)
    }

    /// Make a model with parameters that were saved.
    ///
    /// # Errors
    /// `InvalidInput` where a parameter is missing, too many, or of another shape than the sizes
    /// say.
    pub fn from_weights(spec: S, weights: &Weights) -> Result<Self> {
        Net::from_params(spec, weights.to_vars()?)
    }

    /// Make a model that shares its parameters with the caller; they may be f32 or f64.
    ///
    /// # Errors
    /// Those of [`Net::from_weights`].
    pub fn from_params(spec: S, params: BTreeMap<String, Var>) -> Result<Self> {
        spec.check()?;
        parameters::check(&spec.parameters(), &params)?;
        Ok(Net { spec, params })
    }

    /// The sizes of the model.
    pub fn spec(&self) -> &S {
        &self.spec
    }

    /// Copy the parameters.
    ///
    /// # Errors
    /// Those of candle.
    pub fn weights(&self) -> Result<Weights> {
        Weights::of(&self.params)
    }

    /// The score of each class for rows of shape `[rows, inputs]`: shape `[rows, classes]`. In
    /// [`Mode::Eval`].
    ///
    /// # Errors
    /// `InvalidInput` for rows of another shape.
    pub fn logits(&self, rows: &Tensor) -> Result<Tensor> {
        self.logits_in(rows, Mode::Eval)
    }

    /// The score of each class for rows of shape `[rows, inputs]`: shape `[rows, classes]`. In
    /// [`Mode::Train`] this changes the running statistics of a batch norm.
    ///
    /// # Errors
    /// `InvalidInput` for rows of another shape.
    pub fn logits_in(&self, rows: &Tensor, mode: Mode) -> Result<Tensor> {
        let inputs = self.spec.inputs();
        if rows.rank() != 2 || rows.dims()[1] != inputs {
            return Err(Error::invalid(format!(
                "{} have shape {:?}, the model needs [rows, {inputs}]",
                S::ROWS,
                rows.dims()
            )));
        }
        self.spec.logits_in(&self.params, rows, mode)
    }

    /// The probability of each class for rows of shape `[rows, inputs]`: shape `[rows, classes]`,
    /// rows sum to 1.
    ///
    /// # Errors
    /// Those of [`logits`](Net::logits).
    pub fn probabilities(&self, rows: &Tensor) -> Result<Tensor> {
        candle_nn::ops::softmax(&self.logits(rows)?, D::Minus1).context("softmax")
    }

    /// The most likely class of each row, for rows of shape `[rows, inputs]`; the lowest of equals.
    ///
    /// # Errors
    /// Those of [`logits`](Net::logits).
    pub fn predict(&self, rows: &Tensor) -> Result<Vec<u32>> {
        most_likely(&self.logits(rows)?)
    }
}

impl<S: NetSpec> Model for Net<S> {
    fn params(&self) -> &BTreeMap<String, Var> {
        &self.params
    }

    /// The mean cross entropy of a batch, in nats.
    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        self.loss_in(batch, Mode::Eval)
    }

    fn loss_in(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        classes::loss(&self.logits_in(&batch.features, mode)?, batch)
    }

    fn check(&self, table: &Table) -> Result<()> {
        classes::check(table, self.spec.inputs(), self.spec.classes())
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        let (mut loss, mut right) = (0.0, 0.0);
        for rows in table.chunks() {
            let (logits, labels) =
                (self.logits(&table.features_of(rows.clone())?)?, &table.labels()[rows.clone()]);
            loss += cross_entropy(&logits, labels)? * rows.len() as f64;
            right += accuracy(&most_likely(&logits)?, labels)? * rows.len() as f64;
        }
        let rows = table.rows() as f64;
        Ok(Scores {
            loss: loss / rows,
            metrics: BTreeMap::from([("accuracy".to_owned(), right.round() / rows)]),
        })
    }
}
