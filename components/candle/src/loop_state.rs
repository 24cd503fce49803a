//! Where a training stands, and that as plain data.
//!
//! Invariant: a [`LoopState`] is all that a training needs to continue to the same bits: parameters,
//! moments, step, early stopping, the best so far and the running mean of the loss. Order of the
//! rows and learning rate follow from the step.

use crate::{
    model::{Model, Scores},
    optim::OptimizerState,
    weights::Weights,
};
use candle_core::Var;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use superduper::{Artifact, Error, Result};
use superduper_train::{Direction, EarlyStopping};

/// Where a training stands, apart from the parameters, which are the model's.
#[derive(Debug, Clone, Default)]
pub struct TrainingState {
    pub(crate) optimizer: OptimizerState,
    pub(crate) stopping: Option<EarlyStopping>,
    pub(crate) best: Option<Best>,
    pub(crate) losses: Losses,
    pub(crate) ended: bool,
}

/// The best parameters so far, by the loss on the rows to validate on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Best {
    /// The steps after which they were.
    pub step: u64,
    /// How they did.
    pub scores: Scores,
    /// The parameters.
    pub weights: Artifact<Weights>,
}

/// The mean loss of the epoch under way and of the last whole one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Losses {
    sum: f64,
    steps: u64,
    whole: Option<f64>,
}

impl Losses {
    pub(crate) fn add(&mut self, loss: f32, epoch_done: bool) {
        self.sum += f64::from(loss);
        self.steps += 1;
        if epoch_done {
            *self = Losses { whole: self.mean(), ..Losses::default() };
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.sum / self.steps as f64)
    }
}

impl From<OptimizerState> for TrainingState {
    fn from(optimizer: OptimizerState) -> Self {
        TrainingState { optimizer, ..TrainingState::default() }
    }
}

impl TrainingState {
    /// The optimizer's state.
    pub fn optimizer(&self) -> &OptimizerState {
        &self.optimizer
    }

    /// The steps taken.
    pub fn step(&self) -> u64 {
        self.optimizer.step()
    }

    /// The best so far; `None` where nothing was validated.
    pub fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }

    /// Whether the training is over: all steps are taken, or it got no better for too long.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The mean loss of the steps of the last whole epoch, or of those taken where there is none.
    pub fn loss(&self) -> Option<f64> {
        self.losses.whole.or_else(|| self.losses.mean())
    }

    /// Take the scores after a step; returns whether it is time to stop.
    pub(crate) fn validated(
        &mut self,
        scores: &Scores,
        patience: Option<u32>,
        params: &BTreeMap<String, Var>,
    ) -> Result<bool> {
        if self.best.as_ref().is_none_or(|best| scores.loss < best.scores.loss) {
            let weights = Artifact::new(Weights::of(params)?);
            self.best = Some(Best { step: self.step(), scores: scores.clone(), weights });
        }
        let Some(patience) = patience else { return Ok(false) };
        let stopping = self
            .stopping
            .get_or_insert_with(|| EarlyStopping::new(Direction::Lower, u64::from(patience)));
        Ok(stopping.update(scores.loss))
    }

    /// Give the model the best parameters so far; as they are, where nothing was validated.
    ///
    /// [`TrainLoop::run_from`](crate::TrainLoop::run_from) does so when a training ends by itself; after one that was ended
    /// by its watcher it is left to the caller, who may want to continue.
    ///
    /// # Errors
    /// Those of candle.
    pub fn restore_best(&self, model: &dyn Model) -> Result<()> {
        match &self.best {
            Some(best) if best.step < self.step() => {
                in_memory(&best.weights)?.assign(model.params())
            }
            _ => Ok(()),
        }
    }
}

/// A training at some step, as plain data: what a checkpoint of a job holds.
///
/// Parameters and moments are artifacts, each a safetensors file, and equal ones are stored once.
/// Taking a snapshot copies both once; they are hashed and written elsewhere, where the snapshot is
/// stored.
///
/// ```
/// # fn example(ctx: &mut superduper_train::TrainContext, model: superduper_candle::Mlp, table: superduper_candle::Table) -> superduper::Result<()> {
/// use superduper_candle::{AdamW, Optimizer, LoopState, TrainLoop, TrainingState, go_on};
///
/// let optimizer = AdamW::default();
/// let mut state = match ctx.resume::<LoopState>()? {
///     Some(saved) => ctx.block_on(saved.restore(&model))?,
///     None => TrainingState::from(optimizer.init()),
/// };
/// TrainLoop::default().run_from(&model, &table, &optimizer, &mut state, |step| {
///     if step.epoch_done {
///         ctx.checkpoint(&step.loop_state()?)?;
///     }
///     if step.step < step.steps { ctx.step(step.step, step.steps) } else { go_on() }
/// })?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoopState {
    step: u64,
    weights: Artifact<Weights>,
    /// Not needed any more once the training has ended.
    moments: Option<Artifact<Weights>>,
    stopping: Option<EarlyStopping>,
    best: Option<Best>,
    losses: Losses,
    ended: bool,
}

impl LoopState {
    /// Take a snapshot of a model in training.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of(params: &BTreeMap<String, Var>, state: &TrainingState) -> Result<Self> {
        let TrainingState { optimizer, stopping, best, losses, ended } = state;
        let step = optimizer.step();
        let mut best = best.clone();
        let weights = match &mut best {
            // The parameters are the best ones, or were set to them at the end: there is a copy of
            // them already.
            Some(best) if best.step == step || *ended => best.weights.clone(),
            _ => Artifact::new(Weights::of(params)?),
        };
        let moments = (!ended).then(|| Artifact::new(optimizer.moments().clone()));
        Ok(LoopState {
            step,
            weights,
            moments,
            stopping: stopping.clone(),
            best,
            losses: *losses,
            ended: *ended,
        })
    }

    /// The steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Give a model the parameters of the snapshot; gives the state to go on from.
    ///
    /// # Errors
    /// `InvalidInput` for a model with other parameters; `Integrity` for blobs that are missing or
    /// not those that were saved.
    pub async fn restore(self, model: &dyn Model) -> Result<TrainingState> {
        self.weights.get().await?.assign(model.params())?;
        let moments = match &self.moments {
            Some(moments) => Weights::clone(&*moments.get().await?),
            None => Weights::new(),
        };
        if let Some(best) = &self.best {
            // Read them now. The end of the training uses them without waiting.
            best.weights.get().await?;
        }
        let LoopState { step, stopping, best, losses, ended, .. } = self;
        Ok(TrainingState {
            optimizer: OptimizerState::new(step, moments),
            stopping,
            best,
            losses,
            ended,
        })
    }
}

/// The value of an artifact that was made here or read before.
fn in_memory(weights: &Artifact<Weights>) -> Result<Arc<Weights>> {
    match pin!(weights.get()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(weights) => weights,
        Poll::Pending => {
            Err(Error::internal("the best weights were not read when the training was restored"))
        }
    }
}
