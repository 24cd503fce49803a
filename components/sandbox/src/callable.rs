//! Callables whose code is WebAssembly.

use crate::{
    declared::{DeclaredCallable, is_of},
    engine::compiled,
    guest::Guest,
    limits::Limits,
};
use serde_json::Value;
use superduper::{
    Artifact, BoxFuture, Bytes, Callable, Error, Result,
    schema::{CallableRuntime, Param, RuntimeCall},
};

/// The runtime `wasm`: each call runs in an instance of its own.
///
/// A program that links this crate has it, with the default limits. For others, register one by the
/// same name: `Db::builder().with_runtime("wasm", Arc::new(Wasm::new(limits)))`.
#[derive(Debug, Clone, Default)]
pub struct Wasm {
    limits: Limits,
}

impl Wasm {
    /// A runtime with these limits.
    pub fn new(limits: Limits) -> Self {
        Wasm { limits }
    }
}

superduper::register_runtime!("wasm", Wasm::default);

impl CallableRuntime for Wasm {
    fn call<'a>(&'a self, call: RuntimeCall<'a>) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let limits = self.limits.clone();
            let RuntimeCall { code, params, args, .. } = call;
            check_args(params, &args)?;
            // A guest may compute for long: not on the threads that wait for others.
            let done = tokio::task::spawn_blocking(move || {
                let compiled = compiled(&code, &limits)?;
                if compiled.declared.callable.is_none() {
                    return Err(Error::invalid(format!(
                        "the module `{}` is no callable",
                        compiled.declared.name
                    )));
                }
                Guest::of(&compiled, &limits, 0)?.call_json("call", &args)
            });
            done.await.map_err(|error| Error::internal(format!("the sandbox: {error}")))?
        })
    }
}

/// A callable whose code is a module of WebAssembly. It is checked here, and takes the parameters that
/// the module declares.
///
/// ```
/// # use superduper::prelude::*;
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let module = wat::parse_str(r#"(module
///     (memory (export "memory") 1)
///     (data (i32.const 0) "{\"ok\": 42}")
///     (func (export "alloc") (param i32) (result i32) (i32.const 1024))
///     (func (export "call") (param i32 i32) (result i64) (i64.const 10))
///     (@custom "superduper" "{\"abi\": 1, \"name\": \"answer\", \"callable\": {\"params\": []}}")
/// )"#).expect("it is well-formed");
/// let answer = superduper_sandbox::callable(module)?;
/// assert_eq!(answer.call(json!({})).await.unwrap_or(json!(null)), json!(42));
/// # Ok(()) }
/// ```
///
/// # Errors
/// `InvalidInput` with all that is wrong with the module.
pub fn callable(code: impl Into<Bytes>) -> Result<Callable> {
    let code: Bytes = code.into();
    let compiled = compiled(&code, &Limits::default())?;
    let Some(DeclaredCallable { params }) = &compiled.declared.callable else {
        let text = format!("the module `{}` declares no callable", compiled.declared.name);
        return Err(Error::invalid(text));
    };
    let params: Vec<Param> =
        params.iter().map(|param| Param::named(&param.name, &param.ty)).collect();
    Ok(Callable::from_artifact::<Bytes>(Artifact::new(code), params, "wasm"))
}

/// Refuse arguments of another type before any code runs.
fn check_args(params: &[Param], args: &serde_json::Map<String, Value>) -> Result<()> {
    let mut faults = Vec::new();
    for param in params {
        let (name, ty) = (&*param.name, &*param.ty);
        match args.get(name) {
            Some(value) if !is_of(ty, value) => {
                faults.push(format!("the argument `{name}` is {value}, not of type {ty}"));
            }
            None if !ty.starts_with("Option<") => {
                faults.push(format!("the argument `{name}` is missing"));
            }
            _ => {}
        }
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(faults.join("; "))),
    }
}
