//! `modules.json` and the folders that it names: a transformer, a pooling and a normalization.

use super::files::{File, json};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};
use superduper::{Error, Result};

/// The keys of a pooling from before `pooling_mode`, with the mode that each switches on.
const MODES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// What the modules say.
#[derive(Debug)]
pub(super) struct Modules {
    pub(super) transformer: PathBuf,
    pub(super) normalize: bool,
    /// Whether the mean is over the tokens of a prompt, too.
    pub(super) include_prompt: bool,
}

/// Read `modules.json`; without one, the usual places.
pub(super) fn read(folder: &Path) -> Result<Modules> {
    let path = folder.join("modules.json");
    if !path.exists() {
        let include_prompt = pooling(&folder.join("1_Pooling"))?;
        return Ok(Modules { transformer: folder.to_owned(), normalize: true, include_prompt });
    }
    let listed = json(&path)?;
    let describe = |what: String| Error::invalid(format!("`{}`: {what}", path.display()));
    let listed =
        listed.as_array().ok_or_else(|| describe("it is not a list of modules".to_owned()))?;
    let mut names = BTreeSet::new();
    let mut found =
        Modules { transformer: folder.to_owned(), normalize: false, include_prompt: true };
    for (index, module) in listed.iter().enumerate() {
        let text = |key: &str| {
            module[key]
                .as_str()
                .ok_or_else(|| describe(format!("module {index} has no text as `{key}`")))
        };
        let (kind, within) = (text("type")?, Path::new(text("path")?));
        if !within.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(describe(format!(
                "the `path` of module {index}, `{}`, is outside of the folder",
                within.display()
            )));
        }
        // Modules of one name replace each other in Python.
        if !names.insert(module["name"].to_string()) {
            return Err(describe(format!("the `name` of module {index} is that of another one")));
        }
        let at = folder.join(within);
        match (
            index,
            kind.strip_prefix("sentence_transformers.").and_then(|kind| kind.rsplit('.').next()),
        ) {
            (0, Some("Transformer")) => found.transformer = at,
            (1, Some("Pooling")) => found.include_prompt = pooling(&at)?,
            (2, Some("Normalize")) => {
                normalization(&at)?;
                found.normalize = true;
            }
            _ => {
                let known = "known are `Transformer`, `Pooling` and `Normalize` of sentence_transformers, in this order";
                return Err(describe(format!("the `type` of module {index} is `{kind}`; {known}")));
            }
        }
    }
    match listed.len() {
        0 | 1 => Err(describe(format!(
            "it lists {} modules; a transformer and a pooling are needed",
            listed.len()
        ))),
        _ => Ok(found),
    }
}

/// Refuse another pooling than the mean over the tokens, in the form of version 6 (`pooling_mode`)
/// and the older one, in which several can be true, whose vectors are put behind each other.
/// Returns whether the tokens of a prompt count.
fn pooling(folder: &Path) -> Result<bool> {
    let file = File::optional(folder.join("config.json"))?;
    let mut known: Vec<&str> = MODES.iter().map(|(key, _)| *key).collect();
    known.extend([
        "pooling_mode",
        "include_prompt",
        "embedding_dimension",
        "word_embedding_dimension",
    ]);
    file.refuse_others(&known)?;
    let (key, modes) = match file.get("pooling_mode") {
        Some(Value::String(mode)) => ("pooling_mode", vec![mode.as_str()]),
        Some(Value::Array(modes)) => {
            ("pooling_mode", modes.iter().map(|mode| mode.as_str().unwrap_or("?")).collect())
        }
        Some(other) => return Err(file.refuse("pooling_mode", format!("is {other}, not a mode"))),
        None => {
            let (mut key, mut modes) = ("pooling_mode_mean_tokens", Vec::new());
            for (flag, mode) in MODES {
                if file.flag(flag)? == Some(true) {
                    modes.push(mode);
                    key = if mode == "mean" { key } else { flag };
                }
            }
            (key, modes)
        }
    };
    let silent = !file.entries().any(|(key, _)| key.starts_with("pooling_mode"));
    if modes == ["mean"] || silent {
        return Ok(file.flag("include_prompt")?.unwrap_or(true));
    }
    let why = format!(
        "says that the embeddings of this model are made of the tokens by [{}], not by the mean alone",
        modes.join(", ")
    );
    Err(file.refuse(key, why))
}

fn normalization(folder: &Path) -> Result<()> {
    let file = File::optional(folder.join("config.json"))?;
    let keys = ["module_input_name", "module_output_name"];
    file.refuse_others(&keys)?;
    for key in keys {
        if let Some(name) = file.text(key)?.filter(|name| *name != "sentence_embedding") {
            return Err(
                file.refuse(key, format!("is `{name}`; only `sentence_embedding` is known"))
            );
        }
    }
    Ok(())
}
