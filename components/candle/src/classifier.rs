//! A classifier that is ready to be applied: table in, trained and scored perceptron out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each
//! change makes a version with weights of its own.

use crate::{
    data::Table,
    dropout,
    fit::{FitReport, Learner, classifier},
    fit_settings::FitSettings,
    metrics::Evaluation,
    mlp::{Mlp, MlpSpec},
    network::Architecture,
    network_model::NetworkModel,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// A multi-layer perceptron that learns a table when it is applied.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills
/// [`weights`](Classifier::weights); `evaluate` scores the model on those held out.
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
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job
/// that is cancelled ends after the step it is at; one that failed, or whose process died, goes on
/// from the end of its last epoch, to the same weights.
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
    /// The probability that a value of a hidden layer is dropped while the model learns; at least 0
    /// and below 1, and 0 if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "dropout::is_off")]
    pub dropout: f64,
    /// Whether each hidden layer has a batch norm; `false` if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
    /// How it is trained.
    #[component(flatten)]
    pub fit: FitSettings,
    /// What `fit` learned, named as [`MlpSpec::parameters`] says.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl Classifier {
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

classifier!(Classifier, |it: &Self| Architecture::Mlp(it.sizes()), Mlp);

impl Classifier {
    fn sizes(&self) -> MlpSpec {
        MlpSpec {
            inputs: self.inputs,
            hidden: self.hidden.clone(),
            classes: self.classes,
            dropout: self.dropout,
            batch_norm: self.batch_norm,
        }
    }
}
