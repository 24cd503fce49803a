//! Guests at governed sites.

use crate::{
    guests::digits,
    models::{LONG, builder, sandboxed},
};
use superduper::prelude::*;
use superduper_access::{
    Access, GENERAL_MODELLER, GovernedSite, Outcome, Principal, Right, SiteGate, SitePolicy,
};
use superduper_candle::Table;
use superduper_federated::{
    ClientExecutor, DefaultExecutor, FedAvg, FederatedTraining, ModelTrainer, Reply, Site,
    SiteContext, State, Submitter, Task, candle::TableData,
};

fn training(name: &str) -> FederatedTraining {
    let table = Table::new(64, vec![0.5; 128], vec![0, 1]).unwrap();
    let site = Site::new("b", TableData::new(table)).gate(SiteGate {});
    let mut training = FederatedTraining::new(name, sandboxed(digits()), FedAvg {}).sites([site]);
    training.options.skip_model_tests = true;
    training.submitter =
        Some(Submitter { user: "alice".into(), purpose: "study".into(), ..Submitter::default() });
    training
}

async fn ended(db: &Db, training: FederatedTraining) -> (State, String) {
    let mut trainer = ModelTrainer::new(db, training, None).unwrap();
    trainer.start().await.unwrap();
    let state = trainer.wait(LONG).await.unwrap();
    (state, trainer.failures().await.unwrap().join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_sandboxed_code_has_a_right_of_its_own_and_a_grant_names_the_digest_of_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let owner = Access::acting(&db, Principal::user("dr_b")).unwrap();
    let site = || GovernedSite::new("b", owner.who().clone());
    let mut listed = site();
    // A kind that carries code is not known by its name.
    listed.builtin = vec!["superduper.SandboxedModel".into()];
    owner.govern(listed.clone()).await.unwrap();
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let alice = Access::acting(&db, Principal::user("alice")).unwrap();

    let digest = training("x").source_digest().unwrap();
    assert_eq!(digest, superduper::Digest::of(&digits()), "that of the module");
    let request = alice.request("b", &training("x"), "study").await.unwrap();
    let review = owner.review(request.id()).await.unwrap();
    let about = &review.request.source;
    assert!(about.contains(&digest.to_hex()) && about.contains("\"name\": \"Digits\""), "{about}");
    owner.grant(request.id()).await.unwrap();
    assert_eq!(ended(&db, training("granted")).await.0, State::Completed);
    let last = owner.audit("b").await.unwrap().pop().unwrap().record;
    assert_eq!((last.right, last.outcome), (Right::RunSandboxed, Outcome::Allow));

    // An executor beside it would run outside of the sandbox.
    let mut beside = training("beside");
    beside.executor = Box::new(Beside {});
    let (state, why) = ended(&db, beside).await;
    assert_eq!(state, State::Error);
    assert!(why.contains("not all custom code"), "{why}");

    owner.revoke_model("b", "alice", &digest.to_hex()).await.unwrap();
    let (state, why) = ended(&db, training("revoked")).await;
    assert!(state == State::Error && why.contains("`run_sandboxed` at site `b`"), "{why}");

    // A site may let everything into the sandbox, for whom its policy permits that.
    let mut open = site();
    open.allow_sandboxed = true;
    owner.govern(open.clone()).await.unwrap();
    assert_eq!(ended(&db, training("open")).await.0, State::Completed);
    open.policy = SitePolicy::open().rules(Right::RunSandboxed, ["none"]).unwrap();
    owner.govern(open).await.unwrap();
    let (state, why) = ended(&db, training("closed")).await;
    assert!(state == State::Error && why.contains("no rule permits `run_sandboxed`"), "{why}");
}

/// An executor of somebody's own.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Beside {}

#[typetag::serde(name = "sandbox-it.Beside")]
impl ClientExecutor for Beside {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}
