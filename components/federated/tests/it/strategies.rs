//! Strategies in whole trainings.

use crate::support::*;
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, prelude::*};
use superduper_federated::{
    ClientExecutor, ClientSettings, DefaultExecutor, Late, LocalModel, Reply, Site, SiteContext,
    State, Strategy, Task, Update,
};

/// FedAvg that hands models on.
#[derive(Debug, Serialize, Deserialize)]
struct Chained {
    name: String,
    period: u64,
}

#[typetag::serde(name = "it.Chained")]
impl Strategy for Chained {
    fn name(&self) -> &'static str {
        "chained"
    }

    fn check(&self, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn client(&self) -> ClientSettings {
        ClientSettings { daisy_chain_period: self.period, ..ClientSettings::default() }
    }

    fn aggregate<'a>(
        &'a self,
        round: u64,
        global: &'a Tensors,
        state: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<superduper_federated::Aggregated>> {
        count(format!("{}/chained/{round}", self.name));
        superduper_federated::FedAvg {}.aggregate(round, global, state, updates)
    }
}

/// Takes the model of the first site, and looks at nothing.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    name: String,
}

#[typetag::serde(name = "it.First")]
impl Strategy for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn check(&self, _: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn aggregate<'a>(
        &'a self,
        _: u64,
        _: &'a Tensors,
        _: &'a Tensors,
        updates: &'a [Update],
    ) -> BoxFuture<'a, Result<superduper_federated::Aggregated>> {
        let sites: Vec<&str> = updates.iter().map(|update| update.site.as_str()).collect();
        count(format!("{}/{}", self.name, sites.join(",")));
        let weights = updates[0].tensors.clone();
        Box::pin(async move { Ok(superduper_federated::Aggregated::new(weights)) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_tensor_of_another_shape_is_an_error_also_where_the_strategy_looks_at_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g12s");
    training.sites[0].data = Some(Box::new(faulty("shape")));
    training.strategy = Box::new(First { name: "g12s".into() });
    let (trainer, state) = ended(&db, training, None).await;
    assert_eq!(state, State::Error);
    let text = trainer.failures().await.expect("the failures").join("\n");
    assert!(text.contains("site `a`") && text.contains("tensor `w`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g15_a_strategy_sees_the_sites_in_their_order_also_late_ones() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g15s").rounds(8);
    training.sites[0].data = Some(Box::new(faulty("slow once")));
    training.sites.push(Site::new("c", rows(&[1.0])));
    training.strategy = Box::new(First { name: "g15s".into() });
    training.options.skip_model_tests = true;
    training.federation.min_clients = 2;
    training.federation.wait_time_after_min_received = 0.3;
    training.federation.late = Late::NextRound;
    trained(&db, training, None).await;
    // The first site is late in round 0, so that its answer is the last one of a later round.
    assert!(calls("g15s/b,c") > 0 && calls("g15s/a,b,c") > 0);
    assert_eq!(calls("g15s/b,c,a"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g18_daisy_chained_rounds_hand_models_on_and_aggregate_at_each_period() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g18").rounds(4);
    training.options.skip_model_tests = true;
    training.strategy = Box::new(Chained { name: "g18".into(), period: 2 });
    let trainer = trained(&db, training, None).await;
    let aggregated: Vec<u32> = (0..4).map(|round| calls(&format!("g18/chained/{round}"))).collect();
    assert_eq!(aggregated, [0, 1, 0, 1]);
    // Round 0: a has 0, b 0.5. Round 1: a starts from 0.5: 0.25; b from 0: 0.5. Mean 0.375.
    // Round 2: a 0.1875, b 0.6875. Round 3: a from b: 0.34375, b from a: 0.59375. Mean 0.46875.
    assert_eq!(weights(&trainer).await, [0.46875, 0.46875]);
}

/// Site `b` takes away, once, what site `a` stored for a task of round 1.
#[derive(Debug, Serialize, Deserialize)]
struct Thief {
    task: String,
}

#[typetag::serde(name = "it.Thief")]
impl ClientExecutor for Thief {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        if ctx.site() == "b"
            && task.name == self.task
            && task.round == 1
            && count(format!("thief/{}", self.task)) == 1
        {
            let db = ctx.job().db()?;
            ctx.block_on(async {
                loop {
                    let all = db.list().await?;
                    let end = format!("-{}-1-a", self.task);
                    let of_a = |name: &str| name.ends_with(&end);
                    match all.iter().find(|line| of_a(&line.address.identifier)) {
                        Some(line) => {
                            let name = line.address.identifier.as_str();
                            return db.remove::<LocalModel>(name).await.map(|_| ());
                        }
                        None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    }
                }
            })?;
        }
        DefaultExecutor {}.execute(task, tensors, ctx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g18_a_site_that_repeats_its_update_starts_from_the_same_model_of_another_site() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g18t").rounds(2);
    training.options.skip_model_tests = true;
    training.strategy = Box::new(Chained { name: "g18t".into(), period: 2 });
    training.executor = Box::new(Thief { task: "train".into() });
    let trainer = trained(&db, training, None).await;
    assert_eq!(calls("g18t/a/1"), 2, "the update was lost once");
    // As without the loss: a starts from 0.5 and gives 0.25, b from 0 and gives 0.5.
    assert_eq!(weights(&trainer).await, [0.375, 0.375]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g16_moments_that_are_lost_are_asked_for_again() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = two_sites("g16t");
    training.uncertainty = superduper_federated::UncertaintyMethod::Swag { samples: 2 };
    training.federation.memory = 0;
    training.executor = Box::new(Thief { task: "swag".into() });
    let trainer = trained(&db, training, None).await;
    let moment = trainer.global().await.unwrap().first_moment.clone().expect("moments");
    let first = moment.get().await.unwrap().to_vec::<f32>("w").await.unwrap();
    // The weights are 0.25, the means of the rows 0 and 1.
    assert_eq!(first, [0.75, 0.75]);
}
