//! What errors say: enough to go on with, and nothing twice.

use crate::{
    process::{program, task},
    support::{databases, in_folder, in_memory, refused, says},
};
use superduper::{FailureKind, Registry, prelude::*, store::JobRow};

/// Fails as it is told.
#[derive(Component, Clone)]
#[component(kind = "texts.Model")]
struct Model {
    identifier: String,
    how: String,
    token: Option<Secret<String>>,
    score: Output<f64>,
}

fn model(identifier: &str, how: &str) -> Model {
    Model { identifier: identifier.into(), how: how.into(), token: None, score: Output::empty() }
}

impl Lifecycle for Model {
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        if self.how == "setup" { panic!("setup boom") } else { Ok(()) }
    }
    async fn observe(&self, _ctx: &JobContext) -> Result<superduper::Observed> {
        if self.how == "observe" {
            panic!("observe boom")
        } else {
            Ok(superduper::Observed::nothing())
        }
    }
}

#[triggers]
impl Model {
    #[trigger("apply", retries = 2, backoff = "1ms")]
    async fn train(&self, _ctx: &JobContext) -> Result<f64> {
        match self.how.as_str() {
            "task" => panic!("task boom"),
            "causes" => {
                let cause = std::io::Error::other("the disk is full");
                Err(Error::store("writing weights: the disk is full").with_source(cause).fatal())
            }
            "invalid" => Err(Error::invalid("no rows")),
            "io" => Err(std::io::Error::other("no route to the host").into()),
            _ => Ok(0.5),
        }
    }
    #[trigger("apply", depends_on = "train")]
    fn thread(&self) -> Result<()> {
        if self.how == "thread" { panic!("thread boom {}", 1) } else { Ok(()) }
    }
}

async fn failed(db: &Db, model: Model) -> (Error, JobRow) {
    let error = refused(db.apply(model).await);
    let job = error.outcome().expect("an outcome").first_failure().expect("a failure").clone();
    (error, job)
}

#[tokio::test]
async fn fault_30_no_text_of_a_failed_job_is_printed_twice() {
    for on in databases().await {
        let (error, job) = failed(&on.db, model("a", "causes")).await;
        let failure = job.failure.expect("a failure");
        for printed in [format!("{error:?}"), error.to_string(), failure.to_string()] {
            assert_eq!(printed.matches("the disk is full").count(), 1, "{printed}");
        }
        let again = refused(on.db.wait(job.id, std::time::Duration::from_secs(5)).await);
        assert_eq!(format!("{again:?}").matches("the disk is full").count(), 1, "{again:?}");
    }
}

#[tokio::test]
async fn fault_30_a_missing_secret_is_told_once_with_one_hint() {
    for on in databases().await {
        let token = Some(Secret::env("SUPERDUPER_TEST_NO_SUCH_SECRET"));
        let (error, job) = failed(&on.db, Model { token, ..model("s", "fine") }).await;
        let printed = format!("{error:?}");
        assert_eq!(printed.matches("cannot be read").count(), 1, "{printed}");
        assert_eq!(printed.matches("hint:").count(), 1, "{printed}");
        for part in [
            "set the environment variable `SUPERDUPER_TEST_NO_SUCH_SECRET`; then apply",
            "db.retry",
        ] {
            assert!(printed.contains(part), "{part:?} is not in {printed}");
        }
        assert_eq!(job.failure.expect("a failure").to_string().matches("hint:").count(), 1);
    }
}

#[tokio::test]
async fn fault_30_the_kind_of_an_error_decides_about_another_try_and_is_on_record() {
    for on in databases().await {
        for (how, kind, attempts) in [
            ("invalid", ErrorKind::InvalidInput, 1),
            ("io", ErrorKind::User, 3),
            ("causes", ErrorKind::Store, 1),
        ] {
            let (_, job) = failed(&on.db, model(how, how)).await;
            let failure = job.failure.expect("a failure");
            assert_eq!(
                (failure.kind, failure.error_kind, job.attempt),
                (FailureKind::Error, Some(kind), attempts),
                "{how}: {failure}"
            );
            let tries = on.db.attempts(job.id).await.expect("attempts");
            assert!(
                tries.iter().all(|attempt| attempt
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.error_kind == Some(kind))),
                "{tries:?}"
            );
        }
        let on = on.reopened().await;
        let kinds: Vec<ErrorKind> =
            on.jobs().await.into_iter().filter_map(|job| job.failure?.error_kind).collect();
        assert_eq!(kinds, [ErrorKind::InvalidInput, ErrorKind::User, ErrorKind::Store]);
    }
}

#[tokio::test]
async fn fault_30_the_place_of_a_panic_is_on_record() {
    for on in databases().await {
        for (how, text) in [
            ("task", "panicked: task boom"),
            ("thread", "panicked: thread boom 1"),
            ("setup", "panicked: setup boom"),
        ] {
            let (error, job) = failed(&on.db, model(how, how)).await;
            let failure = job.failure.expect("a failure");
            assert_eq!(
                (failure.kind, &*failure.message, failure.error_kind),
                (FailureKind::Panic, text, None)
            );
            let location = failure.location.expect("a place");
            assert!(location.starts_with("tests/it/texts.rs:"), "{location}");
            says(&error, ErrorKind::JobFailed, &[&format!("{text} (at {location})")]);
        }
        on.db.apply(model("o", "observe")).await.expect("applies");
        let error = refused(on.db.refresh("texts.Model/o").await);
        says(
            &error,
            ErrorKind::User,
            &["refreshing `texts.Model/o`: panicked: observe boom (at tests/it/texts.rs:"],
        );
    }
}

#[tokio::test]
async fn fault_30_the_standard_error_of_a_job_process_is_in_its_log() {
    let on = in_folder().await;
    let db = Db::builder()
        .metadata(on.metadata.clone())
        .artifacts(on.artifacts.clone())
        .executor("process")
        .program(program());
    let db = db.build().await.expect("opens");
    let error = refused(db.apply(task("p", "panic")).await);
    let job = error.outcome().expect("an outcome").job("work").expect("the job").clone();
    let failure = job.failure.expect("a failure");
    assert!(
        failure.location.as_deref().is_some_and(|location| location.contains("components.rs:")),
        "{failure:?}"
    );
    let logs = db.logs(job.id).await.expect("logs");
    assert!(
        logs.iter().any(|row| row.message == "stderr: worker boom" && row.attempt == 1),
        "{logs:?}"
    );
    assert!(logs.iter().any(|row| row.message == "a line of the worker"));
}

#[tokio::test]
async fn fault_30_a_name_that_is_not_there_says_what_is_near() {
    let on = in_memory().await;
    let applied = on.db.apply(model("m", "fine")).await.expect("applies");
    let outcome = applied.outcome.expect("it had jobs");
    says(
        &refused(outcome.result::<f64>("trian")),
        ErrorKind::NotFound,
        &["has no job `trian`", "hint: did you mean `train`?"],
    );
    says(
        &refused(outcome.result::<f64>("evaluate")),
        ErrorKind::NotFound,
        &["hint: it has", "`thread`", "`train`"],
    );
    let error = refused(on.db.load::<Model>("m@prod").await);
    says(
        &error,
        ErrorKind::NotFound,
        &[
            "`texts.Model/m` has no label `prod`",
            "hint: `db.label(\"texts.Model/m@<version>\", \"prod\")` sets one",
        ],
    );
    on.db.label("texts.Model/m", "stage").await.expect("labels");
    says(
        &refused(on.db.load::<Model>("m@prod").await),
        ErrorKind::NotFound,
        &["it has `stage`; `db.label("],
    );
}

#[tokio::test]
async fn fault_30_an_empty_output_names_its_field() {
    let literal = model("literal", "fine");
    says(
        &refused(literal.score.get()),
        ErrorKind::NotSetUp,
        &["an output of type `f64` of a component that was not loaded", "db.load"],
    );
    let built = Model::builder("built").how("fine").build().expect("builds");
    says(
        &refused(built.score.get()),
        ErrorKind::NotSetUp,
        &["output `score` of a component that was not loaded", "db.load"],
    );
    let on = in_memory().await;
    on.db.apply(&literal).await.expect("applies");
    says(
        &refused(literal.score.get()),
        ErrorKind::NotSetUp,
        &["output `score` of a component that was not loaded"],
    );
    let loaded: Model = on.db.load("literal").await.expect("loads");
    says(
        &refused(loaded.score.get()),
        ErrorKind::NotSetUp,
        &["output `score` of `texts.Model/literal@0.0` is empty", "ctx.set(&self.score"],
    );
}

/// A build, and two later ones that renamed a field or changed its type.
#[derive(Component, Clone)]
#[component(kind = "texts.Changing", register = no)]
struct First {
    identifier: String,
    lr: f64,
}
#[derive(Component, Clone)]
#[component(kind = "texts.Changing", register = no)]
struct Renamed {
    identifier: String,
    rate: f64,
}
#[derive(Component, Clone)]
#[component(kind = "texts.Changing", register = no)]
struct Retyped {
    identifier: String,
    lr: String,
}
#[derive(Component, Clone)]
#[component(kind = "texts.Changing", register = no)]
struct Aliased {
    identifier: String,
    #[serde(alias = "lr")]
    rate: f64,
}

#[tokio::test]
async fn fault_30_a_changed_field_says_how_old_rows_are_read() {
    fn only<T: superduper::ComponentType>() -> Registry {
        Registry::builder().with::<T>().build().expect("one type")
    }
    let on = in_memory().await;
    on.program(only::<First>())
        .await
        .apply(First { identifier: "m".into(), lr: 0.1 })
        .await
        .expect("applies");
    let error = refused(on.program(only::<Renamed>()).await.load::<Renamed>("m").await);
    says(
        &error,
        ErrorKind::Decode,
        &["missing field `rate`", "#[serde(alias = \"its former name\")]"],
    );
    let error = refused(on.program(only::<Retyped>()).await.load::<Retyped>("m").await);
    says(
        &error,
        ErrorKind::Decode,
        &["`lr`", "invalid type", "#[component(version = 2, migrate)]", "impl Migrate"],
    );
    let back: Aliased =
        on.program(only::<Aliased>()).await.load("m").await.expect("the hint helps");
    assert_eq!(back.rate, 0.1);
}

#[tokio::test]
async fn fault_30_hints_name_what_users_of_the_facade_have() {
    let error = refused(Db::builder().artifacts_at("s3://bucket/models"));
    if error.kind() == ErrorKind::Unsupported {
        says(&error, ErrorKind::Unsupported, &["the feature `aws` of `superduper`"]);
    }
    let error = refused(crate::fresh::builder().executor("process").build().await);
    says(&error, ErrorKind::Unsupported, &["`superduper::job_process().await?`"]);
}
