//! What runs the code of an artifact: runtimes by name, brought by the program.
//!
//! Invariant: this crate knows no runtime itself. A name that is not registered is named by an
//! error, with those that are.

use crate::future::BoxFuture;
use crate::{
    artifact::Bytes,
    component::callable::Param,
    digest::Digest,
    encode::{Record, Tree},
    error::{Error, ErrorKind, Result},
    near,
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Runs code that is stored as an artifact: WebAssembly, a script, a graph in ONNX.
///
/// Register one under a name with
/// [`DbBuilder::with_runtime`](crate::DbBuilder::with_runtime) or
/// [`RegistryBuilder::with_runtime`](crate::schema::RegistryBuilder::with_runtime). Where jobs run
/// in processes of their own, use [`register_runtime!`](crate::register_runtime): it holds for every
/// process of the program. A [`Callable`](crate::Callable) made by
/// [`Callable::from_artifact`](crate::Callable::from_artifact) names the runtime that calls it.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use std::sync::Arc;
/// use superduper::{BoxFuture, prelude::*, schema::{CallableRuntime, RuntimeCall}};
///
/// /// "Code" is a factor, written as text.
/// struct Factor;
///
/// impl CallableRuntime for Factor {
///     fn call<'a>(&'a self, call: RuntimeCall<'a>) -> BoxFuture<'a, Result<Value>> {
///         Box::pin(async move {
///             let text = std::str::from_utf8(&call.code).map_err(|_| Error::msg("no text"))?;
///             let factor: f64 = text.parse().map_err(|_| Error::msg("no number"))?;
///             let x = call.args["x"].as_f64().ok_or_else(|| Error::msg("`x` is no number"))?;
///             Ok(json!(factor * x))
///         })
///     }
/// }
///
/// # let builder = Db::builder();
/// let builder = builder.with_runtime("factor", Arc::new(Factor));
/// # let _ = builder;
/// ```
pub trait CallableRuntime: Send + Sync {
    /// Run the code with these arguments. They have the names of the callable's parameters.
    ///
    /// # Errors
    /// Any; it reaches the caller of [`Callable::call`](crate::Callable::call).
    fn call<'a>(&'a self, call: RuntimeCall<'a>) -> BoxFuture<'a, Result<Value>>;
}

/// A call of the code of an artifact.
#[derive(Debug)]
#[non_exhaustive]
pub struct RuntimeCall<'a> {
    /// The bytes of the artifact, verified. All calls of a loaded callable share them.
    pub code: Bytes,
    /// The digest of the bytes, by which a runtime can keep what it compiled. `None` for an
    /// artifact that was neither saved nor hashed.
    pub digest: Option<Digest>,
    /// The parameters that the callable declares, in order.
    pub params: &'a [Param],
    /// The arguments, by name.
    pub args: Map<String, Value>,
}

/// A runtime that [`register_runtime!`](crate::register_runtime) linked into the program.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct RuntimeEntry {
    pub name: &'static str,
    pub make: fn() -> Arc<dyn CallableRuntime>,
}
inventory::collect!(RuntimeEntry);

/// Register a runtime for all databases that the program opens, in every process of it:
/// `register_runtime!("acme.wasm", Wasm::new);`. The second part is called without arguments.
#[macro_export]
macro_rules! register_runtime {
    ($name:literal, $make:expr) => {
        $crate::__private::inventory::submit! {
            $crate::__private::RuntimeEntry { name: $name, make: || ::std::sync::Arc::new($make()) }
        }
    };
}

/// Runtimes by name.
#[derive(Clone, Default)]
pub(crate) struct Runtimes(BTreeMap<String, Arc<dyn CallableRuntime>>);

impl Runtimes {
    /// Those that are linked into the program.
    pub(crate) fn linked() -> Self {
        let entries = inventory::iter::<RuntimeEntry>.into_iter();
        Runtimes(entries.map(|entry| (entry.name.to_owned(), (entry.make)())).collect())
    }

    pub(crate) fn add(&mut self, name: String, runtime: Arc<dyn CallableRuntime>) {
        self.0.insert(name, runtime);
    }

    pub(crate) fn extend(&mut self, other: Runtimes) {
        self.0.extend(other.0);
    }

    /// The runtime of this name.
    ///
    /// # Errors
    /// `Unsupported`, naming those that there are.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<dyn CallableRuntime>> {
        self.0.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let has = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let text = format!("unknown runtime `{name}`; registered are: {has}");
            let register = format!("register it with `Db::builder().with_runtime(\"{name}\", …)`");
            let hint = match near::nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => register,
            };
            Error::new(ErrorKind::Unsupported, text).with_hint(hint)
        })
    }
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Refuse a tree with code for a runtime that is not registered.
pub(crate) fn check_runtimes(tree: &Tree, runtimes: &Runtimes) -> Result<()> {
    // Code is an artifact.
    tree.records
        .iter()
        .filter(|record| !record.blobs.is_empty())
        .try_for_each(|record| check(&record.body, &mut Vec::new(), record, runtimes))
}

fn check<'a>(
    value: &'a Value,
    path: &mut Vec<&'a str>,
    record: &Record,
    runtimes: &Runtimes,
) -> Result<()> {
    match value {
        Value::Array(items) => {
            items.iter().try_for_each(|item| check(item, path, record, runtimes))
        }
        Value::Object(map) => {
            if let Some(Value::String(name)) = map.get(crate::component::callable::RUNTIME) {
                let field = path.join(".");
                runtimes.get(name).map_err(|error| {
                    error.context(format_args!("`{}`: field `{field}`", record.path()))
                })?;
            }
            map.iter().try_for_each(|(key, item)| {
                path.push(key);
                check(item, path, record, runtimes)?;
                path.pop();
                Ok(())
            })
        }
        _ => Ok(()),
    }
}
