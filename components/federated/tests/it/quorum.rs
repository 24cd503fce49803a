//! Rounds that do not wait for all sites.

use crate::support::*;
use std::time::{Duration, Instant};
use superduper::{prelude::*, store::JobState};
use superduper_federated::{FedAvg, FederatedTraining, Late, ModelTrainer, Site, State};

/// Two sites in this database, and one somewhere else that never answers.
fn with_silent(name: &str) -> FederatedTraining {
    let mut training = two_sites(name);
    training.sites.push(Site::remote("c"));
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn g14_at_the_deadline_the_round_goes_on_with_enough_answers() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = with_silent("g14");
    training.options.skip_model_tests = true;
    training.federation.round_deadline = Some(0.5);
    let begun = Instant::now();
    let trainer = trained(&db, training, None).await;
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(weights(&trainer).await, [0.25, 0.25]);
    assert!(keys(&db, JobState::Cancelled).await.contains(&"r0/train/c".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn g14_at_the_deadline_too_few_answers_are_an_error() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = with_silent("g14b");
    training.federation.round_deadline = Some(0.3);
    training.federation.min_clients = 3;
    let (trainer, state) = ended(&db, training, None).await;
    assert_eq!(state, State::Error);
    let text = trainer.failures().await.expect("the failures").join("\n");
    assert!(text.contains("`c`: no answer in time"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g23_a_round_closes_a_while_after_enough_answers() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = with_silent("g23");
    training.options.skip_model_tests = true;
    training.federation.min_clients = 2;
    training.federation.wait_time_after_min_received = 0.2;
    training.federation.round_deadline = Some(600.0);
    let begun = Instant::now();
    let trainer = trained(&db, training, None).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(weights(&trainer).await, [0.25, 0.25]);
    // The deadline holds nothing any more.
    assert!(keys(&db, JobState::Blocked).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn g23_a_late_answer_counts_in_the_next_round_where_that_is_declared() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g23b").rounds(2);
    training.sites.push(Site::new("c", superduper_rows("slow once")));
    training.options.skip_model_tests = true;
    training.federation.min_clients = 2;
    training.federation.wait_time_after_min_received = 0.05;
    training.federation.late = Late::NextRound;
    // The second round needs the late one, so that it waits for it.
    training.sites[1].data = Some(Box::new(faulty("")));
    let trainer = trained(&db, training, None).await;
    assert_eq!(trainer.progress().await.expect("progress").round, 2);
    assert!(keys(&db, JobState::Cancelled).await.iter().all(|key| !key.contains("/train/")));
}

fn superduper_rows(fault: &str) -> Rows {
    faulty(fault)
}

#[tokio::test(flavor = "multi_thread")]
async fn g13_a_site_that_leaves_lets_the_round_go_on_at_once() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = with_silent("g13").rounds(2);
    training.options.skip_model_tests = true;
    let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
    trainer.start().await.expect("it starts");
    // It waits for the silent site.
    loop {
        if keys(&db, JobState::Blocked).await == ["r0/train/c"]
            && keys(&db, JobState::Succeeded).await.len() >= 3
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let unknown = trainer.leave("x", "no reason").await.expect_err("no such site");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    trainer.leave("c", "it moved").await.expect("it leaves");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert_eq!(weights(&trainer).await, [0.375, 0.375]);
    // It is not asked again.
    assert!(keys(&db, JobState::Succeeded).await.iter().all(|key| key != "r1/train/c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g24_the_recorded_deadline_holds_after_a_restart() {
    let place = Place::new();
    let begun = Instant::now();
    {
        let db = place.open().await;
        let mut training = with_silent("g24");
        training.options.skip_model_tests = true;
        training.federation.round_deadline = Some(3.0);
        let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
        trainer.start().await.expect("it starts");
        while !keys(&db, JobState::Blocked).await.contains(&"r0/train/c".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        db.close(Duration::from_secs(5)).await.expect("it closes");
    }
    let db = place.open().await;
    db.resume().detach().await.expect("it goes on");
    let trainer = ModelTrainer::open(&db, "g24").await.expect("a trainer");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(4400), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g26_trainings_that_wait_take_no_place_of_others() {
    let place = Place::new();
    let db = place.open_with(4).await;
    for number in 0..8 {
        let training = with_silent(&format!("g26 {number}"));
        let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
        trainer.start().await.expect("it starts");
    }
    // While all of them wait for a silent site, another training runs to its end.
    let other = two_sites("g26 other").rounds(3);
    let trainer = trained(&db, other, None).await;
    assert_eq!(trainer.progress().await.expect("progress").round, 3);
    for number in 0..8 {
        for site in ["a", "b"] {
            wait_until(|| calls(&format!("g26 {number}/{site}/0")) == 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g15_the_result_does_not_depend_on_who_answers_first() {
    let mut results = Vec::new();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let place = Place::new();
        let db = place.open().await;
        let sites = order.map(|site| {
            let values = [[0.1_f32, 0.7], [0.3, 1e-7], [12345.678, 2.0]][site];
            Site::new(["a", "b", "c"][site], rows(&values))
        });
        let training = FederatedTraining::new("g15", mean(3), FedAvg {}).sites(sites).rounds(4);
        let trainer = trained(&db, training, None).await;
        let bits: Vec<u32> = weights(&trainer).await.into_iter().map(f32::to_bits).collect();
        results.push(bits);
    }
    assert!(results.iter().all(|bits| *bits == results[0]), "{results:?}");
}
