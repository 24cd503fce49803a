//! Linear regression that is ready to be applied: table of values in, trained and scored linear
//! model out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each
//! change makes a version with weights of its own.

use crate::{
    data::Table,
    fit::{FitReport, Learner, learner},
    fit_settings::FitSettings,
    metrics::RegressionMetrics,
    network::Architecture,
    network_model::NetworkModel,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// Linear regression that learns the values of a table when it is applied: `x w + b` with the least
/// mean squared error.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills
/// [`weights`](LinearRegression::weights); `evaluate` scores the model on those held out. The table
/// is one of [`Table::of_values`].
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.1.3: the least
/// squares are found by steps along the gradient, so features and values should be scaled to about
/// -1 to 1.
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job
/// that is cancelled ends after the step it is at; one that failed, or whose process died, goes on
/// from the end of its last epoch, to the same weights.
#[derive(Debug, Component)]
#[component(kind = "candle.LinearRegression")]
pub struct LinearRegression {
    /// The name.
    pub identifier: String,
    /// What to learn, with the rows that are held out.
    #[component(breaking)]
    pub table: Artifact<Table>,
    /// The number of features.
    #[component(breaking)]
    pub inputs: usize,
    /// How it is trained.
    #[component(flatten)]
    pub fit: FitSettings,
    /// What `fit` learned, `l1.weight` of shape `[1, inputs]` and `l1.bias` of shape `[1]`.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl LinearRegression {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<FitReport> {
        self.fit_rows(ctx)
    }

    /// `None` where no rows are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<RegressionMetrics>> {
        self.score_rows(NetworkModel::regression_metrics)
    }
}

learner!(LinearRegression, |it: &Self| Architecture::Linear { inputs: it.inputs });

impl LinearRegression {
    /// The value of one row of features.
    ///
    /// # Errors
    /// Those of [`model`](LinearRegression::model); `InvalidInput` for another number of features
    /// than `inputs`.
    pub async fn predict(&self, features: &[f32]) -> Result<f32> {
        self.network()?.predict_value(features).await
    }

    /// The value of each row of features.
    ///
    /// # Errors
    /// Those of [`predict`](LinearRegression::predict).
    pub async fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<f32>> {
        self.network()?.predict_values(rows).await
    }

    /// The trained model, for those who predict often: each call reads the weights.
    ///
    /// # Errors
    /// `NotSetUp` before `fit` is done; `Integrity` for weights that are missing or not those that
    /// were saved.
    pub async fn model(&self) -> Result<NetworkModel> {
        self.network()?.model().await
    }

    /// How close it comes to the values of another table; the trigger `evaluate` does so for the
    /// rows that were held out.
    ///
    /// # Errors
    /// Those of [`model`](LinearRegression::model); `InvalidInput` for a table that does not fit.
    pub async fn evaluate_on(&self, table: &Table) -> Result<RegressionMetrics> {
        self.network()?.regression_metrics(table).await
    }
}
