//! Sites that are somewhere else, and what they send.

use crate::support::*;
use std::collections::BTreeMap;
use superduper::prelude::*;
use superduper_federated::{
    FedAvg, FederatedTraining, Late, ModelTrainer, Receipt, Site, State, UncertaintyMethod,
};

fn remote(name: &str) -> FederatedTraining {
    let sites =
        ["a", "b"].map(|site| Site::remote(site).endpoint(Book::named(format!("{name}/{site}"))));
    FederatedTraining::new(name, mean(2), FedAvg {}).sites(sites)
}

fn tensors(value: f32) -> Tensors {
    Tensors::new().with("w", &[2], &[value; 2]).expect("tensors")
}

async fn started(db: &Db, training: FederatedTraining) -> ModelTrainer {
    let mut trainer = ModelTrainer::new(db, training, None).expect("a trainer");
    trainer.start().await.expect("it starts");
    trainer
}

async fn wait_told(name: &str, what: &str) {
    wait_until(|| told(name).iter().any(|line| line == what)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g04_updates_0_and_1_of_equal_size_give_one_half() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = started(&db, remote("g04r")).await;
    wait_told("g04r/b", "UPDATE_ROUND_START{0}").await;
    assert_eq!(
        trainer.receive_update("a", 0, 10, tensors(0.0)).await.expect("taken"),
        Receipt::Accepted
    );
    trainer.receive_update("b", 0, 10, tensors(1.0)).await.expect("taken");
    wait_told("g04r/a", "MODEL_TEST_ROUND{1}").await;
    assert_eq!(weights(&trainer).await, [0.5, 0.5]);
    assert_eq!(trainer.progress().await.expect("progress").round, 1);
    let metrics = BTreeMap::from([("accuracy".to_owned(), 0.5)]);
    trainer.receive_metrics("a", 1, 10, metrics.clone()).await.expect("taken");
    trainer
        .receive_metrics("b", 1, 30, BTreeMap::from([("accuracy".to_owned(), 0.9)]))
        .await
        .expect("taken");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    let found = trainer.progress().await.expect("progress").metrics["accuracy"];
    assert!((found - 0.8).abs() < 1e-12, "{found}");
    assert_eq!(locals(&db).await, 0, "nothing is left of updates and metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_what_does_not_fit_is_refused_each_by_its_own_error() {
    let place = Place::new();
    let db = place.open().await;
    let mut trainer = ModelTrainer::new(&db, remote("g10"), None).expect("a trainer");
    trainer.register().await.expect("it is stored");
    let refused = |result: Result<Receipt>| result.expect_err("it is refused").to_string();
    let text = refused(trainer.receive_update("a", 0, 1, tensors(0.0)).await);
    assert!(text.contains("is in state INITIAL"), "{text}");
    let mut trainer = ModelTrainer::open(&db, "g10").await.expect("a trainer");
    trainer.start().await.expect("it starts");
    wait_told("g10/a", "UPDATE_ROUND_START{0}").await;
    let text = refused(trainer.receive_update("x", 0, 1, tensors(0.0)).await);
    assert!(text.contains("`x` is no participant"), "{text}");
    let text = refused(trainer.receive_update("a", 3, 1, tensors(0.0)).await);
    assert!(text.contains("is in round 0, not in round 3"), "{text}");
    let wrong = Tensors::new().with("w", &[3], &[0.0_f32; 3]).expect("tensors");
    let text = refused(trainer.receive_update("a", 0, 1, wrong).await);
    assert!(text.contains("site `a`") && text.contains("tensor `w`"), "{text}");
    let text = refused(trainer.receive_update("a", 0, 1, tensors(f32::NAN)).await);
    assert!(text.contains("element 0"), "{text}");
    let text = refused(trainer.receive_moments("a", 0, 1, tensors(0.0), tensors(1.0)).await);
    assert!(text.contains("is in state ONGOING"), "{text}");
    let missing = ModelTrainer::open(&db, "other").await.expect_err("no such training");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(locals(&db).await, 0, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn g25_of_many_equal_or_different_updates_exactly_one_counts() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = started(&db, remote("g25")).await;
    wait_told("g25/a", "UPDATE_ROUND_START{0}").await;
    let receipts = [
        trainer.receive_update("a", 0, 10, tensors(0.0)).await.expect("taken"),
        trainer.receive_update("a", 0, 10, tensors(0.0)).await.expect("taken"),
    ];
    assert_eq!(receipts, [Receipt::Accepted, Receipt::Repeated]);
    let other = trainer.receive_update("a", 0, 10, tensors(2.0)).await.expect_err("refused");
    assert!(other.to_string().contains("has answered round 0"), "{other}");
    // A race of different senders, in databases of their own.
    let mut senders = Vec::new();
    for number in 0..20 {
        let rival = place.open().await;
        senders.push(tokio::spawn(async move {
            let trainer = ModelTrainer::open(&rival, "g25").await.expect("a trainer");
            trainer.receive_update("b", 0, 10, tensors(number as f32)).await.is_ok()
        }));
    }
    let mut taken = 0;
    for sender in senders {
        taken += usize::from(sender.await.expect("no panic"));
    }
    assert_eq!(taken, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g16_moments_are_merged_and_the_training_goes_on() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = remote("g16");
    training.uncertainty = UncertaintyMethod::Swag { samples: 10 };
    training.options.skip_model_tests = true;
    let trainer = started(&db, training).await;
    wait_told("g16/a", "UPDATE_ROUND_START{0}").await;
    wait_told("g16/b", "UPDATE_ROUND_START{0}").await;
    for site in ["a", "b"] {
        trainer.receive_update(site, 0, 1000, tensors(1.0)).await.expect("taken");
    }
    wait_told("g16/b", "SWAG_ROUND_START{1}").await;
    wait_told("g16/a", "SWAG_ROUND_START{1}").await;
    assert_eq!(trainer.state().await.expect("a state"), State::SwagRound);
    for site in ["a", "b"] {
        trainer.receive_moments(site, 1, 1000, tensors(0.0), tensors(1.0)).await.expect("taken");
    }
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    let global = trainer.global().await.expect("a model");
    for (moment, wanted) in [(&global.first_moment, 0.0_f32), (&global.second_moment, 1.0)] {
        let moment = moment.as_ref().expect("a moment").get().await.expect("its tensors");
        assert_eq!(moment.to_vec::<f32>("w").await.expect("numbers"), [wanted, wanted]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g23_a_remote_answer_that_is_late_counts_next_round_or_is_refused() {
    for late in [Late::NextRound, Late::Drop] {
        let place = Place::new();
        let db = place.open().await;
        let name = format!("g23 {late:?}");
        let mut training = remote(&name).rounds(2);
        training.sites.push(Site::new("c", rows(&[0.0])));
        training.options.skip_model_tests = true;
        training.federation.min_clients = 2;
        training.federation.wait_time_after_min_received = 0.0;
        training.federation.late = late;
        let trainer = started(&db, training).await;
        wait_told(&format!("{name}/a"), "UPDATE_ROUND_START{0}").await;
        trainer.receive_update("a", 0, 1, tensors(1.0)).await.expect("taken");
        wait_told(&format!("{name}/a"), "UPDATE_ROUND_START{1}").await;
        let answer = trainer.receive_update("b", 0, 2, tensors(1.0)).await;
        let waits = !told(&format!("{name}/b")).contains(&"UPDATE_ROUND_START{1}".to_owned());
        if late == Late::Drop {
            let text = answer.expect_err("it is too late").to_string();
            assert!(text.contains("is in round 1, not in round 0"), "{text}");
            trainer.receive_update("a", 1, 1, tensors(1.0)).await.expect("taken");
        } else {
            assert_eq!(answer.expect("it counts in round 1"), Receipt::Accepted);
            assert!(waits, "it was not asked again");
        }
        assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
        if late == Late::NextRound {
            // In round 1: b, 2 rows of 1; c, 1 row of a half of the mean of round 0.
            assert_eq!(weights(&trainer).await, [0.75, 0.75]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g14_a_model_test_ends_at_the_deadline_also_without_an_answer() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = remote("g14t");
    training.sites.truncate(1);
    training.federation.round_deadline = Some(1.0);
    let trainer = started(&db, training).await;
    wait_told("g14t/a", "UPDATE_ROUND_START{0}").await;
    trainer.receive_update("a", 0, 1, tensors(1.0)).await.expect("taken");
    wait_told("g14t/a", "MODEL_TEST_ROUND{1}").await;
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert!(trainer.progress().await.expect("progress").metrics.is_empty());
}
