//! Case N05: the captured source of types, functions and `impl` blocks.

mod crlf;
mod other;

use std::collections::BTreeMap as Sorted;
use superduper::{
    Registry,
    prelude::*,
    schema::{missing_sources_of, source_of, source_of_fn},
};

const FILE: &str = include_str!("mod.rs");
const PATH: &str = "tests/it/source/mod.rs";

// A comment that is not about the model.

// A comment that is: größer, 模型.
/// Learns; `}` and "{" are in no bracket.
#[derive(Component)] // derives are part of the text
#[component(kind = "source.Model", source)]
pub(crate) struct Model {
    /// The name.
    identifier: String,
    /* Between /* nested */ comments. */
    lr: f64, // "the step}
    #[component(default)]
    seen: Sorted<char, u8>,
} // no part of it

#[source]
#[triggers]
impl Model {
    /// Gives the step.
    #[trigger("apply")]
    fn train(&self) -> Result<f64> {
        Ok(self.lr) // as it is
    }
}

#[triggers]
#[source]
impl Holder {
    #[trigger("apply")]
    fn start(&self) {}
}

#[derive(Component)]
#[component(kind = "source.Holder")]
struct Holder {
    identifier: String,
}

#[source]
impl Lifecycle for Model {
    fn postinit(&mut self) -> Result<()> {
        self.seen.insert('}', 1);
        Ok(())
    }
}

#[source]
#[derive(Debug)]
enum Choice<T> {
    One(T),
}

#[source]
impl<T> Choice<T> {
    fn get(&self) -> &T {
        let Choice::One(one) = self;
        one
    }
}

#[source]
fn double(x: i64) -> i64 {
    2 * x
}

#[callable("source.greet")]
#[source]
async fn greet(name: String) -> Result<String> {
    Ok(format!("hello {name}")) // warmly
}

#[source]
#[derive(Settings)]
struct Knobs {
    #[component(default = 3)]
    size: u8,
}

mod inner {
    use super::*;

    #[source]
    pub(super) struct Inside(pub(super) u8);

    mod deeper {
        #[expect(unused_imports, reason = "no part of what `Inside` sees")]
        use std::fmt;
    }
}

macro_rules! written {
    ($name:ident) => {
        #[source]
        struct $name;

        #[source]
        #[derive(Debug)]
        struct Fixed;
    };
}
written!(Given);

fn between(file: &'static str, start: &str, end: &str) -> &'static str {
    let start = file.find(start).expect("the start is there");
    let length = file[start..].find(end).expect("the end is there") + end.len();
    &file[start..start + length]
}

fn line_of(file: &str, text: &str) -> u32 {
    let start = file.find(text).expect("the text is there");
    u32::try_from(file[..start].matches('\n').count() + 1).expect("few lines")
}

#[test]
fn n05_a_component_and_its_impls_are_exact() {
    let found = source_of::<Model>();
    let items: Vec<(&str, &str)> = found.iter().map(|source| (source.path, source.item)).collect();
    let expected = [
        (PATH, "struct Model"),
        (PATH, "impl Model"),
        (PATH, "impl Lifecycle for Model"),
        ("tests/it/source/other.rs", "impl Model"),
    ];
    assert_eq!(items, expected);
    let texts = [
        between(FILE, "// A comment that is: ", "\n}"),
        between(FILE, "#[source]\n#[triggers]", "\n}"),
        between(FILE, "#[source]\nimpl Lifecycle", "\n}"),
    ];
    for (source, text) in found.iter().zip(texts) {
        assert_eq!(source.text, text);
        assert_eq!(source.line, line_of(FILE, text));
        assert_eq!(
            source.uses,
            ["use std::collections::BTreeMap as Sorted;", between(FILE, "use superduper::{", "};")]
        );
    }
    assert!(found[0].text.contains("größer, 模型"));
    assert_eq!(found[3].text, between(other::FILE, "#[source]", "\n}"));
    assert_eq!(found[3].uses, ["use super::Model;", "use superduper::prelude::*;"]);
    let registry = Registry::linked().expect("each kind is there once");
    assert_eq!(registry.source("source.Model").expect("a kind"), found);
    assert_eq!(registry.source("source.Holder").expect("a kind").len(), 1);
    assert!(registry.source("source.None").is_err() && missing_sources_of::<Model>().is_empty());
    assert_eq!(source_of::<Holder>()[0].text, between(FILE, "#[triggers]\n#[source]", "\n}"));
}

#[test]
fn n05_enums_functions_and_generic_types_are_exact() {
    let found = source_of::<Choice<i64>>();
    let texts: Vec<&str> = found.iter().map(|source| source.text).collect();
    let expected = [
        between(FILE, "#[source]\n#[derive(Debug)]\nenum", "\n}"),
        between(FILE, "#[source]\nimpl<T>", "\n}"),
    ];
    assert_eq!(texts, expected);
    assert_eq!((found[0].item, found[1].item), ("enum Choice", "impl Choice<T>"));
    assert_eq!(*Choice::One(double(1)).get(), 2);
    let found = source_of_fn(&double);
    assert_eq!(
        (found[0].item, found[0].text),
        ("fn double", between(FILE, "#[source]\nfn double", "\n}"))
    );
    let found = source_of_fn(&greet);
    assert_eq!(found[0].text, between(FILE, "#[callable(\"source.greet", "\n}"));
    assert_eq!(
        source_of::<Knobs>()[0].text,
        between(FILE, "#[source]\n#[derive(Settings)]", "\n}")
    );
}

#[test]
fn n05_items_in_modules_see_the_uses_of_the_modules_around_them() {
    let found = source_of::<inner::Inside>();
    assert_eq!(inner::Inside(1).0, 1);
    assert_eq!(found[0].text, between(FILE, "#[source]\n    pub(super) struct Inside", ";"));
    assert_eq!(found[0].uses.last(), Some(&"use super::*;"));
    assert_eq!(found[0].uses.len(), 3);
}

#[test]
fn n05_carriage_returns_and_letters_are_exact() {
    let found = source_of::<crlf::Größe>();
    assert_eq!(found[0].text, between(crlf::FILE, "/// Größe", ")\r\n;"));
    assert!(found[0].text.contains("\r\n"));
    assert_eq!((found[0].line, found[0].item), (line_of(crlf::FILE, "/// Größe"), "struct Größe"));
    assert_eq!(found[0].uses, ["use superduper::{\r\n    prelude::source, // äöü\r\n};"]);
}

#[test]
fn n05_what_a_macro_writes_is_absent() {
    assert!(source_of::<Given>().is_empty() && source_of::<Fixed>().is_empty());
    let missing = missing_sources_of::<Given>();
    assert_eq!(missing[0].item, "struct Given");
    assert!(missing[0].why.contains("macro"), "{}", missing[0].why);
    assert_eq!(format!("{:?}", Fixed), "Fixed");
    // A type without the attribute has no source, and none is missing.
    assert!(source_of::<String>().is_empty() && missing_sources_of::<String>().is_empty());
}

#[tokio::test]
async fn n05_what_has_the_attribute_works_as_before() {
    let on = crate::support::in_memory().await;
    let model = Model::builder("m").lr(0.5).build().expect("it is complete");
    let applied = on.db.apply(&model).await.expect("applies");
    assert_eq!(applied.result::<f64>("train").expect("it ran"), 0.5);
    assert_eq!(model.seen.len(), model.doubled() as usize);
    let greeting: String =
        Callable::of::<greet>().call(json!({"name": "you"})).await.expect("greets");
    assert_eq!(greeting, "hello you");
    on.db.apply(Holder::builder("h").build().expect("built")).await.expect("applies");
}
