//! What the macros write, seen from outside: documents, builders, tables of triggers, callables.

use std::collections::{BTreeMap, HashMap};
use superduper::{
    Component, ErrorKind, Migrate, Registry,
    prelude::*,
    schema::{Dependency, FieldSpec, TriggerEvent, Watch},
};

#[derive(Component, Debug)]
#[component(
    kind = "acme.Trainer",
    version = 3,
    migrate,
    alias = "OldTrainer",
    alias = "acme.Older"
)]
struct Trainer {
    identifier: String,
    #[component(breaking)]
    lr: f32,
    epochs: Option<u32>,
    name: String,
    tags: Vec<String>,
    weights: Output<Vec<f32>>,
    client: Runtime<std::net::TcpStream>,
    #[component(skip)]
    scratch: Vec<u8>,
    #[component(default)]
    seed: u64,
    #[component(default = default_device())]
    device: String,
}

fn default_device() -> String {
    "cpu".to_owned()
}

impl Migrate for Trainer {
    fn migrate(from: u32, mut body: Value) -> Result<Value> {
        body["name"] = json!(format!("migrated from {from}"));
        Ok(body)
    }
}

impl Lifecycle for Trainer {
    fn postinit(&mut self) -> Result<()> {
        if self.lr <= 0.0 {
            return Err(Error::invalid("`lr` must be positive"));
        }
        Ok(())
    }
}

#[triggers]
impl Trainer {
    #[trigger("apply")]
    async fn prepare(&self) {}

    #[trigger(
        "apply",
        depends_on = ["prepare"],
        requires = ["epochs", "tags"],
        watch = "lr",
        retries = 3,
        backoff = "500ms",
        timeout = "1h30m",
        executor = "process"
    )]
    fn train(&self, ctx: &JobContext) -> Result<Vec<f32>, std::fmt::Error> {
        let _ = ctx;
        Ok(vec![self.lr])
    }

    #[trigger("apply", depends = "prepare", watch = "*")]
    async fn report(
        &self,
        _ctx: &JobContext,
        train: Option<Vec<f32>>,
        prepare: (),
    ) -> Result<usize> {
        let () = prepare;
        Ok(train.map_or(0, |weights| weights.len()))
    }

    #[trigger("call")]
    fn batch(&self) -> Result<String> {
        Ok(self.name.clone())
    }
}

fn trainer() -> Trainer {
    Trainer::builder("t")
        .lr(0.1)
        .epochs(3)
        .name("n")
        .tags(vec!["a".to_owned()])
        .build()
        .expect("all fields are given")
}

#[test]
fn the_spec_names_stored_fields_only() {
    let trainer = trainer();
    let spec = trainer.__spec();
    assert_eq!((spec.name, spec.version, spec.module), ("Trainer", 3, "expand"));
    assert_eq!(spec.aliases, ["OldTrainer", "expand.OldTrainer", "acme.Older"]);
    let names: Vec<&str> = spec.fields.iter().map(|field| field.name).collect();
    assert_eq!(names, ["identifier", "lr", "epochs", "name", "tags", "seed", "device"]);
    let lr = FieldSpec { name: "lr", key: "lr", breaking: true, within: None };
    assert_eq!(spec.fields[1], lr);
    assert_eq!(spec.fields.iter().filter(|field| field.breaking).count(), 1);
    let mut outputs = Vec::new();
    trainer.__visit_outputs(&mut |name, _| outputs.push(name));
    assert_eq!(outputs, ["weights"]);
}

#[test]
fn components_register_themselves() {
    let registry = Registry::linked().expect("each kind is there once");
    for kind in ["acme.Trainer", "acme.Older", "expand.Parent", "expand.Leaf"] {
        assert!(registry.knows(kind), "{kind}");
    }
    assert!(!registry.knows("expand.Trainer"));
}

#[test]
fn a_component_is_its_own_document() {
    let written = serde_json::to_value(trainer()).expect("all fields are plain");
    assert_eq!(written["$kind"], "acme.Trainer");
    assert_eq!(written["$version"], 3);
    assert_eq!(written["$body"]["device"], "cpu");
    let read: Trainer = serde_json::from_value(written).expect("it was just written");
    assert_eq!(
        (read.identifier(), read.epochs, read.tags.as_slice()),
        ("t", Some(3), ["a".to_owned()].as_slice())
    );
    assert!(!read.weights.is_set() && !read.client.is_set() && read.scratch.is_empty());
}

#[test]
fn options_cells_and_defaults_may_be_missing() {
    let body = json!({"identifier": "t", "lr": 0.5, "name": "n", "tags": []});
    let read: Trainer =
        serde_json::from_value(json!({"$kind": "acme.Trainer", "$version": 3, "$body": body}))
            .expect("nothing needed is missing");
    assert_eq!((read.epochs, read.seed, read.device.as_str()), (None, 0, "cpu"));
}

#[test]
fn a_missing_field_is_named() {
    let body = json!({"identifier": "t", "lr": 0.5, "tags": []});
    let error = serde_json::from_value::<Trainer>(
        json!({"$kind": "acme.Trainer", "$version": 3, "$body": body}),
    )
    .expect_err("`name` is missing");
    assert!(error.to_string().contains("missing field `name`"), "{error}");
}

#[test]
fn a_field_of_another_type_is_named() {
    let body = json!({"identifier": "t", "lr": "fast", "name": "n", "tags": []});
    let error = serde_json::from_value::<Trainer>(
        json!({"$kind": "acme.Trainer", "$version": 3, "$body": body}),
    )
    .expect_err("`lr` is a text");
    assert!(error.to_string().contains("`lr`"), "{error}");
    let error = serde_json::from_value::<Trainer>(
        json!({"$kind": "acme.Trainer", "$version": 3, "$body": 1}),
    )
    .expect_err("it is no object");
    assert!(error.to_string().contains("expected struct Trainer"), "{error}");
}

#[test]
fn older_documents_are_migrated() {
    let body = json!({"identifier": "t", "lr": 0.5, "tags": []});
    let read: Trainer =
        serde_json::from_value(json!({"$kind": "acme.Trainer", "$version": 2, "$body": body}))
            .expect("`migrate` adds the name");
    assert_eq!(read.name, "migrated from 2");
}

#[test]
fn documents_of_other_kinds_are_refused() {
    let leaf = serde_json::to_value(Leaf { identifier: "l".into() }).expect("a leaf is plain");
    let error = serde_json::from_value::<Trainer>(leaf).expect_err("a leaf is no trainer");
    assert!(error.to_string().contains("expand.Leaf"), "{error}");
}

#[test]
fn builders_name_what_is_missing() {
    let error =
        Trainer::builder("hello").lr(0.1).tags(vec![]).build().expect_err("`name` is missing");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        error.to_string(),
        "`acme.Trainer/hello`: field `name` is missing\nhint: call `.name(…)` before `.build()`"
    );
    let error = Trainer::builder("hello").name("n").build().expect_err("two fields are missing");
    assert_eq!(
        error.to_string(),
        "`acme.Trainer/hello`: fields `lr`, `tags` are missing\nhint: call `.lr(…)`, `.tags(…)` before `.build()`"
    );
}

#[test]
fn builders_check_the_identifier_and_run_postinit() {
    let error = Trainer::builder("a/b")
        .lr(0.1)
        .name("n")
        .tags(vec![])
        .build()
        .expect_err("the identifier is wrong");
    assert!(
        error
            .to_string()
            .starts_with("component of kind `acme.Trainer`: identifier `a/b` is not usable"),
        "{error}"
    );
    let error = Trainer::builder("t")
        .lr(-1.0)
        .name("n")
        .tags(vec![])
        .build()
        .expect_err("`postinit` refuses it");
    assert_eq!(error.to_string(), "`acme.Trainer/t`: postinit: `lr` must be positive");
}

#[derive(Component)]
struct Setters {
    identifier: String,
    build: f32,
    floats: Vec<f32>,
    rate: Option<f32>,
    list: Option<Vec<i64>>,
    map: BTreeMap<String, Value>,
    hashed: HashMap<String, i64>,
    pair: (i64, String),
    path: std::path::PathBuf,
    boxed: Box<dyn Component>,
}

#[test]
fn setters_take_what_reads_well() {
    let start = || {
        Setters::builder("s")
            .with_build(1.5)
            .boxed(Box::new(Leaf { identifier: "l".into() }))
            .pair((1, "a".to_owned()))
            .path("a/b")
    };
    let made = start()
        .floats(vec![0.5, 1.0])
        .rate(0.5)
        .list(vec![1, 2])
        .map(BTreeMap::new())
        .hashed([("a".to_owned(), 1)])
        .build();
    let made = made.expect("all fields are given");
    assert_eq!(
        (made.build, made.floats[0], made.rate, made.list, made.pair.0),
        (1.5, 0.5, Some(0.5), Some(vec![1, 2]), 1)
    );
    assert_eq!(
        (made.hashed["a"], made.boxed.identifier(), made.path.to_str(), made.map.len()),
        (1, "l", Some("a/b"), 0)
    );
    let empty = start()
        .floats(vec![])
        .rate(None)
        .map([])
        .hashed(HashMap::new())
        .build()
        .expect("options may be left out");
    assert_eq!((empty.floats.len(), empty.rate, empty.list), (0, None, None));
}

#[test]
fn triggers_are_what_their_attributes_say() {
    let trainer = trainer();
    let specs = trainer.__trigger_specs();
    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["prepare", "train", "report", "batch"]);

    let prepare = specs[0];
    assert_eq!(
        (prepare.event, prepare.blocking, prepare.retries, prepare.timeout_ms),
        (TriggerEvent::Apply, false, 0, None)
    );
    assert_eq!(
        (prepare.watch, prepare.executor, prepare.depends_on.len()),
        (Watch::Fields(&[]), None, 0)
    );

    let train = specs[1];
    assert_eq!(
        train.depends_on,
        [Dependency { name: "prepare", parameter: false, optional: false }]
    );
    assert_eq!(train.requires, ["epochs", "tags"]);
    assert_eq!(train.watch, Watch::Fields(&["lr", "epochs", "tags"]));
    assert_eq!(
        (train.retries, train.backoff_ms, train.timeout_ms, train.executor),
        (3, 500, Some(5_400_000), Some("process"))
    );
    assert!(train.blocking);

    let report = specs[2];
    let prepared = Dependency { name: "prepare", parameter: true, optional: false };
    assert_eq!(
        report.depends_on,
        [prepared, Dependency { name: "train", parameter: true, optional: true }]
    );
    assert_eq!(report.watch, Watch::Any);
    assert_eq!((specs[3].event, specs[3].blocking), (TriggerEvent::Call, true));
}

#[test]
fn requirements_look_at_the_fields() {
    let mut trainer = trainer();
    assert!(trainer.__unmet("train").is_empty());
    trainer.epochs = None;
    trainer.tags.clear();
    assert_eq!(trainer.__unmet("train"), ["epochs", "tags"]);
}

#[derive(Component)]
struct Leaf {
    identifier: String,
}

#[derive(Component)]
struct Parent {
    identifier: String,
    leaf: Leaf,
    any: Option<Box<dyn Component>>,
}

#[test]
fn children_are_written_in_place_outside_of_a_database() {
    let leaf = |name: &str| Leaf { identifier: name.into() };
    let parent = Parent::builder("p")
        .leaf(leaf("a"))
        .any(Some(Box::new(leaf("b")) as Box<dyn Component>))
        .build()
        .expect("all is given");
    let written = serde_json::to_value(&parent).expect("all fields are plain");
    assert_eq!(written["$body"]["any"]["$kind"], "expand.Leaf");
    let read: Box<dyn Component> = serde_json::from_value(written).expect("it was just written");
    let mut children = Vec::new();
    read.__visit_children(&mut |child| children.push(child.identifier().to_owned()));
    assert_eq!(children, ["a", "b"]);
}

/// Adds.
#[callable]
fn add(a: i64, b: Option<i64>) -> Result<i64> {
    Ok(a + b.unwrap_or(0))
}

#[callable("expand.shout")]
async fn shout(
    text: String,
    many: BTreeMap<String, Vec<(i64, Value)>>,
) -> std::result::Result<String, std::fmt::Error> {
    tokio::task::yield_now().await;
    if text.is_empty() { Err(std::fmt::Error) } else { Ok(format!("{text}!{}", many.len())) }
}

#[callable]
fn nothing() {}

#[test]
fn callables_describe_themselves() {
    let add = Callable::of::<add>();
    assert_eq!(add.name(), "expand::add");
    let described: Vec<(&str, &str)> =
        add.params().iter().map(|param| (&*param.name, &*param.ty)).collect();
    assert_eq!(described, [("a", "i64"), ("b", "Option<i64>")]);
    let shout = Callable::of::<shout>();
    assert_eq!(shout.params()[1].ty, "BTreeMap<String, Vec<(i64, Value)>>");
    assert_eq!(Callable::named("expand.shout").expect("it is linked"), shout);
    assert_eq!(
        serde_json::to_value(shout).expect("a callable is its name")["$callable"],
        json!("expand.shout")
    );
}

#[tokio::test]
async fn callables_take_arguments_by_name() {
    assert_eq!(self::add(1, Some(2)).expect("it adds"), 3);
    let add = Callable::of::<add>();
    assert_eq!(add.call::<i64>(json!({"a": 1, "b": 2})).await.expect("both are given"), 3);
    assert_eq!(add.call::<i64>(json!({"a": 1})).await.expect("`b` is optional"), 1);
    let shout = Callable::of::<shout>();
    assert_eq!(
        shout.call::<String>(json!({"text": "a", "many": {}})).await.expect("both are given"),
        "a!0"
    );
    assert_eq!(
        Callable::of::<nothing>().call::<Value>(json!({})).await.expect("it needs nothing"),
        Value::Null
    );
}

#[tokio::test]
async fn callables_say_what_is_wrong() {
    let add = Callable::of::<add>();
    for (arguments, words) in [
        (json!({}), "argument `a` is missing"),
        (json!({"a": "x"}), "argument `a`: invalid type"),
        (json!({"a": 1, "c": 1}), "takes no argument `c`; it takes: a, b"),
        (json!([1]), "are an object, by name"),
    ] {
        let error = add.call::<i64>(arguments).await.expect_err(words);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = Callable::of::<shout>()
        .call::<String>(json!({"text": "", "many": {}}))
        .await
        .expect_err("it refuses the empty text");
    assert_eq!(error.kind(), ErrorKind::User);
}
