//! What becomes of trainings when something goes wrong: what the caller is told, what is left, what
//! is lost.

use super::{train::open, train_module::Trivial};
use crate::driver::{Driver, Report};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};
use superduper::{Result, prelude::*, store::JobFilter};
use superduper_train::prelude::*;

pub(crate) fn facts(driver: &Driver) -> Result<()> {
    let result = driver.go_alone("train_facts", json!({}))?;
    driver.emit_operations("j_facts", &Vec::new(), &result);

    // A process trains and ends; another one looks for the training.
    let folder = driver.folder()?;
    driver.go(folder.path(), "train_one", json!({"action": "", "amount": 0}))?;
    let found = driver.go(folder.path(), "train_find", json!({}))?;
    driver.emit(
        "j_facts",
        &vec![("what", json!("looked up by another process, after the first has ended"))],
        &found,
    );

    // A process is killed while its worker sleeps.
    let folder = driver.folder()?;
    let started =
        driver.start(folder.path(), "train_one", &json!({"action": "sleep", "amount": 60}))?;
    let pid = folder.path().join("pid");
    started.kill_when(|| pid.exists(), Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(1));
    let worker = std::fs::read_to_string(&pid)?;
    let alive = is_alive(worker.trim());
    let found = driver.go(folder.path(), "train_find", json!({}))?;
    let figures = json!({"worker_alive_after_1_s": alive, "found": found["found"], "status": found["status"]});
    driver.emit("j_facts", &vec![("what", json!("the submitting process is killed"))], &figures);
    Ok(())
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn is_alive(pid: &str) -> bool {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn words(pairs: &[(&str, Value)]) -> crate::measure::Figures {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// In one process: races, limits, deaths.
pub(crate) async fn facts_worker() -> Result<Value> {
    let mut report = Report::default();
    let (db, trainer) = open(true, 2).await?;
    pairs(&trainer, &mut report).await?;
    limit(&trainer, &mut report).await?;
    killed(&trainer, &mut report).await?;
    endings(&trainer, &mut report).await?;
    let states: BTreeSet<String> =
        db.jobs(JobFilter::default()).await?.iter().map(|job| job.state.to_string()).collect();
    if states.iter().any(|state| state == "queued" || state == "running") {
        return Err(Error::msg(format!("not all jobs are final: {states:?}")));
    }
    Ok(report.done())
}

/// Two callers at once give their trainings the same id.
async fn pairs(trainer: &Trainer, report: &mut Report) -> Result<()> {
    let mut both = 0;
    for pair in 0..50 {
        let spec = || TrainSpec::new().id(format!("pair-{pair}"));
        let (one, other) = tokio::join!(
            trainer.train(Trivial::new(0), spec()),
            trainer.train(Trivial::new(0), spec())
        );
        both += u32::from(one.is_ok() && other.is_ok());
        for run in [one, other].into_iter().flatten() {
            run.wait().await?;
        }
    }
    report.add("50 pairs of callers with one id", words(&[("both_jobs_ran", json!(both))]));
    Ok(())
}

/// More trainings than may run at once.
async fn limit(trainer: &Trainer, report: &mut Report) -> Result<()> {
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(trainer.train(Trivial::doing("loop", 1), TrainSpec::new()).await?);
    }
    let mut most = 0;
    for _ in 0..40 {
        let mut running = 0;
        for run in &runs {
            running += u32::from(run.info().await?.status == Status::Running);
        }
        most = most.max(running);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for run in &runs {
        run.cancel().await?;
    }
    for run in &runs {
        run.wait().await?;
    }
    report.add("8 jobs, 2 wanted at once", words(&[("running_at_once", json!(most))]));
    Ok(())
}

/// The worker of a training is killed.
async fn killed(trainer: &Trainer, report: &mut Report) -> Result<()> {
    let run = trainer.train(Trivial::doing("sleep", 60), TrainSpec::new()).await?;
    let worker = worker_of(&run).await?;
    // `kill` of the shell: signal 9.
    std::process::Command::new("kill").args(["-9", &worker.to_string()]).status()?;
    let begun = Instant::now();
    let info = run.wait().await?;
    let text = info.error.map(|error| error.message).unwrap_or_default();
    let said = json!({"status": info.status.to_string(), "says_signal_9": text.contains("signal 9"), "says_out_of_memory": text.contains("memory")});
    let mut found = words(&[("noticed_wall_ms", json!(begun.elapsed().as_millis() as u64))]);
    found.extend(said.as_object().cloned().unwrap_or_default());
    report.add("the worker is killed by signal 9", found);
    Ok(())
}

/// Trainings that end without a model, and one that is not to be saved.
async fn endings(trainer: &Trainer, report: &mut Report) -> Result<()> {
    let run = trainer.train(Trivial::doing("exit", 0), TrainSpec::new()).await?;
    report.add(
        "the worker exits with 0 and without a result",
        words(&[("status", json!(run.wait().await?.status.to_string()))]),
    );

    let run = trainer.train(Trivial::doing("fail", 1_000_000), TrainSpec::new()).await?;
    let info = tokio::time::timeout(Duration::from_secs(8), run.wait()).await;
    let arrived = info.is_ok();
    report.add("an error of 1 MB", words(&[("arrives_within_8_s", json!(arrived))]));

    let run = trainer.train(Trivial::new(0), TrainSpec::new()).await?;
    let loads = run.load::<Trivial>().await.is_ok();
    report.add("a process job without a save path", words(&[("loads", json!(loads))]));

    let run = trainer.train(Trivial::doing("fail", 3), TrainSpec::new()).await?;
    run.wait().await?;
    run.cancel().await?;
    report.add(
        "cancel of a failed job",
        words(&[("status", json!(run.info().await?.status.to_string()))]),
    );
    Ok(())
}

/// The process of a run's worker: the child of this process, once the run has begun.
async fn worker_of(run: &TrainingRun) -> Result<u32> {
    while run.info().await?.progress.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let children =
        std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()))
            .unwrap_or_default();
    let mut found: Vec<u32> =
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    for entry in std::fs::read_dir("/proc/self/task")?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found.into_iter().max().ok_or_else(|| Error::msg("the run has no worker"))
}

/// Submit one training, note its worker, wait for its end.
pub(crate) async fn one_worker(parameters: &Value) -> Result<Value> {
    let (_db, trainer) = open(true, 1).await?;
    let module = Trivial::doing(
        super::text(parameters, "action"),
        super::number(parameters, "amount") as u64,
    );
    let run = trainer.train(module, TrainSpec::new().id("the-one")).await?;
    if super::number(parameters, "amount") > 0 {
        let worker = worker_of(&run).await?;
        std::fs::write("pid.new", worker.to_string())?;
        std::fs::rename("pid.new", "pid")?;
    }
    let info = run.wait().await?;
    Ok(json!({"status": info.status.to_string()}))
}

/// Look for that training.
pub(crate) async fn find_worker() -> Result<Value> {
    let (db, _trainer) = open(true, 1).await?;
    Ok(match db.get_model_future("the-one").await {
        Ok(run) => json!({"found": true, "status": run.info().await?.status.to_string()}),
        Err(error) => json!({"found": false, "status": error.to_string()}),
    })
}
