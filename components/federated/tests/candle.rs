//! Networks on candle over sites.
#![cfg(feature = "candle")]

use std::{sync::Arc, time::Duration};
use superduper::prelude::*;
use superduper_candle::{Architecture, MlpSpec, Table};
use superduper_federated::{
    FedAvg, FedProx, FederatedTraining, ModelTrainer, Site, State, Strategy, UncertaintyMethod,
    candle::{FederatedNetwork, TableData},
};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;

async fn database() -> Db {
    Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await
        .expect("a database")
}

/// Two classes on a line; each site has rows of both, around other places.
fn table(shift: f32) -> Table {
    let features = (0..32).map(|row| if row % 2 == 0 { -1.0 } else { 1.0 } + shift).collect();
    Table::new(1, features, (0..32).map(|row| row % 2).collect()).expect("a table")
}

fn training(name: &str, strategy: impl Strategy + 'static, dropout: f64) -> FederatedTraining {
    let sizes = MlpSpec { inputs: 1, hidden: vec![8], classes: 2, dropout, batch_norm: false };
    let network = FederatedNetwork::new("line", Architecture::Mlp(sizes));
    let sites = [0.1, -0.1, 0.2].into_iter().enumerate();
    let mut training = FederatedTraining::new(name, network, strategy).rounds(3).sites(
        sites.map(|(number, shift)| Site::new(format!("s{number}"), TableData::new(table(shift)))),
    );
    training.config.learning_rate = 0.3;
    training.config.local_epochs = 4;
    training.config.batch_size = 8;
    training.central = Some(Site::new("the coordinator", TableData::new(table(0.0))));
    training
}

async fn trained(db: &Db, training: FederatedTraining) -> ModelTrainer {
    let mut trainer = ModelTrainer::new(db, training, None).expect("a trainer");
    trainer.start().await.expect("it starts");
    let state = trainer.wait(Duration::from_secs(60)).await.expect("it ends");
    assert_eq!(state, State::Completed, "{:?}", trainer.failures().await);
    trainer
}

#[tokio::test(flavor = "multi_thread")]
async fn g19_a_network_learns_over_sites_with_fedavg_and_fedprox() {
    for prox in [false, true] {
        let db = database().await;
        let trainer = match prox {
            false => trained(&db, training("fedavg", FedAvg {}, 0.0)).await,
            true => trained(&db, training("fedprox", FedProx { mu: 0.1 }, 0.0)).await,
        };
        let metrics = trainer.progress().await.expect("progress").metrics;
        assert_eq!(metrics["accuracy"], 1.0, "{metrics:?}");
        assert_eq!(metrics["central/accuracy"], 1.0, "{metrics:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g17_each_method_gives_an_uncertainty() {
    let rows = [vec![-1.0_f32], vec![0.0], vec![1.0]];
    for method in [
        UncertaintyMethod::None,
        UncertaintyMethod::Ensemble,
        UncertaintyMethod::McDropout { samples: 20 },
        UncertaintyMethod::Swag { samples: 20 },
    ] {
        let db = database().await;
        let dropout =
            if matches!(method, UncertaintyMethod::McDropout { .. }) { 0.25 } else { 0.0 };
        let mut training = training("u", FedAvg {}, dropout);
        training.uncertainty = method;
        training.federation.keep.last = 2;
        let trainer = trained(&db, training).await;
        let stored = trainer.training().await.expect("it is stored");
        let found = FederatedNetwork::predict(&stored, &rows).await.expect("a prediction");
        let spread: f64 = found.rows.iter().flat_map(|row| row.variance.iter()).sum();
        match method {
            UncertaintyMethod::None => assert_eq!(spread, 0.0),
            _ => assert!(spread > 0.0 && spread.is_finite(), "{method:?}: {spread}"),
        }
        for row in &found.rows {
            let sum: f64 = row.mean.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{row:?}");
        }
        assert!(found.rows[0].mean[0] > found.rows[2].mean[0], "it has learned: {found:?}");
    }
}
