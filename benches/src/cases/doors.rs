//! What spawned jobs with input and policy, completions, audit records and job processes in large
//! runs take.

use super::{number, text};
use crate::{
    database::Counted,
    driver::{Driver, Report},
    measure::round,
};
use serde_json::{Value, json};
use std::time::Duration;
use superduper::{
    Actor, JobPolicy, Spawn,
    prelude::*,
    store::{JobFilter, JobId, JobRow, JobState},
};

/// Spawns `jobs` jobs that do nothing, with input and policy or without.
#[derive(Component)]
struct Doors {
    identifier: String,
    jobs: usize,
    full: bool,
    limited: bool,
}

#[triggers]
impl Doors {
    #[trigger("apply")]
    async fn open(&self, ctx: &JobContext) -> Result<()> {
        for place in 0..self.jobs {
            let spawn = Spawn::new(format!("job {place}"), ctx.address(), "piece");
            let timeout = self.limited.then_some(Duration::from_secs(60));
            let policy = || JobPolicy {
                retries: Some(2),
                backoff: Some(Duration::from_secs(1)),
                timeout,
                ..JobPolicy::default()
            };
            ctx.spawn_with(if self.full {
                spawn.input(json!({ "round": 3, "site": place })).policy(policy())
            } else {
                spawn
            })?;
        }
        Ok(())
    }

    #[trigger("call")]
    async fn piece(&self) -> Result<()> {
        Ok(())
    }
}

/// Spawns `jobs` jobs that do nothing, and has a job that waits for all of them.
#[derive(Component)]
struct FanIn {
    identifier: String,
    jobs: usize,
}

#[triggers]
impl FanIn {
    #[trigger("apply")]
    async fn open(&self, ctx: &JobContext) -> Result<()> {
        for place in 0..self.jobs {
            ctx.spawn_with(Spawn::new(format!("job {place}"), ctx.address(), "piece"))?;
        }
        Ok(())
    }

    #[trigger("call")]
    async fn piece(&self) -> Result<()> {
        Ok(())
    }

    #[trigger("apply", depends_on = "open")]
    async fn gather(&self) -> Result<()> {
        Ok(())
    }
}

/// Waits for an answer.
#[derive(Component)]
struct Waits {
    identifier: String,
}

#[triggers]
impl Waits {
    #[trigger("apply")]
    async fn ask(&self, ctx: &JobContext) -> Result<u32> {
        Err(ctx.block("an answer").into())
    }
}

#[derive(Component)]
struct Plain {
    identifier: String,
}

/// A chain of jobs in processes, beside jobs with `edges` edges that wait for an answer.
#[derive(Component)]
struct Crowd {
    identifier: String,
    edges: usize,
    processes: usize,
}

#[triggers]
impl Crowd {
    #[trigger("apply")]
    async fn open(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("gate", ctx.address(), "gate", &[])?;
        for place in 0..self.edges {
            ctx.spawn(format!("waits {place}"), ctx.address(), "piece", &["gate"])?;
        }
        for place in 0..self.processes {
            let policy = JobPolicy { executor: Some("process".to_owned()), ..JobPolicy::default() };
            let spawn =
                Spawn::new(format!("process {place}"), ctx.address(), "piece").policy(policy);
            let before = place.checked_sub(1).map(|before| format!("process {before}"));
            ctx.spawn_with(spawn.after(before))?;
        }
        Ok(())
    }

    #[trigger("call")]
    async fn gate(&self, ctx: &JobContext) -> Result<()> {
        Err(ctx.block("an answer").into())
    }

    #[trigger("call")]
    async fn piece(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn doors(driver: &Driver) -> Result<()> {
    let n = driver.n(10_000);
    for what in
        ["spawned", "spawned with input and policy", "spawned with input, policy and time limit"]
    {
        let result = driver.go_alone("doors", json!({"what": what, "n": n}))?;
        driver.emit_operations("k_doors", &vec![("n", json!(n))], &result);
    }
    for n in [1_000, 100_000] {
        let result = driver.go_alone("doors", json!({"what": "fan-in", "n": n}))?;
        driver.emit_operations("k_doors", &vec![("n", json!(n))], &result);
    }
    for (what, n) in [("complete", 30), ("write", 1000), ("write with audit record", 1000)] {
        let result = driver.go_alone("doors", json!({"what": what, "n": n}))?;
        driver.emit_operations("k_doors", &vec![("n", json!(n))], &result);
    }
    for edges in [10, 100_000] {
        let result = driver.go_alone("doors", json!({"what": "job process", "n": edges}))?;
        driver.emit_operations("k_doors", &vec![("edges", json!(edges))], &result);
    }
    Ok(())
}

pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let (what, n) = (text(parameters, "what"), number(parameters, "n"));
    if what == "job process" {
        return job_process(what, n).await;
    }
    let opened = Counted::open().await?;
    let mut report = Report::default();
    let jobs = if what == "complete" { blocked(&opened.db, n).await? } else { Vec::new() };
    let db = if what.contains("audit") {
        opened.db.acting_as(Actor::new("somebody"))
    } else {
        opened.db.clone()
    };
    let work = async {
        match what {
            "complete" => {
                for job in jobs {
                    db.complete(job, 7).await?;
                }
            }
            "write" | "write with audit record" => {
                for place in 0..n {
                    db.apply(Plain { identifier: format!("p{place}") }).await?;
                }
            }
            "fan-in" => {
                db.apply(FanIn { identifier: "fan".to_owned(), jobs: n }).await?;
            }
            _ => {
                db.apply(Doors {
                    identifier: "doors".to_owned(),
                    jobs: n,
                    full: what != "spawned",
                    limited: what.contains("limit"),
                })
                .await?;
            }
        }
        Ok(())
    };
    let ((), mut figures) = opened.time(work).await?;
    let cpu = figures["cpu_ms"].as_f64().unwrap_or(0.0);
    figures.insert("cpu_us_per_call".to_owned(), round(cpu * 1e3 / n as f64));
    report.add(what, figures);
    Ok(report.done())
}

async fn job_process(what: &str, n: usize) -> Result<Value> {
    // This program's arguments, so that its job processes come to the same place; they find a job
    // there, and do that.
    let db = Db::builder()
        .at("db")?
        .worker_arg("worker")
        .worker_arg("nothing")
        .worker_arg("{}")
        .build()
        .await?;
    let figures = [("wall_ms_per_job".to_owned(), round(process_ms(&db, n).await?))];
    let mut report = Report::default();
    report.add(what, figures.into_iter().collect());
    Ok(report.done())
}

/// So many runs, each with a job that waits for an answer.
async fn blocked(db: &Db, n: usize) -> Result<Vec<JobId>> {
    for place in 0..n {
        db.apply(Waits { identifier: format!("w{place}") }).detach().await?;
    }
    loop {
        let rows = db
            .jobs(JobFilter { states: Some(vec![JobState::Blocked]), ..JobFilter::default() })
            .await?;
        if rows.len() == n {
            // The engine reads what became of them.
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Ok(rows.into_iter().map(|row| row.id).collect());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The mean time from the end of a job in a process to the end of the next one, in a run with so
/// many edges.
async fn process_ms(db: &Db, edges: usize) -> Result<f64> {
    const PROCESSES: usize = 20;
    let run = db
        .apply(Crowd { identifier: "crowd".to_owned(), edges, processes: PROCESSES })
        .detach()
        .await?;
    let rows = loop {
        let key = Some(format!("process {}", PROCESSES - 1));
        let rows = db.jobs(JobFilter { run: run.id(), key, ..JobFilter::default() }).await?;
        if let Some(row) =
            rows.iter().find(|row| row.state.is_terminal() && row.state != JobState::Succeeded)
        {
            return Err(Error::msg(format!(
                "a job in a process is {}: {:?}",
                row.state, row.failure
            )));
        }
        if rows.iter().any(|row| row.state == JobState::Succeeded) {
            break db
                .jobs(JobFilter {
                    run: run.id(),
                    states: Some(vec![JobState::Succeeded]),
                    ..JobFilter::default()
                })
                .await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let is_process = |row: &&JobRow| row.key.as_ref().is_some_and(|key| key.starts_with("process"));
    let mut ends: Vec<i64> =
        rows.iter().filter(is_process).filter_map(|row| Some(row.ended_at?.0)).collect();
    ends.sort_unstable();
    run.cancel().await?;
    let (first, last) = (ends.first().copied().unwrap_or(0), ends.last().copied().unwrap_or(0));
    Ok((last - first) as f64 / (PROCESSES - 1) as f64)
}
