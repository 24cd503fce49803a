use std::collections::BTreeMap;
use superduper::{Component, prelude::*};

macro_rules! check {
    ($($rule:literal $module:ident => $keys:expr),+ $(,)?) => {$(
        mod $module {
            use super::*;

            #[derive(Component)]
            #[serde(rename_all = $rule)]
            pub struct Model {
                pub identifier: String,
                pub learning_rate: f64,
                pub r#type: i64,
                #[serde(rename = "B-2")]
                pub batch: Option<i64>,
            }
        }
        let model = $module::Model::builder("m").learning_rate(0.5).r#type(1).build().unwrap();
        let keys: Vec<&str> = model.__spec().fields.iter().map(|field| field.key).collect();
        assert_eq!(keys, $keys, $rule);
        let document = body(&model);
        for key in keys {
            assert!(document.get(key).is_some(), "{key} in {document}");
        }
    )+};
}

fn body(component: &impl Component) -> Value {
    let component: &dyn Component = component;
    superduper::json!(component)["$body"].clone()
}


#[derive(Component)]
#[serde(deny_unknown_fields)]
struct Passed {
    #[component(identifier)]
    #[serde(rename = "id", alias = "name")]
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<i64>,
    #[serde(default = "seven")]
    seven: i64,
    #[serde(skip)]
    scratch: i64,
}

#[derive(Component)]
struct Flat {
    identifier: String,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

#[derive(Component)]
#[serde(default)]
struct Defaults {
    identifier: String,
    lr: f64,
    tags: Vec<String>,
}
impl Default for Defaults {
    fn default() -> Self {
        Defaults { identifier: String::new(), lr: 0.5, tags: vec!["a".to_owned()] }
    }
}

fn seven() -> i64 {
    7
}

fn main() {
    check! {
        "lowercase" lower => ["identifier", "learning_rate", "type", "B-2"],
        "UPPERCASE" upper => ["IDENTIFIER", "LEARNING_RATE", "TYPE", "B-2"],
        "PascalCase" pascal => ["Identifier", "LearningRate", "Type", "B-2"],
        "camelCase" camel => ["identifier", "learningRate", "type", "B-2"],
        "snake_case" snake => ["identifier", "learning_rate", "type", "B-2"],
        "SCREAMING_SNAKE_CASE" screaming => ["IDENTIFIER", "LEARNING_RATE", "TYPE", "B-2"],
        "kebab-case" kebab => ["identifier", "learning-rate", "type", "B-2"],
        "SCREAMING-KEBAB-CASE" screaming_kebab => ["IDENTIFIER", "LEARNING-RATE", "TYPE", "B-2"],
    }
    let passed = Passed::builder("p").build().unwrap();
    assert_eq!((passed.identifier(), passed.seven, passed.scratch), ("p", 7, 0));
    assert_eq!(body(&passed), json!({"id": "p", "seven": 7}));

    let flat = Flat::builder("f").rest([("x".to_owned(), 1)]).build().unwrap();
    assert_eq!(body(&flat), json!({"identifier": "f", "x": 1}));

    let defaults = Defaults::builder("d").lr(1.0).build().unwrap();
    assert_eq!((defaults.identifier(), defaults.lr, defaults.tags.len()), ("d", 1.0, 1));
}
