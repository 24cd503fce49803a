//! The worker program of the tests. `train-worker storm FOLDER JOBS STEPS ISOLATION` makes it a
//! parent that submits what is not yet there, goes on with what is, and ends when all is done.
//! `train-worker once FOLDER STEPS ISOLATION FILE` trains the id `once` together with all others that
//! do, and writes the bits of the model to the file.

#[path = "../modules.rs"]
mod modules;
#[path = "../open.rs"]
mod open;

use modules::{Unknown, Walk, storm_spec};
use superduper::prelude::*;
use superduper_train::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    superduper::job_process(open::open_stores).await?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder, jobs, steps, isolation] = args.as_slice()
        && command == "storm"
    {
        storm(
            folder,
            jobs.parse().context("jobs")?,
            steps.parse().context("steps")?,
            isolation == "process",
        )
        .await?;
    }
    if let [command, folder, steps, isolation, out] = args.as_slice()
        && command == "once"
    {
        once(folder, steps.parse().context("steps")?, isolation == "process", out).await?;
    }
    if let [command, folder, isolation, out] = args.as_slice()
        && command == "search"
    {
        let db = open::open(folder.clone()).await?;
        let base = base(isolation == "process", false);
        let trainer = LocalTrainer::new("storm").base(base).open(&db).await?;
        let found = modules::search_bowls(&trainer, "storm", 60).await?.wait().await?;
        std::fs::write(out, found.to_string())?;
    }
    let _ = Unknown { identifier: String::new() };
    Ok(())
}

async fn storm(folder: &str, jobs: usize, steps: u64, isolated: bool) -> Result<()> {
    let db = open::open(folder.to_owned()).await?;
    let trainer = LocalTrainer::new("storm").base(base(isolated, true)).open(&db).await?;
    for number in 0..jobs {
        let run = match trainer.get(&format!("storm-{number}")).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                trainer.train(Walk::new("loop", steps), storm_spec(number)).await?
            }
            Err(error) => return Err(error),
        };
        // Three lost processes end a job; it goes on in another one.
        if run.info().await?.status == Status::Errored {
            run.resume().await?;
        }
    }
    for number in 0..jobs {
        trainer.get(&format!("storm-{number}")).await?.wait().await?;
    }
    Ok(())
}

fn base(isolated: bool, resume: bool) -> JobBase {
    JobBase {
        isolation: if isolated { Isolation::Process } else { Isolation::Thread },
        max_concurrent: 2,
        restart: Restart { retries: 1000, backoff: Span::default(), resume },
        ..JobBase::default()
    }
}

async fn once(folder: &str, steps: u64, isolated: bool, out: &str) -> Result<()> {
    let db = open::open(folder.to_owned()).await?;
    let trainer = LocalTrainer::new("storm").base(base(isolated, false)).open(&db).await?;
    let spec = storm_spec(1);
    let run = trainer.train_or_resume("once", Walk::new("loop", steps), spec).await?;
    let model: Walk = run.load().await?;
    let bits: Vec<String> = model.trace.iter().map(u64::to_string).collect();
    // Whole or not at all: this process is killed at any time.
    let draft = format!("{out}-{}", std::process::id());
    std::fs::write(&draft, bits.join(" "))?;
    std::fs::rename(&draft, out)?;
    Ok(())
}
