//! Custom classes: model, executor and persistor of a user's own. Cases of group C.

mod bundles;
mod classes;
mod configs;
mod made;
mod more;
mod persistors;
#[cfg(feature = "s3")]
mod s3_buckets;
mod sources;
mod types;

use crate::support::Place;
use made::{custom, exported, net};
use superduper::Db;
use superduper_federated::{FederatedTraining, ModelTrainer};

/// Start a training.
async fn started(db: &Db, training: FederatedTraining) -> ModelTrainer {
    let mut trainer = ModelTrainer::new(db, training, None).expect("the training fits together");
    trainer.start().await.expect("it starts");
    trainer
}

/// The head of the newest global model.
async fn head(trainer: &ModelTrainer) -> Vec<f32> {
    let global = trainer.global().await.expect("there is a model");
    let weights = global.weights.get().await.expect("the weights are there");
    weights.to_vec("head").await.expect("they are numbers")
}

/// A place for files of a test.
fn folder(place: &Place, name: &str) -> std::path::PathBuf {
    place.folder.path().join(name)
}
