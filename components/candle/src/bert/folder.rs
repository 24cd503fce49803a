//! A folder as sentence-transformers writes it.
//!
//! Invariant: what the folder says and this crate does not do is an error, never another vector.

use super::BertSpec;
use serde_json::Value;
use std::path::{Path, PathBuf};
use superduper::{Bytes, Error, Result, ResultExt, Tensors};

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) spec: BertSpec,
    pub(super) weights: Tensors,
    pub(super) tokenizer: Bytes,
    pub(super) longest: usize,
    pub(super) normalize: bool,
}

/// Where the parts of a model are.
struct Modules {
    transformer: PathBuf,
    pooling: PathBuf,
    normalize: bool,
}

pub(super) fn read(folder: &Path) -> Result<Found> {
    let Modules { transformer, pooling, normalize } = modules(folder)?;
    let config: Value = json(&transformer.join("config.json"))?;
    if let Some(family) = config["model_type"].as_str().filter(|family| *family != "bert") {
        return Err(refused(format!("the model is of the family `{family}`, not `bert`")));
    }
    let spec: BertSpec = serde_json::from_value(config).context("config.json")?;
    spec.check()?;
    check_pooling(&optional(&pooling.join("config.json"))?)?;
    let sentences = optional(&transformer.join("sentence_bert_config.json"))?;
    let tokenizer = bytes(&transformer.join("tokenizer.json"))?;
    if sentences["do_lower_case"] == Value::Bool(true) && !lower_cases(&tokenizer) {
        return Err(refused("texts are to be written in lower case first, which the tokenizer does not do".to_owned()));
    }
    let of_tokenizer = || optional(&transformer.join("tokenizer_config.json")).map(|config| config["model_max_length"].as_f64());
    let longest = match sentences["max_seq_length"].as_f64() {
        Some(longest) => Some(longest),
        None => of_tokenizer()?,
    };
    // Tokenizers without a limit say a number such as 1e30.
    let most = spec.max_position_embeddings;
    let longest = longest.filter(|longest| *longest >= 1.0 && *longest < most as f64).map_or(most, |longest| longest as usize);
    let weights = Tensors::from_bytes(bytes(&transformer.join("model.safetensors"))?)?;
    Ok(Found { spec, weights, tokenizer: Bytes::from(tokenizer), longest, normalize })
}

/// What `modules.json` says; without one, the usual places.
fn modules(folder: &Path) -> Result<Modules> {
    let (transformer, pooling) = (folder.to_owned(), folder.join("1_Pooling"));
    let listed = optional(&folder.join("modules.json"))?;
    let Some(listed) = listed.as_array() else { return Ok(Modules { transformer, pooling, normalize: true }) };
    let mut found = Modules { transformer, pooling, normalize: false };
    for (index, module) in listed.iter().enumerate() {
        let path = folder.join(module["path"].as_str().unwrap_or_default());
        let kind = module["type"].as_str().unwrap_or_default();
        match (index, kind.rsplit('.').next().unwrap_or_default()) {
            (0, "Transformer") => found.transformer = path,
            (1, "Pooling") => found.pooling = path,
            (2, "Normalize") => found.normalize = true,
            _ => {
                return Err(refused(format!(
                    "module {index} is `{kind}`; known are a transformer, a pooling and a normalization, in this order"
                )));
            }
        }
    }
    Ok(found)
}

/// Refuse another pooling than the mean over the tokens, in the form of version 6 (`pooling_mode`) and the older one, in which
/// several can be true, whose vectors are put behind each other.
fn check_pooling(config: &Value) -> Result<()> {
    let modes: Vec<String> = match &config["pooling_mode"] {
        Value::String(mode) => vec![mode.clone()],
        Value::Array(modes) => modes.iter().map(|mode| mode.as_str().unwrap_or_default().to_owned()).collect(),
        _ => {
            let flags = config.as_object().into_iter().flatten().filter(|(_, on)| **on == Value::Bool(true));
            flags.filter_map(|(key, _)| Some(key.strip_prefix("pooling_mode_")?.trim_end_matches("_tokens").to_owned())).collect()
        }
    };
    match &modes[..] {
        [] if !config.as_object().is_some_and(|config| config.keys().any(|key| key.starts_with("pooling_mode"))) => Ok(()),
        [only] if only == "mean" => Ok(()),
        modes => {
            Err(refused(format!("the embeddings of this model are made of the tokens by [{}], not by the mean alone", modes.join(", "))))
        }
    }
}

/// Whether a tokenizer writes texts in lower case.
fn lower_cases(tokenizer: &[u8]) -> bool {
    let config: Value = serde_json::from_slice(tokenizer).unwrap_or_default();
    let normalizer = &config["normalizer"];
    let lower = |step: &Value| step["lowercase"] == Value::Bool(true) || step["type"] == "Lowercase";
    lower(normalizer) || normalizer["normalizers"].as_array().is_some_and(|steps| steps.iter().any(lower))
}

fn refused(what: String) -> Error {
    Error::invalid(what).with_hint("take a model such as all-MiniLM-L6-v2")
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::invalid(format!("`{}` cannot be read", path.display())).with_source(error))
}

fn json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| Error::invalid(format!("`{}` is no JSON", path.display())).with_source(error))
}

/// `null` for a file that is not there.
fn optional(path: &Path) -> Result<Value> {
    if path.exists() { json(path) } else { Ok(Value::Null) }
}
