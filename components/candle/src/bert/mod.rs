//! Sentence embeddings with an encoder of the BERT family.

mod dense;
mod embedder;
mod encoder;
mod folder;
mod kernels;
mod pair;
mod source;
mod spec;
mod tokens;

pub use embedder::TextEmbedder;
pub use encoder::Encoder;
pub use pair::TextPair;
pub use spec::BertSpec;
pub use tokens::TruncationSide;
