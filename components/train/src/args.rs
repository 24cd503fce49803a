//! Arguments of a job: plain values and models, named, positional or nested.
//!
//! Invariant: a model is written whole into the job's document, its blobs as digests; what is
//! stored is not read or written again, and `Runtime` fields stay behind.

use crate::arg::Arg;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use superduper::{Component, ComponentExt, ComponentType, Digest, Error, Inline, Result};

/// The arguments of a job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Args {
    /// By name.
    #[serde(default)]
    pub named: BTreeMap<String, Arg>,
    /// By place.
    #[serde(default)]
    pub positional: Vec<Arg>,
}

impl Args {
    /// The argument at a path, if it was given.
    fn given(&self, path: &str) -> Option<Cow<'_, Arg>> {
        // A name may have dots of its own.
        if let Some(arg) = self.named.get(path) {
            return Some(Cow::Borrowed(arg));
        }
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let by_place = || first.parse::<usize>().ok().and_then(|place| self.positional.get(place));
        self.named.get(first).or_else(by_place).and_then(|arg| arg.at(rest))
    }

    fn find(&self, path: &str) -> Result<Cow<'_, Arg>> {
        self.given(path).ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::not_found(format!(
                "there is no argument `{path}`; named are {known}, positional {}",
                self.positional.len()
            ))
            .fatal()
        })
    }

    /// The plain value at a path: `rate`, `0`, `options.depth`. An argument whose whole name is the
    /// path comes first.
    ///
    /// # Errors
    /// `NotFound`; `Decode` where it is no `T`, or holds a model.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let plain = self.find(path)?.plain();
        let plain = plain.ok_or_else(|| {
            Error::invalid(format!("argument `{path}` holds a model; ask for it with `model`"))
                .fatal()
        })?;
        serde_json::from_value(plain).map_err(|error| {
            Error::new(
                superduper::ErrorKind::Decode,
                format!("argument `{path}` is not a `{}`: {error}", std::any::type_name::<T>()),
            )
            .fatal()
        })
    }

    /// The plain value at a path, or a default where no such argument was given.
    ///
    /// # Errors
    /// `Decode` where the argument is there and is no `T`, or holds a model: a mistyped value never
    /// becomes the default.
    pub fn get_or<T: DeserializeOwned>(&self, path: &str, default: T) -> Result<T> {
        if self.given(path).is_none() { Ok(default) } else { self.get(path) }
    }

    /// The names and places that were given, for messages: `rate, 0`.
    pub(crate) fn names(&self) -> String {
        let places = (0..self.positional.len()).map(|place| place.to_string());
        let names: Vec<String> = self.named.keys().cloned().chain(places).collect();
        names.join(", ")
    }

    /// Refuse arguments that the module does not take, which are most often misspelt: for
    /// [`Train::check`](crate::Train::check).
    ///
    /// ```
    /// use superduper_train::TrainSpec;
    ///
    /// let spec = TrainSpec::new().arg("lerning_rate", 0.1);
    /// let error = spec.args.only(&["learning_rate", "epochs"]).unwrap_err();
    /// assert_eq!(error.to_string().lines().next(), Some("there is no argument `lerning_rate`"));
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` that names the argument and those that are known.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        let unknown = self.named.keys().find(|name| !known.contains(&name.as_str()));
        let (text, hint) = match unknown {
            Some(name) => (
                format!("there is no argument `{name}`"),
                match known {
                    [] => "the module takes no arguments; set its fields".to_owned(),
                    known => format!("the module takes {}", known.join(", ")),
                },
            ),
            None if known.is_empty() && !self.positional.is_empty() => (
                format!("there is no argument `{}`", self.names()),
                "the module takes no arguments; set its fields".to_owned(),
            ),
            None => return Ok(()),
        };
        Err(Error::invalid(text).with_hint(hint).fatal())
    }

    /// The model at a path; jobs of this process that hold the same model share it.
    ///
    /// # Errors
    /// `NotFound`; `Decode` where it is no `M`.
    pub fn model<M: ComponentType>(&self, path: &str) -> Result<Arc<M>> {
        let found = self.find(path)?;
        let Arg::Model(Inline(model)) = &*found else {
            return Err(Error::invalid(format!("argument `{path}` is no model")).fatal());
        };
        let kind = model.kind();
        let any: Arc<dyn Any + Send + Sync> = share(model)?;
        any.downcast::<M>().map_err(|_| {
            Error::new(
                superduper::ErrorKind::Decode,
                format!("argument `{path}` is a `{kind}`, not a `{}`", std::any::type_name::<M>()),
            )
            .fatal()
        })
    }
}

/// Models by kind and content.
type Held = HashMap<(String, Digest), Weak<dyn Component>>;

/// Models that jobs of this process hold; blobs that one job has opened are open for all.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// The one copy of a model that all jobs of this process use, as long as one of them holds it.
fn share(model: &Arc<dyn Component>) -> Result<Arc<dyn Component>> {
    let key = (model.kind().to_owned(), model.encode()?.tree().root().content_hash);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let held = held.get_or_insert_default();
    if let Some(known) = held.get(&key).and_then(Weak::upgrade) {
        return Ok(known);
    }
    held.retain(|_, model| model.strong_count() > 0);
    held.insert(key, Arc::downgrade(model));
    Ok(model.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use superduper::Value;

    #[test]
    fn names_may_have_dots() -> Result<()> {
        let named = [("a.b", Arg::from(1)), ("a", Arg::from(serde_json::json!({"b": 2, "c": 3})))];
        let named = named.map(|(name, arg)| (name.to_owned(), arg)).into();
        let args = Args { named, positional: Vec::new() };
        assert_eq!(args.get::<i64>("a.b")?, 1, "the whole name comes first");
        assert_eq!(args.get::<i64>("a.c")?, 3, "places inside of plain values");
        assert!(args.get::<i64>("a.d").is_err());
        Ok(())
    }
    #[test]
    fn defaults_are_for_what_was_not_given() -> Result<()> {
        let args =
            Args { named: [("rate".to_owned(), Arg::from("fast"))].into(), ..Args::default() };
        assert_eq!(args.get_or("epochs", 3_u64)?, 3);
        assert!(args.get_or("rate", 0.1).is_err(), "a mistyped value does not become the default");
        assert_eq!(args.get_or("rate.depth", 4)?, 4, "nor is there anything inside of it");
        let none = Args { named: [("seed".to_owned(), Arg::from(None::<u64>))].into(), ..args };
        assert_eq!(none.get_or("seed", Some(7_u64))?, None, "a `None` was given");
        Ok(())
    }

    #[test]
    fn lists_numbers_and_paths_become_arguments() -> Result<()> {
        use std::path::{Path, PathBuf};
        let list = |arg: Arg| Args { positional: vec![arg], ..Args::default() };
        assert_eq!(list(vec![1_usize, 2].into()).get::<Vec<usize>>("0")?, [1, 2]);
        assert_eq!(list(["a", "b"].into()).get::<Vec<String>>("0")?, ["a", "b"]);
        assert_eq!(list([0.5, 0.25].as_slice().into()).get::<f64>("0.1")?, 0.25);
        assert_eq!(list([[1], [2]].into()).get::<u8>("0.1.0")?, 2);
        let path = list(Path::new("a/b").into()).get::<PathBuf>("0")?;
        assert_eq!(path, Path::new("a/b"));
        let stored = serde_json::to_string(&Arg::from(vec![1, 2]))?;
        assert_eq!(stored, r#"{"value":[1,2]}"#, "a list of plain values is a plain value");
        for refused in [Arg::from([f64::NAN]), odd_path().into()] {
            assert!(list(refused).get::<Value>("0").is_err());
        }
        Ok(())
    }

    fn odd_path() -> std::path::PathBuf {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(vec![b'a', 0xff]).into()
    }
}
