//! What is stored is what was given, or an error names the place before anything is written.

use crate::support::{databases, in_memory};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
};
use superduper::{Encoded, prelude::*};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Mark;

/// One field that may hold anything; the declarations under test are made of it.
macro_rules! holder {
    ($name:ident $kind:literal: $field:ty) => {
        #[derive(Component, Debug, Clone)]
        #[component(kind = $kind)]
        struct $name {
            identifier: String,
            #[component(breaking)]
            value: $field,
        }
    };
}

/// Apply is refused with this path and nothing is written, by any store.
async fn refused<T: Component + Clone>(given: T, path: &str, words: &[&str]) {
    for on in databases().await {
        let error = on.db.apply(given.clone()).await.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        for word in [path].iter().chain(words) {
            assert!(error.to_string().contains(word), "`{word}` in: {error}");
        }
        assert!(error.hint().is_some(), "{error}");
        let planned = on.db.plan(given.clone()).await.expect_err("a plan says so too");
        assert_eq!(planned.to_string(), error.to_string());
        assert!(on.db.list().await.expect("lists").is_empty());
        assert!(on.db.metadata().referenced_blobs(None).await.expect("reads").is_empty());
    }
}

/// What is applied is loaded again, and a plan of it is empty.
async fn kept<T, V>(given: T, value: impl Fn(&T) -> V)
where
    T: superduper::ComponentType + Clone,
    V: Debug + PartialEq,
{
    for on in databases().await {
        on.db.apply(given.clone()).await.expect("applies");
        let on = on.reopened().await;
        let back: T = on.db.load(given.identifier()).await.expect("loads");
        assert_eq!(value(&back), value(&given));
        assert!(on.db.plan(given.clone()).await.expect("plans").is_empty());
        assert!(on.db.plan(back).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn b01a_some_of_what_is_null_is_refused_in_a_field() {
    #[derive(Component, Debug, Clone)]
    #[component(kind = "kept.Nulls")]
    struct Nulls {
        identifier: String,
        limit: Option<Option<i64>>,
        flag: Option<()>,
        mark: Option<Mark>,
        any: Option<Value>,
        list: Vec<Option<Option<u8>>>,
        boxed: Box<Option<Box<Option<u8>>>>,
        by_name: BTreeMap<String, Option<Option<u8>>>,
        inside: (u8, Inside),
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Inside {
        deep: Option<Option<Mark>>,
    }
    let nothing = || Nulls {
        identifier: "n".into(),
        limit: None,
        flag: None,
        mark: None,
        any: None,
        list: vec![],
        boxed: Box::new(None),
        by_name: BTreeMap::new(),
        inside: (0, Inside { deep: None }),
    };
    let words = &["kept.Nulls/n", "`Some`", "`None`"];
    refused(Nulls { limit: Some(None), ..nothing() }, "`limit`", words).await;
    refused(Nulls { flag: Some(()), ..nothing() }, "`flag`", words).await;
    refused(Nulls { mark: Some(Mark), ..nothing() }, "`mark`", words).await;
    refused(Nulls { any: Some(Value::Null), ..nothing() }, "`any`", words).await;
    refused(Nulls { list: vec![None, Some(Some(1)), Some(None)], ..nothing() }, "`list[2]`", words)
        .await;
    refused(Nulls { boxed: Box::new(Some(Box::new(None))), ..nothing() }, "`boxed`", words).await;
    refused(
        Nulls { by_name: BTreeMap::from([("a".into(), Some(None))]), ..nothing() },
        "`by_name.a`",
        words,
    )
    .await;
    refused(
        Nulls { inside: (0, Inside { deep: Some(Some(Mark)) }), ..nothing() },
        "`inside[1].deep`",
        words,
    )
    .await;
    let full = Nulls {
        limit: Some(Some(1)),
        any: Some(json!([null])),
        list: vec![None, Some(Some(1))],
        ..nothing()
    };
    kept(full, |nulls| (nulls.limit, nulls.any.clone(), nulls.list.clone())).await;
}

#[tokio::test]
async fn b01b_a_null_that_its_type_reads_as_some_is_kept() {
    fn present<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<i64>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Patch {
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        limit: Option<Option<i64>>,
    }
    holder!(Patched "kept.Patched": Patch);
    for limit in [None, Some(None), Some(Some(3))] {
        kept(Patched { identifier: "p".into(), value: Patch { limit } }, |patched| {
            patched.value.clone()
        })
        .await;
        Encoded::checked(&Patch { limit }).expect("is kept");
    }
}

#[tokio::test]
async fn b01c_an_untagged_variant_that_another_one_takes_is_refused() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Rule {
        Plain { at: i64 },
        Decay { at: i64, rate: f64 },
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Float(f64),
        Whole(i64),
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Colour {
        Red,
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Named {
        Known(Colour),
        Other(String),
        Nothing(()),
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Id {
        Signed(i64),
        Unsigned(u64),
    }
    holder!(Rules "kept.Rules": (Vec<Rule>, Number, Named, Id));
    let given = |rule: Rule, number, named, id| Rules {
        identifier: "r".into(),
        value: (vec![rule], number, named, id),
    };
    let (plain, float) = (Rule::Plain { at: 1 }, Number::Float(1.0));
    let (red, one) = (Named::Known(Colour::Red), Id::Signed(1));
    let decay = given(Rule::Decay { at: 1, rate: 0.5 }, float.clone(), red.clone(), one.clone());
    refused(decay, "`value[0][0].rate`", &["0.5", "gone"]).await;
    refused(
        given(plain.clone(), Number::Whole(1), red.clone(), one.clone()),
        "`value[1]`",
        &["1.0"],
    )
    .await;
    // Written in the same way, and yet another value.
    refused(
        given(plain.clone(), float.clone(), Named::Other("Red".into()), one.clone()),
        "`value`",
        &["another type"],
    )
    .await;
    refused(
        given(plain.clone(), float.clone(), red.clone(), Id::Unsigned(1)),
        "`value`",
        &["another type"],
    )
    .await;
    let sound = given(plain, float, Named::Other("Blue".into()), Id::Unsigned(u64::MAX));
    kept(sound, |rules| rules.value.clone()).await;
    kept(given(Rule::Plain { at: 2 }, Number::Float(0.5), Named::Nothing(()), one), |rules| {
        rules.value.clone()
    })
    .await;
}

#[tokio::test]
async fn b01d_two_values_of_one_key_are_refused() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Options {
        size: i64,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }
    #[derive(Debug, Clone, PartialEq, Deserialize)]
    #[serde(transparent)]
    struct Pairs(Vec<(String, i64)>);
    impl Serialize for Pairs {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            self.0.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
            map.end()
        }
    }
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Key {
        Text(String),
        Number(u8),
    }
    holder!(Flat "kept.Flat": Vec<Options>);
    holder!(Paired "kept.Paired": Pairs);
    holder!(Keyed "kept.Keyed": BTreeMap<Key, i64>);
    let rest = |key: &str| Options { size: 1, rest: BTreeMap::from([(key.to_owned(), json!(2))]) };
    refused(
        Flat { identifier: "f".into(), value: vec![rest("other"), rest("size")] },
        "`value[1]`",
        &["`size`", "twice"],
    )
    .await;
    kept(Flat { identifier: "f".into(), value: vec![rest("other")] }, |flat| flat.value.clone())
        .await;
    let pairs = Pairs(vec![("a".into(), 1), ("b".into(), 2), ("a".into(), 3)]);
    let error = in_memory()
        .await
        .db
        .apply(Paired { identifier: "p".into(), value: pairs })
        .await
        .expect_err("it is refused");
    assert!(
        error.to_string().contains("`value`") && error.to_string().contains("`a` is written twice"),
        "{error}"
    );
    let keys = BTreeMap::from([(Key::Text("1".into()), 1), (Key::Number(1), 2)]);
    let error = in_memory()
        .await
        .db
        .apply(Keyed { identifier: "k".into(), value: keys })
        .await
        .expect_err("it is refused");
    assert!(
        error.to_string().contains("`value`") && error.to_string().contains("`1` is written twice"),
        "{error}"
    );
}

#[tokio::test]
async fn b01e_what_is_written_under_one_name_and_read_under_another_is_refused() {
    fn is_zero(number: &i64) -> bool {
        *number == 0
    }
    fn ten() -> i64 {
        10
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
    struct Half {
        #[serde(rename(serialize = "lr", deserialize = "rate"), default)]
        rate: i64,
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip_serializing_if = "is_zero", default = "ten")]
        size: i64,
        #[serde(skip_deserializing)]
        seen: i64,
    }
    holder!(Halves "kept.Halves": BTreeMap<String, Half>);
    holder!(Skips "kept.Skips": Skipping);
    let halves = |rate| Halves {
        identifier: "h".into(),
        value: BTreeMap::from([("first".to_owned(), Half { rate })]),
    };
    refused(halves(5), "`value.first.lr`", &["5", "0"]).await;
    kept(halves(0), |halves| halves.value.clone()).await;
    let skips = |size, seen| Skips { identifier: "s".into(), value: Skipping { size, seen } };
    refused(skips(0, 0), "`value.size`", &["10"]).await;
    refused(skips(1, 4), "`value.seen`", &["4", "0"]).await;
    kept(skips(3, 0), |skips| skips.value.clone()).await;
}

#[tokio::test]
async fn b01f_a_child_is_compared_too() {
    holder!(Child "kept.Child": Option<Option<i64>>);
    #[derive(Component, Debug, Clone)]
    #[component(kind = "kept.Parent")]
    struct Parent {
        identifier: String,
        children: Vec<Child>,
    }
    let child = |id: &str, value| Child { identifier: id.into(), value };
    let parent =
        Parent { identifier: "p".into(), children: vec![child("a", None), child("b", Some(None))] };
    refused(parent, "`kept.Child/b`: field `value`", &["`Some`"]).await;
}

#[tokio::test]
async fn b01g_what_postinit_makes_is_no_loss() {
    #[derive(Component, Debug, Clone)]
    #[component(kind = "kept.Made")]
    struct Made {
        identifier: String,
        total: Option<i64>,
        lost: Option<Option<i64>>,
    }
    impl Lifecycle for Made {
        fn postinit(&mut self) -> Result<()> {
            self.total = Some(7);
            Ok(())
        }
    }
    let made = |lost| Made { identifier: "m".into(), total: None, lost };
    refused(made(Some(None)), "`lost`", &[]).await;
    let on = in_memory().await;
    on.db.apply(made(None)).await.expect("applies");
    assert_eq!(on.db.load::<Made>("m").await.expect("loads").total, Some(7));
    assert!(on.db.plan(made(None)).await.expect("plans").is_empty());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Step {
    Warm { at: u64 },
    Main { at: u64, rate: f64 },
}

/// Of the values that a job makes, the one named is not kept.
#[derive(Component, Debug, Clone)]
#[component(kind = "kept.Jobs")]
struct Jobs {
    identifier: String,
    wrong: String,
    out: Output<(u8, Option<Option<i64>>)>,
    sets: Output<HashMap<String, HashSet<String>>>,
}

impl Jobs {
    fn is(&self, what: &str) -> bool {
        self.wrong == what
    }
}

#[triggers]
impl Jobs {
    #[trigger("apply")]
    fn make(&self, ctx: &JobContext) -> Result<(Option<Option<i64>>, Step)> {
        ctx.set(&self.out, (1, if self.is("output") { Some(None) } else { Some(Some(1)) }))?;
        let words = |from: u32| {
            (from..from + 20).map(|word| format!("word {word}")).collect::<HashSet<String>>()
        };
        ctx.set(&self.sets, HashMap::from([("a".into(), words(0)), ("b".into(), words(100))]))?;
        if self.is("message") {
            ctx.emit("kept", json!({"fine": null}))?;
            ctx.emit("kept", BTreeMap::from([("limit", Some(None::<u8>))]))?;
        }
        let step =
            if self.is("variant") { Step::Main { at: 1, rate: 0.5 } } else { Step::Warm { at: 1 } };
        Ok((if self.is("result") { Some(None) } else { None }, step))
    }

    /// Written only: its type cannot be read.
    #[trigger("apply")]
    async fn name(&self) -> Result<Option<Option<&'static str>>> {
        Ok(if self.is("written") { Some(None) } else { Some(Some("text")) })
    }
}

#[tokio::test]
async fn b01h_outputs_results_and_messages_are_compared() {
    for on in databases().await {
        for (wrong, path) in [
            ("output", "`[1]`"),
            ("result", "`[0]`"),
            ("variant", "`[1].rate`"),
            ("message", "`limit`"),
            ("written", "the value"),
        ] {
            let given = Jobs {
                identifier: wrong.into(),
                wrong: wrong.into(),
                out: Output::empty(),
                sets: Output::empty(),
            };
            let error = on.db.apply(given).await.expect_err("a job fails");
            assert_eq!(error.kind(), ErrorKind::JobFailed);
            assert!(error.to_string().contains(path), "{wrong}: {error}");
            let back: Jobs = on.db.load(wrong).await.expect("loads");
            assert_eq!(back.out.is_set(), wrong == "written", "{wrong}");
            assert!(
                on.db
                    .metadata()
                    .messages(superduper::store::Cursor::default(), 10)
                    .await
                    .expect("reads")
                    .is_empty(),
                "{wrong}"
            );
        }
        let given = Jobs {
            identifier: "fine".into(),
            wrong: String::new(),
            out: Output::empty(),
            sets: Output::empty(),
        };
        let applied = on.db.apply(given).await.expect("sets have another order in each copy");
        assert_eq!(
            applied.result::<(Option<Option<i64>>, Step)>("make").expect("a result"),
            (None, Step::Warm { at: 1 })
        );
        let back: Jobs = on.db.load("fine").await.expect("loads");
        assert_eq!(*back.out.get().expect("is set"), (1, Some(Some(1))));
        assert_eq!(back.sets.get().expect("is set")["a"].len(), 20);
    }
}

#[tokio::test]
async fn b01i_an_option_parameter_is_none_only_for_what_was_left_out() {
    #[derive(Component, Debug, Clone)]
    #[component(kind = "kept.Nothing")]
    struct Nothing {
        identifier: String,
        go: bool,
    }
    #[triggers]
    impl Nothing {
        #[trigger("apply", requires = "go")]
        fn nothing(&self) -> Result<()> {
            Ok(())
        }
        #[trigger("apply", requires = "go")]
        fn null(&self) -> Result<Value> {
            Ok(Value::Null)
        }
        #[trigger("apply", requires = "go")]
        fn maybe(&self) -> Result<Option<i64>> {
            Ok(None)
        }
        #[trigger("apply")]
        fn took(
            &self,
            nothing: Option<()>,
            null: Option<Value>,
            maybe: Option<Option<i64>>,
        ) -> Result<String> {
            Ok(format!("{nothing:?} {null:?} {maybe:?}"))
        }
        #[trigger("apply")]
        fn same(&self, maybe: Option<i64>) -> Result<String> {
            Ok(format!("{maybe:?}"))
        }
    }
    let on = in_memory().await;
    let applied = on.db.apply(Nothing { identifier: "a".into(), go: true }).await.expect("applies");
    assert_eq!(
        applied.result::<String>("took").expect("a result"),
        "Some(()) Some(Null) Some(None)"
    );
    assert_eq!(applied.result::<String>("same").expect("a result"), "None");
    let applied =
        on.db.apply(Nothing { identifier: "b".into(), go: false }).await.expect("applies");
    assert_eq!(applied.result::<String>("took").expect("a result"), "None None None");
}

#[tokio::test]
async fn b01j_a_set_without_an_order_still_says_so() {
    holder!(Sets "kept.Sets": HashSet<u32>);
    let given = Sets { identifier: "s".into(), value: (0..100).collect() };
    let error = in_memory().await.db.apply(given).await.expect_err("it is refused");
    assert!(
        error.to_string().contains("field `value[")
            && error.to_string().contains("does not encode to the same value twice"),
        "{error}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("sorted")), "{error}");
}

#[derive(Component, Debug, Clone, PartialEq)]
#[component(kind = "kept.Leaf")]
struct Leaf {
    identifier: String,
    value: i64,
}

#[tokio::test]
async fn fault_03_components_made_on_the_fly_are_all_compared() {
    mod as_leaves {
        use super::*;
        pub(super) fn serialize<S: Serializer>(
            values: &[(String, i64)],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            // Each is dropped before the next one is made, most likely in the same place.
            serializer.collect_seq(
                values.iter().map(|(name, value)| {
                    Box::new(Leaf { identifier: name.clone(), value: *value })
                }),
            )
        }
        pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<(String, i64)>, D::Error> {
            let leaves: Vec<Leaf> = Vec::deserialize(deserializer)?;
            Ok(leaves.into_iter().map(|leaf| (leaf.identifier, leaf.value)).collect())
        }
    }
    #[derive(Component, Debug, Clone, PartialEq)]
    #[component(kind = "kept.Fly")]
    struct Fly {
        identifier: String,
        #[serde(with = "as_leaves")]
        values: Vec<(String, i64)>,
    }
    let fly = |values: &[(&str, i64)]| Fly {
        identifier: "f".into(),
        values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    };
    let on = in_memory().await;
    let error = on
        .db
        .apply(fly(&[("same", 1), ("same", 2)]))
        .await
        .expect_err("one of the two would be lost");
    assert!(
        error.to_string().contains("kept.Leaf/same") && error.to_string().contains("`value`"),
        "{error}"
    );
    assert!(on.db.list().await.expect("lists").is_empty());
    for values in [&[("a", 1), ("b", 2)][..], &[("a", 1), ("a", 1)]] {
        kept(fly(values), |fly| fly.values.clone()).await;
    }
}

#[tokio::test]
async fn fault_06_plans_show_numbers_of_32_bits_as_short_as_they_are() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Inner {
        momentum: f32,
    }
    #[derive(Component, Debug, Clone)]
    #[component(kind = "kept.Rates")]
    struct Rates {
        identifier: String,
        rate: f32,
        inner: Option<Inner>,
        list: Vec<f32>,
        exact: f64,
        by_name: BTreeMap<String, f32>,
        variants: (Variant, Variant),
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Variant {
        Pair(f32, u8),
        Named { rate: f32 },
    }
    let rates = |rate, exact| Rates {
        identifier: "r".into(),
        rate,
        inner: Some(Inner { momentum: rate }),
        list: vec![rate, 1e-7, 16_777_216.0],
        exact,
        by_name: BTreeMap::from([("a".into(), rate)]),
        variants: (Variant::Pair(rate, 1), Variant::Named { rate }),
    };
    let on = in_memory().await;
    // A number of 64 bits is shown in full, also where 32 bits would hold it.
    let exact = 1.0 / 1_048_576.0;
    let plan = on.db.plan(rates(0.1, exact)).await.expect("plans").to_string();
    for line in [
        "rate: 0.1\n",
        "inner: {\"momentum\":0.1}",
        "list: [0.1,1e-7,16777216.0]",
        "by_name: {\"a\":0.1}",
        "[{\"Pair\":[0.1,1]},{\"Named\":{\"rate\":0.1}}]",
        "exact: 9.5367431640625e-7",
    ] {
        assert!(plan.contains(line), "`{line}` in:\n{plan}");
    }
    assert!(!plan.contains("0.10000000149011612"), "{plan}");
    assert!(rates(0.1, exact).show().expect("shows").contains("rate: 0.1\n"));
    on.db.apply(rates(0.1, exact)).await.expect("applies");
    let plan = on.db.plan(rates(0.3, exact)).await.expect("plans");
    assert!(plan.to_string().contains("rate: 0.1 -> 0.3"), "{plan}");
    assert!(
        plan.to_string().contains("inner.momentum: 0.1 -> 0.3")
            && plan.to_string().contains("list[0]: 0.1 -> 0.3"),
        "{plan}"
    );
    assert!(
        plan.changes().iter().all(|change| change.old == Some(json!(0.1))),
        "{:?}",
        plan.changes()
    );
    assert_eq!(
        on.db.show("kept.Rates/r").await.expect("shows")["fields"]["rate"],
        json!(0.1_f32),
        "stored as before"
    );
}
