//! Spawned jobs: how they are run, and very many of them.

use crate::fresh;
use std::{collections::BTreeSet, time::Duration};
use superduper::{
    Error, JobPolicy, Spawn,
    job::Placement,
    prelude::*,
    store::{JobFilter, JobRow, JobState},
};

/// Spawns jobs of itself and of another component, whose trigger has a policy.
#[derive(Component, Clone)]
#[component(kind = "spawned.Spreads")]
struct Spreads {
    identifier: String,
    jobs: usize,
}

#[triggers]
impl Spreads {
    fn policy(&self) -> JobPolicy {
        if self.jobs == 13 {
            panic!("thirteen");
        }
        JobPolicy {
            executor: Some("threads".to_owned()),
            pool: Some((format!("of {}", self.identifier), 1)),
            retries: Some(1),
            backoff: Some(Duration::from_millis(1)),
            timeout: Some(Duration::from_secs(5)),
            ..JobPolicy::default()
        }
    }

    #[trigger("call", policy = "policy", retries = 7)]
    async fn piece(&self, ctx: &JobContext) -> Result<u32> {
        // Its first attempt fails, the policy allows one more.
        if ctx.attempt() == 1 { Err(Error::msg("not yet")) } else { Ok(ctx.attempt()) }
    }

    #[trigger("call")]
    async fn plain(&self) -> Result<()> {
        Ok(())
    }

    #[trigger("apply")]
    async fn spread(&self, ctx: &JobContext) -> Result<()> {
        for number in 0..self.jobs {
            ctx.spawn(
                format!("piece {number}"),
                ctx.address(),
                if self.jobs > 100 { "plain" } else { "piece" },
                &[],
            )?;
        }
        Ok(())
    }

    /// Waits for all that `spread` spawned.
    #[trigger("apply", depends_on = "spread")]
    async fn gather(&self, ctx: &JobContext) -> Result<usize> {
        let run = ctx.run_id();
        let rows = ctx
            .db()?
            .jobs(JobFilter {
                run,
                states: Some(vec![JobState::Succeeded]),
                ..JobFilter::default()
            })
            .await?;
        Ok(rows.iter().filter(|row| row.key.is_some()).count())
    }
}

async fn pieces(db: &Db) -> Vec<JobRow> {
    let rows = db.jobs(JobFilter::default()).await.unwrap();
    rows.into_iter().filter(|row| row.key.is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_a_spawned_job_is_run_as_the_policy_of_its_trigger_says() {
    let db = fresh::db().await;
    let applied = db.apply(Spreads { identifier: "s".into(), jobs: 3 }).await.unwrap();
    assert_eq!(applied.result::<usize>("gather").unwrap(), 3);
    for row in pieces(&db).await {
        let placement = Placement::of_text(row.executor.as_deref());
        assert_eq!(placement.pool, Some(("of s".to_owned(), 1)));
        assert_eq!(placement.executor.as_deref(), Some("threads"));
        assert_eq!(
            (row.retries, row.backoff_ms, row.timeout_ms),
            (1, 1, Some(5000)),
            "the policy wins over the attribute"
        );
        assert_eq!((row.state, row.attempt), (JobState::Succeeded, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_a_policy_that_panics_fails_the_job_that_spawns() {
    let db = fresh::db().await;
    // By a job of its own: an apply asks for the policies of all triggers.
    db.apply(Spreads { identifier: "s".into(), jobs: 2 }).await.unwrap();
    let error = db.apply(Spreads { identifier: "s".into(), jobs: 13 }).await.unwrap_err();
    assert!(error.to_string().contains("thirteen"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e14_many_spawned_jobs_all_end_before_the_job_that_waits_for_them() {
    let db = fresh::db().await;
    let jobs = 5_000;
    let applied = db.apply(Spreads { identifier: "many".into(), jobs }).await.unwrap();
    assert_eq!(applied.result::<usize>("gather").unwrap(), jobs, "it ran after all of them");
    let keys: BTreeSet<String> = pieces(&db).await.into_iter().filter_map(|row| row.key).collect();
    assert_eq!(keys.len(), jobs);
}

/// A run with many jobs, of which some wait for a time, one after the other.
#[derive(Component)]
#[component(kind = "spawned.Waits")]
struct Waits {
    identifier: String,
    jobs: usize,
    waits: usize,
}

#[triggers]
impl Waits {
    #[trigger("apply")]
    fn spread(&self, ctx: &JobContext) -> Result<()> {
        let pieces: Vec<String> = (0..self.jobs).map(|number| format!("piece {number}")).collect();
        for piece in &pieces {
            ctx.spawn(piece, ctx.address(), "piece", &[])?;
        }
        let mut before = pieces;
        for number in 0..self.waits {
            let key = format!("wait {number}");
            ctx.spawn_with(Spawn::new(&key, ctx.address(), "wait").after(&before))?;
            before = vec![key];
        }
        Ok(())
    }

    #[trigger("call")]
    fn piece(&self) -> Result<()> {
        Ok(())
    }

    #[trigger("call")]
    fn wait(&self, ctx: &JobContext) -> Result<()> {
        if ctx.is_retry() {
            return Ok(());
        }
        let soon = std::time::SystemTime::now() + Duration::from_millis(5);
        Err(ctx.block("a moment").until(soon).into())
    }
}

#[tokio::test]
async fn e21_a_job_that_blocks_does_not_read_its_whole_run_again() {
    let on = crate::support::in_folder().await;
    let (jobs, waits) = (300, 30);
    let component = Waits { identifier: "waits".into(), jobs, waits };
    on.db.apply(component).await.expect("it is applied");
    let rows = on.metadata.changed_rows();
    // All jobs a few times; not all of them for each one that waits.
    assert!(rows < 8 * (jobs + waits), "{rows} rows were read");
}
