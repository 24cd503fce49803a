//! Starting a process and opening a database.

use crate::{
    database::Counted,
    driver::{Driver, Parameters, Report},
    measure::{figures, median, round},
};
use serde_json::{Value, json};
use superduper::Result;

/// A process that does nothing, one that makes a database, and ones that open a database with
/// components.
pub(crate) fn cold(driver: &Driver) -> Result<()> {
    let reps = driver.reps(7);
    let nothing =
        (0..reps).map(|_| driver.go_alone("nothing", json!({}))).collect::<Result<_>>()?;
    emit(driver, vec![("what", json!("process start"))], nothing);
    let new = (0..reps).map(|_| driver.go_alone("open", json!({}))).collect::<Result<_>>()?;
    emit(driver, vec![("what", json!("start + connect, new db"))], new);
    for n in [0, 100, 1000] {
        let folder = driver.folder()?;
        driver.go(folder.path(), "seed", json!({"n": n}))?;
        let opened = (0..reps)
            .map(|_| driver.go(folder.path(), "open", json!({})))
            .collect::<Result<_>>()?;
        emit(
            driver,
            vec![("what", json!("start + connect, existing db")), ("components_in_db", json!(n))],
            opened,
        );
    }
    Ok(())
}

fn emit(driver: &Driver, parameters: Parameters, results: Vec<Value>) {
    let of = |name: &str| {
        round(median(
            &results.iter().filter_map(|result| result[name].as_f64()).collect::<Vec<_>>(),
        ))
    };
    let opened = |name: &str| {
        let found =
            results.iter().filter_map(|result| result["operations"][0]["figures"][name].as_f64());
        found.collect::<Vec<_>>()
    };
    let mut found = figures([
        ("cpu_ms", of("process_cpu_ms")),
        ("wall_ms", of("process_wall_ms")),
        ("rss_mib", of("rss_mib")),
        ("reps", json!(results.len())),
    ]);
    if !opened("cpu_ms").is_empty() {
        found.insert("connect_cpu_ms".to_owned(), round(median(&opened("cpu_ms"))));
    }
    driver.emit("a_cold", &parameters, &found.into());
}

/// Open the database.
pub(crate) async fn open() -> Result<Value> {
    let mut report = Report::default();
    report.time("open", Counted::open()).await?;
    Ok(report.done())
}
