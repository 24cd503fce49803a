//! A network in memory: what a [`Network`](crate::Network) and the components that learn a table predict with.
//!
//! Invariant: a network either tells classes apart or predicts a value; asking for the other is an error, never a number.

use crate::{
    classes::check_width,
    cnn::Cnn,
    data::{Batch, Table, stretch},
    fit::{check_features, features, only},
    metrics::{Evaluation, Prediction, RegressionMetrics, evaluate, mean_squared_error, most_likely, regression_metrics},
    mlp::Mlp,
    train::{Model, Scores},
    weights::Weights,
};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use superduper::{Error, ErrorKind, Result, ResultExt};

/// A network in memory: made by [`Network::model`](crate::Network::model) or by an [`Architecture`](crate::Architecture).
#[derive(Debug)]
pub enum NetworkModel {
    /// It tells classes apart.
    Mlp(Mlp),
    /// It tells classes apart.
    Cnn(Cnn),
    /// It predicts a value.
    Linear(Line),
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
    /// `InvalidInput` for another number of features than the network has, for a feature that is not finite, and for one that predicts
    /// values.
    pub fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<u32>> {
        self.of_classes()?;
        self.in_stretches(rows, most_likely)
    }

    /// The probability of each class, for each row of features.
    ///
    /// # Errors
    /// Those of [`predict_batch`](NetworkModel::predict_batch).
    pub fn probabilities(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<Vec<f32>>> {
        self.of_classes()?;
        self.in_stretches(rows, |logits| candle_nn::ops::softmax(logits, 1).and_then(|softmax| softmax.to_vec2()).context("softmax"))
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
    /// `InvalidInput` for another number of features than the network has, for a feature that is not finite, and for one that tells
    /// classes apart.
    pub fn predict_values(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<f32>> {
        self.of_values()?;
        self.in_stretches(rows, values)
    }

    /// What it says of the rows of a table, whatever it predicts.
    ///
    /// # Errors
    /// `InvalidInput` for a table of another width or without rows.
    pub fn prediction(&self, table: &Table) -> Result<Prediction> {
        check_width(table, self.inputs())?;
        let logits =
            table.stretches().map(|rows| self.logits(&table.features_of(rows.clone())?, rows.start)).collect::<Result<Vec<_>>>()?;
        let logits = match logits.as_slice() {
            [] => return Err(Error::invalid("the table has no rows")),
            [only] => only.clone(),
            _ => Tensor::cat(&logits, 0).context("logits of a table")?,
        };
        if self.is_of_values() { values(&logits).map(Prediction::Values) } else { Ok(Prediction::Logits(logits)) }
    }

    /// How well it tells the classes of a table apart.
    ///
    /// # Errors
    /// `InvalidInput` for a table that does not fit, and for a network that predicts values.
    pub fn evaluate(&self, table: &Table) -> Result<Evaluation> {
        self.of_classes()?;
        self.check(table)?;
        match self.prediction(table)? {
            Prediction::Logits(logits) => evaluate(&logits, table.labels()),
            Prediction::Values(_) => Err(Error::internal("a network of classes predicted values")),
        }
    }

    /// How close it comes to the values of a table.
    ///
    /// # Errors
    /// `InvalidInput` for a table that does not fit, and for a network that tells classes apart.
    pub fn regression_metrics(&self, table: &Table) -> Result<RegressionMetrics> {
        self.of_values()?;
        self.check(table)?;
        match self.prediction(table)? {
            Prediction::Values(values) => regression_metrics(&values, table.targets().unwrap_or_default()),
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

    /// What it says of rows, a stretch at a time; all rows are looked at first.
    fn in_stretches<T>(&self, rows: &[impl AsRef<[f32]>], say: impl Fn(&Tensor) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let inputs = self.inputs();
        check_features(rows, inputs)?;
        let mut said = Vec::with_capacity(rows.len());
        for rows in rows.chunks(stretch(inputs)) {
            let first = said.len();
            said.append(&mut say(&self.logits(&features(rows, inputs)?, first)?)?);
        }
        Ok(said)
    }

    /// Of rows from the `first` on. Without the graph that a training needs: it would hold all that was computed on the way.
    fn logits(&self, features: &Tensor, first: usize) -> Result<Tensor> {
        let logits = match self {
            NetworkModel::Mlp(model) | NetworkModel::Linear(Line(model)) => model.logits(features),
            NetworkModel::Cnn(model) => model.logits(features),
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
            NetworkModel::Mlp(model) | NetworkModel::Linear(Line(model)) => model.spec().inputs,
            NetworkModel::Cnn(model) => model.spec().inputs(),
        }
    }

    fn is_of_values(&self) -> bool {
        matches!(self, NetworkModel::Linear(_))
    }

    fn of_classes(&self) -> Result<()> {
        if !self.is_of_values() {
            return Ok(());
        }
        Err(Error::invalid("the network predicts values, not classes").with_hint("ask it for `predict_values` or `regression_metrics`"))
    }

    fn of_values(&self) -> Result<()> {
        if self.is_of_values() {
            return Ok(());
        }
        Err(Error::invalid("the network tells classes apart, it predicts no values").with_hint("ask it for `predict_batch` or `evaluate`"))
    }
}

/// It can be trained further, see [`Training`](crate::Training).
impl Model for NetworkModel {
    fn params(&self) -> &BTreeMap<String, Var> {
        self.model().params()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        self.model().loss(batch)
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
pub struct Line(pub(crate) Mlp);

impl Model for Line {
    fn params(&self) -> &BTreeMap<String, Var> {
        self.0.params()
    }

    /// The mean squared error of a batch.
    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let values = self.0.logits(&batch.features)?;
        let error = || values.squeeze(1)?.sub(&batch.labels)?.sqr()?.mean_all();
        error().context(format_args!("squared error of values {:?} and targets {:?}", values.dims(), batch.labels.dims()))
    }

    fn check(&self, table: &Table) -> Result<()> {
        check_width(table, self.0.spec().inputs)?;
        match table.targets() {
            Some(_) => Ok(()),
            None => {
                Err(Error::invalid("the table has classes, the model needs values to predict").with_hint("make it with `Table::of_values`"))
            }
        }
    }

    fn scores(&self, table: &Table) -> Result<Scores> {
        let predicted = table.stretches().map(|rows| values(&self.0.logits(&table.features_of(rows)?)?)).collect::<Result<Vec<_>>>()?;
        let loss = mean_squared_error(&predicted.concat(), table.targets().unwrap_or_default())?;
        Ok(Scores { loss, metrics: BTreeMap::from([("mse".to_owned(), loss)]) })
    }
}

/// The only logit of each row.
fn values(logits: &Tensor) -> Result<Vec<f32>> {
    logits.squeeze(1).and_then(|values| values.to_vec1()).context(format_args!("values of shape {:?}", logits.dims()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, MlpSpec, Network};
    use superduper::{Artifact, Component};

    #[test]
    fn a_network_can_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<NetworkModel>();
        shared::<Network>();
    }

    #[test]
    fn long_tables_are_predicted_in_stretches() -> Result<()> {
        let spec = MlpSpec { inputs: 3, hidden: vec![4], classes: 5 };
        let model = Architecture::Mlp(spec.clone()).init(1)?;
        let features: Vec<f32> = (0..3 * 2500).map(|at| (at as f32 * 0.7).sin()).collect();
        let table = Table::new(3, features, vec![2; 2500])?;
        let Prediction::Logits(logits) = model.prediction(&table)? else { panic!("it tells classes apart") };
        let whole = Mlp::init(spec, 1)?.logits(&table.features()?)?;
        assert_eq!(logits.dims(), [2500, 5]);
        let (logits, whole) = (logits.to_vec2::<f32>().unwrap().concat(), whole.to_vec2::<f32>().unwrap().concat());
        assert!(logits.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
        let scores = model.scores(&table)?;
        let evaluation = model.evaluate(&table)?;
        assert!((scores.loss - evaluation.cross_entropy).abs() < 1e-9 && scores.metrics["accuracy"] == evaluation.accuracy);
        // The general way, by the loss of batches, gives the same up to the rounding of f32.
        struct Plain<'a>(&'a NetworkModel);
        impl Model for Plain<'_> {
            fn params(&self) -> &BTreeMap<String, Var> {
                self.0.params()
            }
            fn loss(&self, batch: &Batch) -> Result<Tensor> {
                self.0.loss(batch)
            }
        }
        assert!((Plain(&model).scores(&table)?.loss - scores.loss).abs() < 1e-5);
        assert_eq!(model.predict_batch(&[[0.0; 2]]).unwrap_err().to_string(), "row 0 has 2 features, the model needs 3");
        let error = model.predict_batch(&[[0.0; 3], [0.0, f32::NAN, 0.0]]).unwrap_err();
        assert_eq!(error.to_string(), "row 1, column 1 is NaN, not a finite number");
        assert!(model.predict_batch(&[[0.0; 3]; 0])?.is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn weights_of_another_architecture_are_refused_with_the_name() -> Result<()> {
        let weights = Artifact::new(Architecture::Linear { inputs: 2 }.init(0)?.weights()?.to_tensors()?);
        let architecture = Architecture::Linear { inputs: 3 };
        let network = Network { identifier: "line".to_owned(), architecture, weights };
        let error = network.predict_value(&[0.0; 3]).await.unwrap_err();
        let text = "`candle.Network/line`: parameter `l1.weight` has shape [1, 2], the model needs [1, 3]";
        assert_eq!(error.to_string(), text);
        assert_eq!(network.kind(), "candle.Network");
        let stored = r#"{"type":"linear","inputs":3}"#;
        assert_eq!(serde_json::to_string(&network.architecture)?, stored);
        Ok(())
    }
}
