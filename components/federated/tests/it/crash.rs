//! Processes that die by SIGKILL, and what the next one makes of it.

use crate::{support::*, trainings};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use superduper::{
    prelude::*,
    store::{JobFilter, JobRow, JobState, RunFilter, RunState, Timestamp},
};
use superduper_federated::{ModelTrainer, State};
use superduper_train::Rng;

/// A process of the worker program, which is killed when it is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    /// The worker program with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        Worker(command.spawn().expect("the worker program starts"))
    }

    /// A process that trains this until its end.
    pub(crate) fn train(place: &Place, name: &str) -> Self {
        Worker::start(&["train", text(&place.path()), name])
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("its state").is_some()
    }

    /// Kill it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it is killed");
        self.0.wait().expect("it is gone");
    }

    /// Wait until it ends by itself, and well.
    pub(crate) async fn ended(mut self) {
        until("the worker program ends", async || self.has_ended()).await;
        let status = self.0.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Wait until a training has come to its end. A job that was lost with several processes is given
/// up; then the next process applies the training again.
async fn finished(place: &Place, name: &str, mut worker: Worker) {
    until("the worker program ends", async || worker.has_ended()).await;
    if !worker.0.wait().expect("its end").success() {
        Worker::train(place, name).ended().await;
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Look until it is so.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), looks)
        .await
        .unwrap_or_else(|_| panic!("it took too long: {what}"));
}

/// Everything that a training made, as bits: the weights, the optimizer's state, the moments.
pub(crate) async fn bits(db: &Db, name: &str) -> BTreeMap<String, Vec<u8>> {
    let trainer = ModelTrainer::open(db, name).await.expect("a trainer");
    let global = trainer.global().await.expect("a model");
    let optional = [
        ("optimizer", &global.optimizer),
        ("first", &global.first_moment),
        ("second", &global.second_moment),
    ];
    let given = optional.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?)));
    let mut bits = BTreeMap::new();
    for (part, artifact) in given.chain([("weights", &global.weights)]) {
        let tensors = artifact.get().await.expect("its tensors");
        for name in tensors.names() {
            let tensor = tensors.get(name).await.expect("a tensor");
            bits.insert(format!("{part}/{name}"), tensor.bytes.to_vec());
        }
    }
    bits
}

/// What the same training makes without interruption, and in how many jobs.
pub(crate) async fn calm(name: &str) -> (BTreeMap<String, Vec<u8>>, u64) {
    let place = Place::new();
    let db = place.open_shared().await;
    let training = trainings::training(name, &place.path()).expect("a training");
    trained(&db, training, None).await;
    check_record(&db, name).await;
    (bits(&db, name).await, over(&db).await)
}

pub(crate) async fn jobs(db: &Db) -> Vec<JobRow> {
    db.jobs(JobFilter::default()).await.expect("the jobs")
}

/// The job of a key in the newest run.
pub(crate) async fn job(db: &Db, key: &str) -> Option<JobRow> {
    let filter = JobFilter { key: Some(key.to_owned()), ..JobFilter::default() };
    db.jobs(filter).await.expect("the jobs").pop()
}

/// Check that a training is COMPLETED, that each round was aggregated once, and that nothing is
/// left of the updates.
pub(crate) async fn check_record(db: &Db, name: &str) {
    let trainer = ModelTrainer::open(db, name).await.expect("a trainer");
    assert_eq!(trainer.state().await.expect("a state"), State::Completed);
    let rounds = trainer.training().await.expect("the training").federation.num_rounds;
    assert_eq!(trainer.progress().await.expect("progress").round, rounds);
    let jobs = jobs(db).await;
    for round in 0..rounds {
        let of_round = jobs.iter().filter(|job| {
            let key = job.key.as_deref().unwrap_or_default();
            // Such as `r3/aggregate`, or `r3~1/aggregate` for a round that was begun again.
            let of = key.strip_suffix("/aggregate").and_then(|of| of.strip_prefix('r'));
            of.and_then(|of| of.split('~').next()) == Some(&round.to_string())
        });
        // The others found that updates were lost with a process, and asked for them again.
        let done = of_round.filter(|job| job.result.as_ref().is_some_and(|count| *count != 0));
        let done: Vec<&str> = done.filter_map(|job| job.key.as_deref()).collect();
        assert_eq!(done.len(), 1, "round {round} is aggregated once: {done:?}");
    }
    let open = jobs.iter().filter(|job| !job.state.is_terminal()).count();
    assert_eq!(open, 0, "every job is accounted for");
    assert_eq!(locals(db).await, 0, "no local model is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_process_that_dies_in_mid_aggregation_changes_no_bit() {
    let place = Place::new();
    let mut worker = Worker::train(&place, "halting");
    until("it aggregates", async || place.folder.path().join("reached").exists()).await;
    worker.kill();
    let db = place.open_shared().await;
    let cut = job(&db, "r1/aggregate").await.expect("the aggregation is on record");
    assert_eq!((cut.state, cut.result), (JobState::Queued, None), "it has not ended");
    std::fs::write(place.folder.path().join("go"), "").expect("it may go on");
    tokio::time::timeout(LONG, db.resume()).await.expect("in time").expect("it goes on");
    check_record(&db, "halting").await;
    assert_eq!(bits(&db, "halting").await, unhalted().await);
}

/// What the training `halting` makes without interruption.
async fn unhalted() -> BTreeMap<String, Vec<u8>> {
    let place = Place::new();
    std::fs::write(place.folder.path().join("go"), "").expect("it need not wait");
    let db = place.open_shared().await;
    let training = trainings::training("halting", &place.path()).expect("a training");
    trained(&db, training, None).await;
    check_record(&db, "halting").await;
    bits(&db, "halting").await
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_a_process_that_dies_in_each_attempt_makes_an_error_that_applying_again_mends() {
    let place = Place::new();
    let (reached, go) = (place.folder.path().join("reached"), place.folder.path().join("go"));
    for kill in 0..9 {
        let _ = std::fs::remove_file(&reached);
        let mut worker = Worker::train(&place, "halting");
        let what = format!("it aggregates or gives up, after {kill} kills");
        until(&what, async || reached.exists() || worker.has_ended()).await;
        worker.kill();
    }
    std::fs::write(&go, "").expect("it may go on");
    finished(&place, "halting", Worker::train(&place, "halting")).await;
    let db = place.open_shared().await;
    let runs = db.runs(RunFilter::default()).await.expect("the runs");
    let failed = runs.iter().filter(|run| run.state == RunState::Failed).count();
    println!("9 kills in one aggregation: {failed} of {} runs failed", runs.len());
    assert!(failed > 0, "a job is given up after it was lost several times");
    check_record(&db, "halting").await;
    assert_eq!(bits(&db, "halting").await, unhalted().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn g24_the_recorded_deadline_holds_after_a_kill() {
    let place = Place::new();
    let mut worker = Worker::train(&place, "deadline");
    until("there is a database", async || place.path().join("metadata.sqlite").exists()).await;
    let db = place.open_shared().await;
    let waits = async || {
        job(&db, "r0/train/silent").await.is_some_and(|job| job.state == JobState::Blocked)
    };
    until("it waits for the silent site", waits).await;
    let trainer = ModelTrainer::open(&db, "deadline").await.expect("a trainer");
    let opened = trainer.progress().await.expect("progress").opened_at.expect("a time");
    until("half of the time is over", async || Timestamp::now().0 >= opened + 1500).await;
    worker.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    Worker::train(&place, "deadline").ended().await;
    let gathered = job(&db, "r0/gather").await.expect("it was gathered");
    let after = gathered.ended_at.expect("a time").0 - opened;
    println!("the round was closed {after} ms after its opening; its deadline is 3000 ms");
    // Counted from the restart it would be 4800 ms and more.
    assert!((3000..4600).contains(&after), "{after} ms");
    assert_eq!(trainer.state().await.expect("a state"), State::Completed);
}

/// The number of jobs that are over.
async fn over(db: &Db) -> u64 {
    let states = [JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Skipped];
    let filter = JobFilter { states: Some(states.to_vec()), ..JobFilter::default() };
    db.jobs(filter).await.expect("the jobs").len() as u64
}

/// Kill the process of a training so often, each time at a random point, until it has come to its
/// end.
async fn storm(name: &str, kills: u64) {
    let (expected, jobs) = calm(name).await;
    let (_place, db) = storm_over(name, kills, jobs).await;
    assert_eq!(bits(&db, name).await, expected, "bit for bit");
}

/// Kill the process of a training so often, within this number of jobs, and check what is left.
async fn storm_over(name: &str, kills: u64, jobs: u64) -> (Place, Db) {
    let place = Place::new();
    let db = trainings::builder(&place.path()).expect("the stores open");
    let db = db.observer().build().await.expect("the database opens");
    let mut random = Rng::new(kills);
    let (begun, mut killed, mut failed) = (Instant::now(), 0, 0);
    let mut worker = Worker::train(&place, name);
    while killed < kills {
        let steps = over(&db).await + 1 + random.below(2 * jobs / (kills + 2));
        let mut has_ended = false;
        until("the training goes on", async || {
            has_ended = worker.has_ended();
            has_ended || over(&db).await >= steps
        })
        .await;
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        if has_ended || worker.has_ended() {
            // Three lost processes end a job; the next process applies the training again.
            let trainer = ModelTrainer::open(&db, name).await.expect("a trainer");
            if trainer.state().await.expect("a state") == State::Completed {
                break;
            }
            failed += 1;
        } else {
            worker.kill();
            killed += 1;
        }
        worker = Worker::train(&place, name);
    }
    finished(&place, name, worker).await;
    let asked = keys(&db, JobState::Succeeded).await;
    let asked = asked.iter().filter(|key| key.contains('~') && key.ends_with("/gather")).count();
    println!(
        "{name}: {killed} kills in {:?}, {asked} times updates asked again, {failed} times applied again",
        begun.elapsed()
    );
    check_record(&db, name).await;
    let report = db.verify().await.expect("it is verified");
    assert!(report.is_sound(), "{report}");
    assert!(killed * 2 >= kills, "it ended after {killed} kills");
    (place, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_changes_no_bit() {
    storm("storm", trainings::kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_changes_no_bit_of_a_daisy_chain() {
    storm("storm chain", trainings::kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_changes_no_bit_of_moments() {
    storm("storm swag", trainings::kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_leaves_no_local_model() {
    storm("storm stored", trainings::kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_changes_no_bit_of_a_site_in_processes() {
    storm("storm processes", trainings::kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_loses_no_round_that_waits_for_few() {
    let (_, jobs) = calm("storm late").await;
    storm_over("storm late", trainings::kills(), jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g36_answers_that_come_while_no_process_works_count() {
    let place = Place::new();
    let mut worker = Worker::train(&place, "race");
    until("there is a database", async || place.path().join("metadata.sqlite").exists()).await;
    let db = trainings::builder(&place.path()).expect("the stores open");
    let db = db.observer().build().await.expect("the database opens");
    let (go, path) = (place.folder.path().join("go"), place.path());
    std::fs::write(&go, "").expect("senders need not wait");
    for round in ["0", "1"] {
        let waits = async |site: &str| {
            let job = job(&db, &format!("r{round}/train/{site}")).await;
            job.is_some_and(|job| job.state == JobState::Blocked)
        };
        until("it waits for both", async || waits("a").await && waits("b").await).await;
        worker.kill();
        for site in ["a", "b"] {
            let rest = ["race", site, round, "3", "1", "false", text(&go)];
            Worker::start(&[&["send", text(&path)][..], &rest].concat()).ended().await;
        }
        worker = Worker::train(&place, "race");
    }
    worker.ended().await;
    check_record(&db, "race").await;
    let trainer = ModelTrainer::open(&db, "race").await.expect("a trainer");
    assert_eq!(weights(&trainer).await, [3.0, 3.0]);
}
