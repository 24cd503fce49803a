//! The macros of superduper. Programs use them through `superduper::prelude`.
//!
//! | macro | stands on | makes of it |
//! |---|---|---|
//! | [`#[derive(Component)]`](derive@Component) | a struct | a component: stored, versioned, built by a checked builder |
//! | [`#[derive(Settings)]`](derive@Settings) | a struct | fields that several components share |
//! | [`#[triggers]`](macro@triggers) | an `impl` block | the table of its triggers |
//! | [`#[trigger]`](macro@trigger) | a method in such a block | a job that runs on an event |
//! | [`#[callable]`](macro@callable) | a function | a value that can be stored and called by name |
//! | [`#[source]`](macro@source) | a type, a function, an `impl` block | its text, kept in the program |
//! | [`#[main]`](macro@main) | `async fn main` | a program whose jobs can run in job processes |
//!
//! Whatever a macro writes can be written by hand, and each of them shows how. Mistakes are found
//! at compile time where tokens or types allow it: errors stand at the very word, all at once, with
//! a suggestion where one is near.
//!
//! Invariant: a macro that reports an error still writes code that compiles, so that one mistake is
//! one error.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod callable;
mod component;
mod main_function;
mod shared;
mod source;
mod triggers;

use proc_macro::TokenStream;

/// Makes a struct with named fields a component.
///
/// ```
/// use superduper::prelude::*;
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
///     #[component(breaking)]
///     layers: Vec<usize>,
///     lr: f64,
///     note: Option<String>,
///     weights: Output<Vec<f32>>,
/// }
///
/// let model = Model::builder("mnist").layers(vec![784, 10]).lr(0.1).build()?;
/// assert_eq!(model.identifier(), "mnist");
///
/// let error = Model::builder("mnist").lr(0.1).build().err().expect("`layers` has no default");
/// assert!(error.to_string().contains("field `layers` is missing"));
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # Fields
/// One field is the identifier: `identifier: String`, or the one marked `#[component(identifier)]`.
/// Each other field is stored if its type is a component, is made of components (`Option`, `Vec`,
/// maps, `Box<dyn Component>`, `Arc<dyn Component>`), is an artifact or callable, or has serde's
/// `Serialize` and `Deserialize`. `Output<T>` and `Runtime<T>` are known by their names and need no
/// attribute. A field of an `Option`, `Output` or `Runtime` may be missing in a document.
///
/// | attribute of a field | meaning |
/// |---|---|
/// | `#[component(breaking)]` | a change makes a new version; other changes update in place |
/// | `#[component(skip)]` | not stored; made by `Default` |
/// | `#[component(default)]` | may be missing; then made by `Default` |
/// | `#[component(default = 30)]`, `= "text"`, `= MAX`, `= vec![1]`, `= function()` | may be missing; then it is this value |
/// | `#[component(flatten)]` | the fields of these [`Settings`](derive@Settings) stand among those of the component |
/// | `#[component(identifier)]` | this field is the identifier |
///
/// The value of a default is an expression of the type of the field. It is computed each time it is
/// needed. A text fits what is `From<&str>`.
///
/// ```
/// use superduper::prelude::*;
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
///     #[component(breaking, default = 30)]
///     epochs: u64,
///     #[component(default = "cpu")]
///     device: String,
///     #[component(default = vec![64, 32])]
///     hidden: Vec<usize>,
/// }
///
/// let model = Model::builder("mnist").build()?;
/// assert_eq!((model.epochs, model.device.as_str(), model.hidden.len()), (30, "cpu", 2));
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # The struct
///
/// | attribute of the struct | meaning |
/// |---|---|
/// | `#[component(kind = "acme.Model")]` | the wire name; otherwise `crate.Type` |
/// | `#[component(alias = "Old")]` | a former wire name, or a former name in this crate; can be repeated |
/// | `#[component(version = 2)]` | the version of the document's form, from 1 |
/// | `#[component(migrate)]` | documents of older versions go through the type's `superduper::Migrate` |
/// | `#[component(lifecycle = yes)]`, `no` | whether the type has an `impl Lifecycle`; needed on generic types |
/// | `#[component(triggers = yes)]`, `no` | whether the type has a `#[triggers]` block; needed on generic types |
/// | `#[component(source)]` | its text is kept in the program, as by [`#[source]`](macro@source) |
/// | `#[component(crate = "path")]` | where superduper is; otherwise `::superduper` |
///
/// `#[serde(…)]` on the struct and its fields works as ever: `rename`, `rename_all`, `default`,
/// `alias`, `with`, `flatten`, `skip`. What would make the document another thing than an object of
/// the fields (`transparent`, `into`, names for reading only) is refused. The struct itself must
/// not derive serde's traits: `Component` writes them, and a second derive is an error about
/// conflicting implementations.
///
/// # The builder
/// `Model::builder(identifier)` has a method for each stored field. It takes numbers, `bool`,
/// `char`, type parameters and boxed trait objects as they are, and everything else as
/// `impl Into<T>`. `build` names every field that is missing, checks the identifier and runs
/// `postinit`. Fields that are an `Option`, an `Output`, a `Runtime`, `skip` or `default` need not
/// be given. For a field named `build` the method is `with_build`.
///
/// # Generic components
/// Each use is a type of its own and is registered by a line of its own. Because an
/// `impl Lifecycle` or a `#[triggers]` block with further bounds could be lost silently, the type
/// says whether it has them. Type parameters are bound by
/// `Serialize + DeserializeOwned + Send + Sync + 'static`; children of type `T` are found only
/// where the struct says `T: Component`.
///
/// ```
/// use superduper::{prelude::*, register};
///
/// #[derive(Component)]
/// #[component(lifecycle = no, triggers = no)]
/// struct Pipeline<M: Component> {
///     identifier: String,
///     model: M,
/// }
///
/// #[derive(Component)]
/// struct Linear {
///     identifier: String,
/// }
///
/// register!(Pipeline<Linear> as "acme.LinearPipeline");
///
/// let pipeline = Pipeline::builder("p").model(Linear::builder("l").build()?).build()?;
/// assert_eq!(pipeline.kind(), "acme.LinearPipeline");
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # By hand
/// For a struct with the fields `identifier: String` and `lr: f64` the derive writes this, and a
/// builder:
///
/// ```
/// use superduper::{
///     AsComponent, Component, ComponentType, Error, Result, Value,
///     __private::{Hooks, OutputCell, Registration, Trigger, deserialize_typed, inventory, probe, serialize_component},
///     schema::{FieldSpec, TypeSpec, VisitChildren},
/// };
/// use serde::{Deserialize, Deserializer, Serialize, Serializer};
///
/// struct Model {
///     identifier: String,
///     lr: f64,
/// }
///
/// // Reads and writes the fields. It is apart from the component, because a component inside another one
/// // is written as a reference to it.
/// #[derive(Serialize, Deserialize)]
/// #[serde(remote = "Model")]
/// struct Body {
///     identifier: String,
///     lr: f64,
/// }
///
/// impl Serialize for Model {
///     fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
///         serialize_component(self, serializer)
///     }
/// }
/// impl<'de> Deserialize<'de> for Model {
///     fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
///         deserialize_typed(deserializer)
///     }
/// }
///
/// impl ComponentType for Model {
///     const SPEC: TypeSpec = TypeSpec {
///         name: "Model",
///         version: 1,
///         aliases: &[],
///         fields: &[
///             FieldSpec { name: "identifier", key: "identifier", breaking: false, within: None },
///             FieldSpec { name: "lr", key: "lr", breaking: false, within: None },
///         ],
///         identifier: "identifier",
///         flattened: &[],
///         module: module_path!(),
///     };
///     fn __kind() -> &'static str {
///         "acme.Model"
///     }
///     fn __identifier(&self) -> &str {
///         &self.identifier
///     }
///     fn __serialize_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
///         Body::serialize(self, serializer)
///     }
///     fn __deserialize_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
///         Body::deserialize(deserializer)
///     }
///     fn __migrate(_from: u32, body: Value) -> Result<Value> {
///         Ok(body) // with `migrate`: <Self as superduper::Migrate>::migrate(from, body)
///     }
///     fn __hooks() -> Hooks<Self> {
///         Hooks::none() // with an `impl Lifecycle`: Hooks::of()
///     }
///     fn __triggers() -> &'static [Trigger<Self>] {
///         use probe::NoTriggers as _; // the default where there is no block of triggers
///         Self::__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT
///     }
///     fn __outputs(&self, _visit: &mut dyn FnMut(&'static str, &dyn OutputCell)) {
///         // for each `Output` field: visit("weights", &self.weights);
///     }
///     fn __children<'a>(&'a self, _visit: &mut dyn FnMut(&'a dyn Component)) {
///         // for each field that holds components: self.model.visit_children(visit);
///     }
/// }
/// impl AsComponent for Model {
///     fn as_component(&self) -> &dyn Component {
///         self
///     }
/// }
/// impl VisitChildren for Model {
///     fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
///         visit(self);
///     }
/// }
/// inventory::submit! { Registration::of::<Model>("acme.Model") }
///
/// let written = serde_json::to_value(Model { identifier: "m".into(), lr: 0.1 }).unwrap();
/// let read: Model = serde_json::from_value(written).unwrap();
/// assert_eq!((read.identifier(), read.lr), ("m", 0.1));
/// ```
#[proc_macro_derive(Component, attributes(component, serde))]
pub fn derive_component(input: TokenStream) -> TokenStream {
    component::derive(&syn::parse_macro_input!(input as syn::DeriveInput)).into()
}

/// Makes a plain struct the settings that several component types share.
///
/// A component holds them in a field with `#[component(flatten)]`. Their fields stand in its
/// document among its own: a document does not show which fields are settings, and fields can be
/// moved into settings later. Plans name them with the field that holds them.
///
/// ```
/// use superduper::prelude::*;
///
/// /// How a model is fitted.
/// #[derive(Settings, Debug, Clone)]
/// pub struct FitSettings {
///     #[component(breaking, default = 30)]
///     pub epochs: u64,
///     #[component(breaking)]
///     pub lr: f64,
///     #[component(default = "cpu")]
///     pub device: String,
/// }
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
///     #[component(flatten)]
///     fit: FitSettings,
/// }
///
/// let model = Model::builder("mnist").epochs(3).lr(0.1).build()?;
/// assert_eq!((model.fit.epochs, model.fit.lr), (3, 0.1));
/// assert_eq!(json!(model)["$body"]["epochs"], 3);
///
/// // All of them at once.
/// let fit = FitSettings::builder().lr(0.2).build()?;
/// assert_eq!(Model::builder("mnist").fit(fit).build()?.fit.epochs, 30);
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # Fields
/// They have the attributes `#[component(breaking)]`, `skip` and `default` of the fields of a
/// component, with the same meaning, and serde's. An `Output` or a `Runtime` stands in the component
/// itself. The struct has no type parameters, and does not derive serde's traits: `Settings` writes
/// them. No field of the component may have the key of one of the settings, and settings with a
/// `breaking` field are always flattened: both are errors at compile time.
///
/// A trigger names one of them as plans do: `watch = "fit.epochs"`, `requires = "fit.data"`;
/// `watch = "fit"` means all of them.
///
/// # The setters
/// They are the methods of a trait beside the struct, named after it: `FitSettingsSetters`. A module
/// that builds components with these settings imports it.
#[proc_macro_derive(Settings, attributes(component, serde))]
pub fn derive_settings(input: TokenStream) -> TokenStream {
    component::derive_settings(&syn::parse_macro_input!(input as syn::DeriveInput)).into()
}

/// Collects the [`#[trigger]`](macro@trigger) methods of a component.
///
/// It stands on one inherent `impl` block of the type; a second one is an error about two
/// definitions of `__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT`. Other items of the block stay as
/// they are. `#[triggers(crate = "path")]` says where superduper is.
///
/// ```
/// use superduper::prelude::*;
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
///     lr: f64,
///     data: Option<String>,
/// }
///
/// #[triggers]
/// impl Model {
///     #[trigger("apply", requires = "data", retries = 3, timeout = "10m")]
///     async fn train(&self, ctx: &JobContext) -> Result<f64> {
///         Ok(self.lr)
///     }
///
///     // A parameter named after a trigger takes its result; so `report` waits for `train`.
///     #[trigger("apply")]
///     fn report(&self, train: Option<f64>) -> Result<String> {
///         Ok(format!("{train:?}"))
///     }
/// }
///
/// let model = Model::builder("m").lr(0.1).build()?;
/// assert_eq!(model.__trigger_specs()[1].depends_on[0].name, "train");
/// # Ok::<(), superduper::Error>(())
/// ```
///
/// # By hand
/// The block above is the methods without their attributes, and this:
///
/// ```
/// # use superduper::prelude::*;
/// use superduper::{
///     __private::{Run, Trigger},
///     schema::{Dependency, Requirement, TriggerEvent, TriggerOutput, TriggerSpec, Watch},
/// };
/// #
/// # #[derive(Component)]
/// # struct Model {
/// #     identifier: String,
/// #     lr: f64,
/// #     data: Option<String>,
/// # }
/// # impl Model {
/// #     async fn train(&self, ctx: &JobContext) -> Result<f64> {
/// #         Ok(self.lr)
/// #     }
/// #     fn report(&self, train: Option<f64>) -> Result<String> {
/// #         Ok(format!("{train:?}"))
/// #     }
/// # }
///
/// impl Model {
///     const __THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT: &'static [Trigger<Self>] = &[
///         Trigger {
///             spec: TriggerSpec {
///                 name: "train",
///                 event: TriggerEvent::Apply,
///                 depends_on: &[],
///                 requires: &["data"],
///                 watch: Watch::Fields(&["data"]), // and those of `watch`
///                 retries: 3,
///                 backoff_ms: 1000,
///                 timeout_ms: Some(600_000),
///                 executor: None,
///                 blocking: false,
///                 context: true,
///                 sets: &[], // the outputs in `ctx.set(&self.output, …)`
///             },
///             requires: &[("data", |model| model.data.is_met())],
///             run: Run::Async(|model, ctx| Box::pin(async move { model.train(ctx).await.into_encoded() })),
///             policy: None,
///         },
///         Trigger {
///             spec: TriggerSpec {
///                 name: "report",
///                 event: TriggerEvent::Apply,
///                 depends_on: &[Dependency { name: "train", parameter: true, optional: true }],
///                 requires: &[],
///                 watch: Watch::Fields(&[]),
///                 retries: 0,
///                 backoff_ms: 1000,
///                 timeout_ms: None,
///                 executor: None,
///                 blocking: true,
///                 context: false,
///                 sets: &[],
///             },
///             requires: &[],
///             // `false`: the parameter is no `Option` around the result.
///             run: Run::Sync(|model, ctx| model.report(ctx.__dependency("train", false)?).into_encoded()),
///             policy: None,
///         },
///     ];
/// }
/// # assert_eq!(Model { identifier: "m".into(), lr: 0.1, data: None }.__unmet("train"), ["data"]);
/// ```
#[proc_macro_attribute]
pub fn triggers(args: TokenStream, item: TokenStream) -> TokenStream {
    triggers::triggers(args.into(), item.into()).into()
}

/// Makes a method of a [`#[triggers]`](macro@triggers) block a job that runs on an event.
///
/// The event comes first: `"apply"` runs when the component is applied, `"call"` only when a job
/// spawns it.
///
/// | option | meaning |
/// |---|---|
/// | `depends_on = "a"`, `["a", "b"]` | waits for these triggers; `depends` is the same |
/// | `requires = "field"`, `["f", "g"]` | there is no job unless these fields are set (`superduper::schema::Requirement`) |
/// | `watch = "field"`, `["f", "g"]`, `"*"` | an update of these fields runs it again, as one of `requires` does; `"*"`: any |
/// | `retries = 3` | how often it is tried again after a failure; not after an error whose kind says that it is no use (`ErrorKind::is_retryable`) |
/// | `backoff = "1s"` | the pause before the first retry, which doubles with each further one |
/// | `timeout = "10m"` | the time limit of one attempt |
/// | `executor = "name"` | the executor of the job: `threads`, `process` or a registered one; without it, the default of the database |
/// | `policy = "method"` | `fn method(&self) -> JobPolicy` says for each component how it runs: executor, limits, pool |
///
/// Durations are numbers with the units `d`, `h`, `m`, `s`, `ms`, largest first: `"1h30m"`,
/// `"0.5s"`.
///
/// The method takes `&self`, at any place `ctx: &JobContext`, and parameters named after other
/// triggers, whose results they take; a leading underscore does not count. It then waits for them.
/// A parameter that is an `Option` is `None` where the other trigger had unmet requirements. It
/// returns nothing or a `Result<T, E>` with a `T` that serde writes and any error. A plain `fn`
/// runs on a worker thread, an `async fn` on the runtime, so its future must be `Send`. `#[cfg(…)]`
/// on the method counts.
///
/// # By hand
/// [`#[triggers]`](macro@triggers) reads this attribute and shows what it writes. Outside of such a block it is an error:
///
/// ```compile_fail
/// # use superduper::prelude::*;
/// struct Model;
/// impl Model {
///     #[trigger("apply")] // put `#[triggers]` on the `impl` block
///     fn train(&self) {}
/// }
/// ```
#[proc_macro_attribute]
pub fn trigger(_args: TokenStream, item: TokenStream) -> TokenStream {
    triggers::misplaced(&item.into()).into()
}

/// Makes a function callable by name, with arguments by name.
///
/// The function stays an ordinary one. `Callable::of::<f>()` is a value that refers to it: it can
/// be a field of a component and is stored as the function's name. The name is `module::path::f`,
/// which differs between programs; `#[callable("my.name")]` pins it.
/// `#[callable("my.name", crate = "path")]` also says where superduper is.
///
/// Parameters have names and own their values (`String`, not `&str`); an `Option` may be left out
/// in a call. The function is sync or async, not generic, and returns nothing or a `Result<T, E>`
/// with a `T` that serde writes and any error.
///
/// ```
/// use superduper::prelude::*;
///
/// #[callable("doc.greet")]
/// async fn greet(name: String, times: Option<usize>) -> Result<String> {
///     Ok(format!("hello {name}! ").repeat(times.unwrap_or(1)))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let callable = Callable::of::<greet>();
/// assert_eq!(callable.params()[0].name, "name");
/// assert_eq!(callable.call::<String>(json!({"name": "you"})).await?, "hello you! ");
/// # Ok(())
/// # }
/// ```
///
/// # By hand
///
/// ```
/// use superduper::{
///     __private::{FunctionEntry, inventory},
///     Callable, Result,
///     schema::{Function, Param, TriggerOutput},
/// };
///
/// fn double(x: i64) -> Result<i64> {
///     Ok(2 * x)
/// }
///
/// // A type and a function may share a name.
/// #[allow(non_camel_case_types, reason = "named as its function")]
/// struct double {}
/// impl Function for double {
///     const NAME: &'static str = "doc.double_by_hand";
/// }
/// inventory::submit! {
///     FunctionEntry {
///         name: "doc.double_by_hand",
///         params: &[Param::new("x", "i64")],
///         code: "fn double(x: i64) -> Result<i64> { Ok(2 * x) }", // a change is shown in plans
///         call: |mut args| Box::pin(async move { double(args.take("x")?).into_encoded() }),
///     }
/// }
///
/// assert_eq!(Callable::of::<double>().name(), "doc.double_by_hand");
/// ```
#[proc_macro_attribute]
pub fn callable(args: TokenStream, item: TokenStream) -> TokenStream {
    callable::callable(args.into(), item.into()).into()
}

/// Keeps the text of an item in the program: a struct, an enum, a function, an `impl` block.
///
/// `superduper::schema::source_of` gives the texts of a type, `source_of_fn` beside it that of a
/// function. The text is that of the file, with comments; beside it are the file, the line and the
/// `use` declarations that the item sees. Where the compiler does not say where an item stands, as
/// for what a macro writes, there is no text and no error; `superduper::schema::missing_sources_of`
/// says why.
///
/// On a component, `#[component(source)]` does the same for the struct. `#[source(crate = "path")]`
/// says where superduper is.
///
/// ```
/// use superduper::{prelude::*, schema::source_of_fn};
///
/// #[source]
/// fn double(x: i64) -> i64 {
///     2 * x // exactly
/// }
///
/// for source in source_of_fn(&double) {
///     assert!(source.text.contains("// exactly"));
/// }
/// ```
#[proc_macro_attribute]
pub fn source(args: TokenStream, item: TokenStream) -> TokenStream {
    source::attribute(args.into(), item.into()).into()
}

/// Makes an `async fn main` the main function of a program whose jobs can run in job processes.
///
/// The executor `process` starts the same binary again with a job's id. This attribute builds a
/// tokio runtime with a thread per core, looks whether the process was started as such a worker,
/// runs the job where it was, and the function's body where it was not.
///
/// Where the function ends with a `superduper::Error`, also a boxed one, the program ends with the
/// exit code of its kind (`ErrorKind::exit_code`): 11 for what was not found, 12 for what is gone,
/// 20 for a failed job.
///
/// It needs the facade crate `superduper`, whose tests run jobs in such a program:
///
/// ```text
/// #[superduper::main]
/// async fn main() -> superduper::Result<()> {
///     …
/// }
/// ```
///
/// By hand:
///
/// ```text
/// #[tokio::main]
/// async fn main() -> superduper::Result<()> {
///     superduper::job_process().await?; // ends here in a job process
///     …
/// }
/// ```
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    main_function::main_function(args.into(), item.into()).into()
}
