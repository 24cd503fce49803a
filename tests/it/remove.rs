//! Removing components.

use crate::support::{at, databases, refused, says};
use superduper::{Action, Address, Registry, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "remove.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    size: i64,
    weights: Option<Artifact<Bytes>>,
}

#[derive(Component, Clone)]
#[component(kind = "remove.Container")]
struct Container {
    identifier: String,
    #[component(breaking)]
    size: i64,
    model: Option<Model>,
    more: Vec<Model>,
}

fn model(name: &str, size: i64) -> Model {
    Model { identifier: name.into(), size, weights: None }
}

fn container(name: &str, model: Option<Model>) -> Container {
    Container { identifier: name.into(), size: 0, model, more: Vec::new() }
}

#[tokio::test]
async fn r01_a_removed_component_is_gone() {
    for on in databases().await {
        for size in 0..3 {
            on.db.apply(model("m", size)).await.expect("applies");
        }
        on.db.apply(model("other", 0)).await.expect("applies");
        let removed = on.db.remove::<Model>("m").await.expect("removes");
        assert_eq!(removed.versions.len(), 3);
        assert!(removed.outcome.is_none());
        let on = on.reopened().await;
        let listed: Vec<String> =
            on.db.list().await.expect("lists").iter().map(|line| line.address.path()).collect();
        assert_eq!(listed, ["remove.Model/other"]);
        for name in ["m", "m@0", "m@2"] {
            says(
                &refused(on.db.load::<Model>(name).await),
                ErrorKind::NotFound,
                &[name, "remove.Model"],
            );
        }
        says(&refused(on.db.remove::<Model>("m").await), ErrorKind::NotFound, &["remove.Model/m"]);
        // A new one begins again.
        assert_eq!(on.db.apply(model("m", 9)).await.expect("applies").version(), 0);
        assert_eq!(on.versions("remove.Model/m").await, [0]);
    }
}

#[tokio::test]
async fn r02_a_plain_removal_leaves_what_it_held() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        on.db.remove::<Container>("c").await.expect("removes");
        assert!(on.versions("remove.Container/c").await.is_empty());
        assert_eq!(on.db.load::<Model>("m").await.expect("stays").size, 0);
        assert!(
            on.db.metadata().references().await.expect("references").is_empty(),
            "no edge is left"
        );
    }
}

#[tokio::test]
async fn r03_a_recursive_removal_takes_all() {
    for on in databases().await {
        let mut value = container("c", Some(model("m", 0)));
        value.more = vec![model("n", 0), model("m", 0)];
        on.db.apply(&value).await.expect("applies");
        let removed = on.db.remove::<Container>("c").recursive().await.expect("removes");
        assert_eq!(removed.versions.len(), 3);
        assert!(on.db.list().await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn r03_a_recursive_removal_takes_the_children_of_all_versions() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("old", 0)))).await.expect("applies");
        on.db
            .apply(Container { size: 1, ..container("c", Some(model("new", 0))) })
            .await
            .expect("applies");
        assert_eq!(on.versions("remove.Container/c").await, [0, 1]);
        on.db.remove::<Container>("c").recursive().await.expect("removes");
        assert!(on.db.list().await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn r04_a_shared_child_stops_a_recursive_removal() {
    for on in databases().await {
        on.db.apply(container("first", Some(model("m", 0)))).await.expect("applies");
        let mut second = container("second", None);
        second.more = vec![model("n", 0), model("m", 0)];
        on.db.apply(&second).await.expect("applies");
        let before = on.dump().await;
        for removal in [
            on.db.remove::<Container>("first").recursive(),
            on.db.remove::<Container>("first").recursive().force(),
        ] {
            says(
                &refused(removal.await),
                ErrorKind::InUse,
                &["`remove.Model/m`", "`remove.Container/second@0", "more[1]"],
            );
        }
        says(
            &refused(on.db.remove::<Model>("m").await),
            ErrorKind::InUse,
            &["remove.Container/first", "remove.Container/second"],
        );
        assert_eq!(on.dump().await, before, "nothing is removed");
        // Without `recursive` the parent goes alone.
        on.db.remove::<Container>("first").await.expect("removes");
        assert_eq!(on.versions("remove.Model/m").await, [0]);
    }
}

#[tokio::test]
async fn r05_a_child_added_by_an_update_is_protected() {
    for on in databases().await {
        on.db.apply(container("c", None)).await.expect("applies");
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        assert_eq!(on.newest("remove.Container/c").await, (0, 1));
        says(&refused(on.db.remove::<Model>("m").await), ErrorKind::InUse, &["remove.Container/c"]);
        // The same with the new version of a child.
        on.db.apply(container("c", Some(model("m", 5)))).await.expect("applies");
        says(
            &refused(on.db.remove::<Model>("m").version(1).await),
            ErrorKind::InUse,
            &["remove.Container/c"],
        );
        assert_eq!(on.versions("remove.Model/m").await, [0, 1]);
    }
}

#[tokio::test]
async fn r05_a_child_that_an_update_dropped_can_go() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        on.db.apply(container("c", None)).await.expect("applies");
        let plan = on.db.plan_remove::<Model>("m").await.expect("plans");
        assert!(
            plan.notes().iter().any(|note| note.contains("`remove.Container/c@0.0`")),
            "{plan}"
        );
        on.db.remove::<Model>("m").await.expect("removes");
        assert!(on.db.load::<Container>("c").await.expect("loads").model.is_none());
        says(&refused(on.db.load::<Container>("c@0.0").await), ErrorKind::NotFound, &["c@0.0"]);
    }
}

#[tokio::test]
async fn r06_r07_a_shared_blob_goes_with_its_last_user() {
    for on in databases().await {
        let with_blob = |name: &str| Model {
            weights: Some(Bytes::from("shared bytes").into()),
            ..model(name, 0)
        };
        on.db.apply(with_blob("a")).await.expect("applies");
        on.db.apply(with_blob("b")).await.expect("applies");
        assert_eq!(on.blob_count().await, 1);
        on.db.remove::<Model>("a").await.expect("removes");
        assert_eq!(on.blob_count().await, 1);
        let left: Model = on.db.load("b").await.expect("loads");
        assert_eq!(
            &left.weights.expect("weights").get().await.expect("bytes")[..],
            b"shared bytes"
        );
        on.db.remove::<Model>("b").await.expect("removes");
        assert_eq!(on.blob_count().await, 0);
        assert!(on.db.metadata().referenced_blobs(None).await.expect("blobs").is_empty());
        let on = on.reopened().await;
        assert_eq!(on.blob_count().await, 0);
        // It can come back.
        on.db.apply(with_blob("a")).await.expect("applies");
        assert_eq!(on.blob_count().await, 1);
    }
}

#[tokio::test]
async fn r08_the_plan_of_a_removal_is_printed_and_removes_nothing() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        let before = on.dump().await;
        let plan = on.db.remove::<Container>("c").recursive().plan().await.expect("plans");
        let text = plan.to_string();
        assert_eq!(
            text,
            "plan: remove remove.Container/c\n  - remove.Container/c@0.0\n  - remove.Model/m@0.0\n"
        );
        assert!(!plan.is_empty());
        assert!(plan.components().iter().all(|component| component.action == Action::Remove));
        assert_eq!(plan.to_json()["purpose"], "remove");
        assert_eq!(on.dump().await, before, "answering no removes nothing");
    }
}

#[tokio::test]
async fn r09_one_version_goes_the_others_stay() {
    for on in databases().await {
        for size in 0..3 {
            on.db.apply(model("m", size)).await.expect("applies");
        }
        on.db.remove::<Model>("m").version(1).await.expect("removes");
        assert_eq!(on.versions("remove.Model/m").await, [0, 2]);
        says(&refused(on.db.load::<Model>("m@1").await), ErrorKind::NotFound, &["m@1", "0, 2"]);
        // The newest goes: the one before it is the newest now, but its number is not given away
        // again.
        on.db.remove_dyn(at("remove.Model/m@2")).await.expect("removes");
        let on = on.reopened().await;
        assert_eq!(on.db.load::<Model>("m").await.expect("loads").size, 0);
        assert_eq!(on.db.apply(model("m", 7)).await.expect("applies").version(), 3);
        assert_eq!(on.versions("remove.Model/m").await, [0, 3]);
        says(
            &refused(on.db.remove::<Model>("m").version(9).await),
            ErrorKind::NotFound,
            &["remove.Model/m@9"],
        );
        // The last ones.
        on.db.remove::<Model>("m").version(0).await.expect("removes");
        on.db.remove::<Model>("m").version(3).await.expect("removes");
        assert!(on.db.list().await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn r09_a_version_that_a_parent_refers_to_stays() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        on.db.apply(model("m", 1)).await.expect("applies");
        says(
            &refused(on.db.remove::<Model>("m").version(0).await),
            ErrorKind::InUse,
            &["remove.Model/m", "remove.Container/c@0"],
        );
        on.db.remove::<Model>("m").version(1).await.expect("nobody refers to it");
        assert_eq!(
            on.db.load::<Container>("c").await.expect("loads").model.expect("a model").size,
            0
        );
    }
}

#[tokio::test]
async fn a_kind_that_the_program_does_not_know_can_be_removed() {
    for on in databases().await {
        on.db.apply(container("c", Some(model("m", 0)))).await.expect("applies");
        let stranger = on.program(Registry::builder().build().expect("an empty registry")).await;
        stranger
            .remove_dyn(Address::new("remove.Container", "c"))
            .recursive()
            .await
            .expect("it has no cleanup");
        assert!(on.db.list().await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn fault_11_children_that_nothing_else_needs_go_and_the_others_are_listed() {
    for on in databases().await {
        let first = Container {
            more: vec![model("own", 0), model("labelled", 0)],
            ..container("first", Some(model("shared", 0)))
        };
        on.db.apply(&first).await.expect("applies");
        on.db.apply(container("second", Some(model("shared", 0)))).await.expect("applies");
        on.db.label("remove.Model/labelled", "prod").await.expect("labels");
        // The refusal stays, and says how to go on.
        let error = refused(on.db.remove::<Container>("first").recursive().force().await);
        says(
            &error,
            ErrorKind::InUse,
            &["`remove.Model/shared`", "`remove.Container/second@0", ".with_unshared_children()"],
        );
        let before = on.dump().await;
        let plan = on
            .db
            .remove::<Container>("first")
            .with_unshared_children()
            .plan()
            .await
            .expect("plans");
        let text = "plan: remove remove.Container/first\n  - remove.Container/first@0.0\n  - remove.Model/own@0.0\n\
            note: `remove.Model/labelled` stays: version 0 is labelled `prod`\n\
            note: `remove.Model/shared` stays: it is used by `remove.Container/second@0.0` (`model`)\n";
        assert_eq!(plan.to_string(), text);
        assert_eq!(on.dump().await, before, "a plan writes nothing");
        let removed =
            on.db.remove::<Container>("first").with_unshared_children().await.expect("removes");
        let gone: Vec<String> = removed.versions.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["remove.Container/first@0", "remove.Model/own@0"]);
        let held: Vec<String> = removed.held.iter().map(|(child, _)| child.to_string()).collect();
        assert_eq!(held, ["remove.Model/labelled", "remove.Model/shared"]);
        assert!(removed.held[1].1.contains("`remove.Container/second@0.0`"), "{:?}", removed.held);
        let left: Vec<String> =
            on.db.list().await.expect("lists").iter().map(|line| line.address.path()).collect();
        assert_eq!(
            left,
            ["remove.Container/second", "remove.Model/labelled", "remove.Model/shared"]
        );
        // Now nothing else needs it.
        let removed =
            on.db.remove::<Container>("second").with_unshared_children().await.expect("removes");
        assert_eq!((removed.versions.len(), removed.held.len()), (2, 0));
    }
}

#[derive(Component, Clone)]
#[component(kind = "remove.Tower")]
struct Tower {
    identifier: String,
    containers: Vec<Container>,
}

#[tokio::test]
async fn fault_11_what_a_child_that_stays_holds_stays_too() {
    for on in databases().await {
        let deep = container("deep", Some(model("inner", 0)));
        let own = container("own", Some(model("inner", 0)));
        let tower =
            |name: &str, containers: Vec<Container>| Tower { identifier: name.into(), containers };
        on.db.apply(tower("a", vec![deep.clone(), own])).await.expect("applies");
        on.db.apply(tower("b", vec![deep])).await.expect("applies");
        let removed = on.db.remove::<Tower>("a").with_unshared_children().await.expect("removes");
        let gone: Vec<String> = removed.versions.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["remove.Tower/a@0", "remove.Container/own@0"]);
        let why: Vec<String> =
            removed.held.iter().map(|(child, why)| format!("{child}: {why}")).collect();
        assert_eq!(
            why,
            [
                "remove.Container/deep: it is used by `remove.Tower/b@0.0` (`containers[0]`)",
                "remove.Model/inner: it is used by `remove.Container/deep@0.0` (`model`)",
            ]
        );
        // One version alone: what its other versions hold stays.
        on.db.apply(container("v", Some(model("old", 0)))).await.expect("applies");
        on.db
            .apply(Container {
                size: 1,
                more: vec![model("old", 0)],
                ..container("v", Some(model("new", 0)))
            })
            .await
            .expect("applies");
        let removed = on
            .db
            .remove::<Container>("v")
            .version(1)
            .with_unshared_children()
            .await
            .expect("removes");
        let gone: Vec<String> = removed.versions.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["remove.Container/v@1", "remove.Model/new@0"]);
        assert_eq!(removed.held[0].0.to_string(), "remove.Model/old");
        assert_eq!(on.versions("remove.Container/v").await, [0]);
        // A root that is used is refused as ever.
        let error = refused(on.db.remove::<Container>("deep").with_unshared_children().await);
        says(&error, ErrorKind::InUse, &["remove.Tower/b"]);
    }
}
