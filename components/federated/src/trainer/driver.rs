//! The trainer: start a training, follow it, hand in what remote sites send.

use super::events::{ModelTrainerEvent, named};
use crate::{
    config::{TrainerOptions, UncertaintyMethod},
    departure::Departure,
    persistor::PersistContext,
    phases::{is_of_version, unblock},
    state::{Answer, GlobalModel, Progress, State},
    training::FederatedTraining,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use superduper::{
    Action, Address, ComponentType, Db, Error, ErrorKind, Result, Tensors,
    store::{Cursor, JobFilter, JobRow, JobState, RunFilter, RunRow, RunState},
};

/// What the rounds of a training consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainerClass {
    /// Train and aggregate.
    ModelTrainer,
    /// Also ask for moments of the weights after each round.
    SwagModelTrainer,
    /// Hand models from site to site between aggregations.
    FedDCModelTrainer,
}

/// Starts a training and follows it.
///
/// Any process can have a trainer of a training: a trainer reads the record, and keeps no state of
/// its own. It follows the newest version of the training.
pub struct ModelTrainer {
    pub(crate) db: Db,
    training: Option<FederatedTraining>,
    pub(crate) address: Address,
    options: TrainerOptions,
}

impl ModelTrainer {
    /// The trainer of a training, which need not be stored yet. `options` replace those of the
    /// training when it is started or registered.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit together.
    pub fn new(
        db: &Db,
        mut training: FederatedTraining,
        options: Option<TrainerOptions>,
    ) -> Result<Self> {
        superduper::Lifecycle::postinit(&mut training)?;
        if let Some(options) = options {
            training.options = options;
        }
        Ok(ModelTrainer {
            db: db.clone(),
            address: Address::of::<FederatedTraining>(training.identifier.clone()),
            options: training.options,
            training: Some(training),
        })
    }

    /// The trainer of a stored training.
    ///
    /// # Errors
    /// `NotFound` for a training that is not stored; `Decode`.
    pub async fn open(db: &Db, identifier: &str) -> Result<Self> {
        let stored = db.load::<FederatedTraining>(identifier).await?;
        ModelTrainer::new(db, stored, None)
    }

    /// What the trainer does around the rounds.
    pub fn options(&self) -> TrainerOptions {
        self.options
    }

    /// The training, as it is stored now.
    ///
    /// # Errors
    /// `NotFound` before it is stored; `Decode`.
    pub async fn training(&self) -> Result<FederatedTraining> {
        self.db.load::<FederatedTraining>(self.address.clone()).await
    }

    /// What the rounds of the training consist of: with moments for SWAG, else daisy-chained, else
    /// plain.
    pub fn get_trainer_class(training: &FederatedTraining) -> TrainerClass {
        if matches!(training.uncertainty, UncertaintyMethod::Swag { .. }) {
            TrainerClass::SwagModelTrainer
        } else if training.strategy.client().daisy_chain_period > 0 {
            TrainerClass::FedDCModelTrainer
        } else {
            TrainerClass::ModelTrainer
        }
    }

    /// Start the training. It runs in the background; [`wait`](ModelTrainer::wait) waits for its end.
    ///
    /// # Errors
    /// `InvalidInput` without sites, and for a training that is not INITIAL: to continue or repeat
    /// one, use [`Db::apply`]. Those of [`Db::apply`].
    pub async fn start(&mut self) -> Result<()> {
        let state = self.state().await?;
        if state != State::Initial && !self.is_another().await? {
            let text = format!("training `{}` is {state}, not INITIAL", self.address.identifier);
            return Err(Error::invalid(text)
                .with_hint("apply it again to repeat what failed, or raise `num_rounds`"));
        }
        let training = match self.training.take() {
            Some(training) => training,
            None => self.training().await?,
        };
        if training.sites.is_empty() {
            self.training = Some(training);
            return Err(crate::phases::no_participants());
        }
        self.db.apply(training).detach().await.map(|_| ())
    }

    /// Whether the training that was given is another one than what is stored: a new version.
    async fn is_another(&self) -> Result<bool> {
        let Some(training) = &self.training else { return Ok(false) };
        let plan = self.db.plan(training).await?;
        Ok(plan.components().iter().any(|planned| planned.action == Action::NewVersion))
    }

    /// Store the training without starting it.
    ///
    /// # Errors
    /// Those of [`Db::apply`].
    pub async fn register(&mut self) -> Result<()> {
        match self.training.take() {
            Some(training) => self.db.apply(training).jobs(false).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Where the training stands, as its jobs recorded it.
    ///
    /// # Errors
    /// `Store`; `Decode`.
    pub async fn progress(&self) -> Result<Progress> {
        match self.training().await {
            Ok(training) => Ok(training.stands()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(error),
        }
    }

    /// The state.
    ///
    /// # Errors
    /// `Store`; `Decode`.
    pub async fn state(&self) -> Result<State> {
        loop {
            // First the run: what it recorded is there when it is over.
            let run = self.run().await?;
            let progress = self.progress().await?;
            if progress.state == State::Completed {
                return Ok(State::Completed);
            }
            let Some(run) = run else {
                // A version whose content is that of an earlier one has what that one recorded.
                return Ok(match progress.state {
                    State::Initial => State::Initial,
                    _ => State::Error,
                });
            };
            match run.state {
                RunState::Failed | RunState::Cancelled | RunState::Succeeded => {
                    // A run that is over without having finished cannot go on by itself. Another
                    // one may have begun since the look.
                    if self.run().await?.is_none_or(|newest| newest.id == run.id) {
                        return Ok(State::Error);
                    }
                }
                _ if progress.state == State::Initial => return Ok(State::Ongoing),
                _ => return Ok(progress.state),
            }
        }
    }

    /// The newest run of the newest version of the training.
    pub(crate) async fn run(&self) -> Result<Option<RunRow>> {
        let stored = self.db.load_with_address::<FederatedTraining>(self.address.clone()).await;
        let version = match stored {
            Ok(stored) => stored.version(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let filter = RunFilter { component: Some(self.address.clone()), ..RunFilter::default() };
        let runs = self.db.runs(filter).await?;
        Ok(runs.into_iter().rev().find(|run| is_of_version(run, &self.address, version)))
    }

    /// The newest global model.
    ///
    /// # Errors
    /// `NotFound` before the first job of the training has run; `Store`; `Decode`.
    pub async fn global(&self) -> Result<Arc<GlobalModel>> {
        self.training().await?.global.get()
    }

    /// What the embedded sites predicted for their rows, by site. A site that did not predict is left
    /// out; [`answers`](ModelTrainer::answers) of the task `predict` tell why.
    ///
    /// # Errors
    /// `NotFound` before the predictions are there, and without
    /// [`TrainerOptions::predict`]; those of reading them.
    pub async fn predictions(&self) -> Result<BTreeMap<String, Arc<Tensors>>> {
        let mut found = BTreeMap::new();
        for (site, tensors) in &*self.training().await?.predictions.get()? {
            found.insert(site.clone(), tensors.get().await?);
        }
        Ok(found)
    }

    /// The names of the models that the persistor gives, oldest first.
    ///
    /// # Errors
    /// `NotFound` for a training that is not stored; those of the persistor.
    pub async fn saved_models(&self) -> Result<Vec<String>> {
        self.ask_persistor(|training, ctx| training.persistor.inventory(ctx)).await
    }

    /// A model that the persistor has, by its name.
    ///
    /// # Errors
    /// `NotFound` for a training that is not stored, and for a name that the persistor does not
    /// have; those of the persistor.
    pub async fn saved_model(&self, name: &str) -> Result<Tensors> {
        let name = name.to_owned();
        self.ask_persistor(move |training, ctx| training.persistor.get(&name, ctx)).await
    }

    async fn ask_persistor<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&FederatedTraining, &PersistContext<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let training = self.training().await?;
        let runtime = tokio::runtime::Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            let uuid = training.uuid().map(|uuid| (*uuid).clone()).unwrap_or_default();
            ask(&training, &training.persist_context(None, &uuid)?)
        });
        asked.await.map_err(|error| Error::internal(format!("the persistor: {error}")))?
    }

    /// The answers of the sites to one task of the newest run, by site name.
    ///
    /// `task` is `train`, `swag`, `test` or `predict`. For `train`, `round` counts from 0. For the
    /// others it is the number of rounds done.
    ///
    /// A site has no entry if its job is not over, or if the job failed or was cancelled. Answers
    /// of an earlier run are not returned. An apply after an ERROR, or with a larger `num_rounds`,
    /// starts another run.
    ///
    /// # Errors
    /// `Store`; `Decode`.
    pub async fn answers(&self, task: &str, round: u64) -> Result<BTreeMap<String, Answer>> {
        let Some(run) = self.run().await? else { return Ok(BTreeMap::new()) };
        let filter = JobFilter {
            run: Some(run.id),
            states: Some(vec![JobState::Succeeded]),
            ..JobFilter::default()
        };
        let mut answers = BTreeMap::new();
        for job in self.db.jobs(filter).await? {
            let site = job.key.as_deref().and_then(|key| site_of(key, task, round));
            if let (Some(site), Some(value)) = (site, job.result) {
                let answer = self.db.decode(value, &format!("the answer of `{site}`"))?;
                answers.insert(site.to_owned(), answer);
            }
        }
        Ok(answers)
    }

    /// The uuid of the training.
    ///
    /// # Errors
    /// `NotFound` while it is INITIAL.
    pub async fn training_uuid(&self) -> Result<String> {
        Ok((*self.training().await?.training_uuid.get()?).clone())
    }

    /// Wait until the training is COMPLETED or ERROR, at most for `limit`. Returns the state.
    ///
    /// # Errors
    /// `Timeout`; `Store`.
    pub async fn wait(&self, limit: Duration) -> Result<State> {
        let waited = tokio::time::timeout(limit, async {
            let mut seen = Cursor::default();
            loop {
                let state = self.state().await?;
                if matches!(state, State::Completed | State::Error) && !self.is_running().await? {
                    return Ok(state);
                }
                seen = self.db.changed(&seen).await?;
            }
        });
        waited.await.unwrap_or_else(|_| {
            let text = format!("training `{}` did not end in {limit:?}", self.address.identifier);
            Err(Error::new(ErrorKind::Timeout, text))
        })
    }

    async fn is_running(&self) -> Result<bool> {
        Ok(self.run().await?.is_some_and(|run| run.state == RunState::Running))
    }

    /// Why the training is ERROR: the failures of its newest run.
    ///
    /// # Errors
    /// `Store`.
    pub async fn failures(&self) -> Result<Vec<String>> {
        let Some(run) = self.run().await? else { return Ok(Vec::new()) };
        let filter = JobFilter {
            run: Some(run.id),
            states: Some(vec![JobState::Failed]),
            ..JobFilter::default()
        };
        let jobs = self.db.jobs(filter).await?;
        let failed = jobs.iter().filter(|job| !job.tolerated);
        Ok(failed.filter_map(|job| Some(job.failure.as_ref()?.to_string())).collect())
    }

    /// Call `handle` and then `next` of an event. With SWAG, `TrainingRoundFinished` stops after
    /// `handle`, because the SWAG round comes next.
    ///
    /// # Errors
    /// Those of the event.
    pub async fn handle(&self, event: &dyn ModelTrainerEvent) -> Result<()> {
        event.handle(self).await?;
        let swag = matches!(self.training().await?.uncertainty, UncertaintyMethod::Swag { .. });
        if swag && event.name() == "TrainingRoundFinished" {
            return Ok(());
        }
        event.next(self).await
    }

    /// Handle an event of this type.
    ///
    /// # Errors
    /// Those of the event.
    pub async fn handle_kind<E: ModelTrainerEvent + Default>(&self) -> Result<()> {
        self.handle(&E::default()).await
    }

    /// Handle the event of this name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no event has; those of the event.
    pub async fn handle_named(&self, name: &str) -> Result<()> {
        self.handle(&*named(name)?).await
    }

    /// Resume the training if no process works on it. Its own jobs then open the round that is due.
    ///
    /// # Errors
    /// `InvalidInput` for a training that is not under way.
    pub async fn start_round(&self) -> Result<()> {
        self.go_on().await
    }

    /// Resume the training if no process works on it, as
    /// [`start_round`](ModelTrainer::start_round) does. Whether the global model is tested is a matter
    /// of the [options](ModelTrainer::options).
    ///
    /// # Errors
    /// `InvalidInput` for a training that is not under way.
    pub async fn test_round(&self) -> Result<()> {
        self.go_on().await
    }

    /// Resume the training if no process works on it, as
    /// [`start_round`](ModelTrainer::start_round) does. This does not end it before its last round.
    ///
    /// # Errors
    /// `InvalidInput` for a training that is not under way.
    pub async fn finish(&self) -> Result<()> {
        self.go_on().await
    }

    /// Let a site leave the training for good. A round that waits for the site is looked at again at
    /// once. The other sites are told when the next round opens.
    ///
    /// # Errors
    /// `NotFound` for a site that is no participant, and for a training that is INITIAL; `Store`.
    pub async fn leave(&self, site: &str, reason: &str) -> Result<()> {
        let training = self.training().await?;
        training.site(site)?;
        let uuid = self.training_uuid().await?;
        Departure::record(&self.db, &uuid, site, reason).await?;
        for job in self.open_jobs().await? {
            if job.key.as_deref().is_some_and(|key| key.ends_with(&format!("/{site}"))) {
                match job.method.as_str() {
                    "remote_task" => unblock(&self.db, job.id).await?,
                    "site_task" => self.db.cancel(job.id).await?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The jobs of the newest run that are not over.
    async fn open_jobs(&self) -> Result<Vec<JobRow>> {
        let Some(run) = self.run().await? else { return Ok(Vec::new()) };
        let open = [JobState::Queued, JobState::Blocked, JobState::Running];
        let filter =
            JobFilter { run: Some(run.id), states: Some(open.to_vec()), ..JobFilter::default() };
        self.db.jobs(filter).await
    }

    /// Wait until the newest job of a phase is done.
    pub(crate) async fn finish_phase(&self, phase: &str, event: &str) -> Result<()> {
        let Some(run) = self.run().await? else { return Err(self.not_under_way("INITIAL")) };
        self.resume(&run).await?;
        let filter =
            JobFilter { run: Some(run.id), method: Some(phase.to_owned()), ..JobFilter::default() };
        let Some(job) = self.db.jobs(filter).await?.pop() else {
            let round = self.progress().await?.round;
            let text = format!(
                "`{event}` has not happened in round {round} of training `{}`",
                self.address.identifier
            );
            return Err(Error::invalid(text).with_hint("sites have not answered yet"));
        };
        let row = self.db.wait(job.id, Duration::from_secs(600)).await?;
        match row.state {
            JobState::Succeeded => Ok(()),
            JobState::Failed => {
                let why = row.failure.map(|failure| failure.to_string()).unwrap_or_default();
                Err(Error::new(ErrorKind::JobFailed, format!("`{event}` failed: {why}")))
            }
            state => Err(Error::invalid(format!("the job of `{event}` is {state}"))),
        }
    }

    /// Check that the training has not failed.
    pub(crate) async fn check_alive(&self) -> Result<()> {
        match self.state().await? {
            State::Error => {
                let why = self.failures().await?.join("; ");
                Err(Error::new(ErrorKind::JobFailed, format!("the training failed: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Let some process go on with the run.
    async fn go_on(&self) -> Result<()> {
        let state = self.state().await?;
        match self.run().await? {
            Some(run) if matches!(state, State::Ongoing | State::SwagRound) => {
                self.resume(&run).await
            }
            _ => Err(self.not_under_way(&state.to_string())),
        }
    }

    /// Work on a run that no process works on.
    async fn resume(&self, run: &RunRow) -> Result<()> {
        if run.state == RunState::Running && !self.db.drives(run.id) {
            match self.db.resume_run(run.id).await {
                Ok(_) => {}
                // Another process works on it.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InUse) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn not_under_way(&self, state: &str) -> Error {
        let text =
            format!("training `{}` is {state}, no round is under way", self.address.identifier);
        Error::invalid(text).with_hint("start it, or apply it again")
    }
}

/// The site of a key such as `r3/train/site`, or `r3~1/train/site`, if it is of this task and round.
pub(super) fn site_of<'a>(key: &'a str, task: &str, round: u64) -> Option<&'a str> {
    let (begun, rest) = key.split_once('/')?;
    let number = begun.split('~').next()?.strip_prefix('r')?;
    let (found, site) = rest.split_once('/')?;
    (number.parse() == Ok(round) && found == task).then_some(site)
}

impl std::fmt::Debug for ModelTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = self.training.as_ref().map(ModelTrainer::get_trainer_class);
        let kind = FederatedTraining::__kind();
        write!(f, "ModelTrainer({kind}/{}, {class:?})", self.address.identifier)
    }
}
