//! Processes that are killed, and triggers that fail: what is left, and what the next process makes
//! of it.

use super::{artifact::weights, number, text};
use crate::{
    components::{Boom, FAIL, HANG, Slow, Weights, flat, take_calls},
    database::{Counted, count, files_below},
    driver::Driver,
};
use serde_json::{Value, json};
use std::{path::Path, sync::atomic::Ordering, time::Duration};
use superduper::{Artifact, Db, Result, store::JobFilter};

const LONG: Duration = Duration::from_secs(60);

pub(crate) fn crash(driver: &Driver) -> Result<()> {
    inside_trigger(driver)?;
    between_rows(driver)?;
    shared_blob(driver)?;
    let folder = driver.folder()?;
    let failed = driver.go(folder.path(), "raises", json!({"fail": true}))?;
    let again = driver.go(folder.path(), "raises", json!({"fail": false}))?;
    let figures = json!({"first": failed["result"], "reapply": again["result"]});
    driver.emit("h_crash", &vec![("point", json!("trigger raises"))], &figures);
    Ok(())
}

fn inside_trigger(driver: &Driver) -> Result<()> {
    let folder = driver.folder()?;
    let worker = driver.start(folder.path(), "crash_trigger", &json!({"hang": true}))?;
    let killed = worker.kill_when(|| folder.path().join("marker").exists(), LONG)?;
    let unfinished = count(folder.path(), "SELECT count(*) FROM job WHERE ended_at IS NULL")?;
    let again = driver.go(folder.path(), "crash_trigger", json!({"hang": false}))?;
    let figures = json!({"killed": killed, "jobs_unfinished_after_kill": unfinished, "reapply": again["result"]});
    driver.emit("h_crash", &vec![("point", json!("inside trigger start (1st of 2)"))], &figures);
    Ok(())
}

/// Component rows are written in one transaction, so the kill comes at many moments instead of
/// between two rows.
fn between_rows(driver: &Driver) -> Result<()> {
    let mut left = [0; 3];
    let kills = driver.reps(20);
    for i in 0..kills {
        let folder = driver.folder()?;
        let worker = driver.start(folder.path(), "crash_rows", &json!({"linger": true}))?;
        let marker = folder.path().join("marker");
        let delay = Duration::from_micros(200 * i as u64);
        worker.kill_when(
            || {
                let there = marker.exists();
                if there {
                    std::thread::sleep(delay);
                }
                there
            },
            LONG,
        )?;
        let stored = count(folder.path(), "SELECT count(*) FROM version")?;
        left[usize::from(stored > 0) + usize::from(stored == 21)] += 1;
        driver.go(folder.path(), "crash_rows", json!({"linger": false}))?;
        let whole = count(folder.path(), "SELECT count(*) FROM version")? == 21;
        left[1] += usize::from(!whole);
    }
    let figures = json!({"kills": kills, "left_nothing": left[0], "left_a_part": left[1], "left_all": left[2]});
    driver.emit(
        "h_crash",
        &vec![("point", json!("between the rows of a tree of 20 children"))],
        &figures,
    );
    Ok(())
}

fn shared_blob(driver: &Driver) -> Result<()> {
    let folder = driver.folder()?;
    let mib = driver.options.mib.as_ref().and_then(|sizes| sizes.first().copied()).unwrap_or(64);
    driver.go(folder.path(), "blob_share", json!({"who": "A", "mib": mib}))?;
    let blobs = folder.path().join("db/artifacts");
    let before = files_below(&blobs)?.0;
    let worker = driver.start(folder.path(), "blob_share", &json!({"who": "B", "mib": mib}))?;
    let marker = folder.path().join("marker_B");
    let killed = worker.kill_when(|| marker.exists(), LONG)?;
    let after = files_below(&blobs)?.0;
    let loaded = driver.go(folder.path(), "art_load", json!({"identifier": "A"}))?;
    let figures = json!({
        "killed": killed, "blob_bytes_before": before, "blob_bytes_after": after, "load_A": loaded["operations"][1]["figures"]["dimensions"],
    });
    driver.emit(
        "h_crash",
        &vec![("point", json!("B written with the same weights as A, killed in the write"))],
        &figures,
    );
    Ok(())
}

/// What the database says of a component and its jobs.
async fn snap(db: &Db, address: &str) -> Result<Value> {
    let jobs = db.jobs(JobFilter::default()).await?;
    let jobs: Vec<String> = jobs
        .iter()
        .map(|job| format!("{} {} attempt {}", job.method, job.state, job.attempt))
        .collect();
    Ok(
        json!({"status": format!("{:?}", db.status(address).await?), "jobs": jobs, "calls": take_calls()}),
    )
}

pub(crate) async fn crash_trigger(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    HANG.store(parameters["hang"] == true, Ordering::Relaxed);
    opened.db.apply(Slow { identifier: "s".to_owned(), a: 1 }).await?;
    Ok(json!({"result": snap(&opened.db, "superduper_bench.Slow/s").await?}))
}

pub(crate) async fn crash_rows(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    std::fs::write("marker", "")?;
    opened.db.apply(flat("root", "n", 20)).await?;
    if parameters["linger"] == true {
        tokio::time::sleep(LONG).await;
    }
    Ok(json!({}))
}

pub(crate) async fn blob_share(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let who = text(parameters, "who");
    let w = Artifact::new(weights(number(parameters, "mib"), 0)?);
    std::fs::write(Path::new(&format!("marker_{who}")), "")?;
    opened.db.apply(Weights { identifier: who.to_owned(), w }).await?;
    Ok(json!({}))
}

pub(crate) async fn raises(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    FAIL.store(parameters["fail"] == true, Ordering::Relaxed);
    let applied = opened.db.apply(Boom { identifier: "s".to_owned(), a: 1 }).await;
    let mut result = snap(&opened.db, "superduper_bench.Boom/s").await?;
    result["apply"] = match applied {
        Ok(_) => json!("returned"),
        Err(error) => json!(error.to_string()),
    };
    Ok(json!({ "result": result }))
}
