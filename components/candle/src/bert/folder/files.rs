//! The files of a folder: objects of JSON whose keys are asked for by name, and weights.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use superduper::{Error, Result, ResultExt, Tensors};

/// How the text starts that Git LFS leaves in place of a file that was not fetched.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Files of weights that are not read.
const OTHER_WEIGHTS: [&str; 7] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "rust_model.ot",
    "onnx/model.onnx",
    "openvino/openvino_model.xml",
];

/// An object of JSON and where it lies. A key whose value is `null` is one that is not there.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    values: Map<String, Value>,
}

impl File {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        match json(&path)? {
            Value::Object(values) => Ok(File { path, values }),
            other => Err(Error::invalid(format!(
                "`{}` is {}, not an object",
                path.display(),
                kind(&other)
            ))),
        }
    }

    /// A file that need not be there.
    pub(super) fn optional(path: PathBuf) -> Result<Self> {
        if path.exists() { File::read(path) } else { Ok(File { path, values: Map::new() }) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.values)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.refuse(key, format!("is {value}, neither true nor false")))
            })
            .transpose()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key)
            .map(|value| {
                value.as_str().ok_or_else(|| self.refuse(key, format!("is {value}, not a text")))
            })
            .transpose()
    }

    /// A number of tokens; more than there can be is `usize::MAX`, as tokenizers without a limit
    /// say a number such as 1e30.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        let count = |value: &Value| match value.as_f64() {
            Some(number) if number >= 1.0 => Ok(number as usize),
            _ => Err(self.refuse(key, format!("is {value}, not a number of tokens"))),
        };
        self.get(key).map(count).transpose()
    }

    /// The error for a key whose value would give other vectors than here.
    pub(super) fn refuse(&self, key: &str, why: impl std::fmt::Display) -> Error {
        Error::invalid(format!("`{}`: `{key}` {why}", self.path.display()))
    }

    /// Refuse keys that say something; nothing is said by `null`, `false`, and what is empty.
    pub(super) fn refuse_set(&self, keys: &[&str], why: &str) -> Result<()> {
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            Value::Bool(true) | Value::Number(_) => true,
        };
        match keys
            .iter()
            .find_map(|key| self.get(key).filter(|value| says(value)).map(|value| (key, value)))
        {
            Some((key, value)) => Err(self.refuse(key, format!("is {}: {why}", short(value)))),
            None => Ok(()),
        }
    }

    /// Refuse a key that is not one of these: in this file every key that is read can change
    /// vectors.
    pub(super) fn refuse_others(&self, known: &[&str]) -> Result<()> {
        match self.entries().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(self
                .refuse(key, "is not known")
                .with_hint("take it out if it changes no vector")),
            None => Ok(()),
        }
    }
}

/// A value, cut off for an error.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(60).chain(['…']).collect() }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|error| {
        Error::invalid(format!("`{}` cannot be read", path.display())).with_source(error)
    })?;
    if bytes.starts_with(POINTER) {
        let text = format!(
            "`{}` is a pointer of Git LFS, which stands for the file until it is fetched",
            path.display()
        );
        return Err(
            Error::invalid(text).with_hint("run `git lfs pull` where the folder was cloned")
        );
    }
    Ok(bytes)
}

pub(super) fn json(path: &Path) -> Result<Value> {
    let describe =
        |error| Error::invalid(format!("`{}` is no JSON", path.display())).with_source(error);
    serde_json::from_slice(&bytes(path)?).map_err(describe)
}

/// The weights of a folder, which are one safetensors file, with its path.
pub(super) fn weights(folder: &Path) -> Result<(Tensors, PathBuf)> {
    let adapter = folder.join("adapter_config.json");
    if adapter.exists() {
        let text = format!("`{}` makes the model an adapter on another one", adapter.display());
        return Err(Error::invalid(text).with_hint(
            "save the whole model, in Python by `model.merge_and_unload().save_pretrained(folder)`",
        ));
    }
    let path = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if !path.exists() && index.exists() {
        let text = format!(
            "there is no `{}`; by `{}` the weights are in shards",
            path.display(),
            index.display()
        );
        return Err(
            Error::invalid(text).with_hint("make them one file, in Python by `model.save_pretrained(folder, max_shard_size=\"100GB\")`")
        );
    }
    if let Some(other) = OTHER_WEIGHTS
        .iter()
        .map(|name| folder.join(name))
        .find(|other| !path.exists() && other.exists())
    {
        let text = format!(
            "there is no `{}`; the weights in `{}` are of a format that is not read",
            path.display(),
            other.display()
        );
        return Err(
            Error::invalid(text).with_hint("convert them, in Python by `AutoModel.from_pretrained(folder).save_pretrained(folder)`")
        );
    }
    let weights =
        Tensors::from_bytes(bytes(&path)?).context(format_args!("`{}`", path.display()))?;
    Ok((weights, path))
}
