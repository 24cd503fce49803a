//! A context without a database: for unit tests that call the `train` of a module.
//!
//! Invariant: it behaves as the context of a training job; what a database would keep is kept in
//! memory.

use crate::{
    arg::Arg,
    context::{At, TrainContext},
    module::{Train, Trained},
    spec::TrainSpec,
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
};
use superduper::{Encoded, JobContext, Result, job::TestContext};
use tokio::runtime::{Builder, Runtime};

/// A [`TrainContext`] for a unit test, made by [`TrainContext::for_test`]; it can be passed wherever
/// `&mut TrainContext` is wanted. Afterwards it tells what the training did with it.
///
/// Call it in a plain `#[test]`: a training blocks its thread, which a `#[tokio::test]` forbids.
///
/// ```
/// use superduper::prelude::*;
/// use superduper_train::prelude::*;
///
/// #[derive(Component, Clone)]
/// struct Mean {
///     identifier: String,
///     mean: f64,
/// }
///
/// impl Train for Mean {
///     fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
///         let (steps, mut sum) = (ctx.arg_or("steps", 10)?, ctx.resume()?.unwrap_or(0.0));
///         for step in ctx.position()..steps {
///             if ctx.step(step, steps)?.is_stop() {
///                 break;
///             }
///             sum += ctx.rng().next_f64();
///             ctx.metric("mean", sum / (step + 1) as f64);
///             ctx.checkpoint(&sum)?;
///         }
///         self.mean = sum / steps as f64;
///         ctx.log("done");
///         Ok(Trained::model(self.clone()))
///     }
/// }
/// trains!(Mean);
///
/// let mut module = Mean { identifier: "m".into(), mean: 0.0 };
/// let mut ctx = TrainContext::for_test().with_arg("steps", 4).with_seed(7);
/// let trained = ctx.train(&mut module)?;
/// assert_eq!(ctx.metric_values("mean").len(), 4);
/// assert_eq!(ctx.metric_values("mean").last(), Some(&trained.get::<Mean>()?.mean));
/// assert_eq!(ctx.logged(), ["done"]);
/// assert_eq!(ctx.progressed(), Some((4, 4)));
///
/// // An attempt that ends early, and one that goes on from its last checkpoint: to the same bits.
/// let mut early = TrainContext::for_test().with_arg("steps", 4).with_seed(7).interrupt_at(2);
/// assert!(early.train(&mut module).is_err());
/// let mut again = early.again();
/// assert_eq!(again.train(&mut module)?.get::<Mean>()?.mean, trained.get::<Mean>()?.mean);
/// # Ok::<(), superduper::Error>(())
/// ```
pub struct TestTrainContext {
    ctx: TrainContext,
    test: TestContext,
    spec: TrainSpec,
    at: Option<At>,
    /// For the parts of a training that wait; there until this is dropped.
    runtime: Option<Runtime>,
}

impl TrainContext {
    /// A context for a unit test that calls the `train` of a module, without trainer and database:
    /// see [`TestTrainContext`] for what it is given and what it tells.
    ///
    /// # Panics
    /// Where no thread can be started for the runtime under it.
    pub fn for_test() -> TestTrainContext {
        match Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => {
                TestTrainContext::of(JobContext::for_test(), TrainSpec::new(), None, Some(runtime))
            }
            Err(error) => panic!("the runtime of a test context cannot be started: {error}"),
        }
    }
}

impl TestTrainContext {
    fn of(test: TestContext, spec: TrainSpec, at: Option<At>, runtime: Option<Runtime>) -> Self {
        let id = spec.external_training_id.as_deref().unwrap_or("test");
        let entered = runtime.as_ref().map(Runtime::enter);
        let mut ctx = TrainContext::new(&test, id, &spec, None);
        ctx.end_at(at);
        drop(entered);
        TestTrainContext { ctx, test, spec, at, runtime }
    }

    fn with(mut self, change: impl FnOnce(TrainSpec) -> TrainSpec) -> Self {
        let attempt = self.test.attempt();
        let (spec, runtime) = (std::mem::take(&mut self.spec), self.runtime.take());
        let test = std::mem::replace(&mut self.test, JobContext::for_test());
        TestTrainContext::of(test.with_attempt(attempt), change(spec), self.at, runtime)
    }

    /// As for a training with this spec: arguments, seed, id and checkpoints. Where nothing is
    /// written, its paths mean nothing.
    pub fn with_spec(self, spec: TrainSpec) -> Self {
        self.with(|_| spec)
    }

    /// As for a training with this argument too.
    pub fn with_arg(self, name: impl Into<String>, arg: impl Into<Arg>) -> Self {
        self.with(|spec| spec.arg(name, arg))
    }

    /// As for a training with this seed.
    pub fn with_seed(self, seed: u64) -> Self {
        self.with(|spec| spec.seed(seed))
    }

    /// Ask the training at this step to end with what it has, as [`JobRun::stop`] does.
    ///
    /// [`JobRun::stop`]: crate::JobRun::stop
    pub fn stop_at(mut self, step: u64) -> Self {
        self.at = Some(At::Stop(step));
        self.with(|spec| spec)
    }

    /// End the attempt at this step with an error, as a cancel or a lost process would.
    /// [`again`](TestTrainContext::again) goes on.
    pub fn interrupt_at(mut self, step: u64) -> Self {
        self.at = Some(At::Interrupt(step));
        self.with(|spec| spec)
    }

    /// The next attempt: with the checkpoints of this one, and without the order to end at a step.
    pub fn again(mut self) -> Self {
        let attempt = self.test.attempt() + 1;
        self.at = None;
        let mut next = self.with(|spec| spec);
        let test = std::mem::replace(&mut next.test, JobContext::for_test());
        next.test = test.with_attempt(attempt);
        next.with(|spec| spec)
    }

    /// Train as a job does: [`Train::check`], the training, and whether its model can be stored.
    /// Hooks of the component are not called.
    ///
    /// # Errors
    /// Those of the module; `Encode` for a model that cannot be stored.
    pub fn train<M: Train>(&mut self, module: &mut M) -> Result<Trained> {
        module.check(self.ctx.args())?;
        let trained = module.train(&mut self.ctx);
        let ended = self.ctx.end(trained.is_ok());
        let trained = trained?;
        ended?;
        Encoded::of(&trained).map_err(|error| error.context("the trained model"))?;
        Ok(trained)
    }

    /// What was measured, in order: name, step and value.
    pub fn metrics(&self) -> Vec<(String, u64, f64)> {
        self.test.measured()
    }

    /// The values of one metric, in order.
    pub fn metric_values(&self, name: &str) -> Vec<f64> {
        let metrics = self.metrics().into_iter();
        metrics.filter(|(of, ..)| of == name).map(|(.., value)| value).collect()
    }

    /// The lines that were logged.
    pub fn logged(&self) -> Vec<String> {
        self.test.logged()
    }

    /// Steps done and in total, as last reported.
    pub fn progressed(&self) -> Option<(u64, u64)> {
        self.test.progressed()
    }

    /// The checkpoints that are kept, the newest last: numbers and steps done.
    ///
    /// # Errors
    /// A failed write of a checkpoint.
    pub fn checkpoints(&mut self) -> Result<Vec<(u32, u64)>> {
        self.ctx.flush()?;
        let rows = self.ctx.block_on(self.test.checkpoints())?;
        Ok(rows.into_iter().map(|row| (row.number, row.step)).collect())
    }
}

impl Deref for TestTrainContext {
    type Target = TrainContext;

    fn deref(&self) -> &TrainContext {
        &self.ctx
    }
}

impl DerefMut for TestTrainContext {
    fn deref_mut(&mut self) -> &mut TrainContext {
        &mut self.ctx
    }
}

impl Drop for TestTrainContext {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Without waiting, which is forbidden where a test is async.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for TestTrainContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestTrainContext({:?})", self.ctx)
    }
}
