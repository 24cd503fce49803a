//! Training and embedding on one thread: epochs of a perceptron and a convolutional network,
//! sentences per second.
//!
//! The data are real and are not part of the project: `SUPERDUPER_BENCH_DATA` names a folder with
//! `mnist/` (the four idx files), `minilm/` (all-MiniLM-L6-v2) and `texts.txt`.
//! `peers/learn.sh data` fetches them. Without it these cases are skipped, by name.

use super::{number, text};
use crate::{
    driver::{Driver, Report},
    measure::{Samples, Watch, figures, round},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use superduper::Result;
use superduper_candle::{
    AdamW, Cnn, CnnSpec, Convolution, Mlp, MlpSpec, Model, Optimizer, Table, TextEmbedder,
    TrainLoop, go_on, metrics,
};

/// Epochs of a perceptron of 784, 128 and 10 units on 60 000 images.
pub(crate) fn mlp_epoch(driver: &Driver) -> Result<()> {
    epochs(driver, "mlp_epoch", driver.n(60_000))
}

/// Epochs of a network of two convolutions on 12 000 images.
pub(crate) fn cnn_epoch(driver: &Driver) -> Result<()> {
    epochs(driver, "cnn_epoch", driver.n(12_000))
}

fn epochs(driver: &Driver, case: &'static str, n: usize) -> Result<()> {
    let Some(data) = data(case) else { return Ok(()) };
    let parameters = json!({"model": case, "n": n, "reps": driver.reps(3), "data": data});
    let result = alone(driver, "epochs", parameters)?;
    driver.emit_operations(case, &vec![("n", json!(n))], &result);
    Ok(())
}

/// Texts by one and by 32.
pub(crate) fn embed(driver: &Driver) -> Result<()> {
    let Some(data) = data("embed") else { return Ok(()) };
    for batch in [1, 32] {
        let parameters = json!({"batch": batch, "reps": driver.reps(5), "data": data});
        let result = alone(driver, "embed", parameters)?;
        driver.emit_operations("embed", &vec![("n", json!(batch))], &result);
    }
    Ok(())
}

/// A worker with one thread for each kind of work.
fn alone(driver: &Driver, name: &str, parameters: Value) -> Result<Value> {
    let folder = driver.folder()?;
    driver
        .start_with(
            folder.path(),
            name,
            &parameters,
            &[("RAYON_NUM_THREADS", "1"), ("CANDLE_NUM_THREADS", "1")],
        )?
        .wait()
}

/// The folder of the data, where there is one.
fn data(case: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SUPERDUPER_BENCH_DATA")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!(
            "# {case} skipped: `SUPERDUPER_BENCH_DATA` names no folder; `sh benches/peers/learn.sh data` fetches and prints it"
        );
    }
    found
}

/// The images of an idx file from 0 to 1, with their digits; at most `most`.
fn mnist(folder: &Path, part: &str, most: usize) -> Result<Table> {
    let read = |kind: &str, header: usize| -> Result<Vec<u8>> {
        Ok(std::fs::read(folder.join("mnist").join(format!("{part}-{kind}-ubyte")))?
            .split_off(header))
    };
    let (images, labels) = (read("images-idx3", 16)?, read("labels-idx1", 8)?);
    let rows = most.min(labels.len());
    let features = images[..rows * 784].iter().map(|pixel| f32::from(*pixel) / 255.0).collect();
    Table::new(784, features, labels[..rows].iter().map(|label| u32::from(*label)).collect())
}

pub(crate) async fn epochs_worker(parameters: &Value) -> Result<Value> {
    let folder = Path::new(text(parameters, "data"));
    let train = mnist(folder, "train", number(parameters, "n"))?;
    let test = mnist(folder, "t10k", usize::MAX)?;
    let reps = number(parameters, "reps");
    if text(parameters, "model") == "mlp_epoch" {
        let model = Mlp::init(
            MlpSpec { inputs: 784, hidden: vec![128], classes: 10, ..MlpSpec::default() },
            1,
        )?;
        return measure(&model, &train, reps, || model.predict(&test.features()?), test.labels());
    }
    let convolution = |filters| Convolution { filters, kernel: 5, padding: 0, pool: 2 };
    let spec = CnnSpec {
        image: [1, 28, 28],
        convolutions: vec![convolution(16), convolution(32)],
        hidden: vec![128],
        classes: 10,
        ..CnnSpec::default()
    };
    let model = Cnn::init(spec, 1)?;
    measure(&model, &train, reps, || model.predict(&test.features()?), test.labels())
}

/// AdamW without decay and with a rate of 1e-3 on batches of 64, epoch by epoch.
fn measure(
    model: &dyn Model,
    train: &Table,
    epochs: usize,
    predict: impl Fn() -> Result<Vec<u32>>,
    labels: &[u32],
) -> Result<Value> {
    let optimizer = AdamW { weight_decay: 0.0, ..AdamW::default() };
    let mut state = optimizer.init();
    let (mut samples, mut first) = (Samples::default(), None);
    let mut report = Report::default();
    for epoch in 1..=epochs as u64 {
        let watch = Watch::start();
        TrainLoop { epochs: epoch, batch: 64, seed: 1, ..TrainLoop::default() }.run(
            model,
            train,
            &optimizer,
            &mut state,
            |_| go_on(),
        )?;
        samples.push(watch.split());
        let accuracy = metrics::accuracy(&predict()?, labels)?;
        first.get_or_insert(accuracy);
    }
    let mut found = samples.figures();
    found.extend(figures([
        ("accuracy_after_first", round(first.unwrap_or_default())),
        ("epochs", json!(epochs)),
    ]));
    report.add("epoch", found);
    Ok(report.done())
}

pub(crate) async fn embed_worker(parameters: &Value) -> Result<Value> {
    let folder = Path::new(text(parameters, "data"));
    let texts = std::fs::read_to_string(folder.join("texts.txt"))?;
    let batch = number(parameters, "batch");
    let texts: Vec<&str> = texts.lines().take(if batch == 1 { 64 } else { 256 }).collect();
    let embedder = TextEmbedder::from_folder("minilm", folder.join("minilm"))?;
    let mut report = Report::default();
    let encoder = report.time("load", embedder.encoder()).await?;
    encoder.embed_batch(&texts[..batch])?;
    let mut samples = Samples::default();
    for _ in 0..number(parameters, "reps") {
        let watch = Watch::start();
        for texts in texts.chunks(batch) {
            encoder.embed_batch(texts)?;
        }
        samples.push(watch.split());
    }
    let mut found = samples.figures();
    let wall = found.get("wall_ms").and_then(Value::as_f64).unwrap_or(f64::NAN);
    found.insert("texts_per_s".to_owned(), round(texts.len() as f64 / wall * 1e3));
    report.add("embed", found);
    Ok(report.done())
}
