//! Loading: by name, version, revision, label, and without knowing the type.

use crate::support::{at, databases, in_memory, refused, says};
use std::sync::Arc;
use superduper::{Address, Status, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "loading.Thing")]
struct Thing {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: i64,
}

#[derive(Component, Clone)]
#[component(kind = "loading.Other")]
struct Other {
    identifier: String,
}

#[derive(Component, Clone)]
#[component(kind = "loading.Mixed")]
struct Mixed {
    identifier: String,
    any: Vec<Arc<dyn Component>>,
}

fn thing(a: i64, b: i64) -> Thing {
    Thing { identifier: "thing".into(), a, b }
}

async fn fill(db: &Db) {
    for (a, b) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        db.apply(thing(a, b)).await.expect("applies");
    }
}

#[tokio::test]
async fn versions_and_revisions_load_by_name() {
    for on in databases().await {
        fill(&on.db).await;
        let on = on.reopened().await;
        for (name, a) in [
            ("thing", 4),
            ("thing@0", 2),
            ("thing@0.0", 1),
            ("thing@0.1", 2),
            ("thing@1", 4),
            ("thing@1.0", 3),
        ] {
            assert_eq!(on.db.load::<Thing>(name).await.expect(name).a, a, "{name}");
        }
        assert_eq!(on.db.load_version::<Thing>("thing", 0).await.expect("loads").a, 2);
        for name in ["thing@2", "thing@0.2", "thing@7.1"] {
            says(&refused(on.db.load::<Thing>(name).await), ErrorKind::NotFound, &[name, "0, 1"]);
        }
        says(
            &refused(on.db.load::<Thing>("thing@x").await),
            ErrorKind::NotFound,
            &["no label `x`"],
        );
        for name in ["thing@", "thing@1x", "thing@1.", "thing@-1"] {
            assert_eq!(
                refused(on.db.load::<Thing>(name).await).kind(),
                ErrorKind::InvalidInput,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_content_label_loads_what_has_that_content() {
    for on in databases().await {
        fill(&on.db).await;
        let label = thing(0, 1).huuid().expect("a label");
        assert_eq!(
            label,
            on.db.load::<Thing>("thing@0.0").await.expect("loads").huuid().expect("a label"),
            "only breaking fields count"
        );
        assert_eq!(on.db.load::<Thing>(&label).await.expect("loads").a, 2);
        // After a revert the newest one of two that have it.
        on.db.apply(thing(9, 1)).await.expect("applies");
        assert_eq!(on.db.load::<Thing>(&label).await.expect("loads").a, 9);
        let unknown = thing(0, 77).huuid().expect("a label");
        assert_eq!(refused(on.db.load::<Thing>(&unknown).await).kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn an_unknown_name_says_what_is_near() {
    for on in databases().await {
        fill(&on.db).await;
        on.db.apply(Other { identifier: "other".into() }).await.expect("applies");
        says(
            &refused(on.db.load::<Thing>("thign").await),
            ErrorKind::NotFound,
            &["`thign`", "`loading.Thing`", "`loading.Thing/thing`"],
        );
        says(
            &refused(on.db.load::<Thing>("other").await),
            ErrorKind::NotFound,
            &["`loading.Other/other`"],
        );
        says(
            &refused(on.db.load::<Thing>("nothing near").await),
            ErrorKind::NotFound,
            &["nothing near"],
        );
        says(
            &refused(on.db.show("loading.Thing/x").await),
            ErrorKind::NotFound,
            &["loading.Thing/x"],
        );
        says(
            &refused(on.db.versions("loading.Thing/x").await),
            ErrorKind::NotFound,
            &["loading.Thing/x"],
        );
        says(
            &refused(on.db.status("loading.Thing/x").await),
            ErrorKind::NotFound,
            &["loading.Thing/x"],
        );
        assert_eq!(refused(on.db.show("no address").await).kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn load_dyn_gives_the_type_that_was_stored() {
    for on in databases().await {
        fill(&on.db).await;
        on.db.apply(Other { identifier: "other".into() }).await.expect("applies");
        let mixed = Mixed {
            identifier: "m".into(),
            any: vec![Arc::new(thing(5, 2)), Arc::new(Other { identifier: "other".into() })],
        };
        on.db.apply(mixed).await.expect("applies");
        let on = on.reopened().await;
        let any = on.db.load_dyn(Address::new("loading.Thing", "thing")).await.expect("loads");
        assert_eq!(superduper::downcast::<Thing>(any).expect("it is one").a, 5);
        let any = on.db.load_dyn("loading.Thing/thing@0.0").await.expect("loads");
        assert_eq!(superduper::downcast::<Thing>(any).expect("it is one").a, 1);
        let any = on.db.load_dyn("loading.Mixed/m").await.expect("loads");
        says(
            &refused(superduper::downcast::<Thing>(any)),
            ErrorKind::Decode,
            &["`loading.Mixed/m`", "`loading.Thing`"],
        );
        let mixed: Mixed = on.db.load("m").await.expect("loads");
        assert_eq!(
            mixed.any.iter().map(|any| any.kind()).collect::<Vec<_>>(),
            ["loading.Thing", "loading.Other"]
        );
        // Loading and applying it again changes nothing, whatever the types are.
        assert!(on.db.plan(&mixed).await.expect("plans").is_empty());
        assert_eq!(
            refused(on.db.load_dyn("loading.Thing/thing@9").await).kind(),
            ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn a_listing_is_in_order_and_says_how_things_are() {
    for on in databases().await {
        for name in ["b", "a", "c"] {
            on.db.apply(Other { identifier: name.into() }).await.expect("applies");
        }
        fill(&on.db).await;
        let listed = on.db.list().await.expect("lists");
        let lines: Vec<String> =
            listed.iter().map(|line| format!("{} {:?}", line.address, line.versions)).collect();
        assert_eq!(
            lines,
            [
                "loading.Other/a@0.0 [0]",
                "loading.Other/b@0.0 [0]",
                "loading.Other/c@0.0 [0]",
                "loading.Thing/thing@1.1 [0, 1]"
            ]
        );
        assert!(listed.iter().all(|line| line.known && line.status == Status::Ready));
    }
}

#[tokio::test]
async fn a_document_shows_its_address_hashes_and_fields() {
    for on in databases().await {
        on.db.apply(thing(1, 2)).await.expect("applies");
        let shown = on.db.show("loading.Thing/thing").await.expect("shows");
        let encoding = thing(1, 2).encode().expect("encodes");
        assert_eq!(shown["address"], "loading.Thing/thing@0.0");
        assert_eq!(shown["uuid"], json!(encoding.tree().root().uuid.to_hex()));
        assert_eq!(shown["content_hash"], json!(encoding.tree().root().content_hash.to_hex()));
        assert_eq!(shown["fields"], json!({"identifier": "thing", "a": 1, "b": 2}));
        assert_eq!(shown["_format"], 1);
    }
}

#[derive(Component)]
#[component(kind = "loading.Checked")]
struct Checked {
    identifier: String,
    low: i64,
    high: i64,
    #[component(skip)]
    seen: u32,
}

impl Lifecycle for Checked {
    fn postinit(&mut self) -> Result<()> {
        self.seen += 1;
        if self.low > self.high {
            return Err(Error::msg(format!("{} is more than {}", self.low, self.high)));
        }
        Ok(())
    }
}

#[tokio::test]
async fn h01_postinit_runs_before_anything_is_stored_and_after_each_load() {
    for on in databases().await {
        let bad = Checked { identifier: "bad".into(), low: 2, high: 1, seen: 0 };
        let error = refused(on.db.apply(&bad).await);
        assert!(
            error.to_string().contains("`loading.Checked/bad`: postinit: 2 is more than 1"),
            "{error}"
        );
        assert_eq!(refused(on.db.plan(&bad).await).to_string(), error.to_string());
        assert!(on.db.list().await.expect("lists").is_empty());
        on.db
            .apply(Checked { identifier: "good".into(), low: 1, high: 2, seen: 0 })
            .await
            .expect("applies");
        assert_eq!(on.db.load::<Checked>("good").await.expect("loads").seen, 1);
    }
}

#[tokio::test]
async fn a_normalizing_postinit_is_stored_as_it_leaves_the_value() {
    #[derive(Component)]
    #[component(kind = "loading.Tidy")]
    struct Tidy {
        identifier: String,
        #[component(breaking)]
        name: String,
    }
    impl Lifecycle for Tidy {
        fn postinit(&mut self) -> Result<()> {
            self.name = self.name.trim().to_lowercase();
            Ok(())
        }
    }
    for on in databases().await {
        let tidy = |name: &str| Tidy { identifier: "t".into(), name: name.into() };
        on.db.apply(tidy("  Hello ")).await.expect("applies");
        assert_eq!(on.db.show("loading.Tidy/t").await.expect("shows")["fields"]["name"], "hello");
        assert!(on.db.plan(tidy("HELLO")).await.expect("plans").is_empty());
        assert!(on.db.plan(tidy("hello")).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn a_postinit_that_is_not_idempotent_is_refused() {
    #[derive(Component)]
    #[component(kind = "loading.Growing")]
    struct Growing {
        identifier: String,
        count: u32,
    }
    impl Lifecycle for Growing {
        fn postinit(&mut self) -> Result<()> {
            self.count += 1;
            Ok(())
        }
    }
    let on = in_memory().await;
    let error = refused(on.db.apply(Growing { identifier: "g".into(), count: 0 }).await);
    says(&error, ErrorKind::Encode, &["`loading.Growing/g`", "`count`", "postinit"]);
    assert!(on.db.metadata().versions(at("loading.Growing/g")).await.expect("reads").is_empty());
}

#[tokio::test]
async fn the_blocking_database_does_the_same() {
    let run = || {
        let db = superduper::blocking::Db::in_memory()?;
        assert!(!db.plan(thing(1, 1))?.is_empty());
        assert_eq!(db.apply(thing(1, 1))?.version(), 0);
        assert_eq!(db.load::<Thing>("thing")?.a, 1);
        assert_eq!(db.list()?.len(), 1);
        assert_eq!(db.run(async |db| db.versions("loading.Thing/thing").await)?.len(), 1);
        assert!(db.resume()?.is_empty());
        assert_eq!(db.remove::<Thing>("thing")?.versions.len(), 1);
        Ok::<(), Error>(())
    };
    tokio::task::spawn_blocking(run).await.expect("no panic").expect("works");
}
