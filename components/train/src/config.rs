//! Trainers, finders and loaders by configuration: YAML or JSON, with values from the environment.
//!
//! Invariant: all mistakes are found when the configuration is read: unknown types, names and keys,
//! duplicates, values that cannot be used. Nothing is opened or written before.

use crate::{
    base::{Isolation, JobBase, Limits, Restart},
    export::load_model_dyn,
    span::Span,
    trainer::{LocalTrainer, Trainer},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    marker::PhantomData,
    path::PathBuf,
};
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
            let text = format!(
                "`{name}`: unknown subprocess_start_method `{}`; only `spawn` is built in",
                self.subprocess_start_method
            );
            return Err(Error::invalid(text).with_hint(
                "a forked copy of a process with threads may hang; see docs/decisions/0004",
            ));
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

/// Type `LOCAL`: a folder of models by name, as trainings with `save_path` and `model_name` write
/// them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalFinder {
    folder: PathBuf,
}

#[typetag::deserialize(name = "LOCAL")]
impl FinderType for LocalFinder {
    fn find(&self, model: &str) -> Result<Option<PathBuf>> {
        crate::save_path::check_piece(model)?;
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

/// Variables that begin so and go on with the name of a section belong to the configuration.
const PREFIX: &str = "MODEL_MANAGEMENT_";

impl Config {
    /// Read YAML; JSON is YAML too.
    ///
    /// # Errors
    /// `InvalidInput` that names the place: unknown type or key, duplicate name, a value that
    /// cannot be used.
    pub fn from_yaml(text: &str) -> Result<Self> {
        Config::from_yaml_and_env(text, std::iter::empty::<(OsString, OsString)>())
    }

    /// Read YAML, with single values from the environment:
    /// `MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT=2` sets `max_concurrent` of the
    /// trainer `default`, which must be there. Give it `std::env::vars_os()`.
    ///
    /// The sections are `MODEL_MANAGEMENT_TRAINERS_…`, `MODEL_MANAGEMENT_FINDERS_…` and
    /// `MODEL_MANAGEMENT_INITIALIZERS_…`. All other variables belong to other programs and are
    /// ignored. A value is read as YAML: `null` is written out, an empty text is an error.
    ///
    /// # Errors
    /// As for [`Config::from_yaml`]; also, naming the variable, for one of these sections that fits
    /// no entry, is empty, is no Unicode, or sets a key or value that its entry does not take.
    pub fn from_yaml_and_env<N, V>(
        text: &str,
        env: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        // Of two equal keys the last one would count, deep inside; read as YAML they are an error.
        let malformed =
            |error: serde_norway::Error| Error::invalid(format!("configuration: {error}"));
        let _: serde_norway::Value = serde_norway::from_str(text).map_err(malformed)?;
        let root: Root = serde_norway::from_str(text).map_err(malformed)?;
        let Sections { mut trainers, mut finders, mut initializers } = root.model_management;
        let mut sections = [
            ("trainers", &mut trainers),
            ("finders", &mut finders),
            ("initializers", &mut initializers),
        ]
        .map(|(name, entries)| Section { name, entries, variables: Vec::new() });
        for (name, value) in env {
            let (name, value) = (name.into(), value.into());
            // A name that is no Unicode is none of ours.
            let Some(name) = name.to_str() else { continue };
            for section in &mut sections {
                section.set(name, &value)?;
            }
        }
        let [trainers, finders, initializers] = sections;
        Ok(Config {
            trainers: trainers.read(|name, kind: Box<dyn TrainerType>| kind.build(name))?,
            finders: finders.read(|_, finder| Ok(finder))?,
            loaders: initializers.read(|_, loader| Ok(loader))?,
        })
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
    pub async fn load(
        &self,
        finder: &str,
        loader: &str,
        model: &str,
    ) -> Result<Box<dyn Component>> {
        let loader = find(&self.loaders, "initializer", loader)?;
        let found = find(&self.finders, "finder", finder)?.find(model)?;
        let folder = found.ok_or_else(|| {
            Error::not_found(format!("finder `{finder}` knows no model `{model}`"))
        })?;
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

/// A section of the file, with what the environment sets in it.
struct Section<'a> {
    name: &'static str,
    entries: &'a mut Named<Value>,
    variables: Vec<Variable>,
}

/// A variable that sets a value of an entry.
struct Variable {
    name: String,
    entry: String,
    key: String,
    value: Value,
}

impl Section<'_> {
    /// Take a variable that is of this section.
    fn set(&mut self, name: &str, value: &OsStr) -> Result<()> {
        let of_section =
            name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(&shout(self.name)));
        // `TRAINERS_…` is of the section; so is `TRAINERS` alone, which names no entry.
        let Some(rest) = of_section.filter(|rest| rest.is_empty() || rest.starts_with('_')) else {
            return Ok(());
        };
        let rest = rest.strip_prefix('_').unwrap_or_default();
        let key_of = |entry: &str| {
            rest.strip_prefix(&shout(entry))?.strip_prefix("_CONFIG_").filter(|key| !key.is_empty())
        };
        let fits: Vec<(&String, &str)> =
            self.entries.0.keys().filter_map(|entry| Some((entry, key_of(entry)?))).collect();
        let (entry, key) = match &fits[..] {
            [(entry, key)] => ((*entry).clone(), key.to_ascii_lowercase()),
            [] => {
                let known: Vec<&str> = self.entries.0.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let text = format!(
                    "the variable `{name}` fits no entry of the configuration; `model_management.{}` has {known}",
                    self.name
                );
                let form = format!("{PREFIX}{}_<NAME>_CONFIG_<KEY>", shout(self.name));
                return Err(Error::invalid(text)
                    .with_hint(format!("write `{form}` for an entry that is in the file")));
            }
            several => {
                let several: Vec<&str> = several.iter().map(|(entry, _)| entry.as_str()).collect();
                let text = format!(
                    "the variable `{name}` fits several entries of the configuration: {}",
                    several.join(", ")
                );
                return Err(Error::invalid(text)
                    .with_hint("rename one of them, or set the value in the file"));
            }
        };
        let value = value.to_str().ok_or_else(|| {
            Error::invalid(format!("the value of the variable `{name}` is no Unicode"))
        })?;
        // Read twice, as the file is: of two equal keys the last one would count.
        let strict = serde_norway::from_str::<serde_norway::Value>(value);
        let parsed = if value.trim().is_empty() {
            Ok(Value::Null)
        } else {
            strict.and_then(|_| serde_norway::from_str(value))
        };
        let value = match parsed {
            // As in YAML: `2` is a number, `true` a boolean, other text is text. Nothing, or a
            // comment alone, is null there too.
            Ok(Value::Null) if !matches!(value.trim(), "null" | "Null" | "NULL" | "~") => {
                let text = format!(
                    "the variable `{name}` is empty; it sets `{key}` of `model_management.{}.{entry}`",
                    self.name
                );
                return Err(
                    Error::invalid(text).with_hint("unset it, or write `null` for no value")
                );
            }
            Ok(value) => value,
            Err(error) if error.to_string().contains("duplicate") => {
                return Err(Error::invalid(format!("the value of the variable `{name}`: {error}")));
            }
            Err(_) => Value::String(value.to_owned()),
        };
        self.variables.push(Variable { name: name.to_owned(), entry, key, value });
        Ok(())
    }

    /// Read all entries, the variables in place.
    fn read<T: DeserializeOwned, U>(
        self,
        build: impl Fn(&str, T) -> Result<U>,
    ) -> Result<BTreeMap<String, U>> {
        let Section { name: section, entries, variables } = self;
        let read = |name: &str, value: &Value, with: &[&Variable]| {
            build(name, read_entry(section, name, value.clone(), with)?)
        };
        let mut found = BTreeMap::new();
        for (name, value) in std::mem::take(&mut entries.0) {
            let own: Vec<&Variable> =
                variables.iter().filter(|variable| variable.entry == name).collect();
            let built = read(&name, &value, &own).map_err(|error| {
                // A variable is to blame where the file alone is good; of several, the ones that
                // are wrong by themselves.
                if own.is_empty() || read(&name, &value, &[]).is_err() {
                    return error;
                }
                let mut blamed: Vec<&Variable> = own
                    .iter()
                    .copied()
                    .filter(|variable| read(&name, &value, &[*variable]).is_err())
                    .collect();
                if blamed.is_empty() {
                    blamed = own;
                }
                let names: Vec<String> =
                    blamed.iter().map(|variable| format!("`{}`", variable.name)).collect();
                error.context(format_args!("set by the environment ({})", names.join(", ")))
            })?;
            found.insert(name, built);
        }
        Ok(found)
    }
}

/// A name as it stands in a variable.
fn shout(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

/// Read an entry with the values of variables.
fn read_entry<T: DeserializeOwned>(
    section: &str,
    name: &str,
    mut value: Value,
    variables: &[&Variable],
) -> Result<T> {
    let at = format!("model_management.{section}.{name}");
    if let Some(map) = value.as_object_mut() {
        if let Some(other) = map.keys().find(|key| !matches!(key.as_str(), "type" | "config")) {
            return Err(Error::invalid(format!(
                "{at}: unknown key `{other}`; known are `type` and `config`"
            )));
        }
        let config = map.entry("config").or_insert_with(|| Value::Object(serde_json::Map::new()));
        for variable in variables {
            let Some(config) = config.as_object_mut() else {
                return Err(Error::invalid(format!(
                    "{at}: `config` is no map, so `{}` has no place in it",
                    variable.key
                )));
            };
            config.insert(variable.key.clone(), variable.value.clone());
        }
    }
    T::deserialize(value).map_err(|error| Error::invalid(format!("{at}: {error}")))
}
