//! Functions as data.

use crate::support::{databases, refused, says};
use superduper::{
    prelude::*,
    store::{Batch, Durability, Op, PutAction, PutVersion, Timestamp},
};

#[callable("callables.scale")]
fn scale(x: i64, by: i64) -> Result<i64> {
    Ok(x * by)
}

#[callable("callables.shift")]
fn shift(x: i64) -> Result<i64> {
    Ok(x + 1)
}

#[derive(Component, Clone)]
#[component(kind = "callables.Step")]
struct Step {
    identifier: String,
    #[component(breaking)]
    function: Callable,
    more: Vec<Callable>,
}

#[triggers]
impl Step {
    #[trigger("apply", watch = "*")]
    async fn run(&self) -> Result<i64> {
        self.function.call(json!({"x": 2, "by": 21})).await
    }
}

fn step() -> Step {
    Step {
        identifier: "s".into(),
        function: Callable::of::<scale>(),
        more: vec![Callable::of::<shift>()],
    }
}

/// Store the row of `step()` as another build would have written it.
async fn rewrite(db: &Db, change: impl FnOnce(&mut Value)) {
    let stored = db.versions("callables.Step/s").await.expect("versions").pop().expect("a version");
    let (version, revision) = (stored.version(), stored.revision() + 1);
    let mut document = stored.document;
    change(&mut document);
    let put = PutVersion {
        address: format!("callables.Step/s@{version}.{revision}").parse().expect("an address"),
        action: PutAction::Revision,
        uuid: stored.uuid,
        content_hash: stored.content_hash,
        type_version: stored.type_version,
        document,
        edges: Vec::new(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: Timestamp::now(),
    };
    db.metadata()
        .commit(Batch { expect: Vec::new(), ops: vec![Op::Put(put)] }, Durability::Full)
        .await
        .expect("commits");
}

#[tokio::test]
async fn a_stored_callable_calls_its_function() {
    for on in databases().await {
        let applied = on.db.apply(step()).await.expect("applies");
        assert_eq!(applied.result::<i64>("run").expect("a result"), 42);
        let on = on.reopened().await;
        let back: Step = on.db.load("s").await.expect("loads");
        assert_eq!(back.function.name(), "callables.scale");
        assert_eq!(back.more[0].call::<i64>(json!({"x": 1})).await.expect("calls"), 2);
        says(
            &refused(back.function.call::<i64>(json!({"x": 1})).await),
            ErrorKind::InvalidInput,
            &["callables.scale", "`by` is missing"],
        );
        says(
            &refused(back.function.call::<i64>(json!({"x": 1, "z": 2})).await),
            ErrorKind::InvalidInput,
            &["no argument `z`", "x, by"],
        );
        says(
            &refused(back.function.call::<String>(json!({"x": 1, "by": 2})).await),
            ErrorKind::Decode,
            &["callables.scale"],
        );
    }
}

#[tokio::test]
async fn another_callable_is_a_change_of_the_field() {
    for on in databases().await {
        on.db.apply(step()).await.expect("applies");
        let plan =
            on.db.plan(Step { function: Callable::of::<shift>(), ..step() }).await.expect("plans");
        assert_eq!(plan.root().to_string(), "callables.Step/s@1.0", "{plan}");
        assert!(
            plan.to_string().contains("callables.scale")
                && plan.to_string().contains("callables.shift"),
            "{plan}"
        );
        assert_ne!(
            step().uuid().expect("a uuid"),
            Step { function: Callable::of::<shift>(), ..step() }.uuid().expect("a uuid")
        );
    }
}

#[tokio::test]
async fn d05_a_changed_body_is_a_note_and_no_job() {
    for on in databases().await {
        on.db.apply(step()).await.expect("applies");
        rewrite(&on.db, |document| document["function"]["code"] = json!("0123456789abcdef")).await;
        let plan = on.db.plan(step()).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        assert_eq!(plan.notes().len(), 1, "{plan}");
        assert!(
            plan.notes()[0].contains("`callables.scale`") && plan.notes()[0].contains("`function`"),
            "{plan}"
        );
        let before = on.dump().await;
        on.db.apply(step()).await.expect("applies");
        assert_eq!(on.dump().await, before);
        // Beside a real change it is no change of its own.
        let plan = on.db.plan(Step { more: Vec::new(), ..step() }).await.expect("plans");
        assert!(plan.changes().iter().all(|change| change.path.starts_with("more")), "{plan}");
        assert!(!plan.changes().iter().any(|change| change.breaking), "{plan}");
    }
}

#[tokio::test]
async fn an_unknown_callable_is_named_at_load() {
    for on in databases().await {
        on.db.apply(step()).await.expect("applies");
        rewrite(&on.db, |document| document["more"][0]["$callable"] = json!("callables.gone"))
            .await;
        let error = refused(on.db.load::<Step>("s").await);
        says(
            &error,
            ErrorKind::Decode,
            &["`callables.Step/s@0.1`", "`more[0]", "`callables.gone`", "callables.scale"],
        );
        assert_eq!(on.db.list().await.expect("lists").len(), 1);
        // It is replaced by applying what this program has.
        on.db.apply(step()).await.expect("applies");
        on.db.load::<Step>("s").await.expect("loads");
    }
}
