//! Batch prediction on the same base as training: the result is a file of its own.

use crate::{
    arg::Arg,
    args::Args,
    base::{JobBase, pool},
    checkpoints::Checkpoints,
    context::TrainContext,
    handle::JobRun,
    kind::JobKind,
    retention::purge,
    save_path::SavePath,
    span::Span,
    spec::TrainSpec,
    submit::submit,
    training::set_up,
    written::Written,
};
use serde::{Deserialize, Serialize};
use std::{io::Write, ops::Deref, path::PathBuf, sync::Arc};
use superduper::{ComponentType, Digest, Encoded, Inline, JobPolicy, prelude::*};

/// A component that can work on a batch; make it known with [`predictors!`](crate::predictors).
///
/// Guarantees and assumptions are those of [`Train`](crate::Train).
pub trait Predict: ComponentType {
    /// Work on the batch that the arguments describe, and give the content of the result file.
    ///
    /// # Errors
    /// Any; the job is then ERRORED.
    fn predict(&mut self, ctx: &mut TrainContext) -> Result<Bytes>;
}

/// What [`predictors!`](crate::predictors) submits for a type.
#[doc(hidden)]
pub struct PredictEntry {
    pub kind: fn() -> &'static str,
    pub predict: fn(Box<dyn Component>, &mut TrainContext) -> Result<Bytes>,
}
inventory::collect!(PredictEntry);

impl PredictEntry {
    /// The entry of a type.
    pub const fn of<M: Predict>() -> Self {
        PredictEntry {
            kind: M::__kind,
            predict: |model, ctx| superduper::downcast::<M>(model)?.predict(ctx),
        }
    }
}

/// Make types with an `impl Predict` known: `predictors!(Classifier);`.
#[macro_export]
macro_rules! predictors {
    ($($type:ty),+ $(,)?) => {$(
        $crate::__private::inventory::submit! { $crate::__private::PredictEntry::of::<$type>() }
    )+};
}

/// The code that predicts with models of a kind.
pub(crate) fn predicts(kind: &str) -> Result<&'static PredictEntry> {
    inventory::iter::<PredictEntry>.into_iter().find(|entry| (entry.kind)() == kind).ok_or_else(
        || {
            let short = kind.rsplit('.').next().unwrap_or(kind);
            Error::new(
                ErrorKind::UnknownKind,
                format!("this program does not know how to predict with `{kind}`"),
            )
            .with_hint(format!(
                "write `superduper_train::predictors!({short});` beside its `impl Predict`"
            ))
            .fatal()
        },
    )
}

/// What is asked of one batch prediction.
#[derive(Debug, Clone, Default)]
pub struct PredictSpec {
    pub(crate) args: Args,
    pub(crate) id: Option<String>,
    pub(crate) retention: Option<Span>,
    pub(crate) seed: Option<u64>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) wait: bool,
}

impl PredictSpec {
    /// The defaults.
    pub fn new() -> Self {
        PredictSpec::default()
    }

    /// Add a named argument.
    pub fn arg(mut self, name: impl Into<String>, arg: impl Into<Arg>) -> Self {
        self.args.named.insert(name.into(), arg.into());
        self
    }

    /// Add a positional argument.
    pub fn positional(mut self, arg: impl Into<Arg>) -> Self {
        self.args.positional.push(arg.into());
        self
    }

    /// Choose which checkpoints are written and kept.
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Let `predict` wait for the end.
    pub fn wait(mut self) -> Self {
        self.wait = true;
        self
    }

    /// Set the id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// How long the job and its result are kept, instead of what the trainer says.
    pub fn retention(mut self, retention: impl Into<Span>) -> Self {
        self.retention = Some(retention.into());
        self
    }

    /// Set the seed of `ctx.rng()`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

/// A batch prediction as a component.
#[derive(Component, Clone)]
#[component(kind = "superduper.Prediction")]
pub struct Prediction {
    pub(crate) identifier: String,
    pub(crate) owner: String,
    pub(crate) base: JobBase,
    #[component(breaking)]
    pub(crate) model: Inline<Arc<dyn Component>>,
    #[component(breaking)]
    pub(crate) args: Args,
    #[component(breaking)]
    pub(crate) seed: Option<u64>,
    #[component(breaking, default)]
    pub(crate) checkpoints: Checkpoints,
    pub(crate) folder: String,
    #[component(breaking)]
    pub(crate) submission: String,
    #[component(default)]
    pub(crate) retention: Option<Span>,
}

/// What the job's result holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Predicted {
    file: PathBuf,
    written: Written,
}

#[triggers]
impl Prediction {
    fn policy(&self) -> JobPolicy {
        self.base.policy(pool(&self.owner))
    }

    #[trigger("apply", policy = "policy")]
    fn run(&self, ctx: &JobContext) -> Result<Predicted> {
        let entry = predicts(self.model.0.kind())?;
        let spec = TrainSpec {
            args: self.args.clone(),
            seed: self.seed,
            checkpoints: self.checkpoints.clone(),
            ..TrainSpec::default()
        };
        let mut context =
            TrainContext::new(ctx, &self.identifier, &spec, self.base.limits.wall.map(Span::get));
        let copy: Box<dyn Component> =
            context.decode(Encoded::checked(&self.model)?.value().clone(), "the model")?;
        set_up(&context, &*copy)?;
        let result = (entry.predict)(copy, &mut context);
        context.end(result.is_ok())?;
        let result = result?;
        let folder = PathBuf::from(&self.folder).join(&self.identifier);
        let mut written = Written::folder(&folder, ctx)?;
        let file = folder.join("result");
        written.file(&file, Digest::of(&result), ctx, |file| Ok(file.write_all(&result)?))?;
        Ok(Predicted { file, written })
    }
}

/// A batch prediction that was submitted. All of [`JobRun`] can be called on it.
#[derive(Debug, Clone)]
pub struct PredictionRun(JobRun);

impl Deref for PredictionRun {
    type Target = JobRun;
    fn deref(&self) -> &JobRun {
        &self.0
    }
}

impl From<JobRun> for PredictionRun {
    fn from(run: JobRun) -> Self {
        PredictionRun(run)
    }
}

impl PredictionRun {
    pub(crate) async fn submit(db: &Db, prediction: &Prediction) -> Result<Self> {
        let id = &prediction.identifier;
        let path = SavePath::Folder(PathBuf::from(&prediction.folder).join(id));
        let (run, of, job) = submit(db, prediction, JobKind::Prediction, id).await?;
        Ok(PredictionRun(JobRun::new(
            db.clone(),
            JobKind::Prediction,
            id,
            (of, job),
            Some(path),
            Some(run),
        )))
    }

    pub(crate) async fn find(db: &Db, id: &str) -> Result<Self> {
        JobRun::find(db, JobKind::Prediction, id).await.map(PredictionRun)
    }

    /// Wait, and give the file of the result.
    ///
    /// # Errors
    /// `JobFailed`, `Cancelled`, `Gone`.
    pub async fn result_file(&self) -> Result<PathBuf> {
        let result: Predicted =
            self.db.decode(self.finished().await?, "the result of a prediction")?;
        Ok(result.file)
    }

    /// Wait, and read the result.
    ///
    /// # Errors
    /// As for [`PredictionRun::result_file`]; `NotFound` where somebody deleted the file.
    pub async fn result(&self) -> Result<Bytes> {
        let file = self.result_file().await?;
        let read = tokio::task::spawn_blocking(move || {
            std::fs::read(&file).map_err(|error| (file, error))
        })
        .await;
        let read = read.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        read.map(Bytes::from).map_err(|(file, error)| {
            Error::not_found(format!("the result `{}` cannot be read", file.display()))
                .with_source(error)
        })
    }

    /// Go on; see [`JobRun::resume`].
    ///
    /// # Errors
    /// As for [`JobRun::resume`].
    pub async fn resume(&self) -> Result<Self> {
        self.0.resume().await.map(PredictionRun)
    }

    /// Purge it now: result, file and folder go, the record stays.
    ///
    /// # Errors
    /// `Conflict` while a job of its id is unfinished, and where it is pinned; `Gone` where it was
    /// purged before.
    pub async fn purge(&self) -> Result<()> {
        purge(&self.0).await
    }
}
