//! The future of a trained model.

use crate::{
    handle::JobRun,
    kind::JobKind,
    retention::purge,
    submit::submit,
    training::{Made, Training},
};
use std::{ops::Deref, sync::Arc};
use superduper::{Component, ComponentType, Db, Error, ErrorKind, Result};

/// A training that was submitted: the future of its model.
///
/// All of [`JobRun`] can be called on it. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct TrainingRun(JobRun);

impl Deref for TrainingRun {
    type Target = JobRun;
    fn deref(&self) -> &JobRun {
        &self.0
    }
}

impl From<JobRun> for TrainingRun {
    fn from(run: JobRun) -> Self {
        TrainingRun(run)
    }
}

impl TrainingRun {
    pub(crate) async fn submit(db: &Db, training: &Training) -> Result<Self> {
        let id = &training.identifier;
        let path = training.spec.artifact_path(id)?;
        let (run, of, job) = submit(db, training, JobKind::Training, id).await?;
        Ok(TrainingRun(JobRun::new(db.clone(), JobKind::Training, id, (of, job), path, Some(run))))
    }

    pub(crate) async fn find(db: &Db, id: &str) -> Result<Self> {
        JobRun::find(db, JobKind::Training, id).await.map(TrainingRun)
    }

    /// Wait, and load the trained model; its blobs are read when they are asked for.
    ///
    /// # Errors
    /// `JobFailed` with the training's own error and its causes, `Cancelled`, `Gone` for one that
    /// was purged, `Decode` for a model of another type.
    pub async fn load<M: ComponentType>(&self) -> Result<M> {
        let Made { model, .. } = self.made().await?;
        let kind = model.kind();
        let wrong = || {
            Error::new(
                ErrorKind::Decode,
                format!("training `{}` made a `{kind}`, not a `{}`", self.id(), M::__kind()),
            )
        };
        // It was decoded for this call alone.
        let any: Arc<dyn std::any::Any + Send + Sync> = model;
        any.downcast::<M>().ok().and_then(Arc::into_inner).ok_or_else(wrong)
    }

    /// The same as [`TrainingRun::load`].
    ///
    /// # Errors
    /// As for [`TrainingRun::load`].
    pub async fn result<M: ComponentType>(&self) -> Result<M> {
        self.load().await
    }

    /// Wait, and load the trained model, whatever its type.
    ///
    /// # Errors
    /// As for [`TrainingRun::load`].
    pub async fn load_dyn(&self) -> Result<Arc<dyn Component>> {
        self.made().await.map(|made| made.model)
    }

    async fn made(&self) -> Result<Made> {
        let result = self.finished().await?;
        self.db.decode(result, &format!("the model of training `{}`", self.id()))
    }

    /// Go on; see [`JobRun::resume`].
    ///
    /// # Errors
    /// As for [`JobRun::resume`].
    pub async fn resume(&self) -> Result<Self> {
        self.0.resume().await.map(TrainingRun)
    }

    /// Wait for it together with the process that runs it, and take it over where that process dies.
    pub(crate) async fn lead(self) -> Result<Self> {
        self.0.lead().await.map(TrainingRun)
    }

    /// Purge it now: its result, checkpoints and files go, the record stays.
    ///
    /// # Errors
    /// `Conflict` while a job of its id is unfinished, and where it is pinned; `Gone` where it was
    /// purged before.
    pub async fn purge(&self) -> Result<()> {
        purge(&self.0).await
    }
}
