//! A network in memory: what a [`Network`](crate::Network) and the components that learn a table
//! predict with.
//!
//! Invariant: a network either classifies or predicts a value; asking for the other is an
//! error, never a number.

use crate::{
    classes::check_width,
    cnn::Cnn,
    data::{Batch, Table, chunk_rows},
    metrics::{
        Evaluation, Prediction, RegressionMetrics, evaluate, mean_squared_error, most_likely,
        regression_metrics,
    },
    mlp::Mlp,
    mode::Mode,
    model::{Model, Scores},
    rows::{check_features, features, only},
    weights::Weights,
};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use superduper::{Error, ErrorKind, Result, ResultExt};

/// A network in memory: made by [`Network::model`](crate::Network::model) or by an
/// [`Architecture`](crate::Architecture).
#[derive(Debug)]
pub enum NetworkModel {
    /// It classifies.
    Mlp(Mlp),
    /// It classifies.
    Cnn(Cnn),
    /// It predicts a value.
    Linear(LinearRegressor),
}

impl NetworkModel {
    /// Copy the parameters.
    ///
    /// # Errors
    /// Those of candle.
    pub fn weights(&self) -> Result<Weights> {
        Weights::of(self.params())
    }

    /// The most likely class of one row of features.
    ///
    /// # Errors
    /// Those of [`predict_batch`](NetworkModel::predict_batch).
    pub fn predict(&self, features: &[f32]) -> Result<u32> {
        only(&self.predict_batch(&[features])?)
    }

    /// The most likely class of each row of features.
    ///
    /// # Errors
    /// `InvalidInput` for another number of features than the network has, for a feature that is
    /// not finite, and for one that predicts values.
    pub fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<u32>> {
        self.require_classifier()?;
        self.in_chunks(rows, Mode::Eval, most_likely)
    }

    /// The probability of each class, for each row of features.
    ///
    /// # Errors
    /// Those of [`predict_batch`](NetworkModel::predict_batch).
    pub fn probabilities(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<Vec<f32>>> {
        self.probabilities_in(rows, Mode::Eval)
    }

    /// The probability of each class, for each row of features, in [`Mode::Eval`] or
    /// [`Mode::Sample`].
    ///
    /// ```
    /// use superduper_candle::{Architecture, MlpSpec, Mode};
    ///
    /// let hidden = vec![8];
    /// let sizes = MlpSpec { inputs: 2, hidden, classes: 3, dropout: 0.5, batch_norm: false };
    /// let network = Architecture::Mlp(sizes).init(7)?;
    /// let row = [[0.5, -1.0]];
    /// let samples: Vec<Vec<f32>> = (0..20)
    ///     .map(|sample| {
    ///         let mode = Mode::Sample { seed: 1, sample };
    ///         Ok(network.probabilities_in(&row, mode)?.concat())
    ///     })
    ///     .collect::<superduper::Result<_>>()?;
    /// assert!(samples.iter().any(|other| *other != samples[0]));
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`predict_batch`](NetworkModel::predict_batch); `InvalidInput` for
    /// [`Mode::Train`].
    pub fn probabilities_in(
        &self,
        rows: &[impl AsRef<[f32]>],
        mode: Mode,
    ) -> Result<Vec<Vec<f32>>> {
        self.require_classifier()?;
        self.in_chunks(rows, mode, |logits| {
            candle_nn::ops::softmax(logits, 1)
                .and_then(|softmax| softmax.to_vec2())
                .context("softmax")
        })
    }

    /// The value of one row of features.
    ///
    /// # Errors
    /// Those of [`predict_values`](NetworkModel::predict_values).
    pub fn predict_value(&self, features: &[f32]) -> Result<f32> {
        only(&self.predict_values(&[features])?)
    }

    /// The value of each row of features.
    ///
    /// # Errors
    /// `InvalidInput` for another number of features than the network has, for a feature that is
    /// not finite, and for one that classifies.
    pub fn predict_values(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<f32>> {
        self.require_regressor()?;
        self.in_chunks(rows, Mode::Eval, values)
    }

    /// What it says of the rows of a table, whatever it predicts.
    ///
    /// # Errors
    /// `InvalidInput` for a table of another width or without rows.
    pub fn prediction(&self, table: &Table) -> Result<Prediction> {
        self.prediction_in(table, Mode::Eval)
    }

    /// What it says of the rows of a table, in [`Mode::Eval`] or [`Mode::Sample`].
    ///
    /// # Errors
    /// Those of [`prediction`](NetworkModel::prediction); `InvalidInput` for [`Mode::Train`].
    pub fn prediction_in(&self, table: &Table, mode: Mode) -> Result<Prediction> {
        check_width(table, self.inputs())?;
        let logits = table
            .chunks()
            .map(|rows| self.logits(&table.features_of(rows.clone())?, rows.start, mode))
            .collect::<Result<Vec<_>>>()?;
        let logits = match logits.as_slice() {
            [] => return Err(Error::invalid("the table has no rows")),
            [only] => only.clone(),
            _ => Tensor::cat(&logits, 0).context("logits of a table")?,
        };
        if self.is_regressor() {
            values(&logits).map(Prediction::Values)
        } else {
            Ok(Prediction::Logits(logits))
        }
    }

    /// How well it classifies the rows of a table.
    ///
    /// # Errors
    /// `InvalidInput` for a table that does not fit, and for a network that predicts values.
    pub fn evaluate(&self, table: &Table) -> Result<Evaluation> {
        self.require_classifier()?;
        self.check(table)?;
        match self.prediction(table)? {
            Prediction::Logits(logits) => evaluate(&logits, table.labels()),
            Prediction::Values(_) => Err(Error::internal("a network of classes predicted values")),
        }
    }

    /// How close it comes to the values of a table.
    ///
    /// # Errors
    /// `InvalidInput` for a table that does not fit, and for a network that classifies.
    pub fn regression_metrics(&self, table: &Table) -> Result<RegressionMetrics> {
        self.require_regressor()?;
        self.check(table)?;
        match self.prediction(table)? {
            Prediction::Values(values) => {
                regression_metrics(&values, table.targets().unwrap_or_default())
            }
            Prediction::Logits(_) => Err(Error::internal("a network of values predicted classes")),
        }
    }

    fn model(&self) -> &dyn Model {
        match self {
            NetworkModel::Mlp(model) => model,
            NetworkModel::Cnn(model) => model,
            NetworkModel::Linear(model) => model,
        }
    }

    /// What it says of rows, a chunk at a time. All rows are checked first.
    fn in_chunks<T>(
        &self,
        rows: &[impl AsRef<[f32]>],
        mode: Mode,
        say: impl Fn(&Tensor) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let inputs = self.inputs();
        check_features(rows, inputs)?;
        let mut said = Vec::with_capacity(rows.len());
        for rows in rows.chunks(chunk_rows(inputs)) {
            let first = said.len();
            said.append(&mut say(&self.logits(&features(rows, inputs)?, first, mode)?)?);
        }
        Ok(said)
    }

    /// Of rows from the `first` on. Without the graph that a training needs: it would hold all that
    /// was computed on the way.
    fn logits(&self, features: &Tensor, first: usize, mode: Mode) -> Result<Tensor> {
        if mode.is_train() {
            return Err(Error::invalid("a prediction is not made in the mode of a training"));
        }
        let logits = match self {
            NetworkModel::Mlp(model) | NetworkModel::Linear(LinearRegressor(model)) => {
                model.logits_in(features, mode)
            }
            NetworkModel::Cnn(model) => model.logits_in(features, mode),
        };
        let logits = logits?.detach();
        let found = logits.flatten_all().and_then(|all| all.to_vec1::<f32>()).context("logits")?;
        match found.iter().position(|value| !value.is_finite()) {
            Some(place) => {
                let (row, value) = (first + place / logits.dims()[1].max(1), found[place]);
                Err(Error::new(ErrorKind::User, format!("the network gives {value} for row {row}"))
                    .with_hint("its weights or the features are too large for it; `Table::scaled` makes features smaller")
                    .fatal())
            }
            None => Ok(logits),
        }
    }

    fn inputs(&self) -> usize {
        match self {
            NetworkModel::Mlp(model) | NetworkModel::Linear(LinearRegressor(model)) => {
                model.spec().inputs
            }
            NetworkModel::Cnn(model) => model.spec().inputs(),
        }
    }

    fn is_regressor(&self) -> bool {
        matches!(self, NetworkModel::Linear(_))
    }

    fn require_classifier(&self) -> Result<()> {
        if !self.is_regressor() {
            return Ok(());
        }
        Err(Error::invalid("the network predicts values, not classes")
            .with_hint("ask it for `predict_values` or `regression_metrics`"))
    }

    fn require_regressor(&self) -> Result<()> {
        if self.is_regressor() {
            return Ok(());
        }
        Err(Error::invalid("the network is a classifier, it predicts no values")
            .with_hint("ask it for `predict_batch` or `evaluate`"))
    }
}

/// It can be trained further, see [`TrainLoop`](crate::TrainLoop).
impl Model for NetworkModel {
    fn params(&self) -> &BTreeMap<String, Var> {
        self.model().params()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        self.model().loss(batch)
    }

    fn loss_in(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        self.model().loss_in(batch, mode)
    }

    fn check(&self, table: &Table) -> Result<()> {
        self.model().check(table)
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        self.model().scores(table)
    }
}

/// Linear regression: a perceptron without hidden layers whose only logit is a value.
#[derive(Debug)]
pub struct LinearRegressor(pub(crate) Mlp);

impl Model for LinearRegressor {
    fn params(&self) -> &BTreeMap<String, Var> {
        self.0.params()
    }

    /// The mean squared error of a batch.
    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let values = self.0.logits(&batch.features)?;
        let error = || values.squeeze(1)?.sub(&batch.labels)?.sqr()?.mean_all();
        error().context(format_args!(
            "squared error of values {:?} and targets {:?}",
            values.dims(),
            batch.labels.dims()
        ))
    }

    fn check(&self, table: &Table) -> Result<()> {
        check_width(table, self.0.spec().inputs)?;
        match table.targets() {
            Some(_) => Ok(()),
            None => Err(Error::invalid("the table has classes, the model needs values to predict")
                .with_hint("make it with `Table::of_values`")),
        }
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        let predicted = table
            .chunks()
            .map(|rows| values(&self.0.logits(&table.features_of(rows)?)?))
            .collect::<Result<Vec<_>>>()?;
        let loss = mean_squared_error(&predicted.concat(), table.targets().unwrap_or_default())?;
        Ok(Scores { loss, metrics: BTreeMap::from([("mse".to_owned(), loss)]) })
    }
}

/// The only logit of each row.
fn values(logits: &Tensor) -> Result<Vec<f32>> {
    logits
        .squeeze(1)
        .and_then(|values| values.to_vec1())
        .context(format_args!("values of shape {:?}", logits.dims()))
}
