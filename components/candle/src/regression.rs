//! Linear regression that is ready to be applied: table of values in, trained and scored linear model out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each change
//! makes a version with weights of its own.

use crate::{
    classes::check_width,
    data::{Batch, Table},
    fit::{Fit, Fitted, adamw, constant, features, one_fifth, only, thirty, thirty_two, wait},
    metrics::{Closeness, closeness},
    mlp::{Mlp, MlpSpec},
    optim::Optimizer,
    schedule::Schedule,
    train::Model,
    weights::Weights,
};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use superduper::{Artifact, Component, Error, JobContext, Output, Result, ResultExt, Tensors, triggers};

/// Linear regression that learns the values of a table when it is applied: `x w + b` with the least mean squared error.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills [`weights`](LinearRegression::weights);
/// `evaluate` scores the model on those held out. The table is one of [`Table::of_values`].
///
/// Source: C. Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.1.3: the least squares are found by
/// steps along the gradient, so features and values should be scaled to about -1 to 1.
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job that is
/// cancelled ends after the step it is at.
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
    /// How often each row is seen; 30 if not given.
    #[component(breaking, default = "thirty")]
    pub epochs: u64,
    /// Rows per step; 32 if not given.
    #[component(breaking, default = "thirty_two")]
    pub batch: usize,
    /// The seed of initial weights, split and order of the rows; 0 if not given.
    #[component(breaking, default)]
    pub seed: u64,
    /// The part of the rows to evaluate on, from 0 to 1; 0.2 if not given.
    #[component(breaking, default = "one_fifth")]
    pub held_out: f64,
    /// How the parameters move; [`AdamW`](crate::AdamW) as it comes if not given.
    #[component(breaking, default = "adamw")]
    pub optimizer: Box<dyn Optimizer>,
    /// How the learning rate changes; [`Constant`](crate::Constant) if not given.
    #[component(breaking, default = "constant")]
    pub schedule: Box<dyn Schedule>,
    /// What `fit` learned, `l1.weight` of shape `[1, inputs]` and `l1.bias` of shape `[1]`.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl LinearRegression {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<Fitted> {
        let model = Regressor(Mlp::init(self.sizes(), self.seed)?);
        let fitted = self.settings().train(&model, ctx)?;
        ctx.set(&self.weights, model.0.weights()?.to_tensors()?.into())?;
        Ok(fitted)
    }

    /// `None` where no rows are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<Closeness>> {
        let Some(held_out) = self.settings().held_out()? else { return Ok(None) };
        let predicted = wait(self.predict_features(&held_out.features()?))?;
        closeness(&predicted, held_out.targets().unwrap_or_default()).map(Some)
    }
}

impl LinearRegression {
    /// The trained model, for those who predict often: each call reads the weights. Its only logit is the value.
    ///
    /// # Errors
    /// `NotSetUp` before `fit` is done; `Integrity` for weights that are missing or not those that were saved.
    pub async fn model(&self) -> Result<Mlp> {
        let tensors = self.weights.get()?.get().await?;
        Mlp::from_weights(self.sizes(), &Weights::from_tensors(&tensors).await?)
    }

    /// The value of one row of features.
    ///
    /// # Errors
    /// Those of [`model`](LinearRegression::model); `InvalidInput` for another number of features than `inputs`.
    pub async fn predict(&self, features: &[f32]) -> Result<f32> {
        only(&self.predict_batch(&[features]).await?)
    }

    /// The value of each row of features.
    ///
    /// # Errors
    /// Those of [`predict`](LinearRegression::predict).
    pub async fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<f32>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.predict_features(&features(rows, self.inputs)?).await
    }

    pub(crate) async fn predict_features(&self, features: &Tensor) -> Result<Vec<f32>> {
        values(&self.model().await?, features)
    }

    fn sizes(&self) -> MlpSpec {
        MlpSpec { inputs: self.inputs, hidden: Vec::new(), classes: 1 }
    }

    fn settings(&self) -> Fit<'_> {
        let LinearRegression { table, epochs, batch, seed, held_out, optimizer, schedule, .. } = self;
        Fit { table, epochs: *epochs, batch: *batch, seed: *seed, held_out: *held_out, optimizer: &**optimizer, schedule: &**schedule }
    }
}

/// A perceptron whose only logit is a value.
struct Regressor(Mlp);

impl Model for Regressor {
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
}

/// The value of each row of features.
fn values(model: &Mlp, features: &Tensor) -> Result<Vec<f32>> {
    let logits = model.logits(features)?;
    logits.squeeze(1).and_then(|values| values.to_vec1()).context(format_args!("values of shape {:?}", logits.dims()))
}
