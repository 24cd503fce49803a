//! What holds for any tree of components.

use crate::support::{databases, in_memory};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use superduper::prelude::*;

#[derive(Component, Clone, Debug)]
#[component(kind = "properties.Node")]
struct Node {
    identifier: String,
    #[component(breaking)]
    breaking: i64,
    text: String,
    number: f64,
    any: Value,
    #[component(breaking)]
    strict: Option<Arc<Node>>,
    children: Vec<Arc<Node>>,
    by_name: BTreeMap<String, Node>,
    blob: Option<Artifact<Bytes>>,
    choice: Choice,
}

/// Components inside of an enum.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Choice {
    Nothing,
    Holds(Arc<Node>),
    Named { node: Option<Box<Node>>, size: u64 },
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop_oneof![
            Just(json!(i64::MIN)),
            Just(json!(u64::MAX)),
            Just(json!(f64::MAX)),
            Just(json!(f64::MIN_POSITIVE)),
            Just(json!(-0.0))
        ],
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-z$.]{0,4}",
        Just("$ref".to_owned()),
        Just("$blob".to_owned()),
        Just("$$".to_owned())
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_tree() -> impl Strategy<Value = Node> {
    let own = || {
        (
            any::<i64>(),
            ".{0,12}",
            prop::num::f64::NORMAL | prop::num::f64::ZERO,
            any_json(),
            prop::option::of(0..4_u8),
        )
    };
    let node = |(breaking, text, number, any, blob): (i64, String, f64, Value, Option<u8>)| Node {
        identifier: String::new(),
        breaking,
        text,
        number,
        any,
        strict: None,
        children: Vec::new(),
        by_name: BTreeMap::new(),
        blob: blob.map(|byte| Bytes::from(vec![byte; 40]).into()),
        choice: Choice::Nothing,
    };
    let leaf = own().prop_map(node);
    let tree = leaf.prop_recursive(4, 20, 3, move |inner| {
        let many = prop::collection::vec(inner.clone().prop_map(Arc::new), 0..3);
        let named = prop::collection::btree_map("[a-z.$]{1,3}", inner.clone(), 0..2);
        let choice = prop_oneof![
            Just(Choice::Nothing),
            inner.clone().prop_map(|node| Choice::Holds(Arc::new(node))),
            (prop::option::of(inner.clone().prop_map(Box::new)), any::<u64>())
                .prop_map(|(node, size)| Choice::Named { node, size }),
        ];
        (own(), prop::option::of(inner.prop_map(Arc::new)), many, named, choice).prop_map(
            move |(own, strict, mut children, by_name, choice)| {
                // A child that is held twice.
                if let Some(first) = children.first().cloned() {
                    children.push(first);
                }
                Node { strict, children, by_name, choice, ..node(own) }
            },
        )
    });
    tree.prop_map(|mut tree| {
        name(&mut tree, "root");
        tree
    })
}

/// Give each node an identifier of its own, by its place.
fn name(node: &mut Node, own: &str) {
    own.clone_into(&mut node.identifier);
    if let Some(strict) = &mut node.strict {
        name(Arc::make_mut(strict), &format!("{own}s"));
    }
    let twice = node.children.len() > 1;
    for (index, child) in node.children.iter_mut().enumerate() {
        name(Arc::make_mut(child), &format!("{own}{index}"));
    }
    if twice {
        let first = node.children[0].clone();
        if let Some(last) = node.children.last_mut() {
            *last = first;
        }
    }
    match &mut node.choice {
        Choice::Nothing => {}
        Choice::Holds(child) => name(Arc::make_mut(child), &format!("{own}h")),
        Choice::Named { node, .. } => {
            node.iter_mut().for_each(|child| name(child, &format!("{own}n")))
        }
    }
    for (key, child) in &mut node.by_name {
        name(child, &format!("{own}[{key}]"));
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_an_encoding_gives_the_same_encoding(tree in any_tree()) {
        let encoding = tree.encode().expect("encodes");
        let back = Node::decode(&encoding).expect("decodes");
        prop_assert_eq!(back.encode().expect("encodes").to_json(), encoding.to_json());
    }

    #[test]
    fn after_an_apply_there_is_nothing_to_plan(tree in any_tree()) {
        run(async {
            for on in databases().await {
                on.db.apply(&tree).await.expect("applies");
                let plan = on.db.plan(&tree).await.expect("plans");
                assert!(plan.is_empty(), "{plan}");
                let on = on.reopened().await;
                let back: Node = on.db.load("root").await.expect("loads");
                let plan = on.db.plan(&back).await.expect("plans");
                assert!(plan.is_empty(), "{plan}");
                assert_eq!(back.huuid().expect("a label"), tree.huuid().expect("a label"));
            }
        });
    }

    #[test]
    fn f03_what_is_exported_comes_back_and_is_exported_again_byte_for_byte(tree in any_tree()) {
        run(async {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let on = in_memory().await;
            on.db.apply(&tree).await.expect("applies");
            let exported = on.db.export("properties.Node/root", folder.path().join("0.tar")).await.expect("exports");
            for (other, path) in databases().await.into_iter().zip(["1.tar", "2.tar"]) {
                other.db.import(folder.path().join("0.tar")).await.expect("imports");
                let back: Node = other.db.load("root").await.expect("loads");
                assert_eq!(back.encode().expect("encodes").to_json(), tree.encode().expect("encodes").to_json());
                for line in on.db.list().await.expect("lists") {
                    let name = line.address.path();
                    assert_eq!(other.db.show(name.as_str()).await.expect("shows"), on.db.show(name.as_str()).await.expect("shows"));
                }
                let again = other.db.export("properties.Node/root", folder.path().join(path)).await.expect("exports");
                assert_eq!((again.digest, again.blobs), (exported.digest, exported.blobs));
                let read = |name: &str| std::fs::read(folder.path().join(name)).expect("readable");
                assert_eq!(read(path), read("0.tar"));
                let report = other.db.verify().await.expect("verifies");
                assert!(report.findings.is_empty(), "{report}");
            }
        });
    }

    #[test]
    fn applying_one_tree_over_another_ends_with_the_other(first in any_tree(), second in any_tree()) {
        run(async {
            let on = in_memory().await;
            on.db.apply(&first).await.expect("applies");
            let plan = on.db.plan(&second).await.expect("plans");
            let applied = on.db.apply(&second).await.expect("applies");
            assert_eq!(&applied.address, plan.root());
            let back: Node = on.db.load("root").await.expect("loads");
            assert_eq!(back.encode().expect("encodes").to_json(), second.encode().expect("encodes").to_json());
            let moved = first.uuid().expect("a uuid") != second.uuid().expect("a uuid");
            assert_eq!(applied.version(), u32::from(moved), "a version for each change of identity, and only for that");
            assert!(on.db.plan(&second).await.expect("plans").is_empty());
            on.db.remove::<Node>("root").recursive().await.expect("removes");
            assert_eq!(on.versions("properties.Node/root").await, Vec::<u32>::new());
        });
    }
}
