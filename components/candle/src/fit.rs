//! What the components that learn a table have in common: how they train, what they hold out, how
//! rows enter them.

use crate::{
    data::Table,
    hooks::GradientHook,
    loop_state::{LoopState, TrainingState},
    model::{Model, Scores},
    network::{Architecture, Network},
    network_model::NetworkModel,
    optim::Optimizer,
    schedule::Schedule,
    train_loop::{Step, TrainLoop, go_on},
};
use serde::{Deserialize, Serialize};
use superduper::{Artifact, Component, Error, ErrorKind, JobContext, Output, Result, Tensors};
use superduper_train::{Args, Flow, TrainContext, Trained};

/// What `fit` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// The rows trained on.
    pub rows: usize,
    /// The steps taken.
    pub steps: u64,
    /// The mean loss of the last epoch: of a classifier in nats, of a regression the mean squared
    /// error.
    pub loss: f64,
    /// How the weights did on the rows to validate on, where there are some.
    #[serde(default)]
    pub validation: Option<Scores>,
}

/// The settings of a component that learns a table.
pub(crate) struct Fit<'a> {
    pub(crate) table: Artifact<Table>,
    pub(crate) epochs: u64,
    pub(crate) batch: usize,
    pub(crate) accumulate: usize,
    pub(crate) seed: u64,
    pub(crate) held_out: f64,
    pub(crate) validation: f64,
    pub(crate) patience: Option<u32>,
    pub(crate) optimizer: &'a dyn Optimizer,
    pub(crate) schedule: &'a dyn Schedule,
    pub(crate) hooks: &'a [Box<dyn GradientHook>],
}

impl Fit<'_> {
    /// The rows to learn, and those that are held out.
    fn split(&self) -> Result<(Table, Table)> {
        wait(self.table.get())?.split(self.seed, self.held_out)
    }

    /// Refuse settings with which nothing can be learned.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |what: String| Err(Error::invalid(what).fatal());
        for (name, value) in [
            ("epochs", self.epochs),
            ("batch", self.batch as u64),
            ("accumulate", self.accumulate as u64),
        ] {
            if value == 0 {
                return refused(format!("with `{name}` of 0 nothing is learned"));
            }
        }
        for (name, part) in [("held_out", self.held_out), ("validation", self.validation)] {
            if !(0.0..=1.0).contains(&part) {
                return refused(format!("`{name}` is a part of the rows, from 0 to 1, not {part}"));
            }
        }
        if self.patience.is_some() && self.validation == 0.0 {
            return Err(Error::invalid("with `patience` there must be rows to validate on")
                .with_hint("set `validation`")
                .fatal());
        }
        Ok(())
    }

    /// Train a model from where it stands, and report to a job.
    fn train(&self, model: &NetworkModel, ctx: &mut TrainContext) -> Result<FitReport> {
        self.check()?;
        // All of it, those that are held out too: better now than after hours of training.
        model.check(&*wait(self.table.get())?)?;
        let (rows, _) = self.split()?;
        // Without a part to validate on the rows stay in their order, and the weights what they
        // were before there was one.
        let (rows, validation) = match self.validation {
            0.0 => (rows, None),
            part => rows
                .split_named(self.seed, "validation", part)
                .map(|(rows, validation)| (rows, Some(validation)))?,
        };
        if rows.is_empty() {
            let all = wait(self.table.get())?.rows();
            let text = format!(
                "no rows are left to train on: `held_out` is {}, `validation` is {}, of {all} rows",
                self.held_out, self.validation
            );
            return Err(Error::invalid(text).fatal());
        }
        let training = TrainLoop {
            epochs: self.epochs,
            batch: self.batch,
            accumulate: self.accumulate,
            seed: self.seed,
            schedule: self.schedule,
            hooks: self.hooks,
            validation: validation.as_ref().filter(|rows| !rows.is_empty()),
            patience: self.patience,
            ..TrainLoop::default()
        };
        let mut state = match ctx.resume::<LoopState>()? {
            Some(saved) => ctx.block_on(saved.restore(model))?,
            None => TrainingState::from(self.optimizer.init()),
        };
        let steps = training.steps(rows.rows());
        let reported = training.steps_per_epoch(rows.rows()).div_ceil(REPORTED).max(1) as u64;
        // An ended training takes no step, but the model gets what is best. One that is told to
        // stop before its first step makes that one: weights that learned nothing are no result.
        if state.is_ended() || !ctx.step(state.step(), steps)?.is_stop() || state.step() == 0 {
            training.run_from(model, &rows, self.optimizer, &mut state, |step| {
                report(ctx, step, reported)
            })?;
        }
        if !state.is_ended() {
            state.restore_best(model)?;
        }
        let validation = state.best().map(|best| best.scores.clone());
        Ok(FitReport {
            rows: rows.rows(),
            steps: state.step(),
            loss: state.loss().unwrap_or_default(),
            validation,
        })
    }
}

/// The loss is reported at most so often in an epoch.
const REPORTED: usize = 100;

/// Tell a job of a step, keep a checkpoint where it is time for one, and ask whether to go on.
fn report(ctx: &mut TrainContext, step: &Step<'_>, every: u64) -> Result<Flow> {
    if step.epoch_done || step.step.is_multiple_of(every) {
        ctx.metric("loss", step.loss.into());
    }
    if let Some(scores) = step.scores {
        ctx.metric("validation_loss", scores.loss);
        for (name, value) in &scores.metrics {
            ctx.metric(&format!("validation_{name}"), *value);
        }
    }
    if ctx.checkpoint_due(step.epoch_done || step.training.is_ended()) {
        ctx.checkpoint(&step.loop_state()?)?;
    }
    if step.training.is_ended() { go_on() } else { ctx.step(step.step, step.steps) }
}

/// A component that learns a table.
pub(crate) trait Learner: Component {
    /// What is trained.
    fn architecture(&self) -> Architecture;

    /// How it is trained.
    ///
    /// # Errors
    /// `NotSetUp` where the rows to learn are not there yet.
    fn settings(&self) -> Result<Fit<'_>>;

    /// What was learned.
    fn learned(&self) -> &Output<Artifact<Tensors>>;

    /// Refuse what is wrong before anything is read. A model has fields and takes no arguments.
    fn check_spec(&self, args: &Args) -> Result<()> {
        let name = format!("training `{}/{}`", self.kind(), self.identifier());
        args.only(&[]).map_err(|error| error.context(name))?;
        self.settings()?.check()?;
        self.architecture().check()
    }

    /// The trigger `fit`: train on the rows that are not held out, and keep the weights.
    fn fit_rows(&self, job: &JobContext) -> Result<FitReport> {
        let (fitted, weights) = TrainContext::in_job(job, |ctx| self.learn(ctx))?;
        job.set(self.learned(), weights)?;
        Ok(fitted)
    }

    /// The same training as a job of its own, which gives the network.
    fn train_network(&self, ctx: &mut TrainContext) -> Result<Trained> {
        let (_, weights) = self.learn(ctx)?;
        Ok(Trained::model(Network {
            identifier: self.identifier().to_owned(),
            architecture: self.architecture(),
            weights,
        }))
    }

    /// Train on the rows that are not held out.
    fn learn(&self, ctx: &mut TrainContext) -> Result<(FitReport, Artifact<Tensors>)> {
        let settings = self.settings()?;
        let model = self.architecture().init(settings.seed)?;
        let fitted = settings.train(&model, ctx)?;
        let weights = model.weights()?;
        weights.check_finite().map_err(|error| {
            error
                .context("the training diverged")
                .with_hint("a smaller learning rate may help")
                .fatal()
        })?;
        Ok((fitted, weights.to_tensors()?.into()))
    }

    /// The trigger `evaluate`: score the model on the rows that are held out; `None` where there
    /// are none.
    fn score_rows<S>(
        &self,
        score: impl FnOnce(&NetworkModel, &Table) -> Result<S>,
    ) -> Result<Option<S>> {
        let (_, held_out) = self.settings()?.split()?;
        if held_out.is_empty() {
            return Ok(None);
        }
        score(&wait(self.trained()?.model())?, &held_out).map(Some)
    }

    /// What `fit` made, as a network of its own.
    fn trained(&self) -> Result<Network> {
        let weights = Artifact::clone(&*self.learned().get()?);
        Ok(Network {
            identifier: self.identifier().to_owned(),
            architecture: self.architecture(),
            weights,
        })
    }
}

/// What the components that learn a table have in common, by their fields `table`, `fit` and
/// `weights`.
macro_rules! learner {
    ($type:ident, $architecture:expr) => {
        impl $crate::fit::Learner for $type {
            fn architecture(&self) -> $crate::Architecture {
                $architecture(self)
            }

            fn settings(&self) -> superduper::Result<$crate::fit::Fit<'_>> {
                Ok(self.fit.of(self.table.clone()))
            }

            fn learned(&self) -> &superduper::Output<superduper::Artifact<superduper::Tensors>> {
                &self.weights
            }
        }

        impl $type {
            /// What `fit` made, as a component of its own.
            ///
            /// # Errors
            /// `NotSetUp` before `fit` is done.
            pub fn network(&self) -> superduper::Result<$crate::Network> {
                $crate::fit::Learner::trained(self)
            }

            /// The rows that were not trained on, which
            /// [`held_out`](crate::FitSettings::held_out) chose.
            ///
            /// # Errors
            /// `Integrity` for a table that is missing or not the one that was saved.
            pub async fn held_out_rows(&self) -> superduper::Result<$crate::Table> {
                let table = self.table.get().await?;
                Ok(table.split(self.fit.seed, self.fit.held_out)?.1)
            }
        }

        /// Trained as a job of its own it gives a [`Network`](crate::Network).
        impl superduper_train::Train for $type {
            fn check(&self, args: &superduper_train::Args) -> superduper::Result<()> {
                $crate::fit::Learner::check_spec(self, args)
            }

            fn train(
                &mut self,
                ctx: &mut superduper_train::TrainContext,
            ) -> superduper::Result<superduper_train::Trained> {
                $crate::fit::Learner::train_network(self, ctx)
            }
        }
        superduper_train::trains!($type);

        impl $crate::Predictor for $type {
            async fn predict_table(
                &self,
                table: &$crate::Table,
            ) -> superduper::Result<$crate::metrics::Prediction> {
                self.network()?.predict_table(table).await
            }
        }
        $crate::predictor!($type);
    };
}
pub(crate) use learner;

/// A [`learner`] that classifies. Of `$net` the method `model` gives, which has the sizes
/// that the method `sizes` says.
macro_rules! classifier {
    ($type:ident, $architecture:expr, $net:ty) => {
        $crate::fit::learner!($type, $architecture);

        impl $type {
            /// The trained model, for those who predict often: each call reads the weights.
            ///
            /// # Errors
            /// `NotSetUp` before `fit` is done; `Integrity` for weights that are missing or not
            /// those that were saved.
            pub async fn model(&self) -> superduper::Result<$net> {
                let tensors = self.weights.get()?.get().await?;
                <$net>::from_weights(self.sizes(), &$crate::Weights::from_tensors(&tensors).await?)
            }

            /// The probability of each class, for each row of features.
            ///
            /// # Errors
            /// Those of [`predict`](Self::predict).
            pub async fn probabilities(
                &self,
                rows: &[impl AsRef<[f32]>],
            ) -> superduper::Result<Vec<Vec<f32>>> {
                self.network()?.probabilities(rows).await
            }

            /// How well it classifies the rows of another table; the trigger `evaluate` does so
            /// for the rows that were held out.
            ///
            /// # Errors
            /// Those of [`model`](Self::model); `InvalidInput` for a table that does not fit.
            pub async fn evaluate_on(
                &self,
                table: &$crate::Table,
            ) -> superduper::Result<$crate::Evaluation> {
                self.network()?.evaluate(table).await
            }

            /// The most likely class of one row of features.
            ///
            /// # Errors
            /// Those of [`model`](Self::model); `InvalidInput` for another number of features than
            /// the model has.
            pub async fn predict(&self, features: &[f32]) -> superduper::Result<u32> {
                self.network()?.predict(features).await
            }

            /// The most likely class of each row of features.
            ///
            /// # Errors
            /// Those of [`predict`](Self::predict).
            pub async fn predict_batch(
                &self,
                rows: &[impl AsRef<[f32]>],
            ) -> superduper::Result<Vec<u32>> {
                self.network()?.predict_batch(rows).await
            }
        }
    };
}
pub(crate) use classifier;

/// Wait in a plain `fn` trigger, which runs on a worker thread.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => {
            Err(Error::new(ErrorKind::Unsupported, "a trigger was called outside of a runtime")
                .with_source(error))
        }
    }
}
