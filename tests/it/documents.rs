//! Documents that people write: what their schema says, and what a strict decode takes.

use crate::support::{databases, golden, in_memory, refused, says};
use jsonschema::Validator;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use superduper::{Registry, prelude::*, schema::Mistake};

#[callable("documents.double")]
fn double(x: i64) -> Result<i64> {
    Ok(2 * x)
}

/// A layer of a network.
#[derive(Component, Debug, Clone)]
#[component(kind = "documents.Layer", register = no)]
struct Layer {
    identifier: String,
    /// How many neurons it has.
    #[component(breaking)]
    width: u16,
    note: Option<String>,
}

impl Lifecycle for Layer {
    fn postinit(&mut self) -> Result<()> {
        if self.width == 13 {
            return Err(Error::invalid("13 neurons bring bad luck"));
        }
        Ok(())
    }
}

/// A component that has a field of the name `kind`.
#[derive(Component)]
#[component(kind = "documents.Odd", register = no)]
struct Odd {
    identifier: String,
    kind: String,
}

/// How fast a model learns.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Schedule {
    rate: f32,
    /// Steps before the first full rate.
    #[serde(default)]
    warmup: u32,
    decay: Option<Decay>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Decay {
    Linear { until: u64 },
    Cosine { periods: u8, floor: f64 },
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
enum Loss {
    CrossEntropy,
    Huber(f64),
    Weighted { weights: Vec<f64> },
}

/// A plain struct that says nothing of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Opaque {
    depth: i16,
    inner: Option<Inner>,
    layer: Layer,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Inner {
    size: u8,
}

mod hex {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(value: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:x}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        u32::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}

/// Every form of field.
///
/// The rest of the comment is the description.
#[derive(Component)]
#[component(kind = "documents.Every", register = no)]
struct Every {
    identifier: String,
    flag: bool,
    byte: u8,
    count: i64,
    big: u64,
    rate: f64,
    single: f32,
    letter: char,
    /// What it is called.
    name: String,
    note: Option<String>,
    tags: Vec<String>,
    pair: (u8, String),
    grid: [f32; 3],
    scores: BTreeMap<String, f64>,
    by_number: BTreeMap<i8, bool>,
    any: Value,
    wait: Duration,
    #[component(breaking)]
    seed: u32,
    #[component(default)]
    retries: u32,
    #[component(default = cpu())]
    device: String,
    #[serde(rename = "lr", alias = "learning_rate")]
    rate_of_learning: f64,
    layer: Layer,
    layers: Vec<Layer>,
    parts: BTreeMap<String, Box<dyn Component>>,
    shared: Option<Arc<Layer>>,
    data: Artifact<Bytes>,
    key: Secret<String>,
    call: Callable,
    schedule: Schedule,
    loss: Loss,
    later: Option<Schedule>,
    opaque: Opaque,
    #[serde(with = "hex")]
    color: u32,
    /// What training makes.
    weights: Output<Vec<f32>>,
    client: Runtime<String>,
    #[component(skip)]
    #[expect(dead_code, reason = "it is in no document, which is what the tests ask")]
    scratch: Vec<u8>,
}

fn cpu() -> String {
    "cpu".to_owned()
}

/// A component with fields that stand among its own.
#[derive(Component)]
#[component(kind = "documents.Flat", register = no)]
struct Flat {
    identifier: String,
    #[serde(flatten)]
    schedule: Schedule,
}

/// As above, with a type that says nothing of itself.
#[derive(Component)]
#[component(kind = "documents.Bare", register = no)]
struct Bare {
    identifier: String,
    #[serde(flatten)]
    inner: Inner,
}

/// A component whose fields all have defaults.
#[derive(Component)]
#[component(kind = "documents.Preset", register = no)]
#[serde(default)]
struct Preset {
    identifier: String,
    epochs: u32,
    layer: Option<Layer>,
}

impl Default for Preset {
    fn default() -> Self {
        Preset { identifier: "preset".to_owned(), epochs: 7, layer: None }
    }
}

/// A generic component: its parameter is looked up when the program runs.
#[derive(Component)]
#[component(register = no, lifecycle = no, triggers = no)]
struct Holder<T: Component> {
    identifier: String,
    inner: T,
    more: Vec<T>,
}

superduper::register!(Holder<Layer> as "documents.Holder");

fn registry() -> Registry {
    Registry::builder()
        .with::<Every>()
        .with::<Layer>()
        .with::<Odd>()
        .with::<Flat>()
        .with::<Bare>()
        .with::<Preset>()
        .build()
        .expect("a registry")
}

const DIGEST: &str = "blake3:0000000000000000000000000000000000000000000000000000000000000000";

fn layer(identifier: &str) -> Value {
    json!({"kind": "documents.Layer", "identifier": identifier, "width": 3})
}

fn every() -> Value {
    json!({
        "kind": "documents.Every",
        "identifier": "e",
        "flag": true,
        "byte": 255,
        "count": -3,
        "big": u64::MAX,
        "rate": 1,
        "single": 0.5,
        "letter": "ü",
        "name": "n",
        "tags": ["a"],
        "pair": [1, "one"],
        "grid": [1, 2, 3.5],
        "scores": {"a": 0.5},
        "by_number": {"-128": true},
        "any": {"$ref": 3, "kind": [null]},
        "wait": {"secs": 1, "nanos": 0},
        "seed": 1,
        "lr": 0.1,
        "layer": layer("l1"),
        "layers": [layer("l2")],
        "parts": {"odd": {"$kind": "documents.Odd", "identifier": "o", "kind": "strange"}},
        "data": {"$blob": DIGEST, "size": 0},
        "key": "env:PATH",
        "call": "documents.double",
        "schedule": {"rate": 0.1},
        "loss": "CrossEntropy",
        "opaque": {"depth": 1, "layer": layer("l3")},
        "color": "ff",
    })
}

/// The document with another value at a place; without one where it is `None`.
fn with(mut document: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("a place");
    match (parent, value) {
        (Value::Object(map), Some(value)) => drop(map.insert(key.to_owned(), value)),
        (Value::Object(map), None) => drop(map.remove(key)),
        (Value::Array(items), Some(value)) => {
            let index: usize = key.parse().expect("an index");
            if index == items.len() { items.push(value) } else { items[index] = value }
        }
        other => panic!("`{pointer}` is in {other:?}"),
    }
    document
}

fn validator(registry: &Registry, kind: &str) -> Validator {
    let schema = registry.schema(kind).expect("a schema");
    jsonschema::meta::validate(&schema).expect("the schema is one");
    jsonschema::draft202012::new(&schema).expect("the schema compiles")
}

fn pointers(error: &Error) -> Vec<&str> {
    error.mistakes().iter().map(Mistake::pointer).collect()
}

#[test]
fn n01_the_schema_of_every_form_of_field_is_the_sample() {
    let mut schema = registry().schema("documents.Every").expect("a schema");
    // Other tests have callables, too.
    let names = schema.pointer_mut("/$defs/superduper.Callable/anyOf/0/enum").expect("names");
    let names = names.as_array_mut().expect("a list");
    names.retain(|name| name.as_str().is_some_and(|name| name.starts_with("documents.")));
    assert_eq!(*names, [json!("documents.double")]);
    let names = json!(names);
    schema["$defs"]["superduper.Callable"]["anyOf"][1]["properties"]["$callable"]["enum"] = names;
    let text = serde_json::to_string_pretty(&schema).expect("a text");
    golden("../samples/schema-every.json", &(text + "\n"));
}

/// A callable whose code is an artifact.
fn code(params: Value) -> Value {
    json!({"$runtime": "r", "artifact": {"$blob": DIGEST, "size": 1}, "params": params})
}

#[test]
fn n01_what_decode_takes_the_schema_takes() {
    let registry = registry();
    let validator = validator(&registry, "documents.Every");
    let schedule = json!({"rate": 1, "warmup": 2.0, "decay": {"type": "linear", "until": 3}});
    let good = [
        ("/note", json!(null)),
        ("/note", json!("text")),
        ("/byte", json!(7.0)),
        ("/by_number", json!({"0": true, "127": false})),
        ("/retries", json!(3)),
        ("/device", json!("gpu")),
        ("/layers", json!([])),
        ("/layers/1", layer("l9")),
        ("/layer/note", json!("inner")),
        ("/shared", layer("s")),
        ("/shared", json!(null)),
        ("/parts/more", layer("p")),
        ("/key", json!({"$secret": "file:/key"})),
        ("/call", json!({"$callable": "documents.double", "code": "0"})),
        ("/call", code(json!([{"name": "x", "ty": "i64"}]))),
        ("/data", json!({"$blob": DIGEST, "size": 1, "format": "x"})),
        ("/schedule", schedule.clone()),
        ("/later", json!(null)),
        ("/later", schedule),
        ("/loss", json!({"Huber": 1})),
        ("/loss", json!({"Weighted": {"weights": [1, 0.5]}})),
        ("/opaque/inner", json!({"size": 1})),
        ("/any", json!(null)),
        ("/name", json!("")),
    ];
    let documents =
        good.into_iter().map(|(place, value)| (place, with(every(), place, Some(value))));
    for (place, document) in std::iter::once(("", every())).chain(documents) {
        let decoded = registry.decode(std::slice::from_ref(&document));
        let components = decoded.unwrap_or_else(|error| panic!("`{place}`: {error}"));
        assert_eq!(components[0].identifier(), "e");
        let refused: Vec<String> =
            validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(refused.is_empty(), "`{place}`: {refused:?}");
    }
}

/// Documents with one mistake, where it is, and a word of what should be there.
fn bad() -> Vec<(&'static str, Option<Value>, &'static str)> {
    vec![
        ("/flag", Some(json!("yes")), "`true` or `false`"),
        ("/byte", Some(json!(256)), "from 0 to 255"),
        ("/byte", Some(json!(-1)), "from 0 to 255"),
        ("/byte", Some(json!(1.5)), "from 0 to 255"),
        ("/byte", Some(json!("1")), "from 0 to 255"),
        ("/byte", None, "missing"),
        ("/count", Some(json!(u64::MAX)), "from -9223372036854775808"),
        ("/big", Some(json!(18_446_744_073_709_551_616.0)), "from 0 to 18446744073709551615"),
        ("/rate", Some(json!("fast")), "a number"),
        ("/rate", Some(json!(null)), "a number"),
        ("/single", Some(json!(1e300)), "an f32"),
        ("/letter", Some(json!("ab")), "one character"),
        ("/name", Some(json!(7)), "a text"),
        ("/note", Some(json!(7)), "a text"),
        ("/tags", Some(json!("a")), "a list"),
        ("/tags/1", Some(json!(7)), "a text"),
        ("/pair", Some(json!([1])), "a list of 2 values"),
        ("/pair/1", Some(json!(1)), "a text"),
        ("/grid", Some(json!([1, 2, 3, 4])), "a list of 3 values"),
        ("/scores", Some(json!([])), "an object"),
        ("/scores/a", Some(json!("x")), "a number"),
        ("/by_number/128", Some(json!(true)), "from -128 to 127"),
        ("/by_number/01", Some(json!(true)), "from -128 to 127"),
        ("/by_number/x", Some(json!(true)), "from -128 to 127"),
        ("/wait", Some(json!(1)), "`secs`"),
        ("/wait/nanos", Some(json!(-1)), "from 0"),
        ("/retries", Some(json!(null)), "a whole number"),
        ("/learning_rate", Some(json!(0.1)), "did you mean `lr`"),
        ("/taggs", Some(json!(["a"])), "did you mean `tags`"),
        ("/kind", Some(json!("documents.Evry")), "did you mean `documents.Every`"),
        ("/kind", None, "missing"),
        ("/identifier", Some(json!("a/b")), "an identifier"),
        ("/identifier", Some(json!("")), "an identifier"),
        ("/identifier", None, "missing"),
        ("/layer", Some(json!(3)), "`documents.Layer`"),
        ("/layer/width", Some(json!(-1)), "from 0 to 65535"),
        ("/layer/width", None, "missing"),
        ("/layer/widht", Some(json!(3)), "did you mean `width`"),
        ("/layer/kind", Some(json!("documents.Odd")), "`documents.Layer`"),
        ("/layers/0/kind", None, "missing"),
        ("/layers/1", Some(json!({"$ref": 3})), "an address"),
        ("/parts/odd/$kind", Some(json!("documents.Od")), "did you mean `documents.Odd`"),
        ("/parts/odd/kind", Some(json!(3)), "a text"),
        ("/parts/more", Some(json!([])), "a component"),
        ("/shared", Some(json!("l1")), "`documents.Layer`"),
        ("/data", Some(json!("bytes")), "a reference to a blob"),
        ("/data", Some(json!({"$blob": "blake3:0", "size": 1})), "a reference to a blob"),
        ("/data", Some(json!({"$blob": DIGEST})), "a reference to a blob"),
        ("/key", Some(json!("hunter2")), "`env:NAME` or `file:path`"),
        ("/key", Some(json!({"$secret": "hunter2"})), "`env:NAME` or `file:path`"),
        ("/key", Some(json!(["hunter2"])), "`env:NAME` or `file:path`"),
        ("/call", Some(json!("documents.dubble")), "did you mean `documents.double`"),
        ("/call", Some(json!({"$callable": "documents.none"})), "`documents.double`"),
        ("/call", Some(json!({"$callable": "documents.double", "x": 1})), "callable"),
        ("/call", Some(json!({"$runtime": "r"})), "callable"),
        ("/call", Some(code(json!([{"name": 1}]))), "a list of"),
        ("/schedule", Some(json!([1])), "an object"),
        ("/schedule/rate", Some(json!("x")), "a number"),
        ("/schedule/rate", None, "missing"),
        ("/schedule/rat", Some(json!(1)), "did you mean `rate`"),
        ("/schedule/warmup", Some(json!(4_294_967_296_u64)), "from 0 to 4294967295"),
        ("/schedule/decay", Some(json!({"type": "linaer", "until": 1})), ""),
        ("/loss", Some(json!("CrossEntropie")), "did you mean `CrossEntropy`"),
        ("/loss", Some(json!({"Huber": 1, "More": 1})), "`Huber`"),
        ("/weights", Some(json!([1])), "triggers make it"),
        ("/weights", Some(json!(null)), "triggers make it"),
        ("/client", Some(json!("c")), "not stored"),
        ("/scratch", Some(json!([])), "not stored"),
    ]
}

#[test]
fn n01_what_decode_refuses_the_schema_refuses() {
    let registry = registry();
    let validator = validator(&registry, "documents.Every");
    for (place, value, says) in bad() {
        let document = with(every(), place, value.clone());
        let error = refused(registry.decode(std::slice::from_ref(&document)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = if place.starts_with("/layers/1") { "/layers/1/$ref" } else { place };
        let found = pointers(&error);
        assert!(found.len() == 1 && found[0].starts_with(expected), "`{place}`: {error}");
        assert!(error.to_string().contains(says), "`{place}` says no {says:?}: {error}");
        assert!(!error.to_string().contains("hunter2"), "`{place}`: {error}");
        assert!(!validator.is_valid(&document), "`{place}`: the schema takes {value:?}");
    }
}

#[test]
fn n01_deep_mistakes_of_described_types_are_refused_by_both() {
    let registry = registry();
    let validator = validator(&registry, "documents.Every");
    let decay = json!({"type": "linear", "until": 3, "untill": 4});
    for (place, value, at) in [
        ("/schedule/decay", decay, "/schedule/decay/untill"),
        ("/schedule/decay", json!({"type": "linear", "until": -3}), "/schedule/decay/until"),
        ("/schedule/decay", json!({"type": "linear"}), "/schedule/decay/until"),
        ("/loss", json!({"Huber": "x"}), "/loss/Huber"),
        ("/loss", json!({"Weighted": {"weights": [1, "x"]}}), "/loss/Weighted/weights/1"),
        ("/loss", json!({"Weighted": {"weights": [], "b": 1}}), "/loss/Weighted/b"),
        (
            "/later",
            json!({"rate": 1, "decay": {"type": "cosine", "periods": 300, "floor": 0}}),
            "/later/decay/periods",
        ),
    ] {
        let document = with(every(), place, Some(value));
        let error = refused(registry.decode(std::slice::from_ref(&document)));
        assert_eq!(pointers(&error), [at], "{error}");
        assert!(!validator.is_valid(&document), "`{at}`: the schema takes it");
    }
}

#[test]
fn n01_what_types_without_a_schema_refuse_is_found_too() {
    for (place, value, at, says) in [
        ("/opaque/depth", json!("deep"), "/opaque/depth", "expected i16"),
        ("/opaque/dept", json!(1), "/opaque/dept", "did you mean `depth`"),
        ("/opaque/inner", json!({"size": 1, "siz": 2}), "/opaque/inner/siz", "did you mean `size`"),
        ("/opaque/inner", json!([1]), "/opaque/inner", "expected struct Inner"),
        ("/opaque/inner", json!({}), "/opaque/inner/size", "missing"),
        ("/opaque/layer/width", json!(-1), "/opaque/layer/width", "expected u16"),
        ("/opaque/layer/widht", json!(1), "/opaque/layer/widht", "did you mean `width`"),
        ("/color", json!("red"), "/color", "invalid digit"),
        ("/layer/width", json!(13), "/layer", "13 neurons bring bad luck"),
        ("/opaque/layer/width", json!(13), "/opaque/layer", "13 neurons bring bad luck"),
    ] {
        let error = refused(registry().decode(&[with(every(), place, Some(value))]));
        assert_eq!(pointers(&error), [at], "{error}");
        assert!(error.to_string().contains(says), "`{at}` says no {says:?}: {error}");
    }
}

#[test]
fn n01_flattened_fields_and_whole_defaults() {
    let registry = registry();
    let flat = json!({"kind": "documents.Flat", "identifier": "f", "rate": 0.5, "warmup": 3});
    let validator_of_flat = validator(&registry, "documents.Flat");
    registry.decode(std::slice::from_ref(&flat)).expect("decodes");
    assert!(validator_of_flat.is_valid(&flat));
    for (place, value) in
        [("/warmpu", Some(json!(1))), ("/rate", Some(json!("x"))), ("/rate", None)]
    {
        let document = with(flat.clone(), place, value);
        let error = refused(registry.decode(std::slice::from_ref(&document)));
        assert_eq!(pointers(&error), [place], "{error}");
        assert!(!validator_of_flat.is_valid(&document), "{place}");
    }
    let bare = json!({"kind": "documents.Bare", "identifier": "b", "size": 1});
    registry.decode(std::slice::from_ref(&bare)).expect("decodes");
    let error = refused(registry.decode(&[with(bare, "/siez", Some(json!(1)))]));
    assert_eq!(pointers(&error), ["/siez"], "{error}");
    assert_eq!(error.mistakes()[0].did_you_mean(), Some("size"));

    let schema = registry.schema("documents.Preset").expect("a schema");
    let preset = &schema["$defs"]["documents.Preset"];
    assert_eq!(preset["properties"]["epochs"]["default"], 7);
    assert_eq!(preset["required"], json!(["kind"]));
    let components = registry.decode(&[json!({"kind": "documents.Preset"})]).expect("decodes");
    assert_eq!(components[0].identifier(), "preset");
    says(
        &refused(registry.schema("documents.Prest")),
        ErrorKind::UnknownKind,
        &["documents.Preset"],
    );
}

#[test]
fn n01_a_type_parameter_is_looked_up() {
    let registry = Registry::builder().with::<Holder<Layer>>().with::<Layer>().build();
    let registry = registry.expect("a registry");
    let schema = registry.schema("documents.Holder").expect("a schema");
    let holder = &schema["$defs"]["documents.Holder"]["properties"];
    assert_eq!(holder["inner"]["anyOf"][0]["$ref"], "#/$defs/documents.Layer");
    assert_eq!(holder["more"], json!({}), "only what the compiler sees is known of it");
    let holder = json!({
        "kind": "documents.Holder",
        "identifier": "h",
        "inner": layer("l"),
        "more": [{"kind": "documents.Layer", "identifier": "m", "widht": 3}],
    });
    let error = refused(registry.decode(&[holder]));
    assert!(pointers(&error).contains(&"/more/0/widht"), "{error}");
}

#[test]
fn n02_all_mistakes_at_once_and_nothing_else_changes() {
    let registry = registry();
    let mut wrong = every();
    for (place, value) in [
        ("/byte", json!(300)),
        ("/taggs", json!(["a"])),
        ("/layers/0/widht", json!(4)),
        ("/opaque/inner", json!({"size": 1, "siz": 2})),
        ("/key", json!("hunter2")),
        ("/call", json!("documents.dubble")),
    ] {
        wrong = with(wrong, place, Some(value));
    }
    let fine = with(every(), "/identifier", Some(json!("fine")));
    let error = refused(registry.decode(&[fine.clone(), wrong]));
    let mut found: Vec<(usize, &str, Option<&str>)> = error
        .mistakes()
        .iter()
        .map(|mistake| (mistake.document(), mistake.pointer(), mistake.did_you_mean()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (1, "/byte", None),
            (1, "/call", Some("documents.double")),
            (1, "/key", None),
            (1, "/layers/0/widht", Some("width")),
            (1, "/opaque/inner/siz", Some("size")),
            (1, "/taggs", Some("tags")),
        ],
        "{error}"
    );
    let expected = |place: &str| {
        let at = |mistake: &&Mistake| mistake.pointer() == place;
        error.mistakes().iter().find(at).map(Mistake::expected).unwrap_or_default()
    };
    assert_eq!(expected("/byte"), "a whole number from 0 to 255");
    assert_eq!(expected("/key"), "`env:NAME` or `file:path`, never the value");
    assert_eq!(expected("/opaque/inner/siz"), "`size`");
    assert!(
        expected("/taggs").contains("`tags`") && expected("/call").contains("`documents.double`")
    );
    assert_eq!(error.pointer(), Some(error.mistakes()[0].pointer()));
    says(&error, ErrorKind::InvalidInput, &["6 mistakes", "document 1: /byte", "`width`?"]);
    // The other document alone is as good as it was.
    let components = registry.decode(&[fine]).expect("decodes");
    assert_eq!(components[0].identifier(), "fine");
}

#[test]
fn n02_documents_refer_to_each_other() {
    let registry = registry();
    let reference = json!({"$ref": "documents.Layer/shared"});
    let holder = with(every(), "/layers", Some(json!([reference, reference])));
    let components = registry.decode(&[layer("shared"), holder.clone()]).expect("decodes");
    assert_eq!(components.len(), 2);
    let text = components[1].show().expect("a text");
    assert!(text.contains("layers[1]: documents.Layer:shared"), "{text}");

    let error = refused(registry.decode(std::slice::from_ref(&holder)));
    assert_eq!(pointers(&error), ["/layers/0/$ref", "/layers/1/$ref"], "{error}");
    // The mistake is in one document, and is told once.
    let mut unlucky = layer("shared");
    unlucky["width"] = json!(13);
    let error = refused(registry.decode(&[holder.clone(), unlucky]));
    let found: Vec<(usize, &str)> =
        error.mistakes().iter().map(|mistake| (mistake.document(), mistake.pointer())).collect();
    assert_eq!(found, [(1, "")], "{error}");
    let error = refused(registry.decode(&[layer("shared"), layer("shared")]));
    says(&error, ErrorKind::InvalidInput, &["document 0 is `documents.Layer/shared` as well"]);
    let endless = with(every(), "/parts/me", Some(json!({"$ref": "documents.Every/e"})));
    says(&refused(registry.decode(&[endless])), ErrorKind::InvalidInput, &["would not end"]);
}

#[derive(Component)]
#[component(kind = "documents.Net")]
struct Net {
    identifier: String,
    layers: Vec<Stored>,
    data: Option<Artifact<Bytes>>,
}

#[derive(Component)]
#[component(kind = "documents.Stored")]
struct Stored {
    identifier: String,
    width: u16,
}

#[tokio::test]
async fn n02_decoded_documents_are_applied_and_refer_to_stored_components() {
    for on in databases().await {
        let stored = json!({"kind": "documents.Stored", "identifier": "s", "width": 3});
        let [component] =
            on.db.decode_documents(&[stored]).await.expect("decodes").try_into().expect("one");
        on.db.apply(component).await.expect("applies");
        on.db.label("documents.Stored/s@0", "prod").await.expect("labels");
        for reference in ["documents.Stored/s", "documents.Stored/s@0", "documents.Stored/s@prod"] {
            let net = json!({"kind": "documents.Net", "identifier": "n", "layers": [{"$ref": reference}]});
            let [net] =
                on.db.decode_documents(&[net]).await.expect("decodes").try_into().expect("one");
            on.db.apply(net).await.expect("applies");
            let net: Net = on.db.load("n").await.expect("loads");
            assert_eq!(net.layers[0].width, 3);
        }
        let versions = on.db.versions("documents.Stored/s").await.expect("versions");
        assert_eq!(versions.len(), 1, "a reference changes nothing");
        let dangling = json!({"kind": "documents.Net", "identifier": "n", "layers": [{"$ref": "documents.Stored/t"}]});
        let error = refused(on.db.decode_documents(&[dangling]).await);
        assert_eq!(error.pointer(), Some("/layers/0/$ref"), "{error}");
        // A blob that nobody saved.
        let missing = json!({"kind": "documents.Net", "identifier": "m", "layers": [], "data": {"$blob": DIGEST, "size": 7}});
        let [net] =
            on.db.decode_documents(&[missing]).await.expect("decodes").try_into().expect("one");
        says(&refused(on.db.apply(net).await), ErrorKind::Integrity, &["is missing"]);
    }
}

#[tokio::test]
async fn n02_stored_rows_are_read_as_leniently_as_before() {
    let on = in_memory().await;
    on.db.apply(Stored { identifier: "s".to_owned(), width: 3 }).await.expect("applies");
    let text = on.db.show("documents.Stored/s").await.expect("a document");
    assert_eq!(text["fields"], json!({"identifier": "s", "width": 3}));
    let lenient: Stored = serde_json::from_value(json!({
        "$kind": "documents.Stored",
        "$version": 1,
        "$body": {"identifier": "s", "width": 3, "more": 1},
    }))
    .expect("a member that is not known is left out");
    assert_eq!(lenient.width, 3);
}
