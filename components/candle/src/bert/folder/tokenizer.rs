//! `tokenizer.json` and what `tokenizer_config.json`, `special_tokens_map.json` and
//! `added_tokens.json` change of it.
//!
//! transformers 5 builds the tokenizer of a BERT model again: of `tokenizer.json` it takes the
//! vocabulary, of `tokenizer_config.json` the rest. transformers 4 takes `tokenizer.json` and
//! changes it by some keys of `tokenizer_config.json`. Invariant: where the two would give other
//! tokens, the folder is refused.

use super::{
    super::{TruncationSide, tokens},
    added::{self, Sources},
    files::{File, bytes, short},
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use superduper::{Error, Result, ResultExt};
use tokenizers::{
    ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
    normalizers::{BertNormalizer, Lowercase, Sequence},
};

const AGAIN: &str = "write both files again, in Python by `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`";

/// A tokenizer and how it cuts texts off.
#[derive(Debug)]
pub(super) struct Found {
    /// The text of a `tokenizer.json` that needs no other file.
    pub(super) text: Vec<u8>,
    pub(super) longest: Option<usize>,
    pub(super) side: TruncationSide,
}

/// The classes of tokenizers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Bert,
    /// All is in `tokenizer.json`.
    Plain,
}

/// Read the tokenizer of a folder. `class` is what `config.json` says of its class; `lowercase`
/// whether texts are written in lower case first.
pub(super) fn read(folder: &Path, class: Option<&str>, lowercase: bool) -> Result<Found> {
    let path = folder.join("tokenizer.json");
    let text = bytes(&path)?;
    let describe = |error| {
        Error::invalid(format!("`{}`: it is not a tokenizer", path.display())).with_source(error)
    };
    let mut tokenizer = Tokenizer::from_bytes(&text).map_err(describe)?;
    let sources = Sources {
        file: File::read(path)?,
        config: File::optional(folder.join("tokenizer_config.json"))?,
        special: File::optional(folder.join("special_tokens_map.json"))?,
        added: File::optional(folder.join("added_tokens.json"))?,
    };
    let Sources { file, config, .. } = &sources;
    let class = class_of(config, class.map(|class| (folder.join("config.json"), class)))?;
    refuse(file, config, class)?;
    let specials = added::specials(&sources, class == Class::Bert)?;
    let mut changed = class == Class::Bert && as_bert(&mut tokenizer, file, config, &specials)?;
    if lowercase && !lowercases(tokenizer.get_normalizer()) {
        let steps = [Some(Lowercase.into()), tokenizer.get_normalizer().cloned()];
        with_normalizer(&mut tokenizer, Sequence::new(steps.into_iter().flatten().collect()))?;
        changed = true;
    }
    changed |= added::add(&mut tokenizer, &sources, &specials, class == Class::Bert)?;
    let longest = match config.get("model_max_length") {
        Some(_) => config.count("model_max_length")?,
        None => config.count("max_len")?,
    };
    let side = side(file, config)?;
    let text = if changed { tokenizer.to_string(false)?.into_bytes() } else { text };
    check_ends(tokenizer, file, &specials, class)?;
    Ok(Found { text, longest, side })
}

fn class_of(config: &File, of_model: Option<(PathBuf, &str)>) -> Result<Class> {
    let said =
        config.text("tokenizer_class")?.map(|class| (config.path.clone(), class)).or(of_model);
    match said {
        None | Some((_, "BertTokenizer" | "BertTokenizerFast")) => Ok(Class::Bert),
        Some((_, "PreTrainedTokenizerFast" | "TokenizersBackend")) => Ok(Class::Plain),
        Some((path, other)) => {
            let known =
                "known are `BertTokenizer`, `PreTrainedTokenizerFast` and `TokenizersBackend`";
            Err(Error::invalid(format!(
                "`{}`: `tokenizer_class` is `{other}`; {known}",
                path.display()
            ))
            .with_hint("if `tokenizer.json` is the whole tokenizer, say `PreTrainedTokenizerFast`"))
        }
    }
}

/// Refuse what would give other tokens, or make vectors depend on the texts beside.
fn refuse(file: &File, config: &File, class: Class) -> Result<()> {
    config.refuse_set(&["auto_map"], "the tokenizer has code of its own")?;
    config.refuse_set(&["init_inputs"], "arguments are not known")?;
    config
        .refuse_set(&["split_special_tokens"], "special tokens in texts are always kept whole")?;
    let left = "puts padding before texts, so that a vector depends on the texts beside";
    if config.text("padding_side")? == Some("left") {
        return Err(config.refuse("padding_side", left));
    }
    let of_file = |key: &str, entry: &str| file.get(key).and_then(|value| value[entry].as_str());
    if config.get("padding_side").is_none() && of_file("padding", "direction") == Some("Left") {
        return Err(file.refuse("padding.direction", left));
    }
    if let Some(names) = config.get("model_input_names") {
        let has = |name: &str| {
            names.as_array().is_some_and(|names| names.iter().any(|found| found == name))
        };
        if !has("input_ids") || !has("attention_mask") {
            let why = format!(
                "is {}: without `attention_mask` a vector depends on the texts beside",
                short(names)
            );
            return Err(config.refuse("model_input_names", why));
        }
    }
    let model = file.get("model").cloned().unwrap_or_default();
    if model["dropout"].as_f64().is_some_and(|dropout| dropout != 0.0) {
        return Err(file
            .refuse("model.dropout", format!("is {}: tokens would be random", model["dropout"])));
    }
    let prefix = config.get("add_prefix_space");
    if class == Class::Plain
        && prefix.is_some_and(|prefix| differs(file.get("pre_tokenizer"), prefix))
    {
        return Err(config
            .refuse("add_prefix_space", "is not as in the `pre_tokenizer` of `tokenizer.json`")
            .with_hint(AGAIN));
    }
    Ok(())
}

/// Whether a pre-tokenizer, or a step of it, has another value of `add_prefix_space`.
fn differs(step: Option<&Value>, prefix: &Value) -> bool {
    let Some(step) = step else { return false };
    let steps = step["pretokenizers"].as_array();
    step.get("add_prefix_space").is_some_and(|found| found != prefix)
        || steps.into_iter().flatten().any(|step| differs(Some(step), prefix))
}

/// Which end of a text is cut off.
fn side(file: &File, config: &File) -> Result<TruncationSide> {
    if let Some(side) = config.text("truncation_side")? {
        return match side {
            "right" => Ok(TruncationSide::Right),
            "left" => Ok(TruncationSide::Left),
            other => Err(config
                .refuse("truncation_side", format!("is `{other}`, neither `left` nor `right`"))),
        };
    }
    // Any other direction than these two is no tokenizer, which was found before.
    match file.get("truncation").and_then(|truncation| truncation["direction"].as_str()) {
        Some("Left") => Ok(TruncationSide::Left),
        _ => Ok(TruncationSide::Right),
    }
}

/// Make a tokenizer that of `BertTokenizer`: its normalization follows `tokenizer_config.json`, and
/// the rest must be as there. Returns whether it was changed.
fn as_bert(
    tokenizer: &mut Tokenizer,
    file: &File,
    config: &File,
    specials: &added::Specials,
) -> Result<bool> {
    let other = |key: &str, what: String| {
        file.refuse(key, format!("{what}, which a `BertTokenizer` is not given")).with_hint(AGAIN)
    };
    let ModelWrapper::WordPiece(model) = tokenizer.get_model() else {
        return Err(other("model.type", "is not WordPiece".to_owned()));
    };
    let unknown = specials.get("unk_token").map_or("", |token| token.content.as_str());
    for (key, found, needed) in [
        ("model.unk_token", model.unk_token.as_str(), unknown),
        ("model.continuing_subword_prefix", model.continuing_subword_prefix.as_str(), "##"),
        ("model.max_input_chars_per_word", &model.max_input_chars_per_word.to_string(), "100"),
    ] {
        if found != needed {
            return Err(other(key, format!("is `{found}`, not `{needed}`")));
        }
    }
    if !matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
        return Err(other("pre_tokenizer", "is not BertPreTokenizer".to_owned()));
    }
    let Some(NormalizerWrapper::BertNormalizer(found)) = tokenizer.get_normalizer() else {
        return Err(other("normalizer", "is not BertNormalizer".to_owned()));
    };
    if !found.clean_text {
        return Err(other("normalizer.clean_text", "is false".to_owned()));
    }
    let lowercase = config.flag("do_lower_case")?.unwrap_or(true);
    let (strip, chinese) =
        (config.flag("strip_accents")?, config.flag("tokenize_chinese_chars")?.unwrap_or(true));
    if (found.lowercase, found.handle_chinese_chars) == (lowercase, chinese)
        && found.strip_accents.unwrap_or(found.lowercase) == strip.unwrap_or(lowercase)
    {
        return Ok(false);
    }
    with_normalizer(tokenizer, BertNormalizer::new(true, chinese, strip, lowercase))?;
    Ok(true)
}

fn with_normalizer(
    tokenizer: &mut Tokenizer,
    normalizer: impl Into<NormalizerWrapper>,
) -> Result<()> {
    tokenizer.with_normalizer(Some(normalizer.into()))?;
    Ok(())
}

/// Whether texts are written in lower case.
fn lowercases(normalizer: Option<&NormalizerWrapper>) -> bool {
    match normalizer {
        Some(NormalizerWrapper::Lowercase(_)) => true,
        Some(NormalizerWrapper::BertNormalizer(normalizer)) => normalizer.lowercase,
        Some(NormalizerWrapper::Sequence(steps)) => {
            steps.as_ref().iter().any(|step| lowercases(Some(step)))
        }
        _ => false,
    }
}

/// Refuse other tokens at the ends of a text than a `BertTokenizer` adds, and types of tokens other
/// than the first one, of which transformers 5 knows nothing for tokenizers of no class.
fn check_ends(
    tokenizer: Tokenizer,
    file: &File,
    specials: &added::Specials,
    class: Class,
) -> Result<()> {
    let path = format!("`{}`", file.path.display());
    let tokenizer = tokens::unlimited(tokenizer).context(&path)?;
    let tokens = |special: bool| tokenizer.encode_fast("a", special).context(&path);
    let (whole, inner) = (tokens(true)?, tokens(false)?);
    if whole.get_type_ids().iter().any(|kind| *kind != 0) {
        return Err(
            file.refuse("post_processor", "gives tokens another type than 0, which is not known")
        );
    }
    if class == Class::Plain {
        return Ok(());
    }
    let id =
        |name: &str| specials.get(name).and_then(|token| tokenizer.token_to_id(&token.content));
    let expected: Option<Vec<u32>> = [id("cls_token")]
        .into_iter()
        .chain(inner.get_ids().iter().map(|id| Some(*id)))
        .chain([id("sep_token")])
        .collect();
    if expected.as_deref() != Some(whole.get_ids()) {
        let why = "does not put `cls_token` before a text and `sep_token` behind it, as a `BertTokenizer` does";
        return Err(file.refuse("post_processor", why).with_hint(AGAIN));
    }
    Ok(())
}
