//! Models ready to use, on candle.
//!
//! Components to apply as they are: [`Classifier`] (a multi-layer perceptron), [`CnnClassifier`],
//! [`LogisticRegression`], [`LinearRegression`] and [`Validation`], which scores any of the models
//! by table and version. With the feature `encoders` also `TextEmbedder` (sentence embeddings of the
//! BERT family) and `TextClassifier`.
//!
//! Those that learn a table can also be trained as background jobs, in a thread or a process of
//! their own; what such a job gives is a [`Network`]:
//!
//! ```no_run
//! use superduper::{Artifact, Db};
//! use superduper_candle::{Classifier, ClipNorm, FitSettingsSetters, GradientHook, Network, Table};
//! use superduper_train::{Isolation, JobBase, LocalTrainer, TrainDb, TrainSpec};
//!
//! # async fn example(db: &Db, table: Table) -> superduper::Result<()> {
//! let hooks: Vec<Box<dyn GradientHook>> = vec![Box::new(ClipNorm { max: 1.0 })];
//! let digits = Classifier::builder("digits").table(Artifact::new(table)).inputs(64).classes(10).hidden(vec![64]);
//! let digits = digits.epochs(100).validation(0.1).patience(5).accumulate(2).hooks(hooks).build()?;
//!
//! let base = JobBase { isolation: Isolation::Process, ..JobBase::default() };
//! let trainer = LocalTrainer::new("default").base(base).open(db).await?;
//! let run = trainer.train(digits, TrainSpec::new().id("digits-1")).await?;
//! // `run.metrics()` has `loss`, `validation_loss` and `validation_accuracy` while it runs; `run.stop()` ends it with the best
//! // so far; after a crash it goes on from its last epoch, to the same bits. Here, or in another process:
//! let network: Network = db.get_model_future("digits-1").await?.load().await?;
//! let class = network.predict(&[0.5; 64]).await?;
//! db.apply(network).await?; // a version for each set of weights
//! # Ok(()) }
//! ```
//!
//! The pieces they are made of are for components of your own: [`Mlp`], [`Cnn`] and `Encoder`,
//! optimizers whose state can be saved ([`optim`]), learning-rate schedules ([`schedule`]), hooks
//! on gradients ([`GradientHook`]), a table of rows ([`Table`]), a training loop that can be
//! watched, validated, stopped and continued ([`TrainLoop`]) from a [`LoopState`], an [`Anchor`] to
//! stay close to, [`Moments`] of the parameters, metrics ([`metrics`]) and [`Weights`] that become
//! an `Artifact<Tensors>`.
//!
//! ```
//! use superduper_candle::{AdamW, Mlp, MlpSpec, Optimizer, Table, TrainLoop, metrics};
//!
//! // Two well separated classes on a line.
//! let features: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 } + i as f32 / 200.0).collect();
//! let labels: Vec<u32> = (0..64).map(|i| i % 2).collect();
//! let (train, test) = Table::new(1, features, labels)?.split(7, 0.25)?;
//!
//! let sizes = MlpSpec { inputs: 1, hidden: vec![8], classes: 2, ..MlpSpec::default() };
//! let model = Mlp::init(sizes, 7)?;
//! let optimizer = AdamW { learning_rate: 0.05, ..AdamW::default() };
//! let mut state = optimizer.init();
//! TrainLoop { epochs: 10, batch: 16, seed: 7, ..TrainLoop::default() }.run(&model, &train, &optimizer, &mut state, |_| superduper_candle::go_on())?;
//!
//! let scores = metrics::evaluate(&model.logits(&test.features()?)?, test.labels())?;
//! assert_eq!(scores.accuracy, 1.0);
//! # Ok::<(), superduper::Error>(())
//! ```
//!
//! # Guarantees
//! - Everything random is a function of a seed and a name or epoch: parameters ([`Mlp::init`],
//!   [`Cnn::init`]), the masks of dropout ([`Mode`]), the order of rows ([`data::order`]) and the split of a table
//!   ([`Table::split`]). The same seed, data and program give bit-identical weights on one machine
//!   with `RAYON_NUM_THREADS=1`.
//! - A training that continues from a [`LoopState`], or from saved [`Weights`] and
//!   [`OptimizerState`], ends with the weights of one that was never interrupted. The components
//!   keep one at the end of each epoch while they learn, as a training job and when they are
//!   applied.
//!
//! # Assumptions
//! - All tensors are on the CPU. Small layers gain nothing from more than one thread: set
//!   `RAYON_NUM_THREADS=1` and run jobs beside each other instead.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod anchor;
mod array;
#[cfg(feature = "encoders")]
mod bert;
mod classes;
mod classifier;
mod cnn;
mod cnn_classifier;
mod conv;
pub mod data;
mod dropout;
mod fit;
mod fit_settings;
mod gradients;
mod hooks;
mod linear;
mod logistic;
mod loop_state;
mod matrix;
mod memory;
pub mod metrics;
mod mlp;
mod mode;
mod model;
mod moments;
mod net;
mod network;
mod network_model;
mod network_tensors;
#[cfg(test)]
mod network_tests;
mod norm;
pub mod optim;
mod parameters;
mod predictor;
mod regression;
mod rows;
mod saved;
pub mod schedule;
mod simd;
#[cfg(feature = "encoders")]
mod text_classifier;
mod train_loop;
mod validation;
mod weights;

#[doc(no_inline)]
pub use candle_core::{Device, Error as CandleError, Tensor, Var};

pub use anchor::Anchor;
pub use array::Array;
#[cfg(feature = "encoders")]
pub use bert::{BertSpec, Encoder, TextEmbedder, TextPair, TruncationSide};
pub use classifier::Classifier;
pub use cnn::{Cnn, CnnSpec, Convolution};
pub use cnn_classifier::CnnClassifier;
pub use data::{Batch, Table};
pub use fit::FitReport;
pub use fit_settings::{FitSettings, FitSettingsSetters};
pub use hooks::{ClipNorm, GradientHook};
pub use logistic::LogisticRegression;
pub use loop_state::{Best, LoopState, TrainingState};
pub use metrics::{Evaluation, RegressionMetrics};
pub use mlp::{Mlp, MlpSpec};
pub use mode::Mode;
pub use model::{Model, Scores};
pub use moments::Moments;
pub use net::{Net, NetSpec};
pub use network::{Architecture, Network};
pub use network_model::{LinearRegressor, NetworkModel};
pub use optim::{AdamW, Optimizer, OptimizerState, Sgd};
pub use predictor::{Predictor, predict_table};
pub use regression::LinearRegression;
pub use schedule::{Constant, CosineWarmup, Schedule};
pub use superduper_train::{Flow, Rng};
#[cfg(feature = "encoders")]
pub use text_classifier::{LabelledTexts, TextClassifier};
pub use train_loop::{History, Step, TrainLoop, go_on, report_to, stop};
pub use validation::{Validated, Validation};
pub use weights::{Weights, is_buffer};

// Not called from here: a feature of this crate switches on faster kernels of the `gemm` that
// candle calls.
use gemm as _;

/// What macros of this crate need.
#[doc(hidden)]
pub mod __private {
    pub use crate::predictor::PredictorEntry;
    pub use superduper::__private::inventory;
}
