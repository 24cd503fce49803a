//! Applying one component with two triggers, for the first time and unchanged.

use super::{number, text};
use crate::{
    components::{Trig, flat, take_calls, trig},
    database::{Counted, count_rows},
    driver::{Driver, Report},
};
use serde_json::{Value, json};
use superduper::Result;

/// `n` components one after the other, then all again.
pub(crate) fn apply(driver: &Driver) -> Result<()> {
    let n = driver.n(100);
    let result = driver.go_alone("apply_many", json!({"n": n, "prefix": "c"}))?;
    driver.emit_operations("b_apply", &vec![("n", json!(n)), ("triggers", json!(2))], &result);
    Ok(())
}

pub(crate) async fn apply_many(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let (n, prefix) = (number(parameters, "n"), text(parameters, "prefix"));
    let mut report = Report::default();
    for what in ["apply", "reapply unchanged"] {
        let rows = count_rows(".".as_ref())?;
        let apply = async |i: usize| {
            opened.db.apply(trig(&format!("{prefix}{i:05}"), 1)?).await.map(|_| ())
        };
        let mut figures = opened.each(n, apply).await?;
        let calls = take_calls();
        figures.insert(
            "triggers_run".to_owned(),
            json!(calls["start"].as_u64().unwrap_or(0) + calls["go"].as_u64().unwrap_or(0)),
        );
        figures.insert("rows_written".to_owned(), json!(count_rows(".".as_ref())? - rows));
        report.add(what, figures);
    }
    Ok(report.done())
}

/// Statements and transactions of each operation: the figures that a busy machine cannot disturb.
pub(crate) fn sql(driver: &Driver) -> Result<()> {
    let rounds = driver.reps(5);
    let result = driver.go_alone("sql_count", json!({"rounds": rounds}))?;
    driver.emit_operations("b_sql", &vec![], &result);
    Ok(())
}

pub(crate) async fn sql_count(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let db = &opened.db;
    let rounds = number(parameters, "rounds");
    let mut report = Report::default();
    let (_, figures) = opened.time(async { db.apply(trig("c0", 1)?).await }).await?;
    report.add("first apply of the class", figures);
    let apply = async |i: usize| db.apply(trig(&format!("n{i}"), 1)?).await.map(|_| ());
    report.add("apply new", opened.each(rounds, apply).await?);
    let without =
        async |i: usize| db.apply(trig(&format!("j{i}"), 1)?).jobs(false).await.map(|_| ());
    report.add("apply new, jobs false", opened.each(rounds, without).await?);
    report.add("reapply unchanged", opened.each(rounds, apply).await?);
    let load = async |i: usize| db.load::<Trig>(&format!("n{i}")).await.map(|_| ());
    report.add("load", opened.each(rounds, load).await?);
    report.add("show", opened.each(rounds, async |_| db.list().await.map(|_| ())).await?);
    let remove = async |i: usize| db.remove::<Trig>(&format!("n{i}")).await.map(|_| ());
    report.add("remove", opened.each(rounds, remove).await?);
    for n in [10, 20] {
        let (_, figures) = opened
            .time(async { db.apply(flat(&format!("r{n}"), &format!("m{n}_"), n)).await })
            .await?;
        report.add(&format!("apply tree of {n} children"), figures);
    }
    Ok(report.done())
}

/// Does a trigger that depends on another run, in every process?
pub(crate) fn lost(driver: &Driver) -> Result<()> {
    let processes = driver.reps(10);
    let results =
        (0..processes).map(|_| driver.go_alone("lost", json!({}))).collect::<Result<Vec<_>>>()?;
    let count =
        |test: &dyn Fn(&Value) -> bool| results.iter().filter(|result| test(result)).count();
    let figures = json!({
        "applies_that_ran_both": count(&|result| result["start"] == 1 && result["go"] == 1),
        "applies_that_lost_go": count(&|result| result["start"] == 1 && result["go"] == 0),
        "chain10_complete_in_order": count(&|result| result["chain10_ordered"] == true),
        "chain100_complete_in_order": count(&|result| result["chain100_ordered"] == true),
    });
    driver.emit("b_lost", &vec![("processes", json!(processes))], &figures);
    Ok(())
}

pub(crate) async fn lost_worker() -> Result<Value> {
    let opened = Counted::open().await?;
    opened.db.apply(trig("x", 1)?).await?;
    let calls = take_calls();
    let mut result = json!({"start": calls["start"].as_u64().unwrap_or(0), "go": calls["go"].as_u64().unwrap_or(0)});
    result["chain10_ordered"] = json!(super::dag::chain_in_order(&opened, 10).await?);
    result["chain100_ordered"] = json!(super::dag::chain_in_order(&opened, 100).await?);
    Ok(result)
}
