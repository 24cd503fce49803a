//! Keys, signed requests and signed heads of the audit.

use crate::support::*;
use std::time::Duration;
use superduper::{ErrorKind, Secret, prelude::*};
use superduper_access::{
    Access, AccessRequest, GENERAL_MODELLER, Outcome, Principal, PublicKey, SUPER_MODELLER,
    SignedHead, SigningKey,
};
use superduper_federated::{
    ClientExecutor, DefaultExecutor, FederatedTraining, Reply, ReturnCode, SiteContext, State,
    Submitter, Task,
};

/// A database with site `b`, where alice is a super modeller whose key is on record.
async fn with_key(db: &Db) -> (Access, Access, SigningKey) {
    let owner = govern(db).await;
    let key = SigningKey::generate().unwrap();
    let role = owner.grant_role("b", Principal::user("alice").of("lab"), SUPER_MODELLER);
    role.key(key.public()).confirm().await.unwrap();
    (owner, alice(db).with_key(key.clone()), key)
}

fn signed(access: &Access, name: &str) -> FederatedTraining {
    signed_of(access, training(name, model()))
}

fn signed_of(access: &Access, training: FederatedTraining) -> FederatedTraining {
    let mut signed = training;
    signed.submitter = Some(access.signed(&signed, "study 7").unwrap());
    signed
}

/// The reason of the denial of a training, which has run nothing.
async fn refusal(db: &Db, training: FederatedTraining) -> String {
    let (trainer, state) = ended(db, training).await;
    assert_eq!(state, State::Error);
    let answer = trainer.answers("train", 0).await.unwrap().remove("b").unwrap();
    assert_eq!((answer.code, answer.samples), (ReturnCode::NotPermitted, 0), "nothing ran");
    answer.reason
}

fn with(training: FederatedTraining, edit: impl Fn(&mut Value)) -> FederatedTraining {
    let mut training = training;
    let submitter = training.submitter.as_mut().unwrap();
    edit(submitter.proofs.get_mut("b").unwrap());
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_a_signed_training_runs_all_its_rounds_and_is_recorded_once() {
    let place = Place::new();
    let db = place.open().await;
    let (owner, alice, _) = with_key(&db).await;
    let (_, state) = ended(&db, signed_of(&alice, training("p23", model()).rounds(3))).await;
    assert_eq!(state, State::Completed);
    let allowed = owner.audit("b").await.unwrap();
    let allowed = allowed.iter().filter(|entry| entry.record.task.is_some());
    assert_eq!(allowed.count(), 3, "one for each round");
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_what_is_not_signed_by_the_user_is_refused_each_by_its_own_error() {
    let place = Place::new();
    let db = place.open().await;
    let (owner, alice, key) = with_key(&db).await;

    let reason = refusal(&db, training("unsigned", model())).await;
    assert!(reason.contains("it is not signed, and a key of `alice` is on record"), "{reason}");

    let mallory = self::alice(&db).with_key(SigningKey::generate().unwrap());
    let reason = refusal(&db, signed(&mallory, "another-key")).await;
    assert!(reason.contains("the signature is not one by the key"), "{reason}");
    assert!(reason.contains(&key.public().to_string()), "{reason}");

    // A change of any part of it breaks the signature.
    for (field, value) in [
        ("user", json!("bob")),
        ("site", json!("a")),
        ("digest", json!("0")),
        ("purpose", json!("another study")),
        ("nonce", json!("0")),
        ("expires", json!(i64::MAX)),
    ] {
        let forged = with(signed(&alice, &format!("forged-{field}")), |proof| {
            assert!(proof.get(field).is_some(), "{proof}");
            proof[field] = value.clone();
        });
        let reason = refusal(&db, forged).await;
        assert!(reason.contains("the signature is not one by the key"), "{field}: {reason}");
    }

    let torn = with(signed(&alice, "torn"), |proof| proof["signature"] = json!("none"));
    let reason = refusal(&db, torn).await;
    assert!(reason.contains("the signature cannot be read"), "{reason}");

    // Everything was put on record, and nothing was allowed.
    let entries = owner.audit("b").await.unwrap();
    let of_tasks: Vec<_> = entries.iter().filter(|entry| entry.record.task.is_some()).collect();
    assert_eq!(of_tasks.len(), 9);
    assert!(of_tasks.iter().all(|entry| entry.record.outcome == Outcome::Deny));
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_a_request_that_is_replayed_or_for_something_else_is_refused() {
    let place = Place::new();
    let db = place.open().await;
    let (_, alice, _) = with_key(&db).await;
    let first = signed(&alice, "first");
    let submitter = first.submitter.clone();
    assert_eq!(ended(&db, first).await.1, State::Completed);

    // Recorded, and handed in by another training.
    let another = Net { size: 2, ..model() };
    let mut replayed = training("first", another);
    replayed.submitter.clone_from(&submitter);
    let reason = refusal(&db, replayed).await;
    assert!(
        reason.contains("the signed request was handed in before, by the training"),
        "{reason}"
    );

    // The same training with another number of rounds.
    let mut longer = signed(&alice, "longer");
    longer.federation.num_rounds = 50;
    let reason = refusal(&db, longer).await;
    assert!(reason.contains("the request was signed for the terms"), "{reason}");

    // For another site.
    let elsewhere = with(signed(&alice, "elsewhere"), |_| {});
    let mut other = training("at-a", model());
    let mut of_a = FederatedTraining::new("x", model(), superduper_federated::FedAvg {});
    of_a.sites.push(superduper_federated::Site::new("a", Rows(vec![1.0])));
    let of_a = alice.signed(&of_a, "study 7").unwrap();
    other.submitter = elsewhere.submitter.clone();
    other.submitter.as_mut().unwrap().proofs.insert("b".into(), of_a.proofs["a"].clone());
    let reason = refusal(&db, other).await;
    assert!(reason.contains("signed for the site `a`, not `b`"), "{reason}");

    // For other code.
    let mut code = training("other-code", Other { identifier: "other".into() });
    code.submitter = Some(alice.signed(&training("x", model()), "study 7").unwrap());
    let reason = refusal(&db, code).await;
    assert!(reason.contains("the request was signed for the digest"), "{reason}");

    // For another purpose.
    let mut purpose = signed(&alice, "other-purpose");
    purpose.submitter.as_mut().unwrap().purpose = "to sell it".into();
    let reason = refusal(&db, purpose).await;
    assert!(reason.contains("the purpose `study 7`, not `to sell it`"), "{reason}");
}

/// Trains slowly.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Slow {
    millis: u64,
}

#[typetag::serde(name = "access-it.Slow")]
impl ClientExecutor for Slow {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        std::thread::sleep(Duration::from_millis(self.millis));
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_a_request_that_has_expired_is_refused_unless_it_was_handed_in_before() {
    let place = Place::new();
    let db = place.open().await;
    let (owner, alice, _) = with_key(&db).await;
    let mut late = training("late", model());
    late.submitter = Some(alice.signed_for(&late, "study 7", Duration::ZERO).unwrap());
    let reason = refusal(&db, late).await;
    assert!(reason.contains("the signed request has expired at"), "{reason}");

    // The second round comes after it has expired.
    let mut slow = training("slow", model()).rounds(2);
    slow.executor = Box::new(Slow { millis: 6500 });
    let valid_for = Duration::from_secs(6);
    slow.submitter = Some(alice.signed_for(&slow, "study 7", valid_for).unwrap());
    assert_eq!(ended(&db, slow).await.1, State::Completed);
    assert!(owner.verify_audit("b", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_a_site_may_ask_for_keys_and_the_owner_may_have_one() {
    let place = Place::new();
    let db = place.open().await;
    let (owner, key) = (owner(&db), SigningKey::generate().unwrap());
    let mut site = site("b", &owner);
    site.requires_keys = true;
    site.owner_key = Some(key.public());
    owner.govern(site).await.unwrap();
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let reason = refusal(&db, training("no-key", model())).await;
    assert!(reason.contains("no key of `alice` is on record"), "{reason}");

    let of_owner = |name: &str| {
        let mut training = training(name, model());
        training.submitter = Some(owner.submitter("study 7"));
        training
    };
    let reason = refusal(&db, of_owner("as-owner")).await;
    assert!(reason.contains("a key of `dr_b` is on record"), "{reason}");
    let mut training = of_owner("by-owner");
    let owner = owner.clone().with_key(key);
    training.submitter = Some(owner.signed(&training, "study 7").unwrap());
    assert_eq!(ended(&db, training).await.1, State::Completed);
    let error = self::owner(&db).signed(&of_owner("x"), "study").unwrap_err().to_string();
    assert!(error.contains("dr_b of clinic has no key here"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_a_request_for_access_that_the_user_has_not_signed_is_not_granted() {
    let place = Place::new();
    let db = place.open().await;
    let (owner, key) = (govern(&db).await, SigningKey::generate().unwrap());
    owner.grant_role("b", "alice", GENERAL_MODELLER).key(key.public()).await.unwrap();
    let error = alice(&db).request("b", &training("x", model()), "study").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("it is not signed"), "{error}");

    let alice = alice(&db).with_key(key);
    let request = alice.request("b", &training("x", model()), "study").await.unwrap();
    // Somebody who can open the database changes the purpose.
    let mut forged = db.load::<AccessRequest>(request.id()).await.unwrap();
    forged.purpose = "all studies".into();
    db.apply(forged).await.unwrap();
    let error = owner.grant(request.id()).await.unwrap_err();
    assert!(error.to_string().contains("the purpose `study`, not `all studies`"), "{error}");
    db.apply(request.clone()).await.unwrap();
    owner.grant(request.id()).await.unwrap();
    owner.grant(request.id()).await.expect("a grant can be repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_each_answer_carries_the_signed_head_of_the_audit() {
    let place = Place::new();
    let db = place.open().await;
    let (secret, public) = SigningKey::generate_file(None).unwrap();
    let file = place.path().join("b.key");
    std::fs::write(&file, &secret).unwrap();

    let owner = owner(&db);
    let mut site = site("b", &owner);
    site.signing_key = Some(Secret::file(file.to_string_lossy()));
    owner.govern(site).await.unwrap();
    owner.grant_role("b", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let (trainer, _) = ended(&db, training("p24", model())).await;
    let answers = trainer.answers("train", 0).await.unwrap();
    let signed = SignedHead::of_answer(&answers["b"]).unwrap().expect("the site signs");
    assert_eq!(signed.site, "b");
    let head = signed.verify(&public).unwrap();
    // Later entries do not disturb it.
    assert!(owner.verify_audit("b", Some(head)).await.unwrap().seq >= head.seq);
    let mut forged = signed.clone();
    forged.head.seq += 1;
    let error = forged.verify(&public).unwrap_err().to_string();
    assert!(error.contains("the audit of site `b`"), "{error}");
    // As if the audit had been cut off, or another one been written.
    let error = owner.verify_audit("b", Some(forged.head)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");

    // A site that denies signs, too.
    owner.grant_role("b", "alice", superduper_access::DATA_READER).await.unwrap();
    owner.revoke_role("b", "alice", SUPER_MODELLER).await.unwrap();
    let (trainer, _) = ended(&db, training("denied", model())).await;
    let answers = trainer.answers("train", 0).await.unwrap();
    assert_eq!(answers["b"].code, ReturnCode::NotPermitted);
    let later = SignedHead::of_answer(&answers["b"]).unwrap().unwrap().verify(&public).unwrap();
    assert!(later.seq > head.seq);
    // But not for whom the site is invisible: a head has its name.
    owner.revoke_role("b", "alice", superduper_access::DATA_READER).await.unwrap();
    let (trainer, _) = ended(&db, training("invisible", model())).await;
    assert!(trainer.answers("train", 0).await.unwrap()["b"].statement.is_none());
}

#[test]
fn key_files_are_those_of_minisign() {
    let (secret, public) = SigningKey::generate_file(Some("the password")).unwrap();
    assert!(secret.starts_with("untrusted comment: "), "{secret}");
    assert_eq!(SigningKey::open(&secret, Some("the password")).unwrap().public(), public);
    let error = SigningKey::open(&secret, Some("another")).unwrap_err().to_string();
    assert!(error.contains("the key cannot be opened"), "{error}");
    let error = SigningKey::open(&secret, None).unwrap_err();
    assert!(format!("{error}").contains("needs its password"), "{error}");
    let debug = format!("{:?}", SigningKey::open(&secret, Some("the password")).unwrap());
    assert_eq!(debug, format!("SigningKey({public})"));
    for text in ["", "\n", "untrusted comment: x\nnot base64", "RWQ", &"R".repeat(56), "å\nß\n"] {
        assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        assert!(SigningKey::open(text, Some("x")).is_err(), "{text:?}");
    }
    let nobody = Submitter::default();
    assert!(nobody.proofs.is_empty());
}
