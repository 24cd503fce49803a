//! The worker program of the tests.
//!
//! - `federated-worker train FOLDER NAME` starts the training of this name, or goes on with it, and
//!   ends with it.
//! - `federated-worker work FOLDER` runs the jobs of the database until it is killed.
//! - `federated-worker export FOLDER BUNDLE` exports two trainings in turn until it is killed.
//! - `federated-worker send FOLDER NAME SITE ROUND FIRST COUNT EQUAL GO` waits for the file `GO` and
//!   then sends `COUNT` updates of a site at once; it prints how many were accepted, repeated and
//!   refused.

#[allow(dead_code, reason = "the worker program and the tests use different parts of these files")]
#[path = "../sdk/worker.rs"]
mod sdk;
#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
#[path = "../support.rs"]
mod support;
#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
#[path = "../trainings.rs"]
mod trainings;

use std::{path::Path, time::Duration};
use superduper::prelude::*;
use superduper_federated::{ModelTrainer, Receipt, State};

#[tokio::main]
async fn main() -> Result<()> {
    let open = async |stores: superduper::store::StoreLocations| {
        trainings::builder(&stores.metadata)?.build().await
    };
    superduper::job_process(open).await?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["train", folder, name] => train(Path::new(folder), name).await,
        ["work", folder] => trainings::builder(Path::new(folder))?.build().await?.work().await,
        ["export", folder, bundle] => {
            let db = trainings::builder(Path::new(folder))?.build().await?;
            for rounds in [1, 2].into_iter().cycle() {
                let preview = sdk::exported("c15").rounds(rounds).preview(&db).await?;
                preview.export(bundle).await?;
            }
            Ok(())
        }
        ["send", folder, rest @ ..] => send(Path::new(folder), rest).await,
        _ => Err(Error::invalid(format!("unknown arguments: {args:?}"))),
    }
}

async fn train(folder: &Path, name: &str) -> Result<()> {
    let db = trainings::builder(folder)?.build().await?;
    db.resume().detach().await?;
    let mut trainer = ModelTrainer::new(&db, trainings::training(name, folder)?, None)?;
    match trainer.state().await? {
        State::Initial => trainer.start().await?,
        // A job is given up after it was lost with several processes.
        State::Error => drop(db.apply(trainings::training(name, folder)?).detach().await?),
        _ => {}
    }
    match trainer.wait(Duration::from_secs(600)).await? {
        State::Completed => Ok(()),
        state => {
            let why = trainer.failures().await?.join("; ");
            Err(Error::invalid(format!("the training is {state}: {why}")))
        }
    }
}

async fn send(folder: &Path, args: &[&str]) -> Result<()> {
    let [name, site, round, first, count, equal, go] = args else {
        return Err(Error::invalid(format!("unknown arguments: {args:?}")));
    };
    let (round, first): (u64, u32) =
        (round.parse().context("the round")?, first.parse().context("the first")?);
    let (count, equal): (u32, bool) =
        (count.parse().context("the count")?, equal.parse().context("equal")?);
    let db = trainings::builder(folder)?.build().await?;
    while !Path::new(go).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut senders = Vec::new();
    for number in first..first + count {
        let trainer = ModelTrainer::open(&db, name).await?;
        let (site, value) = ((*site).to_owned(), if equal { 7.0 } else { number as f32 });
        senders.push(tokio::spawn(async move {
            let tensors = Tensors::new().with("w", &[2], &[value; 2])?;
            trainer.receive_update(&site, round, 10, tensors).await
        }));
    }
    let (mut accepted, mut repeated, mut refused) = (0, 0, Vec::new());
    for sender in senders {
        match sender.await.map_err(|error| Error::invalid(error.to_string()))? {
            Ok(Receipt::Accepted) => accepted += 1,
            Ok(_) => repeated += 1,
            Err(error) => refused.push(error.to_string()),
        }
    }
    let line = serde_json::json!([accepted, repeated, refused]);
    std::fs::write(format!("{go}-{first}"), line.to_string()).context("the counts")?;
    Ok(())
}
