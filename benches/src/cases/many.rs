//! One among many components: listed, loaded, removed.

use super::number;
use crate::{
    components::{Trig, trig},
    database::Counted,
    driver::{Driver, Report},
};
use serde_json::{Value, json};
use superduper::Result;

/// Databases of 100 and 1000 components.
pub(crate) fn many(driver: &Driver) -> Result<()> {
    for n in driver.options.n.map_or(vec![100, 1000], |n| vec![n]) {
        let folder = driver.folder()?;
        driver.go(folder.path(), "seed", json!({"n": n}))?;
        let result = driver.go(folder.path(), "many", json!({"n": n, "remove": n.min(60)}))?;
        driver.emit_operations("f_many", &vec![("n", json!(n))], &result);
    }
    Ok(())
}

/// Apply `n` components, unmeasured.
pub(crate) async fn seed(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    for i in 0..number(parameters, "n") {
        opened.db.apply(trig(&format!("c{i:05}"), 1)?).await?;
    }
    Ok(json!({}))
}

/// List all, load each, remove some.
pub(crate) async fn many_worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let db = &opened.db;
    let mut report = Report::default();
    let (all, mut figures) = opened.time(db.list()).await?;
    figures.insert("shown".to_owned(), json!(all.len()));
    report.add("show all", figures);
    let load = async |i: usize| db.load::<Trig>(&format!("c{i:05}")).await.map(|_| ());
    report.add("load one", opened.each(number(parameters, "n"), load).await?);
    let remove = async |i: usize| db.remove::<Trig>(&format!("c{:05}", i + 1)).await.map(|_| ());
    let removed = number(parameters, "remove").min(all.len().saturating_sub(1));
    let mut figures = opened.each(removed, remove).await?;
    figures.insert("left".to_owned(), json!(db.list().await?.len()));
    report.add("remove one", figures);
    Ok(report.done())
}
