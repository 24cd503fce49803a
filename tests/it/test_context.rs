//! Triggers and hooks called directly, with a context for tests.

use crate::support::{in_memory, refused, says};
use superduper::{Encoded, Spawn, prelude::*, store::JobSignal};

#[derive(Component)]
#[component(kind = "test_context.Model")]
struct Model {
    identifier: String,
    weights: Output<Vec<f64>>,
    best: Output<String>,
    client: Runtime<u32>,
}

impl Lifecycle for Model {
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        self.client.set("7".parse().map_err(Error::other)?);
        Ok(())
    }
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        let row = csv::Reader::from_reader("a,b\n1\n".as_bytes()).into_records().next();
        ctx.log("reading");
        row.transpose().map_err(Error::other)?;
        Ok(())
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    async fn fit(&self, ctx: &JobContext) -> Result<u32> {
        let epochs: u32 = ctx.input_or(3)?;
        let begun = ctx.checkpoints().await?.last().map_or(0, |row| row.step);
        for epoch in begun..u64::from(epochs) {
            match ctx.signal() {
                Some(JobSignal::Stop) => break,
                Some(JobSignal::Cancel) => ctx.check_cancelled()?,
                _ => {}
            }
            ctx.metric("loss", epoch, 1.0 / (epoch + 1) as f64);
            ctx.progress(epoch + 1, epochs.into());
            ctx.checkpoint(epoch + 1, None, Encoded::of_state(&epoch)?, Vec::new()).await?;
        }
        ctx.set(&self.weights, vec![0.5])?;
        // What was set is seen here at once.
        ctx.log(format!("weights {:?}", self.weights.get()?));
        ctx.spawn_with(Spawn::new("a", ctx.address(), "part").input(5).tolerated())?;
        ctx.spawn_with(Spawn::new("b", ctx.address(), "part").after(["a"]).after_end(["c"]))?;
        ctx.emit("done", json!({"epochs": epochs}))?;
        Ok(epochs)
    }
    #[trigger("call")]
    async fn part(&self, ctx: &JobContext) -> Result<String> {
        let first: String = ctx.result_of("first").await?;
        Ok(format!("{first} {}", ctx.key().unwrap_or("no key")))
    }
    #[trigger("apply")]
    async fn wait(&self, ctx: &JobContext) -> Result<()> {
        let db = ctx.db()?;
        if db.list().await?.is_empty() {
            return Err(ctx.block("the first component").into());
        }
        Ok(())
    }
}

fn model() -> Model {
    Model {
        identifier: "m".into(),
        weights: Output::empty(),
        best: Output::empty(),
        client: Runtime::new(),
    }
}

#[tokio::test]
async fn a_test_reads_what_a_trigger_did() {
    let model = model();
    let ctx = JobContext::for_test().on(&model);
    assert_eq!(model.fit(&ctx).await.expect("fits"), 3);
    assert_eq!(ctx.address().to_string(), "test_context.Model/m@0.0");
    assert_eq!(ctx.logged(), ["weights [0.5]"]);
    assert_eq!(ctx.progressed(), Some((3, 3)));
    let measured = ctx.measured();
    assert_eq!(measured[1], ("loss".to_owned(), 1, 0.5));
    assert_eq!(ctx.emitted(), [("done".to_owned(), json!({"epochs": 3}))]);
    assert_eq!(*model.weights.get().expect("it was set"), [0.5]);
    assert!(!model.best.is_set());
    let spawned = ctx.spawned();
    assert_eq!((&*spawned[0].key, &*spawned[0].trigger, spawned[0].tolerated), ("a", "part", true));
    assert_eq!(spawned[0].input, Some(json!(5)));
    assert_eq!(
        (&*spawned[1].after, &*spawned[1].after_end),
        (&["a".to_owned()][..], &["c".to_owned()][..])
    );
    assert_eq!(ctx.checkpoints().await.expect("checkpoints").len(), 3);
    // A later attempt goes on where the first one was.
    let ctx = ctx.with_attempt(2).with_input(4_u32);
    assert!(ctx.is_retry());
    assert_eq!(model.fit(&ctx).await.expect("fits"), 4);
    assert_eq!(ctx.measured().len(), 4, "one step more");
}

#[tokio::test]
async fn a_test_steers_a_trigger() {
    let model = model();
    let ctx = JobContext::for_test().with_input(9_u32);
    ctx.send(JobSignal::Stop);
    assert_eq!(model.fit(&ctx).await.expect("ends early"), 9);
    assert_eq!(ctx.progressed(), None);
    ctx.cancel();
    let ctx = JobContext::for_test();
    ctx.cancel();
    assert_eq!(refused(model.fit(&ctx).await).kind(), ErrorKind::Cancelled);

    let ctx = JobContext::for_test().with_key("b").with_result("first", "one");
    assert_eq!(model.part(&ctx).await.expect("runs"), "one b");
    let error = refused(model.part(&JobContext::for_test()).await);
    says(&error, ErrorKind::NotFound, &["`first`"]);
    let error = refused(model.wait(&JobContext::for_test()).await);
    says(&error, ErrorKind::NotFound, &["for a test", "no database"]);
    let on = in_memory().await;
    let ctx = JobContext::for_test().with_db(&on.db);
    model.wait(&ctx).await.expect_err("it waits");
    assert_eq!(ctx.blocked().as_deref(), Some("the first component"));
}

#[tokio::test]
async fn hooks_pass_on_errors_of_other_libraries() {
    let model = model();
    let ctx = JobContext::for_test().on(&model);
    model.setup(&ctx).await.expect("sets up");
    assert_eq!(*model.client.get().expect("it was set"), 7);
    let error = model.on_create(&ctx).await.expect_err("a bad table");
    assert_eq!(error.kind(), ErrorKind::User);
    assert_eq!(ctx.logged(), ["reading"]);
    // As a job it fails with the text of the library.
    let on = in_memory().await;
    let error = refused(on.db.apply(&model).await);
    says(&error, ErrorKind::JobFailed, &["on_create", "CSV error"]);
}
