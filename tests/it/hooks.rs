//! Group H: hooks.

use crate::fresh;
use std::sync::Mutex;
use superduper::{
    Status,
    prelude::*,
    store::{JobFilter, JobRole, JobState},
};

static CALLS: Mutex<Vec<(String, &'static str)>> = Mutex::new(Vec::new());

fn called(identifier: &str, hook: &'static str) {
    CALLS.lock().unwrap().push((identifier.to_owned(), hook));
}

fn calls(identifier: &str) -> Vec<&'static str> {
    CALLS
        .lock()
        .unwrap()
        .iter()
        .filter(|(other, _)| other == identifier)
        .map(|(_, hook)| *hook)
        .collect()
}

fn forget(identifier: &str) {
    CALLS.lock().unwrap().retain(|(other, _)| other != identifier);
}

#[callable]
fn full(a: i64, b: String, c: i64) -> Result<String> {
    Ok(format!("{a}{b}{c}"))
}

#[callable]
fn lacking(a: i64, b: String) -> Result<String> {
    Ok(format!("{a}{b}"))
}

#[derive(Component, Clone)]
struct Hooked {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: i64,
    d: Option<Callable>,
    fails: Option<String>,
    client: Runtime<String>,
}

impl Lifecycle for Hooked {
    fn postinit(&mut self) -> Result<()> {
        called(&self.identifier, "postinit");
        if self.a < 0 {
            return Err(Error::msg("`a` must not be negative"));
        }
        let Some(d) = &self.d else { return Ok(()) };
        for name in ["a", "b", "c"] {
            if !d.params().iter().any(|param| param.name == name) {
                return Err(Error::msg(format!("`{}` takes no parameter `{name}`", d.name())));
            }
        }
        Ok(())
    }
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        called(&self.identifier, "setup");
        if self.fails.as_deref() == Some("setup") {
            return Err(Error::msg("no connection"));
        }
        self.client.set("connected".to_owned());
        Ok(())
    }
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        called(&self.identifier, "on_create");
        assert_eq!(self.client.get()?, "connected");
        // The row is durable before the hook runs.
        let db = ctx.db()?;
        assert!(db.show(ctx.address().clone()).await.is_ok());
        Ok(())
    }
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> {
        called(&self.identifier, "cleanup");
        assert_eq!(self.client.get()?, "connected");
        assert!(ctx.db()?.show(ctx.address().clone()).await.is_ok());
        if self.fails.as_deref() == Some("cleanup") && !ctx.is_retry() {
            Err(Error::msg("still busy"))
        } else {
            Ok(())
        }
    }
}

#[triggers]
impl Hooked {
    #[trigger("apply")]
    async fn first(&self) -> Result<()> {
        called(&self.identifier, "first");
        self.client.get().map(|_| ())
    }
    #[trigger("apply", depends_on = "first")]
    fn second(&self) -> Result<()> {
        called(&self.identifier, "second");
        self.client.get().map(|_| ())
    }
}

fn hooked(identifier: &str) -> Hooked {
    Hooked {
        identifier: identifier.into(),
        a: 1,
        b: 1,
        d: None,
        fails: None,
        client: Runtime::new(),
    }
}

#[tokio::test]
async fn h01_postinit_runs_once_per_construction_and_load() {
    let built = Hooked::builder("h01").a(1).b(1).build().unwrap();
    assert_eq!(calls("h01"), ["postinit"]);
    let db = fresh::db().await;
    db.apply(built).await.unwrap();
    forget("h01");
    let loaded: Hooked = db.load("h01").await.unwrap();
    assert_eq!(calls("h01"), ["postinit"]);
    assert!(!loaded.client.is_set());
    let error = Hooked::builder("h01b").a(-1).b(1).build().err().unwrap();
    assert!(error.to_string().contains("`a` must not be negative"), "{error}");
    let error = db.apply(Hooked { a: -1, ..hooked("h01c") }).await.unwrap_err();
    assert!(error.to_string().contains("`a` must not be negative"), "{error}");
    assert!(db.list().await.unwrap().iter().all(|line| line.address.identifier != "h01c"));
}

#[tokio::test]
async fn h02_setup_runs_once_per_instance_before_everything() {
    let db = fresh::db().await;
    db.apply(hooked("h02")).await.unwrap();
    let order: Vec<&str> = calls("h02").into_iter().filter(|call| *call != "postinit").collect();
    assert_eq!(order, ["setup", "on_create", "first", "second"]);
}

#[tokio::test]
async fn h02_a_failed_setup_fails_its_job_and_is_tried_again() {
    let db = fresh::db().await;
    let error =
        db.apply(Hooked { fails: Some("setup".into()), ..hooked("h02b") }).await.unwrap_err();
    assert!(
        error.to_string().contains("no connection") && error.to_string().contains("setup of"),
        "{error}"
    );
    let applied = db.apply(hooked("h02b")).await.unwrap();
    assert_eq!(applied.version(), 0);
    let order: Vec<&str> = calls("h02b").into_iter().filter(|call| *call != "postinit").collect();
    assert_eq!(order, ["setup", "setup", "on_create", "first", "second"]);
}

#[derive(Component, Clone)]
struct Holder {
    identifier: String,
    inner: Hooked,
    more: Vec<Hooked>,
}
#[triggers]
impl Holder {
    #[trigger("apply")]
    fn reach(&self) -> Result<usize> {
        Ok(self.more.iter().chain([&self.inner]).filter(|child| child.client.is_set()).count())
    }
}

#[tokio::test]
async fn h02_children_are_set_up_before_their_parent_uses_them() {
    let db = fresh::db().await;
    let holder = Holder {
        identifier: "holder".into(),
        inner: hooked("h02in"),
        more: vec![hooked("h02m1"), hooked("h02m2")],
    };
    assert_eq!(db.apply(holder).await.unwrap().result::<usize>("reach").unwrap(), 3);
}

#[tokio::test]
async fn h03_on_create_runs_once_per_new_version() {
    let db = fresh::db().await;
    let created = || calls("h03").into_iter().filter(|call| *call == "on_create").count();
    db.apply(hooked("h03")).await.unwrap();
    assert_eq!(created(), 1);
    db.apply(hooked("h03")).await.unwrap();
    assert_eq!(created(), 1, "no change");
    db.apply(Hooked { a: 2, ..hooked("h03") }).await.unwrap();
    assert_eq!(created(), 1, "an update");
    db.apply(Hooked { b: 2, ..hooked("h03") }).await.unwrap();
    assert_eq!(created(), 2, "a new version");
    let jobs = db
        .jobs(JobFilter { target: Some(hooked("h03").address()), ..JobFilter::default() })
        .await
        .unwrap();
    let creations: Vec<_> = jobs
        .iter()
        .filter(|job| job.role == JobRole::OnCreate)
        .map(|job| job.target.version.unwrap().version)
        .collect();
    assert_eq!(creations, [0, 1]);
}

#[tokio::test]
async fn h04_a_failing_cleanup_stops_the_removal_until_it_is_tried_again_or_forced() {
    let db = fresh::db().await;
    let component = Hooked { fails: Some("cleanup".into()), ..hooked("h04") };
    db.apply(&component).await.unwrap();
    let error = db.remove::<Hooked>("h04").await.unwrap_err();
    assert!(
        error.to_string().contains("still busy") && error.hint().unwrap().contains(".force()"),
        "{error}"
    );
    let line =
        db.list().await.unwrap().into_iter().find(|line| line.address.identifier == "h04").unwrap();
    assert_eq!(line.status, Status::Removing);
    let error = db.apply(&component).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    db.remove::<Hooked>("h04").await.unwrap_err();
    db.remove::<Hooked>("h04").force().await.unwrap();
    assert_eq!(db.load::<Hooked>("h04").await.err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(calls("h04").into_iter().filter(|call| *call == "cleanup").count(), 3);
}

#[tokio::test]
async fn h04_cleanup_runs_before_rows_vanish() {
    let db = fresh::db().await;
    db.apply(hooked("h04b")).await.unwrap();
    let removed = db.remove::<Hooked>("h04b").await.unwrap();
    assert_eq!(removed.outcome.unwrap().jobs[0].state, JobState::Succeeded);
    assert!(calls("h04b").contains(&"cleanup"));
    assert!(db.list().await.unwrap().is_empty());
    // A new incarnation starts at version 0.
    assert_eq!(db.apply(hooked("h04b")).await.unwrap().version(), 0);
}

#[tokio::test]
async fn h06_a_callable_that_lacks_a_parameter_is_refused_by_its_name() {
    let good = Hooked::builder("h06").a(1).b(1).d(Callable::of::<full>()).build();
    assert!(good.is_ok());
    let error =
        Hooked::builder("h06").a(1).b(1).d(Callable::of::<lacking>()).build().err().unwrap();
    assert!(error.to_string().contains("takes no parameter `c`"), "{error}");
    let db = fresh::db().await;
    let error =
        db.apply(Hooked { d: Some(Callable::of::<lacking>()), ..hooked("h06") }).await.unwrap_err();
    assert!(error.to_string().contains("takes no parameter `c`"), "{error}");
}

#[tokio::test]
async fn h06_an_explicit_setup_fills_runtime_state() {
    let db = fresh::db().await;
    db.apply(hooked("h06b")).await.unwrap();
    let loaded: Hooked = db.load("h06b").await.unwrap();
    let error = loaded.client.get().unwrap_err();
    assert!(error.to_string().contains("db.setup"), "{error}");
    db.setup(&loaded).await.unwrap();
    assert_eq!(loaded.client.get().unwrap(), "connected");
}

#[derive(Component, Clone)]
struct Trainable {
    identifier: String,
    #[component(breaking)]
    width: i64,
    weights: Output<Vec<f64>>,
    blob: Output<Artifact<Bytes>>,
}
#[triggers]
impl Trainable {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<()> {
        assert!(!self.weights.is_set());
        ctx.set(&self.weights, vec![self.width as f64; 3])?;
        ctx.set(&self.blob, Artifact::new(Bytes::from("trained")))?;
        assert_eq!(self.weights.get()?.len(), 3, "visible in the job at once");
        Ok(())
    }
    #[trigger("apply", depends_on = "train")]
    async fn check(&self) -> Result<String> {
        let bytes = self.blob.get()?.get().await?;
        Ok(format!("{:?} {}", self.weights.get()?, String::from_utf8_lossy(&bytes)))
    }
}

fn trainable(width: i64) -> Trainable {
    Trainable { identifier: "t".into(), width, weights: Output::empty(), blob: Output::empty() }
}

#[tokio::test]
async fn h07_outputs_belong_to_their_version() {
    let db = fresh::db().await;
    let applied = db.apply(trainable(2)).await.unwrap();
    assert_eq!(applied.result::<String>("check").unwrap(), "[2.0, 2.0, 2.0] trained");
    let loaded: Trainable = db.load("t").await.unwrap();
    assert_eq!(*loaded.weights.get().unwrap(), [2.0; 3]);
    assert!(db.plan(&loaded).await.unwrap().is_empty(), "outputs are no part of the declaration");
    assert!(db.apply(trainable(2)).await.unwrap().outcome.is_none());
    assert_eq!(
        *db.load::<Trainable>("t").await.unwrap().weights.get().unwrap(),
        [2.0; 3],
        "applying again keeps them"
    );
    db.apply(trainable(5)).await.unwrap();
    assert_eq!(*db.load::<Trainable>("t").await.unwrap().weights.get().unwrap(), [5.0; 3]);
    assert_eq!(
        *db.load_version::<Trainable>("t", 0).await.unwrap().weights.get().unwrap(),
        [2.0; 3]
    );
    let error = trainable(1).weights.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSetUp);
    let back = db.rollback(trainable(2).address(), 0).await.unwrap();
    assert_eq!(back.version(), 2);
    assert_eq!(
        *db.load::<Trainable>("t").await.unwrap().weights.get().unwrap(),
        [2.0; 3],
        "a rollback brings its outputs"
    );
}
