//! Custom models of seven methods.

use crate::support::*;
use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
};
use superduper::prelude::*;
use superduper_access::{
    CustomModel, Forward, GovernedSite, ModelReference, SUPER_MODELLER, custom_model,
};
use superduper_candle::{
    Array, Batch, CandleError, Mode, Optimizer, Sgd, Table, Tensor, Var, Weights,
};
use superduper_federated::{FedProx, State, TrainingConfig, candle::TableData};

/// The calls, with the shapes that they got.
static CALLS: LazyLock<Mutex<BTreeMap<String, usize>>> = LazyLock::new(Mutex::default);

fn called(what: String) {
    *CALLS.lock().unwrap().entry(what).or_default() += 1;
}

/// One weight for each feature, and a bias.
#[derive(Component, Clone)]
#[component(kind = "access-it.Line", source)]
struct Line {
    identifier: String,
    #[component(breaking, default = 0.1)]
    learning_rate: f64,
}
custom_model!(Line);

type Params = BTreeMap<String, Var>;

#[source]
impl CustomModel for Line {
    fn construct(&self) -> Result<()> {
        called("construct".into());
        match self.learning_rate > 0.0 {
            true => Ok(()),
            false => Err(Error::invalid("`learning_rate` must be positive")),
        }
    }

    fn create_model(&self, input: &[usize], classes: usize, seed: u64) -> Result<Weights> {
        called(format!("create_model {input:?} {classes} {seed}"));
        let mut weights = Weights::new();
        weights.insert("w", Array::zeros([input[0], 1]));
        weights.insert("b", Array::zeros([1]));
        Ok(weights)
    }

    fn configure_optimizers(&self) -> Result<Box<dyn Optimizer>> {
        called("configure_optimizers".into());
        Ok(Box::new(Sgd { learning_rate: self.learning_rate, ..Sgd::default() }))
    }

    fn forward(&self, params: &Params, batch: &Batch, _: Mode) -> Result<Forward> {
        let forward = || {
            let outputs = batch.features.matmul(params["w"].as_tensor())?.squeeze(1)?;
            let outputs = outputs.broadcast_add(params["b"].as_tensor())?;
            let loss = (&outputs - &batch.labels)?.sqr()?.mean_all()?;
            Ok(Forward { outputs, loss })
        };
        forward().map_err(|error: CandleError| Error::other(error))
    }

    fn training_step(&self, params: &Params, batch: &Batch, mode: Mode) -> Result<Tensor> {
        called(format!("training_step {:?} {}", batch.features.dims(), mode.is_train()));
        Ok(self.forward(params, batch, mode)?.loss)
    }

    fn validation_step(&self, params: &Params, batch: &Batch) -> Result<BTreeMap<String, f64>> {
        called(format!("validation_step {:?}", batch.labels.dims()));
        let loss = self.forward(params, batch, Mode::Eval)?.loss;
        let loss = f64::from(loss.to_scalar::<f32>().map_err(Error::other)?);
        Ok(BTreeMap::from([("loss".to_owned(), loss), ("root".to_owned(), loss.sqrt())]))
    }

    fn test_step(&self, params: &Params, batch: &Batch) -> Result<BTreeMap<String, f64>> {
        called(format!("test_step {:?}", batch.features.dims()));
        let loss = self.forward(params, batch, Mode::Eval)?.loss;
        let loss = f64::from(loss.to_scalar::<f32>().map_err(Error::other)?);
        Ok(BTreeMap::from([("loss".to_owned(), loss)]))
    }
}

/// Rows of 2 features whose value is `2 x - y + 1`.
fn table(rows: usize, seed: usize) -> TableData {
    let at = |row: usize, column: usize| ((row * 7 + column * 3 + seed) % 11) as f32 / 11.0 - 0.5;
    let features: Vec<f32> = (0..rows).flat_map(|row| [at(row, 0), at(row, 1)]).collect();
    let values = (0..rows).map(|row| 2.0 * at(row, 0) - at(row, 1) + 1.0).collect();
    TableData::new(Table::of_values(2, features, values).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_each_of_the_seven_methods_is_called_as_documented() {
    let place = Place::new();
    let db = place.open().await;
    let owner = owner(&db);
    for (name, seed) in [("a", 0), ("b", 4)] {
        let site = GovernedSite::new(name, owner.who().clone()).data(table(8, seed));
        owner.govern(site).await.unwrap();
        owner.grant_role(name, "alice", SUPER_MODELLER).confirm().await.unwrap();
    }
    let alice = alice(&db);
    alice.publish::<Line>("Line").await.unwrap();
    let mut config = TrainingConfig { local_epochs: 3, batch_size: 4, ..TrainingConfig::default() };
    config.extra.insert("validation".into(), json!(0.25));
    let line = ModelReference::new("Line").hyperparameter("learning_rate", 0.2);
    let trainer = line.fit(&alice, ["a", "b"]).purpose("study").config(config.clone()).seed(5);
    let trainer = trainer.await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Completed);
    let calls: Vec<(String, usize)> =
        std::mem::take(&mut *CALLS.lock().unwrap()).into_iter().collect();
    let expected = [
        ("configure_optimizers", 2),
        // The coordinator, and two sites that train and test.
        ("construct", 5),
        ("create_model [2] 0 5", 1),
        // 8 rows in batches of 4, at two sites.
        ("test_step [4, 2]", 4),
        // 6 rows to learn in 2 batches, 3 epochs, two sites.
        ("training_step [2, 2] true", 6),
        ("training_step [4, 2] true", 6),
        // 2 rows that are held back, after each epoch.
        ("validation_step [2]", 6),
    ];
    assert_eq!(calls, expected.map(|(name, count)| (name.to_owned(), count)));

    let answer = trainer.answers("train", 0).await.unwrap().remove("a").unwrap();
    let names: Vec<&str> = answer.metrics.keys().map(String::as_str).collect();
    assert_eq!(names, ["loss", "validation_loss", "validation_root"]);
    assert_eq!(answer.samples, 8);

    // More rounds learn the line; FedProx holds for custom models, too.
    let longer = line.fit(&alice, ["a", "b"]).purpose("study").rounds(40).config(config);
    let longer = longer.strategy(FedProx { mu: 0.01 }).await.unwrap();
    assert_eq!(longer.wait(LONG).await.unwrap(), State::Completed);
    let loss = |progress: superduper_federated::Progress| progress.metrics["loss"];
    let (first, last) =
        (loss(trainer.progress().await.unwrap()), loss(longer.progress().await.unwrap()));
    assert!(last < 0.02 && last < first, "{first} {last}");
    let weights = longer.global().await.unwrap().weights.clone();
    let predicted = line.predict(&alice, ["a"]).weights(weights).purpose("study").await.unwrap();
    assert_eq!(predicted.wait(LONG).await.unwrap(), State::Completed);
    let outputs = predicted.predictions().await.unwrap()["a"].to_vec::<f32>("outputs").await;
    let table = table(8, 0).table().get().await.unwrap();
    for (found, wanted) in outputs.unwrap().iter().zip(table.targets().unwrap()) {
        assert!((found - wanted).abs() < 0.4, "{found} {wanted}");
    }

    let wrong = ModelReference::new("Line").hyperparameter("learning_rate", -1.0);
    let wrong = wrong.fit(&alice, ["a", "b"]).purpose("study").await.unwrap();
    assert_eq!(wrong.wait(LONG).await.unwrap(), State::Error);
    let why = wrong.failures().await.unwrap().join("; ");
    assert!(why.contains("`learning_rate` must be positive"), "{why}");
    // Sites whose rows have another width.
    let wide = TableData::new(Table::of_values(1, vec![1.0], vec![1.0]).unwrap());
    owner.govern(GovernedSite::new("c", owner.who().clone()).data(wide)).await.unwrap();
    owner.grant_role("c", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let error = line.fit(&alice, ["a", "c"]).purpose("study").await.err().unwrap().to_string();
    assert!(error.contains("the sites disagree about the shape of a row"), "{error}");
    // The source of a custom model is that of its `impl CustomModel`.
    let training = line.fit(&alice, ["a"]).purpose("study").training().await.unwrap();
    let missing = training.uncovered_source().unwrap();
    assert!(!missing.iter().any(|note| note.contains("impl FederatedModel")), "{missing:?}");
    assert!(training.captured_source().unwrap().contains("impl CustomModel for Line"));
}
