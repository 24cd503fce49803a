//! Trainings as durable jobs: one after the other, many at once, in threads and in worker processes.

use crate::{
    driver::{Driver, Report},
    measure::{Samples, Watch, round},
};
use serde_json::{Value, json};
use superduper::{Result, prelude::*};
use superduper_train::{JobRun, prelude::*};

/// Makes steps in which nothing happens, and is the model.
#[derive(Component, Clone)]
#[component(kind = "bench.Trivial")]
struct Trivial {
    identifier: String,
    steps: u64,
    /// Processor time of a step.
    nanoseconds: f64,
}

impl Trivial {
    fn new(steps: u64) -> Self {
        Trivial { identifier: "trivial".to_owned(), steps, nanoseconds: 0.0 }
    }
}

impl Train for Trivial {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let watch = Watch::start();
        for step in 0..self.steps {
            if ctx.step(step, self.steps)?.is_stop() {
                break;
            }
        }
        self.nanoseconds = watch.split().0 * 1e6 / self.steps.max(1) as f64;
        Ok(Trained::model(self.clone()))
    }
}

trains!(Trivial);

pub(crate) fn train(driver: &Driver) -> Result<()> {
    for isolation in ["thread", "process"] {
        let n = driver.n(if isolation == "thread" { 200 } else { 40 });
        let result = driver.go_alone("train", json!({"isolation": isolation, "n": n}))?;
        driver.emit_operations("j_train", &vec![("isolation", json!(isolation)), ("n", json!(n))], &result);
    }
    Ok(())
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Processor time of this process and of the workers it has waited for, in milliseconds.
fn cpu_with_children() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = text.rsplit(") ").next().unwrap_or_default().split(' ').filter_map(|field| field.parse().ok()).collect();
    // utime, stime, cutime, cstime in ticks of 10 ms; the state before them is no number.
    fields.get(10..14).map_or(0.0, |ticks| ticks.iter().sum::<f64>() * 10.0)
}

pub(crate) async fn train_worker(parameters: &Value) -> Result<Value> {
    // This program's arguments, so that its worker processes come to the same place; they find a job there, and do that.
    let db = Db::builder().at("db")?.worker_arg("worker").worker_arg("nothing").worker_arg("{}").build().await?;
    let isolated = super::text(parameters, "isolation") == "process";
    let n = super::number(parameters, "n");
    let isolation = if isolated { Isolation::Process } else { Isolation::Thread };
    let base = JobBase { isolation, ..JobBase::default() };
    let trainer = LocalTrainer::new("bench").base(base).open(&db).await?;
    let one = async || {
        let run = trainer.train(Trivial::new(0), TrainSpec::new()).await?;
        let info = JobRun::wait(&run).await?;
        if info.status == Status::Completed { Ok(()) } else { Err(Error::msg(format!("{info:?}"))) }
    };
    one().await?;
    let mut report = Report::default();
    let (before, files) = (cpu_with_children(), open_files());
    let mut samples = Samples::default();
    for _ in 0..n {
        let watch = Watch::start();
        one().await?;
        samples.push(watch.split());
    }
    let mut figures = samples.figures();
    figures.insert("cpu_with_workers_ms".to_owned(), round((cpu_with_children() - before) / n.max(1) as f64));
    figures.insert("open_files_before".to_owned(), json!(files));
    figures.insert("open_files_after".to_owned(), json!(open_files()));
    report.add("submit to done, one by one", figures);
    let before = cpu_with_children();
    let watch = Watch::start();
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(trainer.train(Trivial::new(0), TrainSpec::new()).await?);
    }
    for run in &runs {
        run.wait().await?;
    }
    let mut figures = watch.stop();
    figures.insert("cpu_with_workers_ms".to_owned(), round(cpu_with_children() - before));
    report.add("100 at once", figures);
    let run = trainer.train(Trivial::new(10_000_000), TrainSpec::new()).await?;
    let model: Trivial = run.load().await?;
    report.add("a step in which nothing happens", crate::measure::figures([("cpu_ns", round(model.nanoseconds))]));
    Ok(report.done())
}
