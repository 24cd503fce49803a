//! Code in artifacts, run by runtimes that the program brings.

use crate::support::{Database, databases, refused, says};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use superduper::{
    BoxFuture, Callable,
    prelude::*,
    schema::{CallableRuntime, RuntimeCall},
};

/// "Code" is a factor, written as text.
#[derive(Default)]
struct Factor {
    calls: AtomicUsize,
}

impl CallableRuntime for Factor {
    fn call<'a>(&'a self, call: RuntimeCall<'a>) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let text = std::str::from_utf8(&call.code).map_err(Error::other)?;
            let factor: i64 = text.trim().parse().map_err(Error::other)?;
            assert!(call.digest.is_some_and(|digest| digest == superduper::Digest::of(&call.code)));
            let x = call.args["x"].as_i64().ok_or_else(|| Error::msg("`x` is not a number"))?;
            let plus = call.args.get("plus").and_then(Value::as_i64).unwrap_or(0);
            Ok(json!(factor * x + plus))
        })
    }
}

fn linked() -> Factor {
    Factor::default()
}
superduper::register_runtime!("runtimes.linked", linked);

#[callable("runtimes.twice")]
fn twice(x: i64) -> Result<i64> {
    Ok(2 * x)
}

#[derive(Component, Clone)]
#[component(kind = "runtimes.Step")]
struct Step {
    identifier: String,
    #[component(breaking)]
    function: Callable,
}

#[triggers]
impl Step {
    #[trigger("apply")]
    async fn run(&self) -> Result<i64> {
        self.function.call(json!({"x": 21})).await
    }
}

fn code(text: &str, runtime: &str) -> Callable {
    let artifact: Artifact<Bytes> = Bytes::from(text.to_owned()).into();
    Callable::from_artifact(artifact, [("x", "i64"), ("plus", "Option<i64>")], runtime)
}

fn step(function: Callable) -> Step {
    Step { identifier: "s".into(), function }
}

/// A database with the runtime `factor`.
async fn with_factor(on: &Database) -> (Db, Arc<Factor>) {
    let factor = Arc::new(Factor::default());
    let builder = Db::builder()
        .metadata(on.metadata.clone())
        .artifacts(on.artifacts.clone())
        .gc_grace(std::time::Duration::ZERO)
        .with_runtime("factor", factor.clone());
    (builder.build().await.expect("opens"), factor)
}

#[tokio::test]
async fn n06_code_in_an_artifact_is_called_as_a_function_is() {
    for on in databases().await {
        let (db, factor) = with_factor(&on).await;
        let applied = db.apply(step(Callable::of::<twice>())).await.expect("applies");
        assert_eq!(applied.result::<i64>("run").expect("a result"), 42);
        let applied = db.apply(step(code("3", "factor"))).await.expect("applies");
        assert_eq!((applied.version(), applied.result::<i64>("run").expect("a result")), (1, 63));
        // Other bytes are another version, equal ones are none.
        let applied = db.apply(step(code("3", "factor"))).await.expect("applies");
        assert_eq!(applied.version(), 1);
        let applied = db.apply(step(code("4", "factor"))).await.expect("applies");
        assert_eq!((applied.version(), applied.result::<i64>("run").expect("a result")), (2, 84));
        assert_eq!(factor.calls.load(Ordering::SeqCst), 2);

        let back: Step = db.load("s").await.expect("loads");
        assert_eq!((back.function.name(), back.function.runtime()), ("factor", Some("factor")));
        assert_eq!(back.function.params()[0].name, "x");
        assert_eq!(back.function.call::<i64>(json!({"x": 2, "plus": 1})).await.expect("calls"), 9);
        says(
            &refused(back.function.call::<i64>(json!({"plus": 1})).await),
            ErrorKind::InvalidInput,
            &["callable `factor`", "`x` is missing"],
        );
        says(
            &refused(back.function.call::<i64>(json!({"x": 1, "z": 2})).await),
            ErrorKind::InvalidInput,
            &["no argument `z`", "x, plus"],
        );
        says(
            &refused(back.function.call::<String>(json!({"x": 1})).await),
            ErrorKind::Decode,
            &["result of callable `factor`"],
        );
        says(
            &refused(back.function.call::<i64>(json!({"x": "one"})).await),
            ErrorKind::User,
            &["callable `factor`", "`x` is not a number"],
        );
        let first: Step = db.load("s@0").await.expect("loads");
        assert_eq!(first.function, Callable::of::<twice>());
    }
}

#[tokio::test]
async fn n06_an_unknown_runtime_is_named_at_plan_and_when_it_is_called() {
    for on in databases().await {
        let (db, _) = with_factor(&on).await;
        let before = on.dump().await;
        let named = ["`runtimes.Step/s`: field `function`", "`factr`", "factor, runtimes.linked"];
        let error = refused(db.plan(step(code("3", "factr"))).await);
        says(&error, ErrorKind::Unsupported, &named);
        assert!(error.hint().expect("a hint").contains("did you mean `factor`?"), "{error:?}");
        says(&refused(db.apply(step(code("3", "factr"))).await), ErrorKind::Unsupported, &named);
        assert_eq!(on.dump().await, before);

        db.apply(step(code("3", "factor"))).await.expect("applies");
        // Another program lacks it: it lists, loads and shows the component, and cannot call it.
        let other = on.rival().await;
        let back: Step = other.load("s").await.expect("loads");
        let named = ["callable `factor`", "unknown runtime `factor`", "runtimes.linked"];
        let error = refused(back.function.call::<i64>(json!({"x": 1})).await);
        says(&error, ErrorKind::Unsupported, &named);
        assert!(error.hint().expect("a hint").contains("with_runtime(\"factor\""), "{error:?}");
        let error = refused(other.apply(&back).again().await);
        says(&error, ErrorKind::Unsupported, &["unknown runtime `factor`"]);
    }
}

#[tokio::test]
async fn n06_a_linked_runtime_needs_no_database() {
    let function = code("5", "runtimes.linked");
    function.artifact().expect("it has code");
    for on in databases().await {
        let applied = on.db.apply(step(function.clone())).await.expect("applies");
        assert_eq!(applied.result::<i64>("run").expect("a result"), 105);
    }
    assert_eq!(function.call::<i64>(json!({"x": 2})).await.expect("calls"), 10);
    let error = refused(code("5", "gone").call::<i64>(json!({"x": 2})).await);
    says(&error, ErrorKind::Unsupported, &["unknown runtime `gone`"]);
}

#[tokio::test]
async fn n06_the_code_belongs_to_its_component() {
    for on in databases().await {
        let (db, _) = with_factor(&on).await;
        db.apply(step(code("3", "factor"))).await.expect("applies");
        db.gc(false).await.expect("collects");
        assert_eq!(on.blob_count().await, 1);
        assert!(db.verify().await.expect("verifies").is_sound());

        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("step.tar");
        let exported = db.export("runtimes.Step/s", &bundle).await.expect("exports");
        assert_eq!(exported.blobs, 1);
        let (elsewhere, _) = with_factor(&crate::support::in_memory().await).await;
        elsewhere.import(&bundle).await.expect("imports");
        let back: Step = elsewhere.load("s").await.expect("loads");
        assert_eq!(back.function.call::<i64>(json!({"x": 2})).await.expect("calls"), 6);

        let changes = db.plan(step(code("4", "factor"))).await.expect("plans");
        let paths: Vec<&str> = changes.changes().iter().map(|change| &*change.path).collect();
        assert_eq!(paths, ["function.artifact"], "{changes}");
        db.remove::<Step>("s").await.expect("removes");
        assert_eq!(on.blob_count().await, 0);
    }
}

#[tokio::test]
async fn n06_a_function_may_be_written_as_its_name_alone() {
    let function: Callable = serde_json::from_value(json!("runtimes.twice")).expect("a callable");
    assert_eq!(function, Callable::of::<twice>());
    let error = serde_json::from_value::<Callable>(json!({"name": "runtimes.twice"}));
    assert!(error.expect_err("no callable").to_string().contains("$callable"));
}
