//! The encoder: tokens in, one vector per sentence out.
//!
//! Sentences are packed behind each other instead of being padded to the longest: products are over
//! all tokens of a batch, attention stays within each sentence. Weights are laid out once, when
//! they are read.

use super::{
    BertSpec, TruncationSide,
    dense::Dense,
    kernels::{Norm, attention, bias_gelu},
    source::{self, Source},
    tokens::Tokens,
};
use crate::memory::keep_freed;
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;
use superduper::{Dtype, Error, Result, ResultExt, Tensors};

/// Tokens that are worked on at once, about: more gain nothing, and take memory.
const TOGETHER: usize = 1024;

/// A sentence encoder that is loaded: the mean of a sentence's tokens, of length 1 if wanted. A
/// clone shares the weights.
#[derive(Debug, Clone)]
pub struct Encoder {
    spec: BertSpec,
    tokens: Arc<Tokens>,
    normalize: bool,
    weights: Arc<Weights>,
}

#[derive(Debug)]
struct Weights {
    words: Vec<f32>,
    positions: Vec<f32>,
    /// The embedding of the first type of token, the only one in use.
    kind: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Queries, keys and values beside each other.
    qkv: Dense,
    attended: Dense,
    attended_norm: Norm,
    inner: Dense,
    outer: Dense,
    outer_norm: Norm,
}

impl Encoder {
    /// Read an encoder: weights named as in PyTorch's `BertModel`, with or without `bert.` before
    /// them, and the text of a `tokenizer.json`. Texts are cut off after `longest` tokens;
    /// embeddings have length 1 if `normalize`.
    ///
    /// # Errors
    /// `InvalidInput` for weights that are missing or of another shape than the sizes say; `Decode`
    /// for a tokenizer that cannot be read; `Integrity` for bytes that are missing or not those
    /// that were saved.
    pub async fn load(
        spec: BertSpec,
        weights: &Tensors,
        tokenizer: &[u8],
        longest: usize,
        normalize: bool,
    ) -> Result<Self> {
        source::check(&spec, weights)?;
        let tokens = Tokens::read(
            tokenizer,
            longest.min(spec.max_position_embeddings),
            TruncationSide::Right,
        )?;
        let reader = Reader { source: Source::of(weights), epsilon: spec.layer_norm_eps as f32 };
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let mut layers = Vec::with_capacity(spec.num_hidden_layers);
        for index in 0..spec.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            layers.push(Layer {
                qkv: reader
                    .dense(
                        &["query", "key", "value"]
                            .map(|part| name(&format!("attention.self.{part}"))),
                        hidden,
                    )
                    .await?,
                attended: reader.dense(&[name("attention.output.dense")], hidden).await?,
                attended_norm: reader.norm(&name("attention.output.LayerNorm")).await?,
                inner: reader.dense(&[name("intermediate.dense")], hidden).await?,
                outer: reader.dense(&[name("output.dense")], inner).await?,
                outer_norm: reader.norm(&name("output.LayerNorm")).await?,
            });
        }
        let kinds = reader.read("embeddings.token_type_embeddings.weight").await?;
        let weights = Weights {
            words: reader.read("embeddings.word_embeddings.weight").await?,
            positions: reader.read("embeddings.position_embeddings.weight").await?,
            kind: kinds[..hidden].to_vec(),
            norm: reader.norm("embeddings.LayerNorm").await?,
            layers,
        };
        Ok(Encoder { spec, tokens: Arc::new(tokens), normalize, weights: Arc::new(weights) })
    }

    /// Cut off the other end of longer texts; a loaded encoder cuts off the right one.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn with_truncation_side(mut self, side: TruncationSide) -> Result<Self> {
        self.tokens = Arc::new(Arc::unwrap_or_clone(self.tokens).with_side(side)?);
        Ok(self)
    }

    /// The values of an embedding.
    pub fn dimension(&self) -> usize {
        self.spec.hidden_size
    }

    /// The embedding of each text, in order. Computes on the calling thread.
    ///
    /// # Errors
    /// `InvalidInput` for a text with a token that the encoder does not know.
    pub fn embed_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        keep_freed();
        let mut results = Vec::with_capacity(texts.len());
        let mut waiting: Vec<Vec<u32>> = Vec::new();
        for text in texts {
            waiting.push(self.tokens.of(text.as_ref())?);
            if waiting.iter().map(Vec::len).sum::<usize>() >= TOGETHER {
                results.append(&mut self.encode(&std::mem::take(&mut waiting))?);
            }
        }
        if !waiting.is_empty() {
            results.append(&mut self.encode(&waiting)?);
        }
        Ok(results)
    }

    fn encode(&self, sentences: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let (hidden, heads) = (self.spec.hidden_size, self.spec.num_attention_heads);
        let lengths: Vec<usize> = sentences.iter().map(Vec::len).collect();
        let mut x = self.look_up(sentences)?;
        for layer in &self.weights.layers {
            let mut qkv = layer.qkv.multiply(&x);
            let mut attended =
                layer.attended.multiply(&attention(&mut qkv, &layer.qkv.bias, &lengths, heads));
            layer.attended_norm.add_and_normalize(&mut attended, &layer.attended.bias, &x);
            let mut inner = layer.inner.multiply(&attended);
            bias_gelu(&mut inner, &layer.inner.bias);
            x = layer.outer.multiply(&inner);
            layer.outer_norm.add_and_normalize(&mut x, &layer.outer.bias, &attended);
        }
        let mut from = 0;
        let pool = |length: &usize| {
            let rows = &x[from * hidden..(from + length) * hidden];
            from += length;
            self.pool(rows)
        };
        Ok(lengths.iter().map(pool).collect())
    }

    /// The sum of the embeddings of word, position and type of each token, normalized.
    fn look_up(&self, sentences: &[Vec<u32>]) -> Result<Vec<f32>> {
        let hidden = self.spec.hidden_size;
        let tokens = sentences.iter().map(Vec::len).sum::<usize>();
        let (mut x, mut positions) =
            (Vec::with_capacity(tokens * hidden), Vec::with_capacity(tokens * hidden));
        for sentence in sentences {
            for &token in sentence {
                let from = token as usize * hidden;
                let word = self.weights.words.get(from..from + hidden).ok_or_else(|| {
                    Error::invalid(format!(
                        "the tokenizer gave token {token}, the encoder knows {}",
                        self.spec.vocab_size
                    ))
                })?;
                x.extend_from_slice(word);
            }
            // No sentence is longer than there are positions: the tokenizer cuts it off.
            positions.extend_from_slice(&self.weights.positions[..sentence.len() * hidden]);
        }
        self.weights.norm.add_and_normalize(&mut x, &self.weights.kind, &positions);
        Ok(x)
    }

    /// The mean of the tokens of a sentence.
    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        let hidden = self.spec.hidden_size;
        let mut mean = vec![0_f32; hidden];
        for row in rows.chunks_exact(hidden) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += *value);
        }
        let length = match self.normalize {
            true => mean.iter().map(|value| value * value).sum::<f32>().sqrt(),
            false => (rows.len() / hidden) as f32,
        };
        mean.iter_mut().for_each(|value| *value /= length.max(1e-12));
        mean
    }
}

/// Reads weights by name, once they were checked.
struct Reader<'a> {
    source: Source<'a>,
    epsilon: f32,
}

impl Reader<'_> {
    async fn read(&self, name: &str) -> Result<Vec<f32>> {
        let (name, weights) = (self.source.find(name)?, self.source.weights());
        match weights.info(&name).map(|info| info.dtype) {
            Some(Dtype::F16) => self.widened(&name, DType::F16).await,
            Some(Dtype::BF16) => self.widened(&name, DType::BF16).await,
            _ => weights.to_vec::<f32>(&name).await,
        }
    }

    /// Half precision as f32, which holds each such number.
    async fn widened(&self, name: &str, dtype: DType) -> Result<Vec<f32>> {
        let bytes = self.source.weights().get(name).await?.bytes;
        let widened = || {
            let count = bytes.len() / dtype.size_in_bytes();
            Tensor::from_raw_buffer(&bytes, dtype, &[count], &Device::Cpu)?
                .to_dtype(DType::F32)?
                .to_vec1()
        };
        widened().context(format_args!("weight `{name}`"))
    }

    async fn norm(&self, name: &str) -> Result<Norm> {
        let scale = self.read(&format!("{name}.weight")).await?;
        Ok(Norm { scale, shift: self.read(&format!("{name}.bias")).await?, epsilon: self.epsilon })
    }

    /// One or more layers with the same input beside each other.
    async fn dense(&self, names: &[String], inputs: usize) -> Result<Dense> {
        let (mut weights, mut bias) = (Vec::with_capacity(names.len()), Vec::new());
        for name in names {
            weights.push(self.read(&format!("{name}.weight")).await?);
            bias.append(&mut self.read(&format!("{name}.bias")).await?);
        }
        Ok(Dense::new(inputs, &weights, bias))
    }
}
