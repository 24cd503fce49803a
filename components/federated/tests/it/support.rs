//! A model of one number per weight, sites whose rows are numbers, and endpoints that write down
//! what they are told.

use serde::{Deserialize, Serialize};
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};
use superduper::prelude::*;
use superduper::store::{JobFilter, JobState};
use superduper::{BoxFuture, ComponentType};
use superduper_federated::{
    Delivery, Endpoint, FedAvg, FederatedModel, FederatedTraining, LocalModel, ModelPersistor,
    ModelTrainer, Notification, PersistContext, Site, SiteContext, SiteData, SiteMoments, State,
    Tested, Trained, TrainerOptions, federates,
};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

/// Rows of numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub(crate) values: Vec<f32>,
    /// How a site misbehaves.
    #[serde(default)]
    pub(crate) fault: String,
}

#[typetag::serde(name = "it.Rows")]
impl SiteData for Rows {
    fn rows(&self) -> u64 {
        self.values.len() as u64
    }

    fn classes(&self) -> Option<usize> {
        Some(2)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Rows with these values.
pub(crate) fn rows(values: &[f32]) -> Rows {
    Rows { values: values.to_vec(), fault: String::new() }
}

/// Rows of a site that misbehaves.
pub(crate) fn faulty(fault: &str) -> Rows {
    Rows { values: vec![1.0], fault: fault.to_owned() }
}

/// A model of `size` weights; a site's training moves each half way to the mean of its rows.
#[derive(Component, Clone)]
#[component(kind = "it.Mean")]
pub(crate) struct Mean {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) size: usize,
}
federates!(Mean);

/// How often sites trained, by training uuid or tag, site and round.
pub(crate) static CALLS: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

pub(crate) fn calls(key: &str) -> u32 {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
}

pub(crate) fn count(key: String) -> u32 {
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = calls.entry(key).or_default();
    *calls += 1;
    *calls
}

impl FederatedModel for Mean {
    fn initial(&self, _classes: usize, _seed: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[self.size], &vec![0.0_f32; self.size])
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let data: Rows = ctx.data_as::<Rows>()?.clone();
        let tag = ctx.args().get("tag").and_then(|tag| tag.as_str()).unwrap_or_default().to_owned();
        let trained = count(format!("{tag}/{}/{}", ctx.site(), ctx.round()));
        let mut values = ctx.block_on(weights.to_vec::<f32>("w"))?;
        let mean = data.values.iter().sum::<f32>() / data.values.len().max(1) as f32;
        for value in &mut values {
            *value += (mean - *value) * 0.5;
        }
        match data.fault.as_str() {
            "panic" => panic!("the site panics"),
            "error once" if trained == 1 => return Err(Error::invalid("the site fails once")),
            "error" => return Err(Error::invalid("the site fails")),
            "error first" if calls(&format!("{tag}/mended")) == 0 => {
                return Err(Error::invalid("the site is away"));
            }
            "nan" => values[0] = f32::NAN,
            "slow" => {
                while !ctx.aborted() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                ctx.check_abort()?;
            }
            "slow once" if trained == 1 => {
                std::thread::sleep(Duration::from_millis(700));
            }
            "shape" => values.push(1.0),
            "round" => values[0] = ctx.round() as f32,
            "kill" if is_job_process() => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)
                    .map_err(|error| Error::invalid(error.to_string()))?;
            }
            _ => {}
        }
        let name = if data.fault == "name" { "other" } else { "w" };
        let weights = Tensors::new().with(name, &[values.len()], &values)?;
        let loss = f64::from((mean - values[0]).abs());
        Ok(Trained {
            weights,
            samples: data.rows(),
            metrics: BTreeMap::from([
                ("loss".to_owned(), loss),
                ("process".to_owned(), f64::from(std::process::id())),
            ]),
        })
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let values = ctx.block_on(weights.to_vec::<f32>("w"))?;
        let data = ctx.data_as::<Rows>()?;
        let metrics = BTreeMap::from([("value".to_owned(), f64::from(values[0]))]);
        Ok(Tested { samples: data.rows(), metrics })
    }

    fn moments(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<SiteMoments> {
        let fault = ctx.data_as::<Rows>()?.fault.clone();
        let tag = ctx.args().get("tag").and_then(|tag| tag.as_str()).unwrap_or_default();
        if fault == "no moments first" && calls(&format!("{tag}/mended")) == 0 {
            return Err(Error::invalid("the site is away"));
        }
        let rows = &ctx.data_as::<Rows>()?.values;
        let mean = rows.iter().sum::<f32>() / rows.len().max(1) as f32;
        // They differ from site to site, so that a site that is missing shows.
        let first: Vec<f32> =
            ctx.block_on(weights.to_vec::<f32>("w"))?.iter().map(|value| value + mean).collect();
        let second: Vec<f32> = first.iter().map(|value| value * value + 1.0).collect();
        Ok(SiteMoments {
            first: Tensors::new().with("w", &[self.size], &first)?,
            second: Tensors::new().with("w", &[self.size], &second)?,
            samples: 1000,
        })
    }
}

/// Whether this is the worker program, not the program of the tests.
fn is_job_process() -> bool {
    std::env::current_exe().is_ok_and(|program| program.ends_with("federated-worker"))
}

/// What endpoints were told, by the name of the endpoint, in order.
pub(crate) static TOLD: LazyLock<Mutex<HashMap<String, Vec<Notification>>>> =
    LazyLock::new(Mutex::default);

/// Writes down what it is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) name: String,
    /// Rejects these.
    #[serde(default)]
    pub(crate) rejects: Vec<String>,
    /// Fails so many times.
    #[serde(default)]
    pub(crate) fails: u32,
    /// Answers nothing for half a minute.
    #[serde(default)]
    pub(crate) hangs: bool,
    /// Takes a while for notifications of this type.
    #[serde(default)]
    pub(crate) slow_at: String,
}

impl Book {
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Book {
            name: name.into(),
            rejects: Vec::new(),
            fails: 0,
            hangs: false,
            slow_at: String::new(),
        }
    }
}

#[typetag::serde(name = "it.Book")]
impl Endpoint for Book {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(async move {
            let name = notification.notification_type.name();
            if self.slow_at == name {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            if self.hangs {
                tokio::time::sleep(Duration::from_secs(30)).await;
                return Err(Error::invalid("it hung").retryable());
            }
            if self.rejects.iter().any(|rejected| rejected == name) {
                return Ok(Delivery::Rejected("not wanted".to_owned()));
            }
            if self.fails > 0
                && count(format!("{}/{}", self.name, notification.idempotency_key)) <= self.fails
            {
                return Err(Error::invalid("the endpoint is away").retryable());
            }
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            told.entry(self.name.clone()).or_default().push(notification.clone());
            Ok(Delivery::Accepted)
        })
    }
}

/// What an endpoint was told, as `TYPE` or `TYPE{round}`.
pub(crate) fn told(name: &str) -> Vec<String> {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = told.get(name).into_iter().flatten().map(|notification| {
        let name = notification.notification_type.name();
        match notification.body.round {
            Some(round) => format!("{name}{{{round}}}"),
            None => name.to_owned(),
        }
    });
    lines.collect()
}

/// A database in a folder.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }

    /// The folder of a database that the worker program opens.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// The database of the worker program.
    pub(crate) async fn open_shared(&self) -> Db {
        let builder = crate::trainings::builder(&self.path()).expect("the stores open");
        builder.program(program()).build().await.expect("the database opens")
    }

    pub(crate) async fn open(&self) -> Db {
        self.open_with(4).await
    }

    pub(crate) async fn open_with(&self, parallelism: usize) -> Db {
        let metadata = SqliteStore::open(self.folder.path()).expect("the metadata opens");
        let artifacts =
            ObjectStore::folder(self.folder.path().join("artifacts")).expect("the artifacts open");
        Db::builder()
            .metadata(std::sync::Arc::new(metadata))
            .artifacts(std::sync::Arc::new(artifacts))
            .parallelism(parallelism)
            .build()
            .await
            .expect("the database opens")
    }
}

/// The worker program: `target/debug/deps/it-…` is beside `target/debug/examples`.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let folder = own.parent().and_then(|folder| folder.parent()).expect("it is in a folder");
    let program = folder.join("examples").join("federated-worker");
    assert!(
        program.exists(),
        "`{}` is missing; `cargo build --examples -p superduper-federated` makes it",
        program.display()
    );
    program
}

/// A training of [`Mean`] by FedAvg with two embedded sites `a` and `b`, whose rows are 0 and 1.
pub(crate) fn two_sites(name: &str) -> FederatedTraining {
    let mut training = FederatedTraining::new(name, mean(2), FedAvg {})
        .sites([Site::new("a", rows(&[0.0, 0.0])), Site::new("b", rows(&[1.0, 1.0]))]);
    training.config.extra.insert("tag".into(), json!(name));
    training
}

pub(crate) fn mean(size: usize) -> Mean {
    Mean { identifier: "mean".into(), size }
}

/// The weights of the newest global model.
pub(crate) async fn weights(trainer: &superduper_federated::ModelTrainer) -> Vec<f32> {
    let global = trainer.global().await.expect("there is a model");
    let tensors = global.weights.get().await.expect("the weights are there");
    tensors.to_vec("w").await.expect("they are numbers")
}

/// The local models on record.
pub(crate) async fn locals(db: &Db) -> usize {
    let all = db.list().await.expect("the list");
    all.iter().filter(|listed| listed.address.kind == LocalModel::__kind()).count()
}

/// Long enough for anything here.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Wait for a condition.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    tokio::time::timeout(LONG, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the condition holds in time");
}

/// Start a training and wait until it is COMPLETED.
pub(crate) async fn trained(
    db: &Db,
    training: FederatedTraining,
    options: Option<TrainerOptions>,
) -> ModelTrainer {
    let (trainer, state) = ended(db, training, options).await;
    let failures = trainer.failures().await.expect("the failures");
    assert_eq!(state, State::Completed, "{failures:?}");
    trainer
}

/// Start a training and wait for its end.
pub(crate) async fn ended(
    db: &Db,
    training: FederatedTraining,
    options: Option<TrainerOptions>,
) -> (ModelTrainer, State) {
    let mut trainer = ModelTrainer::new(db, training, options).expect("a trainer");
    trainer.start().await.expect("it starts");
    let state = trainer.wait(LONG).await.expect("it ends");
    (trainer, state)
}

/// Give each site an endpoint of the name `<name>/<site>`.
pub(crate) fn tell(training: &mut FederatedTraining, name: &str) {
    for site in &mut training.sites {
        site.endpoint = Some(Box::new(Book::named(format!("{name}/{}", site.name))));
    }
}

/// The keys of the jobs of a training's newest run that are in this state.
pub(crate) async fn keys(db: &Db, state: JobState) -> Vec<String> {
    let filter = JobFilter { states: Some(vec![state]), ..JobFilter::default() };
    let jobs = db.jobs(filter).await.expect("the jobs");
    jobs.into_iter().filter_map(|job| job.key).collect()
}

/// Counts its calls; `save` fails after so many rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noting {
    pub(crate) name: String,
    /// `save` fails for this round while the mark is set.
    pub(crate) fails_at: Option<u64>,
}

#[typetag::serde(name = "it.Noting")]
impl ModelPersistor for Noting {
    fn load(&self, ctx: &PersistContext<'_>) -> Result<Tensors> {
        count(format!("{}/load", self.name));
        ctx.initial()
    }

    fn save(&self, _: &Tensors, rounds: u64, _: &PersistContext<'_>) -> Result<Option<Tensors>> {
        count(format!("{}/save/{rounds}", self.name));
        let is_mended = calls(&format!("{}/mended", self.name)) > 0;
        match self.fails_at {
            Some(at) if at == rounds && !is_mended => Err(Error::invalid("the disk is full")),
            _ => Ok(None),
        }
    }
}
