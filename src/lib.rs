//! Plain structs become components: applied, versioned, and their triggers run as durable jobs.
//!
//! ```no_run
//! use superduper::prelude::*;
//!
//! #[derive(Component)]
//! struct Index {
//!     identifier: String,
//!     #[component(breaking)]
//!     dimensions: usize,
//!     vectors: Output<Artifact<Bytes>>, // made by a trigger, stored with the version
//! }
//!
//! #[triggers]
//! impl Index {
//!     #[trigger("apply", retries = 3)]
//!     async fn build(&self, ctx: &JobContext) -> Result<usize> {
//!         ctx.set(&self.vectors, Bytes::from(vec![0; self.dimensions]).into())?;
//!         Ok(self.dimensions)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let db = Db::open("my.db").await?;
//!     let index = Index::builder("words").dimensions(64).build()?;
//!     println!("{}", db.plan(&index).await?); // writes nothing
//!     let applied = db.apply(index).await?; // stores it and runs its triggers
//!     println!("built {}", applied.result::<usize>("build")?);
//!     let back: Index = db.load("words").await?;
//!     println!("{} bytes", back.vectors.get()?.get().await?.len());
//!     db.remove::<Index>("words").await?;
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//! - A **component** is a plain struct with `#[derive(Component)]`. Its *kind* is the stable name of
//!   its type, its *identifier* the name that you give it; `Kind/identifier@version` is its
//!   [`Address`].
//! - [`Db::plan`] says what [`Db::apply`] would do. An apply stores the component, its children and
//!   its blobs in one transaction. A change of a `breaking` field makes a new version, another
//!   change a revision.
//! - A **trigger** is a method in a `#[triggers]` block. Each one runs as a durable *job* of a *run*;
//!   after a crash [`Db::resume`] runs what is left. [`Lifecycle`] has the hooks: `postinit`,
//!   `setup`, `on_create`, `observe`, `cleanup`.
//! - An [`Artifact`] is a blob that is named by its content; an [`Output`] holds what triggers make;
//!   a [`Runtime`] holds what `setup` makes; a [`Secret`] names where a secret is found.
//! - [`Db::remove`] runs the `cleanup` hooks and deletes what nothing else refers to.
//!
//! # Features
//! None is on by default. `candle`: tensors of candle as artifacts. `models`: models ready to use;
//! `encoders`: models of text, too. `train`: background training; `progress`, `plot` and `s3` add to
//! it. `federated`: federated training; `http` adds notifications over HTTP, `federated-models`
//! networks on candle. `access`: who may run which code at a site; `access-models` adds models of
//! seven methods. `sandbox`: callables as WebAssembly; `sandbox-models` adds models. `schemars`: JSON Schema of field types that derive it. `aws`, `gcp`, `azure`:
//! artifacts in object stores.
//!
//! # Modules
//! The root has what the [`prelude`] has, the macros, and what almost every program names. The rest:
//!
//! | module | what it has |
//! |---|---|
//! | [`prelude`] | what most programs import |
//! | [`db`] | what the methods of [`Db`] give: [`Apply`](db::Apply), [`Remove`](db::Remove), reports, pages of lines |
//! | [`plan`] | a [`Plan`](plan::Plan) and its parts |
//! | [`job`] | [`JobContext`], [`JobPolicy`], [`Spawn`], executors, and contexts for tests |
//! | [`artifact`] | blobs: [`Bytes`], [`File`], [`Tensors`], and the trait [`Blob`](artifact::Blob) for others |
//! | [`schema`] | the [`Registry`], what it knows of types and triggers, and documents |
//! | [`store`] | the contract of metadata stores and artifact stores, and the rows of their tables |
//! | [`bundle`] | components on their way to another database: [`Export`](bundle::Export), [`Import`](bundle::Import) |
//! | [`verify`] | checks of what is stored, and of what stands outside |
//! | [`address`] | parsing of addresses |
//! | [`sorted`] | sets and maps in a fixed order in documents |
//! | [`blocking`] | the database for programs without async code |
//! | [`unreturned`] | errors of work in the background, as events |
#![warn(clippy::unwrap_used, clippy::print_stdout)]

/// The page on documents is a program, too.
#[cfg(doctest)]
#[doc = include_str!("../docs/documents.md")]
mod documents_page {}

pub mod blocking;
mod open;
mod place;

pub use open::{BuildAt, OpenDb};
pub use superduper_core::*;

#[doc(hidden)]
pub use superduper_core::__private;

pub use superduper_derive::main;

/// Who may run which code on whose data. Needs the feature `access`.
#[cfg(feature = "access")]
pub use superduper_access as access;
/// Models ready to use, on candle. Needs the feature `models`.
#[cfg(feature = "models")]
pub use superduper_candle as candle;
/// Federated training. Needs the feature `federated`.
#[cfg(feature = "federated")]
pub use superduper_federated as federated;
/// Unvetted code as WebAssembly. Needs the feature `sandbox`.
#[cfg(feature = "sandbox")]
pub use superduper_sandbox as sandbox;
/// Background training and batch prediction. Needs the feature `train`.
#[cfg(feature = "train")]
pub use superduper_train as train;

/// The pages whose examples are compiled and run as documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../docs/testing.md")]
    pub struct Testing;
    #[doc = include_str!("../docs/deleting.md")]
    pub struct Deleting;
}

/// What `#[superduper::main]` calls.
#[doc(hidden)]
pub fn __run_main<F: Future<Output: 'static>>(main: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.unwrap_or_else(|error| fail(&Error::from(error).context("starting the runtime")));
    let ended = runtime.block_on(async {
        if let Err(error) = job_process().await {
            fail(&error);
        }
        main.await
    });
    if let Some(error) = error_of(&ended) {
        use std::io::Write;
        // As the standard library would, but for the code.
        let _ = writeln!(std::io::stderr(), "Error: {error:?}");
        let code = error.kind().exit_code();
        drop(runtime);
        std::process::exit(code.into());
    }
    ended
}

/// The error with which a main function ended, where it is one of ours.
fn error_of(ended: &dyn std::any::Any) -> Option<&Error> {
    if let Some(ended) = ended.downcast_ref::<Result<()>>() {
        return ended.as_ref().err();
    }
    if let Some(ended) = ended.downcast_ref::<Result<(), BoxError>>() {
        return ended.as_ref().err()?.downcast_ref();
    }
    ended.downcast_ref::<Result<(), Box<dyn std::error::Error>>>()?.as_ref().err()?.downcast_ref()
}

/// A program that cannot start can only say so.
fn fail(error: &Error) -> ! {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{error}");
    std::process::exit(70)
}

/// What a program needs in scope.
pub mod prelude {
    pub use crate::{BuildAt, OpenDb};
    #[cfg(feature = "models")]
    pub use superduper_candle::FitSettingsSetters as _;
    pub use superduper_core::prelude::*;
}

/// Run a job in this process and exit, where the parent of the process started it for that.
///
/// The first line of a program whose jobs may run in job processes; `#[superduper::main]` writes it
/// for you. The documentation of [`superduper_core::job_process`] lists the guarantees, and their
/// limits.
///
/// # Errors
/// Those of reading the job; the parent reports them as a lost job process.
pub async fn job_process() -> Result<()> {
    superduper_core::job_process(|stores| async move {
        // What the parent has open is there; anything else is another place.
        Db::builder().existing().at(stores.metadata)?.artifacts_at(stores.artifacts)?.build().await
    })
    .await
}

/// [`job_process`] under its former name.
///
/// # Errors
/// As for [`job_process`].
#[deprecated(note = "call `job_process`: a worker is a process that claims jobs")]
pub async fn worker() -> Result<()> {
    job_process().await
}
