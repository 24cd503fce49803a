//! What executors and models are given at a site.

use crate::{
    site::{Site, SiteData},
    strategy::ClientSettings,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{fmt, fmt::Debug, sync::Arc};
use superduper::{Component, Encoded, Error, ErrorKind, JobContext, Result};

/// What an executor and a model may use at a site.
pub struct SiteContext<'a> {
    pub(crate) job: &'a JobContext,
    pub(crate) site: &'a Site,
    pub(crate) model: Arc<dyn Component>,
    pub(crate) args: Map<String, Value>,
    pub(crate) num_classes: usize,
    pub(crate) client: ClientSettings,
    pub(crate) round: u64,
    pub(crate) seed: u64,
    pub(crate) runtime: tokio::runtime::Handle,
    /// What stands in for the data of the site.
    pub(crate) replaced: Option<Arc<dyn SiteData>>,
    pub(crate) private: Map<String, Value>,
    pub(crate) public: Map<String, Value>,
}

impl SiteContext<'_> {
    /// The name of the site.
    pub fn site(&self) -> &str {
        &self.site.name
    }

    /// The data of the site.
    ///
    /// # Errors
    /// `InvalidInput` for a site without data.
    pub fn data(&self) -> Result<&dyn SiteData> {
        self.replaced.as_deref().or(self.site.data.as_deref()).ok_or_else(|| {
            Error::invalid(format!("site `{}` has no data in this database", self.site.name))
        })
    }

    /// The data of the site, where it is of this type.
    ///
    /// # Errors
    /// `InvalidInput` for data of another type.
    pub fn data_as<D: SiteData + 'static>(&self) -> Result<&D> {
        let data = self.data()?;
        data.as_any().downcast_ref().ok_or_else(|| {
            let (wanted, found) = (std::any::type_name::<D>(), data.typetag_name());
            let text = format!("site `{}` has data of type `{found}`", self.site.name);
            Error::invalid(text).with_hint(format!("this model reads `{wanted}`"))
        })
    }

    /// Replace the data of the site, for the rest of this task. [`data`](SiteContext::data) and
    /// [`data_as`](SiteContext::data_as) then return the new data. So an executor can load the data
    /// itself and leave the rest to [`DefaultExecutor`](crate::DefaultExecutor).
    pub fn replace_data(&mut self, data: impl SiteData + 'static) {
        self.replaced = Some(Arc::new(data));
    }

    /// The model, as it was applied: its settings, not its weights. For a training of a
    /// [`ModelConfig`](crate::ModelConfig) it is the model that this stands for.
    pub fn model(&self) -> &dyn Component {
        &*self.model
    }

    /// All settings by name: those of the training's `config`, and its `extra`, which wins.
    pub fn args(&self) -> &Map<String, Value> {
        &self.args
    }

    /// One setting.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not there; `Decode` for a value of another type.
    pub fn arg<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.args.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.args.keys().map(String::as_str).collect();
            Error::invalid(format!("there is no setting `{name}`"))
                .with_hint(format!("there are {}; others go into `extra`", known.join(", ")))
        })?;
        serde_json::from_value(value.clone()).map_err(|error| {
            Error::new(ErrorKind::Decode, format!("the setting `{name}` is {value}: {error}"))
        })
    }

    /// Set a setting, for the rest of this task. The model sees it, also if
    /// [`DefaultExecutor`](crate::DefaultExecutor) calls the model. It does not change
    /// [`num_classes`](SiteContext::num_classes).
    ///
    /// # Errors
    /// `Encode` for a value that JSON cannot hold, such as a NaN.
    pub fn set_arg(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        self.args.insert(name.into(), encoded(&value)?);
        Ok(())
    }

    /// A property of this task that stays at the site: it is in the memory of this task only.
    pub fn private(&self, name: &str) -> Option<&Value> {
        self.private.get(name)
    }

    /// Set a property that stays at the site, for the rest of this task.
    ///
    /// # Errors
    /// `Encode` for what JSON cannot hold.
    pub fn set_private(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        self.private.insert(name.into(), encoded(&value)?);
        Ok(())
    }

    /// A property that goes with the answer of the site.
    pub fn public(&self, name: &str) -> Option<&Value> {
        self.public.get(name)
    }

    /// Set a property that goes with the answer of the site. It is on record in the
    /// [`Answer`](crate::Answer), which [`ModelTrainer::answers`](crate::ModelTrainer::answers) gives.
    ///
    /// # Errors
    /// `Encode` for what JSON cannot hold.
    pub fn set_public(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        self.public.insert(name.into(), encoded(&value)?);
        Ok(())
    }

    /// The number of classes, from `config` or from the data of the sites; 0 if neither has it.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// What the strategy asks of sites, such as FedProx's μ.
    pub fn client(&self) -> ClientSettings {
        self.client
    }

    /// The round, from 0. For `swag` and `test` the number of rounds done.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// A seed that is a function of the training's seed, the site, the task and the round.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the task should end early.
    pub fn aborted(&self) -> bool {
        self.job.cancelled()
    }

    /// Fail if the task should end early. Call it with `?` in long loops.
    ///
    /// # Errors
    /// `Cancelled` if the job was cancelled; `Timeout` if its time is over.
    pub fn check_abort(&self) -> Result<()> {
        self.job.check_cancelled()
    }

    /// Send a heartbeat. A job without one for `federation.heart_beat_timeout` seconds fails as
    /// timed out.
    pub fn beat(&self) {
        self.job.beat();
    }

    /// Add a line to the log of the site's job.
    pub fn log(&self, message: impl fmt::Display) {
        self.job.log(message);
    }

    /// Record a point of a curve; readable while the job runs.
    pub fn metric(&self, name: &str, step: u64, value: f64) {
        self.job.metric(name, step, value);
    }

    /// Wait for something async, such as `tensors.get(name)`.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The site's job.
    pub fn job(&self) -> &JobContext {
        self.job
    }
}

/// A value as JSON; what JSON cannot hold, such as a NaN, is refused.
pub(crate) fn encoded(value: &impl Serialize) -> Result<Value> {
    Ok(Encoded::of(value)?.value().clone())
}

impl Debug for SiteContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteContext({}, round {})", self.site.name, self.round)
    }
}
