//! Case N04: settings that component types share, and defaults that are values in attributes.

use crate::support::{databases, refused};
use std::{collections::BTreeMap, sync::Arc};
use superduper::{Action, ErrorKind, Observed, Registry, prelude::*};

/// A component that settings hold.
#[derive(Component)]
#[component(kind = "settings.Data")]
struct Data {
    identifier: String,
    #[component(breaking)]
    rows: i64,
}

/// What several models are fitted with.
#[derive(Settings, Clone)]
#[serde(rename_all = "camelCase")]
struct FitSettings {
    #[component(breaking, default = 30)]
    epochs: u64,
    #[component(breaking)]
    learning_rate: f64,
    #[component(default = "cpu")]
    #[serde(alias = "machine")]
    device: String,
    #[component(default = vec![64, 32])]
    hidden: Vec<usize>,
    #[component(default)]
    by_number: BTreeMap<u32, f32>,
    note: Option<String>,
    data: Option<Arc<dyn Component>>,
    blob: Option<Artifact<Bytes>>,
    #[component(skip)]
    scratch: u8,
}

#[derive(Component, Clone)]
#[component(kind = "settings.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    layers: usize,
    #[component(flatten)]
    fit: FitSettings,
    weights: Output<u64>,
    client: Runtime<i64>,
}

impl Lifecycle for Model {
    async fn observe(&self, _ctx: &JobContext) -> Result<Observed> {
        Observed::present().with("fit.device", &*self.fit.device)?.with("layers", 3)
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<u64> {
        ctx.set(&self.weights, self.fit.epochs)?;
        Ok(self.fit.epochs)
    }
    #[trigger("apply", requires = "fit.note")]
    fn tell(&self) -> Result<String> {
        Ok(self.fit.note.clone().unwrap_or_default())
    }
    #[trigger("apply", watch = ["fit.device", "layers"])]
    fn place(&self) -> Result<String> {
        Ok(self.fit.device.clone())
    }
    #[trigger("apply", watch = "fit")]
    fn any(&self) -> Result<()> {
        Ok(())
    }
}

/// The same document by plain fields, as a build had it before there were settings.
#[derive(Component)]
#[component(kind = "settings.Model", register = no)]
struct Plain {
    identifier: String,
    #[component(breaking)]
    layers: usize,
    #[component(breaking)]
    epochs: u64,
    #[component(breaking)]
    #[serde(rename = "learningRate")]
    learning_rate: f64,
    machine: String,
    hidden: Vec<usize>,
    #[serde(rename = "byNumber")]
    by_number: BTreeMap<u32, f32>,
    note: Option<String>,
    data: Option<Arc<dyn Component>>,
    blob: Option<Artifact<Bytes>>,
}

#[track_caller]
fn says(text: impl ToString, parts: &[&str]) {
    let text = text.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn model() -> Model {
    Model::builder("m").layers(2).epochs(3).learning_rate(0.5).build().expect("it is complete")
}

#[tokio::test]
async fn n04_a_change_of_a_breaking_setting_makes_a_version_and_the_plan_names_it() {
    for on in databases().await {
        on.db.apply(model()).await.expect("applies");
        let mut changed = model();
        changed.fit.epochs = 4;
        let plan = on.db.plan(&changed).await.expect("plans");
        assert!(plan.to_string().contains("fit.epochs"), "{plan}");
        let change = &plan.changes()[0];
        assert_eq!((change.path.as_str(), change.breaking), ("fit.epochs", true));
        let applied = on.db.apply(changed).await.expect("applies");
        assert_eq!((applied.action, applied.version()), (Action::NewVersion, 1));
        let loaded: Model = on.db.load("m").await.expect("loads");
        assert_eq!((loaded.fit.epochs, *loaded.weights.get().expect("trained")), (4, 4));

        // Another setting is no new version, and its key is not its name.
        let changed = Model::builder("m").layers(2).epochs(4).learning_rate(0.5);
        let changed = changed.by_number([(7, 0.1)]).build().expect("it is complete");
        let plan = on.db.plan(&changed).await.expect("plans");
        let paths: Vec<&str> = plan.changes().iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["fit.byNumber.7"], "{plan}");
        let applied = on.db.apply(changed).await.expect("applies");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Update, 1, 1));
        let loaded: Model = on.db.load("m").await.expect("loads");
        assert_eq!(loaded.fit.by_number, BTreeMap::from([(7, 0.1)]));
    }
}

#[test]
fn n04_settings_stand_among_the_fields_of_the_document() {
    assert_eq!(
        *model().encode().expect("it is plain").document(),
        json!({
            "identifier": "m", "layers": 2, "epochs": 3, "learningRate": 0.5, "device": "cpu",
            "hidden": [64, 32], "byNumber": {}, "note": null, "data": null, "blob": null,
        })
    );
    let read: Model = serde_json::from_value(json!(model())).expect("it was just written");
    assert_eq!((read.fit.epochs, read.fit.hidden), (3, vec![64, 32]));
    // Fields that a document lacks have their defaults; a former name is read.
    let body = json!({"identifier": "m", "layers": 2, "learningRate": 0.5, "machine": "gpu"});
    let read = json!({"$kind": "settings.Model", "$version": 1, "$body": body});
    let read: Model = serde_json::from_value(read).expect("the rest has defaults");
    assert_eq!((read.fit.epochs, read.fit.device.as_str()), (30, "gpu"));
}

#[test]
fn n04_a_setting_that_does_not_fit_is_named() {
    let read = |body: Value| {
        let written = json!({"$kind": "settings.Model", "$version": 1, "$body": body});
        serde_json::from_value::<Model>(written).err().expect("it does not fit").to_string()
    };
    let text = read(json!({"identifier": "m", "layers": 2, "learningRate": "fast"}));
    says(text, &["field `fit.learningRate`", "invalid type"]);
    let text = read(json!({"identifier": "m", "layers": 2}));
    says(text, &["missing field `learningRate`"]);
}

#[test]
fn n04_schemas_and_strict_documents_have_settings_among_the_fields() {
    let registry = Registry::linked().expect("each kind is there once");
    let schema = registry.schema("settings.Model").expect("a kind of this program");
    let model = &schema["$defs"]["settings.Model"];
    let epochs = &model["properties"]["epochs"];
    assert_eq!((&epochs["default"], &epochs["x-superduper-breaking"]), (&json!(30), &json!(true)));
    assert!(model["properties"]["fit"].is_null(), "{model}");
    let required = model["required"].as_array().expect("a list");
    assert!(required.contains(&json!("learningRate")) && !required.contains(&json!("epochs")));

    let document = json!({"kind": "settings.Model", "identifier": "m", "layers": 2, "epochs": 3, "learningRate": 0.5});
    let decoded = registry.decode(std::slice::from_ref(&document)).expect("it fits");
    let decoded: Model =
        superduper::downcast(decoded.into_iter().next().expect("one")).expect("a model");
    assert_eq!((decoded.fit.epochs, decoded.fit.device.as_str()), (3, "cpu"));
    let mut wrong = document;
    wrong["epoch"] = json!(3);
    wrong["fit"] = json!({});
    wrong["learningRate"] = json!("fast");
    let error = refused(registry.decode(&[wrong]));
    let mut places: Vec<&str> = error.mistakes().iter().map(|mistake| mistake.pointer()).collect();
    places.sort_unstable();
    assert_eq!(places, ["/epoch", "/fit", "/learningRate"], "{error}");
    let near = error.mistakes().iter().find_map(|mistake| mistake.did_you_mean());
    assert_eq!(near, Some("epochs"), "{error}");
}

/// Settings whose key is the name of a field that holds other settings.
#[derive(Settings, Clone, Debug, PartialEq)]
struct Inner {
    #[component(default = 1)]
    momentum: u64,
}

#[derive(Settings, Clone, Debug, PartialEq)]
struct Outer {
    #[component(default = "adam")]
    optimizer: String,
    #[component(default)]
    opts: Opts,
}

/// A plain type without a schema.
#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, Default, PartialEq)]
struct Opts {
    #[serde(default)]
    depth: u64,
}

#[derive(Component)]
#[component(kind = "settings.Crossed")]
struct Crossed {
    identifier: String,
    #[component(flatten)]
    optimizer: Inner,
    #[component(flatten)]
    training: Outer,
}

#[tokio::test]
async fn n04_a_setting_may_be_named_like_a_field_of_other_settings() {
    for on in databases().await {
        let training = Outer { optimizer: "sgd".to_owned(), opts: Opts { depth: 2 } };
        let optimizer = Inner { momentum: 3 };
        let made = Crossed { identifier: "c".into(), optimizer, training };
        on.db.apply(&made).await.unwrap();
        let back: Crossed = on.db.load("c").await.unwrap();
        assert_eq!((back.optimizer, back.training), (made.optimizer, made.training));
    }
}

#[test]
fn n04_a_mistake_in_settings_is_told_once_and_at_its_place() {
    let registry = Registry::builder().with::<Crossed>().build().unwrap();
    let document = serde_json::json!({
        "kind": "settings.Crossed", "identifier": "c", "opts": {"depth": 1, "typo": 2},
    });
    let error = refused(registry.decode(&[document]));
    let places: Vec<&str> = error.mistakes().iter().map(|mistake| mistake.pointer()).collect();
    assert_eq!(places, ["/opts/typo"], "{error}");
}

/// The model before its settings were flattened: they were one object.
#[derive(Component)]
#[component(kind = "settings.Moved", register = no)]
struct Whole {
    identifier: String,
    training: Outer,
}

#[derive(Component)]
#[component(kind = "settings.Moved", register = no)]
struct Flat {
    identifier: String,
    #[component(flatten)]
    training: Outer,
}

#[tokio::test]
async fn n04_settings_that_were_one_object_keep_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moved.db");
    let open = async |registry: Registry| {
        Db::builder().at(&path).unwrap().registry(registry).build().await.unwrap()
    };
    let training = Outer { optimizer: "sgd".to_owned(), opts: Opts { depth: 4 } };
    let db = open(Registry::builder().with::<Whole>().build().unwrap()).await;
    db.apply(Whole { identifier: "m".into(), training: training.clone() }).await.unwrap();
    drop(db);
    let db = open(Registry::builder().with::<Flat>().build().unwrap()).await;
    assert_eq!(db.load::<Flat>("m").await.unwrap().training, training);
}

#[tokio::test]
async fn n04_rows_of_plain_fields_are_loaded_into_settings() {
    for on in databases().await {
        let plain = Plain {
            identifier: "m".into(),
            layers: 2,
            epochs: 3,
            learning_rate: 0.5,
            machine: "gpu".into(),
            hidden: vec![1],
            by_number: BTreeMap::from([(1, 0.5)]),
            note: None,
            data: Some(Arc::new(Data { identifier: "d".into(), rows: 5 })),
            blob: Some(Artifact::new(Bytes::from(b"abc".to_vec()))),
        };
        let (uuid, document) = (plain.uuid().expect("hashes"), json!(plain)["$body"].clone());
        let before =
            Registry::builder().with::<Plain>().with::<Data>().build().expect("a registry");
        on.program(before).await.apply(&plain).await.expect("applies");
        let loaded: Model = on.db.load("m").await.expect("loads");
        assert_eq!((loaded.fit.epochs, loaded.fit.device.as_str()), (3, "gpu"));
        assert_eq!(loaded.fit.by_number, BTreeMap::from([(1, 0.5)]));
        let blob = loaded.fit.blob.as_ref().expect("a blob").get().await.expect("its bytes");
        assert_eq!(&blob[..], b"abc");
        assert_eq!(loaded.fit.data.as_ref().expect("a child").identifier(), "d");
        // Breaking settings are in the uuid by their keys alone.
        assert_eq!(loaded.uuid().expect("hashes"), uuid);
        let mut written = json!(loaded)["$body"].clone();
        written["machine"] = written["device"].take();
        written.as_object_mut().expect("an object").remove("device");
        assert_eq!(written["epochs"], document["epochs"]);
        let mut children = Vec::new();
        loaded.__visit_children(&mut |child| children.push(child.identifier().to_owned()));
        assert_eq!(children, ["d"]);
    }
}

#[test]
fn n04_setters_of_settings_are_in_the_builder() {
    let built = model();
    assert_eq!((built.layers, built.fit.epochs, built.fit.learning_rate), (2, 3, 0.5));
    // All at once; a later setter wins.
    let fit = FitSettings::builder().learning_rate(0.1).note("n".to_owned()).build();
    let fit = fit.expect("it is complete");
    assert_eq!((fit.epochs, fit.device.as_str(), fit.scratch), (30, "cpu", 0));
    let fit = FitSettings { scratch: 9, ..fit };
    let whole = Model::builder("m").layers(1).fit(fit).epochs(5).build().expect("it is complete");
    assert_eq!((whole.fit.epochs, whole.fit.note.as_deref(), whole.fit.scratch), (5, Some("n"), 9));

    let error = Model::builder("m").epochs(3).build().err().expect("two fields are missing");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    says(error, &["fields `layers`, `learning_rate` are missing", "`.learning_rate(…)`"]);
    let error = FitSettings::builder().epochs(3).build().err().expect("a field is missing");
    says(error, &["`FitSettings`: field `learning_rate` is missing", "call `.learning_rate(…)`"]);
}

#[tokio::test]
async fn n04_triggers_require_and_watch_settings() {
    for on in databases().await {
        on.db.apply(model()).await.expect("applies");
        let ran = async || {
            let states = on.job_states().await;
            let count = |name| states.iter().filter(|(method, _)| method == name).count();
            [count("tell"), count("place"), count("any")]
        };
        assert_eq!(ran().await, [0, 1, 1]);
        let with = |note: &str, device: &str| {
            let mut changed = model();
            (changed.fit.note, changed.fit.device) = (Some(note.to_owned()), device.to_owned());
            changed
        };
        on.db.apply(with("a", "cpu")).await.expect("applies");
        assert_eq!(ran().await, [1, 1, 2]);
        on.db.apply(with("a", "gpu")).await.expect("applies");
        assert_eq!(ran().await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn n04_observed_settings_drift_under_their_names() {
    for on in databases().await {
        on.db.apply(model()).await.expect("applies");
        let drift = on.db.refresh("settings.Model/m").await.expect("looks");
        let fields: Vec<&str> =
            drift.components[0].differences.iter().map(|found| found.field.as_str()).collect();
        assert_eq!(fields, ["layers"], "{drift}");
    }
}

/// Defaults of each form.
#[derive(Component)]
#[component(kind = "settings.Defaults")]
struct Defaults {
    identifier: String,
    #[component(default = 30)]
    whole: u64,
    #[component(default = -1)]
    below: i8,
    #[component(default = 0.1)]
    part: f32,
    #[component(default = true)]
    flag: bool,
    #[component(default = "text")]
    text: String,
    #[component(default = "a/b")]
    path: std::path::PathBuf,
    #[component(default = 'x')]
    letter: char,
    #[component(default = ROUNDS)]
    constant: u32,
    #[component(default = Self::MOST * 2)]
    computed: usize,
    #[component(default = vec![1])]
    list: Vec<i64>,
    #[component(default = Some(5))]
    maybe: Option<i64>,
    #[component(breaking, default = Arc::new(Data { identifier: "d".into(), rows: 1 }))]
    child: Arc<dyn Component>,
}

const ROUNDS: u32 = 7;

impl Defaults {
    const MOST: usize = 4;
}

/// A default of a type parameter's type, and one that does not know of it.
#[derive(Component)]
#[component(lifecycle = no, triggers = no)]
struct Generic<T: Default> {
    identifier: String,
    #[component(default = vec![T::default()])]
    values: Vec<T>,
    #[component(default = 3)]
    size: u8,
}
superduper::register!(Generic<String> as "settings.GenericText");

#[test]
fn n04_defaults_are_values_for_builders_and_for_documents() {
    let built = Defaults::builder("d").build().expect("all have defaults");
    let read = json!({"$kind": "settings.Defaults", "$version": 1, "$body": {"identifier": "d"}});
    let read: Defaults = serde_json::from_value(read).expect("all have defaults");
    for found in [built, read] {
        assert_eq!((found.whole, found.below, found.part, found.flag), (30, -1, 0.1, true));
        assert_eq!((found.text.as_str(), found.path.to_str()), ("text", Some("a/b")));
        assert_eq!((found.letter, found.constant, found.computed), ('x', 7, 8));
        assert_eq!((found.list, found.maybe, found.child.identifier()), (vec![1], Some(5), "d"));
    }
    let given = Defaults::builder("d").whole(1).maybe(None).text("given").build();
    let given = given.expect("all have defaults");
    assert_eq!((given.whole, given.maybe, given.text.as_str()), (1, None, "given"));
    let generic = Generic::<String>::builder("g").build().expect("all have defaults");
    assert_eq!((generic.values.len(), generic.size), (1, 3));
}

#[tokio::test]
async fn n04_a_setting_that_cannot_be_stored_is_named() {
    let on = crate::support::in_memory().await;
    let bad = Model::builder("m").layers(1).learning_rate(f64::NAN).build().expect("it is built");
    says(refused(on.db.apply(bad).await), &["settings.Model/m", "learningRate", "NaN"]);
}
