//! Events of a training that is known by its uuid only.

use super::{ModelTrainer, events::named};
use crate::{phases::wake_jobs, state::State, training::FederatedTraining};
use superduper::{
    Db, Error, Result,
    store::{ComponentFilter, JobFilter},
};

/// Handle an event of a training, in any process: the training is found by its uuid. That of an
/// older version is not found.
///
/// # Errors
/// `NotFound` for an unknown uuid; `InvalidInput` for the name of an event that does not exist;
/// those of [`ModelTrainer::handle`].
pub async fn process_trainer_task(db: &Db, training_uuid: &str, event: &str) -> Result<State> {
    let event = named(event)?;
    let trainer = trainer_of(db, training_uuid).await?;
    trainer.handle(&*event).await?;
    trainer.state().await
}

/// Let all jobs of a site that wait for its gate ask the gate again, in the trainings of this
/// database. Returns how many jobs there were. Call it when a gate may now decide otherwise.
///
/// It runs no job: the processes that work on the trainings do.
///
/// # Errors
/// `Store`.
pub async fn wake_site(db: &Db, site: &str) -> Result<usize> {
    let method = Some("site_task".to_owned());
    wake_jobs(db, JobFilter { method, ..JobFilter::default() }, site).await
}

/// The trainer of a training.
pub(crate) async fn trainer_of(db: &Db, training_uuid: &str) -> Result<ModelTrainer> {
    let mut cursor = None;
    loop {
        let filter = ComponentFilter::new().kind("superduper.FederatedTraining");
        let page = db.component_lines(filter).after(cursor.take()).await?;
        for line in &page.lines {
            let stored =
                db.load_with_address::<FederatedTraining>(line.address.unversioned()).await?;
            if stored.training_uuid.get().is_ok_and(|uuid| *uuid == training_uuid) {
                return ModelTrainer::new(db, stored.into_inner(), None);
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Err(Error::not_found(format!("no training has the uuid `{training_uuid}`")))
}
