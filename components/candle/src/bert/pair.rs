//! Pairs of texts with a score, to evaluate an embedder on.

use serde::{Deserialize, Serialize};

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
