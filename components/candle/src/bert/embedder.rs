//! A component that turns texts into vectors.

use super::{BertSpec, Encoder, TextPair, TruncationSide, folder, source, tokens::Tokens};
use crate::metrics::{Similarity, similarity};
use std::{
    collections::BTreeMap,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use superduper::{
    Artifact, Bytes, Component, Error, Lifecycle, Result, Runtime, Tensors, artifact::Blob,
};
use tokio::{runtime::Handle, sync::Mutex};

/// Encoders are loaded one after the other: of two that ask for the same one, one loads it.
static LOADING: Mutex<()> = Mutex::const_new(());

/// Sentence embeddings by an encoder of the BERT family: the mean over the tokens of a text, of
/// length 1.
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
/// Same declared fields and same texts give the same vectors on one machine. The weights are read
/// once per instance, at the first text.
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
    #[component(breaking, default = longest())]
    pub longest: usize,
    /// Whether vectors have length 1; they have if not given.
    #[component(breaking, default = yes())]
    pub normalize: bool,
    /// Which end of longer texts is cut off; the right one if not given.
    #[component(breaking, default)]
    pub truncation_side: TruncationSide,
    /// What can be put before a text, by name.
    #[component(breaking, default)]
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that is put before each text; none if not given.
    #[component(breaking, default)]
    pub default_prompt_name: Option<String>,
    /// The encoder, once it was needed.
    pub encoder: Runtime<Encoder>,
}

impl TextEmbedder {
    /// Make an embedder of a folder as sentence-transformers writes it: `config.json`,
    /// `model.safetensors`, `tokenizer.json` and, where they are there, `modules.json` with the
    /// folders that it names, `sentence_bert_config.json`, `config_sentence_transformers.json`,
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`. Without
    /// `modules.json` vectors are normalized, which sentence-transformers leaves out.
    ///
    /// # Guarantees
    /// Vectors are those of the Python package, up to 1e-5 in each value, for weights in f32.
    /// `docs/embedding.md` lists each key of these files with what becomes of it.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is missing, and for a key that would give other vectors than
    /// here, such as another family than BERT, other modules or another pooling than the mean. The
    /// error names the file and the key. The names, shapes and types of the weights are checked
    /// too, by the header of their file.
    pub fn from_folder(identifier: &str, folder: impl AsRef<Path>) -> Result<Self> {
        let found = folder::read(folder.as_ref())?;
        TextEmbedder::builder(identifier)
            .spec(found.spec)
            .weights(Artifact::new(found.weights))
            .tokenizer(Artifact::new(found.tokenizer))
            .longest(found.longest)
            .truncation_side(found.truncation_side)
            .normalize(found.normalize)
            .prompts(found.prompts)
            .default_prompt_name(found.default_prompt_name)
            .build()
    }

    /// The encoder; it is loaded when it is first asked for. It knows nothing of prompts.
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
        let encoder =
            Encoder::load(self.spec.clone(), &weights, &tokenizer, self.longest, self.normalize)
                .await?;
        Ok(self.encoder.set(encoder.with_truncation_side(self.truncation_side)?))
    }

    /// The vector of a text, with the default prompt before it, if there is one.
    ///
    /// # Errors
    /// Those of [`Encoder::load`] and [`Encoder::embed_batch`]; `InvalidInput` for a default prompt
    /// that
    /// [`prompts`](TextEmbedder::prompts) do not have.
    pub async fn embed(&self, text: &str) -> Result<Vec<f32>> {
        self.embed_batch(&[text])
            .await?
            .pop()
            .ok_or_else(|| Error::internal("no vector for a text"))
    }

    /// The vector of each text, in order. Computes on a blocking thread of the runtime, so that
    /// other tasks go on; outside of a runtime it computes on the calling thread.
    ///
    /// # Errors
    /// Those of [`embed`](TextEmbedder::embed).
    pub async fn embed_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        match &self.default_prompt_name {
            Some(name) => self.embed_batch_with_prompt(name, texts).await,
            None => self.compute(texts.iter().map(|text| text.as_ref().to_owned()).collect()).await,
        }
    }

    /// The vector of each text, in order, with the prompt of a name before it instead of the
    /// default one. Models that were trained with prompts for queries and documents need it.
    ///
    /// # Errors
    /// `InvalidInput` for a prompt that [`prompts`](TextEmbedder::prompts) do not have; those of
    /// [`embed`](TextEmbedder::embed).
    pub async fn embed_batch_with_prompt(
        &self,
        name: &str,
        texts: &[impl AsRef<str>],
    ) -> Result<Vec<Vec<f32>>> {
        let prompt = self.prompt(name)?;
        self.compute(texts.iter().map(|text| format!("{prompt}{}", text.as_ref())).collect()).await
    }

    async fn compute(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>> {
        let encoder = self.encoder().await?.clone();
        if texts.is_empty() || Handle::try_current().is_err() {
            return encoder.embed_batch(&texts);
        }
        match tokio::task::spawn_blocking(move || encoder.embed_batch(&texts)).await {
            Ok(vectors) => vectors,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => {
                Err(Error::internal("the runtime ended while texts were embedded")
                    .with_source(error))
            }
        }
    }

    fn prompt(&self, name: &str) -> Result<&str> {
        let known = || {
            format!(
                "there are [{}]",
                self.prompts.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            )
        };
        let missing = || Error::invalid(format!("there is no prompt `{name}`")).with_hint(known());
        self.prompts.get(name).map(String::as_str).ok_or_else(missing)
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

    /// How well the similarities of pairs of texts follow the given ones, as the STS benchmark
    /// asks.
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
    /// Those of [`embed`](TextEmbedder::embed); `InvalidInput` for fewer than two pairs, a score
    /// that is not finite, and scores that are all the same.
    pub async fn evaluate(&self, pairs: &[TextPair]) -> Result<Similarity> {
        let texts: Vec<&str> =
            pairs.iter().flat_map(|pair| [pair.a.as_str(), pair.b.as_str()]).collect();
        let vectors = self.embed_batch(&texts).await?;
        let found: Vec<f64> = vectors.as_chunks().0.iter().map(|[a, b]| cosine(a, b)).collect();
        similarity(&found, &pairs.iter().map(|pair| pair.score).collect::<Vec<f64>>())
    }
}

impl Lifecycle for TextEmbedder {
    /// Refuse what can never embed, so that it is not recorded. Of stored weights nothing is read.
    fn postinit(&mut self) -> Result<()> {
        if let Some(weights) = in_memory(&self.weights)? {
            source::check(&self.spec, &weights)?;
        }
        if let Some(tokenizer) = in_memory(&self.tokenizer)? {
            Tokens::read(
                &tokenizer,
                self.longest.min(self.spec.max_position_embeddings),
                self.truncation_side,
            )?;
        }
        match &self.default_prompt_name {
            Some(name) => self.prompt(name).map(drop),
            None => Ok(()),
        }
    }
}

/// The value of an artifact that no store has yet.
fn in_memory<T: Blob>(artifact: &Artifact<T>) -> Result<Option<Arc<T>>> {
    if artifact.is_saved() {
        return Ok(None);
    }
    match pin!(artifact.get()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.map(Some),
        Poll::Pending => Ok(None),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

fn longest() -> usize {
    256
}
fn yes() -> bool {
    true
}
