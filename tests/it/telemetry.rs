//! Progress, logs and metrics of triggers that compute, and their limits.

use crate::process::{components::Computes, program};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use superduper::{FailureKind, prelude::*, store::JobFilter};
use tokio::runtime::Builder;

/// What another handle of the database sees of the job, until it has seen all; then it lets the job
/// end.
fn watch(folder: &Path) -> Duration {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = Db::builder().at(folder.join("db")).unwrap().build().await.unwrap();
        let mut begun = None;
        for _ in 0..2000 {
            if let Some(job) = db.jobs(JobFilter::default()).await.unwrap().first() {
                let begun = *begun.get_or_insert_with(Instant::now);
                let logs = db.logs(job.id).await.unwrap();
                let metrics = db.metrics([job.id]).await.unwrap();
                if job.progress == Some((5, 10))
                    && logs.iter().any(|line| line.message == "half way")
                    && metrics.len() == 1
                {
                    std::fs::write(folder.join("seen"), "").unwrap();
                    return begun.elapsed();
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing was seen");
    })
}

fn is_seen_while_it_computes(runtime: &mut Builder, executor: &str) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime.enable_all().build().unwrap();
    let db = runtime
        .block_on(
            Db::builder()
                .at(folder.path().join("db"))
                .unwrap()
                .executor(executor)
                .program(program())
                .build(),
        )
        .unwrap();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(folder.path()));
        let until = folder.path().join("seen").display().to_string();
        runtime
            .block_on(async {
                db.apply(Computes { identifier: "computes".into(), until }).await.map(drop)
            })
            .unwrap();
        watching.join().unwrap();
    });
}

#[test]
fn e29a_what_an_async_trigger_that_computes_reports_is_seen_at_once_on_one_thread() {
    is_seen_while_it_computes(&mut Builder::new_current_thread(), "threads");
}

#[test]
fn e29b_what_an_async_trigger_that_computes_reports_is_seen_at_once_on_several_threads() {
    is_seen_while_it_computes(Builder::new_multi_thread().worker_threads(2), "threads");
}

#[test]
fn e29c_what_an_async_trigger_that_computes_reports_is_seen_at_once_in_a_job_process() {
    is_seen_while_it_computes(Builder::new_multi_thread().worker_threads(2), "process");
}

/// Holds its thread for longer than its time limit: until it is told, or for as long as it likes.
#[derive(Component)]
#[component(kind = "test.Blocks")]
struct Blocks {
    identifier: String,
    listens: bool,
}

#[triggers]
impl Blocks {
    #[trigger("apply", timeout = "200ms")]
    async fn block(&self, ctx: &JobContext) -> Result<()> {
        let begun = Instant::now();
        let long = Duration::from_millis(if self.listens { 60_000 } else { 500 });
        while begun.elapsed() < long {
            if self.listens {
                ctx.check_cancelled()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

async fn is_timed_out(listens: bool) {
    let db = Db::in_memory().await.unwrap();
    let error = db.apply(Blocks { identifier: "blocks".into(), listens }).await.unwrap_err();
    let failure = error.outcome().unwrap().jobs[0].failure.clone().unwrap();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Timeout, "the attempt ran longer than its time limit of 200ms")
    );
}

#[tokio::test]
async fn e28d_an_async_trigger_that_blocks_beyond_its_limit_is_timed_out_on_one_thread() {
    is_timed_out(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e28e_an_async_trigger_that_blocks_beyond_its_limit_is_timed_out_on_several_threads() {
    is_timed_out(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn e28f_an_async_trigger_that_blocks_is_told_that_its_time_is_over() {
    let begun = Instant::now();
    is_timed_out(true).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
