//! All files of a folder together.

use super::{
    super::{BertSpec, TruncationSide, source},
    config, files, modules, sentences, tokenizer,
};
use files::File;
use std::{collections::BTreeMap, path::Path};
use superduper::{Bytes, Result, ResultExt, Tensors};

/// What a folder holds.
#[derive(Debug)]
pub(in super::super) struct Found {
    pub(in super::super) spec: BertSpec,
    pub(in super::super) weights: Tensors,
    pub(in super::super) tokenizer: Bytes,
    pub(in super::super) longest: usize,
    pub(in super::super) truncation_side: TruncationSide,
    pub(in super::super) normalize: bool,
    pub(in super::super) prompts: BTreeMap<String, String>,
    pub(in super::super) default_prompt_name: Option<String>,
}

pub(in super::super) fn read(folder: &Path) -> Result<Found> {
    let modules = modules::read(folder)?;
    let (spec, class) = config::read(File::read(modules.transformer.join("config.json"))?)?;
    let sentences = sentences::transformer(&modules.transformer)?;
    let prompts = sentences::prompts(folder, modules.include_prompt)?;
    let tokenizer = tokenizer::read(&modules.transformer, class.as_deref(), sentences.lowercase)?;
    let most = spec.max_position_embeddings;
    let longest = sentences.longest.or(tokenizer.longest).map_or(most, |longest| longest.min(most));
    let (weights, path) = files::weights(&modules.transformer)?;
    source::check(&spec, &weights).context(format_args!("`{}`", path.display()))?;
    Ok(Found {
        spec,
        weights,
        tokenizer: Bytes::from(tokenizer.text),
        longest,
        truncation_side: tokenizer.side,
        normalize: modules.normalize,
        prompts: prompts.all,
        default_prompt_name: prompts.default,
    })
}
