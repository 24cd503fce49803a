//! Sites and phases that fail.

use crate::support::*;
use superduper::{prelude::*, store::JobState};
use superduper_federated::{Site, SiteJobs, State, TrainerOptions};

/// Two good sites, and one with a fault.
fn with_fault(name: &str, fault: &str) -> superduper_federated::FederatedTraining {
    let mut training = two_sites(name);
    training.sites.push(Site::new("c", faulty(fault)));
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_tensor_of_another_shape_or_name_is_an_error_that_names_site_and_tensor() {
    for fault in ["shape", "name"] {
        let place = Place::new();
        let db = place.open().await;
        let options = TrainerOptions {
            delete_local_models_after_aggregation: false,
            ..TrainerOptions::default()
        };
        let training = with_fault(&format!("g12 {fault}"), fault);
        let (trainer, state) = ended(&db, training, Some(options)).await;
        assert_eq!(state, State::Error);
        let failures = trainer.failures().await.expect("the failures").join("\n");
        assert!(failures.contains("site `c`") && failures.contains("tensor `w`"), "{failures}");
        assert_eq!(locals(&db).await, 3, "updates are kept");
        assert_eq!(trainer.progress().await.expect("progress").round, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_a_site_that_fails_is_an_answer_and_the_round_goes_on() {
    for fault in ["panic", "error", "slow"] {
        let place = Place::new();
        let db = place.open().await;
        let mut training = with_fault(&format!("g22 {fault}"), fault).rounds(2);
        if fault == "slow" {
            training.sites[2].jobs = SiteJobs { timeout: Some(0.2), ..SiteJobs::default() };
        }
        let trainer = trained(&db, training, None).await;
        assert_eq!(trainer.progress().await.expect("progress").round, 2, "{fault}");
        // Of the others: 0.25 after the first round, then (0.125 + 0.625) / 2.
        assert_eq!(weights(&trainer).await, [0.375, 0.375], "{fault}");
        let status = db.status(trainer_address(&db).await).await.expect("a status");
        assert_eq!(status.health(), superduper::store::Health::Ready, "{fault}: {status:?}");
    }
}

async fn trainer_address(db: &Db) -> Address {
    let all = db.list().await.expect("the list");
    let found = all.into_iter().find(|one| one.address.kind == "superduper.FederatedTraining");
    found.expect("the training is stored").address.unversioned()
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_below_the_least_number_of_answers_each_reason_is_told() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = with_fault("g22b", "error");
    training.sites[1].data = Some(Box::new(faulty("panic")));
    training.federation.min_clients = 3;
    let (trainer, state) = ended(&db, training, None).await;
    assert_eq!(state, State::Error);
    let text = trainer.failures().await.expect("the failures").join("\n");
    assert!(text.contains("needs 3 answers, but has 1"), "{text}");
    assert!(text.contains("`b`: EXECUTION_EXCEPTION") && text.contains("panics"), "{text}");
    assert!(text.contains("`c`: EXECUTION_EXCEPTION: the site fails"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g22_applied_again_the_sites_of_a_round_with_too_few_answers_are_asked_again() {
    for (name, fault) in [("g22 again", "error first"), ("g22 swag", "no moments first")] {
        let place = Place::new();
        let db = place.open().await;
        let make = || {
            let mut training = with_fault(name, fault).rounds(2);
            training.federation.min_clients = 3;
            training.uncertainty = superduper_federated::UncertaintyMethod::Swag { samples: 3 };
            training
        };
        let (trainer, state) = ended(&db, make(), None).await;
        assert_eq!(state, State::Error, "{name}");
        let text = trainer.failures().await.expect("the failures").join("\n");
        assert!(text.contains("`c`: EXECUTION_EXCEPTION: the site is away"), "{text}");
        // Once in vain, then with success.
        for _ in 0..2 {
            let again = db.apply(make()).await;
            if calls(&format!("{name}/mended")) == 0 {
                again.expect_err("the site is still away");
                assert_eq!(trainer.state().await.expect("a state"), State::Error, "{name}");
                count(format!("{name}/mended"));
            } else {
                again.expect("it goes on");
            }
        }
        assert_eq!(trainer.state().await.expect("a state"), State::Completed, "{name}");
        assert_eq!(trainer.progress().await.expect("progress").round, 2, "{name}");
        assert_eq!(locals(&db).await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g30_a_site_that_sends_nan_is_refused_and_the_mean_is_of_the_others() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = trained(&db, with_fault("g30", "nan"), None).await;
    assert_eq!(weights(&trainer).await, [0.25, 0.25]);
    let jobs = db.jobs(superduper::store::JobFilter::default()).await.expect("the jobs");
    let refused = jobs.iter().find(|job| job.key.as_deref() == Some("r0/train/c"));
    let refused = refused.and_then(|job| job.result.clone()).expect("an answer").to_string();
    assert!(refused.contains("BAD_TASK_DATA") && refused.contains("tensor `w`"), "{refused}");
    assert!(refused.contains("element 0"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g27_an_aggregation_that_fails_is_repeated_alone_when_applied_again() {
    let place = Place::new();
    let db = place.open().await;
    let make = || {
        let mut training = two_sites("g27").rounds(5);
        training.persistor = Box::new(Noting { name: "g27".into(), fails_at: Some(4) });
        training
    };
    let (trainer, state) = ended(&db, make(), None).await;
    assert_eq!(state, State::Error);
    let text = trainer.failures().await.expect("the failures").join("\n");
    assert!(text.contains("the disk is full") && text.contains("round 4"), "{text}");
    assert_eq!(trainer.progress().await.expect("progress").round, 3);
    count("g27/mended".to_owned());
    db.apply(make()).await.expect("it goes on");
    assert_eq!(trainer.state().await.expect("a state"), State::Completed);
    assert_eq!(trainer.progress().await.expect("progress").round, 5);
    for round in 0..5 {
        for site in ["a", "b"] {
            assert_eq!(calls(&format!("g27/{site}/{round}")), 1, "site {site}, round {round}");
        }
        let saves = if round == 3 { 2 } else { 1 };
        assert_eq!(calls(&format!("g27/save/{}", round + 1)), saves);
    }
    assert_eq!(calls("g27/load"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g39_the_policy_of_a_site_holds_in_every_round() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g39").rounds(2);
    training.sites[0].jobs =
        SiteJobs { pool: Some(("gpu".into(), 1)), retries: Some(2), ..SiteJobs::default() };
    trained(&db, training, None).await;
    let filter =
        superduper::store::JobFilter { method: Some("site_task".into()), ..Default::default() };
    let jobs = db.jobs(filter).await.expect("the jobs");
    for job in jobs {
        let is_a = job.key.as_deref().is_some_and(|key| key.ends_with("/a"));
        let has_pool = job.executor.as_deref().is_some_and(|text| text.contains("gpu"));
        assert_eq!((has_pool, job.retries), (is_a, if is_a { 2 } else { 0 }), "{:?}", job.key);
        assert_eq!(job.state, JobState::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g27_a_round_with_too_few_answers_is_asked_again_when_applied_again() {
    let place = Place::new();
    let db = place.open().await;
    let make = || {
        let mut training = with_fault("g27b", "error once");
        training.federation.min_clients = 3;
        training
    };
    let (trainer, state) = ended(&db, make(), None).await;
    assert_eq!(state, State::Error);
    db.apply(make()).await.expect("it goes on");
    assert_eq!(trainer.wait(LONG).await.expect("it ends"), State::Completed);
    assert_eq!(trainer.progress().await.expect("progress").round, 1);
    assert_eq!(calls("g27b/c/0"), 2, "the site was asked again");
}
