//! What the engine says of itself as `tracing` events, to a subscriber of this thread.

use crate::support::until::found;
use crate::support::{Database, busy::Busy, in_memory};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use superduper::{
    BoxFuture, Bytes, Db,
    prelude::*,
    store::{Batch, JobId, JobRow, LogLevel, Op, RunId, RunPurpose},
};
use tokio::sync::Notify;
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// More lines than wait for a store.
const LINES: usize = 200_000 + 50;

#[derive(Component)]
#[component(kind = "events.Task")]
struct Task {
    identifier: String,
    lines: usize,
    emits: bool,
}

#[triggers]
impl Task {
    #[trigger("apply")]
    async fn work(&self, ctx: &JobContext) -> Result<()> {
        tracing::debug!(target: "a program", "an event of a job");
        for line in 0..self.lines {
            ctx.log(format!("line {line}"));
        }
        if self.emits {
            ctx.emit("events", 1)?;
        }
        Ok(())
    }
}

/// Has something to clean up, and a blob.
#[derive(Component)]
#[component(kind = "events.Kept")]
struct Kept {
    identifier: String,
    data: Artifact<Bytes>,
}

impl Lifecycle for Kept {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        ctx.log("created");
        Ok(())
    }
}

fn task(lines: usize) -> Task {
    Task { identifier: "t".into(), lines, emits: false }
}

fn busy(name: &str) -> Busy {
    Busy { identifier: name.into() }
}

/// An event or a span, with its fields as texts.
#[derive(Debug, Clone)]
struct Said {
    level: Level,
    target: &'static str,
    fields: BTreeMap<&'static str, String>,
    /// The fields of the spans around it, inner ones first.
    within: Vec<BTreeMap<&'static str, String>>,
}

impl Said {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn text(&self) -> &str {
        self.field("message").unwrap_or_default()
    }

    fn is_of(&self, run: RunId, job: JobId) -> bool {
        self.field("run") == Some(&run.to_string()) && self.field("job") == Some(&job.to_string())
    }
}

/// Keeps what is said on this thread, as long as the guard lives.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Said>>>);

impl Ear {
    fn open() -> (Self, tracing::subscriber::DefaultGuard) {
        let ear = Ear::default();
        let guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(ear.clone()));
        (ear, guard)
    }

    /// What was said under the library's own targets so far.
    fn heard(&self) -> Vec<Said> {
        self.all().into_iter().filter(|said| said.target.starts_with("superduper::")).collect()
    }

    fn all(&self) -> Vec<Said> {
        self.0.lock().expect("no panic").clone()
    }

    fn warnings(&self) -> Vec<Said> {
        self.heard().into_iter().filter(|said| said.level == Level::WARN).collect()
    }

    /// The first that fits, once it is said.
    async fn hears(&self, what: &str, fits: impl Fn(&Said) -> bool) -> Said {
        let begun = Instant::now();
        loop {
            if let Some(said) = self.heard().into_iter().find(&fits) {
                return said;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing was said of {what}: {:#?}",
                self.heard()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ear {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = ctx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = ctx.event_scope(event).into_iter().flatten();
        let within = spans
            .filter_map(|span| span.extensions().get::<Fields>().map(|fields| fields.0.clone()))
            .collect();
        let metadata = event.metadata();
        let said =
            Said { level: *metadata.level(), target: metadata.target(), fields: fields.0, within };
        self.0.lock().expect("no panic").push(said);
    }
}

async fn only_job(on: &Database) -> JobRow {
    let [job] = &on.jobs().await[..] else { panic!("one job") };
    job.clone()
}

#[tokio::test]
async fn a_simple_apply_says_what_happens_to_its_job_and_nothing_louder() {
    let (ear, _guard) = Ear::open();
    let on = in_memory().await;
    on.db.apply(task(0)).await.expect("applies");
    let job = only_job(&on).await;
    let heard = ear.heard();
    assert!(heard.iter().all(|said| said.level >= Level::DEBUG), "{heard:#?}");
    for text in ["claim", "start", "end"] {
        let of_job: Vec<&Said> = heard.iter().filter(|said| said.text() == text).collect();
        let [said] = of_job[..] else { panic!("one `{text}`: {heard:#?}") };
        assert!(said.is_of(job.run, job.id) && said.field("attempt") == Some("1"), "{said:?}");
        assert_eq!(said.target, "superduper::run");
    }
    let end = heard.iter().find(|said| said.text() == "end").expect("it was found");
    assert_eq!(end.field("how"), Some("succeeded"));
    let commit = heard.iter().find(|said| said.text() == "commit").expect("the end was committed");
    assert!(
        commit.field("run") == Some(&job.run.to_string()) && commit.field("ops") == Some("2"),
        "{commit:?}"
    );
    let recorded =
        heard.iter().find(|said| said.text() == "recorded").expect("the run was recorded");
    assert_eq!(
        (recorded.field("run"), recorded.field("jobs")),
        (Some(&*job.run.to_string()), Some("1"))
    );
    // What the job itself says is within its attempt, and says of what.
    let all = ear.all();
    let own = all.iter().find(|said| said.target == "a program").expect("the job says something");
    let [attempt] = &own.within[..] else { panic!("one span: {own:?}") };
    let expected =
        [("attempt", "1".to_owned()), ("job", job.id.to_string()), ("run", job.run.to_string())];
    assert_eq!(*attempt, BTreeMap::from(expected));
}

#[tokio::test]
async fn e22_an_end_that_is_written_at_a_later_try_gives_one_warning_for_each_failure() {
    let (ear, _guard) = Ear::open();
    let on = in_memory().await;
    on.metadata.fail_ends(2, false);
    on.db.apply(task(0)).await.expect("applies");
    let job = only_job(&on).await;
    let warnings = ear.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    for said in warnings {
        assert!(said.target == "superduper::run" && said.is_of(job.run, job.id), "{said:?}");
        assert_eq!(said.text(), "writing what happened failed");
        assert_eq!(said.field("error"), Some("write: the cable came loose"));
    }
}

#[tokio::test]
async fn e22_logs_that_cannot_be_written_give_a_warning() {
    let (ear, _guard) = Ear::open();
    let on = in_memory().await;
    on.metadata.set_noteless(true);
    on.db.apply(task(3)).await.expect("applies");
    let job = only_job(&on).await;
    let said = ear.hears("the logs", |said| said.level == Level::WARN).await;
    assert_eq!(
        (said.target, said.text()),
        ("superduper::run", "writing logs, progress and metrics failed")
    );
    assert_eq!(
        (said.field("job"), said.field("error")),
        (Some(&*job.id.to_string()), Some("write: no paper left"))
    );
    on.metadata.set_noteless(false);
}

#[tokio::test]
async fn e22_a_sweep_after_a_removal_that_fails_gives_one_warning() {
    let (ear, _guard) = Ear::open();
    let on = in_memory().await;
    on.db
        .apply(Kept { identifier: "k".into(), data: Bytes::from_static(b"data").into() })
        .await
        .expect("applies");
    on.metadata.fail_commits(|op| matches!(op, Op::MarkForDeletion { .. }));
    on.db.remove::<Kept>("k").await.expect("what cannot be swept now is left for `gc`");
    let runs = on.db.metadata().runs(superduper::store::RunFilter::default()).await.expect("runs");
    let removal =
        runs.iter().find(|run| run.purpose == RunPurpose::Remove).expect("it had a cleanup");
    let warnings = ear.warnings();
    let [said] = &warnings[..] else { panic!("one warning: {warnings:#?}") };
    assert_eq!(
        (said.target, said.text()),
        ("superduper::sweep", "sweeping the blobs of a removal failed")
    );
    assert_eq!(
        (said.field("run"), said.field("error")),
        (Some(&*removal.id.to_string()), Some("write: the ink is dry"))
    );
}

#[tokio::test]
async fn e22_a_message_whose_handler_fails_in_the_background_gives_a_warning() {
    let (ear, _guard) = Ear::open();
    let on = in_memory().await;
    on.db.on_message("events", |_| async { Err::<(), _>(Error::msg("not today")) });
    on.db.apply(Task { emits: true, ..task(0) }).await.expect("applies");
    let job = only_job(&on).await;
    let said = ear.hears("the handler", |said| said.level == Level::WARN).await;
    assert!(said.target == "superduper::run" && said.is_of(job.run, job.id), "{said:?}");
    let error = said.field("error").expect("an error");
    assert!(error.contains("not today") && error.contains("`events`"), "{error}");
}

#[tokio::test]
async fn e22_of_several_failing_handlers_deliver_returns_the_first_and_warns_of_the_others() {
    let on = in_memory().await;
    for name in ["a", "b", "c"] {
        on.db
            .apply(Task { identifier: name.into(), lines: 0, emits: true })
            .await
            .expect("applies");
    }
    // No task in the background: it would deliver first.
    let (ear, _guard) = Ear::open();
    on.metadata.fail_commits(|op| matches!(op, Op::Delivered { .. }));
    on.db.on_message("events", |message| async move {
        Err::<(), _>(Error::msg(format!("not job {}", message.job)))
    });
    let returned = on.db.deliver().await.expect_err("the first failed");
    assert!(returned.to_string().contains("not job 1"), "{returned}");
    let warned: Vec<Said> = ear
        .warnings()
        .into_iter()
        .filter(|said| said.text() == "delivering a message failed")
        .collect();
    let jobs: Vec<Option<&str>> = warned.iter().map(|said| said.field("job")).collect();
    assert_eq!(jobs, [Some("2"), Some("3")]);
}

#[tokio::test]
async fn e22_a_run_that_cannot_be_resumed_beside_others_gives_a_warning() {
    let on = in_memory().await;
    let other = on.rival().await;
    let (first, second) = (start(&other, "a").await, start(&other, "b").await);
    let (ear, _guard) = Ear::open();
    on.metadata.fail_reads(1, 0);
    let resumed = on.db.resume().detach().await.expect("resumes the other run");
    assert_eq!(resumed.iter().map(superduper::Run::id).collect::<Vec<_>>(), [second.id()]);
    let warnings = ear.warnings();
    let [said] = &warnings[..] else { panic!("one warning: {warnings:#?}") };
    assert_eq!((said.target, said.text()), ("superduper::run", "resuming a run failed"));
    assert_eq!(said.field("run"), first.id().map(|id| id.to_string()).as_deref());
    let led = ear
        .hears("the other run", |said| {
            said.level == Level::INFO && said.text().starts_with("resume")
        })
        .await;
    assert_eq!(led.field("run"), second.id().map(|id| id.to_string()).as_deref());
    first.cancel().await.expect("cancels");
    second.cancel().await.expect("cancels");
}

/// What was begun goes on if its caller is gone; then nobody else hears that it failed.
#[tokio::test]
async fn e22_an_apply_that_fails_after_its_caller_is_gone_gives_one_warning() {
    let on = in_memory().await;
    let other = on.rival().await;
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let hook = (reached.clone(), go_on.clone());
    on.metadata.before_commits(move |batch: &Batch| {
        let is_put = batch.ops.iter().any(|op| matches!(op, Op::Put(_)));
        let (other, (reached, go_on)) = (other.clone(), hook.clone());
        is_put.then(|| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                reached.notify_one();
                go_on.notified().await;
                // The commit that follows is refused.
                other.apply(task(0)).await.expect("applies");
            })
        })
    });
    let (ear, _guard) = Ear::open();
    let applying = tokio::spawn(on.db.apply(task(0)).into_future());
    reached.notified().await;
    applying.abort();
    assert!(applying.await.expect_err("its caller is gone").is_cancelled());
    go_on.notify_one();
    ear.hears("the apply", |said| said.level == Level::WARN).await;
    let warnings = ear.warnings();
    let [said] = &warnings[..] else { panic!("one warning: {warnings:#?}") };
    assert_eq!((said.target, said.text()), ("superduper::run", "recording a run failed"));
    assert!(said.field("error").is_some_and(|error| error.contains("`events.Task/t`")), "{said:?}");
}

async fn start(db: &Db, name: &str) -> superduper::Run {
    db.apply(busy(name)).detach().await.expect("applies")
}

#[tokio::test]
async fn a_take_over_and_a_fence_are_said_as_information() {
    let on = in_memory().await;
    let other = on.rival().await;
    let run = start(&other, "a").await;
    let (ear, _guard) = Ear::open();
    let job = only_job(&on).await;
    // As if its process had ended.
    let inner = on.metadata.inner();
    inner.deregister_worker(job.owner.expect("it is claimed")).await.expect("retires");
    let resumed = on.db.resume().detach().await.expect("resumes");
    let taken = ear.hears("the take-over", |said| said.text().starts_with("take-over")).await;
    assert_eq!((taken.level, taken.target), (Level::INFO, "superduper::lease"));
    assert_eq!((taken.field("workers"), taken.field("jobs")), (Some("1"), Some("1")));
    let led = ear.hears("the run", |said| said.text().starts_with("resume")).await;
    assert_eq!(
        (led.level, led.target, led.field("run")),
        (Level::INFO, "superduper::run", Some(&*job.run.to_string()))
    );
    on.db.cancel(job.id).await.expect("cancels");
    run.cancel().await.expect("cancels");
    assert_eq!(resumed.len(), 1);
    let fenced = ear.hears("the fence", |said| said.text().starts_with("fence")).await;
    assert_eq!((fenced.level, fenced.target), (Level::INFO, "superduper::lease"));
    assert_eq!(
        (fenced.field("job"), fenced.field("attempt")),
        (Some(&*job.id.to_string()), Some("1"))
    );
}

#[tokio::test]
async fn a_full_buffer_drops_the_oldest_lines_and_says_so_in_the_log_of_the_job() {
    let on = in_memory().await;
    on.metadata.set_noteless(true);
    on.db.apply(task(LINES)).await.expect("applies");
    on.metadata.set_noteless(false);
    let job = only_job(&on).await;
    let logs = found("the write of what waits, once the store answers,", async || {
        Some(on.db.logs(job.id).await.expect("logs")).filter(|logs| !logs.is_empty())
    })
    .await;
    let last = format!("line {}", LINES - 1);
    assert_eq!(logs.last().map(|row| &*row.message), Some(&*last), "the newest lines stay");
    let told: Vec<_> = logs.iter().filter(|row| row.level == LogLevel::Warn).collect();
    let [told] = told[..] else { panic!("one line tells of it: {told:?}") };
    let missing = LINES - (logs.len() - 1);
    assert!(
        missing > 0 && told.message.starts_with(&format!("{missing} older lines")),
        "{missing}: {}",
        told.message
    );
    assert_eq!((&logs[0], told.attempt), (told, job.attempt), "it stands where they were");
}
