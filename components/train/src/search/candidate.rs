//! One candidate of a search: its values, and the id of its training.

use crate::spec::TrainSpec;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt};
use superduper::{Digest, Error, ErrorKind, Result, Value};

/// One candidate of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    id: String,
    values: BTreeMap<String, Value>,
}

impl Candidate {
    /// The id depends on the search's id and on the values, not on the place in the search: more
    /// values or candidates keep the trainings of those that were there before.
    pub(super) fn new(search: &str, values: BTreeMap<String, Value>) -> Self {
        let text = Value::from_iter(values.clone()).to_string();
        let digest = Digest::of(text.as_bytes()).to_hex();
        Candidate { id: format!("{search}-{}", &digest[..12]), values }
    }

    /// The id of its training: that of the search, and a digest of the values.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The values by name.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    /// The value of a name.
    ///
    /// # Errors
    /// `NotFound` for a name that is not searched over; `Decode` for a value that is no `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.values.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.values.keys().map(String::as_str).collect();
            Error::not_found(format!("the search has no values for `{name}`"))
                .with_hint(format!("it has those for {}", names.join(", ")))
        })?;
        serde_json::from_value(value.clone()).map_err(|error| {
            let text =
                format!("the value {value} of `{name}` is not a `{}`", std::any::type_name::<T>());
            Error::new(ErrorKind::Decode, text).with_source(error)
        })
    }

    /// The values as arguments, for a module that takes them by `ctx.arg`.
    pub fn spec(&self) -> TrainSpec {
        let values = self.values.iter();
        values.fold(TrainSpec::new(), |spec, (name, value)| spec.arg(name, value.clone()))
    }
}

/// `hidden=64, learning_rate=0.1`.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_values(&self.values, f)
    }
}

pub(super) fn write_values(
    values: &BTreeMap<String, Value>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (place, (name, value)) in values.iter().enumerate() {
        write!(f, "{}{name}={value}", if place == 0 { "" } else { ", " })?;
    }
    Ok(())
}
