//! Persistors: models outside of the database, reports, and what may go wrong.

use super::{folder, head, net, started, types::*};
use crate::support::*;
use superduper_federated::{DefaultPersistor, ModelTrainer, State};

/// Run a program of Python; `None` where it has not what is needed.
fn python(program: &str, args: &[&std::path::Path]) -> Option<String> {
    let can = std::process::Command::new("python3")
        .args(["-c", "import safetensors, numpy"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: Python with the packages safetensors and numpy is needed");
        return None;
    }
    let output = std::process::Command::new("python3")
        .arg("-c")
        .arg(program)
        .args(args)
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("it prints text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_the_default_writes_models_and_metrics_that_python_reads() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    let mut training = net("c20p").rounds(3);
    training.sites.push(superduper_federated::Site::new("c", faulty("x")));
    training.model = superduper_federated::federated_model(mean(2));
    training.sites[1].data = Some(Box::new(faulty("error")));
    training.persistor = Box::new(DefaultPersistor::to(&out).every_round());
    let trainer = trained(&db, training, None).await;
    let csv = std::fs::read_to_string(out.join("files_out/metrics.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("round,task,site,code,samples,metric,value"));
    for round in 1..=3 {
        assert!(csv.contains(&format!("{round},train,a,OK,2,loss,")), "{csv}");
        assert!(csv.contains(&format!("{round},train,b,EXECUTION_EXCEPTION,0,,\n")), "{csv}");
        assert!(csv.contains(&format!("{round},test,a,OK,2,value,")), "{csv}");
        assert!(csv.contains(&format!("{round},test,,OK,")), "{csv}");
    }
    let log = std::fs::read_to_string(out.join("files_out/log.txt")).unwrap();
    assert_eq!(log.lines().count(), 6, "{log}");
    assert!(log.starts_with("round 1, train: 2 of 3 sites answered; "), "{log}");
    assert!(log.contains("b: EXECUTION_EXCEPTION"), "{log}");
    let names = trainer.saved_models().await.unwrap();
    assert_eq!(names, ["model_r1", "model_r2", "model_r3", "model"]);
    let newest = trainer.saved_model("model").await.unwrap();
    assert_eq!(newest.to_vec::<f32>("w").await.unwrap(), weights(&trainer).await);
    let text = trainer.saved_model("../db").await.unwrap_err().to_string();
    assert!(text.contains("no model `../db`") && text.contains("model_r3"), "{text}");

    let program = "
import csv, json, sys
from safetensors.numpy import load_file
print(load_file(sys.argv[1] + '/model_out/model.safetensors')['w'].tolist())
rows = list(csv.DictReader(open(sys.argv[1] + '/files_out/metrics.csv')))
lines = [json.loads(line) for line in open(sys.argv[1] + '/files_out/metrics.jsonl')]
assert len(rows) == len(lines), (len(rows), len(lines))
for row, line in zip(rows, lines):
    assert int(row['round']) == line['round'] and row['metric'] == line['metric']
    assert (float(row['value']) if row['value'] else None) == line['value']
";
    if let Some(printed) = python(program, &[&out]) {
        // Python has them as 64-bit numbers.
        let wanted: Vec<f64> = weights(&trainer).await.into_iter().map(f64::from).collect();
        assert_eq!(printed.trim(), format!("{wanted:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_a_report_that_is_written_again_takes_the_place_of_the_first() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    let training = |rounds| {
        let mut training = net("c20r").rounds(rounds);
        training.persistor = Box::new(DefaultPersistor::to(&out));
        training
    };
    trained(&db, training(2), None).await;
    let before = std::fs::read_to_string(out.join("files_out/metrics.csv")).unwrap();
    // What a job that is run again would find.
    std::fs::write(
        out.join("files_out/metrics.csv"),
        // The last line was cut short by a crash.
        format!("{before}3,train,\"a, old\",OK,1,loss,9\n3,train,b,O"),
    )
    .unwrap();
    let lines = std::fs::read_to_string(out.join("files_out/metrics.jsonl")).unwrap();
    std::fs::write(out.join("files_out/metrics.jsonl"), format!("{lines}{{\"round\": 3, \"ta"))
        .unwrap();
    let log = std::fs::read_to_string(out.join("files_out/log.txt")).unwrap();
    std::fs::write(out.join("files_out/log.txt"), format!("{log}round 3, train: 1 o")).unwrap();
    let draft = std::fs::File::create(out.join("files_out/.metrics.csv.1.draft")).unwrap();
    draft
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600))
        .unwrap();
    db.apply(training(3)).await.unwrap();
    let after = std::fs::read_to_string(out.join("files_out/metrics.csv")).unwrap();
    assert!(after.starts_with(&before) && !after.contains("old"), "{after}");
    assert!(after.contains("3,train,a,OK,2,loss,"), "{after}");
    assert!(!out.join("files_out/.metrics.csv.1.draft").exists(), "left by a kill long ago");
    let lines = std::fs::read_to_string(out.join("files_out/metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count() + 1, after.lines().count());
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let log = std::fs::read_to_string(out.join("files_out/log.txt")).unwrap();
    assert_eq!(log.lines().count(), 6, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_a_persistor_of_the_head_alone_in_int8_is_what_the_next_round_starts_from() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "heads");
    std::fs::create_dir(&out).unwrap();
    let mut training = net("c16").rounds(3);
    training.sites[0].data = Some(Box::new(rows(&[0.1, 0.2])));
    training.persistor = Box::new(Int8Head { folder: out.clone() });
    let trainer = trained(&db, training, None).await;
    // Each round moves half way to the mean of the rows, 0.575, and rounds to 1/64.
    let mut expected = 0.0_f32;
    for _ in 0..3 {
        let sites = [0.15_f32, 1.0].map(|mean| expected + (mean - expected) * 0.5);
        let mean = (sites[0] + sites[1]) / 2.0;
        expected = (mean * 64.0).round() / 64.0;
    }
    assert_eq!(head(&trainer).await, [expected; 2]);
    assert_eq!(trainer.saved_models().await.unwrap(), ["after-1", "after-2", "after-3"]);
    let last = trainer.saved_model("after-3").await.unwrap();
    assert_eq!(last.to_vec::<f32>("head").await.unwrap(), [expected; 2]);
    assert_eq!(last.to_vec::<f32>("backbone").await.unwrap(), [0.25, -0.75], "it is frozen");
    assert_eq!(std::fs::read(out.join("after-3.head")).unwrap().len(), 2, "a byte for a weight");
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_two_persistors_of_one_type_keep_their_own_settings() {
    let place = Place::new();
    let db = place.open().await;
    for name in ["one", "two"] {
        let mut training = net(&format!("c14{name}"));
        training.persistor = Box::new(DefaultPersistor::to(folder(&place, name)));
        trained(&db, training, None).await;
    }
    for name in ["one", "two"] {
        assert!(folder(&place, name).join("model_out/model.safetensors").exists());
        let trainer = ModelTrainer::open(&db, &format!("c14{name}")).await.unwrap();
        assert_eq!(trainer.saved_models().await.unwrap(), ["model"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_version_of_a_training() {
    let place = Place::new();
    let db = place.open().await;
    let training = |seed, name: &str| {
        let mut training = net("c14v");
        training.seed = seed;
        training.persistor = Box::new(DefaultPersistor::to(folder(&place, name)));
        training
    };
    trained(&db, training(0, "one"), None).await;
    let trainer = started(&db, training(1, "one")).await;
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(
        why.contains("has the files of training ") && why.contains("a folder of its own"),
        "{why}"
    );
    trained(&db, training(2, "two"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_rounds_that_hand_models_on_are_reported_too() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "out");
    let mut training = net("c20d").rounds(4);
    training.strategy = Box::new(superduper_federated::FedDC { daisy_chain_period: 2 });
    training.persistor = Box::new(DefaultPersistor::to(&out));
    trained(&db, training, None).await;
    let csv = std::fs::read_to_string(out.join("files_out/metrics.csv")).unwrap();
    for round in 1..=4 {
        assert!(csv.contains(&format!("\n{round},train,a,OK,2,loss,0.5\n")), "{csv}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persistor_that_loads_another_model_is_refused_by_name() {
    let place = Place::new();
    let db = place.open().await;
    for (name, wanted) in [
        ("head", "what the persistor loads, tensor `head`: it is"),
        ("tail", "what the persistor loads, tensor `head`: it is missing"),
    ] {
        let mut training = net(&format!("stranger{name}"));
        training.persistor = Box::new(Stranger { name: name.into() });
        let trainer = started(&db, training).await;
        assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
        let why = trainer.failures().await.unwrap().join("; ");
        assert!(why.contains(wanted), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_an_error_and_mended_by_another_apply() {
    let place = Place::new();
    let db = place.open().await;
    let out = folder(&place, "file");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("model_out"), "no folder").unwrap();
    let training = || {
        let mut training = net("nofolder").rounds(2);
        training.persistor = Box::new(DefaultPersistor::to(&out));
        training
    };
    let trainer = started(&db, training()).await;
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
    let why = trainer.failures().await.unwrap().join("; ");
    assert!(why.contains("saving the model of round 1: cannot write `"), "{why}");
    std::fs::remove_file(out.join("model_out")).unwrap();
    db.apply(training()).await.unwrap();
    assert_eq!(trainer.state().await.unwrap(), State::Completed);
    assert!(out.join("model_out/model.safetensors").exists());
}
