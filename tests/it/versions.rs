//! Cases B06 and B07: what a label points at stays; repair, rollback and revert follow one rule;
//! one trigger alone; once again.

use crate::support::{Database, databases, refused, says};
use std::{
    collections::BTreeMap,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};
use superduper::{
    Action, Observed, Output, Status,
    prelude::*,
    store::{JobFilter, JobState},
};

/// What methods did, by the identifier of the component.
static CALLS: LazyLock<Mutex<BTreeMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);
/// Components that are gone outside.
static GONE: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
/// No two fits give the same.
static FITS: AtomicI64 = AtomicI64::new(1);

fn called(identifier: &str, what: impl Into<String>) {
    CALLS.lock().expect("calls").entry(identifier.to_owned()).or_default().push(what.into());
}

/// What was done since the last time that this was asked.
fn calls(identifier: &str) -> Vec<String> {
    CALLS.lock().expect("calls").remove(identifier).unwrap_or_default()
}

fn lose(identifier: &str) {
    GONE.lock().expect("the world").push(identifier.to_owned());
}

#[derive(Component, Clone)]
#[component(kind = "versions.Part")]
struct Part {
    identifier: String,
    #[component(breaking)]
    size: i64,
    learned: Output<i64>,
}

#[triggers]
impl Part {
    #[trigger("apply")]
    fn learn(&self, ctx: &JobContext) -> Result<i64> {
        called(&self.identifier, "learn");
        let value = FITS.fetch_add(1, Ordering::SeqCst);
        ctx.set(&self.learned, value)?;
        Ok(value)
    }
    #[trigger("apply")]
    fn announce(&self, learn: i64) -> Result<i64> {
        called(&self.identifier, "announce");
        Ok(learn)
    }
}

#[derive(Component, Clone)]
#[component(kind = "versions.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    seed: i64,
    rounds: i64,
    note: String,
    #[component(breaking)]
    part: Part,
    weights: Output<i64>,
}

impl Lifecycle for Model {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        called(&self.identifier, format!("create {}", ctx.version()));
        GONE.lock().expect("the world").retain(|gone| *gone != self.identifier);
        Ok(())
    }
    async fn observe(&self, _ctx: &JobContext) -> Result<Observed> {
        let gone = GONE.lock().expect("the world").contains(&self.identifier);
        if gone { Ok(Observed::missing()) } else { Observed::present().with("note", &*self.note) }
    }
}

impl Model {
    /// The trigger's body does not tell that it sets something; its record does.
    fn keep(&self, ctx: &JobContext, value: i64) -> Result<()> {
        ctx.set(&self.weights, value)
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn prepare(&self) -> Result<i64> {
        // Long enough for what does not wait for it to be noticed.
        std::thread::sleep(std::time::Duration::from_millis(20));
        called(&self.identifier, "prepare");
        Ok(self.seed)
    }
    #[trigger("apply", watch = "rounds", depends_on = "prepare")]
    fn fit(&self, ctx: &JobContext) -> Result<i64> {
        called(&self.identifier, "fit");
        let value = FITS.fetch_add(1, Ordering::SeqCst);
        self.keep(ctx, value)?;
        Ok(value)
    }
    #[trigger("apply", watch = "note")]
    fn publish(&self, fit: i64) -> Result<String> {
        assert_eq!(*self.weights.get()?, fit, "the output is the one that the result is of");
        called(&self.identifier, format!("publish {fit}"));
        if self.note == "fails" {
            Err(Error::msg("nobody listens"))
        } else {
            Ok(format!("{} {fit}", self.note))
        }
    }
}

fn part(identifier: &str, size: i64) -> Part {
    Part { identifier: format!("{identifier}-part"), size, learned: Output::empty() }
}

fn model(identifier: &str, seed: i64, size: i64) -> Model {
    let part = part(identifier, size);
    Model {
        identifier: identifier.into(),
        seed,
        rounds: 1,
        note: "a".into(),
        part,
        weights: Output::empty(),
    }
}

fn address(identifier: &str) -> String {
    format!("versions.Model/{identifier}")
}

async fn weights(on: &Database, name: &str) -> i64 {
    *on.db.load::<Model>(name).await.expect("loads").weights.get().expect("an output")
}

#[tokio::test]
async fn b06_a_repair_leaves_what_a_label_points_at() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b06-{round}");
        let applied = on.db.apply(model(&name, 1, 1)).await.expect("applies");
        on.db.label(applied.address.clone(), "prod").await.expect("labels");
        let before = weights(&on, &format!("{name}@prod")).await;
        calls(&name);
        lose(&name);

        let drift = on.db.refresh(address(&name).as_str()).await.expect("looks");
        let methods: Vec<&str> = drift.plan.jobs().iter().map(|job| job.method.as_str()).collect();
        assert_eq!(methods, ["on_create", "prepare", "publish"]);
        let left = &drift.plan.left_out()[0];
        assert_eq!(
            (left.trigger.as_str(), left.outputs.as_slice(), left.from),
            ("fit", &["weights".to_owned()][..], None)
        );
        assert!(drift.plan.overwrites().is_empty());
        let text = drift.plan.to_string();
        assert!(
            text.contains(&format!(
                "left out: fit of {}@0.0: its output `weights` is on record",
                address(&name)
            )),
            "{text}"
        );
        assert_eq!(drift.plan.to_json()["left_out"][0]["outputs"], json!(["weights"]));

        on.db.apply_plan(drift.plan).await.expect("mends");
        assert_eq!(
            weights(&on, &format!("{name}@prod")).await,
            before,
            "the label still means the same weights"
        );
        assert_eq!(calls(&name), ["create 0", "prepare", &format!("publish {before}")]);
        assert_eq!(on.newest(&address(&name)).await, (0, 0));
        assert_eq!(on.db.status(address(&name).as_str()).await.expect("a status"), Status::Ready);
    }
}

#[tokio::test]
async fn b06_a_plan_that_overwrites_says_so_and_a_label_refuses_it() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b06b-{round}");
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        let before = weights(&on, &name).await;
        let more = Model { rounds: 2, ..model(&name, 1, 1) };
        let plan = on.db.plan(&more).await.expect("plans");
        let overwrites = &plan.overwrites()[0];
        assert_eq!(
            (overwrites.trigger.as_str(), &*overwrites.outputs, overwrites.certain),
            ("fit", &["weights".to_owned()][..], true)
        );
        assert!(
            plan.to_string()
                .contains(&format!("overwrites: `weights` of {}@0.1 (`fit`)\n", address(&name))),
            "{plan}"
        );

        // The label comes between plan and apply.
        on.db.label(format!("{}@0", address(&name)).as_str(), "prod").await.expect("labels");
        says(&refused(on.db.apply_plan(plan).await), ErrorKind::Conflict, &["`prod`"]);
        let state = on.dump().await;
        let plan = on.db.plan(&more).await.expect("plans");
        assert_eq!(plan.overwrites()[0].labels, ["prod"]);
        assert!(plan.to_string().contains("refused, the version has the label `prod`"), "{plan}");
        says(
            &refused(on.db.apply_plan(plan).await),
            ErrorKind::InUse,
            &["`fit`", "`weights`", "`prod`", "again()"],
        );
        says(
            &refused(on.db.apply(&more).await),
            ErrorKind::InUse,
            &["`fit`", "`weights`", "`prod`", "again()"],
        );
        assert_eq!(on.dump().await, state, "nothing is written");
        assert_eq!(weights(&on, &format!("{name}@prod")).await, before);

        // What sets no output may run, and a new version may be made.
        on.db
            .apply(Model { note: "b".into(), ..model(&name, 1, 1) })
            .await
            .expect("an update that publishes");
        assert_eq!(on.db.apply(&more).again().await.expect("applies").version(), 1);
        assert_eq!(weights(&on, &format!("{name}@prod")).await, before);
        on.db.unlabel(address(&name).as_str(), "prod").await.expect("takes the label away");
    }
}

#[tokio::test]
async fn b06_a_retry_does_not_change_what_a_label_points_at() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b06c-{round}");
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        let before = weights(&on, &name).await;
        let run =
            on.db.apply(Model { rounds: 2, ..model(&name, 1, 1) }).detach().await.expect("starts");
        let fit = run.recorded()[0];
        // Whether it is too late for that or not, the job is on record.
        run.cancel().await.expect("cancels");
        let _ended = run.wait().await;
        if on.db.job(fit).await.expect("a job").state == JobState::Succeeded {
            continue;
        }
        on.db.label(format!("{}@0", address(&name)).as_str(), "prod").await.expect("labels");
        says(&refused(on.db.retry(fit).await), ErrorKind::InUse, &["`fit`", "`weights`", "`prod`"]);
        says(
            &refused(on.db.apply(Model { rounds: 2, ..model(&name, 1, 1) }).await),
            ErrorKind::InUse,
            &["`weights`"],
        );
        assert_eq!(weights(&on, &format!("{name}@prod")).await, before);
        on.db.unlabel(address(&name).as_str(), "prod").await.expect("takes the label away");
        on.db.retry(fit).await.expect("it runs now");
        assert_ne!(weights(&on, &name).await, before);
    }
}

#[tokio::test]
async fn b06_imported_outputs_have_no_record_and_stay_too() {
    let folder = tempfile::tempdir().expect("a folder");
    for (round, (from, on)) in databases().await.into_iter().zip(databases().await).enumerate() {
        let name = format!("b06d-{round}");
        let path = folder.path().join(format!("{round}.tar"));
        from.db.apply(model(&name, 1, 1)).await.expect("applies");
        from.db.export(address(&name).as_str(), &path).await.expect("exports");
        on.db.import(&path).await.expect("imports");
        let before = weights(&on, &name).await;
        let part = format!("versions.Part/{name}-part");
        on.db.label(format!("{part}@0").as_str(), "prod").await.expect("labels");
        on.db.label(format!("{}@0", address(&name)).as_str(), "prod").await.expect("labels");
        calls(&name);
        lose(&name);
        // That `learn` sets `learned` is in its body. Of `fit` nothing tells it, so that any
        // trigger with a context counts.
        says(
            &refused(on.db.run(format!("{part}@prod").as_str(), "learn").await),
            ErrorKind::InvalidInput,
            &["`learn`", "`learned`"],
        );
        let drift = on.db.refresh(address(&name).as_str()).await.expect("looks");
        assert!(
            drift.plan.overwrites().iter().any(|found| found.trigger == "fit" && !found.certain),
            "{}",
            drift.plan
        );
        says(
            &refused(on.db.apply_plan(drift.plan).await),
            ErrorKind::InUse,
            &["`fit`", "may overwrite", "`weights`", "`prod`"],
        );
        assert_eq!(weights(&on, &name).await, before);
        on.db.unlabel(address(&name).as_str(), "prod").await.expect("takes the label away");
        let drift = on.db.refresh(address(&name).as_str()).await.expect("looks");
        assert!(drift.plan.to_string().contains("may overwrite: `weights`"), "{}", drift.plan);
        on.db.apply_plan(drift.plan).await.expect("mends");
    }
}

#[tokio::test]
async fn b07_a_rollback_publishes_and_does_not_fit() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07-{round}");
        let path = address(&name);
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        let first = weights(&on, &name).await;
        on.db.apply(model(&name, 2, 2)).await.expect("a new version of both");
        on.db.apply(part(&name, 3)).await.expect("the child moves on");
        calls(&name);
        calls(&format!("{name}-part"));

        let plan = on.db.plan_rollback(path.as_str(), 0).await.expect("plans");
        let text = plan.to_string();
        let left = format!(
            "left out: fit of {path}@2.0: version 0, of equal content, has its output `weights`, copied from there"
        );
        assert!(text.contains(&left) && text.contains("content of @0"), "{text}");
        let back = on.db.rollback(path.as_str(), 0).await.expect("rolls back");
        assert_eq!((back.action, back.version()), (Action::NewVersion, 2));
        // `publish` follows `fit`, which follows `prepare`: that `fit` is left out changes nothing
        // about the order.
        assert_eq!(
            calls(&name),
            ["create 2", "prepare", &format!("publish {first}")],
            "`fit` sets an output that is on record"
        );
        assert_eq!((back.left_out[0].trigger.as_str(), back.left_out[0].from), ("fit", Some(0)));
        assert_eq!(calls(&format!("{name}-part")), [""; 0], "children stay as they are");
        assert_eq!(weights(&on, &name).await, first);
        assert_eq!(on.db.load::<Model>(&name).await.expect("loads").part.size, 1);

        // Applying what was rolled back to changes nothing, though the child's newest version is
        // another one.
        let state = on.dump().await;
        let plan = on.db.plan(model(&name, 1, 1)).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        let same = on.db.apply(model(&name, 1, 1)).await.expect("applies");
        assert_eq!((same.action, same.jobs().len()), (Action::Unchanged, 0));
        assert_eq!(on.dump().await, state);
        assert!(on.db.refresh(path.as_str()).await.expect("looks").plan.is_empty());
        // Also after the child moved on once more.
        on.db.apply(part(&name, 4)).await.expect("the child moves on");
        assert!(on.db.plan(model(&name, 1, 1)).await.expect("plans").is_empty());

        // The copy stands for what it was copied from: when it is mended, and when it is rolled
        // back to.
        calls(&name);
        lose(&name);
        let drift = on.db.refresh(path.as_str()).await.expect("looks");
        on.db.apply_plan(drift.plan).await.expect("mends");
        assert_eq!(calls(&name), ["create 2", "prepare", &format!("publish {first}")]);
        on.db.apply(Model { note: "b".into(), ..model(&name, 1, 1) }).await.expect("an update");
        assert_eq!(
            calls(&name),
            [format!("publish {first}")],
            "the result of `fit` is that of the old version"
        );
        on.db
            .apply(Model { note: "c".into(), ..model(&name, 1, 1) })
            .await
            .expect("another update");
        assert_eq!(calls(&name), [format!("publish {first}")]);
        on.db.apply(model(&name, 5, 5)).await.expect("another version");
        calls(&name);
        let back = on.db.rollback(path.as_str(), (2, 2)).await.expect("rolls back");
        assert_eq!(
            calls(&name),
            [&format!("create {}", back.version()), "prepare", &format!("publish {first}")]
        );
        assert_eq!(weights(&on, &name).await, first);
    }
}

#[tokio::test]
async fn b07_an_apply_that_reverts_follows_the_same_rule() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07b-{round}");
        let child = format!("{name}-part");
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        let first = weights(&on, &name).await;
        let learned =
            *on.db.load::<Part>(&child).await.expect("loads").learned.get().expect("an output");
        on.db.apply(model(&name, 2, 2)).await.expect("a new version of both");
        calls(&name);
        calls(&child);
        let on = on.reopened().await;
        let back = on.db.apply(model(&name, 1, 1)).await.expect("reverts");
        assert_eq!(calls(&name), ["create 2", "prepare", &format!("publish {first}")]);
        assert_eq!(calls(&child), ["announce"]);
        let left: Vec<(&str, Option<u32>)> =
            back.left_out.iter().map(|left| (left.trigger.as_str(), left.from)).collect();
        assert_eq!(left, [("learn", Some(0)), ("fit", Some(0))]);
        assert_eq!(weights(&on, &name).await, first);
        let now: Part = on.db.load(&child).await.expect("loads");
        assert_eq!((now.size, *now.learned.get().expect("copied")), (1, learned));
        assert_eq!(
            on.db.versions(address(&name).as_str()).await.expect("versions")[2].content_of,
            Some(0)
        );
        assert!(on.db.plan(model(&name, 1, 1)).await.expect("plans").is_empty());

        // Without jobs the outputs come along too, and are not made again when the jobs are.
        on.db.apply(model(&name, 2, 2)).jobs(false).await.expect("reverts");
        let second = weights(&on, &name).await;
        assert_eq!(second, weights(&on, &format!("{name}@1")).await);
        calls(&name);
        on.db.apply(model(&name, 2, 2)).await.expect("runs what is owed");
        assert_eq!(calls(&name), ["create 3", "prepare", &format!("publish {second}")]);
        // The old versions may go; what is copied stays.
        on.db.remove::<Model>(&name).version(0).await.expect("removes");
        on.db.apply(model(&name, 1, 1)).await.expect("reverts to version 2, a copy");
        assert_eq!(weights(&on, &name).await, first);
    }
}

#[tokio::test]
async fn b07_content_that_a_child_changed_is_not_equal() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07c-{round}");
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        // An update under the same version: what it fitted is not the weights of the first content
        // any more.
        on.db.apply(Model { rounds: 2, ..model(&name, 1, 1) }).await.expect("an update");
        let (second, learned) = (weights(&on, &name).await, FITS.load(Ordering::SeqCst));
        on.db.apply(model(&name, 2, 1)).await.expect("a new version");
        calls(&name);
        let back = on.db.apply(model(&name, 1, 1)).await.expect("reverts");
        assert!(back.left_out.is_empty());
        assert_eq!(
            calls(&name)[..3],
            ["create 2", "prepare", "fit"],
            "no version has this content"
        );
        assert!(weights(&on, &name).await >= learned);
        // The first revision had it, but its output is that of the second.
        let back = on.db.rollback(address(&name).as_str(), (0, 0)).await.expect("rolls back");
        assert!(back.left_out.is_empty());
        assert_ne!(weights(&on, &name).await, second);
        // The second revision has it.
        on.db.rollback(address(&name).as_str(), 0).await.expect("rolls back");
        assert_eq!(weights(&on, &name).await, second);
    }
}

#[tokio::test]
async fn b07_what_failed_in_the_old_version_runs() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07d-{round}");
        let run = on.db.apply(model(&name, 1, 1)).detach().await.expect("starts");
        run.cancel().await.expect("cancels");
        let _ended = run.wait().await;
        let filter = JobFilter { states: Some(vec![JobState::Succeeded]), ..JobFilter::default() };
        let done = on.db.jobs(filter).await.expect("jobs");
        let fitted = done.iter().any(|job| job.method == "fit");
        on.db.apply(model(&name, 2, 1)).await.expect("a new version");
        calls(&name);
        on.db.rollback(address(&name).as_str(), 0).await.expect("rolls back");
        assert_eq!(calls(&name).contains(&"fit".to_owned()), !fitted);
        assert!(weights(&on, &name).await > 0);
    }
}

#[tokio::test]
async fn b07_one_trigger_runs_alone() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07e-{round}");
        let path = address(&name);
        on.db.apply(model(&name, 1, 1)).await.expect("applies");
        let first = weights(&on, &name).await;
        on.db.label(format!("{path}@0").as_str(), "prod").await.expect("labels");
        on.db.apply(model(&name, 2, 1)).await.expect("a new version");
        calls(&name);
        let outcome = on.db.run(format!("{path}@prod").as_str(), "publish").await.expect("runs");
        assert_eq!(outcome.result::<String>("publish").expect("a result"), format!("a {first}"));
        assert_eq!((outcome.jobs.len(), outcome.run.root.to_string()), (1, format!("{path}@0.0")));
        assert_eq!(calls(&name), [format!("publish {first}")], "nothing else runs");

        let state = on.dump().await;
        let refusal = refused(on.db.run(format!("{path}@prod").as_str(), "fit").await);
        says(
            &refusal,
            ErrorKind::InvalidInput,
            &["`fit`", "its output `weights`", "on record", "again()"],
        );
        says(
            &refused(on.db.run(path.as_str(), "publsh").await),
            ErrorKind::NotFound,
            &["`publsh`", "`prepare`, `fit`, `publish`"],
        );
        says(
            &refused(on.db.run(format!("{path}@7").as_str(), "publish").await),
            ErrorKind::NotFound,
            &["@7"],
        );
        says(
            &refused(on.db.run("versions.Model/nobody", "publish").await),
            ErrorKind::NotFound,
            &["nobody"],
        );
        assert_eq!(on.dump().await, state, "nothing is written");

        // After a rollback the result comes from the version that was rolled back to.
        on.db.rollback(path.as_str(), 0).await.expect("rolls back");
        calls(&name);
        on.db.run(path.as_str(), "publish").await.expect("runs");
        assert_eq!(calls(&name), [format!("publish {first}")]);

        // A version whose jobs were left out has no result yet.
        on.db.apply(model(&name, 9, 1)).jobs(false).await.expect("applies");
        says(
            &refused(on.db.run(path.as_str(), "publish").await),
            ErrorKind::InvalidInput,
            &["needs `fit`", "db.run("],
        );
        on.db.run(path.as_str(), "prepare").await.expect("runs");
        on.db.run(path.as_str(), "fit").await.expect("nothing is on record");
        on.db.run(path.as_str(), "publish").await.expect("runs");
        assert_eq!(calls(&name).len(), 3);
    }
}

#[tokio::test]
async fn b07_a_failed_run_alone_is_healed_by_the_next_apply() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07f-{round}");
        let fails = Model { note: "fails".into(), ..model(&name, 1, 1) };
        let error = refused(on.db.apply(&fails).await);
        assert_eq!(error.kind(), ErrorKind::JobFailed);
        let before = weights(&on, &name).await;
        assert_eq!(
            refused(on.db.run(address(&name).as_str(), "publish").await).kind(),
            ErrorKind::JobFailed
        );
        assert!(matches!(
            on.db.status(address(&name).as_str()).await.expect("a status"),
            Status::Degraded(_)
        ));
        on.db.run(address(&name).as_str(), "prepare").await.expect("runs");
        calls(&name);
        on.db.apply(Model { note: "b".into(), ..model(&name, 1, 1) }).await.expect("applies");
        assert_eq!(
            calls(&name),
            [format!("publish {before}")],
            "a run alone makes nothing else run again"
        );
        assert_eq!(on.db.status(address(&name).as_str()).await.expect("a status"), Status::Ready);
    }
}

#[tokio::test]
async fn b07_again_makes_a_new_version_and_runs_all() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("b07g-{round}");
        let again =
            on.db.apply(model(&name, 1, 1)).again().await.expect("what is new is made as usual");
        assert_eq!(again.action, Action::Create);
        let first = weights(&on, &name).await;
        calls(&name);
        calls(&format!("{name}-part"));
        let plan = on.db.apply(model(&name, 1, 1)).again().plan().await.expect("plans");
        assert!(plan.to_string().contains("(new version from @0.0, content of @0)"), "{plan}");
        assert!(plan.left_out().is_empty());
        let again = on.db.apply(model(&name, 1, 1)).again().await.expect("applies");
        assert_eq!((again.action, again.version()), (Action::NewVersion, 1));
        let second = weights(&on, &name).await;
        assert!(second > first);
        assert_eq!(calls(&name), ["create 1", "prepare", "fit", &format!("publish {second}")]);
        assert_eq!(calls(&format!("{name}-part")), [""; 0], "what it holds is applied as usual");
        assert_eq!(weights(&on, &format!("{name}@0")).await, first);
        // A plain apply of the same content is unchanged, and one of other content a version all
        // the same.
        assert!(on.db.plan(model(&name, 1, 1)).await.expect("plans").is_empty());
        let other = on
            .db
            .apply(Model { note: "b".into(), ..model(&name, 1, 1) })
            .again()
            .await
            .expect("applies");
        assert_eq!((other.action, other.version()), (Action::NewVersion, 2));
        // Who holds the child follows a new version of it, and fits again: what the child learned
        // is another thing.
        on.db.apply(part(&name, 1)).again().await.expect("the child, once more");
        calls(&name);
        let followed =
            on.db.apply(Model { note: "b".into(), ..model(&name, 1, 1) }).await.expect("applies");
        assert_eq!((followed.action, followed.version()), (Action::NewVersion, 3));
        assert!(calls(&name).contains(&"fit".to_owned()));
        // Back to the one before: its child's weights are those of then, also when the content is
        // applied again.
        let back = on.db.rollback(address(&name).as_str(), 2).await.expect("rolls back");
        assert_eq!(back.version(), 4);
        assert!(
            on.db
                .plan(Model { note: "b".into(), ..model(&name, 1, 1) })
                .await
                .expect("plans")
                .is_empty()
        );
    }
}
