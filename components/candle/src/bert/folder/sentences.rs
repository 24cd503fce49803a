//! `sentence_bert_config.json` and `config_sentence_transformers.json`: how sentence-transformers
//! uses the encoder.

use super::files::{File, short};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use superduper::Result;

/// Where the settings of the transformer may be; the first file that says something counts.
const NAMES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Arguments for the parts of a model, under their names of now and before.
const ARGUMENTS: [&str; 7] = [
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
    "processing_kwargs",
];

/// Settings of models with many vectors per text.
const OF_MANY: [&str; 3] = ["query_length", "document_length", "query_expansion"];

/// What is said of the transformer.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    pub(super) longest: Option<usize>,
    pub(super) lowercase: bool,
}

pub(super) fn transformer(folder: &Path) -> Result<Sentences> {
    for name in NAMES {
        let file = File::optional(folder.join(name))?;
        if !file.is_empty() {
            return settings(&file);
        }
    }
    Ok(Sentences::default())
}

fn settings(file: &File) -> Result<Sentences> {
    let mut known = vec![
        "max_seq_length",
        "do_lower_case",
        "transformer_task",
        "modality_config",
        "module_output_name",
    ];
    known.extend(["unpad_inputs", "tokenizer_name_or_path"]);
    known.extend(ARGUMENTS.iter().chain(&OF_MANY));
    file.refuse_others(&known)?;
    file.refuse_set(&ARGUMENTS, "arguments are not known")?;
    file.refuse_set(&OF_MANY, "models with many vectors per text are not known")?;
    file.refuse_set(&["tokenizer_name_or_path"], "the tokenizer is read of the same folder")?;
    let only = [
        ("transformer_task", json!("feature-extraction")),
        (
            "modality_config",
            json!({"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
        ),
        ("module_output_name", json!("token_embeddings")),
    ];
    for (key, only) in &only {
        if let Some(value) = file.get(key).filter(|value| *value != only) {
            return Err(file.refuse(key, format!("is {}; only {only} is known", short(value))));
        }
    }
    Ok(Sentences {
        longest: file.count("max_seq_length")?,
        lowercase: file.flag("do_lower_case")?.unwrap_or(false),
    })
}

/// What is put before texts.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    pub(super) all: BTreeMap<String, String>,
    pub(super) default: Option<String>,
}

/// The prompts, of which those without a text are left out; `include_prompt` says whether the
/// pooling counts their tokens.
pub(super) fn prompts(folder: &Path, include_prompt: bool) -> Result<Prompts> {
    let file = File::optional(folder.join("config_sentence_transformers.json"))?;
    file.refuse_others(&[
        "model_type",
        "__version__",
        "prompts",
        "default_prompt_name",
        "similarity_fn_name",
        "requirements",
    ])?;
    if let Some(kind) = file.text("model_type")?.filter(|kind| *kind != "SentenceTransformer") {
        return Err(file.refuse("model_type", format!("is `{kind}`, not `SentenceTransformer`")));
    }
    let mut all = BTreeMap::new();
    match file.get("prompts") {
        None => {}
        Some(Value::Object(prompts)) => {
            for (name, prompt) in prompts {
                match prompt {
                    Value::String(prompt) => all.extend([(name.clone(), prompt.clone())]),
                    Value::Null => {}
                    other => {
                        return Err(file.refuse(
                            "prompts",
                            format!("has {} as `{name}`, not a text", short(other)),
                        ));
                    }
                }
            }
        }
        Some(other) => {
            return Err(file.refuse("prompts", format!("is {}, not an object", short(other))));
        }
    }
    let default = file.text("default_prompt_name")?.map(str::to_owned);
    // Of two names sentence-transformers has an empty prompt unless the file gives another one.
    if let Some(name) = default
        .as_ref()
        .filter(|name| !all.contains_key(*name) && !["query", "document"].contains(&name.as_str()))
    {
        return Err(file
            .refuse("default_prompt_name", format!("is `{name}`, which `prompts` does not have")));
    }
    all.retain(|_, prompt| !prompt.is_empty());
    if !include_prompt && !all.is_empty() {
        return Err(file.refuse(
            "prompts",
            "are to be left out of the mean (`include_prompt` of the pooling), which is not known",
        ));
    }
    Ok(Prompts { default: default.filter(|name| all.contains_key(name)), all })
}
