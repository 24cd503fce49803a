//! Functions as data: a [`Callable`] names a `#[callable]` function of this program.
//!
//! Invariant: the name is the identity. A callable stored by one build calls the function of that name
//! in another; one that is unknown there is an error by name at load.

use crate::{
    Error, ErrorKind, Result,
    encode::{Encoded, RawKey},
    lifecycle::BoxFuture,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};
use serde_json::Value;
use std::fmt;

/// A parameter of a callable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its type, as written.
    pub ty: &'static str,
}

/// A function that `#[callable]` registered.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct FunctionEntry {
    pub name: &'static str,
    pub params: &'static [Param],
    /// The tokens of signature and body: a change of them is shown in plans, it makes no version.
    pub code: &'static str,
    pub call: fn(Args) -> BoxFuture<'static, Result<Encoded>>,
}
inventory::collect!(FunctionEntry);

/// The marker type that `#[callable]` makes beside the function, of the same name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a callable",
    label = "this function does not carry `#[callable]`",
    note = "add `#[callable]` to the function"
)]
pub trait Function {
    /// The registered name.
    const NAME: &'static str;
}

/// The arguments of a call, by name.
#[doc(hidden)]
pub struct Args(serde_json::Map<String, Value>);

impl Args {
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T> {
        let value = self.0.remove(name);
        let missing = value.is_none();
        serde_json::from_value(value.unwrap_or(Value::Null)).map_err(|error| {
            if missing {
                Error::invalid(format!("argument `{name}` is missing"))
            } else {
                Error::invalid(format!("argument `{name}`: {error}"))
            }
        })
    }
}

/// A reference to a `#[callable]` function: stored by name, called by name.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{Callable, Result, callable};
///
/// #[callable("doc.double")]
/// fn double(x: i64) -> Result<i64> {
///     Ok(2 * x)
/// }
///
/// let double = Callable::of::<double>();
/// assert_eq!(double.params()[0].name, "x");
/// ```
#[derive(Clone, Copy)]
pub struct Callable(&'static FunctionEntry);

impl Callable {
    /// The callable of a `#[callable]` function: `Callable::of::<greet>()`.
    ///
    /// Where the compiler says "constant provided when a type was expected" or "`greet` is a function item, not a type", the
    /// function lacks the attribute: `#[callable]` makes a type of the name of its function.
    pub fn of<F: Function>() -> Self {
        Callable::named(F::NAME).unwrap_or_else(|_| unreachable!("`{}` registers itself", F::NAME))
    }

    /// The callable of this name.
    ///
    /// # Errors
    /// `NotFound`, naming the callables of this program.
    pub fn named(name: &str) -> Result<Self> {
        let entries = || inventory::iter::<FunctionEntry>.into_iter();
        match entries().find(|entry| entry.name == name) {
            Some(entry) => Ok(Callable(entry)),
            None => {
                let mut known: Vec<&str> = entries().map(|entry| entry.name).collect();
                known.sort_unstable();
                Err(Error::new(ErrorKind::NotFound, format!("callable `{name}` is not in this program; it has: {}", known.join(", ")))
                    .with_hint("link the crate that defines it with `use that_crate as _;`, or name it with `#[callable(\"…\")]`"))
            }
        }
    }

    /// The registered name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The parameters, in order.
    pub fn params(&self) -> &'static [Param] {
        self.0.params
    }

    /// A digest of the function's text, which plans compare to note a changed body.
    pub(crate) fn code_digest(&self) -> crate::Digest {
        crate::Digest::of(self.0.code.as_bytes())
    }

    /// Call the function with arguments by name, as in `json!({"a": 1})`.
    ///
    /// # Errors
    /// `InvalidInput` for arguments that are missing, unknown or of another type; else the function's own error.
    pub async fn call<T: DeserializeOwned>(&self, args: Value) -> Result<T> {
        let Value::Object(map) = args else {
            return Err(Error::invalid(format!("the arguments of `{}` are an object, by name", self.name())));
        };
        if let Some(unknown) = map.keys().find(|key| !self.params().iter().any(|param| param.name == *key)) {
            let known: Vec<&str> = self.params().iter().map(|param| param.name).collect();
            return Err(Error::invalid(format!(
                "callable `{}` takes no argument `{unknown}`; it takes: {}",
                self.name(),
                known.join(", ")
            )));
        }
        let result = (self.0.call)(Args(map)).await.map_err(|error| error.context(format_args!("callable `{}`", self.name())))?;
        result.into_typed().map_err(|error| error.context(format_args!("result of callable `{}`", self.name())))
    }
}

impl PartialEq for Callable {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}
impl Eq for Callable {}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callable({})", self.name())
    }
}

impl Serialize for Callable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(&RawKey("$callable"), self.name())?;
        map.serialize_entry("code", &self.code_digest().short())?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Callable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "$callable")]
            name: String,
        }
        let named = Named::deserialize(deserializer)?;
        Callable::named(&named.name).map_err(serde::de::Error::custom)
    }
}
