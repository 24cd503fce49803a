//! Arguments of a job: plain values and models, named, positional or nested.
//!
//! Invariant: a model is written whole into the job's document, its blobs as digests; what is stored is not read or
//! written again, and `Runtime` fields stay behind.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use superduper::{Component, ComponentExt, ComponentType, Digest, Error, Inline, Result, Value};

/// One argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arg {
    /// A plain value.
    Value(Value),
    /// A model.
    Model(Inline<Arc<dyn Component>>),
    /// A list that may hold models.
    List(Vec<Arg>),
    /// A map that may hold models.
    Map(BTreeMap<String, Arg>),
    /// Infinity or NaN, which cannot be stored: the arguments are refused when they are submitted.
    #[doc(hidden)]
    #[serde(skip_deserializing)]
    NotFinite(f64),
}

impl Arg {
    /// A model.
    pub fn model(model: impl Component) -> Self {
        Arg::Model(Inline(Arc::new(model)))
    }

    /// A model that others hold too.
    pub fn shared(model: Arc<dyn Component>) -> Self {
        Arg::Model(Inline(model))
    }

    /// A plain value.
    ///
    /// # Errors
    /// `Encode` for what JSON cannot hold.
    pub fn value(value: impl Serialize) -> Result<Self> {
        let encoded = superduper::Encoded::of(&value)?;
        Ok(Arg::Value(encoded.value().clone()))
    }

    /// The argument at a place inside, as `base.0.encoder`.
    fn at(&self, path: &str) -> Option<Cow<'_, Arg>> {
        let first_and_rest = path.split_once('.').or_else(|| (!path.is_empty()).then_some((path, "")));
        let Some((first, rest)) = first_and_rest else { return Some(Cow::Borrowed(self)) };
        match self {
            Arg::List(items) => items.get(first.parse::<usize>().ok()?)?.at(rest),
            Arg::Map(items) => items.get(first)?.at(rest),
            Arg::Value(value) => {
                let inside = |value: &'_ Value, piece: &str| match value {
                    Value::Array(items) => items.get(piece.parse::<usize>().ok()?).cloned(),
                    Value::Object(items) => items.get(piece).cloned(),
                    _ => None,
                };
                path.split('.').try_fold(value.clone(), |value, piece| inside(&value, piece)).map(|found| Cow::Owned(Arg::Value(found)))
            }
            Arg::Model(_) | Arg::NotFinite(_) => None,
        }
    }

    fn plain(&self) -> Option<Value> {
        match self {
            Arg::Value(value) => Some(value.clone()),
            Arg::Model(_) | Arg::NotFinite(_) => None,
            Arg::List(items) => items.iter().map(Arg::plain).collect::<Option<Vec<Value>>>().map(Value::Array),
            Arg::Map(items) => {
                let items: Option<_> = items.iter().map(|(key, item)| Some((key.clone(), item.plain()?))).collect();
                items.map(Value::Object)
            }
        }
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl From<$type> for Arg {
            fn from(value: $type) -> Self {
                Arg::Value(value.into())
            }
        }
    )*};
}
plain!(Value, bool, i32, i64, u32, u64, &str, String);

impl From<f64> for Arg {
    fn from(value: f64) -> Self {
        if value.is_finite() { Arg::Value(value.into()) } else { Arg::NotFinite(value) }
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        // Not `Value::from`, which gives another number in builds with `serde_json/arbitrary_precision`.
        Arg::from(f64::from(value))
    }
}

impl From<Vec<Arg>> for Arg {
    fn from(items: Vec<Arg>) -> Self {
        Arg::List(items)
    }
}

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
    fn find(&self, path: &str) -> Result<Cow<'_, Arg>> {
        // A name may have dots of its own.
        if let Some(arg) = self.named.get(path) {
            return Ok(Cow::Borrowed(arg));
        }
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let by_place = || first.parse::<usize>().ok().and_then(|place| self.positional.get(place));
        let found = self.named.get(first).or_else(by_place).and_then(|arg| arg.at(rest));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::not_found(format!("there is no argument `{path}`; named are {known}, positional {}", self.positional.len())).fatal()
        })
    }

    /// The plain value at a path: `rate`, `0`, `options.depth`. An argument whose whole name is the path comes first.
    ///
    /// # Errors
    /// `NotFound`; `Decode` where it is no `T`, or holds a model.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let plain = self.find(path)?.plain();
        let plain = plain.ok_or_else(|| Error::invalid(format!("argument `{path}` holds a model; ask for it with `model`")).fatal())?;
        serde_json::from_value(plain).map_err(|error| {
            Error::new(superduper::ErrorKind::Decode, format!("argument `{path}` is not a `{}`: {error}", std::any::type_name::<T>()))
                .fatal()
        })
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
            Error::new(superduper::ErrorKind::Decode, format!("argument `{path}` is a `{kind}`, not a `{}`", std::any::type_name::<M>()))
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

    #[test]
    fn names_may_have_dots() -> Result<()> {
        let spec = crate::TrainSpec::new().arg("a.b", 1).arg("a", serde_json::json!({"b": 2, "c": 3}));
        assert_eq!(spec.args.get::<i64>("a.b")?, 1, "the whole name comes first");
        assert_eq!(spec.args.get::<i64>("a.c")?, 3, "places inside of plain values");
        assert!(spec.args.get::<i64>("a.d").is_err());
        Ok(())
    }
}
