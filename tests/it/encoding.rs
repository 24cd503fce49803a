//! What fields of all kinds become in a document, and back.

use crate::support::{databases, in_memory};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use superduper::prelude::*;

#[derive(Component, Clone, Debug, PartialEq)]
#[component(kind = "encoding.Leaf")]
struct Leaf {
    identifier: String,
    value: i64,
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
enum Shape {
    Unit,
    Newtype(f64),
    Tuple(i8, u64),
    Struct { left: String, right: Option<bool> },
    Held { leaf: Leaf },
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "type")]
enum Tagged {
    One { leaf: Leaf, number: i64 },
    Two { words: Vec<String> },
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged)]
enum Either {
    Leaf(Leaf),
    Number(i64),
    Any(Value),
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq, Default)]
struct Extra {
    from_flatten: i64,
}

#[derive(Component, Clone, Debug)]
#[component(kind = "encoding.All")]
struct All {
    identifier: String,
    shapes: Vec<Shape>,
    tagged: Vec<Tagged>,
    either: Vec<Either>,
    leaves: BTreeMap<String, Arc<Leaf>>,
    hashed: HashMap<i32, Leaf>,
    boxed: Option<Box<Leaf>>,
    pair: (Leaf, [u8; 3]),
    any: Value,
    keys: BTreeMap<String, Value>,
    set: BTreeSet<char>,
    queue: VecDeque<Option<i64>>,
    #[serde(rename = "numbers of all sizes")]
    numbers: (u64, i64, f64, f32, f64),
    #[component(default)]
    extra: Extra,
    blobs: Vec<Option<Artifact<Bytes>>>,
    #[component(skip)]
    skipped: u8,
    runtime: superduper::Runtime<std::sync::Mutex<u8>>,
}

fn leaf(value: i64) -> Leaf {
    Leaf { identifier: format!("leaf {value}"), value }
}

fn all() -> All {
    All {
        identifier: "all".into(),
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(-0.0),
            Shape::Tuple(-128, u64::MAX),
            Shape::Struct { left: "\u{0}\"\\".into(), right: None },
            Shape::Held { leaf: leaf(1) },
        ],
        tagged: vec![
            Tagged::One { leaf: leaf(2), number: 2 },
            Tagged::Two { words: vec![String::new()] },
        ],
        either: vec![
            Either::Leaf(leaf(3)),
            Either::Number(3),
            Either::Any(json!({"$ref": ["encoding.Leaf/leaf 3"]})),
        ],
        leaves: BTreeMap::from([
            ("a.b[0]".into(), Arc::new(leaf(4))),
            ("$ref".into(), Arc::new(leaf(1))),
        ]),
        hashed: HashMap::from([(5, leaf(5)), (-6, leaf(6)), (7, leaf(7))]),
        boxed: Some(Box::new(leaf(1))),
        pair: (leaf(8), [1, 2, 3]),
        any: json!({"$blob": "x", "$$blob": [], "$kind": {"$callable": null}, "plain": [1, 2.5, null, "é"]}),
        keys: BTreeMap::from([
            ("$ref".into(), json!("encoding.Leaf/none")),
            ("$".into(), json!(0)),
            ("".into(), json!(false)),
        ]),
        set: BTreeSet::from(['z', 'a', '🦀']),
        queue: VecDeque::from([None, Some(i64::MIN)]),
        numbers: (u64::MAX, i64::MIN, 0.1 + 0.2, 0.1, 1e308),
        extra: Extra::default(),
        blobs: vec![None, Some(Bytes::from("blob").into())],
        skipped: 9,
        runtime: superduper::Runtime::new(),
    }
}

fn check(back: &All) {
    let given = all();
    assert_eq!(back.shapes, given.shapes);
    assert_eq!(back.tagged, given.tagged);
    assert_eq!(back.either, given.either);
    assert_eq!(back.leaves, given.leaves);
    assert_eq!(back.hashed, given.hashed);
    assert_eq!(back.boxed, given.boxed);
    assert_eq!(back.pair, given.pair);
    assert_eq!(back.any, given.any);
    assert_eq!(back.keys, given.keys);
    assert_eq!(back.set, given.set);
    assert_eq!(back.queue, given.queue);
    assert_eq!(back.numbers, given.numbers);
    assert_eq!(back.extra, given.extra);
    assert_eq!(back.skipped, 0);
}

#[tokio::test]
async fn fields_of_all_kinds_come_back() {
    for on in databases().await {
        on.db.apply(all()).await.expect("applies");
        let on = on.reopened().await;
        let back: All = on.db.load("all").await.expect("loads");
        check(&back);
        assert_eq!(
            &back.blobs[1].as_ref().expect("a blob").get().await.expect("bytes")[..],
            b"blob"
        );
        let plan = on.db.plan(&back).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        assert!(on.db.plan(all()).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn encoding_and_decoding_need_no_database() {
    let encoding = all().encode().expect("encodes");
    check(&All::decode(&encoding).expect("decodes"));
    assert_eq!(encoding.blobs().len(), 1);
    assert_eq!(encoding.document()["hashed"]["-6"]["$ref"], "encoding.Leaf/leaf 6");
    assert_eq!(encoding.document()["any"]["$$blob"], "x", "keys of the user's are escaped");
    assert!(
        encoding.document().get("runtime").is_none()
            && encoding.document().get("skipped").is_none()
    );
    let wrong = Leaf::decode(&encoding).expect_err("it is of another kind");
    assert!(wrong.to_string().contains("encoding.All"), "{wrong}");
}

#[tokio::test]
async fn user_data_that_looks_like_a_reference_is_data() {
    for on in databases().await {
        on.db.apply(all()).await.expect("applies");
        let children: Vec<String> = on
            .db
            .metadata()
            .references()
            .await
            .expect("reads")
            .iter()
            .map(|edge| edge.child.path())
            .collect();
        assert!(!children.iter().any(|child| child.contains("none")), "{children:?}");
        assert_eq!(on.db.metadata().referenced_blobs(None).await.expect("reads").len(), 1);
    }
}

#[tokio::test]
async fn a11_hashes_are_the_same_in_every_process() {
    // Pinned: another value here would make every stored component look changed.
    let leaf = Leaf { identifier: "pinned".into(), value: 1 };
    let record = leaf.encode().expect("encodes").tree().root().clone();
    crate::support::golden(
        "hashes.txt",
        &format!("uuid {}\ncontent {}\n", record.uuid, record.content_hash),
    );
    let first = all().encode().expect("encodes").to_json();
    for _ in 0..20 {
        assert_eq!(all().encode().expect("encodes").to_json(), first, "hash maps in any order");
    }
}

#[tokio::test]
async fn d01_what_identity_counts() {
    #[derive(Component, Clone)]
    #[component(kind = "encoding.Identity")]
    struct Identity {
        identifier: String,
        #[component(breaking)]
        breaking: i64,
        plain: i64,
        #[component(breaking)]
        child: Leaf,
        other: Leaf,
        out: superduper::Output<i64>,
        #[component(skip)]
        skipped: i64,
    }
    let base = || Identity {
        identifier: "i".into(),
        breaking: 1,
        plain: 1,
        child: leaf(1),
        other: leaf(2),
        out: superduper::Output::empty(),
        skipped: 0,
    };
    let of = |value: &Identity| {
        let record = value.encode().expect("encodes").tree().root().clone();
        (record.uuid, record.content_hash)
    };
    let (uuid, content) = of(&base());
    let skipping = Identity { skipped: 5, ..base() };
    assert_ne!(skipping.skipped, base().skipped);
    assert_eq!(of(&skipping), (uuid, content));
    let plain = of(&Identity { plain: 2, ..base() });
    assert!(plain.0 == uuid && plain.1 != content);
    let breaking = of(&Identity { breaking: 2, ..base() });
    assert!(breaking.0 != uuid && breaking.1 != content);
    // Nothing in a leaf is breaking: by its uuid it counts only through its name.
    let child = of(&Identity { child: Leaf { value: 9, ..leaf(1) }, ..base() });
    assert!(child.0 == uuid && child.1 != content);
    let child = of(&Identity { child: leaf(9), ..base() });
    assert!(child.0 != uuid && child.1 != content);
    let other = of(&Identity { other: leaf(9), ..base() });
    assert!(other.0 == uuid && other.1 != content);
    let renamed = of(&Identity { identifier: "j".into(), ..base() });
    assert!(renamed.0 != uuid && renamed.1 != content);
}

#[tokio::test]
async fn a_tree_is_shown_as_text() {
    #[derive(Component)]
    #[component(kind = "encoding.Tree")]
    struct Tree {
        identifier: String,
        leaf: Leaf,
        leaf_count: i64,
        again: Vec<Leaf>,
    }
    let tree = Tree {
        identifier: "t".into(),
        leaf: leaf(1),
        leaf_count: 2,
        again: vec![leaf(2), leaf(1)],
    };
    let text = tree.show().expect("shows");
    let lines: Vec<&str> =
        text.lines().map(|line| line.rsplit_once(':').map_or(line, |(start, _)| start)).collect();
    assert_eq!(text.matches("value: 1").count(), 1, "a shared one is shown once:\n{text}");
    assert!(text.contains("leaf_count: 2") && text.contains("(see above)"), "{text}");
    assert!(lines[0].starts_with("encoding.Tree:t"), "{text}");
}

#[tokio::test]
async fn numbers_survive_a_store_to_the_last_bit() {
    #[derive(Component)]
    #[component(kind = "encoding.Floats")]
    struct Floats {
        identifier: String,
        values: Vec<f64>,
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let values: Vec<f64> = std::iter::from_fn(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(f64::from_bits(state))
    })
    .filter(|value| value.is_finite())
    .take(2000)
    .collect();
    for on in databases().await {
        on.db
            .apply(Floats { identifier: "f".into(), values: values.clone() })
            .await
            .expect("applies");
        let on = on.reopened().await;
        let back: Floats = on.db.load("f").await.expect("loads");
        let different =
            back.values.iter().zip(&values).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(different, 0, "of {}", values.len());
        assert!(on.db.plan(&back).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn an_artifact_inside_a_result_comes_back() {
    #[derive(Component)]
    #[component(kind = "encoding.Producer")]
    struct Producer {
        identifier: String,
        made: superduper::Output<BTreeMap<String, Artifact<Bytes>>>,
    }
    #[triggers]
    impl Producer {
        #[trigger("apply")]
        fn make(&self, ctx: &JobContext) -> Result<Vec<Artifact<Bytes>>> {
            let blob: Artifact<Bytes> = Bytes::from("made").into();
            ctx.set(&self.made, BTreeMap::from([("$first".to_owned(), blob.clone())]))?;
            Ok(vec![blob, Bytes::from("more").into()])
        }
        #[trigger("apply")]
        async fn read(&self, make: Vec<Artifact<Bytes>>) -> Result<usize> {
            Ok(make[0].get().await?.len() + self.made.get()?["$first"].get().await?.len())
        }
    }
    let on = in_memory().await;
    let applied = on
        .db
        .apply(Producer { identifier: "p".into(), made: superduper::Output::empty() })
        .await
        .expect("applies");
    assert_eq!(applied.result::<usize>("read").expect("a result"), 8);
    let made: Vec<Artifact<Bytes>> = applied.result("make").expect("a result");
    assert_eq!(&made[1].get().await.expect("bytes")[..], b"more");
    assert_eq!(on.db.metadata().referenced_blobs(None).await.expect("reads").len(), 2);
    assert!(
        on.db.gc(false).await.expect("sweeps").blobs.is_empty(),
        "results and outputs count as references"
    );
    on.db.remove::<Producer>("p").await.expect("removes");
    assert_eq!(on.blob_count().await, 0);
}
