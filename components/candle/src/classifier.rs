//! A classifier that is ready to be applied: table in, trained and scored perceptron out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each change
//! makes a version with weights of its own.

use crate::{
    data::Table,
    fit::{Fit, Fitted, adamw, constant, features, one_fifth, only, thirty, thirty_two, wait},
    metrics::{Evaluation, evaluate},
    mlp::{Mlp, MlpSpec},
    optim::Optimizer,
    schedule::Schedule,
    weights::Weights,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// A multi-layer perceptron that learns a table when it is applied.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills [`weights`](Classifier::weights);
/// `evaluate` scores the model on those held out.
///
/// ```
/// use superduper::{Artifact, Db};
/// use superduper_candle::{Classifier, Evaluation, Table};
///
/// # fn points() -> superduper::Result<Table> {
/// #     let features = (0..80).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 } + i as f32 / 200.0).collect();
/// #     Table::new(1, features, (0..80).map(|i| i % 2).collect())
/// # }
/// # async fn example(db: &Db) -> superduper::Result<()> {
/// let table: Table = points()?;
/// let sides = Classifier::builder("sides").table(Artifact::new(table)).inputs(1).classes(2).hidden(vec![8]).build()?;
/// let applied = db.apply(sides).await?;
/// println!("accuracy {}", applied.result::<Option<Evaluation>>("evaluate")?.map_or(0.0, |scores| scores.accuracy));
///
/// let sides: Classifier = db.load("sides").await?;
/// assert_eq!(sides.predict(&[0.9]).await?, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job that is
/// cancelled ends after the step it is at.
#[derive(Debug, Component)]
#[component(kind = "candle.Classifier")]
pub struct Classifier {
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
    /// The width of each hidden layer; with none the model is multinomial logistic regression.
    #[component(breaking, default)]
    pub hidden: Vec<usize>,
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
    /// What `fit` learned, named as [`MlpSpec::parameters`] says.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl Classifier {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<Fitted> {
        let model = Mlp::init(self.sizes(), self.seed)?;
        let fitted = self.settings().train(&model, ctx)?;
        ctx.set(&self.weights, model.weights()?.to_tensors()?.into())?;
        Ok(fitted)
    }

    /// `None` where no rows are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<Evaluation>> {
        let Some(held_out) = self.settings().held_out()? else { return Ok(None) };
        let model = wait(self.model())?;
        evaluate(&model.logits(&held_out.features()?)?, held_out.labels()).map(Some)
    }
}

impl Classifier {
    /// The trained model, for those who predict often: each call reads the weights.
    ///
    /// # Errors
    /// `NotSetUp` before `fit` is done; `Integrity` for weights that are missing or not those that were saved.
    pub async fn model(&self) -> Result<Mlp> {
        let tensors = self.weights.get()?.get().await?;
        Mlp::from_weights(self.sizes(), &Weights::from_tensors(&tensors).await?)
    }

    /// The most likely class of one row of features.
    ///
    /// # Errors
    /// Those of [`model`](Classifier::model); `InvalidInput` for another number of features than `inputs`.
    pub async fn predict(&self, features: &[f32]) -> Result<u32> {
        only(&self.predict_batch(&[features]).await?)
    }

    /// The most likely class of each row of features.
    ///
    /// # Errors
    /// Those of [`predict`](Classifier::predict).
    pub async fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<u32>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let features = features(rows, self.inputs)?;
        self.model().await?.predict(&features)
    }

    fn sizes(&self) -> MlpSpec {
        MlpSpec { inputs: self.inputs, hidden: self.hidden.clone(), classes: self.classes }
    }

    fn settings(&self) -> Fit<'_> {
        let Classifier { table, epochs, batch, seed, held_out, optimizer, schedule, .. } = self;
        Fit { table, epochs: *epochs, batch: *batch, seed: *seed, held_out: *held_out, optimizer: &**optimizer, schedule: &**schedule }
    }
}
