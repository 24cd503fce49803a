//! Logistic regression that is ready to be applied: table in, trained and scored linear model out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each change
//! makes a version with weights of its own.

use crate::{
    data::Table,
    fit::{Fitted, Learner, adamw, classifier, constant, one, one_fifth, thirty, thirty_two},
    hooks::GradientHook,
    metrics::Evaluation,
    mlp::{Mlp, MlpSpec},
    network::Architecture,
    network_model::NetworkModel,
    optim::Optimizer,
    schedule::Schedule,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// Multinomial logistic regression that learns a table when it is applied: `softmax(x Wᵀ + b)`.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills [`weights`](LogisticRegression::weights);
/// `evaluate` scores the model on those held out.
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job that is
/// cancelled ends after the step it is at; one that failed, or whose process died, goes on from the end of its last epoch, to
/// the same weights.
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
    /// How often each row is seen, at most; 30 if not given.
    #[component(breaking, default = "thirty")]
    pub epochs: u64,
    /// Rows that are computed at once; 32 if not given.
    #[component(breaking, default = "thirty_two")]
    pub batch: usize,
    /// How many batches make one step, see [`Training::accumulate`](crate::Training::accumulate); 1 if not given.
    #[component(breaking, default = "one")]
    pub accumulate: usize,
    /// The seed of initial weights, split and order of the rows; 0 if not given.
    #[component(breaking, default)]
    pub seed: u64,
    /// The part of the rows to evaluate on, from 0 to 1; 0.2 if not given.
    #[component(breaking, default = "one_fifth")]
    pub held_out: f64,
    /// The part of the other rows to validate on after each epoch, from 0 to 1; 0 if not given. With such rows the weights
    /// are those that do best on them, else those of the last step.
    #[component(breaking, default)]
    pub validation: f64,
    /// After how many epochs in a row without a smaller loss on the rows to validate on the training ends; never if not given.
    #[component(breaking, default)]
    pub patience: Option<u32>,
    /// How the parameters move; [`AdamW`](crate::AdamW) as it comes if not given.
    #[component(breaking, default = "adamw")]
    pub optimizer: Box<dyn Optimizer>,
    /// How the learning rate changes; [`Constant`](crate::Constant) if not given.
    #[component(breaking, default = "constant")]
    pub schedule: Box<dyn Schedule>,
    /// What is done to the gradients before each step, such as [`ClipNorm`](crate::ClipNorm).
    #[component(breaking, default)]
    pub hooks: Vec<Box<dyn GradientHook>>,
    /// What `fit` learned, `l1.weight` of shape `[classes, inputs]` and `l1.bias` of shape `[classes]`.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl LogisticRegression {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<Fitted> {
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
        MlpSpec { inputs: self.inputs, hidden: Vec::new(), classes: self.classes }
    }
}
