//! The trait of a persistor, and what it may use.

use super::RoundReport;
use crate::{class::HasClass, model::entry};
use std::{fmt::Debug, sync::Arc};
use superduper::{Component, Error, ErrorKind, JobContext, Result, Tensors};

/// What a persistor may use.
pub struct PersistContext<'a> {
    /// The job, unless a program asks for a model.
    pub(crate) job: Option<&'a JobContext>,
    pub(crate) identifier: &'a str,
    pub(crate) model: Arc<dyn Component>,
    /// The shape of a row of the sites' data.
    pub(crate) input: Vec<usize>,
    pub(crate) num_classes: usize,
    pub(crate) seed: u64,
    pub(crate) uuid: &'a str,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl PersistContext<'_> {
    /// The model, as it was applied.
    pub fn model(&self) -> &dyn Component {
        &*self.model
    }

    /// The model's own weights before the first round.
    ///
    /// # Errors
    /// Those of [`FederatedModel::initial`](crate::FederatedModel::initial).
    pub fn initial(&self) -> Result<Tensors> {
        let initial = entry(self.model.kind())?.initial;
        initial(&*self.model, &self.input, self.num_classes, self.seed)
    }

    /// The uuid of this version of the training. Empty if a program calls
    /// [`ModelTrainer::saved_models`](crate::ModelTrainer::saved_models) or
    /// [`ModelTrainer::saved_model`](crate::ModelTrainer::saved_model) before the training has a uuid.
    pub fn training_uuid(&self) -> &str {
        self.uuid
    }

    /// The identifier of the training.
    pub fn training(&self) -> &str {
        self.identifier
    }

    /// Add a line to the log of the job, if there is one.
    pub fn log(&self, message: impl std::fmt::Display) {
        if let Some(job) = self.job {
            job.log(message);
        }
    }

    /// Wait for something async, such as `tensors.get(name)`.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl Debug for PersistContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PersistContext({})", self.uuid)
    }
}

/// Loads the first global model and saves each one. The field of a training is named `persistor`.
///
/// Whatever it does, the database keeps the newest global model, so that a training continues after
/// a crash. A persistor of your own derives `Debug`, `Serialize` and `Deserialize`, and its
/// implementation is marked `#[typetag::serde(name = "my_crate.MyPersistor")]`. It runs on a thread
/// that may block.
#[typetag::serde(tag = "type")]
pub trait ModelPersistor: HasClass + Debug + Send + Sync {
    /// The weights before the first round, with the names, shapes and types of the model's own.
    /// Called once; again only if the start was not recorded.
    ///
    /// # Errors
    /// Any; the training is then ERROR.
    fn load(&self, ctx: &PersistContext<'_>) -> Result<Tensors> {
        ctx.initial()
    }

    /// Save the global model. Called after each aggregation, also after the last one. `rounds` is
    /// the number of rounds done, from 1.
    ///
    /// It is called again for a round whose end was not recorded. A round in which sites only pass
    /// their models on (see [`FedDC`](crate::FedDC)) saves nothing.
    ///
    /// Return `None` to continue the training with `weights`. A persistor that stores other
    /// numbers, such as weights rounded to int8, returns the weights as they will be read back, and
    /// the training continues with those. They need the names, shapes and types of `weights`;
    /// the training is ERROR otherwise.
    ///
    /// # Errors
    /// Any; the training is then ERROR, and the local updates are kept.
    fn save(
        &self,
        weights: &Tensors,
        rounds: u64,
        ctx: &PersistContext<'_>,
    ) -> Result<Option<Tensors>> {
        let _ = (weights, rounds, ctx);
        Ok(None)
    }

    /// Record a report of a round. Called after [`save`](ModelPersistor::save) with the results of
    /// the training, and after each model test with the results of the test. Called only if
    /// [`wants_reports`](ModelPersistor::wants_reports) is `true`.
    ///
    /// It is called again with an equal report if the end of its job was not recorded. Replace the
    /// earlier report with the same `rounds` and `task` then.
    ///
    /// # Errors
    /// Any; the training is then ERROR, and the local updates are kept.
    fn report(&self, report: &RoundReport, ctx: &PersistContext<'_>) -> Result<()> {
        let _ = (report, ctx);
        Ok(())
    }

    /// Whether [`report`](ModelPersistor::report) is called. The default is `false`, because each
    /// report costs one query of the database per site.
    fn wants_reports(&self) -> bool {
        false
    }

    /// The names of the models that [`get`](ModelPersistor::get) can load, oldest first. The
    /// default is an empty list.
    ///
    /// [`ModelTrainer::saved_models`](crate::ModelTrainer::saved_models) calls this outside of a job, so
    /// [`PersistContext::log`] does nothing here.
    ///
    /// # Errors
    /// Any.
    fn inventory(&self, ctx: &PersistContext<'_>) -> Result<Vec<String>> {
        let _ = ctx;
        Ok(Vec::new())
    }

    /// A model by its name. Programs ask with [`ModelTrainer::saved_model`](crate::ModelTrainer::saved_model).
    ///
    /// # Errors
    /// `Unsupported` unless the persistor implements it.
    fn get(&self, name: &str, ctx: &PersistContext<'_>) -> Result<Tensors> {
        let _ = (name, ctx);
        let text = format!("the persistor {self:?} gives no models by name");
        Err(Error::new(ErrorKind::Unsupported, text))
    }
}
