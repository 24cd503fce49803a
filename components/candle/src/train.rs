//! The training loop.
//!
//! Where a training stands is one number, the steps that its optimizer has taken: epoch, order of the
//! rows and learning rate follow from it. So a training continues from any step, also in the middle of
//! an epoch, and ends with the same bits.

use crate::{
    data::{Batch, Table, order},
    memory::keep_freed,
    optim::{Optimizer, OptimizerState},
    schedule::{Constant, Schedule},
};
use candle_core::{DType, Tensor, Var};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};
use superduper::{Error, ErrorKind, JobContext, Result, ResultExt};

/// What can be trained: named parameters and a loss.
pub trait Model {
    /// The parameters by name; always the same ones.
    fn params(&self) -> &BTreeMap<String, Var>;

    /// The loss of a batch: a scalar that can be differentiated. It should be a mean over the rows.
    ///
    /// # Errors
    /// Those of the model; they end the training.
    fn loss(&self, batch: &Batch) -> Result<Tensor>;

    /// Refuse a table that the model cannot learn from; called once, before the first step.
    ///
    /// # Errors
    /// `InvalidInput` that says what does not fit.
    fn check(&self, table: &Table) -> Result<()> {
        let _ = table;
        Ok(())
    }
}

/// Whether a training goes on after a step.
pub type Flow = ControlFlow<()>;

/// Let the training go on.
///
/// # Errors
/// Never.
pub fn go_on() -> Result<Flow> {
    Ok(Flow::Continue(()))
}

/// End the training here; it can be continued from the state it leaves.
///
/// # Errors
/// Never.
pub fn stop() -> Result<Flow> {
    Ok(Flow::Break(()))
}

/// Watch a training for a job: report its progress in steps, end it where the job is cancelled.
///
/// Progress is reported at most every 20 ms, and at the last step.
///
/// # Errors
/// The function it gives returns `Cancelled` once the job is.
pub fn report_to(ctx: &JobContext) -> impl FnMut(&Step<'_>) -> Result<Flow> {
    let ctx = ctx.clone();
    let mut reported: Option<Instant> = None;
    move |step| {
        ctx.check_cancelled()?;
        if step.step == step.steps || reported.is_none_or(|at| at.elapsed() >= PAUSE) {
            ctx.progress(step.step, step.steps);
            reported = Some(Instant::now());
        }
        go_on()
    }
}

/// The time between two reports of progress.
const PAUSE: Duration = Duration::from_millis(20);

/// How to train: the settings that, with model, table and optimizer, determine the result.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// How often each row is seen.
    pub epochs: u64,
    /// Rows per step; the last step of an epoch may have fewer.
    pub batch: usize,
    /// The seed of the order of the rows.
    pub seed: u64,
    /// How the learning rate changes.
    pub schedule: &'a dyn Schedule,
}

impl Default for Training<'_> {
    fn default() -> Self {
        Training { epochs: 10, batch: 32, seed: 0, schedule: &Constant {} }
    }
}

/// A step that was just taken, for the function that watches a training.
#[derive(Debug)]
pub struct Step<'a> {
    /// The epoch that the step belongs to, counted from 0.
    pub epoch: u64,
    /// The epochs in all.
    pub epochs: u64,
    /// The steps taken, with those before the training was continued.
    pub step: u64,
    /// The steps in all.
    pub steps: u64,
    /// The loss of the batch before the step.
    pub loss: f32,
    /// Whether this was the last step of its epoch.
    pub epoch_done: bool,
    /// The parameters after the step; [`crate::Weights::of`] copies them.
    pub params: &'a BTreeMap<String, Var>,
    /// The state after the step: with the parameters, all that is needed to continue.
    pub state: &'a OptimizerState,
}

/// What a training did.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The loss of each step taken, in order; without those before the training was continued.
    pub losses: Vec<f32>,
    /// The steps of an epoch.
    pub steps_per_epoch: usize,
    /// Whether the training was ended before its last step.
    pub stopped: bool,
}

impl History {
    /// The mean loss of the last steps, as many as an epoch has; `None` if no step was taken.
    pub fn final_loss(&self) -> Option<f64> {
        let last = &self.losses[self.losses.len().saturating_sub(self.steps_per_epoch)..];
        (!last.is_empty()).then(|| last.iter().map(|loss| f64::from(*loss)).sum::<f64>() / last.len() as f64)
    }
}

impl Training<'_> {
    /// Train the model on the table, from the step at which `state` stands to the last.
    ///
    /// `watch` is called after each step: it may report progress, save a checkpoint, or end the training with [`stop`].
    ///
    /// # Guarantees
    /// Same settings, data, parameters and state give bit-identical parameters on one machine with one
    /// thread, however often the training was ended and continued in between.
    ///
    /// # Assumptions
    /// A training is continued with the settings and table it was started with. A state that stands at
    /// the last step or beyond takes no step.
    ///
    /// # Errors
    /// `InvalidInput` for settings or a table that do not fit; a fatal `User` error when the loss is not
    /// finite; the errors of `watch`. The parameters keep the steps that were taken.
    pub fn run(
        &self,
        model: &dyn Model,
        table: &Table,
        optimizer: &dyn Optimizer,
        state: &mut OptimizerState,
        mut watch: impl FnMut(&Step<'_>) -> Result<Flow>,
    ) -> Result<History> {
        if self.batch == 0 || table.is_empty() {
            return Err(Error::invalid(format!("cannot train on {} rows in batches of {}", table.rows(), self.batch)));
        }
        model.check(table)?;
        keep_freed();
        let steps_per_epoch = table.rows().div_ceil(self.batch);
        let steps = self.epochs.saturating_mul(steps_per_epoch as u64);
        let mut history = History { losses: Vec::new(), steps_per_epoch, stopped: false };
        let mut shuffled: Option<(u64, Vec<usize>)> = None;

        while state.step() < steps {
            let step = state.step();
            let (epoch, place) = (step / steps_per_epoch as u64, (step % steps_per_epoch as u64) as usize);
            let (_, rows) = match &mut shuffled {
                Some(current) if current.0 == epoch => current,
                other => other.insert((epoch, order(table.rows(), self.seed, epoch))),
            };
            let from = place * self.batch;
            let batch = table.batch(&rows[from..rows.len().min(from + self.batch)])?;

            let factor = self.schedule.factor(step, steps);
            let loss =
                self.step(model, &batch, optimizer, state, factor).map_err(|error| error.context(format!("epoch {epoch}, step {step}")))?;
            history.losses.push(loss);
            let taken = Step {
                epoch,
                epochs: self.epochs,
                step: state.step(),
                steps,
                loss,
                epoch_done: place + 1 == steps_per_epoch,
                params: model.params(),
                state,
            };
            if watch(&taken)?.is_break() {
                history.stopped = state.step() < steps;
                break;
            }
        }
        Ok(history)
    }

    fn step(&self, model: &dyn Model, batch: &Batch, optimizer: &dyn Optimizer, state: &mut OptimizerState, factor: f64) -> Result<f32> {
        if !factor.is_finite() {
            return Err(Error::invalid(format!("the schedule {:?} gave the factor {factor}", self.schedule)).fatal());
        }
        let loss = model.loss(batch)?;
        let value =
            loss.to_dtype(DType::F32).and_then(|loss| loss.to_scalar::<f32>()).context(format_args!("loss of shape {:?}", loss.dims()))?;
        if !value.is_finite() {
            return Err(Error::new(ErrorKind::User, format!("the loss is {value}"))
                .with_hint("lower the learning rate, or scale the features to about -1 to 1")
                .fatal());
        }
        let grads = loss.backward().context("gradients")?;
        optimizer.step(state, model.params(), &grads, factor)?;
        Ok(value)
    }
}
