//! Trees: what a change in a child does to its parents.

use crate::support::databases;
use superduper::{Action, prelude::*, store::JobState};

#[derive(Component, Clone)]
#[component(kind = "children.Child")]
struct Child {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: i64,
}

#[derive(Component, Clone)]
#[component(kind = "children.Parent")]
struct Parent {
    identifier: String,
    note: String,
    sub: Child,
}

#[derive(Component, Clone)]
#[component(kind = "children.Strict")]
struct Strict {
    identifier: String,
    #[component(breaking)]
    sub: Parent,
}

fn child(a: i64, b: i64) -> Child {
    Child { identifier: "c".into(), a, b }
}

fn parent(a: i64, b: i64) -> Parent {
    Parent { identifier: "p".into(), note: "n".into(), sub: child(a, b) }
}

const CHILD: &str = "children.Child/c";
const PARENT: &str = "children.Parent/p";

#[tokio::test]
async fn a06_an_update_of_a_child_leaves_the_versions_alone() {
    for on in databases().await {
        on.db.apply(parent(1, 1)).await.expect("applies");
        let before = on.db.show(PARENT).await.expect("shows");
        let applied = on.db.apply(parent(2, 1)).await.expect("applies");
        assert_eq!(on.versions(PARENT).await, [0]);
        assert_eq!(on.versions(CHILD).await, [0]);
        assert_eq!(on.newest(CHILD).await, (0, 1));
        // A child's revision leaves the parent's document alone.
        assert_eq!(on.newest(PARENT).await, (0, 0));
        assert_eq!(on.db.show(PARENT).await.expect("shows"), before);
        assert_eq!(applied.action, Action::Unchanged);
        let actions: Vec<_> = applied
            .components
            .iter()
            .map(|(address, action)| (address.to_string(), *action))
            .collect();
        assert_eq!(
            actions,
            [
                ("children.Child/c@0.1".into(), Action::Update),
                ("children.Parent/p@0.0".into(), Action::Unchanged)
            ]
        );
        let on = on.reopened().await;
        assert_eq!(
            on.db.load::<Parent>("p").await.expect("loads").sub.a,
            2,
            "the parent shows the child as it is now"
        );
    }
}

#[tokio::test]
async fn a07_a_breaking_change_of_a_child_makes_a_revision_of_the_parent() {
    for on in databases().await {
        on.db.apply(parent(1, 1)).await.expect("applies");
        on.db.apply(parent(1, 2)).await.expect("applies");
        assert_eq!(on.versions(PARENT).await, [0]);
        assert_eq!(on.newest(PARENT).await, (0, 1));
        assert_eq!(on.versions(CHILD).await, [0, 1]);
        let on = on.reopened().await;
        assert_eq!(on.db.load::<Parent>("p").await.expect("loads").sub.b, 2);
        assert_eq!(
            on.db.load::<Parent>("p@0.0").await.expect("loads").sub.b,
            1,
            "the older revision has the older child"
        );
        let edges = on.db.metadata().references().await.expect("references");
        let edge = edges.iter().find(|edge| edge.parent.path() == PARENT).expect("an edge");
        assert_eq!(
            (edge.child.to_string().as_str(), edge.path.as_str()),
            ("children.Child/c@1", "sub")
        );
    }
}

#[tokio::test]
async fn a08_a_breaking_child_field_passes_the_version_on() {
    for on in databases().await {
        let strict = |a, b| Strict { identifier: "s".into(), sub: parent(a, b) };
        on.db.apply(strict(1, 1)).await.expect("applies");
        // The field of `Strict` is breaking, but `Parent` gets no new version, so neither does
        // `Strict`.
        on.db.apply(strict(1, 2)).await.expect("applies");
        assert_eq!(on.versions("children.Strict/s").await, [0]);
        assert_eq!(on.newest(PARENT).await, (0, 1));
    }
    #[derive(Component)]
    #[component(kind = "children.Direct")]
    struct Direct {
        identifier: String,
        #[component(breaking)]
        sub: Child,
        #[component(breaking)]
        more: Vec<Option<Child>>,
    }
    for on in databases().await {
        let direct = |a, b| Direct {
            identifier: "d".into(),
            sub: child(a, b),
            more: vec![None, Some(child(a, b))],
        };
        on.db.apply(direct(1, 1)).await.expect("applies");
        on.db.apply(direct(2, 1)).await.expect("applies");
        assert_eq!(
            on.newest("children.Direct/d").await,
            (0, 0),
            "an update of the child is none of the parent"
        );
        let plan = on.db.plan(direct(2, 2)).await.expect("plans");
        assert!(plan.changes().iter().all(|change| change.breaking), "{plan}");
        on.db.apply(direct(2, 2)).await.expect("applies");
        assert_eq!(on.versions("children.Direct/d").await, [0, 1]);
        assert_eq!(on.db.load_version::<Direct>("d", 0).await.expect("loads").sub.b, 1);
    }
}

#[derive(Component, Clone)]
#[component(kind = "children.Optional")]
struct Optional {
    identifier: String,
    sub: Option<Child>,
}

#[triggers]
impl Optional {
    #[trigger("apply")]
    fn always(&self) -> Result<i64> {
        Ok(0)
    }
    #[trigger("apply", requires = "sub")]
    fn with_sub(&self) -> Result<i64> {
        self.sub.as_ref().map(|sub| sub.a).ok_or_else(|| Error::msg("no sub"))
    }
}

#[tokio::test]
async fn a09_a_requirement_that_is_met_later_runs_its_trigger() {
    for on in databases().await {
        let optional = |sub| Optional { identifier: "o".into(), sub };
        let plan = on.db.plan(optional(None)).await.expect("plans");
        assert_eq!(plan.left_out().len(), 1);
        assert!(
            plan.to_string().contains(
                "left out: with_sub of children.Optional/o@0.0: it requires `sub`, which is not set"
            ),
            "{plan}"
        );
        on.db.apply(optional(None)).await.expect("applies");
        assert_eq!(on.job_states().await, [("always".to_owned(), JobState::Succeeded)]);
        let applied = on.db.apply(optional(Some(child(7, 1)))).await.expect("applies");
        assert_eq!(applied.jobs().len(), 1, "the other one is done");
        assert_eq!(applied.result::<i64>("with_sub").expect("a result"), 7);
        let on = on.reopened().await;
        let job = on.jobs().await.pop().expect("a job");
        assert_eq!(
            (job.method.as_str(), job.state, job.result),
            ("with_sub", JobState::Succeeded, Some(json!(7)))
        );
    }
}

#[derive(Component, Clone)]
#[component(kind = "children.Model")]
struct Model {
    identifier: String,
    size: i64,
}

#[derive(Component, Clone)]
#[component(kind = "children.Listener")]
struct Listener {
    identifier: String,
    model: Model,
}

#[derive(Component, Clone)]
#[component(kind = "children.Index")]
struct Index {
    identifier: String,
    listener: Listener,
}

macro_rules! counts_itself {
    ($($type:ident),+) => {$(
        #[triggers]
        impl $type {
            #[trigger("apply")]
            fn run(&self) -> Result<String> {
                Ok(self.identifier.clone())
            }
        }
    )+};
}
counts_itself!(Model, Listener, Index);

#[tokio::test]
async fn a10_an_equal_chain_runs_nothing() {
    for on in databases().await {
        let model = Model { identifier: "m".into(), size: 3 };
        let index =
            Index { identifier: "i".into(), listener: Listener { identifier: "l".into(), model } };
        let applied = on.db.apply(&index).await.expect("applies");
        assert_eq!(applied.jobs().len(), 3);
        let order: Vec<String> =
            applied.jobs().iter().map(|job| job.target.identifier.clone()).collect();
        assert_eq!(order, ["m", "l", "i"]);
        let on = on.reopened().await;
        let before = on.dump().await;
        let applied = on.db.apply(&index).await.expect("applies");
        assert!(applied.outcome.is_none());
        assert_eq!(on.dump().await, before);
        let back: Index = on.db.load("i").await.expect("loads");
        on.db.apply(back).await.expect("applies");
        assert_eq!(on.dump().await, before);
        for address in ["children.Model/m", "children.Listener/l", "children.Index/i"] {
            assert_eq!(on.versions(address).await, [0]);
        }
    }
}

#[tokio::test]
async fn a12_a_breaking_change_in_a_child_is_named_with_its_values() {
    for on in databases().await {
        on.db.apply(parent(1, 1)).await.expect("applies");
        let plan = on.db.plan(parent(1, 2)).await.expect("plans");
        let change = plan.changes().first().expect("a change");
        assert_eq!(
            (change.path.as_str(), change.old.clone(), change.new.clone()),
            ("sub.b", Some(json!(1)), Some(json!(2)))
        );
        assert!(plan.to_string().contains("sub.b: 1 -> 2"), "{plan}");
    }
}

#[tokio::test]
async fn d03_a_child_applied_by_itself_is_followed_only_by_a_new_apply_of_the_parent() {
    for on in databases().await {
        on.db.apply(parent(1, 1)).await.expect("applies");
        on.db.apply(child(1, 2)).await.expect("applies");
        assert_eq!(
            on.db.load::<Parent>("p").await.expect("loads").sub.b,
            1,
            "the parent refers to version 0"
        );
        let applied = on.db.apply(parent(1, 2)).await.expect("applies");
        assert_eq!((applied.action, applied.revision()), (Action::Update, 1));
        assert_eq!(on.versions(CHILD).await, [0, 1], "the child is there already");
        assert_eq!(on.db.load::<Parent>("p").await.expect("loads").sub.b, 2);
        // A child's update reaches the parent without an apply of it.
        on.db.apply(child(9, 2)).await.expect("applies");
        assert_eq!(on.db.load::<Parent>("p").await.expect("loads").sub.a, 9);
        assert_eq!(on.newest(PARENT).await, (0, 1));
    }
}

#[tokio::test]
async fn d03_a_child_can_be_exchanged() {
    for on in databases().await {
        on.db.apply(parent(1, 1)).await.expect("applies");
        let other = Parent { sub: Child { identifier: "d".into(), a: 1, b: 1 }, ..parent(1, 1) };
        let plan = on.db.plan(&other).await.expect("plans");
        assert!(
            plan.to_string().contains("sub: \"children.Child/c@0\" -> \"children.Child/d@0\""),
            "{plan}"
        );
        on.db.apply(&other).await.expect("applies");
        assert_eq!(on.db.load::<Parent>("p").await.expect("loads").sub.identifier, "d");
        assert_eq!(on.versions(CHILD).await, [0], "nobody removes what is no longer held");
    }
}

#[derive(Component, Clone)]
#[component(kind = "children.Node")]
struct Node {
    identifier: String,
    left: Option<std::sync::Arc<dyn Component>>,
    right: Option<std::sync::Arc<dyn Component>>,
}

#[tokio::test]
async fn a20_layers_of_shared_components_are_refused_rather_than_never_ending() {
    let layers = |count: usize| {
        let mut below: Option<std::sync::Arc<dyn Component>> = None;
        for layer in 0..count {
            below = Some(std::sync::Arc::new(Node {
                identifier: format!("n{layer}"),
                left: below.clone(),
                right: below,
            }));
        }
        below.expect("a layer")
    };
    for on in databases().await {
        let applied = on.db.apply(layers(8)).await.expect("some sharing is fine");
        assert_eq!(applied.components.len(), 8);
        let error = crate::support::refused(on.db.apply(layers(60)).await);
        crate::support::says(&error, ErrorKind::Decode, &["children.Node/n", "shared so often"]);
        assert_eq!(on.db.list().await.expect("lists").len(), 8, "nothing was written");
    }
}
