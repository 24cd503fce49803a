//! Weights as artifacts: stored, applied again, opened, read; told apart; recognised.

use super::{number, text};
use crate::{
    components::{Holder, Root, Weights, WeightsFile, trig},
    database::{Counted, count, files_below},
    driver::{Driver, Parameters, Report},
    measure::{self, Figures, Watch, figures, median, round},
};
use serde_json::{Value, json};
use std::io::Write;
use superduper::{Callable, Dtype, callable, prelude::*};

/// The floor, and what is above it, for each size.
pub(crate) fn artifact(driver: &Driver) -> Result<()> {
    for mib in driver.options.mib.clone().unwrap_or_else(|| vec![256, 1024]) {
        let reps = driver.reps(3);
        let (mut raw, mut tensors, mut file) = (Vec::new(), Vec::new(), Vec::new());
        // In turn, so that a disturbance meets all of them.
        for _ in 0..reps {
            raw.push(driver.go_alone("raw_io", json!({"mib": mib}))?);
            for (source, results) in [("memory", &mut tensors), ("file", &mut file)] {
                let folder = driver.folder()?;
                let applied = driver.go(folder.path(), "art_apply", json!({"mib": mib, "source": source}))?;
                let loaded = driver.go(folder.path(), "art_load", json!({"identifier": "model", "source": source}))?;
                let (bytes, blobs) = files_below(&folder.path().join("db/artifacts"))?;
                results.push((applied, loaded, bytes, blobs));
            }
        }
        let size: Parameters = vec![("mib", json!(mib))];
        let floor = emit(driver, &size, &raw, None);
        for (source, results, factor) in [("memory", tensors, 1.0), ("file", file, 1.0)] {
            let mut parameters = size.clone();
            if source == "file" {
                parameters.push(("source", json!(source)));
            }
            let (applied, loaded): (Vec<Value>, Vec<Value>) = results.iter().map(|(a, l, ..)| (a.clone(), l.clone())).unzip();
            emit(driver, &parameters, &applied, Some(floor * factor));
            emit(driver, &parameters, &loaded, None);
            let stored = json!({"artifact_bytes": results[0].2, "blobs": results[0].3});
            parameters.push(("what", json!("stored")));
            driver.emit("e_artifact", &parameters, &stored);
        }
    }
    Ok(())
}

/// The medians of each operation over repetitions; gives the processor time of `copy + hash`, where there is one.
fn emit(driver: &Driver, parameters: &Parameters, results: &[Value], floor: Option<f64>) -> f64 {
    let mut found = 0.0;
    let operations = results[0]["operations"].as_array().map_or(0, Vec::len);
    for at in 0..operations {
        let operation = |result: &Value| result["operations"][at].clone();
        let mut figures: Figures = operation(&results[0])["figures"].as_object().cloned().unwrap_or_default();
        for (name, value) in &mut figures {
            let all: Vec<f64> = results.iter().filter_map(|result| operation(result)["figures"][name].as_f64()).collect();
            if all.len() == results.len() {
                *value = round(median(&all));
            }
        }
        let what = operation(&results[0])["what"].clone();
        let cpu = figures.get("cpu_ms").and_then(Value::as_f64).unwrap_or(0.0);
        if what == "copy + hash" {
            found = cpu;
        }
        if let Some(floor) = floor.filter(|floor| *floor > 0.0 && what == "apply") {
            figures.insert("times_copy_and_hash".to_owned(), round(cpu / floor));
        }
        figures.insert("reps".to_owned(), json!(results.len()));
        if let Some(rss) = results[0].get("rss_mib") {
            figures.insert("rss_mib".to_owned(), rss.clone());
        }
        let mut parameters = parameters.clone();
        parameters.push(("what", what));
        driver.emit("e_artifact", &parameters, &figures.into());
    }
    found
}

/// Numbers that no compression helps with.
fn random_bytes(mib: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(mib << 20);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed + 1);
    for _ in 0..(mib << 17) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// A matrix with 1024 columns and as many rows as it takes.
pub(crate) fn weights(mib: usize, seed: u64) -> Result<Tensors> {
    Tensors::new().with_bytes("w", Dtype::F32, &[mib * 256, 1024], random_bytes(mib, seed))
}

/// The floor: write the bytes into a file that is durable, hash them once.
pub(crate) fn raw_io(parameters: &Value) -> Result<Value> {
    let bytes = random_bytes(number(parameters, "mib"), 0);
    let mut report = Report::default();
    let watch = Watch::start();
    let mut file = std::fs::File::create("copy")?;
    bytes.chunks(1 << 20).try_for_each(|chunk| file.write_all(chunk))?;
    file.sync_all()?;
    let copied = watch.stop();
    let hashing = Watch::start();
    let digest = blake3::hash(&bytes);
    report.add("hash", hashing.stop());
    let mut both = watch.stop();
    both.insert("digest".to_owned(), json!(digest.to_hex()[..8].to_owned()));
    report.add("copy", copied);
    report.add("copy + hash", both);
    Ok(report.done())
}

/// Apply, apply again what is in memory, apply the same bytes built again.
pub(crate) async fn art_apply(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let mib = number(parameters, "mib");
    let mut report = Report::default();
    if text(parameters, "source") == "file" {
        std::fs::write("weights.bin", random_bytes(mib, 0))?;
        for what in ["apply", "reapply built again"] {
            let w = Artifact::new(File::open("weights.bin")?);
            report.add(what, watched(opened.db.apply(WeightsFile { identifier: "model".to_owned(), w }).into_future()).await?);
        }
        return Ok(report.done());
    }
    let w = Artifact::new(weights(mib, 0)?);
    for what in ["apply", "reapply unchanged"] {
        let component = Weights { identifier: "model".to_owned(), w: w.clone() };
        report.add(what, watched(opened.db.apply(component).into_future()).await?);
    }
    drop(w);
    let w = Artifact::new(weights(mib, 0)?);
    report.add("reapply built again", watched(opened.db.apply(Weights { identifier: "model".to_owned(), w }).into_future()).await?);
    Ok(report.done())
}

/// Times, bytes, and memory above what was there before.
async fn watched<T>(operation: impl Future<Output = Result<T>>) -> Result<Figures> {
    let before = measure::rss_mib().filter(|_| measure::reset_peak());
    let watch = Watch::start();
    let done = operation.await?;
    let mut found = watch.stop_with_bytes();
    drop(done);
    if let (Some(before), Some(peak)) = (before, measure::peak_rss_mib()) {
        found.insert("peak_above_base_mib".to_owned(), round(peak - before));
        found.insert("base_mib".to_owned(), round(before));
    }
    Ok(found)
}

/// Open in a new process, then read all of it.
pub(crate) async fn art_load(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let identifier = text(parameters, "identifier");
    let mut report = Report::default();
    if text(parameters, "source") == "file" {
        report.add("open", watched(opened.db.load::<WeightsFile>(identifier)).await?);
        let model = opened.db.load::<WeightsFile>(identifier).await?;
        report.add("read", watched(async { model.w.get().await }).await?);
        return Ok(report.done());
    }
    report.add("open", watched(opened.db.load::<Weights>(identifier)).await?);
    let model = opened.db.load::<Weights>(identifier).await?;
    let mut shape = Vec::new();
    let mut read = watched(async {
        let tensor = model.w.get().await?.get("w").await?;
        shape.clone_from(&tensor.info.shape);
        Ok(tensor)
    })
    .await?;
    read.insert("shape".to_owned(), json!(shape));
    report.add("read", read);
    Ok(report.done())
}

/// Are two arrays that differ two blobs?
pub(crate) fn collide(driver: &Driver) -> Result<()> {
    let result = driver.go_alone("collide", json!({}))?;
    driver.emit_operations("e_collide", &vec![], &result);
    Ok(())
}

pub(crate) async fn collide_worker() -> Result<Value> {
    let opened = Counted::open().await?;
    let db = &opened.db;
    let a = random_bytes(4, 1);
    let mut b = a.clone();
    for row in 100..900 {
        b[row * 4096 + 400..row * 4096 + 3600].iter_mut().for_each(|byte| *byte ^= 1); // The corners stay equal.
    }
    let make = |identifier: &str, bytes: &[u8]| -> Result<Weights> {
        let w = Tensors::new().with_bytes("w", Dtype::F32, &[1024, 1024], bytes)?;
        Ok(Weights { identifier: identifier.to_owned(), w: Artifact::new(w) })
    };
    let read = async |identifier: &str| -> Result<Vec<u8>> {
        Ok(db.load::<Weights>(identifier).await?.w.get().await?.get("w").await?.bytes.to_vec())
    };
    for (identifier, bytes) in [("wa", &a), ("wb", &b), ("wc", &a), ("wc", &b)] {
        db.apply(make(identifier, bytes)?).await?;
    }
    let mut report = Report::default();
    let found = figures([
        ("arrays_differ", json!(a != b)),
        ("blobs_in_store", json!(files_below("db/artifacts".as_ref())?.1)),
        ("wa_reads_back_as_a", json!(read("wa").await? == a)),
        ("wb_reads_back_as_b", json!(read("wb").await? == b)),
        ("update_of_wc_stored", json!(read("wc").await? == b)),
    ]);
    report.add("two arrays", found);
    Ok(report.done())
}

#[callable]
fn thing() -> Result<i64> {
    Ok(1)
}

/// Is a second apply of the unchanged component, from a new process, nothing to do?
pub(crate) fn redo(driver: &Driver) -> Result<()> {
    for kind in ["plain", "function", "array", "object"] {
        let folder = driver.folder()?;
        driver.go(folder.path(), "redo", json!({"kind": kind}))?;
        let events = count(folder.path(), "SELECT count(*) FROM event")?;
        driver.go(folder.path(), "redo", json!({"kind": kind}))?;
        let figures = json!({
            "second_apply_is_noop": count(folder.path(), "SELECT count(*) FROM event")? == events,
            "versions": count(folder.path(), "SELECT count(*) FROM version")?,
            "jobs": count(folder.path(), "SELECT count(*) FROM job")?,
        });
        driver.emit("e_redo", &vec![("kind", json!(kind))], &figures);
    }
    Ok(())
}

pub(crate) async fn redo_worker(parameters: &Value) -> Result<Value> {
    let db = Counted::open().await?.db;
    let identifier = "r".to_owned();
    match text(parameters, "kind") {
        "plain" => db.apply(Root { identifier, x: 1 }).await?,
        "function" => db.apply(trig("r", 1)?).await?,
        "array" => db.apply(Weights { identifier, w: Artifact::new(weights(1, 0)?) }).await?,
        _ => db.apply(Holder { identifier, thing: Callable::of::<thing>() }).await?,
    };
    Ok(json!({}))
}
