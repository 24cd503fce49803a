//! Which hooks run when.

use crate::{
    components::{Hooks, take_calls},
    database::{Counted, count},
    driver::{Driver, Report},
};
use serde_json::{Value, json};
use superduper::{Result, store::JobFilter};

pub(crate) fn hooks(driver: &Driver) -> Result<()> {
    let result = driver.go_alone("hooks", json!({}))?;
    driver.emit_operations("i_hooks", &vec![], &result);
    Ok(())
}

pub(crate) async fn hooks_worker() -> Result<Value> {
    let opened = Counted::open().await?;
    let db = &opened.db;
    let make = |a| Hooks::builder("h").a(a).build();
    let mut report = Report::default();
    for (what, a) in [("apply", 1), ("reapply unchanged", 1), ("update", 2)] {
        let component = make(a)?;
        take_calls();
        let (_, mut figures) = opened.time(async { db.apply(component).await }).await?;
        add_calls(&mut figures);
        figures.insert(
            "versions".to_owned(),
            json!(count(".".as_ref(), "SELECT count(*) FROM version")?),
        );
        report.add(what, figures);
    }
    let (_, mut figures) = opened.time(async { db.remove::<Hooks>("h").await }).await?;
    add_calls(&mut figures);
    figures
        .insert("versions".to_owned(), json!(count(".".as_ref(), "SELECT count(*) FROM version")?));
    figures.insert("jobs_kept".to_owned(), json!(db.jobs(JobFilter::default()).await?.len()));
    report.add("remove", figures);
    Ok(report.done())
}

fn add_calls(figures: &mut crate::measure::Figures) {
    let calls = take_calls();
    for name in ["postinit", "setup", "on_create", "start", "cleanup"] {
        figures.insert(format!("{name}_calls"), json!(calls[name].as_u64().unwrap_or(0)));
    }
}
