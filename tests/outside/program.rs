//! What a tool does with a database: it lists, shows, follows, explains and cancels.
//!
//! It is built outside of the workspace, so it has the public API and nothing else. Each step
//! checks what it reads, and the program ends with an error where a step does not hold.

use std::time::Duration;
use superduper::{
    Actor, Event, JobPolicy,
    prelude::*,
    store::{ComponentFilter, Cursor, JobFilter, JobState, RunFilter},
};

/// Two trainings that share one place.
#[derive(Component)]
#[component(kind = "outside.Training")]
struct Training {
    identifier: String,
    rate: f64,
}

#[triggers]
impl Training {
    fn one_at_a_time(&self) -> JobPolicy {
        JobPolicy { pool: Some(("gpu".to_owned(), 1)), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "one_at_a_time")]
    async fn fit(&self, ctx: &JobContext) -> Result<f64> {
        ctx.log(format!("rate {}", self.rate));
        loop {
            ctx.progress(1, 2);
            if ctx.cancelled() {
                return Err(Error::msg("cancelled"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::msg(format!("it does not hold that {what}"))) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| Error::msg("name a folder"))?;
    let db = Db::open(&folder).await?.acting_as(Actor::new("maria"));
    for (name, rate) in [("one", 0.1), ("two", 0.2)] {
        let training = Training { identifier: name.into(), rate };
        db.apply(training).detach().await?;
    }

    // List.
    let components = db.component_lines(ComponentFilter::new().kind("outside.Training")).await?;
    check(components.lines.len() == 2, "two components are listed")?;
    let runs = db.run_lines(RunFilter::default()).limit(10).await?;
    check(runs.lines.len() == 2, "two runs are listed")?;
    for line in &runs.lines {
        println!("{line}");
        let who = line.actor.as_ref().map(|actor| actor.name.as_str());
        check(who == Some("maria"), "a run says who recorded it")?;
    }

    // Follow: one of the two starts.
    let mut events = db.events_after(Cursor::default());
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        let event = next.map_err(|_| Error::msg("no job starts"))??;
        if matches!(event, Some(Event::Recorded(row)) if row.kind == "job.started") {
            break;
        }
    }
    let running = wait_for(&db, JobState::Running).await?;
    let queued = wait_for(&db, JobState::Queued).await?;
    println!("running {running}, queued {queued}");

    // Show.
    let lines = db.job_lines(JobFilter::default()).await?;
    check(lines.lines.len() == 2, "two jobs are listed")?;
    println!("{}", db.show("outside.Training/one").await?);
    let mut logged = Vec::new();
    for _ in 0..200 {
        logged = db.logs(running).await?;
        if !logged.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check(!logged.is_empty(), "the running job has a log")?;

    // Explain.
    let why = db.why(queued).await?.to_string();
    println!("{why}");
    check(why.contains("gpu"), "the queued job waits for the pool")?;

    // Cancel.
    for job in [queued, running] {
        db.cancel(job).await?;
    }
    for line in lines.lines {
        match db.wait(line.id, Duration::from_secs(20)).await {
            Err(error) if error.kind() != ErrorKind::Cancelled => return Err(error),
            _ => {}
        }
    }
    let left = db.jobs(JobFilter::default()).await?;
    check(left.iter().all(|job| job.state == JobState::Cancelled), "both jobs are cancelled")?;
    println!("done");
    Ok(())
}

/// The first job in this state, once there is one.
async fn wait_for(db: &Db, state: JobState) -> Result<superduper::store::JobId> {
    for _ in 0..400 {
        let filter = JobFilter { states: Some(vec![state]), ..JobFilter::default() };
        if let Some(line) = db.job_lines(filter).await?.lines.first() {
            return Ok(line.id);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::msg(format!("no job is {state}")))
}
