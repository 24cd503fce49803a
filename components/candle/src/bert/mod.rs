//! Sentence embeddings with an encoder of the BERT family.

mod embedder;
mod encoder;
mod kernels;
mod spec;
mod tokens;

pub use embedder::TextEmbedder;
pub use encoder::Encoder;
pub use spec::BertSpec;
