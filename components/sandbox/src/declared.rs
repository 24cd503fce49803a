//! What a module declares of itself, in its custom section `superduper`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use superduper::{Error, Result};

/// The name of the custom section.
pub(crate) const SECTION: &str = "superduper";

/// The version of the interface between host and guest.
pub(crate) const ABI: u32 = 1;

/// What a module declares of itself: JSON in its custom section `superduper`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Declared {
    /// The version of the interface: 1.
    pub abi: u32,
    /// The name.
    pub name: String,
    /// For a callable: its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callable: Option<DeclaredCallable>,
    /// For a model: its shapes and hyperparameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<DeclaredModel>,
}

/// The parameters of a callable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeclaredCallable {
    /// The parameters, in order.
    pub params: Vec<DeclaredParam>,
}

/// A parameter of a callable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeclaredParam {
    /// The name.
    pub name: String,
    /// `i64`, `f64`, `bool`, `String` or `Value`, or `Option<…>` of one of these.
    #[serde(rename = "type")]
    pub ty: String,
}

/// The shapes of a model, and its hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeclaredModel {
    /// The tensors of parameters (f32), in the order in which they stand in memory.
    pub parameters: Vec<DeclaredTensor>,
    /// How many features a row has.
    pub features: usize,
    /// How many outputs a row has: for classes their number.
    pub outputs: usize,
    /// What the rows are labelled with.
    pub labels: Labels,
    /// Settings by name.
    #[serde(default)]
    pub hyperparameters: std::collections::BTreeMap<String, DeclaredSetting>,
}

/// A tensor of parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeclaredTensor {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
}

/// What the rows of a model are labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Labels {
    /// Classes, from 0: u32.
    Classes,
    /// Values: f32.
    Values,
}

/// A hyperparameter: its type, and its value if none is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeclaredSetting {
    /// `i64`, `f64`, `bool` or `String`.
    #[serde(rename = "type")]
    pub ty: String,
    /// The value if none is given. Without one, the setting has to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// The largest number of parameters, features and outputs.
const MOST: usize = 1 << 26;

impl Declared {
    /// Read the section.
    pub(crate) fn parse(section: &[u8]) -> Result<Declared> {
        let declared: Declared = serde_json::from_slice(section).map_err(|error| {
            Error::invalid(format!("the custom section `{SECTION}` cannot be read: {error}"))
        })?;
        declared.check()?;
        Ok(declared)
    }

    fn check(&self) -> Result<()> {
        if self.abi != ABI {
            return Err(Error::invalid(format!(
                "the module is written for version {} of the interface, not {ABI}",
                self.abi
            )));
        }
        if self.callable.is_some() == self.model.is_some() {
            return Err(Error::invalid("the module declares `callable` or `model`, one of them"));
        }
        for param in self.callable.iter().flat_map(|callable| &callable.params) {
            check_type(&param.ty)?;
        }
        let Some(model) = &self.model else { return Ok(()) };
        model.hyperparameters.values().try_for_each(|setting| check_type(&setting.ty))?;
        if model.features == 0 || model.outputs == 0 {
            return Err(Error::invalid("a model has at least one feature and one output"));
        }
        let sizes = [Some(model.features), Some(model.outputs), model.size()];
        match sizes.into_iter().all(|size| size.is_some_and(|size| size <= MOST)) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "a model has at most {MOST} features, outputs and parameters"
            ))),
        }
    }
}

impl DeclaredTensor {
    pub(crate) fn size(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |size, side| size.checked_mul(*side))
    }
}

impl DeclaredModel {
    /// How many parameters there are in all.
    pub(crate) fn size(&self) -> Option<usize> {
        self.parameters.iter().try_fold(0_usize, |sum, one| sum.checked_add(one.size()?))
    }

    /// Hyperparameters with their defaults: those that are given are checked by name and type.
    ///
    /// # Errors
    /// `InvalidInput` with all that are unknown, missing or of another type.
    pub fn settings(&self, given: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut faults = Vec::new();
        for name in given.keys().filter(|name| !self.hyperparameters.contains_key(*name)) {
            let known: Vec<&str> = self.hyperparameters.keys().map(String::as_str).collect();
            faults.push(format!(
                "there is no hyperparameter `{name}`; there are {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ));
        }
        let mut settings = Map::new();
        for (name, declared) in &self.hyperparameters {
            match given.get(name).or(declared.default.as_ref()) {
                None => faults.push(format!("the hyperparameter `{name}` is missing")),
                Some(value) if !is_of(&declared.ty, value) => {
                    faults.push(format!(
                        "the hyperparameter `{name}` is {value}, not of type {}",
                        declared.ty
                    ));
                }
                Some(value) => drop(settings.insert(name.clone(), value.clone())),
            }
        }
        match faults.is_empty() {
            true => Ok(settings),
            false => Err(Error::invalid(faults.join("; "))),
        }
    }
}

/// The type inside of `Option<…>`, or the type.
fn inner(ty: &str) -> &str {
    ty.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(ty)
}

fn check_type(ty: &str) -> Result<()> {
    match inner(ty) {
        "i64" | "f64" | "bool" | "String" | "Value" => Ok(()),
        _ => Err(Error::invalid(format!("`{ty}` is not a type of the interface"))
            .with_hint("use `i64`, `f64`, `bool`, `String`, `Value`, or `Option` of one of these")),
    }
}

/// Whether a value is of a type.
pub(crate) fn is_of(ty: &str, value: &Value) -> bool {
    if value.is_null() {
        return ty.starts_with("Option<") || ty == "Value";
    }
    match inner(ty) {
        "i64" => value.is_i64(),
        "f64" => value.is_number(),
        "bool" => value.is_boolean(),
        "String" => value.is_string(),
        _ => true,
    }
}
