//! Functions as data: a [`Callable`] names a `#[callable]` function of this program, or holds code
//! for a runtime.
//!
//! Invariant: the name of a function is its identity. A callable stored by one build calls the
//! function of that name in another; one that is unknown there is an error by name at load. The
//! identity of code in an artifact is its bytes, with its parameters and the name of its runtime.

use crate::future::BoxFuture;
use crate::{
    artifact::{Artifact, Blob, Bytes},
    component::callable_runtime::{CallableRuntime, RuntimeCall},
    encode::{Encoded, RawKey, current_env},
    error::{Error, ErrorKind, Result},
    job::current,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
    ser::SerializeMap,
};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt, sync::Arc};

/// The key of an artifact's runtime in a stored callable.
pub(crate) const RUNTIME: &str = "$runtime";

/// A parameter of a callable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Param {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its type, as written. One that begins with `Option` may be left out of a call.
    pub ty: Cow<'static, str>,
}

impl Param {
    /// A parameter of a function of this program.
    pub const fn new(name: &'static str, ty: &'static str) -> Self {
        Param { name: Cow::Borrowed(name), ty: Cow::Borrowed(ty) }
    }

    /// A parameter whose name and type are known at run time only.
    pub fn named(name: impl Into<String>, ty: impl Into<String>) -> Self {
        Param { name: Cow::Owned(name.into()), ty: Cow::Owned(ty.into()) }
    }

    fn is_optional(&self) -> bool {
        self.ty.starts_with("Option")
    }
}

/// `("x", "f64")`: name and type.
impl From<(&str, &str)> for Param {
    fn from((name, ty): (&str, &str)) -> Self {
        Param::named(name, ty)
    }
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
pub struct Args(Map<String, Value>);

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

/// Something that can be called with JSON, stored as data: a `#[callable]` function of this program,
/// by its name, or an artifact with code, by the name of the runtime that runs it.
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
///
/// Code that is not part of the program: see [`Callable::from_artifact`].
#[derive(Clone)]
pub struct Callable(Code);

#[derive(Clone)]
enum Code {
    Function(&'static FunctionEntry),
    Artifact(Arc<ArtifactCode>),
}

struct ArtifactCode {
    runtime: String,
    params: Vec<Param>,
    artifact: Artifact<Bytes>,
    /// The runtime of the database that it was loaded from, if that has it.
    bound: Option<Arc<dyn CallableRuntime>>,
}

impl Callable {
    /// The callable of a `#[callable]` function: `Callable::of::<greet>()`.
    ///
    /// Where the compiler says "constant provided when a type was expected" or "`greet` is a
    /// function item, not a type", the function lacks the attribute: `#[callable]` makes a type of
    /// the name of its function.
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
            Some(entry) => Ok(Callable(Code::Function(entry))),
            None => {
                let mut known: Vec<&str> = entries().map(|entry| entry.name).collect();
                known.sort_unstable();
                Err(Error::new(ErrorKind::NotFound, format!("callable `{name}` is not in this program; it has: {}", known.join(", ")))
                    .with_hint("link the crate that defines it with `use that_crate as _;`, or name it with `#[callable(\"…\")]`"))
            }
        }
    }

    /// A callable whose code is an artifact, run by a [`CallableRuntime`] of this name.
    ///
    /// The artifact belongs to the component that holds the callable: it is stored, exported and
    /// kept with it. The runtime is looked for when the component is planned and when the callable
    /// is called.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::{Callable, prelude::*};
    ///
    /// let code: Artifact<Bytes> = Bytes::from("2.5").into();
    /// let scale = Callable::from_artifact(code, [("x", "f64")], "factor");
    /// assert_eq!(scale.params()[0].name, "x");
    /// assert_eq!(scale.runtime(), Some("factor"));
    /// ```
    pub fn from_artifact<T: Blob>(
        artifact: Artifact<T>,
        params: impl IntoIterator<Item = impl Into<Param>>,
        runtime: impl Into<String>,
    ) -> Self {
        Callable(Code::Artifact(Arc::new(ArtifactCode {
            runtime: runtime.into(),
            params: params.into_iter().map(Into::into).collect(),
            artifact: artifact.as_bytes(),
            bound: None,
        })))
    }

    /// The registered name of a function; for an artifact the name of its runtime.
    pub fn name(&self) -> &str {
        match &self.0 {
            Code::Function(entry) => entry.name,
            Code::Artifact(code) => &code.runtime,
        }
    }

    /// The name of the runtime, for a callable whose code is an artifact.
    pub fn runtime(&self) -> Option<&str> {
        match &self.0 {
            Code::Function(_) => None,
            Code::Artifact(code) => Some(&code.runtime),
        }
    }

    /// The code, for a callable whose code is an artifact.
    pub fn artifact(&self) -> Option<&Artifact<Bytes>> {
        match &self.0 {
            Code::Function(_) => None,
            Code::Artifact(code) => Some(&code.artifact),
        }
    }

    /// The parameters, in order.
    pub fn params(&self) -> &[Param] {
        match &self.0 {
            Code::Function(entry) => entry.params,
            Code::Artifact(code) => &code.params,
        }
    }

    /// Call it with arguments by name, as in `json!({"a": 1})`.
    ///
    /// # Errors
    /// `InvalidInput` for arguments that are missing, unknown or of another type; `Unsupported` for
    /// a runtime that is not registered; else the error of the function or of the runtime.
    pub async fn call<T: DeserializeOwned>(&self, args: Value) -> Result<T> {
        let Value::Object(map) = args else {
            return Err(Error::invalid(format!(
                "the arguments of `{}` are an object, by name",
                self.name()
            )));
        };
        if let Some(unknown) =
            map.keys().find(|key| !self.params().iter().any(|param| param.name == **key))
        {
            let known: Vec<&str> = self.params().iter().map(|param| &*param.name).collect();
            return Err(Error::invalid(format!(
                "callable `{}` takes no argument `{unknown}`; it takes: {}",
                self.name(),
                known.join(", ")
            )));
        }
        let result = match &self.0 {
            Code::Function(entry) => (entry.call)(Args(map)).await.map(Outcome::Encoded),
            Code::Artifact(code) => code.call(map).await.map(Outcome::Plain),
        };
        let result =
            result.map_err(|error| error.context(format_args!("callable `{}`", self.name())))?;
        let typed = match result {
            Outcome::Encoded(encoded) => encoded.into_typed(),
            Outcome::Plain(value) => serde_json::from_value(value)
                .map_err(|error| Error::new(ErrorKind::Decode, error.to_string())),
        };
        typed.map_err(|error| error.context(format_args!("result of callable `{}`", self.name())))
    }
}

/// What a call gave: as a function's result is encoded, or as a runtime writes it.
enum Outcome {
    Encoded(Encoded),
    Plain(Value),
}

impl ArtifactCode {
    async fn call(&self, args: Map<String, Value>) -> Result<Value> {
        if let Some(missing) = self
            .params
            .iter()
            .find(|param| !param.is_optional() && !args.contains_key(&*param.name))
        {
            return Err(Error::invalid(format!("argument `{}` is missing", missing.name)));
        }
        let runtime = self.find_runtime()?;
        let code = self.artifact.get().await?;
        let call = RuntimeCall {
            code: (*code).clone(),
            digest: self.artifact.digest(),
            params: &self.params,
            args,
        };
        runtime.call(call).await
    }

    /// The runtime of the database that it was loaded from; else of the job that calls it; else one
    /// that is linked into the program.
    fn find_runtime(&self) -> Result<Arc<dyn CallableRuntime>> {
        if let Some(bound) = &self.bound {
            return Ok(bound.clone());
        }
        let registry = current()
            .map_or_else(crate::component::registry::Registry::global, |ctx| ctx.registry());
        registry.runtimes().get(&self.runtime)
    }
}

/// Functions by name; artifacts by runtime, parameters and bytes.
impl PartialEq for Callable {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Code::Function(one), Code::Function(other)) => one.name == other.name,
            (Code::Artifact(one), Code::Artifact(other)) => {
                one.runtime == other.runtime
                    && one.params == other.params
                    && one.artifact == other.artifact
            }
            _ => false,
        }
    }
}
impl Eq for Callable {}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Code::Function(entry) => write!(f, "Callable({})", entry.name),
            Code::Artifact(code) => write!(f, "Callable({}, {:?})", code.runtime, code.artifact),
        }
    }
}

impl Serialize for Callable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Code::Function(entry) => {
                let code = crate::digest::Digest::of(entry.code.as_bytes());
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry(&RawKey("$callable"), entry.name)?;
                // Plans compare it to note a changed body.
                map.serialize_entry("code", &code.short())?;
                map.end()
            }
            Code::Artifact(code) => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry(&RawKey(RUNTIME), &code.runtime)?;
                map.serialize_entry("artifact", &code.artifact)?;
                map.serialize_entry("params", &code.params)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Callable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            // As people write it.
            Value::String(name) => Callable::named(&name),
            Value::Object(mut map) => match (map.remove("$callable"), map.remove(RUNTIME)) {
                (Some(Value::String(name)), _) => Callable::named(&name),
                (None, Some(Value::String(runtime))) => Callable::of_parts(runtime, map),
                _ => Err(not_a_callable()),
            },
            _ => Err(not_a_callable()),
        }
        .map_err(D::Error::custom)
    }
}

fn not_a_callable() -> Error {
    let text = "a callable is `{\"$callable\": name}`, or `{\"$runtime\": name, \"artifact\": …, \"params\": […]}`";
    Error::new(ErrorKind::Decode, text)
}

impl Callable {
    /// A stored callable whose code is an artifact. A runtime that is not registered is named when
    /// the callable is planned or called.
    fn of_parts(runtime: String, mut map: Map<String, Value>) -> Result<Self> {
        let artifact = map.remove("artifact").ok_or_else(not_a_callable)?;
        let artifact = Artifact::deserialize(artifact)?;
        let params = match map.remove("params") {
            Some(params) => serde_json::from_value(params)?,
            None => Vec::new(),
        };
        let bound = current_env().registry.runtimes().get(&runtime).ok();
        Ok(Callable(Code::Artifact(Arc::new(ArtifactCode { runtime, params, artifact, bound }))))
    }
}
