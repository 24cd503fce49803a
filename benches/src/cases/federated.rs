//! Federated training: what a round takes beyond the work of the sites, and how fast updates are
//! aggregated.

use super::number;
use crate::{
    database::Counted,
    driver::{Driver, Report},
    measure::{Watch, round},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{any::Any, time::Duration};
use superduper::prelude::*;
use superduper_federated::{
    ClientExecutor, CoordinateMedian, DefaultExecutor, FedAvg, FederatedModel, FederatedTraining,
    ModelTrainer, Reply, Site, SiteContext, SiteData, Strategy, Task, Tested, Trained,
    TrainerOptions, Update, federates,
};

/// A number of rows, and nothing more.
#[derive(Debug, Serialize, Deserialize)]
struct Rows(u64);

#[typetag::serde(name = "bench.Rows")]
impl SiteData for Rows {
    fn rows(&self) -> u64 {
        self.0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A model whose sites send back what they got.
#[derive(Component)]
struct Echo {
    identifier: String,
    size: usize,
}
federates!(Echo);

impl FederatedModel for Echo {
    fn initial(&self, _classes: usize, _seed: u64) -> Result<Tensors> {
        weights(self.size, 0.5)
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let samples = ctx.data_as::<Rows>()?.0;
        Ok(Trained { weights, samples, metrics: Default::default() })
    }

    fn test(&self, _weights: Tensors, _ctx: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

fn weights(size: usize, value: f32) -> Result<Tensors> {
    Tensors::new().with("w", &[size], &vec![value; size])
}

/// Rounds of large models over ten sites, many rounds of small ones, and aggregation alone.
pub(crate) fn federated(driver: &Driver) -> Result<()> {
    let forms = [("large", 1_000_000, driver.n(20)), ("small", 16, driver.n(1000))];
    for (form, size, rounds) in forms {
        let parameters = json!({"sites": 10, "size": size, "rounds": rounds});
        let folder = driver.folder()?;
        let result = driver.go(folder.path(), "federated", parameters)?;
        driver.emit_operations(
            "m_federated",
            &vec![("form", json!(form)), ("sites", json!(10)), ("size", json!(size))],
            &result,
        );
    }
    let parameters = json!({"sites": 10, "size": 1_000_000, "reps": driver.reps(20)});
    let result = driver.go_alone("aggregate", parameters)?;
    driver.emit_operations("m_federated", &vec![("form", json!("aggregation"))], &result);
    let folder = driver.folder()?;
    let parameters = json!({"sites": 10, "rounds": driver.n(100), "reps": driver.reps(5)});
    let result = driver.go(folder.path(), "custom classes", parameters)?;
    driver.emit_operations("m_federated", &vec![("form", json!("custom classes"))], &result);
    Ok(())
}

/// Does what the default does.
#[derive(Debug, Serialize, Deserialize)]
struct Delegating {}

#[typetag::serde(name = "bench.Delegating")]
impl ClientExecutor for Delegating {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

/// A preview, and trainings with the default executor and with one that only delegates, in turn.
pub(crate) async fn custom_classes(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (sites, reps) = (number(parameters, "sites"), number(parameters, "reps"));
    let rounds = number(parameters, "rounds") as u64;
    let training = |name: String, delegates: bool| {
        let echo = Echo { identifier: "echo".into(), size: 16 };
        let mut training = FederatedTraining::new(name, echo, FedAvg {})
            .rounds(rounds)
            .sites((0..sites).map(|site| Site::new(format!("site{site:03}"), Rows(10))));
        training.options.skip_model_tests = true;
        if delegates {
            training.executor = Box::new(Delegating {});
        }
        training
    };
    let mut report = Report::default();
    let shown = training("preview".into(), true);
    let watch = Watch::start();
    for _ in 0..10 * reps {
        shown.preview(&opened.db).await?;
    }
    let (cpu, wall) = watch.split();
    let mut figures = serde_json::Map::new();
    figures.insert("cpu_ms".into(), json!(round(cpu / (10 * reps) as f64)));
    figures.insert("wall_ms".into(), json!(round(wall / (10 * reps) as f64)));
    report.add("preview", figures);
    // In turn, and each of them first as often, because the database grows. The first pair warms up.
    let mut sums = [0.0; 2];
    for rep in 0..=2 * reps {
        let order = if rep % 2 == 0 { [false, true] } else { [true, false] };
        for delegates in order {
            let name = format!("{rep} {delegates}");
            let watch = Watch::start();
            let mut trainer = ModelTrainer::new(&opened.db, training(name, delegates), None)?;
            trainer.start().await?;
            trainer.wait(Duration::from_secs(600)).await?;
            if rep > 0 {
                sums[usize::from(delegates)] += watch.split().0 / (2 * reps) as f64;
            }
        }
    }
    let mut figures = serde_json::Map::new();
    figures.insert("default_cpu_ms".into(), json!(round(sums[0])));
    figures.insert("delegating_cpu_ms".into(), json!(round(sums[1])));
    figures.insert("ratio".into(), json!(round(sums[1] / sums[0])));
    report.add("executor", figures);
    Ok(report.done())
}

/// One training, from its start to its end.
pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (sites, size) = (number(parameters, "sites"), number(parameters, "size"));
    let rounds = number(parameters, "rounds");
    let echo = Echo { identifier: "echo".into(), size };
    let training = FederatedTraining::new("bench", echo, FedAvg {})
        .rounds(rounds as u64)
        .sites((0..sites).map(|site| Site::new(format!("site{site:03}"), Rows(10))));
    let options = TrainerOptions { skip_model_tests: true, ..TrainerOptions::default() };
    let mut report = Report::default();
    let whole = Watch::start();
    let mut trainer = ModelTrainer::new(&opened.db, training, Some(options))?;
    trainer.start().await?;
    report.add("start", whole.stop());
    let tenth = (rounds as u64 / 10).max(1);
    let first = reach(&trainer, tenth).await?;
    reach(&trainer, rounds as u64 - tenth).await?;
    let last = reach(&trainer, rounds as u64).await?;
    trainer.wait(Duration::from_secs(600)).await?;
    let (cpu, wall) = whole.split();
    let per = |ms: f64, rounds: u64| json!(round(ms / rounds as f64));
    let mut figures = serde_json::Map::new();
    figures.insert("cpu_ms_per_round".into(), per(cpu, rounds as u64));
    figures.insert("wall_ms_per_round".into(), per(wall, rounds as u64));
    figures.insert("cpu_ms_per_site_and_round".into(), per(cpu / sites as f64, rounds as u64));
    figures.insert("cpu_ms_per_round_of_the_first_tenth".into(), per(first.0, first.1));
    figures.insert("cpu_ms_per_round_of_the_last_tenth".into(), per(last.0, last.1));
    report.add("rounds", figures);
    Ok(report.done())
}

/// Wait until so many rounds are done; gives the processor time since the call, and how many rounds
/// it was for.
async fn reach(trainer: &ModelTrainer, rounds: u64) -> Result<(f64, u64)> {
    let (watch, begun) = (Watch::start(), trainer.progress().await?.round);
    loop {
        let done = trainer.progress().await?.round;
        if done >= rounds {
            return Ok((watch.split().0, (done - begun).max(1)));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Aggregation of updates in memory, on one core.
pub(crate) async fn aggregate(parameters: &Value) -> Result<Value> {
    let (sites, size) = (number(parameters, "sites"), number(parameters, "size"));
    let global = weights(size, 0.5)?;
    let updates: Vec<Update> = (0..sites)
        .map(|site| {
            Ok(Update::new(format!("site{site}"), 10 + site as u64, weights(size, site as f32)?))
        })
        .collect::<Result<_>>()?;
    let mut report = Report::default();
    let strategies: [(&str, Box<dyn Strategy>); 2] =
        [("fedavg", Box::new(FedAvg {})), ("median", Box::new(CoordinateMedian {}))];
    for (name, strategy) in strategies {
        let mut best = f64::MAX;
        for _ in 0..number(parameters, "reps") {
            let watch = Watch::start();
            strategy.aggregate(0, &global, &Tensors::new(), &updates).await?;
            best = best.min(watch.split().0);
        }
        let bytes = (sites * size * 4) as f64;
        let mut figures = serde_json::Map::new();
        figures.insert("cpu_ms".into(), json!(round(best)));
        figures.insert("gb_per_cpu_second".into(), json!(round(bytes / best / 1e6)));
        report.add(name, figures);
    }
    Ok(report.done())
}
