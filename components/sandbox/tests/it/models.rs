//! Models whose code is a guest.

use crate::guests::*;
use std::{path::Path, sync::Arc, time::Duration};
use superduper::{DbBuilder, prelude::*};
use superduper_candle::{AdamW, Architecture, MlpSpec, Optimizer, Table};
use superduper_federated::{
    FedAvg, FedProx, FederatedTraining, ModelTrainer, Site, SiteJobs, State,
    candle::{FederatedNetwork, TableData},
};
use superduper_object::ObjectStore;
use superduper_sandbox::{Limits, SandboxedModel};
use superduper_sqlite::SqliteStore;

pub(crate) const LONG: Duration = Duration::from_secs(240);

/// A database in a folder.
pub(crate) fn builder(folder: &Path) -> DbBuilder {
    let metadata = SqliteStore::open(folder).expect("the metadata opens");
    let artifacts = ObjectStore::folder(folder.join("artifacts")).expect("the artifacts open");
    Db::builder().metadata(Arc::new(metadata)).artifacts(Arc::new(artifacts))
}

/// The digits of the examples: rows to learn from in two halves, and rows to test on.
fn tables() -> [Table; 3] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/digits.csv");
    let text = std::fs::read_to_string(file).expect("the data");
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut cells = line.split(',');
        let numbers: Vec<f32> = cells.by_ref().map_while(|cell| cell.trim().parse().ok()).collect();
        if numbers.len() != 65 {
            continue; // a heading
        }
        features.extend(numbers[..64].iter().map(|value| value / 16.0));
        labels.push(numbers[64] as u32);
    }
    let all = Table::new(64, features, labels).expect("a table");
    let (learn, test) = all.split(1, 0.25).expect("a split");
    let (one, other) = learn.split(2, 0.5).expect("a split");
    [one, other, test]
}

pub(crate) fn sandboxed(code: Bytes) -> SandboxedModel {
    SandboxedModel::new("guest", code, serde_json::Map::new()).expect("a model")
}

/// A training over two sites; the model is tested at a third place.
fn training(name: &str, model: impl superduper_federated::FederatedModel) -> FederatedTraining {
    let [one, other, test] = tables();
    let mut training = FederatedTraining::new(name, model, FedAvg {})
        .sites([Site::new("a", TableData::new(one)), Site::new("b", TableData::new(other))]);
    training.central = Some(Site::new("test", TableData::new(test)));
    training.config.local_epochs = 5;
    training.config.batch_size = 16;
    training.config.learning_rate = 0.2;
    training.seed = 3;
    training
}

async fn done(db: &Db, training: FederatedTraining) -> ModelTrainer {
    let mut trainer = ModelTrainer::new(db, training, None).expect("it fits together");
    trainer.start().await.expect("it starts");
    let state = trainer.wait(LONG).await.expect("it ends");
    assert_eq!(state, State::Completed, "{:?}", trainer.failures().await);
    trainer
}

async fn accuracy(trainer: &ModelTrainer) -> f64 {
    trainer.progress().await.expect("progress").metrics["central/accuracy"]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digits_are_learned_in_the_sandbox_as_well_as_by_the_native_network() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let guest = done(&db, training("guest", sandboxed(digits()))).await;
    let spec = MlpSpec { inputs: 64, hidden: vec![32], classes: 10, ..MlpSpec::default() };
    let native = FederatedNetwork::new("native", Architecture::Mlp(spec));
    let native = done(&db, training("native", native)).await;
    let (guest, native) = (accuracy(&guest).await, accuracy(&native).await);
    println!("after 5 epochs: sandboxed {guest:.4}, native {native:.4}");
    assert!(guest > 0.85, "{guest}");
    assert!(guest >= native - 0.01, "sandboxed {guest}, native {native}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_more_fuel_and_another_executor_give_equal_bits() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let first = done(&db, training("first", sandboxed(digits())).rounds(2)).await;
    let mut generous = sandboxed(digits());
    generous.limits = Limits { fuel: 2 * generous.limits.fuel, ..generous.limits };
    let mut second = training("second", generous).rounds(2);
    for site in &mut second.sites {
        site.jobs = SiteJobs { executor: Some("process".into()), ..SiteJobs::default() };
    }
    let with_processes = builder(folder.path()).program(worker()).build().await.unwrap();
    let second = done(&with_processes, second).await;
    let bits = async |trainer: &ModelTrainer| {
        let weights = trainer.global().await.unwrap().weights.get().await.unwrap();
        let mut all = Vec::new();
        for name in weights.names() {
            all.push((name.to_owned(), weights.get(name).await.unwrap().bytes));
        }
        all
    };
    assert_eq!(bits(&first).await, bits(&second).await);
}

/// The program of job processes.
fn worker() -> std::path::PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().join("examples/sandbox-worker")
}

#[tokio::test(flavor = "multi_thread")]
async fn optimizers_and_strategies_of_the_host_hold_for_guests() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let mut model = sandboxed(digits());
    model.optimizer = Some(Box::new(AdamW { learning_rate: 0.01, ..AdamW::default() }));
    let mut adam = training("adam", model).rounds(2);
    adam.strategy = Box::new(FedProx { mu: 0.001 });
    adam.options.predict = true;
    let trainer = done(&db, adam).await;
    let found = accuracy(&trainer).await;
    assert!(found > 0.93, "{found}");
    let predicted = trainer.predictions().await.unwrap()["a"].clone();
    let rows = tables()[0].rows();
    assert_eq!(predicted.info("outputs").unwrap().shape, [rows, 10]);
}

/// A model with one parameter, whose functions have these bodies.
fn line(initial: &str, step: &str, forward: &str) -> Bytes {
    module(&format!(
        r#"(module
            (memory (export "memory") 1)
            (@custom "superduper" "{{\"abi\": 1, \"name\": \"Line\", \"model\": {{\"features\": 1, \"outputs\": 1, \"labels\": \"values\", \"parameters\": [{{\"name\": \"w\", \"shape\": [1]}}], \"hyperparameters\": {{\"rate\": {{\"type\": \"f64\"}}, \"name\": {{\"type\": \"String\", \"default\": \"x\"}}}}}}}}")
            (global $heap (mut i32) (i32.const 1024))
            (func (export "alloc") (param $bytes i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $heap))
                (global.set $heap (i32.and (i32.add (i32.add (local.get $at) (local.get $bytes)) (i32.const 15)) (i32.const -16)))
                (local.get $at))
            (func (export "initial") (param $seed i64) (param $p i32) {initial})
            (func (export "step") (param $p i32) (param $x i32) (param $y i32) (param $rows i32) (param $g i32) (result f32) {step})
            (func (export "forward") (param $p i32) (param $x i32) (param $rows i32) (param $out i32) {forward}))"#
    ))
}

fn settings(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[test]
fn hyperparameters_are_checked_when_the_model_is_made() {
    let model = |given| SandboxedModel::new("line", line("", "(f32.const 0)", ""), settings(given));
    assert!(model(json!({"rate": 0.5})).is_ok());
    let error = model(json!({"rat": 1, "name": 2})).map(drop).unwrap_err().to_string();
    for part in [
        "there is no hyperparameter `rat`; there are name, rate",
        "the hyperparameter `rate` is missing",
        "the hyperparameter `name` is 2, not of type String",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Digits.wasm");
    std::fs::write(&file, digits()).unwrap();
    let read = SandboxedModel::from_file(&file, serde_json::Map::new()).unwrap();
    assert_eq!(read.identifier(), "Digits");
    let missing = SandboxedModel::from_file("none.wasm", serde_json::Map::new()).map(drop);
    assert!(missing.unwrap_err().to_string().contains("`none.wasm` cannot be read"));
    let callable = SandboxedModel::new("x", good(), serde_json::Map::new()).map(drop);
    assert!(callable.unwrap_err().to_string().contains("declares no model"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p25_nan_and_loops_of_a_model_are_answers_of_its_site() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let nan = "(f32.store (local.get $g) (f32.const nan)) (f32.const 1)";
    for (name, initial, step, wanted) in [
        ("nan", "", nan, "`step` gives NaN at place 0"),
        ("nan-loss", "", "(f32.const nan)", "`step` gives the loss NaN"),
        ("loops", "", "(loop $l (br $l)) unreachable", "used up its fuel"),
        (
            "infinite",
            "(f32.store (local.get $p) (f32.const inf))",
            "(f32.const 1)",
            "`initial` gives inf",
        ),
    ] {
        let code = line(initial, step, "");
        let mut model = SandboxedModel::new("line", code, settings(json!({"rate": 1}))).unwrap();
        model.limits.fuel = 1_000_000;
        let table = Table::of_values(1, vec![1.0, 2.0], vec![1.0, 2.0]).unwrap();
        let training = FederatedTraining::new(name, model, FedAvg {})
            .sites([Site::new("a", TableData::new(table))]);
        let mut trainer = ModelTrainer::new(&db, training, None).unwrap();
        trainer.start().await.unwrap();
        assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error, "{name}");
        let why = trainer.failures().await.unwrap().join("; ");
        assert!(why.contains(wanted), "{name}: {why}");
    }
    // The process is well.
    let table = Table::of_values(1, vec![1.0, 2.0], vec![1.0, 2.0]).unwrap();
    let fine = line("", "(f32.store (local.get $g) (f32.const 1)) (f32.const 1)", "");
    let fine = SandboxedModel::new("line", fine, settings(json!({"rate": 1}))).unwrap();
    let mut training = FederatedTraining::new("fine", fine, FedAvg {})
        .sites([Site::new("a", TableData::new(table))]);
    training.config.local_epochs = 1;
    training.config.learning_rate = 0.5;
    let trainer = done(&db, training).await;
    let weights = trainer.global().await.unwrap().weights.get().await.unwrap();
    assert_eq!(weights.to_vec::<f32>("w").await.unwrap(), [-0.5], "one step of 0.5 against 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_a_model_cannot_ask_for_more_than_its_process_allows() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    // Takes 512 MiB in each step; the default limit is 256.
    let step = "(drop (memory.grow (i32.const 8192))) (f32.const 1)";
    let code = line("", step, "");
    let mut model = SandboxedModel::new("line", code, settings(json!({"rate": 1}))).unwrap();
    model.limits = Limits {
        memory: usize::MAX,
        stack: usize::MAX,
        fuel: u64::MAX,
        deadline: Duration::MAX,
        ..Limits::default()
    };
    let table = Table::of_values(1, vec![1.0], vec![1.0]).unwrap();
    let training = FederatedTraining::new("greedy", model, FedAvg {})
        .sites([Site::new("a", TableData::new(table))]);
    let mut trainer = ModelTrainer::new(&db, training, None).unwrap();
    trainer.start().await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("asked for more memory than its 268435456 bytes"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_predictions_are_no_larger_than_the_output_of_a_guest_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let text = std::str::from_utf8(include_bytes!("../guests/digits.wat")).unwrap();
    let text = text.replace("\\\"outputs\\\": 10", "\\\"outputs\\\": 67108864");
    let model = SandboxedModel::new("huge", module(&text), serde_json::Map::new()).unwrap();
    let table = Table::new(64, vec![0.0; 128], vec![0, 1]).unwrap();
    let mut training = FederatedTraining::new("huge", model, FedAvg {})
        .sites([Site::new("a", TableData::new(table))])
        .rounds(0);
    training.options.skip_model_tests = true;
    training.options.predict = true;
    let mut trainer = ModelTrainer::new(&db, training, None).unwrap();
    trainer.start().await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let answer = trainer.answers("predict", 0).await.unwrap().remove("a").unwrap();
    let wanted = "67108864 outputs for 2 rows are more than 67108864 bytes";
    assert!(answer.reason.contains(wanted), "{}", answer.reason);
}

/// An optimizer of somebody's own.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Own {}

#[typetag::serde(name = "sandbox-it.Own")]
impl Optimizer for Own {
    fn update(
        &self,
        _: &mut superduper_candle::OptimizerState,
        _: &std::collections::BTreeMap<String, superduper_candle::Var>,
        _: &candle_core::backprop::GradStore,
        _: f64,
    ) -> Result<()> {
        Ok(())
    }
}

#[test]
fn p11_an_optimizer_beside_a_guest_makes_it_custom_code() {
    let digest = |optimizer: Option<Box<dyn Optimizer>>| {
        let mut model = sandboxed(digits());
        model.optimizer = optimizer;
        FederatedTraining::new("x", model, FedAvg {}).source_digest().unwrap()
    };
    let of_module = superduper::Digest::of(&digits());
    assert_eq!(digest(None), of_module);
    assert_eq!(digest(Some(Box::new(AdamW::default()))), of_module);
    assert_ne!(digest(Some(Box::new(Own {}))), of_module);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_a_guest_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    for (name, table, wanted) in [
        ("width", Table::new(2, vec![0.0, 1.0], vec![0]).unwrap(), "the rows have 2 features"),
        ("labels", Table::of_values(64, vec![0.0; 64], vec![0.0]).unwrap(), "other labels"),
        ("class", Table::new(64, vec![0.0; 64], vec![10]).unwrap(), "a row has the class 10"),
    ] {
        let training = FederatedTraining::new(name, sandboxed(digits()), FedAvg {})
            .sites([Site::new("a", TableData::new(table))]);
        let mut trainer = ModelTrainer::new(&db, training, None).unwrap();
        trainer.start().await.unwrap();
        assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
        let why = trainer.failures().await.unwrap().join("; ");
        assert!(why.contains(wanted), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_other_than_the_one_that_was_granted_is_not_run() {
    let mut model = sandboxed(digits());
    model.module = Artifact::new(good());
    let folder = tempfile::tempdir().unwrap();
    let db = builder(folder.path()).build().await.unwrap();
    let table = Table::new(64, vec![0.0; 64], vec![0]).unwrap();
    let training = FederatedTraining::new("swapped", model, FedAvg {})
        .sites([Site::new("a", TableData::new(table))]);
    let mut trainer = ModelTrainer::new(&db, training, None).unwrap();
    trainer.start().await.unwrap();
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("the module of `guest` has the digest"), "{why}");
}
