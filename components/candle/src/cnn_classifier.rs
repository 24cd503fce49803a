//! A classifier of images that is ready to be applied: table in, trained and scored convolutional
//! network out.
//!
//! Every declared field is `breaking`: whatever is changed, the weights would be others, so each
//! change makes a version with weights of its own.

use crate::{
    cnn::{Cnn, CnnSpec, Convolution},
    data::Table,
    dropout,
    fit::{FitReport, Learner, classifier},
    fit_settings::FitSettings,
    metrics::Evaluation,
    network::Architecture,
    network_model::NetworkModel,
};
use superduper::{Artifact, Component, JobContext, Output, Result, Tensors, triggers};

/// A convolutional network that learns a table of images when it is applied.
///
/// Applying it runs two jobs: `fit` trains on the rows that are not held out and fills
/// [`weights`](CnnClassifier::weights); `evaluate` scores the model on those held out. A row of the
/// table is an image, see [`CnnSpec::image`].
///
/// ```
/// use superduper::Artifact;
/// use superduper_candle::{CnnClassifier, Convolution, Table};
///
/// # fn digits() -> superduper::Result<Table> {
/// #     Table::new(64, vec![0.0; 128], vec![0, 1])
/// # }
/// let table: Table = digits()?;
/// let digits = CnnClassifier::builder("digits")
///     .table(Artifact::new(table))
///     .image([1, 8, 8])
///     .convolutions(vec![Convolution { filters: 16, kernel: 3, padding: 1, pool: 2 }])
///     .hidden(vec![32])
///     .classes(10)
///     .build()?;
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # Guarantees
/// The weights are a function of the declared fields, see the [crate documentation](crate). A job
/// that is cancelled ends after the step it is at; one that failed, or whose process died, goes on
/// from the end of its last epoch, to the same weights.
#[derive(Debug, Component)]
#[component(kind = "candle.CnnClassifier")]
pub struct CnnClassifier {
    /// The name.
    pub identifier: String,
    /// What to learn, with the rows that are held out.
    #[component(breaking)]
    pub table: Artifact<Table>,
    /// Channels, height and width of an image.
    #[component(breaking)]
    pub image: [usize; 3],
    /// The convolutions, from the image on.
    #[component(breaking)]
    pub convolutions: Vec<Convolution>,
    /// The number of classes.
    #[component(breaking)]
    pub classes: usize,
    /// The width of each hidden layer after the convolutions; with none the convolutions are
    /// followed by the classes.
    #[component(breaking, default)]
    pub hidden: Vec<usize>,
    /// The probability that a value of a pooled image or hidden layer is dropped while the model
    /// learns; at least 0 and below 1, and 0 if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "dropout::is_off")]
    pub dropout: f64,
    /// Whether each convolution and each hidden layer has a batch norm; `false` if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
    /// How it is trained.
    #[component(flatten)]
    pub fit: FitSettings,
    /// What `fit` learned, named as [`CnnSpec::parameters`] says.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl CnnClassifier {
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

classifier!(CnnClassifier, |it: &Self| Architecture::Cnn(it.sizes()), Cnn);

impl CnnClassifier {
    fn sizes(&self) -> CnnSpec {
        CnnSpec {
            image: self.image,
            convolutions: self.convolutions.clone(),
            hidden: self.hidden.clone(),
            classes: self.classes,
            dropout: self.dropout,
            batch_norm: self.batch_norm,
        }
    }
}
