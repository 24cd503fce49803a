//! The training as a component. Its triggers are the phases of a round.
//!
//! Invariant: what a phase decides is recorded together with the jobs that follow from it, in one
//! commit. So a phase that is tried again finds either nothing or all of it.

use crate::{
    Strategy,
    config::{FederationConfig, TrainerOptions, TrainingConfig, UncertaintyMethod},
    departure::Departure,
    executor::{ClientExecutor, DefaultExecutor},
    gate::Submitter,
    model::FederatedModel,
    notify::Endpoint,
    persistor::{DefaultPersistor, ModelPersistor},
    site::Site,
    state::{Answer, GlobalModel, Progress, Started},
    updates,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use superduper::{Artifact, Inline, Tensors, address::check_identifier, prelude::*};

/// A model that is trained over many sites, whose data stays where it is.
///
/// Applying it trains. `.jobs(false)` stores it without starting: its state is INITIAL until
/// [`ModelTrainer::start`](crate::ModelTrainer::start) or a plain apply. Applying an equal training
/// again runs nothing. Another model, strategy, configuration or set of sites is a new version,
/// which is a new training with a new uuid. A larger `federation.num_rounds` goes on with the same
/// training.
#[derive(Component)]
#[component(kind = "superduper.FederatedTraining")]
pub struct FederatedTraining {
    pub(crate) identifier: String,
    /// The model: a component with an `impl FederatedModel`.
    #[component(breaking)]
    pub model: Inline<Arc<dyn Component>>,
    /// The sites that take part.
    #[component(breaking, default)]
    pub sites: Vec<Site>,
    /// Data of the coordinator: each global model that the sites test is tested on it, too. Its
    /// metrics have `central/` before their names.
    #[component(breaking, default)]
    pub central: Option<Site>,
    /// Where the owner of the training is told of its end.
    #[component(default)]
    pub actor: Option<Box<dyn Endpoint>>,
    /// How the global model is made from those of the sites.
    #[component(breaking)]
    pub strategy: Box<dyn Strategy>,
    /// How each site trains.
    #[component(breaking, default)]
    pub config: TrainingConfig,
    /// Rounds, quorum and time limits.
    #[component(default)]
    pub federation: FederationConfig,
    /// What the trainer does around the rounds.
    #[component(default)]
    pub options: TrainerOptions,
    /// How the uncertainty of predictions is found.
    #[component(breaking, default)]
    pub uncertainty: UncertaintyMethod,
    /// The seed of everything random in the training.
    #[component(breaking, default)]
    pub seed: u64,
    /// What a site runs.
    #[component(breaking, default = Box::new(DefaultExecutor {}))]
    pub executor: Box<dyn ClientExecutor>,
    /// Where global models come from and go to, beside the database.
    #[component(breaking, default = Box::new(DefaultPersistor::default()))]
    pub persistor: Box<dyn ModelPersistor>,
    /// The weights before the first round, if they are not those of the model or the persistor.
    #[component(breaking, default)]
    pub weights: Option<Artifact<Tensors>>,
    /// Who submits the training, and what for: gates of sites are told.
    #[component(default)]
    pub submitter: Option<Submitter>,
    /// What was started, by its hashes.
    pub started: Output<Started>,
    /// A random uuid (version 4) of this version of the training.
    pub training_uuid: Output<String>,
    /// Where the training stands.
    pub progress: Output<Progress>,
    /// The newest global model.
    pub global: Output<GlobalModel>,
    /// What the embedded sites predicted for their rows, by site, if the options ask for it.
    pub predictions: Output<BTreeMap<String, Artifact<Tensors>>>,
}

/// The model of a training, for its builder.
///
/// ```
/// # use superduper::prelude::*;
/// # use superduper_federated::{FedAvg, FederatedTraining, federated_model};
/// # use superduper_federated::{FederatedModel, SiteContext, Tested, Trained, federates};
/// # #[derive(Component, Clone)]
/// # #[component(kind = "doc.BuiltMean")]
/// # struct Mean { identifier: String }
/// # impl FederatedModel for Mean {
/// #     fn initial(&self, _: usize, _: u64) -> Result<Tensors> { Ok(Tensors::new()) }
/// #     fn train(&self, weights: Tensors, _: &mut SiteContext<'_>) -> Result<Trained> {
/// #         Ok(Trained { weights, samples: 1, metrics: Default::default() })
/// #     }
/// #     fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
/// #         Ok(Tested::default())
/// #     }
/// # }
/// # federates!(Mean);
/// let mean = federated_model(Mean { identifier: "mean".into() });
/// let training = FederatedTraining::builder("mean").model(mean).strategy(Box::new(FedAvg {})).build()?;
/// # Ok::<(), Error>(())
/// ```
pub fn federated_model(model: impl Component) -> Inline<Arc<dyn Component>> {
    Inline(Arc::new(model))
}

impl FederatedTraining {
    /// A training of this model. Other settings are fields.
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// use superduper_federated::{FedAvg, FederatedTraining};
    /// # use superduper_federated::{FederatedModel, SiteContext, Tested, Trained};
    /// # #[derive(Component, Clone)]
    /// # struct Mean { identifier: String }
    /// # impl FederatedModel for Mean {
    /// #     fn initial(&self, _: usize, _: u64) -> Result<Tensors> { Ok(Tensors::new()) }
    /// #     fn train(&self, weights: Tensors, _: &mut SiteContext<'_>) -> Result<Trained> {
    /// #         Ok(Trained { weights, samples: 1, metrics: Default::default() })
    /// #     }
    /// #     fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
    /// #         Ok(Tested::default())
    /// #     }
    /// # }
    /// let mut training = FederatedTraining::new("mean", Mean { identifier: "m".into() }, FedAvg {});
    /// training.federation.num_rounds = 20;
    /// ```
    pub fn new(
        identifier: impl Into<String>,
        model: impl FederatedModel,
        strategy: impl Strategy + 'static,
    ) -> Self {
        FederatedTraining {
            identifier: identifier.into(),
            model: federated_model(model),
            sites: Vec::new(),
            central: None,
            actor: None,
            strategy: Box::new(strategy),
            config: TrainingConfig::default(),
            federation: FederationConfig::default(),
            options: TrainerOptions::default(),
            uncertainty: UncertaintyMethod::None,
            seed: 0,
            executor: Box::new(DefaultExecutor {}),
            persistor: Box::new(DefaultPersistor::default()),
            weights: None,
            submitter: None,
            started: Output::empty(),
            training_uuid: Output::empty(),
            progress: Output::empty(),
            global: Output::empty(),
            predictions: Output::empty(),
        }
    }

    /// Train over these sites.
    #[must_use]
    pub fn sites(mut self, sites: impl IntoIterator<Item = Site>) -> Self {
        self.sites = sites.into_iter().collect();
        self
    }

    /// Set the number of rounds.
    #[must_use]
    pub fn rounds(mut self, rounds: u64) -> Self {
        self.federation.num_rounds = rounds;
        self
    }

    pub(crate) fn site(&self, name: &str) -> Result<&Site> {
        self.sites.iter().chain(&self.central).find(|site| site.name == name).ok_or_else(|| {
            let text = format!("`{name}` is no participant of training `{}`", self.identifier);
            Error::not_found(text)
        })
    }

    /// The uuid of this version.
    ///
    /// # Errors
    /// `NotFound` before `on_create` has run.
    pub(crate) fn uuid(&self) -> Result<Arc<String>> {
        self.training_uuid.get()
    }

    /// Where it stands; INITIAL where nothing is on record.
    pub(crate) fn stands(&self) -> Progress {
        self.progress.get().map(|progress| (*progress).clone()).unwrap_or_default()
    }

    fn check_sites(&self) -> Result<()> {
        let mut names = HashSet::new();
        for site in self.sites.iter().chain(&self.central) {
            check_identifier(&site.name)
                .map_err(|error| error.context(format_args!("site `{}`", site.name)))?;
            if site.name.len() > 150 {
                let text = format!("the name of site `{}` has more than 150 bytes", site.name);
                return Err(Error::invalid(text));
            }
            if !names.insert(site.name.as_str()) {
                return Err(Error::invalid(format!("site `{}` is there twice", site.name))
                    .with_hint("names of sites are unique in a training"));
            }
            site.jobs
                .check()
                .map_err(|error| error.context(format_args!("site `{}`", site.name)))?;
            site.filters.iter().try_for_each(|filter| {
                filter.check().map_err(|error| error.context(format_args!("site `{}`", site.name)))
            })?;
            self.check_hidden(site)?;
        }
        Ok(())
    }

    /// Refuse a strategy that looks at single updates behind a filter that hides them.
    fn check_hidden(&self, site: &Site) -> Result<()> {
        match site.filters.iter().find(|filter| filter.hides_single_updates()) {
            Some(filter) if self.strategy.needs_single_updates() => {
                let (strategy, filter) = (self.strategy.name(), filter.name());
                let text = format!(
                    "the strategy `{strategy}` looks at the update of each site, but the filter \
                     `{filter}` of site `{}` hides it",
                    site.name
                );
                Err(Error::invalid(text)
                    .with_hint("use a strategy that needs only the sum, such as FedAvg"))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for FederatedTraining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FederatedTraining({}, {} sites)", self.identifier, self.sites.len())
    }
}

impl Lifecycle for FederatedTraining {
    fn postinit(&mut self) -> Result<()> {
        self.config.check()?;
        if !self.training_uuid.is_set() {
            // What is on record was checked, perhaps by a program that has its code.
            self.check_model()?;
        }
        self.check_sites()?;
        self.federation.check(self.sites.len())?;
        if !self.sites.is_empty() {
            let least = match self.federation.min_clients {
                0 => self.sites.len(),
                least => least,
            };
            self.strategy.check(self.sites.len(), least)?;
        }
        Ok(())
    }

    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        // A retried hook whose first try was recorded finds the uuid.
        if !self.training_uuid.is_set() {
            ctx.set(&self.training_uuid, uuid::Uuid::new_v4().to_string())?;
        }
        Ok(())
    }

    /// Remove what the training put on record beside itself.
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> {
        // A training that never started put nothing there.
        let Ok(uuid) = self.uuid() else { return Ok(()) };
        let db = ctx.db()?;
        updates::remove_all(&db, &uuid).await?;
        Departure::remove_all(&db, &uuid).await?;
        updates::forget(&uuid);
        Ok(())
    }
}

#[triggers]
impl FederatedTraining {
    #[trigger("apply", watch = "federation")]
    fn start(&self, ctx: &JobContext) -> Result<()> {
        self.do_start(ctx)
    }

    #[trigger("call")]
    async fn open(&self, ctx: &JobContext) -> Result<()> {
        self.do_open(ctx).await
    }

    /// The job of a site: `train`, `swag` or `test`.
    #[trigger("call")]
    fn site_task(&self, ctx: &JobContext) -> Result<Answer> {
        self.do_site_task(ctx)
    }

    /// The job of a remote site: it waits for the answer.
    #[trigger("call")]
    async fn remote_task(&self, ctx: &JobContext) -> Result<Answer> {
        self.do_remote_task(ctx).await
    }

    /// An answer has arrived: is the round complete?
    #[trigger("call")]
    async fn heard(&self, ctx: &JobContext) -> Result<()> {
        self.do_heard(ctx).await
    }

    /// Close a round at a point in time.
    #[trigger("call")]
    async fn timer(&self, ctx: &JobContext) -> Result<()> {
        self.do_timer(ctx).await
    }

    /// Stop waiting for the answers of a model test, or for moments.
    #[trigger("call")]
    async fn cutoff(&self, ctx: &JobContext) -> Result<()> {
        self.do_cutoff(ctx).await
    }

    #[trigger("call")]
    async fn gather(&self, ctx: &JobContext) -> Result<()> {
        self.do_gather(ctx).await
    }

    /// Returns the number of updates that the round was ended with; 0 where sites are asked again.
    #[trigger("call")]
    fn aggregate(&self, ctx: &JobContext) -> Result<usize> {
        self.do_aggregate(ctx)
    }

    #[trigger("call")]
    fn swag(&self, ctx: &JobContext) -> Result<()> {
        self.do_swag(ctx)
    }

    #[trigger("call")]
    fn decide(&self, ctx: &JobContext) -> Result<()> {
        self.do_decide(ctx)
    }

    #[trigger("call")]
    async fn collect(&self, ctx: &JobContext) -> Result<()> {
        self.do_collect(ctx).await
    }

    #[trigger("call")]
    async fn finish(&self, ctx: &JobContext) -> Result<()> {
        self.do_finish(ctx).await
    }

    #[trigger("call")]
    async fn deliver(&self, ctx: &JobContext) -> Result<()> {
        self.do_deliver(ctx).await
    }
}
