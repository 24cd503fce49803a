//! Types that change between builds: what old rows become.
//!
//! A build is a type with a pinned kind and a registry of its own; `register = no` keeps the types
//! apart.

use crate::support::{databases, refused, says};
use superduper::{
    Action, Digest, Migrate, Registry,
    prelude::*,
    store::{Batch, Durability, Op, PutAction, PutVersion, Timestamp},
};

/// The first build.
#[derive(Component, Clone)]
#[component(kind = "schema.Model", register = no)]
struct First {
    identifier: String,
    size: i64,
    #[component(breaking)]
    seed: i64,
}

/// A later build: a field more, and it is breaking; one renamed.
#[derive(Component, Clone)]
#[component(kind = "schema.Model", register = no)]
struct Grown {
    identifier: String,
    #[serde(alias = "size")]
    width: i64,
    #[component(breaking)]
    seed: i64,
    #[component(breaking, default = one())]
    depth: i64,
    #[component(default)]
    tags: Vec<String>,
}

fn one() -> i64 {
    1
}

/// A build that lost a field.
#[derive(Component, Clone)]
#[component(kind = "schema.Model", register = no)]
struct Lost {
    identifier: String,
    size: i64,
}

/// A build that needs a field that old rows do not have.
#[derive(Component, Clone)]
#[component(kind = "schema.Model", register = no)]
struct Demanding {
    identifier: String,
    size: i64,
    seed: i64,
    must: String,
}

/// A build that migrates.
#[derive(Component, Clone)]
#[component(kind = "schema.Model", version = 3, migrate, register = no)]
struct Third {
    identifier: String,
    area: i64,
    #[component(breaking)]
    seed: i64,
}

impl Migrate for Third {
    fn migrate(from: u32, mut body: Value) -> Result<Value> {
        let size = body["size"].as_i64().ok_or_else(|| Error::msg("no size"))?;
        if size < 0 {
            return Err(Error::msg(format!(
                "a size of {size} from version {from} cannot be squared"
            )));
        }
        body["area"] = json!(size * size);
        Ok(body)
    }
}

/// The kind got another name.
#[derive(Component, Clone)]
#[component(kind = "schema.Network", alias = "schema.Model", register = no)]
struct Renamed {
    identifier: String,
    size: i64,
    #[component(breaking)]
    seed: i64,
}

/// Holds one; knows nothing of its builds.
#[derive(Component)]
#[component(kind = "schema.Holder", register = no)]
struct Holder {
    identifier: String,
    held: Box<dyn Component>,
}

fn first(name: &str, size: i64) -> First {
    First { identifier: name.into(), size, seed: 7 }
}

macro_rules! build {
    ($($type:ty),+) => { Registry::builder()$(.with::<$type>())+.build().expect("a registry") };
}

const KIND: &str = "schema.Model";

#[tokio::test]
async fn a18_a_new_field_takes_its_default_and_an_alias_the_old_name() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Grown)).await;
        let loaded: Grown = later.load("m").await.expect("loads");
        assert_eq!((loaded.width, loaded.seed, loaded.depth, loaded.tags.len()), (3, 7, 1, 0));
    }
}

#[tokio::test]
async fn d05_a_gained_field_makes_no_version() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Grown)).await;
        let before = on.dump().await;
        let loaded: Grown = later.load("m").await.expect("loads");
        let plan = later.plan(&loaded).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        later.apply(&loaded).await.expect("applies");
        assert_eq!(on.dump().await, before);
        // What changed beside it is told from what was gained.
        let plan = later.plan(Grown { width: 4, ..loaded.clone() }).await.expect("plans");
        let changed: Vec<&str> = plan.changes().iter().map(|change| change.path.as_str()).collect();
        assert_eq!(changed, ["width"], "{plan}");
        let applied = later.apply(Grown { width: 4, ..loaded.clone() }).await.expect("applies");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Update, 0, 1));
        let applied = later.apply(Grown { depth: 2, width: 4, ..loaded }).await.expect("applies");
        assert_eq!((applied.action, applied.version()), (Action::NewVersion, 1));
    }
}

#[tokio::test]
async fn d05_the_content_label_of_today_finds_the_row() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Grown)).await;
        let loaded: Grown = later.load("m").await.expect("loads");
        later.apply(&loaded).await.expect("applies");
        let label = loaded.huuid().expect("a label");
        assert_eq!(later.load::<Grown>(&label).await.expect("found by its label").width, 3);
    }
}

#[tokio::test]
async fn d05_a_parent_is_not_moved_by_a_field_that_its_child_gained() {
    for on in databases().await {
        let early = on.program(build!(First, Holder)).await;
        early
            .apply(Holder { identifier: "h".into(), held: Box::new(first("m", 3)) })
            .await
            .expect("applies");
        let later = on.program(build!(Grown, Holder)).await;
        let loaded: Holder = later.load("h").await.expect("loads");
        let plan = later.plan(&loaded).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
    }
}

#[tokio::test]
async fn a18_a_lost_field_is_ignored_and_goes_with_the_next_change() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Lost)).await;
        let loaded: Lost = later.load("m").await.expect("loads");
        assert!(later.plan(&loaded).await.expect("plans").is_empty());
        later.apply(Lost { size: 4, ..loaded }).await.expect("applies");
        assert!(later.show("schema.Model/m").await.expect("shows")["fields"].get("seed").is_none());
        // The first build can still read the old revision, and says what the new one lacks.
        let early = on.program(build!(First)).await;
        assert_eq!(early.load::<First>("m@0.0").await.expect("loads").seed, 7);
        says(
            &refused(early.load::<First>("m").await),
            ErrorKind::Decode,
            &["schema.Model/m@0.1", "seed"],
        );
    }
}

#[tokio::test]
async fn a18_a_migration_brings_old_rows_up_to_date() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Third)).await;
        let loaded: Third = later.load("m").await.expect("loads");
        assert_eq!((loaded.area, loaded.seed), (9, 7));
        assert!(later.plan(&loaded).await.expect("plans").is_empty());
        let applied = later.apply(Third { area: 10, ..loaded }).await.expect("applies");
        assert_eq!((applied.version(), applied.revision()), (0, 1));
        assert_eq!(later.load::<Third>("m").await.expect("loads").area, 10);
        assert_eq!(later.load::<Third>("m@0.0").await.expect("loads").area, 9);
    }
}

#[tokio::test]
async fn a18_a_migration_that_fails_names_the_row_and_hides_nothing() {
    for on in databases().await {
        let early = on.program(build!(First)).await;
        early.apply(first("bad", -1)).await.expect("applies");
        early.apply(first("good", 2)).await.expect("applies");
        let later = on.program(build!(Third)).await;
        let error = refused(later.load::<Third>("bad").await);
        assert!(
            error
                .to_string()
                .contains("`schema.Model/bad@0.0`: migration from type version 1: a size of -1"),
            "{error}"
        );
        assert_eq!(later.load::<Third>("good").await.expect("loads").area, 4);
        assert_eq!(later.list().await.expect("lists").len(), 2);
    }
}

#[tokio::test]
async fn a18_a_row_of_a_newer_type_is_refused() {
    for on in databases().await {
        let newer = Third { identifier: "m".into(), area: 9, seed: 7 };
        on.program(build!(Third)).await.apply(&newer).await.expect("applies");
        let early = on.program(build!(First)).await;
        let error = refused(early.load::<First>("m").await);
        says(&error, ErrorKind::Decode, &["`schema.Model/m@0.0`", "version 3", "version 1"]);
        says(
            &refused(early.load_dyn("schema.Model/m").await),
            ErrorKind::Decode,
            &["`schema.Model/m@0.0`"],
        );
        let listed = early.list().await.expect("lists");
        assert_eq!((listed.len(), listed[0].known), (1, false));
        assert_eq!(early.show("schema.Model/m").await.expect("shows")["fields"]["area"], 9);
    }
}

#[tokio::test]
async fn a18_a_row_that_cannot_be_read_is_listed_and_named() {
    for on in databases().await {
        let early = on.program(build!(First)).await;
        early.apply(first("old", 3)).await.expect("applies");
        let later = on.program(build!(Demanding)).await;
        later
            .apply(Demanding { identifier: "new".into(), size: 1, seed: 2, must: "x".into() })
            .await
            .expect("applies");
        let error = refused(later.load::<Demanding>("old").await);
        says(&error, ErrorKind::Decode, &["`schema.Model/old@0.0`", "must", "default"]);
        let listed: Vec<String> = later
            .list()
            .await
            .expect("lists")
            .iter()
            .map(|line| line.address.to_string())
            .collect();
        assert_eq!(listed, ["schema.Model/new@0.0", "schema.Model/old@0.0"]);
        later.show("schema.Model/old").await.expect("shows");
        // It can be replaced all the same.
        let fixed = Demanding { identifier: "old".into(), size: 3, seed: 7, must: "y".into() };
        assert_eq!(later.apply(&fixed).await.expect("applies").action, Action::Update);
        later.load::<Demanding>("old").await.expect("loads");
    }
}

#[tokio::test]
async fn a18_a_field_of_another_type_is_named() {
    for on in databases().await {
        let body = json!({"identifier": "m", "size": "three", "seed": 7});
        forge(&on.db, KIND, "m", 1, body).await;
        let later = on.program(build!(First)).await;
        says(
            &refused(later.load::<First>("m").await),
            ErrorKind::Decode,
            &["`schema.Model/m@0.0`", "`size`", "three"],
        );
        assert_eq!(later.list().await.expect("lists").len(), 1);
    }
}

#[tokio::test]
async fn a18_a_renamed_type_reads_rows_of_its_old_kind() {
    for on in databases().await {
        on.program(build!(First, Holder)).await.apply(first("m", 3)).await.expect("applies");
        let early = on.program(build!(First, Holder)).await;
        early
            .apply(Holder { identifier: "h".into(), held: Box::new(first("m", 3)) })
            .await
            .expect("applies");
        let later = on.program(build!(Renamed, Holder)).await;
        assert_eq!(later.load::<Renamed>("m").await.expect("loads").size, 3);
        assert_eq!(later.load::<Renamed>("m@0").await.expect("loads").size, 3);
        let held = later.load::<Holder>("h").await.expect("loads").held;
        assert_eq!((held.kind(), held.identifier()), ("schema.Network", "m"));
        assert!(later.list().await.expect("lists").iter().all(|line| line.known));
    }
}

#[tokio::test]
async fn a18_two_types_of_one_kind_are_refused_naming_both() {
    let error = refused(Registry::builder().with::<First>().with::<Lost>().build());
    says(&error, ErrorKind::UnknownKind, &["`schema.Model`", "First", "Lost"]);
    let error = refused(Registry::builder().with::<First>().with::<Renamed>().build());
    says(&error, ErrorKind::UnknownKind, &["`schema.Model`", "First", "Renamed"]);
    Registry::builder()
        .with::<First>()
        .with::<First>()
        .build()
        .expect("one type twice is no matter");
}

/// Store a row that no type of this program wrote.
async fn forge(db: &Db, kind: &str, identifier: &str, type_version: u32, document: Value) {
    let put = PutVersion {
        address: format!("{kind}/{identifier}@0.0").parse().expect("an address"),
        action: PutAction::Create,
        uuid: Digest::of(b"forged"),
        content_hash: Digest::of(b"forged"),
        type_version,
        document,
        edges: Vec::new(),
        blobs: Vec::new(),
        content_of: None,
        owes_jobs: false,
        at: Timestamp::now(),
    };
    let batch = Batch { expect: Vec::new(), ops: vec![Op::Put(put)] };
    db.metadata().commit(batch, Durability::Full).await.expect("commits");
}

#[tokio::test]
async fn rows_of_unknown_kinds_are_listed_and_shown() {
    for on in databases().await {
        forge(&on.db, "elsewhere.Thing", "x", 4, json!({"identifier": "x", "deep": {"a": [1, 2]}}))
            .await;
        let line = &on.db.list().await.expect("lists")[0];
        assert_eq!(
            (line.address.to_string().as_str(), line.known),
            ("elsewhere.Thing/x@0.0", false)
        );
        let shown = on.db.show("elsewhere.Thing/x").await.expect("shows");
        assert_eq!(
            (&shown["kind"], &shown["version"], &shown["fields"]["deep"]["a"][1]),
            (&json!("elsewhere.Thing"), &json!(4), &json!(2))
        );
        assert_eq!(on.versions("elsewhere.Thing/x").await, [0]);
        let error = refused(on.db.load_dyn("elsewhere.Thing/x").await);
        says(
            &error,
            ErrorKind::UnknownKind,
            &["`elsewhere.Thing`", "apply.Test", "use that_crate as _"],
        );
        forge(&on.db, "apply.Tset", "x", 1, json!({"identifier": "x"})).await;
        says(
            &refused(on.db.load_dyn("apply.Tset/x").await),
            ErrorKind::UnknownKind,
            &["did you mean `apply.Test`?"],
        );
        on.db.remove_dyn("elsewhere.Thing/x").await.expect("removes");
    }
}

#[tokio::test]
async fn a18_a_row_of_the_old_kind_is_removed_by_the_renamed_type() {
    for on in databases().await {
        on.program(build!(First)).await.apply(first("m", 3)).await.expect("applies");
        let later = on.program(build!(Renamed)).await;
        later.remove::<Renamed>("m").await.expect("removes");
        assert!(on.db.list().await.expect("lists").is_empty());
        says(
            &refused(later.remove::<Renamed>("m").await),
            ErrorKind::NotFound,
            &["schema.Network/m"],
        );
    }
}
