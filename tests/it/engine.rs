//! What the engine makes of a store that fails for a moment, and of attempts that outlive their job.

use crate::support::databases;
use superduper::{
    prelude::*,
    store::{JobFilter, JobState, RunFilter, RunState},
};

/// Spawns a job as its first one ends; nothing is tried twice.
#[derive(Component, Clone)]
#[component(kind = "engine.Grows")]
struct Grows {
    identifier: String,
}

#[triggers]
impl Grows {
    #[trigger("apply")]
    async fn first(&self, ctx: &JobContext) -> Result<()> {
        ctx.spawn("s", ctx.address(), "spawned", &[])
    }
    #[trigger("apply", depends_on = "first")]
    async fn last(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("call")]
    async fn spawned(&self) -> Result<()> {
        Ok(())
    }
}

/// The run of a component whose first end meets a store that fails once: before it is written, or after.
async fn grow(lost_answers: bool) {
    for on in databases().await {
        on.metadata.fail_ends(1, lost_answers);
        on.db.apply(Grows { identifier: "g".into() }).await.expect("no try is lost by it");
        assert_eq!(on.metadata.ends_to_fail(), 0, "the store failed");
        let jobs = on.db.jobs(JobFilter::default()).await.expect("jobs");
        let tell = |row: &superduper::store::JobRow| (row.method.clone(), row.state, row.attempt);
        let expected = ["first", "last", "spawned"].map(|method| (method.to_owned(), JobState::Succeeded, 1));
        assert_eq!(jobs.iter().map(tell).collect::<Vec<_>>(), expected, "each job ran once");
        let runs = on.db.metadata().runs(RunFilter::default()).await.expect("runs");
        assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Succeeded]);
        let first = jobs[0].id;
        assert!(on.db.logs(first).await.expect("logs").is_empty(), "nobody took the job over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_store_that_fails_once_while_a_spawning_end_is_recorded_costs_no_try() {
    grow(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_lost_answer_to_a_spawning_end_costs_no_try() {
    grow(true).await;
}
