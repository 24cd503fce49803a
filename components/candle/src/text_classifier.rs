//! A classifier of texts: a frozen encoder, and a head that learns its vectors.

use crate::{
    TextEmbedder,
    data::Table,
    dropout,
    fit::{Fit, FitReport, Learner, wait},
    metrics::Evaluation,
    mlp::MlpSpec,
    network::{Architecture, Network},
    network_model::NetworkModel,
    optim::{AdamW, Optimizer},
    rows::only,
    schedule::{Constant, Schedule},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use superduper::{
    Artifact, BoxFuture, Bytes, Component, Error, JobContext, Output, Result, Tensors,
    artifact::{Blob, BlobSource, StoredBlob},
    triggers,
};

/// Texts that are embedded between two looks whether the job is cancelled.
const TOGETHER: usize = 64;

/// Texts, each with the class it belongs to. As an artifact it is a JSON file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct LabelledTexts {
    texts: Vec<String>,
    labels: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    texts: Vec<String>,
    labels: Vec<u32>,
}

impl TryFrom<Unchecked> for LabelledTexts {
    type Error = Error;
    fn try_from(read: Unchecked) -> Result<Self> {
        LabelledTexts::new(read.texts, read.labels)
    }
}

impl LabelledTexts {
    /// Texts and their classes.
    ///
    /// # Errors
    /// `InvalidInput` for lists of different length.
    pub fn new(texts: Vec<String>, labels: Vec<u32>) -> Result<Self> {
        if texts.len() != labels.len() {
            return Err(Error::invalid(format!(
                "{} texts have {} labels",
                texts.len(),
                labels.len()
            )));
        }
        Ok(LabelledTexts { texts, labels })
    }

    /// The texts.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The class of each text.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }
}

impl Blob for LabelledTexts {
    fn source(value: Arc<Self>) -> Arc<dyn BlobSource> {
        // Strings and numbers can always be written as JSON.
        <Bytes as Blob>::source(Arc::new(Bytes::from(
            serde_json::to_vec(&*value).unwrap_or_default(),
        )))
    }

    fn open(blob: StoredBlob) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let bytes = <Bytes as Blob>::open(blob.clone()).await?;
            serde_json::from_slice(&bytes).map_err(|error| {
                blob.malformed(format_args!("labelled texts cannot be read: {error}"))
            })
        })
    }
}

/// Tells classes of texts apart: the vectors of an embedder, which stays as it is, and a perceptron
/// that learns them.
///
/// Applying it runs three jobs: `embed` makes the vectors of the texts, `fit` trains on those that
/// are not held out, `evaluate` scores the rest.
///
/// ```no_run
/// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
/// use superduper::Artifact;
/// use superduper_candle::{Evaluation, LabelledTexts, TextClassifier, TextEmbedder};
///
/// let texts = ["ships today", "arrived broken", "love it", "does not work"].map(str::to_owned).to_vec();
/// let classifier = TextClassifier::builder("reviews")
///     .embedder(TextEmbedder::from_folder("minilm", "all-MiniLM-L6-v2")?)
///     .texts(Artifact::new(LabelledTexts::new(texts, vec![1, 0, 1, 0])?))
///     .classes(2)
///     .held_out(0.0)
///     .build()?;
/// db.apply(classifier).await?;
///
/// let classifier: TextClassifier = db.load("reviews").await?;
/// println!("{}", classifier.predict("stopped after a day").await?);
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// A change of any setting makes the vectors again and trains the head again. A job that failed, or
/// whose process died, goes on: `embed` from the beginning, `fit` from the end of its last epoch.
#[derive(Debug, Component)]
#[component(kind = "candle.TextClassifier")]
pub struct TextClassifier {
    /// The name.
    pub identifier: String,
    /// What makes vectors of texts.
    #[component(breaking)]
    pub embedder: TextEmbedder,
    /// What to learn, with the texts that are held out.
    #[component(breaking)]
    pub texts: Artifact<LabelledTexts>,
    /// The number of classes.
    #[component(breaking)]
    pub classes: usize,
    /// The width of each hidden layer of the head; with none it is multinomial logistic regression.
    #[component(breaking, default)]
    pub hidden: Vec<usize>,
    /// The probability that a value of a hidden layer of the head is dropped while the model learns;
    /// at least 0 and below 1, and 0 if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "dropout::is_off")]
    pub dropout: f64,
    /// Whether each hidden layer of the head has a batch norm; `false` if not given.
    #[component(breaking, default)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
    /// How often each text is seen, at most; 30 if not given.
    #[component(breaking, default = 30)]
    pub epochs: u64,
    /// Texts that are learned at once; 32 if not given.
    #[component(breaking, default = 32)]
    pub batch: usize,
    /// The seed of initial weights, split and order of the texts; 0 if not given.
    #[component(breaking, default)]
    pub seed: u64,
    /// The part of the texts to evaluate on, from 0 to 1; 0.2 if not given.
    #[component(breaking, default = 0.2)]
    pub held_out: f64,
    /// The part of the other texts to validate on after each epoch, from 0 to 1; 0 if not given.
    #[component(breaking, default)]
    pub validation: f64,
    /// After how many epochs in a row without a smaller loss on the texts to validate on the
    /// training ends; never if not given.
    #[component(breaking, default)]
    pub patience: Option<u32>,
    /// How the parameters move; [`AdamW`](crate::AdamW) as it comes if not given.
    #[component(breaking, default = Box::new(AdamW::default()))]
    pub optimizer: Box<dyn Optimizer>,
    /// How the learning rate changes; [`Constant`](crate::Constant) if not given.
    #[component(breaking, default = Box::new(Constant {}))]
    pub schedule: Box<dyn Schedule>,
    /// The vectors of the texts with their classes.
    pub embedded: Output<Artifact<Table>>,
    /// What `fit` learned, named as [`MlpSpec::parameters`] says.
    pub weights: Output<Artifact<Tensors>>,
}

#[triggers]
impl TextClassifier {
    /// Gives the number of texts.
    #[trigger("apply")]
    fn embed(&self, ctx: &JobContext) -> Result<usize> {
        // All that can be wrong, before the long part.
        self.fit_of(Artifact::new(Table::new(1, Vec::new(), Vec::new())?)).check()?;
        self.architecture().check()?;
        let texts = wait(self.texts.get())?;
        if let Some(place) = texts.labels().iter().position(|label| *label as usize >= self.classes)
        {
            let (label, last) = (texts.labels()[place], self.classes - 1);
            return Err(Error::invalid(format!(
                "text {place} is of class {label}, the model has classes 0 to {last}"
            ))
            .fatal());
        }
        let encoder = wait(self.embedder.encoder())?;
        let all = texts.texts().len();
        let mut features = Vec::with_capacity(all * encoder.dimension());
        for (index, part) in texts.texts().chunks(TOGETHER).enumerate() {
            ctx.check_cancelled()?;
            ctx.progress((index * TOGETHER) as u64, all as u64);
            wait(self.embedder.embed_batch(part))?
                .iter()
                .for_each(|vector| features.extend_from_slice(vector));
        }
        ctx.progress(all as u64, all as u64);
        let table = Table::new(encoder.dimension(), features, texts.labels().to_vec())?;
        ctx.set(&self.embedded, Artifact::new(table))?;
        Ok(all)
    }

    #[trigger("apply", depends_on = "embed")]
    fn fit(&self, ctx: &JobContext) -> Result<FitReport> {
        self.fit_rows(ctx)
    }

    /// `None` where no texts are held out.
    #[trigger("apply", depends_on = "fit")]
    fn evaluate(&self) -> Result<Option<Evaluation>> {
        self.score_rows(NetworkModel::evaluate)
    }
}

impl Learner for TextClassifier {
    fn architecture(&self) -> Architecture {
        Architecture::Mlp(MlpSpec {
            inputs: self.embedder.spec.hidden_size,
            hidden: self.hidden.clone(),
            classes: self.classes,
            dropout: self.dropout,
            batch_norm: self.batch_norm,
        })
    }

    fn settings(&self) -> Result<Fit<'_>> {
        Ok(self.fit_of(Artifact::clone(&*self.embedded.get()?)))
    }

    fn learned(&self) -> &Output<Artifact<Tensors>> {
        &self.weights
    }
}

impl TextClassifier {
    /// How a table is learned.
    fn fit_of(&self, table: Artifact<Table>) -> Fit<'_> {
        Fit {
            table,
            epochs: self.epochs,
            batch: self.batch,
            accumulate: 1,
            seed: self.seed,
            held_out: self.held_out,
            validation: self.validation,
            patience: self.patience,
            optimizer: &*self.optimizer,
            schedule: &*self.schedule,
            hooks: &[],
        }
    }

    /// The head, which classifies the vectors.
    ///
    /// # Errors
    /// `NotSetUp` before `fit` is done.
    pub fn head(&self) -> Result<Network> {
        self.trained()
    }

    /// The most likely class of a text.
    ///
    /// # Errors
    /// `NotSetUp` before `fit` is done; those of [`TextEmbedder::embed`].
    pub async fn predict(&self, text: &str) -> Result<u32> {
        only(&self.predict_batch(&[text]).await?)
    }

    /// The most likely class of each text.
    ///
    /// # Errors
    /// Those of [`predict`](TextClassifier::predict).
    pub async fn predict_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<u32>> {
        self.head()?.predict_batch(&self.embedder.embed_batch(texts).await?).await
    }

    /// The probability of each class, for each text.
    ///
    /// # Errors
    /// Those of [`predict`](TextClassifier::predict).
    pub async fn probabilities(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        self.head()?.probabilities(&self.embedder.embed_batch(texts).await?).await
    }

    /// How well it classifies other texts.
    ///
    /// # Errors
    /// Those of [`predict`](TextClassifier::predict); `InvalidInput` for a class that it does not
    /// know.
    pub async fn evaluate_on(&self, texts: &LabelledTexts) -> Result<Evaluation> {
        let vectors = self.embedder.embed_batch(texts.texts()).await?;
        let table =
            Table::new(self.embedder.spec.hidden_size, vectors.concat(), texts.labels().to_vec())?;
        self.head()?.evaluate(&table).await
    }
}
