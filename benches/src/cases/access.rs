//! Access: what a decision of a site's gate takes, with and without its record.

use super::number;
use crate::{
    database::Counted,
    driver::{Driver, Report},
    measure::{Watch, round},
};
use serde_json::{Value, json};
use superduper::prelude::*;
use superduper_access::{
    Access, GENERAL_MODELLER, GovernedSite, Permissions, Principal, Right, SiteGate, SitePolicy,
};
use superduper_federated::{Decision, Gate, Request};

/// Decisions at a site with 1000 users and 1000 grants of one user.
pub(crate) fn access(driver: &Driver) -> Result<()> {
    let parameters = json!({"grants": driver.n(1000), "reps": driver.reps(2000)});
    let folder = driver.folder()?;
    let result = driver.go(folder.path(), "access", parameters)?;
    driver.emit_operations("n_access", &vec![("grants", json!(driver.n(1000)))], &result);
    Ok(())
}

/// One process that asks the gate again and again.
pub(crate) async fn worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let db = &opened.db;
    let (grants, reps) = (number(parameters, "grants"), number(parameters, "reps"));
    let owner = Access::acting(db, Principal::user("owner"))?;
    let mut site = GovernedSite::new("north", owner.who().clone());
    site.policy = SitePolicy::open().rules(Right::RunModel, ["any", "not o:acme"])?;
    owner.govern(site).await?;
    for user in 0..grants {
        owner.grant_role("north", format!("user{user:05}"), GENERAL_MODELLER).await?;
    }
    let mut report = Report::default();
    for (what, user, of_user) in [("one of many users", "one", 1), ("many grants", "many", grants)]
    {
        owner.grant_role("north", user, GENERAL_MODELLER).await?;
        let mut given = db.load::<Permissions>(format!("5-north-{user}")).await?;
        for grant in 0..of_user {
            let what = format!("{grant:064x}");
            given.models.push(serde_json::from_value(json!({"what": what, "by": "owner"}))?);
        }
        let digest = given.models[of_user - 1].what.clone();
        db.apply(given).await?;
        for is_preview in [true, false] {
            let request = request(user, &digest, is_preview)?;
            let gate = SiteGate {};
            let ask = async || -> Result<()> {
                match gate.allow(db, &request).await? {
                    Decision::Allow => Ok(()),
                    other => Err(Error::internal(format!("the gate says {other:?}"))),
                }
            };
            ask().await?;
            let watch = Watch::start();
            for _ in 0..reps {
                ask().await?;
            }
            let (cpu, wall) = watch.split();
            let per = |ms: f64| json!(round(ms * 1000.0 / reps as f64));
            let mut figures = serde_json::Map::new();
            figures.insert("cpu_us".into(), per(cpu));
            figures.insert("wall_us".into(), per(wall));
            let record = if is_preview { "without its record" } else { "with its record" };
            report.add(&format!("decision, {what}, {record}"), figures);
        }
    }
    report.add("policy of 10000 rules", policy(reps)?);
    Ok(report.done())
}

/// What a gate is asked about custom code.
fn request(user: &str, digest: &str, is_preview: bool) -> Result<Request> {
    Ok(serde_json::from_value(json!({
        "training": "superduper.FederatedTraining/bench",
        "training_uuid": "00000000-0000-4000-8000-000000000000",
        "site": "north",
        "round": 0,
        "task": "train",
        "model": "bench.Net",
        "executor": "federated.DefaultExecutor",
        "source_digest": digest,
        "source_is_whole": true,
        "is_preview": is_preview,
        "is_default": true,
        "submitter": {"user": user, "purpose": "benchmark"},
    }))?)
}

/// The time of one verdict of a long policy, whose last rule holds.
fn policy(reps: usize) -> Result<serde_json::Map<String, Value>> {
    let mut rules: Vec<String> = (0..9_999).map(|rule| format!("n:user{rule:05}")).collect();
    rules.push("o:lab".to_owned());
    let policy = SitePolicy::closed().rules(Right::RunModel, rules.iter().map(String::as_str))?;
    let alice = Principal::user("alice").of("lab");
    let watch = Watch::start();
    let mut permitted = 0;
    for _ in 0..reps {
        permitted += usize::from(policy.verdict(Right::RunModel, &alice).is_ok());
    }
    let (cpu, _) = watch.split();
    let mut figures = serde_json::Map::new();
    figures.insert("cpu_us".into(), json!(round(cpu * 1000.0 / reps as f64)));
    figures.insert("permitted".into(), json!(permitted == reps));
    Ok(figures)
}
