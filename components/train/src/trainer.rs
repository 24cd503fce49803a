//! The trainer: a component that says how jobs are run, and the open one that submits and finds
//! them.

use crate::{
    base::{JobBase, pool},
    handle::JobRun,
    kind::JobKind,
    module::{Train, entry, kinds},
    predict::{Predict, PredictSpec, Prediction, PredictionRun, predicts},
    retention::{Sweeper, sweep},
    run::TrainingRun,
    save_path::{SavePath, check_piece},
    spec::TrainSpec,
    submit::random_id,
    take_over::take_over,
    training::Training,
};
use std::{path::PathBuf, sync::Arc};
use superduper::unreturned::{Site, Unreturned};
use superduper::{Inline, prelude::*};

/// Says how trainings and batch predictions are run on this machine.
///
/// ```no_run
/// # async fn example(db: superduper::Db) -> superduper::Result<()> {
/// use superduper_train::{Isolation, JobBase, LocalTrainer};
///
/// let base = JobBase { isolation: Isolation::Process, max_concurrent: 2, ..JobBase::default() };
/// let trainer = LocalTrainer::new("default").base(base).open(&db).await?;
/// # Ok(()) }
/// ```
#[derive(Component, Clone, Debug)]
#[component(kind = "superduper.LocalTrainer")]
pub struct LocalTrainer {
    identifier: String,
    base: JobBase,
    /// Where batch predictions write their results; needed for those only.
    #[component(default)]
    result_dir: Option<PathBuf>,
}

impl LocalTrainer {
    /// A trainer with the defaults: threads, as many at once as there are cores, kept for a day.
    pub fn new(name: impl Into<String>) -> Self {
        LocalTrainer { identifier: name.into(), base: JobBase::default(), result_dir: None }
    }

    /// Choose how its jobs are run.
    pub fn base(mut self, base: JobBase) -> Self {
        self.base = base;
        self
    }

    /// Choose where batch predictions write their results.
    pub fn result_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.result_dir = Some(folder.into());
        self
    }

    /// Store it, sweep what is past its retention, and go on doing so as long as the trainer is
    /// open.
    ///
    /// # Errors
    /// `InvalidInput` for limits that its isolation cannot keep; those of `db.apply`.
    pub async fn open(self, db: &Db) -> Result<Trainer> {
        self.base.check(&self.identifier)?;
        db.apply(&self).await?;
        // Jobs that are on record may name the limit of an earlier time.
        db.limit_pool(&pool(&self.identifier), self.base.size());
        let trainer = Trainer::attach(db, self);
        // What cannot be purged now, such as files of a service that is down, is no reason not to
        // train: it is tried again.
        sweep(db, &trainer.shared.config.identifier)
            .await
            .or_warn(Site::RETENTION, "purging old jobs");
        if trainer.shared.config.base.restart.resume {
            trainer.resume().await?;
        }
        Ok(trainer)
    }
}

/// An open trainer: submits trainings and batch predictions, and finds them again. A handle; clones
/// share it.
#[derive(Debug, Clone)]
pub struct Trainer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    config: LocalTrainer,
    _sweeper: Sweeper,
}

impl Trainer {
    fn attach(db: &Db, config: LocalTrainer) -> Self {
        let sweeper = Sweeper::start(db, &config.identifier, &config.base);
        Trainer { shared: Arc::new(Shared { db: db.clone(), config, _sweeper: sweeper }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.config.identifier
    }

    /// How its jobs are run.
    pub fn config(&self) -> &JobBase {
        &self.shared.config.base
    }

    /// Train a module in the background.
    ///
    /// Module, arguments and job are on record when this returns; the job starts when there is a
    /// free place. A training of the same id that ended is replaced;
    /// [`train_or_resume`](Trainer::train_or_resume) gives that one instead.
    ///
    /// # Errors
    /// Before anything starts or is written: what [`Train::check`] says of the module and its
    /// arguments; `Conflict` while a training of this id is unfinished; `InvalidInput` for an id or
    /// path piece that is not usable; `NotFound` for a secret that is not there; `Unsupported` for
    /// an output that is not built in, or a program that cannot be started as a worker;
    /// `UnknownKind` for a module that was not made known with `trains!`.
    pub async fn train<M: Train>(&self, module: M, spec: TrainSpec) -> Result<TrainingRun> {
        self.train_dyn(Box::new(module), spec).await
    }

    /// Train a module whose type is only known when the program runs: a command line or a service
    /// that trains what it is given, such as `db.load_dyn(address)`.
    ///
    /// # Errors
    /// Those of [`Trainer::train`]; `UnknownKind` for a component that cannot be trained, with the
    /// kinds that can.
    pub async fn train_dyn(
        &self,
        module: Box<dyn Component>,
        spec: TrainSpec,
    ) -> Result<TrainingRun> {
        let id = spec.external_training_id.clone().unwrap_or_else(random_id);
        let wait = spec.wait;
        let mut training = self.training_dyn(&id, module, spec)?;
        training.submission = random_id();
        let run = TrainingRun::submit(&self.shared.db, &training).await?;
        if wait {
            run.wait().await?;
        }
        Ok(run)
    }

    /// Train a module that is given by its kind and its fields, as a service reads them from a
    /// request. [`kinds`](Trainer::kinds) lists what can be trained.
    ///
    /// ```no_run
    /// # async fn example(trainer: superduper_train::Trainer) -> superduper::Result<()> {
    /// use superduper::Component;
    /// use superduper_train::TrainSpec;
    ///
    /// let fields = serde_json::json!({"identifier": "mean", "steps": 1000});
    /// let spec = TrainSpec::new().arg("scale", 2.0);
    /// let run = trainer.train_kind("acme.Mean", fields, spec).await?;
    /// let model = run.load_dyn().await?;
    /// println!("{} is a {}", run.id(), model.kind());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Trainer::train_dyn`]; `Decode` for fields that are not those of the kind.
    pub async fn train_kind(
        &self,
        kind: &str,
        fields: Value,
        spec: TrainSpec,
    ) -> Result<TrainingRun> {
        let version = entry(kind)?.version;
        let document = json!({"$kind": kind, "$version": version, "$body": fields});
        let module = self.shared.db.decode(document, &format!("the fields of a `{kind}`"))?;
        self.train_dyn(module, spec).await
    }

    /// The kinds that this program can train: those of [`trains!`](crate::trains), sorted.
    pub fn kinds(&self) -> Vec<&'static str> {
        kinds()
    }

    /// The training as a component, for `db.apply` or as a part of another component.
    ///
    /// # Errors
    /// As for [`Trainer::train`].
    pub fn training<M: Train>(&self, id: &str, module: M, spec: TrainSpec) -> Result<Training> {
        self.training_dyn(id, Box::new(module), spec)
    }

    /// The same of a module whose type is only known when the program runs.
    ///
    /// # Errors
    /// As for [`Trainer::train_dyn`].
    pub fn training_dyn(
        &self,
        id: &str,
        module: Box<dyn Component>,
        mut spec: TrainSpec,
    ) -> Result<Training> {
        let entry = entry(module.kind())?;
        superduper::address::check_identifier(id)?;
        (entry.check)(&*module, &spec.args)?;
        spec.artifact_path(id)?;
        spec.check_output()?;
        // The process that runs the job, or loads the model, may be in another folder.
        if let Some(SavePath::Folder(folder)) = &mut spec.save_path {
            *folder = std::path::absolute(&*folder)?;
        }
        Ok(Training {
            identifier: id.to_owned(),
            owner: self.name().to_owned(),
            base: self.config().clone(),
            retention: spec.retention,
            module: Inline(Arc::from(module)),
            spec,
            submission: String::new(),
        })
    }

    pub(crate) fn db(&self) -> &Db {
        &self.shared.db
    }

    /// Let a model work on a batch in the background; the result is a file,
    /// `<result_dir>/<id>/result`.
    ///
    /// # Errors
    /// As for [`Trainer::train`]; `InvalidInput` where the trainer has no `result_dir`.
    pub async fn predict<M: Predict>(&self, model: M, spec: PredictSpec) -> Result<PredictionRun> {
        predicts(M::__kind())?;
        let id = spec.id.clone().unwrap_or_else(random_id);
        superduper::address::check_identifier(&id)?;
        check_piece(&id)?;
        let folder = self.shared.config.result_dir.as_ref().ok_or_else(|| {
            Error::invalid(format!("trainer `{}` has no folder for results", self.name()))
                .with_hint("set `result_dir`")
        })?;
        let folder = std::path::absolute(folder)?;
        let wait = spec.wait;
        let prediction = Prediction {
            identifier: id,
            owner: self.name().to_owned(),
            base: self.config().clone(),
            model: Inline(Arc::new(model)),
            args: spec.args,
            seed: spec.seed,
            checkpoints: spec.checkpoints,
            folder: folder.to_string_lossy().into_owned(),
            submission: random_id(),
            retention: spec.retention,
        };
        let run = PredictionRun::submit(&self.shared.db, &prediction).await?;
        if wait {
            run.wait().await?;
        }
        Ok(run)
    }

    /// Find a training of this trainer by its id, from whatever process it was submitted.
    ///
    /// # Errors
    /// `NotFound`: `unknown training id …`.
    pub async fn get_model_future(&self, id: &str) -> Result<TrainingRun> {
        let found = TrainingRun::find(&self.shared.db, id).await?;
        let document = found.document(&found.row().await?).await?;
        match document.as_ref().and_then(|document| document.get("owner")).and_then(Value::as_str) {
            Some(owner) if owner != self.name() => {
                Err(Error::not_found(format!("unknown training id `{id}`")).with_hint(format!(
                    "it belongs to the trainer `{owner}`; `db.get_model_future` looks in all"
                )))
            }
            _ => Ok(found),
        }
    }

    /// The same as [`Trainer::get_model_future`].
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, id: &str) -> Result<TrainingRun> {
        self.get_model_future(id).await
    }

    /// Find a prediction by its id.
    ///
    /// # Errors
    /// `NotFound`: `unknown prediction id …`.
    pub async fn get_prediction(&self, id: &str) -> Result<PredictionRun> {
        PredictionRun::find(&self.shared.db, id).await
    }

    /// Purge what is past its retention now; it happens by itself, too. Gives the ids.
    ///
    /// # Errors
    /// `Store`, and those of deleting files.
    pub async fn sweep(&self) -> Result<Vec<String>> {
        sweep(&self.shared.db, self.name()).await
    }

    /// Take over the unfinished jobs of this trainer that no live process has taken: INTERRUPTED
    /// ones, and QUEUED ones, whose process may be gone too. Paused ones stay paused. Gives their
    /// ids.
    ///
    /// # Errors
    /// `Store`.
    pub async fn resume(&self) -> Result<Vec<String>> {
        take_over(&self.shared.db, self.name(), true).await
    }
}

/// Trainings, by any trainer.
pub trait TrainDb {
    /// Open a trainer that was stored before, by its name.
    ///
    /// # Errors
    /// `NotFound` for an unknown name.
    fn trainer(&self, name: &str) -> impl Future<Output = Result<Trainer>> + Send;

    /// Find a training by its id, of any trainer.
    ///
    /// # Errors
    /// `NotFound`: `unknown training id …`.
    fn get_model_future(&self, id: &str) -> impl Future<Output = Result<TrainingRun>> + Send;

    /// All trainings that were not purged.
    ///
    /// # Errors
    /// `Store`.
    fn trainings(&self) -> impl Future<Output = Result<Vec<TrainingRun>>> + Send;

    /// Find a prediction by its id, of any trainer.
    ///
    /// # Errors
    /// `NotFound`: `unknown prediction id …`.
    fn get_prediction(&self, id: &str) -> impl Future<Output = Result<PredictionRun>> + Send;

    /// All predictions that were not purged.
    ///
    /// # Errors
    /// `Store`.
    fn predictions(&self) -> impl Future<Output = Result<Vec<PredictionRun>>> + Send;
}

impl TrainDb for Db {
    async fn trainer(&self, name: &str) -> Result<Trainer> {
        let config: LocalTrainer = self.load(name).await.map_err(|error| {
            error.context(format_args!("unknown trainer `{}`", name.escape_debug()))
        })?;
        config.open(self).await
    }

    async fn get_model_future(&self, id: &str) -> Result<TrainingRun> {
        TrainingRun::find(self, id).await
    }

    async fn trainings(&self) -> Result<Vec<TrainingRun>> {
        Ok(all(self, JobKind::Training).await?.into_iter().map(TrainingRun::from).collect())
    }

    async fn get_prediction(&self, id: &str) -> Result<PredictionRun> {
        PredictionRun::find(self, id).await
    }

    async fn predictions(&self) -> Result<Vec<PredictionRun>> {
        Ok(all(self, JobKind::Prediction).await?.into_iter().map(PredictionRun::from).collect())
    }
}

/// The newest job of each id that was not purged.
async fn all(db: &Db, kind: JobKind) -> Result<Vec<JobRun>> {
    let mut found = Vec::new();
    for row in db.metadata().list(Some(kind.name().to_owned())).await? {
        match JobRun::find(db, kind, &row.address.identifier).await {
            Ok(run) => found.push(run),
            // Applied without its job.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
