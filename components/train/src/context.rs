//! What a training or prediction is given while it runs.
//!
//! Invariants: a checkpoint holds the caller's state, the position and the random state in one
//! commit; it is written beside the training, at most one at a time, and all are durable before the
//! attempt's result is.

use crate::{
    args::Args,
    base::PAUSED,
    checkpoints::{Checkpoints, Kept},
    rng::Rng,
    spec::TrainSpec,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use superduper::{
    ComponentType, Error, ErrorKind, JobContext, JobSignal, Result, Value, store::CheckpointRow,
};
use tokio::{runtime::Handle, task::JoinHandle};

/// Progress is reported so often at most.
const REPORT: Duration = Duration::from_millis(50);

/// Whether to go on.
#[must_use = "a job that does not look at the answer cannot be stopped early"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Somebody asked to stop: finish, and return the best so far.
    Stop,
}

impl Flow {
    /// Whether to stop.
    pub fn is_stop(self) -> bool {
        self == Flow::Stop
    }
}

/// What a training or prediction is given while it runs.
///
/// ```no_run
/// use superduper::prelude::*;
/// use superduper_train::prelude::*;
///
/// #[derive(Component, Clone)]
/// struct Mean {
///     identifier: String,
///     steps: u64,
///     mean: f64,
/// }
///
/// impl Train for Mean {
///     fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
///         let mut sum: f64 = ctx.resume()?.unwrap_or(0.0); // where the last attempt was
///         for step in ctx.position()..self.steps {
///             if ctx.step(step, self.steps)?.is_stop() {
///                 break;
///             }
///             sum += ctx.rng().next_f64();
///             ctx.metric("mean", sum / (step + 1) as f64);
///             ctx.checkpoint(&sum)?; // with position and random state, in one commit
///         }
///         self.mean = sum / self.steps as f64;
///         Ok(Trained::model(self.clone()))
///     }
/// }
/// trains!(Mean);
/// ```
pub struct TrainContext {
    job: JobContext,
    id: String,
    args: Args,
    strategy: Checkpoints,
    rng: Rng,
    seed: u64,
    runtime: Handle,
    deadline: Option<(Instant, Duration)>,
    /// Steps done.
    position: u64,
    total: u64,
    reported: Instant,
    /// The metric by which checkpoints are judged, as it was measured since the last one.
    score: Option<f64>,
    /// Checkpoints of this job that are on record, oldest first.
    kept: Arc<Mutex<Vec<Kept>>>,
    /// What earlier attempts kept, once it was asked for.
    found: Option<Vec<CheckpointRow>>,
    writing: Option<JoinHandle<Result<()>>>,
    last_written: Option<(u64, Instant)>,
    keeps: bool,
    /// It was told to stop.
    stopped: bool,
    /// Where a test ends it.
    at: Option<At>,
}

/// The step at which a test ends a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// It is asked to end with what it has.
    Stop(u64),
    /// Its attempt ends with an error.
    Interrupt(u64),
}

/// What a checkpoint holds.
#[derive(Serialize, Deserialize)]
struct Whole<S> {
    state: S,
    position: u64,
    rng: Rng,
}

/// The state of a training, on its way into a checkpoint; a copy of it when that is compared.
enum State<'a, S> {
    Given(&'a S),
    Copy(S),
}

impl<S: Serialize> Serialize for State<'_, S> {
    fn serialize<R: serde::Serializer>(
        &self,
        serializer: R,
    ) -> std::result::Result<R::Ok, R::Error> {
        match self {
            State::Given(state) => state.serialize(serializer),
            State::Copy(state) => state.serialize(serializer),
        }
    }
}

impl<'de, S: Deserialize<'de>> Deserialize<'de> for State<'_, S> {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        S::deserialize(deserializer).map(State::Copy)
    }
}

impl TrainContext {
    pub(crate) fn new(
        job: &JobContext,
        id: &str,
        spec: &TrainSpec,
        wall: Option<Duration>,
    ) -> Self {
        let runtime = Handle::current();
        let seed = spec.seed.unwrap_or_else(|| {
            let digest = superduper::Digest::of(id.as_bytes());
            digest.as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
        });
        let now = Instant::now();
        TrainContext {
            job: job.clone(),
            id: id.to_owned(),
            args: spec.args.clone(),
            strategy: spec.checkpoints.clone(),
            rng: Rng::new(seed),
            seed,
            runtime,
            // A limit beyond all clocks is none.
            deadline: wall.and_then(|wall| Some((now.checked_add(wall)?, wall))),
            position: 0,
            total: 0,
            reported: now,
            score: None,
            kept: Arc::default(),
            found: None,
            writing: None,
            last_written: None,
            keeps: false,
            stopped: false,
            at: None,
        }
    }

    /// Let a trigger of your own train as a training does: what `ctx.checkpoint` keeps is there for
    /// the trigger's next attempt, after a failure or a crash. The last checkpoint is kept.
    ///
    /// ```
    /// use superduper::prelude::*;
    /// use superduper_train::TrainContext;
    ///
    /// #[derive(Component)]
    /// struct Sum {
    ///     identifier: String,
    ///     steps: u64,
    /// }
    ///
    /// #[triggers]
    /// impl Sum {
    ///     #[trigger("apply")]
    ///     fn add(&self, job: &JobContext) -> Result<u64> {
    ///         TrainContext::in_job(job, |ctx| {
    ///             let mut sum: u64 = ctx.resume()?.unwrap_or(0);
    ///             for step in ctx.position()..self.steps {
    ///                 if ctx.step(step, self.steps)?.is_stop() {
    ///                     break;
    ///                 }
    ///                 sum += step;
    ///                 ctx.checkpoint(&sum)?;
    ///             }
    ///             Ok(sum)
    ///         })
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of `train`; a failed write of a checkpoint; `Unsupported` outside of a runtime, where
    /// no trigger is called.
    pub fn in_job<T>(
        job: &JobContext,
        train: impl FnOnce(&mut TrainContext) -> Result<T>,
    ) -> Result<T> {
        if let Err(error) = Handle::try_current() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a trigger was called outside of a runtime",
            )
            .with_source(error));
        }
        let checkpoints = Checkpoints { keep_last: 1, ..Checkpoints::default() };
        let mut context = TrainContext::new(
            job,
            &job.address().identifier,
            &TrainSpec { checkpoints, ..TrainSpec::default() },
            None,
        );
        let result = train(&mut context);
        let ended = context.end(result.is_ok());
        // What went wrong in the work itself says more than a failed checkpoint.
        let result = result?;
        ended?;
        Ok(result)
    }

    /// The id of the training.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The arguments.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// The plain argument at a path: `rate`, `0`, `options.depth`.
    ///
    /// # Errors
    /// `NotFound`; `Decode` where it is no `T`.
    pub fn arg<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.args.get(path)
    }

    /// The plain argument at a path, or a default where it was not given.
    ///
    /// # Errors
    /// `Decode` where it was given and is no `T`.
    pub fn arg_or<T: DeserializeOwned>(&self, path: &str, default: T) -> Result<T> {
        self.args.get_or(path, default)
    }

    /// The model at a path; jobs of one process that hold the same model share it.
    ///
    /// # Errors
    /// `NotFound`; `Decode` where it is no `M`.
    pub fn model<M: ComponentType>(&self, path: &str) -> Result<Arc<M>> {
        self.args.model(path)
    }

    /// Say which step begins, of how many. Cheap enough for every step of every loop: some tens of
    /// nanoseconds.
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`, or a pause; return it with `?`.
    pub fn step(&mut self, step: u64, total: u64) -> Result<Flow> {
        self.position = step;
        self.total = total;
        self.job.beat();
        let now = Instant::now();
        if now.duration_since(self.reported) >= REPORT {
            self.reported = now;
            self.job.progress(step, total);
        }
        if let Some((deadline, limit)) = self.deadline
            && now >= deadline
        {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("the attempt ran longer than its time limit of {limit:?}"),
            ));
        }
        match self.at {
            Some(At::Stop(at)) if step >= at => {
                self.stopped = true;
                return Ok(Flow::Stop);
            }
            Some(At::Interrupt(at)) if step >= at => {
                let text = format!("the test interrupts the training at step {step}");
                return Err(Error::new(ErrorKind::Cancelled, text));
            }
            _ => {}
        }
        match self.job.signal() {
            None => Ok(Flow::Continue),
            Some(JobSignal::Stop) => {
                self.stopped = true;
                Ok(Flow::Stop)
            }
            Some(JobSignal::Cancel | JobSignal::Continue) => {
                Err(self.job.check_cancelled().err().unwrap_or_else(|| Error::msg("cancelled")))
            }
            // A loop that writes checkpoints pauses at the next one, so that nothing is computed
            // twice.
            Some(JobSignal::Pause) if self.keeps => Ok(Flow::Continue),
            Some(JobSignal::Pause) => Err(self.paused()),
        }
    }

    fn paused(&self) -> Error {
        self.job.block(PAUSED).into()
    }

    /// Steps done: where [`resume`](TrainContext::resume) goes on.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Report a number of the current step.
    pub fn metric(&mut self, name: &str, value: f64) {
        if self.strategy.best.as_ref().is_some_and(|(best, _)| best == name) {
            self.score = Some(value).filter(|value| value.is_finite());
        }
        self.job.metric(name, self.position, value);
    }

    /// Keep the state after the current step, where the strategy of the training wants a checkpoint
    /// now.
    ///
    /// The state is encoded here; blobs and row are written beside the training. Large parts belong
    /// into `Artifact`s. Infinity and NaN are kept, bit for bit.
    ///
    /// # Errors
    /// `Encode`, with the path, for a state that would be read back as another one; a failed write
    /// of an earlier checkpoint; a pause, which is to be returned with `?`.
    pub fn checkpoint<S: Serialize + DeserializeOwned>(&mut self, state: &S) -> Result<()> {
        self.keeps = true;
        let done = self.position.saturating_add(1);
        let pause = self.job.signal() == Some(JobSignal::Pause);
        if !pause && !self.is_due(done) {
            return Ok(());
        }
        let whole = Whole { state: State::Given(state), position: done, rng: self.rng.clone() };
        let encoded =
            self.job.encode(&whole).map_err(|error| error.context("the state of a checkpoint"))?;
        self.found()?;
        self.finish_writing()?;
        // A number that was measured before the last checkpoint says nothing of this one.
        let score = self.score.take();
        let (job, kept, strategy) = (self.job.clone(), self.kept.clone(), self.strategy.clone());
        self.writing = Some(self.runtime.spawn(async move {
            let dropped =
                strategy.dropped(&kept.lock().unwrap_or_else(PoisonError::into_inner), score);
            let number = job.checkpoint(done, score, encoded, dropped.clone()).await?;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(number, _)| !dropped.contains(number));
            kept.push((number, score));
            Ok(())
        }));
        self.last_written = Some((done, Instant::now()));
        if pause {
            self.finish_writing()?;
            // It may have been taken back meanwhile.
            if self.job.signal() == Some(JobSignal::Pause) {
                return Err(self.paused());
            }
        }
        Ok(())
    }

    /// Whether to call [`checkpoint`](TrainContext::checkpoint) now, for loops whose state is
    /// costly to put together.
    ///
    /// `natural` says whether this is a good place for one, such as the end of an epoch: it decides
    /// where the training's strategy has no rhythm of its own (`every_steps` above 1, or `every`).
    /// A pause wants one in any case.
    pub fn checkpoint_due(&mut self, natural: bool) -> bool {
        self.keeps = true;
        let rhythm = self.strategy.every_steps > 1 || self.strategy.every.is_some();
        self.job.signal() == Some(JobSignal::Pause)
            || if rhythm { self.is_due(self.position.saturating_add(1)) } else { natural }
    }

    fn is_due(&self, done: u64) -> bool {
        let steps = self.strategy.every_steps.max(1);
        let waited = match (self.strategy.every, self.last_written) {
            (Some(every), Some((_, at))) => at.elapsed() >= every.get(),
            _ => true,
        };
        waited && done.is_multiple_of(steps)
    }

    /// Read what earlier attempts kept, the first time.
    fn found(&mut self) -> Result<&[CheckpointRow]> {
        if self.found.is_none() {
            let found = self.runtime.block_on(self.job.checkpoints())?;
            let own = found
                .iter()
                .filter(|row| Some(row.job) == self.job.job_id())
                .map(|row| (row.number, row.score));
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
            self.found = Some(found);
        }
        Ok(self.found.as_deref().unwrap_or_default())
    }

    /// Wait until all checkpoints so far are durable, such as before something outside is told of
    /// them.
    ///
    /// # Errors
    /// A failed write of a checkpoint.
    pub fn flush(&mut self) -> Result<()> {
        self.finish_writing()
    }

    /// Wait for the checkpoint that is being written.
    pub(crate) fn finish_writing(&mut self) -> Result<()> {
        match self.writing.take() {
            Some(writing) => self
                .runtime
                .block_on(writing)
                .map_err(|error| Error::internal(error.to_string()))?,
            None => Ok(()),
        }
    }

    /// The state that the last checkpoint kept, of this attempt or an earlier one; position and
    /// random state with it.
    ///
    /// # Errors
    /// `Decode` where it is no `S`; `Store`.
    pub fn resume<S: DeserializeOwned>(&mut self) -> Result<Option<S>> {
        let newest = self.found()?.last().cloned();
        let Some(whole) = newest.map(|row| self.read::<S>(row)).transpose()? else {
            return Ok(None);
        };
        self.position = whole.position;
        self.rng = whole.rng;
        self.job.log(format_args!("goes on after step {}", whole.position));
        Ok(Some(whole.state))
    }

    /// The state of the best checkpoint, by the metric of [`Checkpoints::best`]: of those that were
    /// written after a step that measured it.
    ///
    /// # Errors
    /// `Decode` where it is no `S`; `Store`, and a failed write of an earlier checkpoint.
    pub fn best<S: DeserializeOwned>(&mut self) -> Result<Option<S>> {
        self.finish_writing()?;
        let rows = self.runtime.block_on(self.job.checkpoints())?;
        // The numbers start from zero in each job that retries another job.
        let kept: Vec<Kept> = (0..).zip(&rows).map(|(place, row)| (place, row.score)).collect();
        let best = self.strategy.best_of(&kept).and_then(|place| usize::try_from(place).ok());
        let row = best.and_then(|place| rows.into_iter().nth(place));
        Ok(row.map(|row| self.read::<S>(row)).transpose()?.map(|whole| whole.state))
    }

    fn read<S: DeserializeOwned>(&self, row: CheckpointRow) -> Result<Whole<S>> {
        let CheckpointRow { job, number, data, .. } = row;
        self.decode(data, &format!("checkpoint {number} of job {job}")).map_err(Error::fatal)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, data: Value, name: &str) -> Result<T> {
        self.job.decode(data, name)
    }

    /// Add a line to the job's log.
    pub fn log(&self, message: impl fmt::Display) {
        self.job.log(message);
    }

    /// Random numbers: seeded by the training, their state kept in every checkpoint.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The seed of the training.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Await something, such as `artifact.get()`.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The job, as hooks and triggers have it.
    pub fn job(&self) -> &JobContext {
        &self.job
    }

    /// End it at a step, as a test wants.
    pub(crate) fn end_at(&mut self, at: Option<At>) {
        self.at = at;
    }

    /// The attempt is over: nothing is left half-written, and progress says so.
    pub(crate) fn end(&mut self, succeeded: bool) -> Result<()> {
        let written = self.finish_writing();
        if succeeded && self.total > 0 {
            // A training that ended early made fewer steps; the one at which it was told to stop
            // was not made.
            let done = self.position.saturating_add(u64::from(!self.stopped)).min(self.total);
            self.job.progress(done, self.total);
        }
        written
    }
}

impl fmt::Debug for TrainContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrainContext({}, step {} of {})", self.id, self.position, self.total)
    }
}
