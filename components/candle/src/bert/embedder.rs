//! A component that turns texts into vectors.

use super::{BertSpec, Encoder};
use serde_json::Value;
use std::path::Path;
use superduper::{Artifact, Bytes, Component, Error, Result, ResultExt, Runtime, Tensors};

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
    /// Make an embedder of a folder as sentence-transformers writes it: `config.json`, `model.safetensors`,
    /// `tokenizer.json` and, if they are there, `sentence_bert_config.json` and `1_Pooling/config.json`.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is missing or says something that is not known here.
    pub fn from_folder(identifier: &str, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|error| Error::invalid(format!("`{}` cannot be read", path.display())).with_source(error))
        };
        let spec: BertSpec = serde_json::from_slice(&read("config.json")?).context("config.json")?;
        spec.check()?;
        let optional = |name: &str| match folder.join(name).exists() {
            true => serde_json::from_slice::<Value>(&read(name)?).context(name.to_owned()),
            false => Ok(Value::Null),
        };
        let pooling = optional("1_Pooling/config.json")?;
        if pooling["pooling_mode_mean_tokens"] == Value::Bool(false) {
            return Err(Error::invalid("the embeddings of this model are not the mean over the tokens")
                .with_hint("take one with `pooling_mode_mean_tokens`, such as all-MiniLM-L6-v2"));
        }
        let longest = optional("sentence_bert_config.json")?["max_seq_length"].as_u64().map_or_else(longest, |most| most as usize);
        TextEmbedder::builder(identifier)
            .spec(spec)
            .weights(Artifact::new(Tensors::from_bytes(read("model.safetensors")?)?))
            .tokenizer(Artifact::new(Bytes::from(read("tokenizer.json")?)))
            .longest(longest)
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
}

fn longest() -> usize {
    256
}
fn yes() -> bool {
    true
}
