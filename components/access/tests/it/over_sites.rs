//! Fit, evaluate and predict over sites by their names.

use crate::support::*;
use std::collections::BTreeMap;
use superduper::{ErrorKind, prelude::*};
use superduper_access::{
    Access, ColumnType, DataSchema, DataStructure, GovernedSite, ImageColumn, ModelReference,
    Principal, SUPER_MODELLER, SigningKey,
};
use superduper_federated::{
    FederatedModel, ModelTrainer, Site, SiteContext, SiteData, State, Tested, Trained, federates,
};

/// The mean of the rows, times a factor.
#[derive(Component, Clone)]
#[component(kind = "access-it.Scaled", source)]
struct Scaled {
    identifier: String,
    #[component(breaking, default = 1.0)]
    factor: f64,
}
federates!(Scaled);

#[source]
impl FederatedModel for Scaled {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("w", &[1], &[0.0_f32])
    }
    fn train(&self, _: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let rows = &ctx.data_as::<Rows>()?.0;
        let mean = rows.iter().sum::<f32>() / rows.len() as f32;
        let weights = Tensors::new().with("w", &[1], &[mean * self.factor as f32])?;
        Ok(Trained { weights, samples: rows.len() as u64, metrics: BTreeMap::new() })
    }
    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let w = ctx.block_on(weights.to_vec::<f32>("w"))?[0];
        let rows = &ctx.data_as::<Rows>()?.0;
        let error = rows.iter().map(|row| f64::from(row - w).abs()).sum::<f64>();
        let metrics = BTreeMap::from([("error".to_owned(), error / rows.len() as f64)]);
        Ok(Tested { samples: rows.len() as u64, metrics })
    }
    fn predict(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tensors> {
        let w = ctx.block_on(weights.to_vec::<f32>("w"))?[0];
        let found: Vec<f32> = ctx.data_as::<Rows>()?.0.iter().map(|row| row - w).collect();
        Tensors::new().with("difference", &[found.len()], &found)
    }
}

fn scaled(factor: f64) -> Scaled {
    Scaled { identifier: "scaled".into(), factor }
}

/// Sites `a` and `b` with data, where alice may run everything; `hidden`, which she may not see; and
/// `empty`, without data.
async fn sites(db: &Db) -> Access {
    let owner = owner(db);
    for (name, rows) in [("a", vec![1.0, 3.0]), ("b", vec![5.0, 7.0, 9.0, 11.0])] {
        owner.govern(site(name, &owner).data(Rows(rows))).await.unwrap();
        owner.grant_role(name, "alice", SUPER_MODELLER).confirm().await.unwrap();
    }
    owner.govern(GovernedSite::new("hidden", owner.who().clone())).await.unwrap();
    owner.govern(site("empty", &owner)).await.unwrap();
    owner.grant_role("empty", "alice", SUPER_MODELLER).confirm().await.unwrap();
    let alice = alice(db);
    alice.publish::<Scaled>("Scaled").await.unwrap();
    alice
}

async fn weight(trainer: &ModelTrainer) -> f32 {
    assert_eq!(trainer.wait(LONG).await.unwrap(), State::Completed);
    let weights = trainer.global().await.unwrap().weights.get().await.unwrap();
    weights.to_vec::<f32>("w").await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_fit_evaluate_and_predict_are_the_same_for_a_reference_and_for_the_struct() {
    let place = Place::new();
    let db = place.open().await;
    let alice = sites(&db).await;
    let reference = ModelReference::new("Scaled").hyperparameter("factor", 1.0);

    let by_name = reference.fit(&alice, ["a", "b"]).purpose("study").await.unwrap();
    let by_struct = alice.fit(scaled(1.0), ["a", "b"]).purpose("study").await.unwrap();
    assert_eq!(weight(&by_name).await, 6.0);
    assert_eq!(weight(&by_struct).await, 6.0);

    let six = || Tensors::new().with("w", &[1], &[6.0_f32]).unwrap();
    let given = reference.clone().weights(six());
    for trainer in [
        given.evaluate(&alice, ["a", "b"]).purpose("study").await.unwrap(),
        alice
            .evaluate(scaled(1.0), ["a", "b"])
            .weights(Artifact::new(six()))
            .purpose("study")
            .await
            .unwrap(),
    ] {
        assert_eq!(weight(&trainer).await, 6.0, "nothing was trained");
        let progress = trainer.progress().await.unwrap();
        // (2 rows at a: 5 and 3; 4 rows at b: 1, 1, 3 and 5)
        assert_eq!(progress.metrics["error"], 3.0);
        let answers = trainer.answers("test", 0).await.unwrap();
        assert_eq!((answers["a"].metrics["error"], answers["b"].metrics["error"]), (4.0, 2.5));
        assert_eq!(progress.round, 0);
    }

    for trainer in [
        given.predict(&alice, ["a", "b"]).purpose("study").await.unwrap(),
        alice
            .predict(scaled(1.0), ["a", "b"])
            .weights(Artifact::new(six()))
            .purpose("study")
            .await
            .unwrap(),
    ] {
        weight(&trainer).await;
        let found = trainer.predictions().await.unwrap();
        let of = |site: &str| found[site].clone();
        assert_eq!(of("a").to_vec::<f32>("difference").await.unwrap(), [-5.0, -3.0]);
        assert_eq!(of("b").to_vec::<f32>("difference").await.unwrap(), [-1.0, 1.0, 3.0, 5.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_weights_given_at_run_time_win_over_those_of_the_version() {
    let place = Place::new();
    let db = place.open().await;
    let alice = sites(&db).await;
    let weights = |w: f32| Tensors::new().with("w", &[1], &[w]).unwrap();
    let reference = ModelReference::new("Scaled");
    let evaluate = || reference.evaluate(&alice, ["a"]).purpose("study");
    let error = evaluate().await.err().unwrap();
    assert!(error.to_string().contains("`evaluate` needs weights"), "{error}");
    alice.attach_weights("alice", "Scaled", 1, weights(2.0)).await.unwrap();
    assert_eq!(weight(&evaluate().await.unwrap()).await, 2.0);
    let given = reference.clone().weights(weights(3.0));
    let with_given = given.evaluate(&alice, ["a"]).purpose("study").await.unwrap();
    assert_eq!(weight(&with_given).await, 3.0);
    let at_the_call = given.evaluate(&alice, ["a"]).weights(Artifact::new(weights(4.0)));
    assert_eq!(weight(&at_the_call.purpose("study").await.unwrap()).await, 4.0);
    // Of another shape.
    let wrong = Tensors::new().with("v", &[1], &[1.0_f32]).unwrap();
    let wrong = evaluate().weights(Artifact::new(wrong)).await.unwrap();
    assert_eq!(wrong.wait(LONG).await.unwrap(), State::Error);
    let why = wrong.failures().await.unwrap().join("; ");
    assert!(why.contains("what the training starts from"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_an_unknown_site_and_an_invisible_one_are_the_same_error() {
    let place = Place::new();
    let db = place.open().await;
    let alice = sites(&db).await;
    let fit = |site: &'static str| alice.fit(scaled(1.0), ["a", site]).purpose("study");
    let hidden = fit("hidden").await.err().unwrap();
    let missing = fit("missing").await.err().unwrap();
    assert_eq!((hidden.kind(), missing.kind()), (ErrorKind::NotFound, ErrorKind::NotFound));
    assert_eq!(hidden.to_string(), "site `hidden` was not found");
    assert_eq!(missing.to_string(), "site `missing` was not found");
    let error = fit("empty").await.err().unwrap().to_string();
    assert!(error.contains("site `empty` has no data on record"), "{error}");
    let error = alice.fit(scaled(1.0), ["a"]).await.err().unwrap().to_string();
    assert!(error.contains("`fit` needs a purpose"), "{error}");
    // No training was stored.
    assert!(
        db.list()
            .await
            .unwrap()
            .iter()
            .all(|listed| { !listed.address.to_string().contains("FederatedTraining") })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_tasks_over_sites_are_signed_where_the_user_has_a_key() {
    let place = Place::new();
    let db = place.open().await;
    sites(&db).await;
    let key = SigningKey::generate().unwrap();
    for name in ["a", "b"] {
        let role = owner(&db).grant_role(name, Principal::user("alice"), SUPER_MODELLER);
        role.key(key.public()).confirm().await.unwrap();
    }
    let unsigned = alice(&db).fit(scaled(1.0), ["a", "b"]).purpose("study").await.unwrap();
    assert_eq!(unsigned.wait(LONG).await.unwrap(), State::Error);
    let signed = alice(&db).with_key(key).fit(scaled(1.0), ["a", "b"]).purpose("study");
    assert_eq!(weight(&signed.rounds(2).await.unwrap()).await, 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_denies_is_left_out_and_a_task_that_no_site_does_is_an_error() {
    let place = Place::new();
    let db = place.open().await;
    let alice = sites(&db).await;
    owner(&db).revoke_role("a", "alice", SUPER_MODELLER).await.unwrap();
    owner(&db).grant_role("a", "alice", superduper_access::DATA_READER).await.unwrap();
    let six = || Artifact::new(Tensors::new().with("w", &[1], &[6.0_f32]).unwrap());
    let both = alice.predict(scaled(1.0), ["a", "b"]).weights(six()).purpose("study");
    let both = both.await.unwrap();
    weight(&both).await;
    assert_eq!(both.predictions().await.unwrap().keys().collect::<Vec<_>>(), ["b"]);
    for task in [
        alice.predict(scaled(1.0), ["a"]).weights(six()).name("p"),
        alice.evaluate(scaled(1.0), ["a"]).weights(six()).name("e"),
    ] {
        let trainer = task.purpose("study").await.unwrap();
        assert_eq!(trainer.wait(LONG).await.unwrap(), State::Error);
        let why = trainer.failures().await.unwrap().join("; ");
        assert!(why.contains("no site has done the task"), "{why}");
        assert!(why.contains("NOT_PERMITTED"), "{why}");
    }
    // When the right is back, the same task goes on.
    owner(&db).grant_role("a", "alice", SUPER_MODELLER).confirm().await.unwrap();
    for name in ["p", "e"] {
        let mut trainer = ModelTrainer::open(&db, name).await.unwrap();
        assert!(trainer.start().await.is_err(), "it is not INITIAL");
        db.apply(trainer.training().await.unwrap()).await.unwrap();
        weight(&trainer).await;
    }
    let p = ModelTrainer::open(&db, "p").await.unwrap();
    assert_eq!(p.predictions().await.unwrap().keys().collect::<Vec<_>>(), ["a"]);
}

/// A table with columns.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Columns(Vec<(String, String)>);

#[typetag::serde(name = "access-it.Columns")]
impl SiteData for Columns {
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

fn columns(columns: &[(&str, &str)]) -> Columns {
    Columns(columns.iter().map(|(name, kind)| ((*name).into(), (*kind).into())).collect())
}

#[test]
fn m09_a_data_structure_names_all_columns_that_do_not_fit() {
    let sites = [
        Site::new("a", columns(&[("age", "i64"), ("scan", "image(1, 8, 8)"), ("died", "i64")])),
        Site::new("b", columns(&[("age", "i64"), ("scan", "image(3, 8, 8)")])),
        Site::new("c", columns(&[("scan", "image(1, 8, 8)"), ("died", "i64"), ("bmi", "f32")])),
        Site::remote("d"),
    ];
    let structure = DataStructure::new().target("died").image("scan", (1, 8, 8));
    let error = structure.check(&sites).unwrap_err().to_string();
    for part in [
        "site `b` has no column `died`",
        "column `scan` of site `b` is image(3, 8, 8), not image(1, 8, 8)",
        "the features of site `c` are [\"bmi\"], those of site `a` [\"age\"]",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(structure.check(&sites[..1]).is_ok());
    let twice = structure.clone().features(["age", "died"]).ignore(["age"]);
    let error = twice.check(&sites[..1]).unwrap_err().to_string();
    assert!(error.contains("the column `died` is used twice"), "{error}");
    assert!(error.contains("the column `age` is used twice"), "{error}");
    assert_eq!(structure.image, Some(ImageColumn { name: "scan".into(), shape: (1, 8, 8) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_structure_and_schema_of_a_reference_are_checked_before_anything_is_stored() {
    let place = Place::new();
    let db = place.open().await;
    let alice = sites(&db).await;
    let owner = owner(&db);
    for (name, kind) in [("c", "text"), ("d", "i64")] {
        let table = columns(&[("age", kind)]);
        owner.govern(site(name, &owner).data(table)).await.unwrap();
        owner.grant_role(name, "alice", SUPER_MODELLER).confirm().await.unwrap();
    }
    let reference = ModelReference::new("Scaled")
        .schema(DataSchema::new().column("age", ColumnType::Int))
        .datastructure(DataStructure::new().target("died"));
    let error = reference.fit(&alice, ["c", "d", "a"]).purpose("study").await.err().unwrap();
    for part in [
        "column `age` of site `c` is text, not int",
        "site `a` has no column `age`",
        "site `d` has no column `died`",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // What fits goes to the sites as a setting.
    let fits = ModelReference::new("Scaled").datastructure(DataStructure::new().ignore(["x"]));
    let training = fits.fit(&alice, ["d"]).purpose("study").training().await.unwrap();
    assert_eq!(training.config.extra["datastructure"]["ignored"], json!(["x"]));
}
