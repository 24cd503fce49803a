//! Sentence embeddings with an encoder of the BERT family.

mod embedder;
mod encoder;
mod folder;
mod kernels;
mod spec;
mod tokens;

pub use embedder::{TextEmbedder, TextPair};
pub use encoder::Encoder;
pub use spec::BertSpec;
