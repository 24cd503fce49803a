//! Sites whose jobs run in processes of their own, and several processes at one training.

use crate::{
    crash::{Worker, bits, calm, check_record, job, jobs, text, until},
    support::*,
    trainings,
};
use std::collections::{BTreeMap, BTreeSet};
use superduper::{
    FailureKind,
    prelude::*,
    store::{JobRow, JobState},
};
use superduper_federated::{
    FederatedTraining, ModelTrainer, NotificationType, Site, SiteJobs, State,
};

fn in_process() -> SiteJobs {
    SiteJobs { executor: Some("process".into()), ..SiteJobs::default() }
}

/// Two good sites, and one whose process is killed in every attempt.
fn with_killed(name: &str) -> FederatedTraining {
    let mut training = two_sites(name).rounds(2);
    training.sites.push(Site::new("c", faulty("kill")).jobs(in_process()));
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_a_site_whose_process_is_killed_is_an_answer_and_the_round_goes_on() {
    let place = Place::new();
    let db = place.open_shared().await;
    let trainer = trained(&db, with_killed("g22k"), None).await;
    assert_eq!(trainer.progress().await.expect("progress").round, 2);
    // As without the third site: 0.25 after the first round, then (0.125 + 0.625) / 2.
    assert_eq!(weights(&trainer).await, [0.375, 0.375]);
    for round in 0..2 {
        let lost = job(&db, &format!("r{round}/train/c")).await.expect("it was asked");
        let failure = lost.failure.expect("it failed");
        assert_eq!(failure.kind, FailureKind::WorkerLost, "{failure}");
        assert!(failure.to_string().contains("signal 9"), "{failure}");
        let gather = job(&db, &format!("r{round}/gather")).await.expect("a gathering");
        let log = db.logs(gather.id).await.expect("its log");
        let says = |line: &&str| line.contains("site `c`: PROCESS_LOST");
        assert!(log.iter().any(|line| says(&line.message.as_str())), "{log:?}");
    }
    let runs = db.runs(superduper::store::RunFilter::default()).await.expect("the runs");
    assert!(runs.iter().all(|run| run.state == superduper::store::RunState::Succeeded), "{runs:?}");
    let address = Address::of::<FederatedTraining>("g22k");
    let status = db.status(address).await.expect("a status");
    assert_eq!(status.health(), superduper::store::Health::Ready, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_a_killed_process_below_the_least_number_of_answers_is_told() {
    let place = Place::new();
    let db = place.open_shared().await;
    let mut training = with_killed("g22l");
    training.federation.min_clients = 3;
    let (trainer, state) = ended(&db, training, None).await;
    assert_eq!(state, State::Error);
    let text = trainer.failures().await.expect("the failures").join("\n");
    assert!(text.contains("`c`: PROCESS_LOST"), "{text}");
}

/// The process that made the answer of a site's job.
fn process_of(job: &JobRow) -> u32 {
    let result = job.result.as_ref().expect("an answer");
    assert_eq!(result["code"], "OK", "{result}");
    result["metrics"]["process"].as_f64().expect("a number") as u32
}

#[tokio::test(flavor = "multi_thread")]
async fn g39_one_site_runs_in_processes_in_every_round_and_the_others_on_threads() {
    let place = Place::new();
    let db = place.open_shared().await;
    let mut training = two_sites("g39p").rounds(3);
    training.sites.push(Site::new("c", rows(&[0.5])));
    training.sites[0].jobs =
        SiteJobs { pool: Some(("gpu".into(), 1)), memory: Some(1 << 30), ..in_process() };
    trained(&db, training, None).await;
    let all = jobs(&db).await;
    let own = std::process::id();
    for round in 0..3 {
        for site in ["a", "b", "c"] {
            let key = format!("r{round}/train/{site}");
            let job = all.iter().find(|job| job.key.as_deref() == Some(&key)).expect("a job");
            assert_eq!(job.state, JobState::Succeeded, "{key}");
            assert_eq!(process_of(job) != own, site == "a", "{key}");
            let placed = job.executor.clone().unwrap_or_default();
            for wanted in ["process", "gpu", "1073741824"] {
                assert_eq!(placed.contains(wanted), site == "a", "{key}: {placed}");
            }
        }
    }
    assert_eq!(locals(&db).await, 0, "what came from the processes is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn g36_of_two_processes_one_dies_and_the_other_goes_on() {
    let (expected, _) = calm("told").await;
    let place = Place::new();
    let mut first = Worker::train(&place, "told");
    until("there is a database", async || place.path().join("metadata.sqlite").exists()).await;
    let db = trainings::builder(&place.path()).expect("the stores open");
    let db = db.observer().build().await.expect("the database opens");
    let mut second = Worker::start(&["work", text(&place.path())]);
    for round in [3, 6, 9] {
        let key = format!("r{round}/open");
        until("the round is opened", async || job(&db, &key).await.is_some()).await;
        // Once the one that began it, then the one that took it over.
        first.kill();
        first = second;
        second = Worker::start(&["work", text(&place.path())]);
    }
    let trainer = ModelTrainer::open(&db, "told").await.expect("a trainer");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    check_record(&db, "told").await;
    assert_eq!(bits(&db, "told").await, expected, "bit for bit");
    for site in 0..3 {
        check_told(&place, &format!("site-{site}"), 12);
    }
}

/// Check that a site was told everything; a thing that was told twice had equal bytes.
fn check_told(place: &Place, site: &str, rounds: u64) {
    let file = place.folder.path().join(format!("told-{site}"));
    let text = std::fs::read_to_string(file).expect("it was told");
    let mut by_key: BTreeMap<String, &str> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let told: superduper_federated::Notification =
            serde_json::from_str(line).expect("a notification");
        found.insert((told.notification_type.name(), told.body.round));
        let before = by_key.insert(told.idempotency_key, line);
        assert!(before.is_none_or(|before| before == line), "{before:?} and then {line}");
    }
    let rounds = (0..rounds).flat_map(|round| {
        [
            (NotificationType::UpdateRoundStart.name(), Some(round)),
            (NotificationType::ModelTestRound.name(), Some(round + 1)),
        ]
    });
    let ends = [NotificationType::TrainingStart, NotificationType::TrainingFinished];
    let wanted: BTreeSet<_> = rounds.chain(ends.map(|end| (end.name(), None))).collect();
    assert_eq!(found, wanted, "{site}");
    assert_eq!(by_key.len(), wanted.len(), "{site}: one key for each");
}

/// Let 5 processes send 10 updates each at once; how many were accepted, repeated and refused.
async fn race(place: &Place, site: &str, round: u64, equal: bool) -> (u64, u64, Vec<String>) {
    let go = place.folder.path().join(format!("go-{site}-{round}"));
    let (round, equal) = (round.to_string(), equal.to_string());
    let mut senders = Vec::new();
    for first in 0..5 {
        let first = (first * 10).to_string();
        let path = place.path();
        let args = ["send", text(&path), "race", site, &round, &first, "10", &equal, text(&go)];
        senders.push(Worker::start(&args));
    }
    std::fs::write(&go, "").expect("they may begin");
    let (mut accepted, mut repeated, mut refused) = (0, 0, Vec::new());
    for (number, sender) in senders.into_iter().enumerate() {
        sender.ended().await;
        let counts = std::fs::read(format!("{}-{}", text(&go), number * 10)).expect("counts");
        let counts: (u64, u64, Vec<String>) = serde_json::from_slice(&counts).expect("counts");
        (accepted, repeated) = (accepted + counts.0, repeated + counts.1);
        refused.extend(counts.2);
    }
    (accepted, repeated, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn g25_of_50_senders_in_5_processes_exactly_one_counts() {
    let place = Place::new();
    let db = place.open_shared().await;
    let training = trainings::training("race", &place.path()).expect("a training");
    let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
    trainer.start().await.expect("it starts");
    let waits =
        async |key: &str| job(&db, key).await.is_some_and(|job| job.state == JobState::Blocked);
    until("site b is asked", async || waits("r0/train/b").await).await;
    let (accepted, repeated, refused) = race(&place, "b", 0, false).await;
    assert_eq!((accepted, repeated, refused.len()), (1, 0, 49), "{refused:?}");
    assert!(refused.iter().all(|text| text.contains("has answered round 0")), "{refused:?}");
    let tensors = Tensors::new().with("w", &[2], &[0.0_f32; 2]).expect("tensors");
    trainer.receive_update("a", 0, 10, tensors.clone()).await.expect("taken");
    until("site b is asked again", async || waits("r1/train/b").await).await;
    let one = weights(&trainer).await[0] * 2.0;
    assert!((0.0..50.0).contains(&one) && one.fract() == 0.0, "that of one sender: {one}");
    let (accepted, repeated, refused) = race(&place, "b", 1, true).await;
    assert_eq!((accepted, repeated, refused.len()), (1, 49, 0), "{refused:?}");
    trainer.receive_update("a", 1, 10, tensors).await.expect("taken");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert_eq!(weights(&trainer).await, [3.5, 3.5]);
    check_record(&db, "race").await;
}
