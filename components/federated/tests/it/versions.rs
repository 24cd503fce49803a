//! Applying a training again.

use crate::support::*;
use superduper::store::JobFilter;
use superduper_federated::{ModelTrainer, State};

#[tokio::test(flavor = "multi_thread")]
async fn g38_applying_a_finished_training_again_runs_and_writes_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let mut slow = two_sites("g38").rounds(2);
    slow.sites.push(superduper_federated::Site::remote("c"));
    slow.federation.min_clients = 2;
    slow.federation.wait_time_after_min_received = 0.05;
    slow.options.skip_model_tests = true;
    let make = || {
        let mut again = two_sites("g38").rounds(2);
        again.sites.push(superduper_federated::Site::remote("c"));
        again.federation.min_clients = 2;
        again.federation.wait_time_after_min_received = 0.05;
        again.options.skip_model_tests = true;
        again
    };
    let trainer = trained(&db, slow, None).await;
    let uuid = trainer.training_uuid().await.expect("a uuid");
    let jobs = db.jobs(JobFilter::default()).await.expect("the jobs").len();
    let plan = db.plan(make()).await.expect("a plan");
    assert!(plan.is_empty(), "{plan}");
    db.apply(make()).await.expect("nothing to do");
    assert_eq!(db.jobs(JobFilter::default()).await.expect("the jobs").len(), jobs);
    assert_eq!(trainer.training_uuid().await.expect("a uuid"), uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn g31_more_rounds_go_on_and_another_model_is_another_training() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = trained(&db, two_sites("g31").rounds(2), None).await;
    let uuid = trainer.training_uuid().await.expect("a uuid");
    let two = weights(&trainer).await;
    db.apply(two_sites("g31").rounds(3)).await.expect("it goes on");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert_eq!(trainer.training_uuid().await.expect("a uuid"), uuid);
    assert_eq!(trainer.progress().await.expect("progress").round, 3);
    assert_eq!(calls("g31/a/0"), 1, "round 0 is not repeated");
    assert_eq!(calls("g31/a/2"), 1);
    assert_ne!(weights(&trainer).await, two);

    let mut other = two_sites("g31").rounds(1);
    other.seed = 7;
    db.apply(other).await.expect("another training");
    assert_eq!(trainer.progress().await.expect("progress").round, 1);
    assert_ne!(trainer.training_uuid().await.expect("a uuid"), uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn g38_a_registered_training_gets_its_uuid_when_it_starts() {
    let place = Place::new();
    let db = place.open().await;
    let mut trainer = ModelTrainer::new(&db, two_sites("g38b"), None).expect("a trainer");
    trainer.register().await.expect("it is stored");
    assert_eq!(trainer.state().await.expect("a state"), State::Initial);
    assert!(trainer.training_uuid().await.is_err());
    let mut trainer = ModelTrainer::open(&db, "g38b").await.expect("a trainer");
    trainer.start().await.expect("it starts");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert!(trainer.training_uuid().await.is_ok());
}

#[test]
fn what_does_not_fit_together_is_refused_when_it_is_built() {
    let db = tokio::runtime::Runtime::new().expect("a runtime");
    let place = Place::new();
    let db = db.block_on(place.open());
    let refused = |change: fn(&mut superduper_federated::FederatedTraining)| {
        let mut training = two_sites("bad");
        change(&mut training);
        ModelTrainer::new(&db, training, None).expect_err("it is refused").to_string()
    };
    let text = refused(|training| training.sites[1].name = "a".into());
    assert!(text.contains("site `a` is there twice"), "{text}");
    let text = refused(|training| training.federation.min_clients = 3);
    assert!(text.contains("`min_clients` is 3, but there are 2 sites"), "{text}");
    let text = refused(|training| training.config.learning_rate = -1.0);
    assert!(text.contains("learning_rate"), "{text}");
    let text = refused(|training| training.federation.round_deadline = Some(-1.0));
    assert!(text.contains("round_deadline"), "{text}");
    let text = refused(|training| training.sites[0].jobs.timeout = Some(-1.0));
    assert!(text.contains("site `a`") && text.contains("`jobs.timeout` is -1"), "{text}");
    let text = refused(|training| training.sites[0].name = "a/b".into());
    assert!(text.contains("site `a/b`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g31_another_version_waits_for_no_round_of_the_old_one() {
    let place = Place::new();
    let db = place.open().await;
    let mut silent = two_sites("g31v");
    silent.sites.push(superduper_federated::Site::remote("c"));
    let mut old = ModelTrainer::new(&db, silent, None).expect("a trainer");
    old.start().await.expect("it starts");
    wait_until(|| calls("g31v/a/0") == 1).await;
    // The old version waits for its silent site.
    let mut new = ModelTrainer::new(&db, two_sites("g31v"), None).expect("a trainer");
    new.register().await.expect("it is stored");
    assert_eq!(new.state().await.expect("a state"), State::Initial);
    let mut new = ModelTrainer::open(&db, "g31v").await.expect("a trainer");
    new.start().await.expect("the new version starts");
    assert_eq!(new.wait(LONG).await.expect("it ends"), State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn g38_going_back_to_a_finished_training_has_its_model_and_trains_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = trained(&db, two_sites("g38r").rounds(2), None).await;
    let model = weights(&trainer).await;
    let mut other = two_sites("g38r");
    other.seed = 7;
    db.apply(other).await.expect("another training");
    assert_ne!(weights(&trainer).await, model);
    // Outputs of a version of equal content stand.
    db.apply(two_sites("g38r").rounds(2)).await.expect("the first one");
    assert_eq!(trainer.state().await.expect("a state"), State::Completed);
    assert_eq!(weights(&trainer).await, model);
    assert_eq!(calls("g38r/a/1"), 1, "nothing was trained again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_is_removed_leaves_nothing_behind() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("gone");
    training.sites.push(superduper_federated::Site::remote("c"));
    let options = superduper_federated::TrainerOptions {
        delete_local_models_after_aggregation: false,
        ..Default::default()
    };
    let mut trainer = ModelTrainer::new(&db, training, Some(options)).expect("a trainer");
    trainer.start().await.expect("it starts");
    wait_until(|| calls("gone/a/0") == 1).await;
    trainer.leave("c", "it moved").await.expect("it leaves");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert_eq!(locals(&db).await, 2);
    db.remove::<superduper_federated::FederatedTraining>("gone").await.expect("it is removed");
    let left = db.list().await.expect("the list");
    assert!(left.is_empty(), "{left:?}");
}
