//! Texts to tokens, by a `tokenizer.json`.

use superduper::{Error, ErrorKind, Result};
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

/// A tokenizer that adds no padding and cuts long texts off.
pub(super) struct Tokens(Tokenizer);

impl Tokens {
    /// Read a tokenizer; texts get at most `longest` tokens, those at both ends counted.
    pub(super) fn read(json: &[u8], longest: usize) -> Result<Self> {
        let describe = |error| Error::new(ErrorKind::Decode, "the tokenizer cannot be read").with_source(error);
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(describe)?;
        // Files come with a padding to a fixed length, which would be most of the work.
        tokenizer.with_padding(None);
        let added = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if longest <= added {
            let text = format!("texts that are cut off at {longest} tokens have none of their own: {added} are added at their ends");
            return Err(Error::invalid(text).with_hint("set `longest` to more"));
        }
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        let describe = |error| Error::invalid(format!("texts cannot be cut off at {longest} tokens")).with_source(error);
        tokenizer.with_truncation(Some(truncation)).map_err(describe)?;
        Ok(Tokens(tokenizer))
    }

    /// The tokens of a text; at least those at both ends.
    pub(super) fn of(&self, text: &str) -> Result<Vec<u32>> {
        let describe = |error| Error::invalid(format!("a text of {} bytes cannot be made tokens", text.len())).with_source(error);
        Ok(self.0.encode_fast(text, true).map_err(describe)?.get_ids().to_vec())
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} known)", self.0.get_vocab_size(true))
    }
}
