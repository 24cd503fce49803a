//! Logistic regression that is ready to be applied: table in, trained and scored linear model out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each
//! change makes a version with weights of its own.

use crate::{
    data::Table,
    fit::{FitReport, Learner, classifier},
    fit_settings::FitSettings,
    metrics::Evaluation,
    mlp::{Mlp, MlpSpec},
    network::Architecture,
    network_model::NetworkModel,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// Multinomial logistic regression that learns a table when it is applied: `softmax(x Wᵀ + b)`.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills
/// [`weights`](LogisticRegression::weights); `evaluate` scores the model on those held out.
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job
/// that is cancelled ends after the step it is at; one that failed, or whose process died, goes on
/// from the end of its last epoch, to the same weights.
#[derive(Debug, Component)]
#[component(kind = "candle.LogisticRegression")]
pub struct LogisticRegression {
    /// The name.
    pub identifier: String,
    /// What to learn, with the rows that are held out.
    #[component(breaking)]
    pub table: Artifact<Table>,
    /// The number of features.
    #[component(breaking)]
    pub inputs: usize,
    /// The number of classes.
    #[component(breaking)]
    pub classes: usize,
    /// How it is trained.
    #[component(flatten)]
    pub fit: FitSettings,
    /// What `fit` learned, `l1.weight` of shape `[classes, inputs]` and `l1.bias` of shape
    /// `[classes]`.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl LogisticRegression {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<FitReport> {
        self.fit_rows(ctx)
    }

    /// `None` where no rows are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<Evaluation>> {
        self.score_rows(NetworkModel::evaluate)
    }
}

classifier!(LogisticRegression, |it: &Self| Architecture::Mlp(it.sizes()), Mlp);

impl LogisticRegression {
    fn sizes(&self) -> MlpSpec {
        MlpSpec { inputs: self.inputs, classes: self.classes, ..MlpSpec::default() }
    }
}
