//! Decisions of a site's gate about trainings.

use crate::support::*;
use std::sync::atomic::Ordering;
use superduper::{prelude::*, store::Timestamp};
use superduper_access::{
    GENERAL_MODELLER, GovernedSite, Outcome, Right, SUPER_MODELLER, SitePolicy,
};
use superduper_federated::{
    CarriedCode, ClientExecutor, DefaultExecutor, FederatedModel, Reply, ReturnCode, SiteContext,
    State, Task, Tested, Trained, federates,
};

/// The text of the only failure of a training.
async fn why(trainer: &superduper_federated::ModelTrainer) -> String {
    trainer.failures().await.unwrap().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn p01_a_super_modeller_runs_unvetted_code() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    let error = owner.grant_role("b", "alice", SUPER_MODELLER).await.unwrap_err().to_string();
    assert!(
        error.contains("`alice` can run any code at `b`") && error.contains(".confirm()"),
        "{error}"
    );
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let (_, state) = ended(&db, training("p01", Bare { identifier: "bare".into() })).await;
    assert_eq!(state, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn p02_a_general_modeller_runs_what_the_site_lists() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).purpose("studies").await.unwrap();
    let (_, state) = ended(&db, training("p02", Other { identifier: "other".into() })).await;
    assert_eq!(state, State::Completed);
    let entries = owner.audit("b").await.unwrap();
    let last = &entries.last().unwrap().record;
    assert_eq!((last.outcome, last.right), (Outcome::Allow, Right::RunBuiltin));
    assert!(last.rule.contains(GENERAL_MODELLER), "{}", last.rule);
}

/// Claims nothing and does what the default does.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Attached {}

#[typetag::serde(name = "access-it.Attached")]
impl ClientExecutor for Attached {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

/// Says that it runs in the sandbox, and does not.
#[derive(Component, Clone)]
#[component(kind = "access-it.Claims", source)]
struct Claims {
    identifier: String,
}
federates!(Claims);

#[source]
impl FederatedModel for Claims {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[1], &[0.0_f32])
    }
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        crate::hold::trained(weights, ctx)
    }
    fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
    fn carried_code(&self) -> Option<CarriedCode> {
        let digest = superduper::Digest::of(b"a module that was granted");
        Some(CarriedCode { digest, about: "a harmless module".into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_native_model_that_says_it_is_sandboxed_is_custom() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut open = site("b", &owner);
    open.allow_sandboxed = true;
    owner.govern(open).await.unwrap();
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let claims = training("claims", Claims { identifier: "claims".into() });
    let digest = superduper::Digest::of(b"a module that was granted");
    assert_ne!(claims.source_digest().unwrap(), digest);
    started(&db, claims).await;
    let why = db.why(blocked(&db).await.id).await.unwrap().to_string();
    assert!(why.contains("a grant of `access-it.Claims`"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_listed_model_with_attached_code_is_custom() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let mut training = training("p11", Other { identifier: "other".into() });
    training.executor = Box::new(Attached {});
    let (trainer, state) = ended(&db, training).await;
    assert_eq!(state, State::Error);
    let why = why(&trainer).await;
    assert!(why.contains("not all custom code of `access-it.Other` is captured"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_without_a_role_the_site_is_not_even_visible() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    assert_eq!(alice(&db).sites().await.unwrap(), [""; 0]);
    let (trainer, state) = ended(&db, training("p06", model())).await;
    assert_eq!(state, State::Error);
    let text = why(&trainer).await;
    assert!(text.contains("NOT_PERMITTED: site `b` was not found"), "{text}");
    // The same words as for a site that does not exist.
    let unknown = alice(&db).request("nowhere", &training("x", model()), "study").await;
    let hidden = alice(&db).request("b", &training("x", model()), "study").await;
    let (unknown, hidden) = (unknown.unwrap_err(), hidden.unwrap_err());
    assert_eq!(unknown.kind(), hidden.kind());
    assert_eq!(unknown.to_string().replace("nowhere", "b"), hidden.to_string());
    assert!(owner.sites().await.unwrap().contains(&"b".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p07_the_owner_runs_anything_at_the_own_site() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut closed: GovernedSite = site("b", &owner);
    closed.policy = SitePolicy::closed();
    owner.govern(closed).await.unwrap();
    let mut training = training("p07", Bare { identifier: "bare".into() });
    let by = training.submitter.as_mut().unwrap();
    by.user = "dr_b".into();
    by.organisation = Some("clinic".into());
    assert_eq!(ended(&db, training).await.1, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_a_training_without_submitter_or_purpose_is_denied() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let mut nobody = training("p13a", model());
    nobody.submitter = None;
    let (trainer, _) = ended(&db, nobody).await;
    assert!(why(&trainer).await.contains("the training names no submitter"));
    let mut aimless = training("p13b", model());
    aimless.submitter.as_mut().unwrap().purpose.clear();
    let (trainer, _) = ended(&db, aimless).await;
    assert!(why(&trainer).await.contains("the training has no purpose"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p21_what_is_revoked_during_a_round_ends_the_next_one() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    crate::hold::HOLD.store(true, Ordering::SeqCst);
    let trainer = started(&db, training("p21", model()).rounds(4)).await;
    tokio::time::timeout(LONG, async {
        while trainer.progress().await.unwrap().round < 1
            || trainer.answers("train", 0).await.unwrap().is_empty()
            || owner
                .audit("b")
                .await
                .unwrap()
                .iter()
                .filter(|entry| entry.record.task.is_some())
                .count()
                < 2
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    owner.revoke_role("b", "alice", SUPER_MODELLER).await.unwrap();
    crate::hold::HOLD.store(false, Ordering::SeqCst);
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    assert_eq!(trainer.answers("train", 1).await.unwrap()["b"].code, ReturnCode::Ok);
    assert_eq!(trainer.answers("train", 2).await.unwrap()["b"].code, ReturnCode::NotPermitted);
    let tasks: Vec<Outcome> = owner
        .audit("b")
        .await
        .unwrap()
        .into_iter()
        .filter(|entry| entry.record.task.is_some())
        .map(|entry| entry.record.outcome)
        .collect();
    assert_eq!(tasks, [Outcome::Allow, Outcome::Allow, Outcome::Deny]);
    assert!(owner.revoke_role("b", "alice", SUPER_MODELLER).await.is_err(), "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p22_a_role_that_has_ended_is_none() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    let soon = Timestamp(Timestamp::now().0 + 3_600_000);
    let past = Timestamp(Timestamp::now().0 - 1);
    owner.grant_role("b", "alice", SUPER_MODELLER).until(past).confirm().await.unwrap();
    assert_eq!(ended(&db, training("p22a", model())).await.1, State::Error);
    owner.grant_role("b", "alice", SUPER_MODELLER).until(soon).confirm().await.unwrap();
    assert_eq!(ended(&db, training("p22b", model())).await.1, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_role_that_the_site_gave_up_gives_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut own = site("b", &owner);
    let guest = superduper_access::Role {
        includes: vec![SUPER_MODELLER.into()],
        ..superduper_access::Role::default()
    };
    own.roles = own.roles.with("guest", guest).unwrap();
    owner.govern(own).await.unwrap();
    let error = owner.grant_role("b", "alice", "guest").await.unwrap_err().to_string();
    assert!(error.contains("can run any code"), "{error}");
    owner.grant_role("b", "alice", "guest").confirm().await.unwrap();
    assert_eq!(ended(&db, training("p12a", model())).await.1, State::Completed);
    owner.govern(site("b", &owner)).await.unwrap();
    assert_eq!(ended(&db, training("p12x", model())).await.1, State::Error);
    let last = owner.audit("b").await.unwrap().pop().unwrap().record;
    assert_eq!(last.outcome, Outcome::Deny);
    assert!(alice(&db).sites().await.unwrap().is_empty(), "and the list goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_training_cannot_leave_the_gate_of_a_governed_site_out() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Open {}

    #[typetag::serde(name = "access-it.Open")]
    impl superduper_federated::Gate for Open {
        fn allow<'a>(
            &'a self,
            _: &'a Db,
            _: &'a superduper_federated::Request,
        ) -> superduper::BoxFuture<'a, Result<superduper_federated::Decision>> {
            Box::pin(async { Ok(superduper_federated::Decision::Allow) })
        }
    }

    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    let before = owner.audit("b").await.unwrap().len();
    for (number, gate) in [None, Some(Box::new(Open {}) as Box<dyn superduper_federated::Gate>)]
        .into_iter()
        .enumerate()
    {
        let mut bare = training(&format!("p11g{number}"), model());
        bare.sites[0].gate = gate;
        let preview = bare.preview(&db).await.unwrap().to_string();
        assert!(preview.contains("site `b` was not found"), "{preview}");
        let (trainer, state) = ended(&db, bare).await;
        assert_eq!(state, State::Error);
        assert!(why(&trainer).await.contains("site `b` was not found"));
    }
    assert_eq!(owner.audit("b").await.unwrap().len(), before + 2);
    // A site that is not governed is nobody's business, and one with the gate is asked once.
    let mut free = training("p11f", model());
    free.sites[0] = superduper_federated::Site::new("free", Rows(vec![1.0]));
    assert_eq!(ended(&db, free).await.1, State::Completed);
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let before = owner.audit("b").await.unwrap().len();
    assert_eq!(ended(&db, training("p11o", model())).await.1, State::Completed);
    assert_eq!(owner.audit("b").await.unwrap().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_code_beside_the_model_is_custom_too() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Own {}

    #[typetag::serde(name = "access-it.OwnEndpoint")]
    impl superduper_federated::Endpoint for Own {
        fn deliver<'a>(
            &'a self,
            _: &'a superduper_federated::Notification,
        ) -> superduper::BoxFuture<'a, Result<superduper_federated::Delivery>> {
            Box::pin(async { Ok(superduper_federated::Delivery::Accepted) })
        }
    }

    let mut listed = training("p11e", Other { identifier: "other".into() });
    listed.sites[0].endpoint = Some(Box::new(Own {}));
    let uncovered = listed.uncovered_source().unwrap().join("; ");
    assert!(uncovered.contains("the endpoint") && uncovered.contains("Own"), "{uncovered}");
    let (trainer, state) = ended(&db, listed).await;
    assert_eq!(state, State::Error);
    assert!(why(&trainer).await.contains("`run_model` at site `b`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p28_a_blocked_organisation_is_that_which_the_owner_has_on_record() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut strict = site("b", &owner);
    strict.policy = SitePolicy::open().rules(Right::RunModel, ["any", "not o:acme"]).unwrap();
    owner.govern(strict).await.unwrap();
    let of_acme = superduper_access::Principal::user("alice").of("acme");
    owner.grant_role("b", of_acme, SUPER_MODELLER).confirm().await.unwrap();
    // She says that she is of `lab`.
    let (trainer, state) = ended(&db, training("p28o", model())).await;
    assert_eq!(state, State::Error);
    assert!(why(&trainer).await.contains("not o:acme"), "{}", why(&trainer).await);
}
