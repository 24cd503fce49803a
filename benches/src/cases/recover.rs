//! The way back after a crash: opening a database whose process was killed, and running what it
//! left.

use super::number;
use crate::{
    components::{HANG, Waiter},
    database::{Counted, count},
    driver::{Driver, Report},
    measure::{cpu_time, round},
};
use serde_json::{Value, json};
use std::{sync::atomic::Ordering, time::Duration};
use superduper::{Error, Result, store::JobState};

/// Until the jobs are on record.
const LONG: Duration = Duration::from_secs(300);

pub(crate) fn recover(driver: &Driver) -> Result<()> {
    let n = driver.n(10_000);
    let folder = driver.folder()?;
    let worker = driver.start(folder.path(), "recover_seed", &json!({"n": n}))?;
    let killed = worker.kill_when(|| folder.path().join("marker").exists(), LONG)?;
    let open = count(folder.path(), "SELECT count(*) FROM job WHERE ended_at IS NULL")?;
    if !killed || open < n as i64 {
        return Err(Error::msg(format!("{open} jobs were left instead of {n}")));
    }
    let result = driver.go(folder.path(), "recover", json!({"n": n}))?;
    driver.emit_operations("h_recover", &vec![("n", json!(n))], &result);
    Ok(())
}

/// Record `n` jobs, and be killed while the first of them run.
pub(crate) async fn seed(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    HANG.store(true, Ordering::Relaxed);
    opened.db.apply(Waiter { identifier: "w".to_owned(), n: number(parameters, "n") }).await?;
    Ok(json!({}))
}

pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let n = number(parameters, "n");
    let mut report = Report::default();
    let before = cpu_time();
    let opened = report.time("open", Counted::open()).await?;
    let (outcomes, mut figures) = opened.time(async { opened.db.resume().await }).await?;
    let succeeded = outcomes
        .iter()
        .flat_map(|outcome| &outcome.jobs)
        .filter(|job| job.state == JobState::Succeeded)
        .count();
    if succeeded != n + 1 {
        return Err(Error::msg(format!("{succeeded} of {} jobs succeeded", n + 1)));
    }
    figures.insert("jobs".to_owned(), json!(succeeded));
    figures.insert("cpu_ms_with_open".to_owned(), round((cpu_time() - before).as_secs_f64() * 1e3));
    report.add("resume", figures);
    Ok(report.done())
}
