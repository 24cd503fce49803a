//! Settings, model arguments and the number of classes.

use super::{custom, folder, head, net, types::Net};
use crate::support::*;
use std::any::Any;
use superduper::prelude::*;
use superduper_federated::{FedAvg, FederatedTraining, ModelConfig, Site, SiteData, State};

/// Rows with a number of classes.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Labelled {
    classes: Option<usize>,
}

#[typetag::serde(name = "it.Labelled")]
impl SiteData for Labelled {
    fn rows(&self) -> u64 {
        4
    }
    fn classes(&self) -> Option<usize> {
        self.classes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn labelled(name: &str, classes: &[Option<usize>]) -> FederatedTraining {
    let sites = classes.iter().enumerate();
    let sites = sites
        .map(|(place, classes)| Site::new(format!("s{place}"), Labelled { classes: *classes }));
    FederatedTraining::new(name, ModelConfig::new::<Net>(), FedAvg {}).sites(sites)
}

async fn refused(db: &Db, training: &FederatedTraining) -> String {
    let planned = db.plan(training).await.expect_err("it is refused at plan").to_string();
    let previewed = training.preview(db).await.expect_err("and by a preview").to_string();
    assert_eq!(planned, previewed);
    planned
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_arguments_that_do_not_fit_are_refused_at_plan_with_the_known_ones() {
    let place = Place::new();
    let db = place.open().await;
    let text = ModelConfig::new::<Net>().arg("num_classes", 3).unwrap_err().to_string();
    assert!(text.contains("`num_classes` is not an argument of a model"), "{text}");
    let with = |name: &str, value: serde_json::Value| {
        let mut training = net("c12");
        let mut model = ModelConfig::new::<Net>();
        model.model_args.insert(name.into(), value);
        training.model = superduper_federated::federated_model(model);
        training
    };
    let text = refused(&db, &with("num_classes", json!(3))).await;
    assert!(text.contains("set `config.num_classes`"), "{text}");
    let text = refused(&db, &with("dropuot", json!(0.1))).await;
    assert!(text.contains("unknown field `dropuot`"), "{text}");
    assert!(text.contains("the arguments are rate, outputs"), "{text}");
    let text = refused(&db, &with("rate", json!("fast"))).await;
    assert!(text.contains("/rate") && text.contains("\"fast\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_the_number_of_classes_is_taken_from_data_that_agrees() {
    let place = Place::new();
    let db = place.open().await;
    let trainer = trained(&db, net("c12n"), None).await;
    assert_eq!(head(&trainer).await.len(), 2, "the rows have two classes");
    let text = refused(&db, &labelled("c12d", &[Some(3), None, Some(5)])).await;
    assert!(
        text.contains("the sites disagree about the number of classes: `s0` has 3, `s2` has 5"),
        "{text}"
    );
    let text = refused(&db, &labelled("c12u", &[None, None])).await;
    assert!(text.contains("the number of classes of `it.Net` is not known"), "{text}");
    let mut given = labelled("c12g", &[Some(3), Some(5)]);
    given.config.num_classes = 6;
    assert!(db.plan(&given).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn c07_and_c19_each_setting_and_extra_reach_the_executor_and_extra_wins() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = net("c07");
    training.executor = Box::new(custom());
    training.config.local_epochs = 7;
    training.config.img_size = 32;
    training.config.learning_rate = 0.25;
    training.config.extra.insert("batch_size".into(), json!(5));
    training.config.extra.insert("mixup".into(), json!({"alpha": 0.2}));
    let trainer = trained(&db, training, None).await;
    let answers = trainer.answers("train", 0).await.unwrap();
    let wanted = json!({
        "num_classes": 2, "img_size": 32, "local_epochs": 7, "batch_size": 5, "learning_rate": 0.25,
        "mixup": {"alpha": 0.2}
    });
    assert_eq!(answers.len(), 2);
    for answer in answers.values() {
        assert_eq!(answer.properties["args"], wanted);
    }
    // A value of another type, and one that makes no sense, are refused.
    for (name, value, wanted) in [
        ("num_classes", json!("4"), "`config.extra` does not fit the field of its name"),
        ("batch_size", json!(0), "`config.batch_size` is 0"),
        ("learning_rate", json!(-1), "`config.learning_rate` must be positive"),
    ] {
        let mut training = net("c07w");
        training.config.extra.insert(name.into(), value);
        let text = refused(&db, &training).await;
        assert!(text.contains(wanted), "{text}");
    }
    // Also the number of classes.
    let mut training = net("c07x");
    training.config.num_classes = 3;
    training.config.extra.insert("num_classes".into(), json!(4));
    let trainer = trained(&db, training, None).await;
    assert_eq!(head(&trainer).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_a_model_of_another_width_is_refused_at_plan_naming_both_shapes() {
    let place = Place::new();
    let db = place.open().await;
    let mut training = net("c08");
    training.model =
        superduper_federated::federated_model(ModelConfig::new::<Net>().arg("outputs", 7).unwrap());
    training.config.num_classes = 10;
    training.config.img_size = 8;
    let text = refused(&db, &training).await;
    assert!(text.contains("gives [2, 7] for images [2, 3, 8, 8], not [2, 10]"), "{text}");
    training.model = superduper_federated::federated_model(ModelConfig::new::<Net>());
    assert!(db.plan(&training).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_a_class_is_found_by_its_path_and_an_unknown_one_is_refused_with_the_known_ones() {
    let place = Place::new();
    let db = place.open().await;
    for path in ["it.Net", "it::sdk::types::Net"] {
        let model = ModelConfig::class(path).unwrap().arg("rate", 1.0).unwrap();
        let mut training = net("c09");
        training.model = superduper_federated::federated_model(model);
        let preview = training.preview(&db).await.unwrap();
        assert!(preview.file("scripts/net.rs").is_some());
    }
    let text = ModelConfig::class("my_module::MyResNet").unwrap_err().to_string();
    assert!(text.contains("the model class `my_module::MyResNet` is not known"), "{text}");
    assert!(text.contains("use my_module as _;"), "{text}");
    assert!(text.contains("it.Net (`it::sdk::types::Net`)"), "{text}");
    // In a document, too.
    let mut training = net("c09");
    let mut model = ModelConfig::new::<Net>();
    model.model_class = "it.Nett".into();
    training.model = superduper_federated::federated_model(model);
    let text = refused(&db, &training).await;
    assert!(text.contains("the model class `it.Nett` is not known"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_by_class_and_one_by_value_end_alike() {
    let place = Place::new();
    let db = place.open().await;
    let by_class = trained(&db, net("alike").rounds(3), None).await;
    let model = Net { identifier: "n".into(), num_classes: 2, rate: 0.5, outputs: None };
    let sites = net("x").sites;
    let by_value = FederatedTraining::new("alike2", model, FedAvg {}).sites(sites).rounds(3);
    let by_value = trained(&db, by_value, None).await;
    assert_eq!(head(&by_class).await, head(&by_value).await);
    assert_eq!(by_value.state().await.unwrap(), State::Completed);
    assert!(!folder(&place, "model_out").exists(), "the default writes no files");
}
