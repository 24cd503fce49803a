//! A classifier that is ready to be applied: table in, trained and scored perceptron out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each change
//! makes a version with weights of its own.

use crate::{
    data::Table,
    metrics::{Evaluation, evaluate},
    mlp::{Mlp, MlpSpec},
    optim::{AdamW, Optimizer},
    schedule::{Constant, Schedule},
    train::{Training, report_to},
    weights::Weights,
};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use superduper::{Artifact, Component, Error, ErrorKind, JobContext, Output, Result, ResultExt, Tensors, triggers};

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
    /// How the parameters move; [`AdamW`] as it comes if not given.
    #[component(breaking, default = "adamw")]
    pub optimizer: Box<dyn Optimizer>,
    /// How the learning rate changes; [`Constant`] if not given.
    #[component(breaking, default = "constant")]
    pub schedule: Box<dyn Schedule>,
    /// What `fit` learned, named as [`MlpSpec::parameters`] says.
    pub weights: Output<Artifact<Tensors>>,
}

/// What `fit` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The rows trained on.
    pub rows: usize,
    /// The steps taken.
    pub steps: u64,
    /// The mean loss of the last epoch, in nats.
    pub loss: f64,
}

#[triggers]
impl Classifier {
    #[trigger("apply")]
    fn fit(&self, ctx: &JobContext) -> Result<Fitted> {
        let (rows, _) = self.split(&*wait(self.table.get())?)?;
        let model = Mlp::init(self.sizes(), self.seed)?;
        let training = Training { epochs: self.epochs, batch: self.batch, seed: self.seed, schedule: &*self.schedule };
        let mut state = self.optimizer.init();
        let history = training.run(&model, &rows, &*self.optimizer, &mut state, report_to(ctx))?;
        ctx.set(&self.weights, model.weights()?.to_tensors()?.into())?;
        Ok(Fitted { rows: rows.rows(), steps: state.step(), loss: history.final_loss().unwrap_or_default() })
    }

    /// `None` where no rows are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<Evaluation>> {
        let (_, held_out) = self.split(&*wait(self.table.get())?)?;
        if held_out.is_empty() {
            return Ok(None);
        }
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
        let classes = self.predict_batch(&[features]).await?;
        classes.first().copied().ok_or_else(|| Error::internal("no class for a row"))
    }

    /// The most likely class of each row of features.
    ///
    /// # Errors
    /// Those of [`predict`](Classifier::predict).
    pub async fn predict_batch(&self, rows: &[impl AsRef<[f32]>]) -> Result<Vec<u32>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut features = Vec::with_capacity(rows.len() * self.inputs);
        for (index, row) in rows.iter().map(AsRef::as_ref).enumerate() {
            if row.len() != self.inputs {
                return Err(Error::invalid(format!("row {index} has {} features, the model needs {}", row.len(), self.inputs)));
            }
            features.extend_from_slice(row);
        }
        let features = Tensor::from_vec(features, (rows.len(), self.inputs), &Device::Cpu).context("features")?;
        self.model().await?.predict(&features)
    }

    fn sizes(&self) -> MlpSpec {
        MlpSpec { inputs: self.inputs, hidden: self.hidden.clone(), classes: self.classes }
    }

    fn split(&self, table: &Table) -> Result<(Table, Table)> {
        table.split(self.seed, self.held_out)
    }
}

/// Wait in a plain `fn` trigger, which runs on a worker thread.
fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => Err(Error::new(ErrorKind::Unsupported, "a trigger was called outside of a runtime").with_source(error)),
    }
}

fn thirty() -> u64 {
    30
}
fn thirty_two() -> usize {
    32
}
fn one_fifth() -> f64 {
    0.2
}
fn adamw() -> Box<dyn Optimizer> {
    Box::new(AdamW::default())
}
fn constant() -> Box<dyn Schedule> {
    Box::new(Constant {})
}
