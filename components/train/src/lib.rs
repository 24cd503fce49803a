//! Background training and batch prediction as durable jobs.
//!
//! A [`Train`] module is submitted to a [`Trainer`] and runs on a thread or in a process of its
//! own. The job, its arguments, metrics and checkpoints are on record: any process finds it again
//! by its id, and what a crash interrupted goes on from the last checkpoint, to the same bits.
//!
//! ```no_run
//! use superduper::prelude::*;
//! use superduper_train::prelude::*;
//!
//! #[derive(Component, Clone)]
//! struct Mean {
//!     identifier: String,
//!     steps: u64,
//!     mean: f64,
//! }
//!
//! impl Train for Mean {
//!     fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
//!         let scale: f64 = ctx.arg("scale")?;
//!         let mut sum: f64 = ctx.resume()?.unwrap_or(0.0); // where the last attempt was
//!         for step in ctx.position()..self.steps {
//!             if ctx.step(step, self.steps)?.is_stop() {
//!                 break;
//!             }
//!             sum += scale * ctx.rng().next_f64();
//!             ctx.metric("mean", sum / (step + 1) as f64); // readable while it runs
//!             ctx.checkpoint(&sum)?; // with position and random state, in one commit
//!         }
//!         self.mean = sum / self.steps as f64;
//!         Ok(Trained::model(self.clone()))
//!     }
//! }
//! trains!(Mean);
//!
//! # async fn example(db: Db) -> Result<()> {
//! let base = JobBase { isolation: Isolation::Process, max_concurrent: 2, ..JobBase::default() };
//! let trainer = LocalTrainer::new("default").base(base).open(&db).await?;
//! let module = Mean { identifier: "mean".into(), steps: 1000, mean: 0.0 };
//! let run = trainer.train(module, TrainSpec::new().arg("scale", 2.0).id("run-7")).await?;
//! println!("{}", run.info().await?.status); // QUEUED or RUNNING
//! // … in this or another process, now or after a crash:
//! let run = db.get_model_future("run-7").await?;
//! let model: Mean = run.load().await?;
//! println!("{} after {} metrics", model.mean, run.metrics().await?.len());
//! # Ok(()) }
//! ```
//!
//! `docs/training.md` lists what is guaranteed, with the test of each guarantee.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod arg;
mod args;
mod base;
mod checkpoints;
mod config;
mod context;
mod export;
mod for_test;
mod handle;
mod info;
mod kind;
mod labels;
mod metrics;
mod model_source;
mod module;
mod objects;
#[cfg(feature = "progress")]
mod pace;
#[cfg(feature = "plot")]
mod plot;
mod predict;
#[cfg(feature = "progress")]
mod progress;
mod retention;
mod rng;
mod run;
#[cfg(feature = "s3")]
mod s3;
mod save_path;
mod search;
mod span;
mod spec;
mod submit;
mod take_over;
#[cfg(any(feature = "plot", feature = "progress"))]
mod text;
mod train_or_resume;
mod trainer;
mod training;
mod written;

pub use arg::Arg;
pub use args::Args;
pub use base::{Isolation, JobBase, Limits, Restart};
pub use checkpoints::{Checkpoints, Direction};
pub use config::{Config, FinderType, LoaderType, TrainerType};
pub use context::{Flow, TrainContext};
pub use export::{load_model, load_model_dyn, load_model_from};
pub use for_test::TestTrainContext;
pub use handle::{CancelOutcome, JobRun};
pub use info::{Info, Status};
pub use metrics::{EarlyStopping, Series};
pub use module::{Train, Trained};
#[cfg(feature = "plot")]
pub use plot::Plot;
pub use predict::{Predict, PredictSpec, Prediction, PredictionRun};
#[cfg(feature = "progress")]
pub use progress::Progress;
pub use rng::Rng;
pub use run::TrainingRun;
pub use save_path::{S3Path, SavePath};
pub use search::{Candidate, Search, SearchResult, SearchRun, Trial, Values};
pub use span::Span;
pub use spec::TrainSpec;
pub use trainer::{LocalTrainer, TrainDb, Trainer};
pub use training::Training;

/// The pages whose examples are compiled and run as documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/testing-training.md")]
    pub struct TestingTraining;
}

/// What the macros write refers to this module; it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::{module::TrainEntry, predict::PredictEntry};
    pub use inventory;
}

/// What a program that trains needs in scope.
pub mod prelude {
    pub use crate::{
        Arg, Args, Checkpoints, Direction, EarlyStopping, Flow, Isolation, JobBase, Limits,
        LocalTrainer, Predict, PredictSpec, Restart, Search, Span, Status, Train, TrainContext,
        TrainDb, TrainSpec, Trained, Trainer, TrainingRun, load_model, predictors, trains,
    };
}
