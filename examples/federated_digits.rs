//! Handwritten digits over ten sites, each with digits of its own kinds: FedAvg, FedProx, and the
//! median with two sites that send poisoned models.
//!
//! ```sh
//! cargo run --release --example federated_digits           # in a temporary folder
//! cargo run --release --example federated_digits -- FOLDER # keeps it
//! ```
//!
//! A run in a folder that was killed goes on where it was: start it again. The curves are written to
//! `federated_digits.svg`.

#[path = "shared/digits.rs"]
mod digits;

use serde::{Deserialize, Serialize};
use std::{fmt::Write as _, path::Path, time::Duration};
use superduper::{
    candle::{Architecture, MlpSpec, Table},
    federated::{
        ClientExecutor, CoordinateMedian, DefaultExecutor, FedAvg, FedProx, FederatedTraining,
        ModelTrainer, Reply, Site, SiteContext, State, Strategy, Task,
        candle::{FederatedNetwork, TableData},
    },
    prelude::*,
    store::JobFilter,
    train::Rng,
};

const SITES: usize = 10;
const ROUNDS: u64 = 20;
/// How unequal the sites are: the smaller, the fewer kinds of digits each site has.
const ALPHA: f64 = 0.3;

/// Trains as usual, but some sites send weights that were multiplied by -10.
#[derive(Debug, Serialize, Deserialize)]
struct Poisoned {
    sites: Vec<String>,
}

#[typetag::serde(name = "federated_digits.Poisoned")]
impl ClientExecutor for Poisoned {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        let mut reply = DefaultExecutor {}.execute(task, tensors, ctx)?;
        let poisons = task.name == "train" && self.sites.iter().any(|site| site == ctx.site());
        if let Some(tensors) = reply.tensors.as_mut().filter(|_| poisons) {
            let names: Vec<String> = tensors.names().map(str::to_owned).collect();
            for name in names {
                let shape = tensors.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
                let mut values = ctx.block_on(tensors.to_vec::<f32>(&name))?;
                values.iter_mut().for_each(|value| *value *= -10.0);
                *tensors = std::mem::take(tensors).with(name, &shape, &values)?;
            }
        }
        Ok(reply)
    }
}

/// A sample of the gamma distribution with shape `alpha` and scale 1 (Marsaglia and Tsang, "A simple
/// method for generating gamma variables", 2000).
fn gamma(rng: &mut Rng, alpha: f64) -> f64 {
    if alpha < 1.0 {
        let rest = rng.next_f64().max(f64::MIN_POSITIVE).powf(1.0 / alpha);
        return gamma(rng, alpha + 1.0) * rest;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        let u = rng.next_f64().max(f64::MIN_POSITIVE);
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// The rows of each site: the digits of each kind are dealt out by shares from a Dirichlet
/// distribution.
fn split(table: &Table, seed: u64) -> Result<Vec<Table>> {
    let mut rng = Rng::named(seed, "sites");
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); SITES];
    for class in 0..10 {
        let rows: Vec<usize> =
            (0..table.rows()).filter(|row| table.labels()[*row] == class).collect();
        let shares: Vec<f64> = (0..SITES).map(|_| gamma(&mut rng, ALPHA)).collect();
        let sum: f64 = shares.iter().sum();
        let (mut from, mut reached) = (0, 0.0);
        for (site, share) in shares.iter().enumerate() {
            reached += share / sum;
            let to = ((reached * rows.len() as f64).round() as usize).min(rows.len());
            places[site].extend(&rows[from..to.max(from)]);
            from = to.max(from);
        }
    }
    places.iter().map(|rows| table.select(rows)).collect()
}

fn training(
    name: &str,
    strategy: Box<dyn Strategy>,
    poisoned: &[&str],
    seed: u64,
) -> Result<FederatedTraining> {
    let (train, test) = digits::tables()?;
    let sites = split(&train, seed)?.into_iter().enumerate();
    let sites = sites
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(number, rows)| Site::new(format!("site{number}"), TableData::new(rows)));
    let sizes = MlpSpec { inputs: 64, hidden: vec![32], classes: 10, ..MlpSpec::default() };
    let network = FederatedNetwork::new("digits", Architecture::Mlp(sizes));
    let mut training = FederatedTraining::new(name, network, FedAvg {}).sites(sites).rounds(ROUNDS);
    training.strategy = strategy;
    training.seed = seed;
    training.central = Some(Site::new("the coordinator", TableData::new(test)));
    training.config.num_classes = 10;
    training.config.local_epochs = 5;
    training.config.batch_size = 16;
    training.config.learning_rate = 0.3;
    if !poisoned.is_empty() {
        let sites = poisoned.iter().map(ToString::to_string).collect();
        training.executor = Box::new(Poisoned { sites });
    }
    Ok(training)
}

/// The accuracy on the coordinator's rows after each round.
async fn curve(db: &Db, name: &str) -> Result<Vec<(u64, f64)>> {
    let filter = JobFilter {
        target: Some(Address::of::<FederatedTraining>(name)),
        method: Some("decide".to_owned()),
        ..JobFilter::default()
    };
    let jobs = db.jobs(filter).await?.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let measured = db.metrics(jobs).names(["central/accuracy"]).await?;
    let mut points: Vec<(u64, f64)> =
        measured.iter().map(|point| (point.step, point.value)).collect();
    points.sort_by_key(|(round, _)| *round);
    Ok(points)
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1);
    let temporary = tempfile::Builder::new().prefix("superduper-federated-").tempdir()?;
    let folder = folder.as_deref().map_or(temporary.path(), Path::new);
    let db = Db::open(folder).await?;
    let poisoned = ["site1", "site4"];
    let kinds: [(&str, Box<dyn Strategy>, &[&str]); 4] = [
        ("fedavg", Box::new(FedAvg {}), &[]),
        ("fedprox", Box::new(FedProx { mu: 0.01 }), &[]),
        ("median, two poisoned", Box::new(CoordinateMedian {}), &poisoned),
        ("fedavg, two poisoned", Box::new(FedAvg {}), &poisoned),
    ];
    println!("{:<22} {:>8} {:>10}", "", "rounds", "accuracy");
    let mut curves = Vec::new();
    for (name, strategy, poisoned) in kinds {
        // An equal training goes on where it was, and one that is over runs nothing.
        db.apply(training(name, strategy, poisoned, 0)?).await?;
        let trainer = ModelTrainer::open(&db, name).await?;
        let state = trainer.wait(Duration::from_secs(600)).await?;
        if state != State::Completed {
            return Err(Error::invalid(format!("`{name}` is {state}")));
        }
        let progress = trainer.progress().await?;
        let accuracy = progress.metrics.get("central/accuracy").copied().unwrap_or(f64::NAN);
        println!("{name:<22} {:>8} {accuracy:>10.3}", progress.round);
        curves.push((name, curve(&db, name).await?));
    }
    std::fs::write("federated_digits.svg", svg(&curves)?)?;
    println!("\nThe curves are in federated_digits.svg.");
    Ok(())
}

/// Accuracy over rounds, a line for each training.
fn svg(curves: &[(&str, Vec<(u64, f64)>)]) -> Result<String> {
    let colors = ["#0072b2", "#009e73", "#e69f00", "#d55e00"];
    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 400\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"640\" height=\"400\" fill=\"white\"/>\n\
         <text x=\"40\" y=\"20\">accuracy on the coordinator's digits, by round</text>\n",
    );
    let wrong = |_| Error::internal("text can be written");
    for tenth in 0..=10 {
        let y = 370 - tenth * 34;
        let line = format!(
            "<line x1=\"40\" x2=\"620\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/>\
             <text x=\"8\" y=\"{y}\">0.{tenth}</text>"
        );
        writeln!(text, "{}", line.replace("0.10", "1.0")).map_err(wrong)?;
    }
    for (place, (name, points)) in curves.iter().enumerate() {
        let color = colors[place % colors.len()];
        let at = |(round, value): &(u64, f64)| {
            format!("{:.1},{:.1}", 40.0 + *round as f64 * 29.0, 370.0 - value * 340.0)
        };
        let points: Vec<String> = points.iter().map(at).collect();
        writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{}\" y=\"390\" fill=\"{color}\">{name}</text>",
            points.join(" "),
            40 + place * 150
        )
        .map_err(wrong)?;
    }
    text.push_str("</svg>\n");
    Ok(text)
}
