//! One argument of a job, and what becomes one.

use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use superduper::{Component, Inline, Result, Value};

/// One argument.
///
/// Numbers, texts, paths, lists, maps with texts as keys and `Option`s become one by `into()`,
/// which the builders of specs call; [`Arg::value`] takes all else that serializes.
///
/// ```
/// use std::path::Path;
/// use superduper_train::TrainSpec;
///
/// let spec = TrainSpec::new()
///     .arg("rate", 0.1)
///     .arg("batch", 32_usize)
///     .arg("sizes", [64, 32])
///     .arg("names", vec!["a", "b"])
///     .arg("rows", Path::new("data/rows.csv"))
///     .arg("seed", None::<u64>);
/// assert_eq!(spec.args.get::<Vec<usize>>("sizes")?, [64, 32]);
/// # Ok::<(), superduper::Error>(())
/// ```
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
    /// A path that is not UTF-8, which cannot be stored: refused in the same way.
    #[doc(hidden)]
    #[serde(skip_deserializing)]
    NotText(PathBuf),
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
    pub(crate) fn at(&self, path: &str) -> Option<Cow<'_, Arg>> {
        let first_and_rest =
            path.split_once('.').or_else(|| (!path.is_empty()).then_some((path, "")));
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
                path.split('.')
                    .try_fold(value.clone(), |value, piece| inside(&value, piece))
                    .map(|found| Cow::Owned(Arg::Value(found)))
            }
            Arg::Model(_) | Arg::NotFinite(_) | Arg::NotText(_) => None,
        }
    }

    pub(crate) fn plain(&self) -> Option<Value> {
        match self {
            Arg::Value(value) => Some(value.clone()),
            Arg::Model(_) | Arg::NotFinite(_) | Arg::NotText(_) => None,
            Arg::List(items) => {
                items.iter().map(Arg::plain).collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            Arg::Map(items) => {
                let items: Option<_> =
                    items.iter().map(|(key, item)| Some((key.clone(), item.plain()?))).collect();
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
plain!(Value, bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, &str, String);

impl From<f64> for Arg {
    fn from(value: f64) -> Self {
        if value.is_finite() { Arg::Value(value.into()) } else { Arg::NotFinite(value) }
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        // Not `Value::from`, which gives another number in builds with
        // `serde_json/arbitrary_precision`.
        Arg::from(f64::from(value))
    }
}

impl From<&String> for Arg {
    fn from(value: &String) -> Self {
        Arg::from(value.as_str())
    }
}

/// As it is given: a job process runs in the folder of the process that started it, a process that
/// takes the job over may run in another one.
impl From<PathBuf> for Arg {
    fn from(path: PathBuf) -> Self {
        match path.to_str() {
            Some(text) => Arg::from(text),
            None => Arg::NotText(path),
        }
    }
}

impl From<&Path> for Arg {
    fn from(path: &Path) -> Self {
        Arg::from(path.to_owned())
    }
}

impl From<&PathBuf> for Arg {
    fn from(path: &PathBuf) -> Self {
        Arg::from(path.clone())
    }
}

/// `None` is `null`: `ctx.arg::<Option<T>>` reads it.
impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        value.map_or(Arg::Value(Value::Null), Into::into)
    }
}

impl<T: Into<Arg>> From<Vec<T>> for Arg {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Arg>, const N: usize> From<[T; N]> for Arg {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Arg> + Clone> From<&[T]> for Arg {
    fn from(items: &[T]) -> Self {
        items.iter().cloned().collect()
    }
}

impl<T: Into<Arg>> From<BTreeMap<String, T>> for Arg {
    fn from(items: BTreeMap<String, T>) -> Self {
        Arg::Map(items.into_iter().map(|(key, item)| (key, item.into())).collect())
    }
}

/// A list. One of plain values is stored as a plain value, as [`Arg::value`] stores it.
impl<T: Into<Arg>> FromIterator<T> for Arg {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<Arg> = items.into_iter().map(Into::into).collect();
        let plain = |item: &Arg| match item {
            Arg::Value(value) => Some(value.clone()),
            _ => None,
        };
        match items.iter().map(plain).collect() {
            Some(values) => Arg::Value(Value::Array(values)),
            None => Arg::List(items),
        }
    }
}
