//! Models with and without captured source, and a database with two governed sites.

use serde::{Deserialize, Serialize};
use std::{any::Any, sync::Arc, time::Duration};
use superduper::{
    prelude::*,
    store::{JobFilter, JobRow, JobState},
};
use superduper_access::{Access, GovernedSite, Principal, SiteGate};
use superduper_federated::{
    FedAvg, FederatedModel, FederatedTraining, ModelTrainer, Site, SiteContext, SiteData, State,
    Submitter, Tested, Trained, federates,
};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

use crate::hold::trained;

pub(crate) const LONG: Duration = Duration::from_secs(60);

#[source]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows(pub(crate) Vec<f32>);

#[typetag::serde(name = "access-it.Rows")]
impl SiteData for Rows {
    fn rows(&self) -> u64 {
        self.0.len() as u64
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A model whose source is captured.
#[derive(Component, Clone)]
#[component(kind = "access-it.Net", source)]
pub(crate) struct Net {
    pub(crate) identifier: String,
    #[component(breaking, default = 1)]
    pub(crate) size: usize,
}
federates!(Net);

#[source]
impl FederatedModel for Net {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[self.size], &vec![0.0_f32; self.size])
    }
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        trained(weights, ctx)
    }
    fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

/// Another model whose source is captured.
#[derive(Component, Clone)]
#[component(kind = "access-it.Other", source)]
pub(crate) struct Other {
    pub(crate) identifier: String,
}
federates!(Other);

#[source]
impl FederatedModel for Other {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[1], &[1.0_f32])
    }
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        trained(weights, ctx)
    }
    fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

/// A model whose source is not captured.
#[derive(Component, Clone)]
#[component(kind = "access-it.Bare")]
pub(crate) struct Bare {
    pub(crate) identifier: String,
}
federates!(Bare);

impl FederatedModel for Bare {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[1], &[1.0_f32])
    }
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        trained(weights, ctx)
    }
    fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

pub(crate) fn model() -> Net {
    Net { identifier: "net".into(), size: 1 }
}

/// A database in a folder.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) async fn open(&self) -> Db {
        let metadata = SqliteStore::open(self.folder.path()).expect("the metadata opens");
        let artifacts =
            ObjectStore::folder(self.folder.path().join("artifacts")).expect("the artifacts open");
        Db::builder()
            .metadata(Arc::new(metadata))
            .artifacts(Arc::new(artifacts))
            .build()
            .await
            .expect("the database opens")
    }
}

pub(crate) fn owner(db: &Db) -> Access {
    Access::acting(db, Principal::user("dr_b").of("clinic")).expect("an owner")
}

pub(crate) fn alice(db: &Db) -> Access {
    Access::acting(db, Principal::user("alice").of("lab")).expect("a user")
}

/// Govern site `b`, with its owner's defaults.
pub(crate) async fn govern(db: &Db) -> Access {
    let owner = owner(db);
    owner.govern(site("b", &owner)).await.expect("the site is governed");
    owner
}

pub(crate) fn site(name: &str, owner: &Access) -> GovernedSite {
    let mut site = GovernedSite::new(name, owner.who().clone());
    site.builtin = vec!["access-it.Other".into()];
    site
}

/// A training of `alice` at site `b`.
pub(crate) fn training(name: &str, model: impl FederatedModel) -> FederatedTraining {
    let mut training =
        FederatedTraining::new(name, model, FedAvg {})
            .sites([Site::new("b", Rows(vec![1.0])).gate(SiteGate {})]);
    training.options.skip_model_tests = true;
    training.submitter = Some(Submitter {
        user: "alice".into(),
        organisation: Some("lab".into()),
        purpose: "study 7".into(),
        ..Submitter::default()
    });
    training
}

pub(crate) async fn started(db: &Db, training: FederatedTraining) -> ModelTrainer {
    let mut trainer = ModelTrainer::new(db, training, None).expect("it fits together");
    trainer.start().await.expect("it starts");
    trainer
}

/// Start a training and wait for its end.
pub(crate) async fn ended(db: &Db, training: FederatedTraining) -> (ModelTrainer, State) {
    let trainer = started(db, training).await;
    let state = trainer.wait(LONG).await.expect("it ends");
    (trainer, state)
}

/// The job of a site, once it is blocked.
pub(crate) async fn blocked(db: &Db) -> JobRow {
    let blocked = JobFilter {
        states: Some(vec![JobState::Blocked]),
        method: Some("site_task".into()),
        ..JobFilter::default()
    };
    let found = tokio::time::timeout(LONG, async {
        loop {
            if let Some(job) = db.jobs(blocked.clone()).await.expect("the jobs").pop() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.expect("a job is blocked")
}
