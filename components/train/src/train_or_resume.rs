//! One training of an id: submit it, or go on with the one that is there.
//!
//! Invariant: a training is submitted only by a plan that was made while no other training of its
//! id was there. Such a plan is refused where another process submitted one since, so that of
//! several processes one submits.

use crate::{
    handle::JobRun,
    info::Status,
    kind::JobKind,
    module::Train,
    run::TrainingRun,
    spec::TrainSpec,
    submit::{random_id, recorded},
    trainer::Trainer,
    training::Training,
};
use std::time::Duration;
use superduper::{Component, Db, Error, ErrorKind, Result, Value, store::JobId};

/// So often at most it is looked again, when another process was faster.
const TRIES: u32 = 32;
/// The pause before the second look; it grows with each further one.
const PAUSE: Duration = Duration::from_millis(5);

/// What is on record of an id.
enum Found {
    /// Nothing, or a training that was purged: its job.
    Nothing(Option<JobId>),
    /// A training to go on with.
    Run(Box<TrainingRun>),
}

impl Trainer {
    /// Train a module, or go on with the training of this id: what a program calls at its start,
    /// and again after a crash. What happens depends on the training on record:
    ///
    /// - None, or one that was purged: the module is submitted.
    /// - COMPLETED: its model is there, nothing is trained.
    /// - QUEUED or RUNNING: this process waits together with the process that runs it, and takes
    ///   over where that one dies.
    /// - INTERRUPTED, ERRORED or CANCELED: it goes on from its last checkpoint.
    /// - Paused: it stays so until [`JobRun::resume`].
    ///
    /// ```no_run
    /// # use superduper::prelude::*;
    /// # use superduper_train::prelude::*;
    /// # #[derive(Component, Clone)]
    /// # struct Mean { identifier: String }
    /// # impl Train for Mean {
    /// #     fn train(&mut self, _ctx: &mut TrainContext) -> Result<Trained> {
    /// #         Ok(Trained::model(self.clone()))
    /// #     }
    /// # }
    /// # trains!(Mean);
    /// # async fn example(trainer: Trainer, module: Mean) -> Result<()> {
    /// // As often, and in as many processes, as you like:
    /// let spec = TrainSpec::new().arg("scale", 2.0);
    /// let run = trainer.train_or_resume("mean-1", module, spec).await?;
    /// let model: Mean = run.load().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Guarantees
    /// Of several processes that call it at the same time one submits the training. One attempt runs
    /// at a time, and all processes get its model.
    ///
    /// # Errors
    /// Those of [`Trainer::train`]; `Conflict`, with the fields, where the training on record has
    /// another module or spec, and where it belongs to another trainer.
    pub async fn train_or_resume<M: Train>(
        &self,
        id: &str,
        module: M,
        spec: TrainSpec,
    ) -> Result<TrainingRun> {
        self.train_or_resume_dyn(id, Box::new(module), spec).await
    }

    /// The same for a module whose type is only known when the program runs.
    ///
    /// # Errors
    /// Those of [`Trainer::train_or_resume`] and [`Trainer::train_dyn`].
    pub async fn train_or_resume_dyn(
        &self,
        id: &str,
        module: Box<dyn Component>,
        spec: TrainSpec,
    ) -> Result<TrainingRun> {
        let wait = spec.wait;
        let training = self.training_dyn(id, module, spec.id(id))?;
        let run = self.submit_or_join(training).await?;
        if wait {
            run.wait().await?;
        }
        Ok(run)
    }

    async fn submit_or_join(&self, mut training: Training) -> Result<TrainingRun> {
        let mut tries = 0;
        loop {
            let answer = match self.look(&training).await? {
                Found::Nothing(before) => {
                    training.submission = random_id();
                    submit_after(self.db(), &training, before).await
                }
                Found::Run(run) => {
                    self.check_same(&run, &mut training).await?;
                    join(*run).await
                }
            };
            match answer {
                Ok(Some(run)) => return Ok(run),
                Err(error) if error.kind() != ErrorKind::Conflict || tries == TRIES => {
                    return Err(error);
                }
                Ok(None) if tries == TRIES => {
                    let text = format!(
                        "other processes submit, purge or resume training `{}` again and again",
                        training.identifier
                    );
                    return Err(Error::conflict(text));
                }
                // Another process was faster.
                Ok(None) | Err(_) => {}
            }
            tries += 1;
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// What is on record of the id.
    async fn look(&self, training: &Training) -> Result<Found> {
        let run = match TrainingRun::find(self.db(), &training.identifier).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing(None)),
            Err(error) => return Err(error),
        };
        let purged = run.info().await?.purged;
        Ok(if purged { Found::Nothing(Some(run.job())) } else { Found::Run(Box::new(run)) })
    }

    /// Refuse a training on record that is another one than this.
    async fn check_same(&self, run: &TrainingRun, training: &mut Training) -> Result<()> {
        let Some(stored) = run.document(&run.row().await?).await? else { return Ok(()) };
        let text = |key: &str| stored.get(key).and_then(Value::as_str);
        if let Some(owner) = text("owner").filter(|owner| *owner != self.name()) {
            let text = format!("training `{}` belongs to the trainer `{owner}`", run.id());
            return Err(Error::conflict(text).with_hint("choose another id"));
        }
        // As the same submission, so that what differs is what was asked for.
        training.submission = text("submission").unwrap_or_default().to_owned();
        let plan = self.db().plan(&*training).await?;
        // Another submission that came in between is met when the training is joined.
        let differs =
            plan.changes().iter().filter(|change| change.breaking && change.path != "submission");
        let fields: Vec<String> = differs.map(|change| format!("`{}`", change.path)).collect();
        if fields.is_empty() {
            return Ok(());
        }
        let text =
            format!("training `{}` is on record with another {}", run.id(), fields.join(", "));
        Err(Error::conflict(text).with_hint(
            "choose another id, or `purge()` that one; `trainer.get(id)` finds it as it is",
        ))
    }
}

/// Submit a training where the newest job of its id still is the one from `before`. `None` where
/// another process was faster.
async fn submit_after(
    db: &Db,
    training: &Training,
    before: Option<JobId>,
) -> Result<Option<TrainingRun>> {
    let id = &training.identifier;
    let plan = db.apply(training).retry_failed(false).plan().await?;
    // The plan is refused where the state moved after it; what moved before it is seen here.
    let now = match JobRun::find(db, JobKind::Training, id).await {
        Ok(run) => Some(run.job()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if now != before {
        return Ok(None);
    }
    let (live, run, job) = recorded(db.apply_plan(plan).detach().await?)?;
    let path = training.spec.artifact_path(id)?;
    let run = JobRun::new(db.clone(), JobKind::Training, id, (run, job), path, Some(live));
    Ok(Some(run.into()))
}

/// Go on with a training that is on record. `None` where it changed meanwhile.
async fn join(run: TrainingRun) -> Result<Option<TrainingRun>> {
    let info = run.info().await?;
    match info.status {
        Status::Completed => Ok((!info.purged).then_some(run)),
        _ if info.paused => Ok(Some(run)),
        Status::Queued | Status::Running | Status::Interrupted => run.lead().await.map(Some),
        Status::Errored | Status::Cancelled => match run.resume().await {
            Ok(run) => Ok(Some(run)),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Gone) => Ok(None),
            Err(error) => Err(error),
        },
    }
}
