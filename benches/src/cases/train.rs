//! Trainings as durable jobs: one after the other, many at once, in threads and in worker
//! processes; how they are cancelled, and what finished ones keep.

use super::train_module::Trivial;
use crate::{
    driver::{Driver, Report},
    measure::{Figures, Samples, Watch, figures, median, round, rss_mib},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use superduper::{Result, prelude::*};
use superduper_train::{JobRun, prelude::*};

pub(crate) fn train(driver: &Driver) -> Result<()> {
    for isolation in ["thread", "process"] {
        let n = driver.n(if isolation == "thread" { 200 } else { 40 });
        let result = driver.go_alone("train", json!({"isolation": isolation, "n": n}))?;
        driver.emit_operations(
            "j_train",
            &vec![("isolation", json!(isolation)), ("n", json!(n))],
            &result,
        );
    }
    Ok(())
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Processor time of this process and of the workers it has waited for, in milliseconds.
fn cpu_with_children() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|field| field.parse().ok())
        .collect();
    // utime, stime, cutime, cstime in ticks of 10 ms; the state before them is no number.
    fields.get(10..14).map_or(0.0, |ticks| ticks.iter().sum::<f64>() * 10.0)
}

/// Processes whose parent this one is, and what is resident of them, in MiB.
fn children() -> (usize, f64) {
    let (mut count, mut resident) = (0, 0.0);
    let own = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(own.as_str()) {
            count += 1;
            let pages = std::fs::read_to_string(entry.path().join("statm")).unwrap_or_default();
            resident +=
                pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0)
                    * 4096.0
                    / 1_048_576.0;
        }
    }
    (count, resident)
}

/// A database whose jobs find their code in this program, and a trainer.
pub(crate) async fn open(
    isolated: bool,
    max_concurrent: usize,
) -> Result<(Db, superduper_train::Trainer)> {
    // This program's arguments, so that its job processes come to the same place; they find a
    // job there, and do that.
    let db = Db::builder()
        .at("db")?
        .worker_arg("worker")
        .worker_arg("nothing")
        .worker_arg("{}")
        .build()
        .await?;
    let isolation = if isolated { Isolation::Process } else { Isolation::Thread };
    let grace = Duration::from_millis(500).into();
    let base = JobBase { isolation, max_concurrent, grace, ..JobBase::default() };
    let trainer = LocalTrainer::new("bench").base(base).open(&db).await?;
    Ok((db, trainer))
}

pub(crate) async fn train_worker(parameters: &Value) -> Result<Value> {
    let isolated = super::text(parameters, "isolation") == "process";
    let n = super::number(parameters, "n");
    let (_db, trainer) = open(isolated, 0).await?;
    let mut report = Report::default();
    let one = async || {
        let run = trainer.train(Trivial::new(0), TrainSpec::new()).await?;
        let info = JobRun::wait(&run).await?;
        if info.status == Status::Completed { Ok(()) } else { Err(Error::msg(format!("{info:?}"))) }
    };
    one().await?;

    let (before, files) = (cpu_with_children(), open_files());
    let mut samples = Samples::default();
    for _ in 0..n {
        let watch = Watch::start();
        one().await?;
        samples.push(watch.split());
    }
    let mut found = samples.figures();
    let mean = round((cpu_with_children() - before) / n.max(1) as f64);
    if isolated {
        // What a job costs is what it costs here and in its worker.
        let own = found.insert("cpu_ms".to_owned(), mean.clone());
        found.insert("cpu_of_the_parent_ms".to_owned(), own.unwrap_or_default());
    }
    found.insert("cpu_mean_ms".to_owned(), mean);
    found.insert("open_files_more".to_owned(), json!(open_files().saturating_sub(files)));
    report.add("submit to done, one by one", found);

    report.add("100 at once", burst(&trainer).await?);
    report.add("cancel of one that looks", cancel(&trainer, "loop").await?);
    if isolated {
        report.add("cancel of one that never looks", cancel(&trainer, "sleep").await?);
    } else {
        let mut before = 0.0;
        // The first ones make room for what is under way at one time.
        for number in 0..48 {
            if number == 8 {
                before = rss_mib().unwrap_or_default();
            }
            trainer.train(Trivial::doing("blob", 16), TrainSpec::new()).await?.wait().await?;
        }
        report.add(
            "40 finished models of 16 MiB",
            figures([("more_mib", round(rss_mib().unwrap_or_default() - before))]),
        );
        let run = trainer.train(Trivial::new(10_000_000), TrainSpec::new()).await?;
        let model: Trivial = run.load().await?;
        report.add(
            "a step in which nothing happens",
            figures([("cpu_ns", round(model.nanoseconds))]),
        );
    }
    Ok(report.done())
}

/// A hundred jobs submitted at once, then waited for.
async fn burst(trainer: &superduper_train::Trainer) -> Result<Figures> {
    let over = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut most = (0, 0.0_f64);
            while !over.load(Ordering::Relaxed) {
                let (count, resident) = children();
                most = (most.0.max(count), most.1.max(resident));
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        }
    });
    let before = cpu_with_children();
    let watch = Watch::start();
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(trainer.train(Trivial::new(0), TrainSpec::new()).await?);
    }
    for run in &runs {
        run.wait().await?;
    }
    let mut found = watch.stop();
    over.store(true, Ordering::Relaxed);
    let (most, resident) = sampler.join().map_err(|_| Error::msg("the sampler panicked"))?;
    found.insert("cpu_ms".to_owned(), round(cpu_with_children() - before));
    found.insert("children_at_once".to_owned(), json!(most));
    found.insert("children_rss_mib".to_owned(), round(resident));
    Ok(found)
}

/// How long the call takes, and how long until the job is gone.
async fn cancel(trainer: &superduper_train::Trainer, action: &str) -> Result<Figures> {
    let (mut calls, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let run = trainer.train(Trivial::doing(action, 30), TrainSpec::new()).await?;
        while run.info().await?.progress.is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let begun = Instant::now();
        run.cancel().await?;
        calls.push(begun.elapsed().as_secs_f64() * 1e3);
        run.wait().await?;
        gone.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(figures([("call_wall_ms", round(median(&calls))), ("gone_wall_ms", round(median(&gone)))]))
}
