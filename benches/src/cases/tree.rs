//! Trees of components, wide and deep.

use super::{number, text};
use crate::{
    components::{Node, chain, flat},
    database::{Counted, count},
    driver::{Driver, Report},
    measure::round,
};
use serde_json::{Value, json};
use superduper::Result;

/// Children of one root, and chains.
pub(crate) fn tree(driver: &Driver) -> Result<()> {
    for (shape, n) in
        [("flat", 100), ("chain", 20), ("chain", 100), ("flat", 1000), ("chain", 1000)]
    {
        if driver.options.n.is_some_and(|wanted| wanted != n) {
            continue;
        }
        let folder = driver.folder()?;
        let result = driver.go(folder.path(), "tree", json!({"shape": shape, "n": n}))?;
        driver.emit_operations("c_tree", &vec![("shape", json!(shape)), ("n", json!(n))], &result);
    }
    Ok(())
}

pub(crate) async fn tree_worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (shape, n) = (text(parameters, "shape"), number(parameters, "n"));
    let make = || if shape == "flat" { flat("root", "n", n) } else { chain(n) };
    let root = if shape == "flat" { "root".to_owned() } else { format!("n{:05}", n - 1) };
    let mut report = Report::default();
    let (_, mut figures) = opened.time(async { opened.db.apply(make()).await }).await?;
    let stored = count(".".as_ref(), "SELECT count(*) FROM version")?;
    figures.insert("stored_components".to_owned(), json!(stored));
    let cpu = figures["cpu_ms"].as_f64().unwrap_or(0.0);
    figures.insert("cpu_ms_per_component".to_owned(), round(cpu / stored.max(1) as f64));
    report.add("apply", figures);
    let (_, figures) = opened.time(opened.db.load::<Node>(&root)).await?;
    report.add("load", figures);
    let (_, figures) = opened.time(async { opened.db.apply(make()).await }).await?;
    report.add("reapply unchanged", figures);
    Ok(report.done())
}
