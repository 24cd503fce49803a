//! Handwritten digits: a data set and a model as components, from the first plan to the removal.
//!
//! ```sh
//! cargo run --release --example digits
//! ```
//!
//! The database is a temporary folder that is gone when the program ends.

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use superduper::candle::{
    AdamW, CosineWarmup, Mlp, MlpSpec, Optimizer, Table, TrainLoop, Weights,
    metrics::{accuracy, evaluate},
    report_to,
};
use superduper::{Event, Run, prelude::*};

/// Labelled images. The file becomes a blob of the database; a change of any field that is
/// `breaking` makes a new version.
#[derive(Component)]
struct Dataset {
    identifier: String,
    #[component(breaking)]
    csv: Artifact<File>,
    /// The part of the images that no training sees.
    #[component(breaking)]
    held_out: f64,
    source: String,
    licence: String,
    /// Read by `setup`, never stored.
    images: Runtime<Images>,
}

struct Images {
    train: Table,
    test: Table,
}

impl Lifecycle for Dataset {
    // Before any job that needs the data set: its own, and those of the models that hold it.
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        let file = self.csv.get().await?; // verified by its digest
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for row in csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(&file.read().await?[..])
            .into_deserialize()
        {
            let mut row: Vec<f32> = row.context("a line of the CSV file")?;
            labels.extend(row.pop().map(|label| label as u32));
            pixels.extend(row);
        }
        let (train, test) =
            Table::new(64, pixels, labels)?.scaled(1.0 / 16.0)?.split(1, self.held_out)?;
        self.images.set(Images { train, test });
        Ok(())
    }
}

/// A classifier: hyper-parameters are declared, weights are an output that `train` fills.
#[derive(Component)]
struct Model {
    identifier: String,
    #[component(breaking)]
    dataset: Dataset,
    #[component(breaking)]
    hidden: Vec<usize>,
    #[component(breaking)]
    epochs: u64,
    #[component(breaking)]
    optimizer: Box<dyn Optimizer>,
    weights: Output<Artifact<Tensors>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trained {
    steps: u64,
    loss: f64,
}

// Each trigger is a durable job. A parameter with the name of another trigger takes its result, and
// waits for it.
#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<Trained> {
        let images = self.dataset.images.get()?;
        let model = Mlp::init(self.sizes(), 1)?;
        let schedule = CosineWarmup { warmup: 45, floor: 0.0 };
        let training =
            TrainLoop { epochs: self.epochs, seed: 1, schedule: &schedule, ..TrainLoop::default() };
        let mut state = self.optimizer.init();
        // Reports each step to the database, and stops where the job is cancelled.
        let history =
            training.run(&model, &images.train, &*self.optimizer, &mut state, report_to(ctx))?;
        // Becomes durable together with the result of this job.
        ctx.set(&self.weights, model.weights()?.to_tensors()?.into())?;
        Ok(Trained { steps: state.step(), loss: history.final_loss().unwrap_or_default() })
    }

    #[trigger("apply")]
    async fn evaluate(&self, train: Trained) -> Result<f64> {
        let test = &self.dataset.images.get()?.test;
        let scores = evaluate(&self.network().await?.logits(&test.features()?)?, test.labels())?;
        if scores.accuracy < 0.95 {
            return Err(Error::msg(format!(
                "{:.1} % accuracy after {} steps, 95 % are needed",
                100.0 * scores.accuracy,
                train.steps
            )));
        }
        Ok(scores.accuracy)
    }

    #[trigger("apply")]
    fn report(&self, train: Trained, evaluate: f64) -> Result<String> {
        let Trained { steps, loss } = train;
        Ok(format!(
            "hidden layers {:?}: {:.1} % of the held-out images, loss {loss:.4} after {steps} steps",
            self.hidden,
            100.0 * evaluate
        ))
    }
}

impl Model {
    fn sizes(&self) -> MlpSpec {
        MlpSpec { inputs: 64, hidden: self.hidden.clone(), classes: 10, ..MlpSpec::default() }
    }

    async fn network(&self) -> Result<Mlp> {
        let tensors = self.weights.get()?.get().await?;
        Mlp::from_weights(self.sizes(), &Weights::from_tensors(&tensors).await?)
    }
}

/// What should exist. Nothing happens until it is applied.
fn model(hidden: &[usize]) -> Result<Model> {
    let dataset = Dataset::builder("digits")
        .csv(File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv"))?)
        .held_out(0.2)
        .source("https://doi.org/10.24432/C50P49")
        .licence("CC BY 4.0")
        .build()?;
    let optimizer = AdamW { learning_rate: 3e-3, ..AdamW::default() };
    Model::builder("digits")
        .dataset(dataset)
        .hidden(hidden.to_vec())
        .epochs(30)
        .optimizer(Box::new(optimizer))
        .build()
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("superduper-digits-").tempdir()?;
    let db = Db::open(folder.path()).await?;

    println!("# Plan it: pure, writes nothing\n\n{}", db.plan(model(&[64])?).await?);

    println!("# Apply it: the rows and the jobs are on record before the first one starts\n");
    let run = db.apply(model(&[64])?).detach().await?;
    follow(&run).await?;
    let outcome = run.wait().await?.ok_or_else(|| Error::msg("the first apply has no jobs"))?;
    println!("{}\n", outcome.result::<String>("report")?);

    println!("# Apply it again: nothing to do\n");
    let again = db.apply(model(&[64])?).await?;
    println!("{}: {}, {} jobs\n", again.address, again.action.name(), again.jobs().len());

    println!("# Change a hyper-parameter that is breaking: version 1, with weights of its own\n");
    println!("{}", db.plan(model(&[128, 64])?).await?);
    let changed = db.apply(model(&[128, 64])?).await?;
    println!("{}\n", changed.result::<String>("report")?);

    println!("# Load both versions and predict\n");
    for version in 0..=1 {
        let model: Model = db.load_version("digits", version).await?;
        db.setup(&model).await?; // reads the data set; jobs do it by themselves
        let test = &model.dataset.images.get()?.test;
        let predicted = model.network().await?.predict(&test.features()?)?;
        println!("the first digits are     {:?}", &test.labels()[..12]);
        println!(
            "version {version} takes them for {:?}; {:.1} % of all are right",
            &predicted[..12],
            100.0 * accuracy(&predicted, test.labels())?
        );
    }

    println!(
        "\n# Remove it, with the data set it holds\n\n{}",
        db.remove::<Model>("digits").recursive().plan().await?
    );
    let removed = db.remove::<Model>("digits").recursive().await?;
    println!(
        "{} versions removed, {} components left",
        removed.versions.len(),
        db.list().await?.len()
    );
    Ok(())
}

/// Show what happens in a run: a bar, or a few lines where there is no terminal.
async fn follow(run: &Run) -> Result<()> {
    let names: HashMap<_, _> =
        run.jobs().await?.into_iter().map(|job| (job.id, job.method)).collect();
    let style =
        ProgressStyle::with_template("  {wide_bar} {pos} of {len} steps").map_err(Error::msg)?;
    let bar = ProgressBar::no_length().with_style(style);
    let mut events = run.events();
    let mut quarter = 0;
    while let Some(event) = events.next().await? {
        match event {
            Event::Progress { done, total, .. } => {
                bar.update(|state| {
                    state.set_len(total);
                    state.set_pos(done);
                });
                if bar.is_hidden() && 4 * done / total > quarter {
                    quarter = 4 * done / total;
                    println!("  {done} of {total} steps");
                }
            }
            // `job.started`, `job.succeeded` and so on.
            Event::Recorded(row) => {
                if let Some(name) = row.job.and_then(|job| names.get(&job)) {
                    bar.suspend(|| println!("  {} {name}", row.kind));
                }
            }
            _ => {}
        }
    }
    bar.finish_and_clear();
    Ok(())
}
