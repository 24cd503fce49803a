//! Two hospitals and a data scientist: a request, its review, a grant, a training, a revocation, and
//! the record of all decisions.
//!
//! ```sh
//! cargo run --release --example hospital           # in a temporary folder
//! cargo run --release --example hospital -- FOLDER # keeps it; a folder is for one run
//! ```
//!
//! Each hospital has a database of its own, with its data, its grants and its audit. The trainings are
//! in a third one. Here all of it runs in one program. In earnest each hospital runs its worker itself,
//! in a process that only its owner starts.

use serde::{Deserialize, Serialize};
use std::{any::Any, collections::BTreeMap, path::Path, time::Duration};
use superduper::{
    access::{
        Access, DataSchema, GENERAL_MODELLER, GovernedSite, ModelReference, Principal, PublicKey,
        RequestState, SignedHead, SigningKey, SiteWorker, Working,
    },
    federated::{
        Answer, FederatedModel, ModelTrainer, SiteContext, SiteData, State, Tested, Trained,
        federates,
    },
    prelude::*,
};

/// Blood pressures of a hospital.
#[source]
#[derive(Debug, Serialize, Deserialize)]
struct Pressures(Vec<f32>);

#[typetag::serde(name = "hospital.Pressures")]
impl SiteData for Pressures {
    fn rows(&self) -> u64 {
        self.0.len() as u64
    }

    fn columns(&self) -> Vec<(String, String)> {
        vec![("systolic".to_owned(), "f32".to_owned())]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The mean of all blood pressures.
#[derive(Component)]
#[component(kind = "hospital.MeanPressure", source)]
struct MeanPressure {
    identifier: String,
}
federates!(MeanPressure);

#[source]
impl FederatedModel for MeanPressure {
    fn initial(&self, _num_classes: usize, _seed: u64) -> Result<Tensors> {
        Tensors::new().with("mean", &[1], &[0.0_f32])
    }

    fn train(&self, _weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let rows = &ctx.data_as::<Pressures>()?.0;
        let mean = rows.iter().sum::<f32>() / rows.len() as f32;
        let weights = Tensors::new().with("mean", &[1], &[mean])?;
        Ok(Trained { weights, samples: rows.len() as u64, metrics: BTreeMap::new() })
    }

    fn test(&self, _weights: Tensors, _ctx: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

/// A hospital: its owner in its own database, and its worker.
struct Hospital {
    name: &'static str,
    owner: Access,
    /// Its key, which signs its audit.
    key: PublicKey,
    _working: Working,
}

impl Hospital {
    /// Open a hospital: govern its site, make alice a general modeller, and run its worker.
    async fn open(
        name: &'static str,
        pressures: Vec<f32>,
        folder: &Path,
        alice: PublicKey,
    ) -> Result<Hospital> {
        let home = Db::open(folder.join(name)).await?;
        let owner = Access::acting(&home, Principal::user(format!("dr_{name}")).of(name))?;
        let (secret, key) = SigningKey::generate_file(None)?;
        let file = folder.join(format!("{name}.key"));
        std::fs::write(&file, secret)?;
        let mut site = GovernedSite::new(name, owner.who().clone()).data(Pressures(pressures));
        site.signing_key = Some(Secret::file(file.display().to_string()));
        site.requires_keys = true;
        owner.govern(site).await?;
        let role =
            owner.grant_role(name, Principal::user("alice").of("university"), GENERAL_MODELLER);
        role.key(alice).purpose("studies").await?;
        println!("dr_{name} governs `{name}`, and makes alice a general modeller there");

        let worker = SiteWorker::new(name, &home);
        let trainings = Db::builder().at(folder.join("trainings"))?;
        let _working = worker.start(&worker.executor_for(trainings).build().await?).await?;
        Ok(Hospital { name, owner, key, _working })
    }

    /// Wait for a request, read the source, and grant it.
    async fn decide(&self) -> Result<()> {
        let request = loop {
            match self.owner.inbox().await?.pop() {
                Some(request) => break request,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let review = self.owner.review(request.id()).await?;
        let (lines, model) = (review.request.source.lines().count(), &request.model);
        println!(
            "{} reads {lines} lines of {model} of {}, and grants",
            self.owner.who(),
            request.who
        );
        self.owner.grant(request.id()).await
    }
}

const PURPOSE: &str = "mean blood pressure of both hospitals";

/// Wait for the end of a training, and tell how it came out.
async fn told(trainer: &ModelTrainer, name: &str) -> Result<()> {
    let state = trainer.wait(Duration::from_secs(60)).await?;
    if state != State::Completed {
        return Err(Error::invalid(trainer.failures().await?.join("; ")));
    }
    for (site, answer) in trainer.answers("train", 0).await? {
        println!("`{name}` at `{site}`: {} {}", answer.code, answer.reason);
    }
    let weights = trainer.global().await?.weights.get().await?;
    println!("`{name}` is {state}: the mean is {:?}", weights.to_vec::<f32>("mean").await?);
    Ok(())
}

/// Print all decisions of a hospital, and check them against the head that it signed in an answer.
async fn audited(hospital: &Hospital, answer: &Answer) -> Result<()> {
    println!("\nthe audit of `{}`", hospital.name);
    for entry in hospital.owner.audit(hospital.name).await? {
        let record = &entry.record;
        let subject = record.subject.get(..40).unwrap_or(&record.subject);
        println!(
            "{:>3} {:?} {}: {} {subject}: {}",
            entry.number, record.outcome, record.who, record.right, record.rule
        );
    }
    let signed = SignedHead::of_answer(answer)?
        .ok_or_else(|| Error::invalid("the hospital did not sign"))?;
    let known = signed.verify(&hospital.key)?;
    let head = hospital.owner.verify_audit(hospital.name, Some(known)).await?;
    println!(
        "all {} entries are as they were, by the head that was signed at {}",
        head.seq, known.seq
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1);
    let temporary = tempfile::Builder::new().prefix("superduper-hospital-").tempdir()?;
    let folder = folder.as_deref().map_or(temporary.path(), Path::new);
    std::fs::create_dir_all(folder)?;

    let key = SigningKey::generate()?;
    let north = Hospital::open("north", vec![118.0, 121.0, 139.0], folder, key.public()).await?;
    let south = Hospital::open("south", vec![127.0, 125.0], folder, key.public()).await?;

    let db = Db::open(folder.join("trainings")).await?;
    let alice = Access::acting(&db, Principal::user("alice").of("university"))?.with_key(key);
    let version = alice.publish::<MeanPressure>("MeanPressure").await?;
    println!("alice publishes alice/MeanPressure:{version}, and sees {:?}", alice.sites().await?);

    let columns = DataSchema::new().column("systolic", superduper::access::ColumnType::Float);
    let model = ModelReference::new("MeanPressure").schema(columns);
    let sites = ["north", "south"];
    let trainer = model.fit(&alice, sites).purpose(PURPOSE).name("first").await?;
    println!("alice submits `first` for both");
    for site in sites {
        alice.request(site, &trainer.training().await?, PURPOSE).await?;
        println!("alice asks for a grant at `{site}`; the job of the site waits");
    }
    for hospital in [&north, &south] {
        hospital.decide().await?;
    }
    told(&trainer, "first").await?;
    // What the hospitals said is on record outside of them.
    let answers = trainer.answers("train", 0).await?;

    south.owner.revoke_role("south", "alice", GENERAL_MODELLER).await?;
    println!("dr_south takes the role away");
    // The worker of the hospital takes it off her list.
    while alice.sites().await? != ["north"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if let Err(error) = model.fit(&alice, sites).purpose(PURPOSE).await {
        println!("alice submits `second` for both: {error}");
    }
    let second = model.fit(&alice, ["north"]).purpose(PURPOSE).name("second").await?;
    told(&second, "second").await?;
    for request in alice.requests().await? {
        let is_granted = request.state == RequestState::Granted;
        println!("alice's request at `{}`: granted: {is_granted}", request.site);
    }

    for hospital in [&north, &south] {
        audited(hospital, &answers[hospital.name]).await?;
    }
    Ok(())
}
