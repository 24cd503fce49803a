//! Two hospitals and a data scientist: a request, its review, a grant, a training, a revocation, and
//! the record of all decisions.
//!
//! ```sh
//! cargo run --release --example hospital           # in a temporary folder
//! cargo run --release --example hospital -- FOLDER # keeps it; a folder is for one run
//! ```
//!
//! Both sites are in one database here. What the owners are protected from then is in
//! `docs/access.md`.

use serde::{Deserialize, Serialize};
use std::{any::Any, collections::BTreeMap, path::Path, time::Duration};
use superduper::{
    access::{Access, GENERAL_MODELLER, GovernedSite, ModelReference, Principal, SiteGate},
    federated::{
        FedAvg, FederatedModel, FederatedTraining, ModelTrainer, Site, SiteContext, SiteData,
        State, Tested, Trained, federates,
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

/// A study of alice over both hospitals, with the model that she published.
async fn study(name: &str, alice: &Access) -> Result<FederatedTraining> {
    let resolved = ModelReference::new("MeanPressure").resolve(alice).await?;
    println!("alice submits `{name}` with the model {resolved}");
    let north = Site::new("north", Pressures(vec![118.0, 121.0, 139.0])).gate(SiteGate {});
    let south = Site::new("south", Pressures(vec![127.0, 125.0])).gate(SiteGate {});
    let mut training =
        FederatedTraining::new(name, resolved.model, FedAvg {}).sites([north, south]);
    training.options.skip_model_tests = true;
    training.submitter = Some(alice.submitter("mean blood pressure of both hospitals"));
    Ok(training)
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1);
    let temporary = tempfile::Builder::new().prefix("superduper-hospital-").tempdir()?;
    let db = Db::open(folder.as_deref().map_or(temporary.path(), Path::new)).await?;

    let owners = ["north", "south"].map(|site| (site, format!("dr_{site}")));
    for (site, name) in &owners {
        let owner = Access::acting(&db, Principal::user(name.as_str()).of(*site))?;
        owner.govern(GovernedSite::new(*site, owner.who().clone())).await?;
        owner.grant_role(*site, "alice", GENERAL_MODELLER).purpose("studies").await?;
        println!("{name} governs `{site}`, and makes alice a general modeller there");
    }
    let alice = Access::acting(&db, Principal::user("alice").of("university"))?;
    let version = alice.publish::<MeanPressure>("MeanPressure").await?;
    println!("alice publishes alice/MeanPressure:{version}");

    let mut trainer = ModelTrainer::new(&db, study("first", &alice).await?, None)?;
    trainer.start().await?;
    let training = study("first", &alice).await?;
    for site in alice.sites().await? {
        alice.request(&site, &training, "mean blood pressure of both hospitals").await?;
        println!("alice asks for a grant at `{site}`; the job of the site waits");
    }
    for (site, name) in &owners {
        let owner = Access::acting(&db, Principal::user(name.as_str()).of(*site))?;
        for request in owner.inbox().await? {
            let review = owner.review(request.id()).await?;
            let lines = review.request.source.lines().count();
            println!(
                "{name} reads {lines} lines of {} of {}, and grants",
                request.model, request.who
            );
            owner.grant(request.id()).await?;
        }
    }
    let state = trainer.wait(Duration::from_secs(60)).await?;
    let weights = trainer.global().await?.weights.get().await?;
    println!("`first` is {state}: the mean is {:?}", weights.to_vec::<f32>("mean").await?);

    let south = Access::acting(&db, Principal::user("dr_south").of("south"))?;
    south.revoke_role("south", "alice", GENERAL_MODELLER).await?;
    println!("dr_south takes the role away");
    let mut trainer = ModelTrainer::new(&db, study("second", &alice).await?, None)?;
    trainer.start().await?;
    let state = trainer.wait(Duration::from_secs(60)).await?;
    for (site, answer) in trainer.answers("train", 0).await? {
        println!("`second` at `{site}`: {} {}", answer.code, answer.reason);
    }
    println!("`second` is {state}, with what the other site gave");
    if state != State::Completed {
        return Err(Error::invalid(trainer.failures().await?.join("; ")));
    }

    println!("\nthe audit of `south`");
    for entry in south.audit("south").await? {
        let record = &entry.record;
        let (outcome, subject) =
            (record.outcome, record.subject.get(..40).unwrap_or(&record.subject));
        println!(
            "{:>3} {outcome:?} {}: {} {subject}: {}",
            entry.number, record.who, record.right, record.rule
        );
    }
    let head = south.verify_audit("south", None).await?;
    println!("all {} entries are as they were written", head.seq);
    Ok(())
}
