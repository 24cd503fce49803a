//! The training loop.
//!
//! Where in the data a training stands is one number, the steps that its optimizer has taken:
//! epoch, order of the rows and learning rate follow from it. So a training continues from any
//! step, also in the middle of an epoch, and ends with the same bits.

use crate::{
    anchor::{Anchor, Pull},
    data::{Table, order},
    gradients::Learning,
    hooks::GradientHook,
    loop_state::{LoopState, TrainingState},
    memory::keep_freed,
    model::{Model, Scores, not_finite},
    optim::{Optimizer, OptimizerState},
    schedule::{Constant, Schedule},
};
use candle_core::Var;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use superduper::{Error, JobContext, Result};
use superduper_train::Flow;

/// Let the training go on.
///
/// # Errors
/// Never.
pub fn go_on() -> Result<Flow> {
    Ok(Flow::Continue)
}

/// End the training here; it can be continued from the state it leaves.
///
/// # Errors
/// Never.
pub fn stop() -> Result<Flow> {
    Ok(Flow::Stop)
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
pub struct TrainLoop<'a> {
    /// How often each row is seen.
    pub epochs: u64,
    /// Rows that are computed at once. The last step of an epoch may have fewer.
    pub batch: usize,
    /// How many such batches make one step: their gradients are averaged over all rows, so that the
    /// step is that of one batch of `batch * accumulate` rows up to rounding, in the memory of
    /// `batch` rows.
    pub accumulate: usize,
    /// The seed of the order of the rows, and of the masks of dropout.
    pub seed: u64,
    /// How the learning rate changes.
    pub schedule: &'a dyn Schedule,
    /// What is done to the gradients before each step, in this order.
    pub hooks: &'a [Box<dyn GradientHook>],
    /// Parameters to stay close to: their term is added to the loss and its gradients, before the
    /// hooks.
    pub anchor: Option<Anchor<'a>>,
    /// Rows to validate on; the model that does best on them is what the training gives.
    pub validation: Option<&'a Table>,
    /// Validate after so many steps; after each epoch if not given. After the last step in any
    /// case.
    pub validate_every: Option<u64>,
    /// End the training when so many validations in a row brought no smaller loss; never if not
    /// given.
    pub patience: Option<u32>,
}

impl Default for TrainLoop<'_> {
    fn default() -> Self {
        TrainLoop {
            epochs: 10,
            batch: 32,
            accumulate: 1,
            seed: 0,
            schedule: &Constant {},
            hooks: &[],
            anchor: None,
            validation: None,
            validate_every: None,
            patience: None,
        }
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
    /// The optimizer's state after the step: with the parameters, all that a training without
    /// validation needs to continue.
    pub state: &'a OptimizerState,
    /// The whole state after the step.
    pub training: &'a TrainingState,
    /// How the model does on the rows to validate on, where this step was followed by a validation.
    pub scores: Option<&'a Scores>,
}

impl Step<'_> {
    /// The training as it is after this step, as plain data.
    ///
    /// # Errors
    /// Those of candle.
    pub fn loop_state(&self) -> Result<LoopState> {
        LoopState::of(self.params, self.training)
    }
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
        (!last.is_empty())
            .then(|| last.iter().map(|loss| f64::from(*loss)).sum::<f64>() / last.len() as f64)
    }
}

impl TrainLoop<'_> {
    /// The steps of an epoch of so many rows.
    pub fn steps_per_epoch(&self, rows: usize) -> usize {
        rows.div_ceil(self.batch.saturating_mul(self.accumulate).max(1))
    }

    /// All steps of a training on so many rows.
    pub fn steps(&self, rows: usize) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch(rows) as u64)
    }

    /// Train the model on the table, from the step at which `state` stands to the last.
    ///
    /// `watch` is called after each step: it may report progress, save a checkpoint, or end the
    /// training with [`stop`].
    ///
    /// # Guarantees
    /// Same settings, data, parameters and state give bit-identical parameters on one machine with
    /// one thread, however often the training was ended and continued in between.
    ///
    /// # Assumptions
    /// A training is continued with the settings and table it was started with. A state that stands
    /// at the last step or beyond takes no step. One that validates is continued by
    /// [`run_from`](TrainLoop::run_from).
    ///
    /// # Errors
    /// `InvalidInput` for settings or a table that do not fit; a fatal `User` error when the loss
    /// is not finite; the errors of `watch`. The parameters keep the steps that were taken.
    pub fn run(
        &self,
        model: &dyn Model,
        table: &Table,
        optimizer: &dyn Optimizer,
        state: &mut OptimizerState,
        watch: impl FnMut(&Step<'_>) -> Result<Flow>,
    ) -> Result<History> {
        let mut whole = TrainingState::from(std::mem::take(state));
        let result = self.run_from(model, table, optimizer, &mut whole, watch);
        *state = whole.optimizer;
        result
    }

    /// Train as [`run`](TrainLoop::run) does, with a state that also keeps what validation and early
    /// stopping have seen.
    ///
    /// Where rows to validate on are given, the model has its best parameters when the training
    /// ends by itself; when `watch` ended it, those of the last step, so that it can go on: see
    /// [`TrainingState::restore_best`].
    ///
    /// # Errors
    /// Those of [`run`](TrainLoop::run); a fatal `User` error when the loss on the rows to validate
    /// on is not finite.
    pub fn run_from(
        &self,
        model: &dyn Model,
        table: &Table,
        optimizer: &dyn Optimizer,
        state: &mut TrainingState,
        mut watch: impl FnMut(&Step<'_>) -> Result<Flow>,
    ) -> Result<History> {
        self.check(model, table)?;
        let pull = match &self.anchor {
            Some(anchor) => Pull::new(anchor, model.params())?,
            None => None,
        };
        let (hooks, seed, batch) = (self.hooks, self.seed, self.batch);
        let learning = Learning { hooks, seed, batch, model, table, optimizer, pull };
        keep_freed();
        let steps_per_epoch = self.steps_per_epoch(table.rows());
        let steps = self.steps(table.rows());
        let mut history = History { losses: Vec::new(), steps_per_epoch, stopped: false };
        let mut shuffled: Option<(u64, Vec<usize>)> = None;

        while !state.ended && state.step() < steps {
            let step = state.step();
            let (epoch, place) =
                (step / steps_per_epoch as u64, (step % steps_per_epoch as u64) as usize);
            let (_, rows) = match &mut shuffled {
                Some(current) if current.0 == epoch => current,
                other => other.insert((epoch, order(table.rows(), self.seed, epoch))),
            };
            let size = self.batch.saturating_mul(self.accumulate);
            let from = place * size;
            let rows = &rows[from..rows.len().min(from.saturating_add(size))];
            let factor = self.schedule.factor(step, steps);
            if !(factor >= 0.0 && factor.is_finite()) {
                let text = format!(
                    "epoch {epoch}, step {step}: the schedule {:?} gives the factor {factor}",
                    self.schedule
                );
                return Err(Error::invalid(text)
                    .with_hint("a factor is at least 0; see `floor`")
                    .fatal());
            }
            let loss = learning
                .step(rows, &mut state.optimizer, factor)
                .map_err(|error| error.context(format!("epoch {epoch}, step {step}")))?;
            history.losses.push(loss);
            let epoch_done = place + 1 == steps_per_epoch;
            state.losses.add(loss, epoch_done);
            let last = state.step() == steps;
            let scores = self.scores(model, state.step(), epoch_done, last)?;
            let exhausted = scores
                .as_ref()
                .map(|scores| state.validated(scores, self.patience, model.params()))
                .transpose()?;
            state.ended = last || exhausted == Some(true);

            let taken = Step {
                epoch,
                epochs: self.epochs,
                step: state.step(),
                steps,
                loss,
                epoch_done,
                params: model.params(),
                state: &state.optimizer,
                training: state,
                scores: scores.as_ref(),
            };
            if watch(&taken)?.is_stop() {
                history.stopped = state.step() < steps;
                return Ok(history);
            }
        }
        history.stopped = state.step() < steps;
        state.restore_best(model)?;
        Ok(history)
    }

    fn check(&self, model: &dyn Model, table: &Table) -> Result<()> {
        if self.batch == 0 || self.accumulate == 0 || table.is_empty() {
            let parts = if self.accumulate == 1 {
                String::new()
            } else {
                format!(", {} for a step", self.accumulate)
            };
            return Err(Error::invalid(format!(
                "cannot train on {} rows in batches of {}{parts}",
                table.rows(),
                self.batch
            )));
        }
        model.check(table)?;
        match self.validation {
            Some(rows) if rows.is_empty() => {
                Err(Error::invalid("there are no rows to validate on"))
            }
            Some(rows) => model.check(rows).map_err(|error| error.context("rows to validate on")),
            None if self.patience.is_some() => {
                Err(Error::invalid("a training with patience needs rows to validate on")
                    .with_hint("set `validation`"))
            }
            None => Ok(()),
        }
    }

    /// Validate, where it is time to.
    fn scores(
        &self,
        model: &dyn Model,
        done: u64,
        epoch_done: bool,
        last: bool,
    ) -> Result<Option<Scores>> {
        let Some(rows) = self.validation else { return Ok(None) };
        if !last
            && !self.validate_every.map_or(epoch_done, |every| done.is_multiple_of(every.max(1)))
        {
            return Ok(None);
        }
        let scores = model
            .scores(rows)
            .map_err(|error| error.context(format!("validation after step {done}")))?;
        if scores.loss.is_finite() {
            Ok(Some(scores))
        } else {
            Err(not_finite(&format!("the loss on the rows to validate on is {}", scores.loss)))
        }
    }
}
