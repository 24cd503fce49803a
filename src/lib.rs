//! Plain structs become components: applied, versioned, and their triggers run as durable jobs.
//!
//! `#[derive(Component)]` makes a struct a component. [`Db::apply`] plans, stores and versions it and runs
//! its triggers as jobs that survive a crash; [`Db::remove`] takes it away again.
//!
#![doc = concat!("```no_run\n", include_str!("../examples/quickstart.rs"), "\n```")]
#![warn(clippy::unwrap_used, clippy::print_stdout)]

pub mod blocking;
mod open;
mod place;

pub use open::{BuildAt, OpenDb};
pub use superduper_core::*;

#[doc(hidden)]
pub use superduper_core::__private;

pub use superduper_derive::main;

/// Models ready to use, on candle. Needs the feature `models`.
#[cfg(feature = "models")]
pub use superduper_candle as candle;
/// Background training and batch prediction. Needs the feature `train`.
#[cfg(feature = "train")]
pub use superduper_train as train;

/// What `#[superduper::main]` calls.
#[doc(hidden)]
pub fn __run_main<F: Future<Output: 'static>>(main: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| fail(&Error::from(error).context("starting the runtime")));
    let ended = runtime.block_on(async {
        if let Err(error) = worker().await {
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
    pub use superduper_core::prelude::*;
}

/// Start this process as a worker where its parent asks for that; the first line of a program whose jobs
/// may run in worker processes. `#[superduper::main]` writes it for you. The documentation of [`superduper_core::worker`] lists
/// the guarantees, and their limits.
///
/// # Errors
/// Those of reading the job; the parent reports them as a lost worker.
pub async fn worker() -> Result<()> {
    superduper_core::worker(|stores| async move {
        // What the parent has open is there; anything else is another place.
        Db::builder().existing().at(stores.metadata)?.artifacts_at(stores.artifacts)?.build().await
    })
    .await
}
