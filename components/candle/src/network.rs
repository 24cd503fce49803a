//! A trained network as a component of its own: what a training job gives.
//!
//! Invariant: weights and architecture are both `breaking`, so a version of a network is one set of
//! weights.

use crate::{
    cnn::{Cnn, CnnSpec},
    data::Table,
    metrics::{Evaluation, Prediction, RegressionMetrics},
    mlp::{Mlp, MlpSpec},
    net::NetSpec,
    network_model::{LinearRegressor, NetworkModel},
    predictor::Predictor,
    weights::Weights,
};
use serde::{Deserialize, Serialize};
use superduper::{Artifact, Component, Error, Result, Tensors};

/// 64 GiB of f32.
const MOST_PARAMETERS: usize = 1 << 34;

/// The sizes of a network, of whatever kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Architecture {
    /// A multi-layer perceptron that classifies; without hidden layers it is logistic
    /// regression.
    Mlp(MlpSpec),
    /// A convolutional network that classifies.
    Cnn(CnnSpec),
    /// Linear regression, which predicts a value.
    Linear {
        /// The number of features.
        inputs: usize,
    },
}

impl Architecture {
    /// The number of features of a row.
    pub fn inputs(&self) -> usize {
        match self {
            Architecture::Mlp(MlpSpec { inputs, .. }) | Architecture::Linear { inputs } => *inputs,
            Architecture::Cnn(spec) => spec.inputs(),
        }
    }

    /// The number of classes it chooses from; `None` where it predicts a value.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Architecture::Mlp(MlpSpec { classes, .. })
            | Architecture::Cnn(CnnSpec { classes, .. }) => Some(*classes),
            Architecture::Linear { .. } => None,
        }
    }

    /// Refuse sizes of which no network can be made.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Architecture::Mlp(spec) => NetSpec::check(spec)?,
            Architecture::Cnn(spec) => NetSpec::check(spec)?,
            Architecture::Linear { inputs } => NetSpec::check(&line(*inputs))?,
        }
        let parameters = self.parameters();
        let size = |shape: &Vec<usize>| {
            shape.iter().try_fold(1_usize, |size, length| size.checked_mul(*length))
        };
        let all = parameters.values().try_fold(0_usize, |all, shape| all.checked_add(size(shape)?));
        match all {
            Some(all) if all <= MOST_PARAMETERS => Ok(()),
            _ => Err(Error::invalid(format!(
                "a network of more than {MOST_PARAMETERS} parameters fits no memory: {self:?}"
            ))),
        }
    }

    /// A network with random parameters, see [`Net::init`](crate::Net::init).
    ///
    /// # Errors
    /// `InvalidInput` for an empty layer.
    pub fn init(&self, seed: u64) -> Result<NetworkModel> {
        Ok(match self {
            Architecture::Mlp(spec) => NetworkModel::Mlp(Mlp::init(spec.clone(), seed)?),
            Architecture::Cnn(spec) => NetworkModel::Cnn(Cnn::init(spec.clone(), seed)?),
            Architecture::Linear { inputs } => {
                NetworkModel::Linear(LinearRegressor(Mlp::init(line(*inputs), seed)?))
            }
        })
    }

    /// A network with parameters that were saved.
    ///
    /// # Errors
    /// `InvalidInput` where a parameter is missing, too many, or of another shape than the sizes
    /// say.
    pub fn with_weights(&self, weights: &Weights) -> Result<NetworkModel> {
        weights.check_finite()?;
        Ok(match self {
            Architecture::Mlp(spec) => NetworkModel::Mlp(Mlp::from_weights(spec.clone(), weights)?),
            Architecture::Cnn(spec) => NetworkModel::Cnn(Cnn::from_weights(spec.clone(), weights)?),
            Architecture::Linear { inputs } => {
                NetworkModel::Linear(LinearRegressor(Mlp::from_weights(line(*inputs), weights)?))
            }
        })
    }
}

/// The perceptron whose only logit is the value of a linear regression.
pub(crate) fn line(inputs: usize) -> MlpSpec {
    MlpSpec { inputs, classes: 1, ..MlpSpec::default() }
}

/// A trained network: what training a [`Classifier`](crate::Classifier),
/// [`CnnClassifier`](crate::CnnClassifier),
/// [`LogisticRegression`](crate::LogisticRegression) or [`LinearRegression`](crate::LinearRegression) as a job gives.
///
/// It can be applied, which makes a version for each set of weights, held by a
/// [`Validation`](crate::Validation), or be used as it is.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use superduper::Artifact;
/// use superduper_candle::{Architecture, MlpSpec, Network};
///
/// let sizes = MlpSpec { inputs: 2, hidden: vec![4], classes: 3, ..MlpSpec::default() };
/// let architecture = Architecture::Mlp(sizes);
/// let weights = Artifact::new(architecture.init(7)?.weights()?.to_tensors()?);
/// let network = Network { identifier: "fresh".to_owned(), architecture, weights };
///
/// let class = network.predict(&[0.5, -1.0]).await?;
/// let probabilities = network.probabilities(&[[0.5, -1.0]]).await?;
/// assert!(class < 3 && (probabilities[0].iter().sum::<f32>() - 1.0).abs() < 1e-6);
/// // A network that classifies has no values to predict:
/// assert!(network.predict_value(&[0.5, -1.0]).await.is_err());
/// # Ok::<(), superduper::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Component)]
#[component(kind = "candle.Network")]
pub struct Network {
    /// The name.
    pub identifier: String,
    /// The sizes.
    #[component(breaking)]
    pub architecture: Architecture,
    /// The parameters, named as the architecture says.
    #[component(breaking)]
    pub weights: Artifact<Tensors>,
}

impl Network {
    /// Read the weights once, to predict often. Each of the calls below reads them again.
    ///
    /// # Errors
    /// `Integrity` for weights that are missing or not those that were saved; `InvalidInput` for
    /// those of another architecture.
    pub async fn model(&self) -> Result<NetworkModel> {
        let weights = Weights::from_tensors(&*self.weights.get().await?).await?;
        self.architecture
            .with_weights(&weights)
            .map_err(|error| error.context(format_args!("`{}/{}`", self.kind(), self.identifier)))
    }

    /// The most likely class of one row of features.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::predict_batch`].
    pub async fn predict(&self, features: &[f32]) -> Result<u32> {
        self.model().await?.predict(features)
    }

    /// The most likely class of each row of features.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::predict_batch`].
    pub async fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<u32>> {
        self.model().await?.predict_batch(rows)
    }

    /// The probability of each class, for each row of features.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::predict_batch`].
    pub async fn probabilities(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<Vec<f32>>> {
        self.model().await?.probabilities(rows)
    }

    /// The value of one row of features.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::predict_values`].
    pub async fn predict_value(&self, features: &[f32]) -> Result<f32> {
        self.model().await?.predict_value(features)
    }

    /// The value of each row of features.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::predict_values`].
    pub async fn predict_values(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<f32>> {
        self.model().await?.predict_values(rows)
    }

    /// How well it classifies the rows of a table.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::evaluate`].
    pub async fn evaluate(&self, table: &Table) -> Result<Evaluation> {
        self.model().await?.evaluate(table)
    }

    /// How close it comes to the values of a table.
    ///
    /// # Errors
    /// Those of [`model`](Network::model) and [`NetworkModel::regression_metrics`].
    pub async fn regression_metrics(&self, table: &Table) -> Result<RegressionMetrics> {
        self.model().await?.regression_metrics(table)
    }
}

impl Predictor for Network {
    async fn predict_table(&self, table: &Table) -> Result<Prediction> {
        self.model().await?.prediction(table)
    }
}
crate::predictor!(Network);
