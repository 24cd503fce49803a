//! Published models and references to them.

use crate::support::*;
use superduper::{ErrorKind, prelude::*};
use superduper_access::{
    Access, ColumnType, DataSchema, ModelReference, Principal, PublishedModel,
};
use superduper_federated::{FedAvg, FederatedTraining, Site, SiteData, State};

fn bob(db: &Db) -> Access {
    Access::acting(db, Principal::user("bob")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_m06_and_m07_versions_count_from_one_and_equal_code_is_the_same_version() {
    let place = Place::new();
    let db = place.open().await;
    let alice = alice(&db);
    assert_eq!(alice.publish::<Net>("MyNet").await.unwrap(), 1);
    assert_eq!(alice.publish::<Net>("MyNet").await.unwrap(), 1);
    // As if the code had been another one: a version with another digest.
    let mut model = db.load::<PublishedModel>("5-alice-MyNet").await.unwrap();
    let mut other = model.versions[0].clone();
    other.number = 2;
    other.digest = "0".repeat(64);
    model.versions.push(other);
    db.apply(model).await.unwrap();
    assert_eq!(alice.publish::<Net>("MyNet").await.unwrap(), 1, "the code of version 1 again");
    assert_eq!(alice.publish::<Net>("MyNet").new_version().await.unwrap(), 3);
    let error = ModelReference::new("MyNet").version(0).resolve(&alice).await.unwrap_err();
    assert!(error.to_string().contains("it has versions 1–3"), "{error}");
    let error = ModelReference::new("MyNet").version(4).resolve(&alice).await.unwrap_err();
    assert!(error.to_string().contains("has no version 4"), "{error}");
    // M03, M04: the newest, with its number.
    let newest = ModelReference::new("MyNet").resolve(&alice).await.unwrap();
    assert_eq!(newest.to_string(), "alice/MyNet:3");
    // M10: this program has other code than version 2.
    let error = ModelReference::new("MyNet").version(2).resolve(&alice).await.unwrap_err();
    let digest = newest.digest[..12].to_owned();
    assert!(error.to_string().contains("this program has another `access-it.Net`"), "{error}");
    assert!(
        error.to_string().contains(&digest) && error.to_string().contains("000000000000"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_and_m11_a_private_model_is_told_of_like_one_that_does_not_exist() {
    let place = Place::new();
    let db = place.open().await;
    let alice = alice(&db);
    alice.publish::<Net>("Secret").description("hidden").await.unwrap();
    let of = |name: &str| ModelReference::new(name).of("alice");
    let private = of("Secret").resolve(&bob(&db)).await.unwrap_err();
    let missing = of("Nothing").resolve(&bob(&db)).await.unwrap_err();
    assert_eq!(private.kind(), ErrorKind::NotFound);
    assert_eq!(private.to_string(), "model `alice/Secret` was not found");
    assert_eq!(private.to_string(), missing.to_string().replace("Nothing", "Secret"));
    let error = alice.publish::<Net>("Secret").public().await.unwrap_err().to_string();
    assert!(error.contains("anyone can read the source of `alice/Secret`"), "{error}");
    alice.publish::<Net>("Secret").public().confirm().await.unwrap();
    assert!(of("Secret").resolve(&bob(&db)).await.is_ok());
    // Two models of one name by two owners are two models.
    bob(&db).publish::<Other>("Secret").await.unwrap();
    let theirs = ModelReference::new("Secret").resolve(&bob(&db)).await.unwrap();
    assert_eq!(theirs.to_string(), "bob/Secret:1");
    let error = alice.publish::<Other>("Secret").await.unwrap_err().to_string();
    assert!(error.contains("is of kind `access-it.Net`, not `access-it.Other`"), "{error}");
    let error = alice.publish::<Bare>("Bare").await.unwrap_err().to_string();
    assert!(error.contains("is not captured"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_only_the_owner_attaches_weights() {
    let place = Place::new();
    let db = place.open().await;
    let alice = alice(&db);
    alice.publish::<Net>("MyNet").public().confirm().await.unwrap();
    let weights = || Tensors::new().with("w", &[1], &[2.0_f32]).unwrap();
    let error = bob(&db).attach_weights("alice", "MyNet", 1, weights()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    alice.attach_weights("alice", "MyNet", 1, weights()).await.unwrap();
    let model = db.load::<PublishedModel>("5-alice-MyNet").await.unwrap();
    let stored = model.versions[0].weights.as_ref().unwrap().get().await.unwrap();
    assert_eq!(stored.to_vec::<f32>("w").await.unwrap(), [2.0]);
    assert!(alice.attach_weights("alice", "MyNet", 2, weights()).await.is_err());
    let resolved = ModelReference::new("MyNet").of("alice").resolve(&bob(&db)).await.unwrap();
    assert!(resolved.weights.is_some());
    let error = alice.publish::<Net>("MyNet").new_version().await.unwrap_err().to_string();
    assert!(error.contains("anyone can read the source of `alice/MyNet`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_and_m13_a_reference_trains_as_the_struct_does() {
    let place = Place::new();
    let db = place.open().await;
    let alice = alice(&db);
    alice.publish::<Net>("MyNet").await.unwrap();
    let train = |name: &str, model| {
        FederatedTraining::new(name, model, FedAvg {}).sites([Site::new("a", Rows(vec![1.0]))])
    };
    let resolved = ModelReference::new("MyNet").hyperparameter("size", 3).resolve(&alice).await;
    let mut training = train("m13", resolved.unwrap().model);
    training.options.skip_model_tests = true;
    let (trainer, state) = ended(&db, training).await;
    assert_eq!(state, State::Completed);
    let weights = trainer.global().await.unwrap().weights.get().await.unwrap();
    assert_eq!(weights.to_vec::<f32>("w").await.unwrap(), [0.0; 3]);
    for (name, value, wanted) in
        [("size", json!("two"), "/size"), ("sise", json!(2), "unknown field `sise`")]
    {
        let reference = ModelReference::new("MyNet").hyperparameter(name, value);
        let training = train("m08", reference.resolve(&alice).await.unwrap().model);
        let error = db.plan(&training).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// A table with columns.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Table(Vec<(String, String)>);

#[typetag::serde(name = "access-it.Table")]
impl SiteData for Table {
    fn rows(&self) -> u64 {
        1
    }
    fn columns(&self) -> Vec<(String, String)> {
        self.0.clone()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn m09_all_columns_that_do_not_fit_are_in_one_error() {
    let table = |columns: &[(&str, &str)]| {
        Table(columns.iter().map(|(name, kind)| ((*name).into(), (*kind).into())).collect())
    };
    let sites = [
        Site::new("a", table(&[("age", "i64"), ("scan", "image(1, 8, 8)")])),
        Site::new("b", table(&[("age", "text"), ("scan", "image(3, 8, 8)")])),
        Site::new("c", table(&[("scan", "image(1, 8, 8)")])),
        Site::remote("d"),
    ];
    let schema =
        DataSchema::new().column("age", ColumnType::Int).column("scan", ColumnType::Image(1, 8, 8));
    let error = schema.check(&sites).unwrap_err().to_string();
    for part in [
        "column `age` of site `b` is text, not int",
        "column `scan` of site `b` is image(3, 8, 8), not image(1, 8, 8)",
        "site `c` has no column `age`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(schema.check(&sites[..1]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn p18_a_form_begins_with_a_model_and_asks_to_confirm_the_list() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", superduper_access::GENERAL_MODELLER).await.unwrap();
    let alice = alice(&db);
    let net = alice.publish::<Net>("MyNet").description("sums").link("https://example.org/net");
    net.await.unwrap();
    alice.publish::<Other>("Other").await.unwrap();

    let reference = || ModelReference::new("MyNet");
    let card = alice.card(&reference()).await.unwrap();
    assert_eq!((card.reference.as_str(), card.description.as_str()), ("alice/MyNet:1", "sums"));
    assert_eq!(card.link.as_deref(), Some("https://example.org/net"));
    assert!(card.source.contains("impl FederatedModel for Net") && !card.has_weights);
    let hidden = bob(&db).card(&reference().of("alice")).await.unwrap_err().to_string();
    assert_eq!(hidden, "model `alice/MyNet` was not found");
    // What is not given anew stays.
    alice.publish::<Net>("MyNet").await.unwrap();
    assert_eq!(alice.card(&reference()).await.unwrap(), card);

    let form = || alice.form(reference()).model(ModelReference::new("Other")).site("b");
    assert_eq!(form().models().await.unwrap(), ["alice/MyNet:1", "alice/Other:1"]);
    let error = form().purpose("study").await.unwrap_err().to_string();
    assert!(error.contains("would be for alice/MyNet:1, alice/Other:1"), "{error}");
    let changed = form().confirm().model(reference()).purpose("study").await.unwrap_err();
    assert!(changed.to_string().contains("would be for"), "a changed list is confirmed anew");
    let error = form().confirm().await.unwrap_err().to_string();
    assert!(error.contains("a request needs a purpose"), "{error}");
    let error = form().site("hidden").purpose("study").confirm().await.unwrap_err().to_string();
    assert!(error.contains("site `hidden` was not found"), "{error}");
    assert!(alice.requests().await.unwrap().is_empty(), "nothing was sent");
    let requests = form().purpose("study").confirm().await.unwrap();
    assert_eq!(requests.len(), 2);
    owner.grant(requests[0].id()).await.unwrap();
    // The later job runs at once.
    assert_eq!(ended(&db, training("p18f", model())).await.1, State::Completed);
}
