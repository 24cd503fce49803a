//! Naming what is stored: by address, text, label or component, in every call; and what is shown.

use crate::support::{databases, in_memory, refused, says};
use superduper::{Keep, Locator, Status, prelude::*, store::JobFilter};

const MODEL: &str = "addresses.Model/churn";

#[derive(Component, Clone)]
#[component(kind = "addresses.Encoder")]
struct Encoder {
    identifier: String,
}

#[derive(Component, Clone)]
#[component(kind = "addresses.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    score: f64,
    note: String,
    encoder: Encoder,
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn evaluate(&self) -> Result<f64> {
        Ok(self.score)
    }
    #[trigger("apply", watch = "note")]
    fn describe(&self, evaluate: f64) -> Result<String> {
        if self.note == "bad" {
            return Err(Error::msg("there are no words for it"));
        }
        Ok(format!("{} {evaluate}", self.note))
    }
}

fn model(score: f64) -> Model {
    let encoder = Encoder { identifier: "text".into() };
    Model { identifier: "churn".into(), score, note: "a".into(), encoder }
}

#[tokio::test]
async fn n13_a_result_is_read_by_address_and_trigger() {
    for on in databases().await {
        let db = &on.db;
        db.apply(model(0.25)).await.expect("applies");
        db.label(MODEL, "prod").await.expect("labels");
        db.apply(model(0.5)).await.expect("applies");
        let result = async |at: &str| db.result::<f64>(at, "evaluate").await.expect(at);
        assert_eq!(result("addresses.Model/churn@prod").await, 0.25);
        assert_eq!(result("addresses.Model/churn").await, 0.5);
        assert_eq!(result("addresses.Model/churn@latest").await, 0.5);
        assert_eq!(result("addresses.Model/churn@0").await, 0.25);
        assert_eq!(result("addresses.Model/churn@1.0").await, 0.5);
        // A revision keeps what does not run again.
        db.apply(Model { note: "b".into(), ..model(0.5) }).await.expect("applies");
        assert_eq!(result("addresses.Model/churn@1.1").await, 0.5);
        let said: String = db.result(MODEL, "describe").await.expect("a result");
        assert_eq!(said, "b 0.5");
        // A rollback copies no outputs here, and runs again; a failure later does not hide what was.
        db.apply(Model { note: "bad".into(), ..model(0.5) }).await.expect_err("fails");
        let said: String = db.result(MODEL, "describe").await.expect("the last success");
        assert_eq!(said, "b 0.5");

        let error = refused(db.result::<String>(MODEL, "evaluate").await);
        says(&error, ErrorKind::Decode, &["evaluate"]);
        let error = refused(db.result::<f64>(MODEL, "evalute").await);
        says(&error, ErrorKind::NotFound, &["no trigger `evalute`"]);
        assert!(error.hint().expect("a hint").contains("did you mean `evaluate`?"), "{error:?}");
        let error = refused(db.result::<f64>("addresses.Model/chrun", "evaluate").await);
        says(&error, ErrorKind::NotFound, &["chrun"]);
        let error = refused(db.result::<f64>("addresses.Model/churn@test", "evaluate").await);
        says(&error, ErrorKind::NotFound, &["no label `test`"]);
        let on = on.reopened().await;
        let kept: f64 = on.db.result("addresses.Model/churn@prod", "evaluate").await.expect("kept");
        assert_eq!(kept, 0.25);
    }
}

#[tokio::test]
async fn n13_a_trigger_that_did_not_succeed_has_no_result() {
    for on in databases().await {
        on.db.apply(Model { note: "bad".into(), ..model(1.0) }).await.expect_err("fails");
        let error = refused(on.db.result::<String>(MODEL, "describe").await);
        says(&error, ErrorKind::NotFound, &["`describe`", "is failed"]);
        on.db.apply(model(2.0)).jobs(false).await.expect("applies");
        let error = refused(on.db.result::<String>(MODEL, "describe").await);
        says(&error, ErrorKind::NotFound, &["`describe`", "has not run"]);
    }
}

#[tokio::test]
async fn n13_an_apply_that_changes_nothing_has_the_recorded_results() {
    for on in databases().await {
        on.db.apply(model(0.5)).await.expect("applies");
        let again = on.db.apply(model(0.5)).await.expect("applies");
        assert!(again.outcome.is_none());
        assert_eq!(again.result::<f64>("evaluate").expect("the recorded one"), 0.5);
        assert_eq!(again.result::<String>("describe").expect("the recorded one"), "a 0.5");
        says(&refused(again.result::<f64>("evalute")), ErrorKind::NotFound, &["evalute"]);
        // What runs wins, the rest is what is on record.
        let b = on.db.apply(Model { note: "b".into(), ..model(0.5) }).await.expect("applies");
        assert_eq!(b.jobs().len(), 1);
        assert_eq!(b.result::<String>("describe").expect("it ran"), "b 0.5");
        assert_eq!(b.result::<f64>("evaluate").expect("the recorded one"), 0.5);
        // A new version has its own.
        let next = on.db.apply(model(0.75)).jobs(false).await.expect("applies");
        says(&refused(next.result::<f64>("evaluate")), ErrorKind::NotFound, &["@1.0"]);
    }
}

#[tokio::test]
async fn n14_every_call_takes_an_address_a_text_and_a_component() {
    for on in databases().await {
        let db = &on.db;
        db.apply(model(0.25)).await.expect("applies");
        db.label(Address::of::<Model>("churn"), "prod").await.expect("labels");
        let second = db.apply(model(0.5)).await.expect("applies");
        let address = Address::of::<Model>("churn");
        assert_eq!(address.to_string(), MODEL);
        let built = model(0.5);
        let any: Box<dyn Component> = db.load_dyn(&address).await.expect("loads");
        let loaded = db.load_with_address::<Model>("churn@prod").await.expect("loads");

        // The newest version, named in each way.
        for locator in [
            Locator::from(&address),
            Locator::from(&built),
            Locator::from(&any),
            Locator::try_from(MODEL).expect("a locator"),
            Locator::of::<Model>("churn").expect("a locator"),
            Locator::of::<Model>(&address).expect("a locator"),
        ] {
            assert_eq!(locator.to_string(), MODEL);
            assert_eq!(db.load::<Model>(&locator).await.expect("loads").score, 0.5);
        }
        let both = [("churn@prod", 0.25), ("churn@0", 0.25), ("churn", 0.5), (MODEL, 0.5)];
        for (name, score) in both {
            assert_eq!(db.load::<Model>(name).await.expect(name).score, score);
        }
        assert_eq!(db.load::<Model>(&built).await.expect("loads").score, 0.5);
        assert_eq!(db.load::<Model>(address.at(0)).await.expect("loads").score, 0.25);
        assert_eq!(db.result::<f64>(&built, "evaluate").await.expect("a result"), 0.5);
        assert_eq!(db.result::<f64>(&second, "evaluate").await.expect("a result"), 0.5);
        assert_eq!(db.result::<f64>(&any, "evaluate").await.expect("a result"), 0.5);
        assert_eq!(db.result::<f64>(&loaded, "evaluate").await.expect("a result"), 0.25);

        assert_eq!(db.status(&built).await.expect("a status"), Status::Ready);
        assert_eq!(db.versions("addresses.Model/churn@prod").await.expect("versions").len(), 2);
        assert_eq!(db.labels(&any).await.expect("labels").len(), 1);
        assert_eq!(db.show(&loaded).await.expect("a document")["fields"]["score"], 0.25);
        assert_eq!(db.unlabel(&built, "prod").await.expect("takes it away"), Some(0));
        assert_eq!(db.label(&loaded, "prod").await.expect("labels"), None);
        db.prune(&built, Keep::last(1)).dry_run().await.expect("a dry run");
        assert_eq!(db.rollback(&built, 0).await.expect("rolls back").version(), 2);
        db.rename(&built, "addresses.Model/other").await.expect("renames");
        let renamed = Address::of::<Model>("other");
        db.remove_dyn(renamed.at(1)).await.expect("removes");
        assert_eq!(on.versions("addresses.Model/other").await, [0, 2]);
        db.unlabel("addresses.Model/other", "prod").await.expect("takes it away");
        db.remove::<Model>("other@0").await.expect("removes");
        assert_eq!(on.versions("addresses.Model/other").await, [2]);
        db.remove::<Model>(&renamed).await.expect("removes");
        assert!(on.versions("addresses.Model/other").await.is_empty());
    }
}

#[tokio::test]
async fn n14_a_name_without_a_kind_is_for_typed_calls_only() {
    let on = in_memory().await;
    on.db.apply(model(0.5)).await.expect("applies");
    let error = refused(on.db.status("churn").await);
    says(&error, ErrorKind::InvalidInput, &["`churn`", "kind"]);
    assert!(error.hint().expect("a hint").contains(MODEL), "{error:?}");
    let error = refused(on.db.remove_dyn("churn@prod").await);
    says(&error, ErrorKind::InvalidInput, &["`churn@prod`"]);
    let error = refused(on.db.load::<Encoder>(MODEL).await);
    says(&error, ErrorKind::InvalidInput, &[MODEL, "addresses.Encoder"]);
    let error = refused(on.db.remove::<Encoder>(MODEL).await);
    says(&error, ErrorKind::InvalidInput, &[MODEL, "addresses.Encoder"]);
    assert_eq!(on.versions(MODEL).await, [0]);
}

#[tokio::test]
async fn n14_a_loaded_component_knows_its_version() {
    let on = in_memory().await;
    on.db.apply(model(0.25)).await.expect("applies");
    on.db.apply(Model { note: "b".into(), ..model(0.25) }).await.expect("applies");
    let loaded = on.db.load_with_address::<Model>("churn").await.expect("loads");
    assert_eq!(loaded.address().to_string(), "addresses.Model/churn@0.1");
    assert_eq!((loaded.version(), &*loaded.note), (0, "b"));
    assert_eq!(format!("{loaded:?}"), "Loaded(addresses.Model/churn@0.1)");
    // It is the component: applying it changes nothing.
    let applied = on.db.apply(&loaded).await.expect("applies");
    assert_eq!((applied.version(), applied.revision()), (0, 1));
    let missing = on.db.load_with_address::<Model>("none").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_component_of_any_type_is_looked_at_as_its_own() {
    let on = in_memory().await;
    on.db.apply(model(0.25)).await.expect("applies");
    let any = on.db.load_dyn(MODEL).await.expect("loads");
    assert_eq!(any.downcast_ref::<Model>().expect("a model").score, 0.25);
    assert!(any.downcast_ref::<Encoder>().is_none());
    assert!(any.is::<Model>() && !any.is::<Encoder>());
}

#[tokio::test]
async fn the_holders_of_a_component_are_told() {
    for on in databases().await {
        on.db.apply(model(0.25)).await.expect("applies");
        on.db.apply(model(0.5)).await.expect("applies");
        on.db.apply(Model { note: "b".into(), ..model(0.5) }).await.expect("applies");
        let encoder = Encoder { identifier: "text".into() };
        let parents = on.db.parents(&encoder).await.expect("parents");
        let texts: Vec<String> = parents
            .iter()
            .map(|found| format!("{} holds {} in {}", found.parent, found.child, found.path))
            .collect();
        assert_eq!(
            texts,
            [
                "addresses.Model/churn@0.0 holds addresses.Encoder/text@0 in encoder",
                "addresses.Model/churn@1.1 holds addresses.Encoder/text@0 in encoder",
            ]
        );
        assert_eq!(on.db.parents("addresses.Encoder/text@0").await.expect("parents").len(), 2);
        assert!(on.db.parents(MODEL).await.expect("none").is_empty());
        let error = refused(on.db.parents("addresses.Encoder/text@1").await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(refused(on.db.parents("addresses.Encoder/x").await).kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn rows_and_outcomes_are_shown_as_lines() {
    let on = in_memory().await;
    let applied = on.db.apply(model(0.5)).await.expect("applies");
    assert_eq!(format!("{:?}", applied.address), "addresses.Model/churn@0.0");
    let text = applied.to_string();
    let wanted = "addresses.Model/churn@0.0 (create): run 1 succeeded, 2 of 2 jobs succeeded";
    assert_eq!(text, wanted);
    let unchanged = on.db.apply(model(0.5)).await.expect("applies");
    assert_eq!(unchanged.to_string(), "addresses.Model/churn@0.0 (unchanged): nothing ran");

    let outcome = applied.outcome.expect("it ran");
    let lines: Vec<String> = outcome.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3);
    let begins = |line: &str, with: &str| assert!(line.starts_with(with), "{line}");
    begins(&lines[0], "run 1 (apply addresses.Model/churn@0.0) succeeded at 2");
    begins(&lines[1], "  job 1 (evaluate of addresses.Model/churn@0.0) succeeded at 2");
    let time = outcome.run.created_at.to_string();
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");

    on.db.apply(Model { note: "bad".into(), ..model(0.5) }).await.expect_err("fails");
    let job = on.db.jobs(JobFilter::default()).await.expect("jobs").pop().expect("a job");
    let line = job.to_string();
    begins(&line, "job 3 (describe of addresses.Model/churn@0.1) failed at 2");
    assert!(line.ends_with(": there are no words for it"), "{line}");
    assert_eq!(
        on.db.status(MODEL).await.expect("a status").to_string(),
        "degraded\n  job 3 (describe of addresses.Model/churn@0.1) failed: there are no words for it"
    );
    assert_eq!(Status::Ready.to_string(), "ready");
}
