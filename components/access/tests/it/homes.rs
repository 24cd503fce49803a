//! Sites that decide in databases of their own.

use crate::{far::*, support::*};
use std::{
    path::Path,
    process::{Child, Command},
    time::Duration,
};
use superduper::{
    ErrorKind,
    prelude::*,
    store::{JobFilter, JobState},
};
use superduper_access::{
    Access, GENERAL_MODELLER, GovernedSite, Outcome, Principal, RequestState, SUPER_MODELLER,
    SigningKey, SiteWorker, at_home,
};
use superduper_federated::{FedAvg, FederatedTraining, ModelTrainer, ReturnCode, Site, State};

fn sum(millis: u64) -> Sum {
    Sum { identifier: "sum".into(), millis }
}

/// Wait until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

async fn sees(user: &Access, site: &str) {
    until("the site is listed", async || {
        user.sites().await.expect("the sites").iter().any(|seen| seen == site)
    })
    .await;
}

async fn sum_of(trainer: &ModelTrainer) -> f32 {
    let state = trainer.wait(LONG).await.expect("it ends");
    assert_eq!(state, State::Completed, "{:?}", trainer.failures().await);
    let weights = trainer.global().await.unwrap().weights.get().await.unwrap();
    weights.to_vec::<f32>("sum").await.unwrap()[0]
}

/// Whether a file below a folder has these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => std::fs::read(&path)
                .unwrap_or_default()
                .windows(bytes.len())
                .any(|window| window == bytes),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_and_p20_a_site_decides_and_keeps_its_record_and_data_in_its_own_database() {
    let (shared, home_place) = (Place::new(), Place::new());
    let home = home_place.open().await;
    let owner = owner_at(&home);
    // A value that is easily found in a file.
    govern_at(&home, "near", vec![4242.25, 4242.25]).await.unwrap();
    let key = SigningKey::generate().unwrap();
    owner.grant_role("near", "alice", GENERAL_MODELLER).key(key.public()).await.unwrap();
    let worker = SiteWorker::new("near", &home);
    let trainings = worker.executor_for(builder(shared.path())).build().await.unwrap();
    let working = worker.start(&trainings).await.unwrap();

    let db = shared.open().await;
    let alice = alice(&db).with_key(key);
    assert_eq!(alice.sites().await.unwrap(), ["near"]);
    let bob = Access::acting(&db, Principal::user("bob")).unwrap();
    assert!(bob.sites().await.unwrap().is_empty());
    let error = bob.fit(sum(0), ["near"]).purpose("study").await.err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "site `near` was not found")
    );

    let trainer = alice.fit(sum(0), ["near"]).purpose("study").name("near").await.unwrap();
    blocked(&db).await;
    let training = trainer.training().await.unwrap();
    let request = alice.request("near", &training, "study").await.unwrap();
    until("the request is at the home", async || !owner.inbox().await.unwrap().is_empty()).await;
    let review = owner.review(request.id()).await.unwrap();
    assert!(review.request.source.contains("impl FederatedModel for Sum"));
    owner.grant(request.id()).await.unwrap();
    assert_eq!(sum_of(&trainer).await, 4242.25);
    until("the decision is seen", async || {
        alice.requests().await.unwrap()[0].state == RequestState::Granted
    })
    .await;

    // Decisions are in the home alone.
    let decisions = owner.audit("near").await.unwrap();
    let outcome = |wanted| decisions.iter().any(|entry| entry.record.outcome == wanted);
    assert!(outcome(Outcome::Block) && outcome(Outcome::Allow));
    for kind in ["GovernedSite", "Permissions", "TakenNonce"] {
        let listed = db.list().await.unwrap();
        assert!(!listed.iter().any(|one| one.address.kind.ends_with(kind)), "{kind}");
    }
    assert_eq!(db.log_head("access/near").await.unwrap().seq, 0);
    // So is the data, but for what the model has learned.
    assert!(holds(home_place.path(), b"4242.25"));
    assert!(!holds(shared.path(), b"4242.25"));

    // A grant that was revoked stops the next training.
    owner.revoke_role("near", "alice", GENERAL_MODELLER).await.unwrap();
    until("the site is not listed", async || alice.sites().await.unwrap().is_empty()).await;
    let late = training_at_home("late", "near", &alice);
    drop(db.apply(late).await.expect_err("no site takes part"));
    let late = ModelTrainer::open(&db, "late").await.unwrap();
    let answer = late.answers("train", 0).await.unwrap().remove("near").unwrap();
    assert_eq!(answer.code, ReturnCode::NotPermitted);
    assert!(answer.reason.contains("site `near` was not found"), "{}", answer.reason);
    working.stop().await;
}

/// A job of its own kind that names the worker of a site.
#[derive(Component, Clone)]
#[component(kind = "access-it.Stray")]
struct Stray {
    identifier: String,
}

#[triggers]
impl Stray {
    #[trigger("apply", executor = "site:plain")]
    fn run(&self) -> Result<u32> {
        Ok(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_the_worker_of_a_site_runs_its_tasks_alone_and_goes_on_beside_a_damaged_request() {
    let (shared, home_place) = (Place::new(), Place::new());
    let home = home_place.open().await;
    let (owner, key) = (owner_at(&home), SigningKey::generate().unwrap());
    govern_at(&home, "plain", vec![1.0]).await.unwrap();
    owner.grant_role("plain", "alice", GENERAL_MODELLER).key(key.public()).await.unwrap();
    let worker = SiteWorker::new("plain", &home);
    let trainings = worker.executor_for(builder(shared.path())).build().await.unwrap();
    let _working = worker.start(&trainings).await.unwrap();
    let db = shared.open().await;
    let error = db.apply(Stray { identifier: "stray".into() }).await.unwrap_err().to_string();
    assert!(
        error.contains("the worker `site:plain` runs nothing but tasks of its site"),
        "{error}"
    );

    let alice = alice(&db).with_key(key);
    let trainer = alice.fit(sum(0), ["plain"]).purpose("study").await.unwrap();
    blocked(&db).await;
    let training = trainer.training().await.unwrap();
    let first = alice.request("plain", &training, "study").await.unwrap();
    until("the request is at the home", async || !owner.inbox().await.unwrap().is_empty()).await;
    // Whoever can write to the database of the trainings writes something else there.
    rusqlite::Connection::open(shared.path().join("metadata.sqlite"))
        .unwrap()
        .execute(
            "UPDATE version SET document = '{\"no\": \"request\"}' WHERE component =
             (SELECT id FROM component WHERE kind = 'superduper.AccessRequest')",
            [],
        )
        .unwrap();
    owner.grant(first.id()).await.unwrap();
    // Decisions, wake-ups and the requests of others go on.
    assert_eq!(sum_of(&trainer).await, 1.0);
    owner.grant_role("plain", "dora", GENERAL_MODELLER).await.unwrap();
    let dora = Access::acting(&db, Principal::user("dora")).unwrap();
    sees(&dora, "plain").await;
}

/// A training at a site with a home, however the user came to know the site.
fn training_at_home(name: &str, site: &str, user: &Access) -> FederatedTraining {
    let mut training = FederatedTraining::new(name, sum(0), FedAvg {});
    training.sites.push(at_home(Site::remote(site)));
    training.options.skip_model_tests = true;
    let signed = user.signed(&training, "study");
    training.submitter = Some(signed.unwrap_or_else(|_| user.submitter("study")));
    training
}

/// Why the site of a training did not take part.
async fn denial(db: &Db, training: FederatedTraining) -> String {
    let mut trainer = ModelTrainer::new(db, training, None).unwrap();
    trainer.start().await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let answers = trainer.answers("train", 0).await.unwrap();
    let answer = answers.values().next().expect("an answer");
    assert_eq!(answer.code, ReturnCode::NotPermitted);
    answer.reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_in_a_home_nobody_is_trusted_without_a_key_and_no_request_that_was_forged() {
    let (shared, home_place) = (Place::new(), Place::new());
    let home = home_place.open().await;
    let (owner, key) = (owner_at(&home), SigningKey::generate().unwrap());
    govern_at(&home, "wary", vec![1.0]).await.unwrap();
    owner.grant_role("wary", "alice", SUPER_MODELLER).key(key.public()).confirm().await.unwrap();
    owner.grant_role("wary", "carol", SUPER_MODELLER).confirm().await.unwrap();
    let worker = SiteWorker::new("wary", &home);
    let trainings = worker.executor_for(builder(shared.path())).build().await.unwrap();
    let _working = worker.start(&trainings).await.unwrap();
    let db = shared.open().await;
    let alice = alice(&db).with_key(key);

    // Names prove nothing, not even that of the owner.
    let reason = denial(&db, training_at_home("owner", "wary", &owner_at(&db))).await;
    assert!(reason.contains("no key of `dr_far` is on record"), "{reason}");
    let carol = Access::acting(&db, Principal::user("carol")).unwrap();
    let reason = denial(&db, training_at_home("carol", "wary", &carol)).await;
    assert!(reason.contains("no key of `carol` is on record"), "{reason}");

    // The worker runs nothing under another name, also where its user governs that site.
    let mallory = Access::acting(&db, Principal::user("alice")).unwrap();
    mallory.govern(GovernedSite::new("ghost", mallory.who().clone())).await.unwrap();
    let mut ghost = training_at_home("ghost", "wary", &alice);
    ghost.sites[0].name = "ghost".into();
    let reason = denial(&db, ghost).await;
    assert!(reason.contains("site `ghost` was not found"), "{reason}");

    // A signature is for what was signed, also where the uuid stays.
    let mut more = training_at_home("more", "wary", &alice);
    more.options.predict = true;
    let reason = denial(&db, more).await;
    assert!(reason.contains("the request was signed for the terms"), "{reason}");
    let request = alice.request("wary", &training_at_home("x", "wary", &alice), "study").await;
    let request = request.unwrap();
    let mut reused = training_at_home("reused", "wary", &alice);
    let proof = serde_json::to_value(request.signed.clone().unwrap()).unwrap();
    reused.submitter.as_mut().unwrap().proofs.insert("wary".into(), proof);
    let reason = denial(&db, reused).await;
    assert!(reason.contains("the request was signed for the terms `access`"), "{reason}");
    until("the request is at the home", async || !owner.inbox().await.unwrap().is_empty()).await;

    // A request that somebody has written into the database of the trainings.
    let mut forged = request.clone();
    forged.digest = "0".repeat(64);
    forged.asks += 1;
    db.apply(forged).await.unwrap();
    let is_refused = async || {
        let entries = owner.audit("wary").await.unwrap();
        entries.iter().any(|entry| entry.record.rule == "the request does not hold together")
    };
    until("the forged request is refused", is_refused).await;
    let kept = owner.inbox().await.unwrap().pop().unwrap();
    assert_eq!((&kept.digest, kept.asks), (&request.digest, 1));
    // It goes on with what is fine.
    sum_of(&alice.fit(sum(0), ["wary"]).purpose("study").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p18_a_rejection_and_a_second_request_go_both_ways() {
    let (shared, home_place) = (Place::new(), Place::new());
    let home = home_place.open().await;
    let (owner, key) = (owner_at(&home), SigningKey::generate().unwrap());
    govern_at(&home, "strict", vec![1.0]).await.unwrap();
    owner.grant_role("strict", "alice", GENERAL_MODELLER).key(key.public()).await.unwrap();
    let worker = SiteWorker::new("strict", &home);
    let trainings = worker.executor_for(builder(shared.path())).build().await.unwrap();
    let _working = worker.start(&trainings).await.unwrap();
    let db = shared.open().await;
    let alice = alice(&db).with_key(key);
    let fit = |name: &str| alice.fit(sum(0), ["strict"]).purpose("study").name(name);
    let trainer = fit("strict").await.unwrap();
    let request =
        alice.request("strict", &trainer.training().await.unwrap(), "study").await.unwrap();
    let pending = async || !owner.inbox().await.unwrap().is_empty();
    until("the request is at the home", pending).await;
    owner.reject(request.id(), "too vague").await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("the owner has rejected it: too vague"), "{why}");
    until("the rejection is seen", async || {
        matches!(alice.requests().await.unwrap()[0].state, RequestState::Rejected { .. })
    })
    .await;
    // The owner may change it.
    owner.grant(request.id()).await.unwrap();
    sum_of(&fit("strict-again").await.unwrap()).await;
    until("the grant is seen", async || {
        alice.requests().await.unwrap()[0].state == RequestState::Granted
    })
    .await;
    // After a grant has ended, the user asks anew; the home sees it.
    let digest = trainer.training().await.unwrap().source_digest().unwrap().to_hex();
    owner.revoke_model("strict", "alice", &digest).await.unwrap();
    let again = alice.request("strict", &trainer.training().await.unwrap(), "study 2").await;
    assert_eq!(again.unwrap().asks, 2);
    until("it is asked anew", pending).await;
    assert_eq!(owner.inbox().await.unwrap()[0].purpose, "study 2");
    alice.withdraw(request.id()).await.unwrap();
    until("it is withdrawn", async || !pending().await).await;
}

/// The worker of a site in a process of its own.
struct Far(Child);

impl Far {
    fn start(home: &Path, trainings: &Path, site: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let program = program.parent().unwrap().parent().unwrap().join("examples/it");
        let args = [home.as_os_str(), trainings.as_os_str(), site.as_ref()];
        Far(Command::new(program).args(args).spawn().expect("the worker starts"))
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_the_owners_process_alone_runs_and_decides_and_may_be_killed() {
    let (shared, home_place) = (Place::new(), Place::new());
    let key = SigningKey::generate().unwrap();
    {
        let home = home_place.open().await;
        govern_at(&home, "far", vec![1.0, 3.0]).await.unwrap();
        let role = owner_at(&home).grant_role("far", "alice", SUPER_MODELLER);
        role.key(key.public()).confirm().await.unwrap();
    }
    let db = shared.open().await;
    let alice = alice(&db).with_key(key);
    // The coordinator goes on with trainings whatever becomes of the workers.
    let coordinator = tokio::spawn({
        let db = db.clone();
        async move { db.work().await }
    });
    // A job waits for the worker of its site, also one that has never been there.
    let early = ModelTrainer::new(&db, training_at_home("early", "far", &alice), None);
    let mut early = early.unwrap();
    early.start().await.unwrap();
    let queued = async || {
        let filter = JobFilter { method: Some("site_task".into()), ..JobFilter::default() };
        db.jobs(filter).await.unwrap().iter().any(|job| job.state == JobState::Queued)
    };
    until("the job waits", queued).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(queued().await, "nobody but the worker takes it");
    let far = Far::start(home_place.path(), shared.path(), "far");
    assert_eq!(sum_of(&early).await, 2.0);

    sees(&alice, "far").await;
    let slow = alice.fit(sum(150), ["far"]).purpose("study").rounds(8).name("slow").await.unwrap();
    let round = async |least: u64| {
        until("rounds are done", async || slow.progress().await.unwrap().round >= least).await;
    };
    round(2).await;
    far.kill();
    let far = Far::start(home_place.path(), shared.path(), "far");
    round(4).await;
    far.kill();
    let _far = Far::start(home_place.path(), shared.path(), "far");
    assert_eq!(sum_of(&slow).await, 16.0, "each round counts once");

    // Another process neither runs the site's code on other data under its name …
    let mut taken = training_at_home("taken", "far", &alice);
    taken.sites = vec![Site::new("far", Values(vec![100.0]))];
    let mut taken = ModelTrainer::new(&db, taken, None).unwrap();
    taken.start().await.unwrap();
    assert_eq!(taken.wait(LONG).await.unwrap(), State::Error);
    let why = taken.failures().await.unwrap().join("; ");
    assert!(why.contains("site `far` decides in a database of its own"), "{why}");
    // … nor decides in the place of the owner.
    let stranger = owner_at(&db);
    let error = stranger.grant_role("far", "bob", GENERAL_MODELLER).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let decisions = owner_at(&home_place.open().await).audit("far").await.unwrap();
    let allowed = decisions
        .iter()
        .filter(|entry| entry.record.outcome == Outcome::Allow && entry.record.task.is_some());
    assert!(allowed.count() >= 9, "one for each attempt at least");
    coordinator.abort();
}
