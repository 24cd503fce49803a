//! The sizes of an encoder, as the `config.json` beside its weights has them.

use serde::{Deserialize, Serialize};
use superduper::{Error, Result};

/// The sizes of an encoder of the BERT family; the field names are those of `config.json`.
///
/// Source: J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
/// Understanding", 2019; layers are normalized after each addition, positions are learned, and
/// units are exact Gaussian error linear ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertSpec {
    /// The values of a token between layers, and of an embedding.
    pub hidden_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The heads of attention in a layer; they part `hidden_size` evenly.
    pub num_attention_heads: usize,
    /// The width inside of a layer.
    pub intermediate_size: usize,
    /// The number of tokens that are known.
    pub vocab_size: usize,
    /// The longest text, in tokens.
    pub max_position_embeddings: usize,
    /// What keeps a normalization from dividing by 0.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// The units between layers; only `gelu` is known.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// How positions are told; only `absolute` is known.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

impl BertSpec {
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            self.hidden_size,
            self.num_attention_heads,
            self.intermediate_size,
            self.vocab_size,
            self.max_position_embeddings,
        ];
        if sizes.contains(&0) {
            return Err(Error::invalid(format!("an encoder has a size of 0: {self:?}")));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            return Err(Error::invalid(format!(
                "{heads} heads do not part a hidden size of {hidden} evenly"
            )));
        }
        if self.hidden_act != "gelu" || self.position_embedding_type != "absolute" {
            return Err(Error::invalid(format!(
                "an encoder with `hidden_act` {} and `position_embedding_type` {} is not known",
                self.hidden_act, self.position_embedding_type
            ))
            .with_hint("take one with `gelu` and `absolute`, such as all-MiniLM-L6-v2"));
        }
        Ok(())
    }
}

fn epsilon() -> f64 {
    1e-12
}
fn gelu() -> String {
    "gelu".to_owned()
}
fn absolute() -> String {
    "absolute".to_owned()
}
