//! Durations and counts at 0 and at their maximum: none of them panics, and each means what it
//! says.

use crate::support::until::until;
use crate::{process::components::AtTheEnds, process::program};
use std::time::Duration;
use superduper::{
    DbBuilder, FailureKind, JobPolicy, Keep,
    prelude::*,
    store::{Cursor, JobFilter, JobSignal, JobState, RunFilter},
};

const ENDS: [Duration; 2] = [Duration::ZERO, Duration::MAX];

#[derive(Component, Clone)]
#[component(kind = "extremes.Plain")]
struct Plain {
    identifier: String,
    #[component(breaking)]
    edition: u64,
}

#[triggers]
impl Plain {
    #[trigger("apply")]
    fn here(&self, ctx: &JobContext) -> Result<()> {
        for (done, total) in [(0, 0), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
            ctx.progress(done, total);
            ctx.metric("m", done, 1.0);
        }
        Ok(())
    }
}

fn plain(identifier: &str, edition: u64) -> Plain {
    Plain { identifier: identifier.into(), edition }
}

#[tokio::test]
async fn b18_options_of_a_database_at_their_ends() {
    type Choose = fn(DbBuilder, Duration, usize) -> DbBuilder;
    let choices: [(&str, Choose); 4] = [
        ("lease", |builder, span, _| builder.lease(span)),
        ("cancel_grace", |builder, span, _| builder.cancel_grace(span)),
        ("gc_grace", |builder, span, _| builder.gc_grace(span)),
        ("parallelism", |builder, _, count| builder.parallelism(count)),
    ];
    for (name, choose) in choices {
        for (span, count) in [
            (Duration::ZERO, 0),
            (Duration::MAX, usize::MAX),
            (Duration::from_secs(86_400 * 100_000_000_000_000), 1),
        ] {
            let db = choose(crate::fresh::builder(), span, count).build().await.unwrap();
            db.apply(plain("a", 1))
                .await
                .unwrap_or_else(|error| panic!("{name} {span:?}: {error}"));
            db.apply(plain("a", 2)).await.unwrap();
            assert_eq!(db.gc(false).await.unwrap().blobs.len(), 0, "{name} {span:?}");
            assert!(db.resume().await.unwrap().is_empty());
            db.remove::<Plain>("a").await.unwrap();
        }
    }
}

#[tokio::test]
async fn b18_waits_rules_and_filters_at_their_ends() {
    for database in crate::support::databases().await {
        let db = &database.db;
        for edition in 0..3 {
            db.apply(plain("a", edition)).await.unwrap();
        }
        let job = db.jobs(JobFilter::default()).await.unwrap()[0].id;
        for limit in ENDS {
            assert_eq!(db.wait(job, limit).await.unwrap().state, JobState::Succeeded);
        }
        let run = db.apply(plain("b", 1)).detach().await.unwrap();
        run.wait_timeout(Duration::MAX).await.unwrap();
        let run = db.apply(plain("b", 2)).detach().await.unwrap();
        // It may have ended already.
        let _ = run.wait_timeout(Duration::ZERO).await;
        run.wait().await.unwrap();
        for limit in [0, 1, usize::MAX] {
            db.limit_pool("p", limit);
            let jobs =
                db.jobs(JobFilter { limit: Some(limit), ..JobFilter::default() }).await.unwrap();
            let runs =
                db.runs(RunFilter { limit: Some(limit), ..RunFilter::default() }).await.unwrap();
            let store = db.metadata();
            let (first, last) = (Cursor::of_number(i64::MIN), Cursor::of_number(i64::MAX));
            let (events, messages) = (
                store.events(first.clone(), None, limit).await.unwrap(),
                store.messages(first, limit).await.unwrap(),
            );
            assert_eq!(
                (jobs.len(), runs.len(), events.len() > 1),
                (limit.min(5), limit.min(5), limit > 1)
            );
            assert!(
                messages.is_empty() && store.events(last, None, limit).await.unwrap().is_empty()
            );
        }
        for version in [0, u32::MAX] {
            let gone = db.load::<Plain>(&format!("a@{version}")).await;
            assert_eq!(gone.is_ok(), version == 0);
            assert_eq!(
                db.rollback("extremes.Plain/a", (version, u32::MAX)).await.unwrap_err().kind(),
                ErrorKind::NotFound
            );
        }
        db.signal(job, JobSignal::Continue).await.unwrap();
        for rule in [
            Keep::newer_than(Duration::MAX),
            Keep::last(u32::MAX),
            Keep::last(u32::MAX).and_newer_than(Duration::ZERO),
        ] {
            assert!(db.prune_all(rule).await.unwrap().removed.is_empty());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(
            db.prune_all(Keep::newer_than(Duration::ZERO).and_newer_than(Duration::ZERO))
                .await
                .unwrap()
                .removed
                .len(),
            3
        );
        assert!(db.prune_all(Keep::last(0)).await.unwrap().removed.is_empty(), "the newest stays");
    }
}

#[derive(Component, Clone)]
#[component(kind = "extremes.Chosen")]
struct Chosen {
    identifier: String,
    which: String,
    longest: bool,
}

#[triggers]
impl Chosen {
    fn policy(&self) -> JobPolicy {
        let span = |name: &str| {
            (self.which == name).then_some(if self.longest {
                Duration::MAX
            } else {
                Duration::ZERO
            })
        };
        let count = if self.longest { usize::MAX } else { 0 };
        JobPolicy {
            timeout: span("timeout"),
            grace: span("grace"),
            stall: span("stall"),
            backoff: span("backoff"),
            pool: (self.which == "pool").then(|| ("p".to_owned(), count)),
            retries: (self.which == "retries").then_some(if self.longest { u32::MAX } else { 0 }),
            ..JobPolicy::default()
        }
    }

    #[trigger("apply", policy = "policy", retries = 1)]
    async fn go(&self, ctx: &JobContext) -> Result<u32> {
        // A limit of nothing is over before this is.
        tokio::time::sleep(Duration::from_millis(5)).await;
        match self.which.as_str() {
            "backoff" if ctx.attempt() == 1 => Err(Error::msg("once")),
            _ => Ok(ctx.attempt()),
        }
    }

    #[trigger("apply", policy = "policy")]
    fn go_too(&self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    }
}

#[tokio::test]
async fn b18_policies_of_threads_at_their_ends() {
    for database in crate::support::databases().await {
        for longest in [false, true] {
            for which in ["timeout", "grace", "stall", "backoff", "pool", "retries"] {
                let chosen = Chosen {
                    identifier: format!("{which}-{longest}"),
                    which: which.into(),
                    longest,
                };
                let run = database.db.apply(chosen).detach().await.unwrap();
                if (which, longest) == ("backoff", true) {
                    // It waits for ever, and can be told not to.
                    until("the first try", async || {
                        run.jobs().await.unwrap().iter().any(|job| job.not_before.is_some())
                    })
                    .await;
                    run.cancel().await.unwrap();
                    assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
                    continue;
                }
                let ended = run.wait_timeout(Duration::from_secs(20)).await;
                match (which, longest) {
                    ("timeout" | "stall", false) => {
                        let error = ended.unwrap_err();
                        let failure =
                            error.outcome().unwrap().job("go").unwrap().failure.clone().unwrap();
                        assert_eq!(failure.kind, FailureKind::Timeout, "{which}: {failure}");
                    }
                    _ => drop(ended.unwrap_or_else(|error| panic!("{which} {longest}: {error}"))),
                }
            }
        }
    }
}

#[tokio::test]
async fn b18_policies_of_processes_at_their_ends() {
    let db = crate::fresh::builder().program(program()).build().await.unwrap();
    let applied =
        db.apply(AtTheEnds { identifier: "longest".into(), longest: true }).await.unwrap();
    assert_ne!(applied.result::<u32>("run").unwrap(), std::process::id());
    let error =
        db.apply(AtTheEnds { identifier: "shortest".into(), longest: false }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed, "{error}");
}
