//! Deliveries that fail, are rejected, or hang.

use crate::support::*;
use superduper_federated::{ModelTrainer, Site, State};

#[tokio::test(flavor = "multi_thread")]
async fn g37_a_rejected_notification_removes_the_site_and_the_others_are_told() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g37").rounds(2);
    tell(&mut training, "g37");
    training.sites.push(
        Site::remote("c")
            .endpoint(Book { rejects: vec!["UPDATE_ROUND_START".into()], ..Book::named("g37/c") }),
    );
    let trainer = trained(&db, training, None).await;
    assert_eq!(trainer.state().await.expect("a state"), State::Completed);
    assert_eq!(weights(&trainer).await, [0.375, 0.375]);
    assert_eq!(told("g37/c"), ["TRAINING_START"]);
    for who in ["g37/a", "g37/b"] {
        let removed = told(who).into_iter().filter(|line| line == "CLIENT_REMOVED").count();
        assert_eq!(removed, 1, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g36_a_delivery_that_failed_is_tried_again_with_the_same_key_and_content() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g36");
    training.federation.delivery.pause = 0.01;
    training.sites[0].endpoint = Some(Box::new(Book { fails: 3, ..Book::named("g36/a") }));
    trained(&db, training, None).await;
    let mut found = told("g36/a");
    found.sort_unstable();
    let wanted =
        ["MODEL_TEST_ROUND{1}", "TRAINING_FINISHED", "TRAINING_START", "UPDATE_ROUND_START{0}"];
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn g37_an_endpoint_that_is_away_for_good_leaves_after_its_retries() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g37c");
    training.federation.delivery.pause = 0.01;
    training.federation.delivery.retries = 2;
    training.sites.push(Site::remote("c").endpoint(Book { fails: 1000, ..Book::named("g37c/c") }));
    let trainer = trained(&db, training, None).await;
    assert_eq!(weights(&trainer).await, [0.25, 0.25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g37_an_endpoint_that_hangs_holds_up_no_other_one() {
    let place = Place::new();
    let db = place.open_with(2).await;
    let mut training = two_sites("g37h");
    training.sites = (0..10)
        .map(|number| {
            let name = format!("g37h/{number}");
            let book = Book { hangs: number < 3, ..Book::named(name) };
            Site::remote(format!("{number}")).endpoint(book)
        })
        .collect();
    let begun = std::time::Instant::now();
    let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
    trainer.start().await.expect("it starts");
    wait_until(|| (3..10).all(|number| told(&format!("g37h/{number}")).len() == 2)).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}
