//! Training as background jobs: on a thread with early stopping, in a job process that is killed
//! half-way and goes on to the same bits, and the two models compared.
//!
//! ```sh
//! cargo run --release --example train_digits           # in a temporary folder
//! cargo run --release --example train_digits -- FOLDER # keeps it, for `serve_model -- FOLDER`
//! ```

#[path = "shared/digits.rs"]
mod digits;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use superduper::candle::{
    AdamW, Classifier, Network, Table, Validation,
    metrics::{Accuracy, Auc, Metric},
};
use superduper::prelude::*;
use superduper::train::{Trainer, prelude::*};

/// What to train: hyper-parameters and data are declared, so equal ones give equal weights.
fn classifier(
    rows: Table,
    hidden: &[usize],
    epochs: u64,
    patience: Option<u32>,
) -> Result<Classifier> {
    Classifier::builder("digits")
        .table(Artifact::new(rows))
        .inputs(64)
        .classes(10)
        .hidden(hidden.to_vec())
        .epochs(epochs)
        .held_out(0.0) // the table has no rows of the test
        .validation(0.1) // the weights are those that do best on these rows
        .patience(patience)
        .optimizer(Box::new(AdamW { learning_rate: 3e-3, ..AdamW::default() }))
        .build()
}

fn wide() -> Result<Classifier> {
    classifier(digits::tables()?.0, &[256, 128], 60, None)
}

/// A trainer whose jobs run in job processes of this program.
async fn processes(db: &Db) -> Result<Trainer> {
    let base = JobBase { isolation: Isolation::Process, max_concurrent: 1, ..JobBase::default() };
    LocalTrainer::new("processes").base(base).open(db).await
}

// A job process begins here too: it runs its job instead of what follows.
#[superduper::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show(tempfile::Builder::new().prefix("superduper-train-").tempdir()?.path()).await,
        ["submit", folder, id] => submit(folder, id).await,
        [folder] => show(Path::new(folder)).await,
        _ => Err(Error::invalid("too many arguments").with_hint("train_digits [FOLDER]")),
    }
}

/// What another process does: it submits a training and waits for it.
async fn submit(folder: &str, id: &str) -> Result<()> {
    let db = Db::builder().at(folder)?.existing().build().await?;
    let run = processes(&db).await?.train(wide()?, TrainSpec::new().id(id)).await?;
    run.wait().await.map(drop)
}

async fn show(folder: &Path) -> Result<()> {
    let db = Db::open(folder).await?;
    let (rows, test) = digits::tables()?;

    println!("# On a thread, at most 200 epochs, until 5 in a row bring nothing\n");
    let trainer = LocalTrainer::new("threads").open(&db).await?;
    let small = trainer.train(classifier(rows, &[32], 200, Some(5))?, TrainSpec::new()).await?;
    let info = small.follow().await?;
    let (done, total) = info.progress.unwrap_or_default();
    println!("{} {} after {done} of {total} steps", small.id(), info.status);
    let first: Network = small.load().await?;
    validate(&db, first, &test).await?;

    println!("\n# In a job process of another program, which is killed with SIGKILL half-way\n");
    let id = format!("wide-{}", std::process::id());
    let mut other = Command::new(std::env::current_exe()?)
        .arg("submit")
        .arg(folder)
        .arg(&id)
        .stdout(Stdio::null())
        .spawn()?;
    let run = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match db.get_model_future(&id).await {
            Ok(run)
                if run.info().await?.progress.is_some_and(|(done, total)| 2 * done >= total) =>
            {
                break run;
            }
            Ok(run) if run.info().await?.status.is_terminal() => break run,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(status) = other.try_wait()? {
                    return Err(Error::msg(format!(
                        "the other program ended before it submitted anything: {status}"
                    )));
                }
            }
            Err(error) => return Err(error),
        }
    };
    other.kill()?; // its job process dies with it
    other.wait()?;
    let info = run.wait().await?;
    println!(
        "{id} is {}, its checkpoints are {:?} (number, step)",
        info.status,
        run.checkpoints().await?
    );
    let run = if info.status == Status::Interrupted { run.resume().await? } else { run };
    let info = run.follow().await?;
    println!("{id} is {} in attempt {}", info.status, info.attempt);
    let second: Network = run.load().await?;

    println!("\n# The same training, without a break\n");
    let whole: Network =
        processes(&db).await?.train(wide()?, TrainSpec::new()).await?.load().await?;
    let same =
        whole.weights.digest().is_some() && whole.weights.digest() == second.weights.digest();
    println!("the weights are {}", if same { "the same, bit by bit" } else { "others" });
    validate(&db, second, &test).await?;

    println!("\n# The two versions on the digits that neither has seen\n");
    let validation: Validation = db.load("digits").await?;
    let scores = validation.compare("test", "accuracy")?;
    for (model, accuracy) in &scores {
        println!(
            "{model}: {:.1} %, AUC {:.4}",
            100.0 * accuracy,
            validation.compare("test", "auc")?[model]
        );
    }
    let best = scores
        .iter()
        .max_by(|one, other| one.1.total_cmp(other.1))
        .map(|(model, _)| model.as_str());
    let best = best.ok_or_else(|| Error::msg("nothing was compared"))?;
    db.label(best, "best").await?;
    let network: Network = db.load("digits@best").await?;
    println!("`digits@best` is {best}: {}", network.huuid()?);

    let curves =
        small.plot().title("digits").metrics(["loss", "validation_loss"]).run(&run).svg().await?;
    std::fs::write(folder.join("curves.svg"), curves)?;
    println!("curves of both: {}", folder.join("curves.svg").display());
    if same {
        Ok(())
    } else {
        Err(Error::msg("a resumed training must end with the bits of one without a break"))
    }
}

/// Store a network as the next version of `digits`, and score it on the test's rows.
async fn validate(db: &Db, network: Network, test: &Table) -> Result<()> {
    let metrics: Vec<Box<dyn Metric>> = vec![Box::new(Accuracy {}), Box::new(Auc {})];
    let validation = Validation::builder("digits")
        .model(Box::new(network) as Box<dyn Component>)
        .tables(BTreeMap::from([("test".to_owned(), Artifact::new(test.clone()))]))
        .metrics(metrics)
        .build()?;
    db.apply(validation).await?;
    Ok(())
}
