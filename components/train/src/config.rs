//! Trainers, finders and loaders by configuration: YAML or JSON, with values from the environment.
//!
//! Invariant: all mistakes are found when the configuration is read: unknown types, names and keys, duplicates, values
//! that cannot be used. Nothing is opened or written before.

use crate::{Isolation, JobBase, Limits, LocalTrainer, Restart, Span, Trainer, load_model_dyn};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData, path::PathBuf};
use superduper::{BoxFuture, Component, Db, Error, Result, Value};

/// A type of trainer: register an implementation with `#[typetag::deserialize(name = "…")]`.
#[typetag::deserialize(tag = "type", content = "config")]
pub trait TrainerType: fmt::Debug + Send + Sync {
    /// The trainer of this name.
    ///
    /// # Errors
    /// `InvalidInput` for values that do not fit each other.
    fn build(&self, name: &str) -> Result<LocalTrainer>;
}

/// A type of finder: where the folder of a named model is.
#[typetag::deserialize(tag = "type", content = "config")]
pub trait FinderType: fmt::Debug + Send + Sync {
    /// The folder of a model, if this finder knows it.
    ///
    /// # Errors
    /// `InvalidInput` for a name that cannot be one.
    fn find(&self, model: &str) -> Result<Option<PathBuf>>;
}

/// A type of loader: how a found model is loaded.
#[typetag::deserialize(tag = "type", content = "config")]
pub trait LoaderType: fmt::Debug + Send + Sync {
    /// Load the model in a folder.
    fn load(&self, folder: PathBuf) -> BoxFuture<'_, Result<Box<dyn Component>>>;
}

/// Type `LOCAL`: threads or processes of this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocalConfig {
    use_subprocess: bool,
    subprocess_start_method: String,
    retention_duration: Option<Span>,
    max_concurrent: usize,
    grace: Span,
    limits: Limits,
    restart: Restart,
    result_dir: Option<PathBuf>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        let JobBase { retention, grace, limits, restart, .. } = JobBase::default();
        LocalConfig {
            use_subprocess: false,
            subprocess_start_method: "spawn".to_owned(),
            retention_duration: retention,
            max_concurrent: 0,
            grace,
            limits,
            restart,
            result_dir: None,
        }
    }
}

#[typetag::deserialize(name = "LOCAL")]
impl TrainerType for LocalConfig {
    fn build(&self, name: &str) -> Result<LocalTrainer> {
        if self.subprocess_start_method != "spawn" {
            let text = format!("`{name}`: unknown subprocess_start_method `{}`; only `spawn` is built in", self.subprocess_start_method);
            return Err(Error::invalid(text).with_hint("a forked copy of a process with threads may hang; see docs/decisions/0004"));
        }
        let base = JobBase {
            isolation: if self.use_subprocess { Isolation::Process } else { Isolation::Thread },
            max_concurrent: self.max_concurrent,
            retention: self.retention_duration,
            grace: self.grace,
            limits: self.limits,
            restart: self.restart,
        };
        base.check(name)?;
        superduper::address::check_identifier(name)?;
        let trainer = LocalTrainer::new(name).base(base);
        Ok(match &self.result_dir {
            Some(folder) => trainer.result_dir(folder),
            None => trainer,
        })
    }
}

/// Type `LOCAL`: a folder of models by name, as trainings with `save_path` and `model_name` write them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalFinder {
    folder: PathBuf,
}

#[typetag::deserialize(name = "LOCAL")]
impl FinderType for LocalFinder {
    fn find(&self, model: &str) -> Result<Option<PathBuf>> {
        crate::spec::check_piece(model)?;
        let folder = self.folder.join(model);
        Ok(folder.join("model.json").is_file().then_some(folder))
    }
}

/// Type `LOCAL`: models that trainings have written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocalLoader {}

#[typetag::deserialize(name = "LOCAL")]
impl LoaderType for LocalLoader {
    fn load(&self, folder: PathBuf) -> BoxFuture<'_, Result<Box<dyn Component>>> {
        Box::pin(load_model_dyn(folder))
    }
}

/// Entries by name, of which no two may be the same.
#[derive(Debug)]
struct Named<T>(BTreeMap<String, T>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    if entries.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("duplicate name `{name}`")));
                    }
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    model_management: Sections,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    trainers: Named<Value>,
    finders: Named<Value>,
    initializers: Named<Value>,
}

/// Trainers, finders and loaders by name.
///
/// ```
/// use superduper_train::Config;
///
/// let config = Config::from_yaml("
/// model_management:
///   trainers:
///     default: {type: LOCAL, config: {retention_duration: 1d}}
///     isolated:
///       type: LOCAL
///       config: {use_subprocess: true, max_concurrent: 2, limits: {memory: 1073741824}}
/// ")?;
/// assert!(config.trainer("isolated").is_ok());
/// assert!(config.trainer("other").unwrap_err().to_string().contains("unknown trainer `other`"));
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug)]
pub struct Config {
    trainers: BTreeMap<String, LocalTrainer>,
    finders: BTreeMap<String, Box<dyn FinderType>>,
    loaders: BTreeMap<String, Box<dyn LoaderType>>,
}

/// Variables that begin so belong to the configuration.
const PREFIX: &str = "MODEL_MANAGEMENT_";

impl Config {
    /// Read YAML; JSON is YAML too.
    ///
    /// # Errors
    /// `InvalidInput` that names the place: unknown type or key, duplicate name, a value that cannot be used.
    pub fn from_yaml(text: &str) -> Result<Self> {
        Config::from_yaml_and_env(text, std::iter::empty())
    }

    /// Read YAML, with single values from the environment: `MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT=2`
    /// sets `max_concurrent` of the trainer `default`, which must be there. Give it `std::env::vars()`.
    ///
    /// # Errors
    /// As for [`Config::from_yaml`]; also for a variable that begins with `MODEL_MANAGEMENT_` and fits no entry.
    pub fn from_yaml_and_env(text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        // Of two equal keys the last one would count, deep inside; read as YAML they are an error.
        let malformed = |error: serde_norway::Error| Error::invalid(format!("configuration: {error}"));
        let _: serde_norway::Value = serde_norway::from_str(text).map_err(malformed)?;
        let mut root: Root = serde_norway::from_str(text).map_err(malformed)?;
        for (name, value) in env {
            if let Some(rest) = name.strip_prefix(PREFIX) {
                let sections = &mut root.model_management;
                let maps = [
                    ("TRAINERS_", &mut sections.trainers),
                    ("FINDERS_", &mut sections.finders),
                    ("INITIALIZERS_", &mut sections.initializers),
                ];
                let set: Vec<String> =
                    maps.into_iter().filter_map(|(section, map)| Some(set(map, rest.strip_prefix(section)?, &value))).flatten().collect();
                match &set[..] {
                    [_] => {}
                    [] => {
                        return Err(Error::invalid(format!("the variable `{name}` fits no entry of the configuration"))
                            .with_hint("write `MODEL_MANAGEMENT_TRAINERS_<NAME>_CONFIG_<KEY>` for a trainer that is in the file"));
                    }
                    several => {
                        let text = format!("the variable `{name}` fits several entries of the configuration: {}", several.join(", "));
                        return Err(Error::invalid(text).with_hint("rename one of them, or set the value in the file"));
                    }
                }
            }
        }
        let Sections { trainers, finders, initializers } = root.model_management;
        let trainers = entries::<Box<dyn TrainerType>>("trainers", trainers)?;
        let trainers: Result<_> = trainers.into_iter().map(|(name, kind)| Ok((name.clone(), kind.build(&name)?))).collect();
        Ok(Config { trainers: trainers?, finders: entries("finders", finders)?, loaders: entries("initializers", initializers)? })
    }

    /// The trainer of a name, not opened.
    ///
    /// # Errors
    /// `NotFound` that names those there are.
    pub fn trainer(&self, name: &str) -> Result<LocalTrainer> {
        find(&self.trainers, "trainer", name).cloned()
    }

    /// Open the trainer of a name.
    ///
    /// # Errors
    /// `NotFound`; those of [`LocalTrainer::open`].
    pub async fn open(&self, db: &Db, name: &str) -> Result<Trainer> {
        self.trainer(name)?.open(db).await
    }

    /// Find a model with the finder of a name, and load it with the loader of a name.
    ///
    /// # Errors
    /// `NotFound` for an unknown finder, loader or model; those of the loader.
    pub async fn load(&self, finder: &str, loader: &str, model: &str) -> Result<Box<dyn Component>> {
        let loader = find(&self.loaders, "initializer", loader)?;
        let found = find(&self.finders, "finder", finder)?.find(model)?;
        let folder = found.ok_or_else(|| Error::not_found(format!("finder `{finder}` knows no model `{model}`")))?;
        loader.load(folder).await
    }
}

fn find<'a, T>(entries: &'a BTreeMap<String, T>, what: &str, name: &str) -> Result<&'a T> {
    entries.get(name).ok_or_else(|| {
        let known: Vec<&str> = entries.keys().map(String::as_str).collect();
        Error::not_found(format!(
            "unknown {what} `{name}`; there is {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        ))
    })
}

fn entries<T: DeserializeOwned>(section: &str, named: Named<Value>) -> Result<BTreeMap<String, T>> {
    let read = |(name, mut value): (String, Value)| {
        let at = format!("model_management.{section}.{name}");
        if let Some(map) = value.as_object_mut() {
            if let Some(other) = map.keys().find(|key| !matches!(key.as_str(), "type" | "config")) {
                return Err(Error::invalid(format!("{at}: unknown key `{other}`; known are `type` and `config`")));
            }
            map.entry("config").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        let entry = T::deserialize(value).map_err(|error| Error::invalid(format!("{at}: {error}")))?;
        Ok((name, entry))
    };
    named.0.into_iter().map(read).collect()
}

/// Set a value by the rest of a variable's name, `<NAME>_CONFIG_<KEY>`; gives the names of the entries that it fits.
fn set(entries: &mut Named<Value>, rest: &str, text: &str) -> Vec<String> {
    let mut fits = Vec::new();
    let shout = |name: &str| name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect::<String>();
    for (name, entry) in &mut entries.0 {
        let Some(key) = rest.strip_prefix(&shout(name)).and_then(|rest| rest.strip_prefix("_CONFIG_")) else { continue };
        let Some(entry) = entry.as_object_mut() else { continue };
        let config = entry.entry("config").or_insert_with(|| Value::Object(serde_json::Map::new()));
        // As in YAML: `2` is a number, `true` a boolean, other text is text.
        let value = serde_norway::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        if let Some(config) = config.as_object_mut() {
            config.insert(key.to_ascii_lowercase(), value);
            fits.push(name.clone());
        }
    }
    fits
}
