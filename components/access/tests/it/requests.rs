//! Requests: asking, deciding, and the jobs that wait for it.

use crate::support::*;
use superduper::{ErrorKind, prelude::*, store::Timestamp};
use superduper_access::{Access, GENERAL_MODELLER, Outcome, Principal, RequestState};
use superduper_federated::State;

#[tokio::test(flavor = "multi_thread")]
async fn p03_and_p04_a_blocked_job_goes_on_when_its_grant_arrives() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let trainer = started(&db, training("p03", model())).await;
    let job = blocked(&db).await;
    let why = db.why(job.id).await.unwrap().to_string();
    assert!(
        why.contains("a grant of `access-it.Net`") && why.contains("to `alice` at site `b`"),
        "{why}"
    );
    assert!(why.contains("ask dr_b, the owner of `b`"), "{why}");
    let request = alice(&db).request("b", &training("p03", model()), "study 7").await.unwrap();
    let inbox = owner.inbox().await.unwrap();
    assert_eq!(inbox.len(), 1);
    let review = owner.review(inbox[0].id()).await.unwrap();
    assert!(
        review.request.source.contains("impl FederatedModel for Net"),
        "{}",
        review.request.source
    );
    assert!(review.request.source.contains("use superduper::{"), "with its imports");
    assert_eq!(review.difference, None);
    // Another database handle: the jobs here go on all the same (P20).
    let elsewhere = place.open().await;
    crate::support::owner(&elsewhere).grant(request.id()).await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Completed);
    let same = db.job(job.id).await.unwrap();
    assert_eq!(same.state, superduper::store::JobState::Succeeded, "nothing was submitted again");
    assert!(owner.inbox().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn p05_a_grant_of_other_code_does_not_count() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut strict = site("b", &owner);
    strict.builtin.clear();
    owner.govern(strict).await.unwrap();
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let other = training("p05", Other { identifier: "o".into() });
    let request = alice(&db).request("b", &other, "study").await.unwrap();
    owner.grant(request.id()).await.unwrap();
    let trainer = started(&db, training("p05n", model())).await;
    blocked(&db).await;
    // Nor that of another user.
    let bob = Access::acting(&db, Principal::user("bob")).unwrap();
    owner.grant_role("b", "bob", GENERAL_MODELLER).await.unwrap();
    let of_bob = bob.request("b", &training("p05n", model()), "study").await.unwrap();
    owner.grant(of_bob.id()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    blocked(&db).await;
    // The owner sees what is new against the code that was granted last.
    let mine = alice(&db).request("b", &training("p05n", model()), "study").await.unwrap();
    owner.grant(mine.id()).await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn p18_a_request_may_come_before_any_job_and_a_rejection_ends_the_job() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let alice = alice(&db);
    let first = alice.request("b", &training("x", model()), "study").await.unwrap();
    let second = alice.request("b", &training("y", model()), "another text").await.unwrap();
    assert_eq!(first.id(), second.id(), "a second request for the same is the first");
    owner.grant(first.id()).await.unwrap();
    assert_eq!(ended(&db, training("p18", model())).await.1, State::Completed);
    owner.grant(first.id()).await.expect("a grant can be repeated");

    let mut bigger = training("p18r", model());
    bigger.executor = Box::new(Captured {});
    let trainer = started(&db, bigger).await;
    let job = blocked(&db).await;
    let mut same = training("p18r", model());
    same.executor = Box::new(Captured {});
    let request = alice.request("b", &same, "study").await.unwrap();
    let review = owner.review(request.id()).await.unwrap();
    let difference = review.difference.expect("something was granted before");
    assert!(difference.contains("+ struct Captured {}"), "{difference}");
    let error = owner.reject(request.id(), " ").await.unwrap_err().to_string();
    assert!(error.contains("a rejection needs a reason"), "{error}");
    owner.reject(request.id(), "it exports rows").await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("the owner has rejected it: it exports rows"), "{why}");
    assert_eq!(db.job(job.id).await.unwrap().state, superduper::store::JobState::Succeeded);
    let error = alice.request("b", &same, "study").await.unwrap_err().to_string();
    assert!(error.contains("the owner has rejected this request: it exports rows"), "{error}");
}

/// An executor of one's own, with its source.
#[source]
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Captured {}

#[source]
#[typetag::serde(name = "access-it.Captured")]
impl superduper_federated::ClientExecutor for Captured {
    fn execute(
        &self,
        task: &superduper_federated::Task,
        tensors: Tensors,
        ctx: &mut superduper_federated::SiteContext<'_>,
    ) -> Result<superduper_federated::Reply> {
        superduper_federated::DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p08_only_the_owner_decides() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    let alice = alice(&db);
    let error = alice.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "she may not even see it: {error}");
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let error = alice.grant_role("b", "bob", GENERAL_MODELLER).await.unwrap_err();
    assert_eq!((error.kind(), error.kind().http_status()), (ErrorKind::PermissionDenied, 403));
    assert!(error.to_string().contains("`grant` at site `b` is denied"), "{error}");
    let request = alice.request("b", &training("x", model()), "study").await.unwrap();
    let error = alice.grant(request.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let stolen = site("b", &alice);
    assert_eq!(alice.govern(stolen).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(alice.audit("b").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let denials = owner.audit("b").await.unwrap();
    let denials = denials.iter().filter(|entry| entry.record.outcome == Outcome::Deny);
    assert!(denials.count() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_a_grant_without_the_role_is_not_enough() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let request = alice(&db).request("b", &training("x", model()), "study").await.unwrap();
    owner.grant(request.id()).await.unwrap();
    owner.revoke_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    owner.grant_role("b", "alice", superduper_access::DATA_READER).await.unwrap();
    let (trainer, state) = ended(&db, training("p17", model())).await;
    assert_eq!(state, State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("no role of alice has the right `run_model`"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_a_request_without_purpose_or_source_is_refused() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let alice = alice(&db);
    let error = alice.request("b", &training("x", model()), " ").await.unwrap_err().to_string();
    assert!(error.contains("a request needs a purpose"), "{error}");
    let bare = training("x", Bare { identifier: "bare".into() });
    let error = alice.request("b", &bare, "study").await.unwrap_err().to_string();
    assert!(error.contains("would not cover all custom code of `access-it.Bare`"), "{error}");
    let request = alice.request("b", &training("x", model()), "study").await.unwrap();
    alice.withdraw(request.id()).await.unwrap();
    assert!(owner.inbox().await.unwrap().is_empty());
    let last = owner.audit("b").await.unwrap().pop().unwrap().record;
    assert_eq!(
        (last.who.as_str(), last.right),
        ("alice of lab", superduper_access::Right::Request)
    );
    assert!(last.subject.starts_with("withdrawn: access-it."), "{}", last.subject);
    let again = alice.request("b", &training("x", model()), "study 8").await.unwrap();
    assert_eq!((again.state, again.purpose.as_str()), (RequestState::Pending, "study 8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p22_a_grant_that_has_ended_or_was_revoked_denies_and_does_not_wait() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let request = alice(&db).request("b", &training("x", model()), "study").await.unwrap();
    let past = Timestamp(Timestamp::now().0 - 1);
    owner.grant_until(request.id(), Some(past)).await.unwrap();
    let (trainer, state) = ended(&db, training("p22c", model())).await;
    assert_eq!(state, State::Error);
    assert!(trainer.failures().await.unwrap().join("; ").contains("has ended"));
    let digest = training("x", model()).source_digest().unwrap().to_hex();
    assert!(owner.revoke_model("b", "alice", &digest).await.is_err(), "it has ended already");
    // It can be asked for anew.
    let again = alice(&db).request("b", &training("x", model()), "study 9").await.unwrap();
    assert_eq!((again.id(), &again.state), (request.id(), &RequestState::Pending));
    owner.grant(again.id()).await.unwrap();
    assert_eq!(ended(&db, training("p22d", model())).await.1, State::Completed);
    owner.revoke_model("b", "alice", &digest).await.unwrap();
    assert_eq!(ended(&db, training("p22e", model())).await.1, State::Error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn many_grants_at_once_lose_none() {
    const MANY: usize = 24;
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    let mut governed = site("b", &owner);
    for number in 0..MANY {
        let role = superduper_access::Role::default();
        governed.roles = governed.roles.with(format!("role{number}"), role).unwrap();
    }
    owner.govern(governed).await.unwrap();
    let grants = (0..MANY).map(|number| {
        let owner = owner.clone();
        tokio::spawn(async move { owner.grant_role("b", "alice", format!("role{number}")).await })
    });
    for grant in grants.collect::<Vec<_>>() {
        grant.await.unwrap().unwrap();
    }
    let found = db.load::<superduper_access::Permissions>("1-b-alice").await.unwrap();
    assert_eq!(found.roles.len(), MANY);
}

/// Decides as the site does, and lets the grant arrive before the job waits.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Late {
    /// What arrives: `role`, `policy` or `grant`.
    what: String,
}

#[typetag::serde(name = "access-it.Late")]
impl superduper_federated::Gate for Late {
    fn allow<'a>(
        &'a self,
        db: &'a Db,
        request: &'a superduper_federated::Request,
    ) -> superduper::BoxFuture<'a, Result<superduper_federated::Decision>> {
        Box::pin(async move {
            let decision = superduper_access::SiteGate {}.allow(db, request).await?;
            let owner = owner(db);
            match self.what.as_str() {
                "role" => {
                    let role = superduper_access::SUPER_MODELLER;
                    owner.grant_role("b", "alice", role).confirm().await?;
                    return Ok(decision);
                }
                "policy" => {
                    let mut listed = site("b", &owner);
                    listed.builtin.push("access-it.Net".into());
                    owner.govern(listed).await?;
                    return Ok(decision);
                }
                _ => {}
            }
            for waiting in owner.inbox().await? {
                owner.grant(waiting.id()).await?;
            }
            Ok(decision)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p19_a_grant_between_the_look_and_the_wait_is_not_missed() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let late = |what: &str| {
        let mut training = training(&format!("p19{what}"), model());
        training.sites[0].gate = Some(Box::new(Late { what: what.to_owned() }));
        training
    };
    let run = async |what: &str| {
        let (trainer, state) = ended(&db, late(what)).await;
        assert_eq!(state, State::Completed, "{what}: {:?}", trainer.failures().await);
    };
    run("role").await;
    owner.revoke_role("b", "alice", superduper_access::SUPER_MODELLER).await.unwrap();
    run("policy").await;
    owner.govern(site("b", &owner)).await.unwrap();
    alice(&db).request("b", &late("grant"), "study").await.unwrap();
    run("grant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p09_a_preview_says_which_site_lacks_a_grant_and_writes_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.govern(site("c", &owner)).await.unwrap();
    for name in ["b", "c"] {
        owner.grant_role(name, "alice", GENERAL_MODELLER).await.unwrap();
    }
    let two = || {
        let mut training = training("p09", model());
        let c = superduper_federated::Site::new("c", Rows(vec![2.0]));
        training.sites.push(c.gate(superduper_access::SiteGate {}));
        training
    };
    let request = alice(&db).request("b", &two(), "study").await.unwrap();
    owner.grant(request.id()).await.unwrap();
    let heads = [owner.verify_audit("b", None).await, owner.verify_audit("c", None).await];
    let preview = two().preview(&db).await.unwrap();
    let answers: Vec<String> = preview.sites.iter().map(|site| site.answer.to_string()).collect();
    assert_eq!(answers[0], "takes part");
    assert!(
        answers[1].contains("a grant of `access-it.Net`") && answers[1].contains("at site `c`"),
        "{answers:?}"
    );
    let after = [owner.verify_audit("b", None).await, owner.verify_audit("c", None).await];
    assert_eq!(heads.map(|head| head.unwrap()), after.map(|head| head.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p29_a_site_whose_gate_is_not_linked_cannot_be_read() {
    let place = Place::new();
    let db = place.open().await;
    let preview = training("p29", model()).preview(&db).await.unwrap();
    let mut document: serde_json::Value =
        serde_json::from_str(preview.file("training.json").unwrap()).unwrap();
    document["sites"][0]["gate"] = json!({"type": "other.Gate"});
    let error = db.decode_documents(&[document]).await.unwrap_err().to_string();
    assert!(error.contains("`other.Gate`") && error.contains("use other as _;"), "{error}");
}
