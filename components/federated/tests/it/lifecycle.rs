//! Start, rounds, tests, end.

use crate::support::*;
use superduper::prelude::*;
use superduper_federated::{
    LocalModel, ModelTrainer, Site, State, TrainerClass, TrainerOptions, UncertaintyMethod,
    process_trainer_task,
};

#[tokio::test(flavor = "multi_thread")]
async fn g01_a_start_makes_the_training_ongoing_and_tells_the_sites_in_order() {
    let db = Place::new();
    let db = db.open().await;
    let mut training = two_sites("g01");
    training.sites = vec![
        // Its first notification takes longer than the second one would.
        Site::remote("a")
            .endpoint(Book { slow_at: "TRAINING_START".into(), ..Book::named("g01/a") }),
        Site::remote("b").endpoint(Book::named("g01/b")),
    ];
    let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
    assert_eq!(trainer.state().await.expect("a state"), State::Initial);
    trainer.start().await.expect("it starts");
    wait_until(|| told("g01/a").len() == 2 && told("g01/b").len() == 2).await;
    assert_eq!(trainer.state().await.expect("a state"), State::Ongoing);
    for site in ["g01/a", "g01/b"] {
        assert_eq!(told(site), ["TRAINING_START", "UPDATE_ROUND_START{0}"]);
    }
    let again = trainer.start().await.expect_err("it is under way");
    assert!(again.to_string().contains("ONGOING, not INITIAL"), "{again}"); // g03
}

#[tokio::test(flavor = "multi_thread")]
async fn g02_a_training_without_sites_does_not_start() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g02");
    training.sites.clear();
    let mut trainer = ModelTrainer::new(&db, training, None).expect("a trainer");
    trainer.register().await.expect("it is stored");
    for _ in 0..2 {
        let refused = trainer.start().await.expect_err("there is no site");
        let text = refused.to_string();
        assert!(text.contains("at least one participant must be registered"), "{text}");
        assert_eq!(trainer.state().await.expect("a state"), State::Initial);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g04_equal_sites_are_averaged_and_their_updates_deleted() {
    let place = Place::new();
    let db = place.open().await;
    let mut trainer = ModelTrainer::new(&db, two_sites("g04"), None).expect("a trainer");
    trainer.start().await.expect("it starts");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    // From 0, the sites move half way to 0 and to 1: 0 and 0.5.
    assert_eq!(weights(&trainer).await, [0.25, 0.25]);
    assert_eq!(trainer.progress().await.expect("progress").round, 1);
    assert_eq!(locals(&db).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_with_no_test_after_each_round_there_is_one_after_the_last() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g09").rounds(3);
    for site in &mut training.sites {
        site.endpoint = Some(Box::new(Book::named(format!("g09/{}", site.name))));
    }
    let options =
        TrainerOptions { model_test_after_each_round: false, ..TrainerOptions::default() };
    let mut trainer = ModelTrainer::new(&db, training, Some(options)).expect("a trainer");
    trainer.start().await.expect("it starts");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    let tests: Vec<String> =
        told("g09/a").into_iter().filter(|line| line.starts_with("MODEL_TEST")).collect();
    assert_eq!(tests, ["MODEL_TEST_ROUND{3}"]);
    assert!(trainer.progress().await.expect("progress").metrics.contains_key("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g05_updates_are_kept_byte_for_byte_where_the_options_say_so() {
    let place = Place::new();
    let db = place.open().await;
    let options = TrainerOptions {
        delete_local_models_after_aggregation: false,
        ..TrainerOptions::default()
    };
    let trainer = trained(&db, two_sites("g05"), Some(options)).await;
    assert_eq!(locals(&db).await, 2);
    let uuid = trainer.training_uuid().await.expect("a uuid");
    let local: LocalModel = db.load(format!("{uuid}-train-0-b")).await.expect("it is kept");
    let kept = local.weights.get().await.expect("its weights");
    assert_eq!(kept.to_vec::<f32>("w").await.expect("numbers"), [0.5, 0.5]);
    assert_eq!(local.samples, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn g07_without_tests_the_next_round_follows_at_once() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g07").rounds(2);
    tell(&mut training, "g07");
    let options = TrainerOptions { skip_model_tests: true, ..TrainerOptions::default() };
    trained(&db, training, Some(options)).await;
    let wanted =
        ["TRAINING_START", "UPDATE_ROUND_START{0}", "UPDATE_ROUND_START{1}", "TRAINING_FINISHED"];
    let mut found = told("g07/a");
    // Deliveries of different rounds may overtake each other; the first two may not.
    assert_eq!(found[..2], wanted[..2]);
    found.sort_unstable();
    let mut wanted = wanted.map(str::to_owned);
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn g08_the_end_is_told_once_to_each_site_and_the_owner() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g08");
    tell(&mut training, "g08");
    training.actor = Some(Box::new(Book::named("g08/owner")));
    trained(&db, training, None).await;
    for who in ["g08/a", "g08/b"] {
        let ends = told(who).into_iter().filter(|line| line == "TRAINING_FINISHED").count();
        assert_eq!(ends, 1, "{who}");
    }
    assert_eq!(told("g08/owner"), ["TRAINING_FINISHED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g20_a_persistor_loads_once_and_saves_after_each_round() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g20").rounds(3);
    training.persistor = Box::new(Noting { name: "g20".into(), fails_at: None });
    trained(&db, training, None).await;
    assert_eq!((calls("g20/load"), calls("g20/save/1"), calls("g20/save/3")), (1, 1, 1));
    assert_eq!((calls("g20/save/0"), calls("g20/save/4")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn g21_options_reach_a_task_that_is_known_by_uuid_and_event_only() {
    let place = Place::new();
    let db = place.open().await;
    let options = TrainerOptions { skip_model_tests: true, ..TrainerOptions::default() };
    let trainer = trained(&db, two_sites("g21"), Some(options)).await;
    let stored = trainer.training().await.expect("it is stored");
    assert!(stored.options.skip_model_tests);
    let uuid = trainer.training_uuid().await.expect("a uuid");
    let state = process_trainer_task(&db, &uuid, "TrainingRoundFinished").await.expect("handled");
    assert_eq!(state, State::Completed);
    let unknown = process_trainer_task(&db, "not-there", "ModelTestFinished").await;
    let unknown = unknown.expect_err("no such training");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let unknown = process_trainer_task(&db, &uuid, "Nothing").await.expect_err("no such event");
    let text = format!("{unknown} {}", unknown.hint().unwrap_or_default());
    assert!(text.contains("`Nothing`") && text.contains("SwagRoundFinished"), "{text}");
    let plain = two_sites("x");
    assert_eq!(ModelTrainer::get_trainer_class(&plain), TrainerClass::ModelTrainer);
    let mut swag = two_sites("x");
    swag.uncertainty = UncertaintyMethod::Swag { samples: 2 };
    assert_eq!(ModelTrainer::get_trainer_class(&swag), TrainerClass::SwagModelTrainer);
}
