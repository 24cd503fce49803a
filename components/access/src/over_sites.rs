//! Fit, evaluate and predict over sites that are named.

use crate::{access::Access, reference::ModelReference, structure::DataStructure};
use std::{future::IntoFuture, time::Duration};
use superduper::{Artifact, BoxFuture, Component, Error, Result, Tensors};
use superduper_federated::{
    FedAvg, FederatedModel, FederatedTraining, ModelTrainer, Strategy, TrainingConfig,
};

/// The model of a task over sites: a reference to a published one, or a component.
pub struct SiteModel(Model);

enum Model {
    Reference(ModelReference),
    // Makes a training, so that its type need not be known.
    Component(Box<dyn FnOnce(String, Box<dyn Strategy>) -> FederatedTraining + Send>, String),
}

impl From<ModelReference> for SiteModel {
    fn from(reference: ModelReference) -> Self {
        SiteModel(Model::Reference(reference))
    }
}

impl<M: FederatedModel> From<M> for SiteModel {
    fn from(model: M) -> Self {
        let name = model.identifier().to_owned();
        let make = |name, strategy| {
            let mut training = FederatedTraining::new(name, model, FedAvg {});
            training.strategy = strategy;
            training
        };
        SiteModel(Model::Component(Box::new(make), name))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Fit,
    Evaluate,
    Predict,
}

impl Goal {
    fn name(self) -> &'static str {
        match self {
            Goal::Fit => "fit",
            Goal::Evaluate => "evaluate",
            Goal::Predict => "predict",
        }
    }
}

impl Access {
    /// Train a model over sites that are under governance, by their names. Await it: the training is
    /// on record and under way then, and the returned trainer waits for it.
    ///
    /// ```
    /// # use superduper::prelude::*;
    /// # use superduper_access::{Access, ModelReference};
    /// # use superduper_federated::State;
    /// # use std::time::Duration;
    /// # async fn example(alice: &Access) -> Result<()> {
    /// let net = ModelReference::new("MyNet").hyperparameter("epochs", 2);
    /// let trainer = alice.fit(net, ["north", "south"]).purpose("study 7").rounds(10).await?;
    /// assert_eq!(trainer.wait(Duration::from_secs(600)).await?, State::Completed);
    /// let weights = trainer.global().await?.weights.clone();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for a site that does not exist or that the user may not see, in the same words;
    /// `InvalidInput` for a site without data, for columns that do not fit, and without a purpose;
    /// those of [`ModelReference::resolve`] and of [`ModelTrainer::start`].
    pub fn fit<S: Into<String>>(
        &self,
        model: impl Into<SiteModel>,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        OverSites::new(self, model.into(), sites, Goal::Fit)
    }

    /// Test weights on the data of sites, by their names. They come from
    /// [`OverSites::weights`], from the reference, or from the version that it names. The metrics are
    /// in [`ModelTrainer::progress`], those of each site in [`ModelTrainer::answers`] of the task
    /// `test` and round 0.
    ///
    /// # Errors
    /// As for [`fit`](Access::fit); `InvalidInput` without weights.
    pub fn evaluate<S: Into<String>>(
        &self,
        model: impl Into<SiteModel>,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        OverSites::new(self, model.into(), sites, Goal::Evaluate)
    }

    /// Predict the rows of sites, by their names, with weights as for [`evaluate`](Access::evaluate).
    /// [`ModelTrainer::predictions`] has them.
    ///
    /// # Errors
    /// As for [`evaluate`](Access::evaluate).
    pub fn predict<S: Into<String>>(
        &self,
        model: impl Into<SiteModel>,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        OverSites::new(self, model.into(), sites, Goal::Predict)
    }
}

impl ModelReference {
    /// Train the model over sites; see [`Access::fit`].
    pub fn fit<S: Into<String>>(
        &self,
        access: &Access,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        access.fit(self.clone(), sites)
    }

    /// Test the model at sites; see [`Access::evaluate`].
    pub fn evaluate<S: Into<String>>(
        &self,
        access: &Access,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        access.evaluate(self.clone(), sites)
    }

    /// Predict the rows of sites; see [`Access::predict`].
    pub fn predict<S: Into<String>>(
        &self,
        access: &Access,
        sites: impl IntoIterator<Item = S>,
    ) -> OverSites {
        access.predict(self.clone(), sites)
    }
}

/// A task over sites, under construction; await it to start it.
#[must_use = "nothing starts until it is awaited"]
pub struct OverSites {
    access: Access,
    model: SiteModel,
    sites: Vec<String>,
    goal: Goal,
    name: Option<String>,
    purpose: String,
    rounds: u64,
    strategy: Box<dyn Strategy>,
    config: TrainingConfig,
    weights: Option<Artifact<Tensors>>,
    seed: u64,
    valid_for: Duration,
}

impl OverSites {
    fn new<S: Into<String>>(
        access: &Access,
        model: SiteModel,
        sites: impl IntoIterator<Item = S>,
        goal: Goal,
    ) -> Self {
        OverSites {
            access: access.clone(),
            model,
            sites: sites.into_iter().map(Into::into).collect(),
            goal,
            name: None,
            purpose: String::new(),
            rounds: 1,
            strategy: Box::new(FedAvg {}),
            config: TrainingConfig::default(),
            weights: None,
            seed: 0,
            valid_for: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// What for. The gates of the sites ask for it.
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// The identifier of the training on record. If it is not given, it is a new one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many rounds to train; 1 if it is not given.
    pub fn rounds(mut self, rounds: u64) -> Self {
        self.rounds = rounds;
        self
    }

    /// How the global model is made; by [`FedAvg`] if it is not given.
    pub fn strategy(mut self, strategy: impl Strategy + 'static) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// How each site trains.
    pub fn config(mut self, config: TrainingConfig) -> Self {
        self.config = config;
        self
    }

    /// The seed of everything random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The weights to start from. They win over those of the reference and of the version.
    pub fn weights(mut self, weights: impl Into<Artifact<Tensors>>) -> Self {
        self.weights = Some(weights.into());
        self
    }

    /// How long the signed requests can be handed in, if the user has a key; a day if not given.
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// The training, checked and signed, but not started.
    ///
    /// # Errors
    /// As for the call that has begun it.
    pub async fn training(self) -> Result<FederatedTraining> {
        let OverSites { access, model, goal, name, purpose, strategy, .. } = self;
        if purpose.trim().is_empty() {
            return Err(Error::invalid(format!("`{}` needs a purpose", goal.name()))
                .with_hint("say what it is for with `.purpose(…)`"));
        }
        let mut sites = Vec::with_capacity(self.sites.len());
        for site in &self.sites {
            sites.push(access.participant(site).await?);
        }
        let named = |model: &str| {
            let random = uuid::Uuid::new_v4().simple().to_string();
            format!("{model}-{}-{}", goal.name(), &random[..8])
        };
        let (mut training, attached, structure) = match model.0 {
            Model::Component(make, model) => {
                (make(name.unwrap_or_else(|| named(&model)), strategy), None, None)
            }
            Model::Reference(reference) => {
                reference.check_data(&sites)?;
                let resolved = reference.resolve(&access).await?;
                let name = name.unwrap_or_else(|| named(&resolved.name));
                let mut training = FederatedTraining::new(name, resolved.model, FedAvg {});
                training.strategy = strategy;
                let attached = reference.weights.clone().or(resolved.weights);
                (training, attached, reference.datastructure)
            }
        };
        training = training.sites(sites).rounds(if goal == Goal::Fit { self.rounds } else { 0 });
        training.config = self.config;
        if let Some(structure) = structure {
            put_structure(&mut training.config, &structure)?;
        }
        training.seed = self.seed;
        training.weights = self.weights.or(attached);
        training.options.skip_model_tests = goal == Goal::Predict;
        training.options.predict = goal == Goal::Predict;
        if goal != Goal::Fit && training.weights.is_none() {
            return Err(Error::invalid(format!("`{}` needs weights", goal.name()))
                .with_hint("give them with `.weights(…)`, or attach them to the version"));
        }
        training.submitter = Some(access.submitter_of(&training, purpose, self.valid_for)?);
        Ok(training)
    }

    async fn run(self) -> Result<ModelTrainer> {
        let access = self.access.clone();
        let mut trainer = ModelTrainer::new(access.db(), self.training().await?, None)?;
        trainer.start().await?;
        Ok(trainer)
    }
}

impl IntoFuture for OverSites {
    type Output = Result<ModelTrainer>;
    type IntoFuture = BoxFuture<'static, Result<ModelTrainer>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Let the sites have the structure as a setting.
fn put_structure(config: &mut TrainingConfig, structure: &DataStructure) -> Result<()> {
    let value = superduper::Encoded::of(structure)?.value().clone();
    config.extra.insert("datastructure".to_owned(), value);
    Ok(())
}
