//! Federated training: train one model over many sites, whose data stays where it is.
//!
//! A [`FederatedTraining`] is a component. Applying it trains: in each round the sites train from the
//! global model, and a [`Strategy`] makes the next global model of their updates. Each step is a
//! durable job, so a training goes on after a crash.
//!
//! ```no_run
//! use superduper::prelude::*;
//! use superduper_federated::{FedAvg, FederatedTraining, ModelTrainer, Site, State};
//! # use superduper_federated::{FederatedModel, SiteContext, SiteData, Tested, Trained, federates};
//! # use std::{any::Any, time::Duration};
//! # #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! # struct Rows(Vec<f32>);
//! # #[typetag::serde(name = "doc.Rows")]
//! # impl SiteData for Rows {
//! #     fn rows(&self) -> u64 { self.0.len() as u64 }
//! #     fn as_any(&self) -> &dyn Any { self }
//! # }
//!
//! #[derive(Component)]
//! struct Mean {
//!     identifier: String,
//! }
//!
//! impl FederatedModel for Mean {
//!     fn initial(&self, _classes: usize, _seed: u64) -> Result<Tensors> {
//!         Tensors::new().with("mean", &[1], &[0.0_f32])
//!     }
//!
//!     fn train(&self, _weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
//!         let rows = &ctx.data_as::<Rows>()?.0;
//!         let mean = rows.iter().sum::<f32>() / rows.len() as f32;
//!         let weights = Tensors::new().with("mean", &[1], &[mean])?;
//!         Ok(Trained { weights, samples: rows.len() as u64, metrics: Default::default() })
//!     }
//!
//!     fn test(&self, _weights: Tensors, _ctx: &mut SiteContext<'_>) -> Result<Tested> {
//!         Ok(Tested::default())
//!     }
//! }
//! federates!(Mean);
//!
//! # async fn example(db: Db) -> Result<()> {
//! let sites = [Site::new("north", Rows(vec![1.0])), Site::new("south", Rows(vec![2.0, 3.0]))];
//! let training = FederatedTraining::new("mean", Mean { identifier: "mean".into() }, FedAvg {});
//! let mut trainer = ModelTrainer::new(&db, training.sites(sites).rounds(2), None)?;
//! trainer.start().await?;
//! assert_eq!(trainer.wait(Duration::from_secs(60)).await?, State::Completed);
//! let weights = trainer.global().await?.weights.get().await?;
//! assert_eq!(weights.to_vec::<f32>("mean").await?, [2.0]);
//! # Ok(()) }
//! ```
//!
//! - Strategies: [`FedAvg`] and its relatives with momentum ([`FedAvgM`]), [`FedProx`], [`FedAdam`],
//!   [`FedYogi`] and [`FedDC`]. A few wrong sites cannot mislead [`CoordinateMedian`],
//!   [`TrimmedMean`], [`Krum`] and [`MultiKrum`].
//! - A [`Filter`] changes what leaves a site: [`ExcludeVars`], [`ClipNorm`], [`GaussianNoise`].
//! - [`Predictions`] of several models tell how certain the models are. [`SwagModel`] draws such
//!   models from the [`Moments`] of a training.
//!
//! `docs/federated.md` has the states, the jobs of a round, the notifications, all settings, and what
//! you can rely on.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

#[cfg(feature = "candle")]
pub mod candle;
mod class;
mod config;
mod departure;
mod executor;
mod filter;
mod gate;
mod model;
mod model_config;
mod notify;
mod numeric;
mod persistor;
mod phases;
mod preview;
mod resolved;
mod site;
mod site_context;
mod state;
mod strategy;
mod trainer;
mod training;
mod uncertainty;
mod update;
mod updates;

pub use class::{Class, HasClass};
pub use config::{
    DeliveryConfig, FederationConfig, KeepModels, Late, Sampling, TrainerOptions, TrainingConfig,
    UncertaintyMethod,
};
pub use departure::Departure;
pub use executor::{ClientExecutor, DefaultExecutor, Reply, ReturnCode, Task};
pub use filter::{ClipNorm, ExcludeVars, Filter, GaussianNoise, apply_filters};
pub use gate::{Decision, Gate, Request, Submitter};
pub use model::{CarriedCode, FederatedModel, SiteMoments, Tested, Trained, class_of_model};
pub use model_config::ModelConfig;
#[cfg(feature = "http")]
pub use notify::HttpEndpoint;
pub use notify::{Delivery, Endpoint, Notification, NotificationBody, NotificationType};
pub use persistor::{DefaultPersistor, ModelPersistor, PersistContext, RoundReport, SiteReport};
pub use preview::{ExportedTraining, Preview, PreviewFile, PreviewJob, SiteAnswer, SitePreview};
pub use site::{Site, SiteData, SiteJobs};
pub use site_context::SiteContext;
pub use state::{Answer, GlobalModel, Held, KeptModel, Progress, Started, State};
pub use strategy::{
    Aggregated, ClientSettings, CoordinateMedian, FedAdam, FedAvg, FedAvgM, FedDC, FedProx,
    FedYogi, Krum, MultiKrum, Strategy, TrimmedMean,
};
pub use trainer::{
    DaisyChainRoundFinished, ModelTestFinished, ModelTrainer, ModelTrainerEvent, Receipt,
    SwagRoundFinished, TrainerClass, TrainingRoundFinished, process_trainer_task, wake_site,
};
pub use training::{FederatedTraining, federated_model};
pub use uncertainty::{
    Entropies, MomentUpdate, Moments, Predictions, RowUncertainty, SwagModel, Uncertainty, dropout,
    softmax,
};
pub use update::Update;
pub use updates::LocalModel;

/// The pages whose examples are compiled as documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/federated.md")]
    pub struct Federated;
    #[doc = include_str!("../../../docs/federated-sdk.md")]
    pub struct CustomClasses;
}

/// What the macros write refers to this module; it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::{gate::ProgramGate, model::FederatedEntry};
    pub use inventory;
}
