//! Trainings that the worker program and the tests both know, and the parts of them that stop, die
//! and measure.

use crate::support::{faulty, mean, rows};
use serde::{Deserialize, Serialize};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use superduper::{BoxFuture, prelude::*};
use superduper_federated::{
    Aggregated, Delivery, Endpoint, FedAvg, FedAvgM, FedDC, FederatedTraining, Late,
    ModelPersistor, Notification, PersistContext, Site, SiteJobs, Strategy, Update,
};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

/// How the worker program and the tests open the database of a folder.
pub(crate) fn builder(folder: &Path) -> Result<superduper::DbBuilder> {
    let metadata = SqliteStore::open(folder)?;
    let artifacts = ObjectStore::folder(folder.join("artifacts"))?;
    Ok(Db::builder().metadata(Arc::new(metadata)).artifacts(Arc::new(artifacts)))
}

/// A training by its name. Files that it reads and writes are beside the folder of its database.
pub(crate) fn training(name: &str, folder: &Path) -> Result<FederatedTraining> {
    let beside = folder.parent().unwrap_or(folder);
    let mut training = match name {
        "storm" => many(name, FedAvgM::default(), 4, 2 * kills()),
        "storm chain" => many(name, FedDC { daisy_chain_period: 3 }, 4, 2 * kills()),
        "storm swag" => many(name, FedAvg {}, 4, kills()),
        "storm processes" => many(name, FedAvg {}, 3, kills()),
        // Few: a job that blocks or is cancelled lets core read all jobs of the run.
        "storm late" => many(name, FedAvg {}, 4, 2 * kills().min(20)),
        "storm stored" => many(name, FedAvg {}, 4, kills()),
        "halting" => many(name, Halting { folder: beside.to_owned() }, 3, 3),
        "deadline" => many(name, FedAvg {}, 2, 1),
        "told" => many(name, FedAvg {}, 3, 12),
        "small" => many(name, FedAvg {}, 2, 1),
        "scale" => many(name, FedAvg {}, 5, rounds()),
        "race" => FederatedTraining::new(name, mean(2), FedAvg {})
            .sites([Site::remote("a"), Site::remote("b")])
            .rounds(2),
        other => return Err(Error::invalid(format!("no training has the name `{other}`"))),
    };
    match name {
        "storm swag" => {
            training.uncertainty = superduper_federated::UncertaintyMethod::Swag { samples: 3 };
        }
        "storm processes" => {
            let executor = Some("process".to_owned());
            training.sites[0].jobs = SiteJobs { executor, ..SiteJobs::default() };
        }
        // Which answers count depends on the time.
        "storm late" => {
            training.federation.min_clients = 2;
            training.federation.wait_time_after_min_received = 0.0;
            training.federation.late = Late::NextRound;
            training.federation.round_deadline = Some(60.0);
        }
        // No update waits in memory.
        "storm stored" => training.federation.memory = 0,
        "deadline" => {
            training.sites.push(Site::remote("silent"));
            training.federation.round_deadline = Some(3.0);
            training.options.skip_model_tests = true;
        }
        "told" => {
            for site in &mut training.sites {
                let file = beside.join(format!("told-{}", site.name));
                site.endpoint = Some(Box::new(FileBook { file }));
            }
        }
        "race" => training.options.skip_model_tests = true,
        "scale" => {
            for site in &mut training.sites {
                site.data = Some(Box::new(faulty("round")));
            }
            training.federation.keep.last = 3;
            training.persistor = Box::new(Meter { file: beside.join("meter") });
        }
        _ => {}
    }
    Ok(training)
}

/// How often the process of a training `storm` is killed.
pub(crate) fn kills() -> u64 {
    // SUPERDUPER_STORM=100 for the full run.
    std::env::var("SUPERDUPER_STORM").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// The rounds of the training `scale`.
pub(crate) fn rounds() -> u64 {
    // SUPERDUPER_ROUNDS=1000 for the full run.
    std::env::var("SUPERDUPER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn many(
    name: &str,
    strategy: impl Strategy + 'static,
    sites: usize,
    rounds: u64,
) -> FederatedTraining {
    let sites = (0..sites).map(|number| {
        let value = 0.1 + number as f32 * 0.37;
        Site::new(format!("site-{number}"), rows(&[value, value * 3.0, 1e-3]))
    });
    FederatedTraining::new(name, mean(3), strategy).sites(sites).rounds(rounds)
}

/// FedAvg that, in its second round, writes the file `reached` and waits for the file `go`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Halting {
    pub(crate) folder: PathBuf,
}

#[typetag::serde(name = "it.Halting")]
impl Strategy for Halting {
    fn name(&self) -> &'static str {
        "Halting"
    }

    fn check(&self, _sites: usize, _min_clients: usize) -> Result<()> {
        Ok(())
    }

    fn aggregate<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<Aggregated>> {
        Box::pin(async move {
            if round == 1 {
                std::fs::write(self.folder.join("reached"), "").context("reached")?;
                while !self.folder.join("go").exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            FedAvg {}.aggregate(round, global, state, updates).await
        })
    }
}

/// Appends each notification as a line to a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileBook {
    pub(crate) file: PathBuf,
}

#[typetag::serde(name = "it.FileBook")]
impl Endpoint for FileBook {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(async move {
            append(&self.file, &serde_json::to_string(notification)?)?;
            Ok(Delivery::Accepted)
        })
    }
}

/// Writes down the processor time of this process at the end of each round, in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meter {
    pub(crate) file: PathBuf,
}

#[typetag::serde(name = "it.Meter")]
impl ModelPersistor for Meter {
    fn save(&self, _: &Tensors, _: u64, _: &PersistContext<'_>) -> Result<Option<Tensors>> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let milliseconds = now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6;
        append(&self.file, &milliseconds.to_string()).map(|()| None)
    }
}

/// Add a whole line to a file, or nothing.
fn append(file: &Path, line: &str) -> Result<()> {
    let mut open = std::fs::OpenOptions::new();
    let mut file = open.append(true).create(true).open(file).context("a file to append to")?;
    file.write_all(format!("{line}\n").as_bytes()).context("appending a line")?;
    Ok(())
}
