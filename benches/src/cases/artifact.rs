//! Weights as artifacts: stored, applied again, opened, read; told apart; recognised.

use super::{number, text};
use crate::{
    components::{Holder, Root, Weights, WeightsFile, trig},
    database::{Counted, count, files_below},
    driver::{Driver, Parameters, Report},
    measure::{self, Figures, Watch, figures, median, round},
};
use serde_json::{Value, json};
use std::io::{Read, Write};
use superduper::{Callable, Dtype, callable, prelude::*};

/// Each size from memory and from a file, beside the floor.
pub(crate) fn artifact(driver: &Driver) -> Result<()> {
    for mib in driver.options.mib.clone().unwrap_or_else(|| vec![256, 1024]) {
        let reps = driver.reps(3);
        for source in ["memory", "file"] {
            let (mut applied, mut loaded, mut stored) = (Vec::new(), Vec::new(), Value::Null);
            for _ in 0..reps {
                let folder = driver.folder()?;
                applied.push(driver.go(
                    folder.path(),
                    "art_apply",
                    json!({"mib": mib, "source": source}),
                )?);
                loaded.push(driver.go(
                    folder.path(),
                    "art_load",
                    json!({"identifier": "model", "source": source}),
                )?);
                let (bytes, blobs) = files_below(&folder.path().join("db/artifacts"))?;
                stored = json!({"artifact_bytes": bytes, "blobs": blobs});
            }
            let mut parameters: Parameters = vec![("mib", json!(mib))];
            if source == "file" {
                parameters.push(("source", json!(source)));
            }
            emit(driver, &parameters, &applied);
            emit(driver, &parameters, &loaded);
            parameters.push(("what", json!("stored")));
            driver.emit("e_artifact", &parameters, &stored);
        }
    }
    Ok(())
}

/// The medians of each operation over repetitions.
fn emit(driver: &Driver, parameters: &Parameters, results: &[Value]) {
    for at in 0..results[0]["operations"].as_array().map_or(0, Vec::len) {
        let operation = |result: &Value| result["operations"][at].clone();
        let mut figures: Figures =
            operation(&results[0])["figures"].as_object().cloned().unwrap_or_default();
        for (name, value) in &mut figures {
            let all: Vec<f64> = results
                .iter()
                .filter_map(|result| operation(result)["figures"][name].as_f64())
                .collect();
            if all.len() == results.len() {
                *value = round(median(&all));
            }
            // A ratio of two times is only worth something with its spread.
            if name == "times_copy_and_hash" {
                *value = json!({"median": round(median(&all)), "least": all.iter().copied().fold(f64::MAX, f64::min), "most": all.iter().copied().fold(0.0, f64::max)});
            }
        }
        figures.insert("reps".to_owned(), json!(results.len()));
        if let Some(rss) = results[0].get("rss_mib") {
            figures.insert("rss_mib".to_owned(), rss.clone());
        }
        let mut parameters = parameters.clone();
        parameters.push(("what", operation(&results[0])["what"].clone()));
        driver.emit("e_artifact", &parameters, &figures.into());
    }
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

/// The floor: the bytes in pieces, written into a file that is made durable, and hashed once.
fn floor(mut source: impl Read) -> Result<Figures> {
    let watch = Watch::start();
    let mut file = std::fs::File::create("copy")?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut piece)?;
        if length == 0 {
            break;
        }
        file.write_all(&piece[..length])?;
        hasher.update(&piece[..length]);
    }
    file.sync_all()?;
    let mut found = watch.stop();
    found.insert("digest".to_owned(), json!(hasher.finalize().to_hex()[..8].to_owned()));
    drop(file);
    std::fs::remove_file("copy")?;
    Ok(found)
}

/// Have the system use, and let go, three times as many pages as the artifact needs.
fn touch_pages(mib: usize) -> Result<()> {
    let piece = random_bytes(1, 2);
    let names = ["touch0", "touch1", "touch2"];
    for name in names {
        let mut file = std::fs::File::create(name)?;
        (0..mib).try_for_each(|_| file.write_all(&piece))?;
        file.sync_all()?;
    }
    names.iter().try_for_each(std::fs::remove_file)?;
    Ok(())
}

/// Apply, apply again what is in memory, apply the same bytes built again.
///
/// The floor is taken just before, in the same process. Both write into pages that the system had
/// in use a moment ago: a virtual machine may have to ask its host for other pages, which costs up
/// to ten times the copy itself.
pub(crate) async fn art_apply(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let mib = number(parameters, "mib");
    let mut report = Report::default();
    if text(parameters, "source") == "file" {
        let mut file = std::fs::File::create("weights.bin")?;
        file.write_all(&random_bytes(mib, 0))?;
        file.sync_all()?;
        touch_pages(mib)?;
        let base = floor(std::fs::File::open("weights.bin")?)?;
        for what in ["apply", "reapply built again"] {
            let w = Artifact::new(File::open("weights.bin")?);
            let figures = watched(
                opened.db.apply(WeightsFile { identifier: "model".to_owned(), w }).into_future(),
            )
            .await?;
            report.add_above(what, figures, &base);
        }
        report.add("copy + hash", base);
        return Ok(report.done());
    }
    let bytes: Bytes = random_bytes(mib, 0).into();
    touch_pages(mib)?;
    let base = floor(&bytes[..])?;
    let tensors = Tensors::new().with_bytes("w", Dtype::F32, &[mib * 256, 1024], bytes.clone())?;
    let w = Artifact::new(tensors.clone());
    for what in ["apply", "reapply unchanged"] {
        let component = Weights { identifier: "model".to_owned(), w: w.clone() };
        report.add_above(what, watched(opened.db.apply(component).into_future()).await?, &base);
    }
    let w = Artifact::new(tensors);
    report.add(
        "reapply built again",
        watched(opened.db.apply(Weights { identifier: "model".to_owned(), w }).into_future())
            .await?,
    );
    report.add("copy + hash", base);
    Ok(report.done())
}

/// Times, bytes, and memory above what was there before.
async fn watched<T>(operation: impl Future<Output = Result<T>>) -> Result<Figures> {
    let before = measure::rss_mib().filter(|_| measure::reset_peak());
    let watch = Watch::start_with_bytes();
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
    read.insert("dimensions".to_owned(), json!(shape));
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
