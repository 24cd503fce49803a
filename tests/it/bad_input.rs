//! Input that cannot be stored: refused with a name and a place, before any write.

use crate::support::{Database, databases, in_memory, refused, says};
use std::collections::{BTreeMap, HashSet};
use superduper::{Output, Registry, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "bad_input.Plain")]
struct Plain {
    identifier: String,
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Default)]
struct Options {
    rates: Vec<f64>,
    by_name: BTreeMap<String, f32>,
}

#[derive(Component, Clone, Default)]
#[component(kind = "bad_input.Numbers")]
struct Numbers {
    identifier: String,
    options: Options,
    rate: f64,
    huge: u128,
}

#[derive(Component)]
#[component(kind = "bad_input.Holding")]
struct Holding {
    identifier: String,
    numbers: Vec<Numbers>,
}

async fn is_empty(on: &Database) -> bool {
    on.db.list().await.expect("lists").is_empty()
        && on.blob_count().await == 0
        && on.metadata.commits() == 0
}

#[tokio::test]
async fn identifiers_follow_the_rules() {
    for on in databases().await {
        for (name, why) in [
            ("", "empty"),
            ("a/b", "`/`"),
            ("a@1", "`@`"),
            ("a\nb", "\\n"),
            ("\0", "`\\0`"),
            (&"x".repeat(256), "256 bytes"),
        ] {
            let error = refused(on.db.apply(Plain { identifier: name.into() }).await);
            says(&error, ErrorKind::InvalidInput, &["bad_input.Plain", why]);
            assert_eq!(
                refused(on.db.plan(Plain { identifier: name.into() }).await).to_string(),
                error.to_string()
            );
            assert_eq!(refused(Plain::builder(name).build()).kind(), ErrorKind::InvalidInput);
        }
        assert!(is_empty(&on).await);
        for name in
            ["a", "with space", "ünïcødé 🦀", "a:b", "a.b", "-", "$ref", "..", &"x".repeat(255)]
        {
            on.db.apply(Plain { identifier: name.into() }).await.expect(name);
            assert_eq!(on.db.load::<Plain>(name).await.expect(name).identifier, name);
        }
        let label = Plain { identifier: "a:b".into() }.huuid().expect("a label");
        assert_eq!(on.db.load::<Plain>(&label).await.expect("loads").identifier, "a:b");
    }
}

#[tokio::test]
async fn a11_a_number_that_json_cannot_hold_is_refused_with_its_path() {
    for on in databases().await {
        let plain = Numbers { identifier: "n".into(), ..Numbers::default() };
        let nan = Numbers {
            options: Options { rates: vec![0.5, f64::NAN], ..Options::default() },
            ..plain.clone()
        };
        says(
            &refused(on.db.apply(&nan).await),
            ErrorKind::Encode,
            &["`bad_input.Numbers/n`", "`options.rates[1]`", "NaN"],
        );
        let infinite = Options {
            by_name: BTreeMap::from([("x".to_owned(), f32::INFINITY)]),
            ..Options::default()
        };
        let infinite = Numbers { options: infinite, ..plain.clone() };
        says(
            &refused(on.db.plan(&infinite).await),
            ErrorKind::Encode,
            &["`options.by_name.x`", "inf"],
        );
        let held = Holding {
            identifier: "h".into(),
            numbers: vec![
                plain.clone(),
                Numbers { rate: f64::NEG_INFINITY, identifier: "m".into(), ..plain.clone() },
            ],
        };
        says(
            &refused(on.db.apply(held).await),
            ErrorKind::Encode,
            &["`bad_input.Numbers/m`", "`rate`", "-inf"],
        );
        let huge = Numbers { huge: u128::MAX, ..plain };
        says(&refused(on.db.apply(huge).await), ErrorKind::Encode, &["`huge`", "64 bits"]);
        assert!(is_empty(&on).await);
    }
}

#[tokio::test]
async fn a11_an_encoding_that_differs_each_time_is_refused() {
    #[derive(Component)]
    #[component(kind = "bad_input.Unsorted")]
    struct Unsorted {
        identifier: String,
        words: HashSet<String>,
    }
    for on in databases().await {
        let words = (0..64).map(|number| format!("word {number}")).collect();
        let error = refused(on.db.apply(Unsorted { identifier: "u".into(), words }).await);
        says(
            &error,
            ErrorKind::Encode,
            &["`bad_input.Unsorted/u`", "`words[", "superduper::sorted"],
        );
        assert!(is_empty(&on).await);
    }
}

#[tokio::test]
async fn a11_a_sorted_set_is_always_the_same() {
    #[derive(Component)]
    #[component(kind = "bad_input.Sorted")]
    struct Sorted {
        identifier: String,
        #[component(breaking)]
        #[serde(with = "superduper::sorted")]
        words: HashSet<String>,
        map: std::collections::HashMap<String, i64>,
    }
    for on in databases().await {
        let sorted = || Sorted {
            identifier: "s".into(),
            words: (0..64).map(|number| format!("word {number}")).collect(),
            map: (0..64).map(|number| (format!("key {number}"), number)).collect(),
        };
        on.db.apply(sorted()).await.expect("applies");
        for _ in 0..5 {
            assert!(on.db.plan(sorted()).await.expect("plans").is_empty());
        }
        assert_eq!(on.db.load::<Sorted>("s").await.expect("loads").words, sorted().words);
    }
}

#[tokio::test]
async fn a_kind_that_is_not_registered_is_refused_naming_the_known_ones() {
    let on = in_memory().await;
    let other = on
        .program(Registry::builder().with::<Plain>().with::<Holding>().build().expect("a registry"))
        .await;
    let numbers = Numbers { identifier: "n".into(), ..Numbers::default() };
    says(
        &refused(other.apply(&numbers).await),
        ErrorKind::UnknownKind,
        &["`bad_input.Numbers/n`", "not registered"],
    );
    let held = Holding { identifier: "h".into(), numbers: vec![numbers] };
    let error = refused(other.apply(held).await);
    says(
        &error,
        ErrorKind::UnknownKind,
        &["`bad_input.Numbers`. This program knows: bad_input.Holding, bad_input.Plain"],
    );
    assert!(is_empty(&on).await);
}

#[derive(Component, Clone)]
#[component(lifecycle = no, triggers = no)]
struct Pair<T> {
    identifier: String,
    left: T,
    right: T,
}
superduper::register!(Pair<i64> as "bad_input.PairOfNumbers");

#[derive(Component)]
#[component(kind = "bad_input.Pairs")]
struct Pairs {
    identifier: String,
    known: Pair<i64>,
    unknown: Option<Pair<String>>,
}

#[tokio::test]
async fn a_generic_type_that_is_not_registered_is_refused_before_any_write() {
    for on in databases().await {
        let unknown = Pair { identifier: "p".into(), left: "l".to_owned(), right: "r".to_owned() };
        says(
            &refused(on.db.apply(&unknown).await),
            ErrorKind::UnknownKind,
            &["Pair<", "register!"],
        );
        let known = Pair { identifier: "k".into(), left: 1, right: 2 };
        let pairs = Pairs { identifier: "ps".into(), known: known.clone(), unknown: Some(unknown) };
        says(&refused(on.db.apply(pairs).await), ErrorKind::UnknownKind, &["Pair<", "register!"]);
        assert!(is_empty(&on).await);
        on.db
            .apply(Pairs { identifier: "ps".into(), known, unknown: None })
            .await
            .expect("applies");
        assert_eq!(on.db.load::<Pair<i64>>("k").await.expect("loads").right, 2);
        assert_eq!(on.versions("bad_input.PairOfNumbers/k").await, [0]);
    }
}

#[tokio::test]
async fn an_output_inside_a_plain_struct_is_refused() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Inner {
        score: Output<f64>,
    }
    #[derive(Component)]
    #[component(kind = "bad_input.Outputs")]
    struct Outputs {
        identifier: String,
        inner: Inner,
    }
    for on in databases().await {
        let error = refused(
            on.db
                .apply(Outputs { identifier: "o".into(), inner: Inner { score: Output::empty() } })
                .await,
        );
        says(&error, ErrorKind::Encode, &["bad_input.Outputs/o", "`inner.score`", "direct field"]);
        assert!(is_empty(&on).await);
    }
}

#[derive(Component)]
#[component(kind = "bad_input.Chain")]
struct Chain {
    identifier: String,
    value: i64,
    next: Option<Box<Chain>>,
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Without this a long chain would be dropped by a recursion as deep.
        let mut next = self.next.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

fn chain(length: usize, last: i64) -> Chain {
    let mut chain = Chain { identifier: "0".into(), value: last, next: None };
    for number in 1..length {
        chain = Chain { identifier: number.to_string(), value: 0, next: Some(Box::new(chain)) };
    }
    chain
}

#[tokio::test]
async fn a_tree_of_a_thousand_levels_works() {
    for on in databases().await {
        let applied = on.db.apply(chain(1000, 1)).await.expect("applies");
        assert_eq!(applied.components.len(), 1000);
        assert!(on.db.plan(chain(1000, 1)).await.expect("plans").is_empty());
        let on = on.reopened().await;
        let back: Chain = on.db.load("999").await.expect("loads");
        let mut link = &back;
        while let Some(next) = &link.next {
            link = next;
        }
        assert_eq!((link.identifier.as_str(), link.value), ("0", 1));
        let plan = on.db.plan(chain(1000, 2)).await.expect("plans");
        assert_eq!(
            plan.components()
                .iter()
                .filter(|component| component.action == superduper::Action::Update)
                .count(),
            1
        );
        assert!(plan.to_string().len() > 1000 && back.show().expect("shows").len() > 1000);
        on.db.remove::<Chain>("999").recursive().await.expect("removes");
        assert!(on.db.list().await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn a_tree_that_is_too_deep_is_refused() {
    for on in databases().await {
        says(
            &refused(on.db.apply(chain(superduper::schema::MAX_DEPTH + 1, 1)).await),
            ErrorKind::Encode,
            &["deeper than 4096", "bad_input.Chain/"],
        );
        says(&refused(chain(100_000, 1).encode()), ErrorKind::Encode, &["deeper than 4096"]);
        assert!(is_empty(&on).await);
    }
    let on = in_memory().await;
    on.db
        .apply(chain(superduper::schema::MAX_DEPTH, 1))
        .await
        .expect("the deepest that is allowed");
    on.db.load::<Chain>(&(superduper::schema::MAX_DEPTH - 1).to_string()).await.expect("loads");
}
