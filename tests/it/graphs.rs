//! Random graphs of jobs through a real database, against a naive oracle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};
use superduper::{
    FailureKind,
    prelude::*,
    store::{JobRow, JobState},
};

#[path = "worker/declared.rs"]
mod declared;

/// What a job does: how often it fails, and what it spawns for others.
#[derive(
    Clone, Debug, superduper::__private::serde::Serialize, superduper::__private::serde::Deserialize,
)]
#[serde(crate = "superduper::__private::serde")]
struct Task {
    key: String,
    /// Keys of earlier tasks.
    after: BTreeSet<String>,
    /// So many tries fail; more than two are too many.
    failures: u32,
    /// The task that spawns it; the first trigger where absent.
    spawner: Option<String>,
}

/// A graph of jobs, spawned by its trigger and by each other.
#[derive(Component, Clone, Debug)]
#[component(kind = "graphs.Graph")]
struct Graph {
    identifier: String,
    tasks: Vec<Task>,
    /// Not set, so that tasks run only where they are spawned.
    never: Option<bool>,
}

/// What ran, in order: graph, task, try.
static RAN: Mutex<Vec<(String, String, u32)>> = Mutex::new(Vec::new());

#[triggers]
impl Graph {
    #[trigger("apply")]
    async fn plan(&self, ctx: &JobContext) -> Result<()> {
        self.spawn(ctx, None)
    }

    #[trigger("apply", depends_on = "plan")]
    async fn done(&self) -> Result<()> {
        RAN.lock().expect("no test panics here").push((
            self.identifier.clone(),
            "done".to_owned(),
            1,
        ));
        Ok(())
    }

    #[trigger("apply", requires = "never", retries = 2, backoff = "1ms")]
    async fn task(&self, ctx: &JobContext) -> Result<()> {
        let Some(key) = ctx.key() else { return Ok(()) };
        let task = self.tasks.iter().find(|task| task.key == key).expect("a task of the graph");
        RAN.lock().expect("no test panics here").push((
            self.identifier.clone(),
            key.to_owned(),
            ctx.attempt(),
        ));
        if ctx.attempt() <= task.failures {
            return Err(Error::msg("as told"));
        }
        self.spawn(ctx, Some(key))
    }
}

impl Graph {
    fn spawn(&self, ctx: &JobContext, spawner: Option<&str>) -> Result<()> {
        for task in self.tasks.iter().filter(|task| task.spawner.as_deref() == spawner) {
            let after: Vec<&str> = task.after.iter().map(String::as_str).collect();
            ctx.spawn(&task.key, ctx.address(), "task", &after)?;
        }
        Ok(())
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn graph(seed: u64) -> Graph {
    let mut dice = Dice(seed);
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..1 + dice.below(9) {
        let spawner = (n > 0 && dice.below(3) == 0).then(|| tasks[dice.below(n)].key.clone());
        // Tasks of the same spawner, or what is on record when it runs: its spawner.
        let near: Vec<String> = tasks
            .iter()
            .filter(|task| task.spawner == spawner)
            .map(|task| task.key.clone())
            .collect();
        let after = (0..dice.below(3))
            .filter_map(|_| near.get(dice.below(near.len().max(1))).cloned())
            .collect();
        let failures = [0, 0, 0, 0, 1, 2, 3][dice.below(7)];
        tasks.push(Task { key: format!("t{n}"), after, failures, spawner });
    }
    Graph { identifier: format!("graph{seed}"), tasks, never: None }
}

/// What the oracle says of a task; `None` for one that is never spawned.
fn expected(graph: &Graph, key: &str) -> Option<JobState> {
    let task = graph.tasks.iter().find(|task| task.key == key).expect("a task of the graph");
    if let Some(spawner) = &task.spawner
        && expected(graph, spawner) != Some(JobState::Succeeded)
    {
        return None;
    }
    let blocked = task.after.iter().any(|need| !is_done(graph, need));
    Some(match task.failures {
        _ if blocked => JobState::Skipped,
        0..=2 => JobState::Succeeded,
        _ => JobState::Failed,
    })
}

/// Whether a task succeeded, and so did what it spawned: what waits for a task waits for those too.
fn is_done(graph: &Graph, key: &str) -> bool {
    let mut spawned = graph.tasks.iter().filter(|task| task.spawner.as_deref() == Some(key));
    expected(graph, key) == Some(JobState::Succeeded)
        && spawned.all(|task| is_done(graph, &task.key))
}

fn check(graph: &Graph, jobs: &[JobRow]) {
    let found: BTreeMap<&str, &JobRow> =
        jobs.iter().filter_map(|job| Some((job.key.as_deref()?, job))).collect();
    let ran: Vec<(String, u32)> = {
        let all = RAN.lock().expect("no test panics here");
        all.iter()
            .filter(|(name, ..)| *name == graph.identifier)
            .map(|(_, key, number)| (key.clone(), *number))
            .collect()
    };
    let mut all_well = true;
    for task in &graph.tasks {
        let state = expected(graph, &task.key);
        assert_eq!(found.get(&*task.key).map(|job| job.state), state, "{} of {graph:?}", task.key);
        all_well &= state.is_none_or(|state| state == JobState::Succeeded);
        let tries = ran.iter().filter(|(key, _)| *key == task.key).count() as u32;
        let told = match state {
            None | Some(JobState::Skipped) => 0,
            Some(JobState::Succeeded) => task.failures + 1,
            Some(_) => 3,
        };
        assert_eq!(tries, told, "tries of {} of {graph:?}", task.key);
        if state == Some(JobState::Skipped) {
            assert_eq!(
                found[&*task.key].failure.as_ref().map(|failure| failure.kind),
                Some(FailureKind::Upstream)
            );
        }
        // Nothing starts before what it needs has ended.
        if let Some(first) = ran.iter().position(|(key, _)| *key == task.key) {
            for need in task.after.iter().chain(&task.spawner) {
                let last = ran.iter().rposition(|(key, _)| key == need).expect("what it needs ran");
                assert!(last < first, "{} before {need} in {ran:?}", task.key);
            }
        }
    }
    // What depends on the spawner waits for all that was spawned.
    let done = jobs.iter().find(|job| job.method == "done").expect("a job");
    assert_eq!(
        done.state,
        if all_well { JobState::Succeeded } else { JobState::Skipped },
        "{graph:?}"
    );
    if all_well {
        assert_eq!(ran.last().map(|(key, _)| &**key), Some("done"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_graphs_of_jobs_end_as_the_oracle_says() {
    let db = Db::in_memory().await.expect("a database");
    let mut states = BTreeSet::new();
    for seed in 1..=300 {
        let graph = graph(seed);
        let jobs = match db.apply(&graph).await {
            Ok(applied) => applied.outcome.expect("it has jobs").jobs,
            Err(error) => error.outcome().expect("the outcome of its jobs").jobs.clone(),
        };
        check(&graph, &jobs);
        states.extend(jobs.iter().map(|job| job.state.to_string()));
    }
    assert_eq!(
        states,
        ["failed", "skipped", "succeeded"].map(str::to_owned).into(),
        "all kinds of ends were met"
    );
}

#[test]
fn a11_identity_depends_neither_on_the_process_nor_on_the_order_of_fields() {
    let here: Vec<[String; 4]> =
        (0..100).map(|n| declared::identities(n).expect("it can be encoded")).collect();
    for [forward, backward, content, other] in &here {
        assert_eq!((forward, content), (backward, other));
    }
    let output = std::process::Command::new(crate::process::program())
        .args(["identities", "100"])
        .output()
        .expect("the program runs");
    let there = String::from_utf8(output.stdout).expect("text");
    let there: Vec<String> = there.lines().map(str::to_owned).collect();
    assert_eq!(there, here.iter().map(|line| line.join(" ")).collect::<Vec<_>>());
}
