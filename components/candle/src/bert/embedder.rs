//! A component that turns texts into vectors.

use super::{BertSpec, Encoder, folder};
use crate::metrics::{Similarity, similarity};
use serde::{Deserialize, Serialize};
use std::path::Path;
use superduper::{Artifact, Bytes, Component, Error, Result, Runtime, Tensors};
use tokio::sync::Mutex;

/// Encoders are loaded one after the other: of two that ask for the same one, one loads it.
static LOADING: Mutex<()> = Mutex::const_new(());

/// Sentence embeddings by an encoder of the BERT family: the mean over the tokens of a text, of length 1.
///
/// ```no_run
/// # async fn example(db: &superduper::Db) -> superduper::Result<()> {
/// use superduper_candle::TextEmbedder;
///
/// // A folder with config.json, model.safetensors and tokenizer.json, as sentence-transformers writes it.
/// db.apply(TextEmbedder::from_folder("minilm", "all-MiniLM-L6-v2")?).await?;
///
/// let embedder: TextEmbedder = db.load("minilm").await?;
/// let vectors = embedder.embed_batch(&["a hammer", "a tool for driving nails"]).await?;
/// assert_eq!(vectors[0].len(), 384);
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
/// Same declared fields and same texts give the same vectors on one machine. The weights are read once per instance,
/// at the first text.
#[derive(Debug, Component)]
#[component(kind = "candle.TextEmbedder")]
pub struct TextEmbedder {
    /// The name.
    pub identifier: String,
    /// The sizes of the encoder.
    #[component(breaking)]
    pub spec: BertSpec,
    /// The weights, named as in PyTorch's `BertModel`.
    #[component(breaking)]
    pub weights: Artifact<Tensors>,
    /// The text of a `tokenizer.json`.
    #[component(breaking)]
    pub tokenizer: Artifact<Bytes>,
    /// The tokens after which a text is cut off; 256 if not given.
    #[component(breaking, default = "longest")]
    pub longest: usize,
    /// Whether vectors have length 1; they have if not given.
    #[component(breaking, default = "yes")]
    pub normalize: bool,
    /// The encoder, once it was needed.
    pub encoder: Runtime<Encoder>,
}

impl TextEmbedder {
    /// Make an embedder of a folder as sentence-transformers writes it: `config.json`, `model.safetensors`, `tokenizer.json`
    /// and, where they are there, `modules.json`, `sentence_bert_config.json`, `tokenizer_config.json` and the configuration of
    /// the pooling. Without `modules.json` vectors are normalized.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is missing, and for one that says something that would give other vectors than here:
    /// another family than BERT, other modules or another pooling than the mean.
    pub fn from_folder(identifier: &str, folder: impl AsRef<Path>) -> Result<Self> {
        let found = folder::read(folder.as_ref())?;
        TextEmbedder::builder(identifier)
            .spec(found.spec)
            .weights(Artifact::new(found.weights))
            .tokenizer(Artifact::new(found.tokenizer))
            .longest(found.longest)
            .normalize(found.normalize)
            .build()
    }

    /// The encoder; it is loaded when it is first asked for.
    ///
    /// # Errors
    /// Those of [`Encoder::load`].
    pub async fn encoder(&self) -> Result<&Encoder> {
        if let Ok(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let _loading = LOADING.lock().await;
        if let Ok(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let (weights, tokenizer) = (self.weights.get().await?, self.tokenizer.get().await?);
        let encoder = Encoder::load(self.spec.clone(), &weights, &tokenizer, self.longest, self.normalize).await?;
        Ok(self.encoder.set(encoder))
    }

    /// The vector of a text.
    ///
    /// # Errors
    /// Those of [`Encoder::load`] and [`Encoder::embed_batch`].
    pub async fn embed(&self, text: &str) -> Result<Vec<f32>> {
        self.embed_batch(&[text]).await?.pop().ok_or_else(|| Error::internal("no vector for a text"))
    }

    /// The vector of each text, in order. Computes on the calling thread.
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed).
    pub async fn embed_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        self.encoder().await?.embed_batch(texts)
    }

    /// The same as [`embed`](TextEmbedder::embed).
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed).
    pub async fn predict(&self, text: &str) -> Result<Vec<f32>> {
        self.embed(text).await
    }

    /// The same as [`embed_batch`](TextEmbedder::embed_batch).
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed).
    pub async fn predict_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        self.embed_batch(texts).await
    }

    /// How alike two texts are: the cosine of the angle between their vectors, from -1 to 1.
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed).
    pub async fn similarity(&self, a: &str, b: &str) -> Result<f64> {
        let vectors = self.embed_batch(&[a, b]).await?;
        Ok(cosine(&vectors[0], &vectors[1]))
    }

    /// How well the similarities of pairs of texts follow the given ones, as the STS benchmark asks.
    ///
    /// ```no_run
    /// # async fn example(embedder: superduper_candle::TextEmbedder) -> superduper::Result<()> {
    /// use superduper_candle::TextPair;
    ///
    /// let pairs = [
    ///     TextPair::new("a plane is taking off", "an air plane is taking off", 5.0),
    ///     TextPair::new("a man is playing a flute", "a man is playing a guitar", 2.2),
    ///     TextPair::new("a woman is cooking", "a dog runs on the beach", 0.2),
    /// ];
    /// println!("{}", embedder.evaluate(&pairs).await?.spearman);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed); `InvalidInput` for fewer than two pairs, a score that is not finite, and scores
    /// that are all the same.
    pub async fn evaluate(&self, pairs: &[TextPair]) -> Result<Similarity> {
        let texts: Vec<&str> = pairs.iter().flat_map(|pair| [pair.a.as_str(), pair.b.as_str()]).collect();
        let vectors = self.embed_batch(&texts).await?;
        let found: Vec<f64> = vectors.as_chunks().0.iter().map(|[a, b]| cosine(a, b)).collect();
        similarity(&found, &pairs.iter().map(|pair| pair.score).collect::<Vec<f64>>())
    }
}

/// Two texts and how alike they are, on any scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPair {
    /// One text.
    pub a: String,
    /// The other one.
    pub b: String,
    /// How alike they are: more is more.
    pub score: f64,
}

impl TextPair {
    /// A pair with its score.
    pub fn new(a: impl Into<String>, b: impl Into<String>, score: f64) -> Self {
        TextPair { a: a.into(), b: b.into(), score }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

fn longest() -> usize {
    256
}
fn yes() -> bool {
    true
}
