//! The worker program of the tests. `candle-worker apply FOLDER EPOCHS` applies the slow
//! classifier, `candle-worker train FOLDER EPOCHS ISOLATION EVERY` trains it as a job with a
//! checkpoint after so many steps; both to be killed.

mod setting;

use setting::{builder, classifier, slow};
use std::path::Path;
use superduper::prelude::*;
use superduper_train::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    superduper::job_process(|stores| async move { builder(&stores.metadata)?.build().await })
        .await?;
    // Named here so that it is linked: what the worker runs, it finds by its kind.
    let _ = (classifier, setting::STEPS_PER_EPOCH);
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["apply", folder, epochs] => {
            let db = builder(Path::new(folder))?.build().await?;
            db.apply(slow(epochs.parse().context("epochs")?)?).await?;
        }
        ["train", folder, epochs, isolation, every] => {
            let db = builder(Path::new(folder))?.build().await?;
            let isolation =
                if *isolation == "process" { Isolation::Process } else { Isolation::Thread };
            let trainer = LocalTrainer::new("default")
                .base(JobBase { isolation, ..JobBase::default() })
                .open(&db)
                .await?;
            let checkpoints = Checkpoints {
                every_steps: every.parse().context("every")?,
                ..Checkpoints::default()
            };
            let spec = TrainSpec::new().id("killed").checkpoints(checkpoints);
            trainer.train(slow(epochs.parse().context("epochs")?)?, spec).await?.wait().await?;
        }
        _ => {}
    }
    Ok(())
}
