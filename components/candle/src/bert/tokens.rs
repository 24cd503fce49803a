//! Texts to tokens, by a `tokenizer.json`.

use serde::{Deserialize, Serialize};
use superduper::{Error, ErrorKind, Result};
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection, TruncationParams};

/// Which end of a text is cut off where the text is too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TruncationSide {
    /// The first tokens are kept.
    #[default]
    Right,
    /// The last tokens are kept.
    Left,
}

/// A tokenizer that adds no padding and cuts long texts off.
#[derive(Clone)]
pub(super) struct Tokens(Tokenizer);

impl Tokens {
    /// Read a tokenizer; texts get at most `longest` tokens, those at both ends counted.
    pub(super) fn read(json: &[u8], longest: usize, side: TruncationSide) -> Result<Self> {
        let describe = |error| {
            Error::new(ErrorKind::Decode, "the tokenizer cannot be read").with_source(error)
        };
        let mut tokenizer = unlimited(Tokenizer::from_bytes(json).map_err(describe)?)?;
        let added = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if longest <= added {
            let text = format!(
                "texts that are cut off at {longest} tokens have none of their own: {added} are added at their ends"
            );
            return Err(Error::invalid(text).with_hint("set `longest` to more"));
        }
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        let describe = |error| {
            Error::invalid(format!("texts cannot be cut off at {longest} tokens"))
                .with_source(error)
        };
        tokenizer.with_truncation(Some(truncation)).map_err(describe)?;
        Tokens(tokenizer).with_side(side)
    }

    /// Cut off this end of longer texts.
    pub(super) fn with_side(mut self, side: TruncationSide) -> Result<Self> {
        if let Some(truncation) = self.0.get_truncation().cloned() {
            let direction = match side {
                TruncationSide::Right => TruncationDirection::Right,
                TruncationSide::Left => TruncationDirection::Left,
            };
            let describe = |error| {
                Error::invalid(format!("texts cannot be cut off at their {side:?} end"))
                    .with_source(error)
            };
            self.0
                .with_truncation(Some(TruncationParams { direction, ..truncation }))
                .map_err(describe)?;
        }
        Ok(self)
    }

    /// The tokens of a text; at least those at both ends.
    pub(super) fn of(&self, text: &str) -> Result<Vec<u32>> {
        let describe = |error| {
            Error::invalid(format!("a text of {} bytes cannot be made tokens", text.len()))
                .with_source(error)
        };
        Ok(self.0.encode_fast(text, true).map_err(describe)?.get_ids().to_vec())
    }
}

/// A tokenizer that neither fills texts up nor cuts them off. Files come with a padding to a fixed
/// length, which would be most of the work.
///
/// # Errors
/// `InvalidInput` for one without a vocabulary.
pub(super) fn unlimited(mut tokenizer: Tokenizer) -> Result<Tokenizer> {
    if tokenizer.get_vocab_size(true) == 0 {
        return Err(Error::invalid("the tokenizer has no tokens")
            .with_hint("take the `tokenizer.json` that was saved with the model"));
    }
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None)?;
    Ok(tokenizer)
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} known)", self.0.get_vocab_size(true))
    }
}
