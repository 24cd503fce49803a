//! Pools are limits of the database: what all processes run of a name at once.

use crate::fresh;
use crate::support::until::until;
use std::{path::Path, time::Duration};
use superduper::{
    JobPolicy,
    prelude::*,
    store::{JobFilter, JobRow, JobState},
};

/// Records in a file when the job begins and ends.
#[derive(Component, Clone)]
#[component(kind = "pools.Noted")]
struct Noted {
    identifier: String,
    file: String,
    places: usize,
    late: bool,
    ms: u64,
}

impl Noted {
    fn note(&self, what: &str) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.file)?;
        // One write, so that lines of processes do not mix.
        file.write_all(format!("{what}\n").as_bytes())?;
        Ok(())
    }
}

#[triggers]
impl Noted {
    fn policy(&self) -> JobPolicy {
        JobPolicy {
            pool: Some(("noted".to_owned(), self.places)),
            timeout: self.late.then(|| Duration::from_millis(20)),
            ..JobPolicy::default()
        }
    }

    #[trigger("apply", policy = "policy")]
    fn work(&self) -> Result<()> {
        self.note("+")?;
        std::thread::sleep(Duration::from_millis(self.ms));
        self.note("-")
    }
}

/// How many were inside at most, and how many there were.
fn at_once(file: &Path) -> (i32, usize) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (mut inside, mut most) = (0, 0);
    for line in text.lines() {
        inside += if line == "+" { 1 } else { -1 };
        most = most.max(inside);
    }
    (most, text.lines().filter(|line| *line == "+").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_a_pool_limits_all_processes_together() {
    let folder = tempfile::tempdir().unwrap();
    let (place, file) = (folder.path().join("my.db"), folder.path().join("notes"));
    let mut handles = Vec::new();
    for _ in 0..3 {
        // Each with a worker of its own, as three processes have.
        handles.push(Db::builder().at(&place).unwrap().parallelism(8).build().await.unwrap());
    }
    let mut runs = Vec::new();
    for number in 0..40 {
        let noted = Noted {
            identifier: format!("n{number:02}"),
            file: file.display().to_string(),
            places: 2,
            late: number == 7,
            ms: 30,
        };
        runs.push(handles[number % 3].apply(noted).detach().await.unwrap());
    }
    let mut failed = 0;
    for run in &runs {
        let ended = tokio::time::timeout(Duration::from_secs(60), run.wait())
            .await
            .expect("no job waits for ever");
        failed += usize::from(ended.is_err());
    }
    assert_eq!(failed, 1, "the one that is out of time");
    // Its thread returns after its end, and its place is free then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(at_once(&file), (2, 40));
    let rows: Vec<JobRow> = handles[0].jobs(JobFilter::default()).await.unwrap();
    assert!(
        rows.iter().all(|row| row.attempt == 1 && row.lost == 0),
        "no attempt is spent on waiting"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_places_of_a_process_that_is_gone_are_free() {
    let folder = tempfile::tempdir().unwrap();
    let (place, file) = (folder.path().join("my.db"), folder.path().join("notes"));
    let noted = |identifier: &str, ms| Noted {
        identifier: identifier.into(),
        file: file.display().to_string(),
        places: 1,
        late: false,
        ms,
    };
    let first = Db::open(&place).await.unwrap();
    let held = first.apply(noted("held", 1500)).detach().await.unwrap();
    let job = held.recorded()[0];
    until("the start", async || first.job(job).await.unwrap().state == JobState::Running).await;
    let second = Db::open(&place).await.unwrap();
    let waits = second.apply(noted("waits", 0)).detach().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        second.job(waits.recorded()[0]).await.unwrap().state,
        JobState::Queued,
        "the other process has the place"
    );
    // As if the first process were gone.
    let owner = first.metadata().live_workers().await.unwrap()[0];
    first.metadata().deregister_worker(owner).await.unwrap();
    let began = std::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(30), waits.wait())
        .await
        .expect("it gets the place")
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn e15_a_limit_of_this_process_is_what_its_claims_say() {
    let db = fresh::db().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    db.limit_pool("noted", 1);
    let mut runs = Vec::new();
    for number in 0..4 {
        let noted = Noted {
            identifier: format!("l{number}"),
            file: file.display().to_string(),
            places: 4,
            late: false,
            ms: 10,
        };
        runs.push(db.apply(noted).detach().await.unwrap());
    }
    for run in runs {
        run.wait().await.unwrap();
    }
    assert_eq!(at_once(&file), (1, 4));
}

/// Jobs of one run that share a pool of one place.
#[derive(Component, Clone)]
#[component(kind = "pools.Group")]
struct Group {
    identifier: String,
    members: Vec<Noted>,
}

#[triggers]
impl Group {}

#[tokio::test(flavor = "multi_thread")]
async fn e15_a_full_pool_is_asked_now_and_then_and_gives_places_in_the_order_of_ids() {
    let folder = tempfile::tempdir().unwrap();
    let (place, file) = (folder.path().join("my.db"), folder.path().join("notes"));
    let noted = |identifier: String, ms| Noted {
        identifier,
        file: file.display().to_string(),
        places: 1,
        late: false,
        ms,
    };
    let first = Db::open(&place).await.unwrap();
    let held = first.apply(noted("held".into(), 1500)).detach().await.unwrap();
    let job = held.recorded()[0];
    until("the start", async || first.job(job).await.unwrap().state == JobState::Running).await;
    let counted = crate::support::in_folder_at(&place).await;
    let before = counted.metadata.commits();
    let members = (0..20).map(|number| noted(format!("m{number:02}"), 1)).collect();
    let run = counted.db.apply(Group { identifier: "g".into(), members }).detach().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let commits = counted.metadata.commits() - before;
    assert!(commits <= 15, "{commits} commits while the pool was full");
    tokio::time::timeout(Duration::from_secs(60), run.wait())
        .await
        .expect("all get their turn")
        .unwrap();
    let mut rows = run.jobs().await.unwrap();
    rows.retain(|row| row.method == "work");
    let mut by_start = rows.clone();
    by_start.sort_by_key(|row| row.started_at);
    let ids = |rows: &[JobRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(&by_start), ids(&rows));
    assert_eq!(at_once(&file), (1, 21));
}
