//! Keeping house over many small artifacts: what `verify` and `gc` take for each, and whether
//! memory stays flat.

use super::number;
use crate::{
    components::blobs,
    database::Counted,
    driver::{Driver, Report},
    measure,
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use superduper::{Digest, Result, prelude::*};

/// So many artifacts belong to one component.
const EACH: usize = 1000;

/// Databases of 10,000 and 40,000 artifacts of 100 bytes, with as many again that nothing refers
/// to.
pub(crate) fn upkeep(driver: &Driver) -> Result<()> {
    for n in driver.options.n.map_or(vec![10_000, 40_000], |n| vec![n]) {
        let folder = driver.folder()?;
        driver.go(folder.path(), "upkeep_seed", json!({"n": n}))?;
        for what in ["verify", "verify quick", "gc dry run", "gc nothing", "gc all"] {
            let result = driver.go(folder.path(), "upkeep", json!({"n": n, "what": what}))?;
            driver.emit_operations("j_upkeep", &vec![("n", json!(n))], &result);
        }
    }
    Ok(())
}

fn content(kind: &str, number: usize) -> Vec<u8> {
    let mut text = format!("{kind} {number:08} ").into_bytes();
    text.resize(100, b'x');
    text
}

/// Write a blob as the store would, without synchronizing each of them.
fn write(bytes: &[u8]) -> Result<()> {
    let hex = Digest::of(bytes).to_hex();
    let folder = Path::new("db/artifacts/blake3").join(&hex[..2]);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(hex), bytes)?;
    Ok(())
}

/// Apply components with `n` artifacts together, unmeasured.
pub(crate) async fn seed(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let n = number(parameters, "n");
    for number in 0..n {
        write(&content("used", number))?;
        write(&content("orphan", number))?;
    }
    for first in (0..n).step_by(EACH) {
        let all = (first..n.min(first + EACH)).map(|number| Bytes::from(content("used", number)));
        opened.db.apply(blobs(&format!("{first:08}"), all.collect())).await?;
    }
    Ok(json!({}))
}

/// One pass over them.
pub(crate) async fn work(parameters: &Value) -> Result<Value> {
    let what = super::text(parameters, "what");
    // Nothing is old enough for a collection that is to delete nothing.
    let grace = if what == "gc nothing" { Duration::from_secs(1 << 30) } else { Duration::ZERO };
    let opened = Counted::open_with(grace).await?;
    let before = measure::rss_mib().unwrap_or(0.0);
    measure::reset_peak();
    let (seen, mut figures) = match what {
        "verify" | "verify quick" => {
            let verify = opened.db.verify();
            let verify = if what == "verify" { verify } else { verify.quick() };
            let (report, figures) = opened.time(verify.into_future()).await?;
            (if report.is_sound() { report.blobs } else { 0 }, figures)
        }
        _ => {
            let (report, figures) = opened.time(opened.db.gc(what == "gc dry run")).await?;
            (report.blobs.len(), figures)
        }
    };
    figures.insert("seen".to_owned(), json!(seen));
    if let Some(peak) = measure::peak_rss_mib() {
        figures.insert("extra_mib".to_owned(), measure::round(peak - before));
    }
    let mut report = Report::default();
    report.add(what, figures);
    Ok(report.done())
}
