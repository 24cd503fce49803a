//! Processes that apply at the same moment: two that race, and eight beside one.

use super::number;
use crate::{
    components::{take_calls, trig},
    database::{Counted, count},
    driver::Driver,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use superduper::Result;

/// What a process is given, by its number.
type Share = fn(usize) -> Value;

pub(crate) fn race(driver: &Driver) -> Result<()> {
    let rounds = driver.reps(4);
    let races: [(&str, usize, Share); 3] = [
        ("same identifier, same content", rounds, |_| json!({"ids": ["same"], "a": 1})),
        ("same identifier, different content", rounds, |i| json!({"ids": ["same"], "a": i})),
        (
            "15 different identifiers per process",
            2,
            |i| json!({"ids": (0..15).map(|k| format!("p{i}_{k:02}")).collect::<Vec<_>>(), "a": 1}),
        ),
    ];
    for (what, rounds, share) in races {
        let mut total = json!({"errors": 0, "applied": 0, "components": 0, "versions": 0, "jobs": 0, "jobs_unfinished": 0, "calls": 0});
        for _ in 0..rounds {
            one(driver, share, &mut total)?;
        }
        driver.emit(
            "h_race",
            &vec![("what", json!(what)), ("rounds", json!(rounds)), ("processes", json!(2))],
            &total,
        );
    }
    Ok(())
}

/// Applies per second of one writer and of eight, all in all: of their own components, and of a few
/// that they share.
pub(crate) fn writers(driver: &Driver) -> Result<()> {
    let applies = driver.n(1600);
    for (what, shared) in [("own components", false), ("eight shared components", true)] {
        for writers in [1, 8] {
            let folder = driver.folder()?;
            driver.go(folder.path(), "seed", json!({"n": 1}))?;
            let parameters = |me| json!({"me": me, "n": applies / writers, "shared": shared});
            let processes =
                (0..writers).map(|me| driver.start(folder.path(), "writer", &parameters(me)));
            let processes = processes.collect::<Result<Vec<_>>>()?;
            wait_for(|| (0..writers).all(|me| folder.path().join(format!("ready{me}")).exists()));
            let begun = Instant::now();
            std::fs::write(folder.path().join("go"), "")?;
            let mut slowest = 0;
            for process in processes {
                slowest = slowest.max(number(&process.wait()?, "slowest_us"));
            }
            let seconds = begun.elapsed().as_secs_f64();
            let per_second = (applies as f64 / seconds).round();
            let figures = json!({"applies": applies, "seconds": (seconds * 1e3).round() / 1e3, "per_second": per_second, "slowest_us": slowest});
            driver.emit(
                "h_writers",
                &vec![("what", json!(what)), ("writers", json!(writers))],
                &figures,
            );
        }
    }
    Ok(())
}

/// One writer: applies, each with another value, as fast as they go.
pub(crate) async fn writer(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let me = number(parameters, "me");
    std::fs::write(format!("ready{me}"), "")?;
    wait_for(|| Path::new("go").exists());
    let mut slowest = Duration::ZERO;
    for n in 0..number(parameters, "n") {
        let of = if parameters["shared"] == json!(true) { 0 } else { me };
        let begun = Instant::now();
        opened.db.apply(trig(&format!("w{of}_{}", n % 8), (me * 1_000_000 + n) as i64)?).await?;
        slowest = slowest.max(begun.elapsed());
    }
    Ok(json!({"slowest_us": slowest.as_micros() as u64}))
}

/// One race; its counts are added.
fn one(driver: &Driver, share: Share, total: &mut Value) -> Result<()> {
    let folder = driver.folder()?;
    driver.go(folder.path(), "seed", json!({"n": 1}))?;
    let processes = (0..2).map(|i| {
        let mut parameters = share(i);
        parameters["me"] = json!(i);
        driver.start(folder.path(), "race", &parameters)
    });
    let processes = processes.collect::<Result<Vec<_>>>()?;
    wait_for(|| (0..2).all(|i| folder.path().join(format!("ready{i}")).exists()));
    std::fs::write(folder.path().join("go"), "")?;
    for process in processes {
        let result = process.wait()?;
        add(total, "errors", number(&result, "errors"));
        add(total, "applied", number(&result, "applied"));
        add(total, "calls", number(&result, "calls"));
    }
    let of_race = "component WHERE identifier <> 'c00000'";
    for (name, sql) in [
        ("components", format!("SELECT count(*) FROM {of_race}")),
        (
            "versions",
            format!("SELECT count(*) FROM version WHERE component IN (SELECT id FROM {of_race})"),
        ),
        ("jobs", format!("SELECT count(*) FROM job WHERE component IN (SELECT id FROM {of_race})")),
        ("jobs_unfinished", "SELECT count(*) FROM job WHERE ended_at IS NULL".to_owned()),
    ] {
        add(total, name, count(folder.path(), &sql)? as usize);
    }
    Ok(())
}

fn add(total: &mut Value, name: &str, more: usize) {
    total[name] = json!(number(total, name) + more);
}

fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

pub(crate) async fn race_worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    std::fs::write(format!("ready{}", number(parameters, "me")), "")?;
    wait_for(|| Path::new("go").exists());
    let mut result = json!({"errors": 0, "applied": 0});
    for id in parameters["ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        match opened.db.apply(trig(id, number(parameters, "a") as i64)?).await {
            Ok(_) => add(&mut result, "applied", 1),
            Err(error) => {
                eprintln!("{error}");
                add(&mut result, "errors", 1);
            }
        }
    }
    let calls = take_calls();
    result["calls"] = json!(number(&calls, "start") + number(&calls, "go"));
    Ok(result)
}
