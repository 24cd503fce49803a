//! The worker program of the tests. `train-worker storm FOLDER JOBS STEPS ISOLATION` makes it a parent that submits what is not yet
//! there, goes on with what is, and ends when all is done.

#[path = "../modules.rs"]
mod modules;
#[path = "../open.rs"]
mod open;

use modules::{Unknown, Walk, storm_spec};
use superduper::prelude::*;
use superduper_train::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    superduper::worker(open::open_stores).await?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder, jobs, steps, isolation] = args.as_slice()
        && command == "storm"
    {
        storm(folder, jobs.parse().context("jobs")?, steps.parse().context("steps")?, isolation == "process").await?;
    }
    let _ = Unknown { identifier: String::new() };
    Ok(())
}

async fn storm(folder: &str, jobs: usize, steps: u64, isolated: bool) -> Result<()> {
    let db = open::open(folder.to_owned()).await?;
    let base = JobBase {
        isolation: if isolated { Isolation::Process } else { Isolation::Thread },
        max_concurrent: 2,
        restart: Restart { retries: 1000, backoff: Span::default(), resume: true },
        ..JobBase::default()
    };
    let trainer = LocalTrainer::new("storm").base(base).open(&db).await?;
    for number in 0..jobs {
        let run = match trainer.get(&format!("storm-{number}")).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::NotFound => trainer.train(Walk::new("loop", steps), storm_spec(number)).await?,
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
