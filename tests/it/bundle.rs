//! Bundles: components exported from one database and imported into another.

use crate::support::{at, databases, golden, in_folder, in_memory, refused, says};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use superduper::{
    Action, Bytes, Db, Digest, Output, Registry,
    bundle::Exported,
    prelude::*,
    store::{JobRole, JobState},
};

#[derive(Component, Clone)]
#[component(kind = "bundle.Part")]
struct Part {
    identifier: String,
    #[component(breaking)]
    size: i64,
    note: String,
}

#[derive(Component)]
#[component(kind = "bundle.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    seed: i64,
    note: String,
    part: Part,
    parts: Vec<Part>,
    data: Artifact<Bytes>,
    weights: Output<Artifact<Bytes>>,
    score: Output<f64>,
}

impl Lifecycle for Model {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        ctx.log("created");
        Ok(())
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn train(&self, ctx: &JobContext) -> Result<()> {
        ctx.set(&self.weights, Bytes::from(format!("weights of seed {}", self.seed)).into())?;
        ctx.set(&self.score, self.seed as f64 / 3.0)
    }
}

#[derive(Component, Clone)]
#[component(kind = "bundle.Falsy")]
struct Falsy {
    identifier: String,
    zero: i64,
    minus: f64,
    no: bool,
    empty: String,
    nothing: Option<String>,
    list: Vec<i64>,
    map: BTreeMap<String, i64>,
    any: Value,
    blob: Artifact<Bytes>,
}

/// Holds any components, of kinds that another program may not know.
#[derive(Component)]
#[component(kind = "bundle.Box")]
struct Holder {
    identifier: String,
    things: Vec<Arc<dyn Component>>,
}

fn part(name: &str, size: i64) -> Part {
    Part { identifier: name.into(), size, note: String::new() }
}

fn model(seed: i64, note: &str) -> Model {
    Model {
        identifier: "m".into(),
        seed,
        note: note.into(),
        part: part("p", 1),
        parts: vec![part("q", 2), part("p", 1)],
        data: Bytes::from(format!("data {seed}")).into(),
        weights: Output::empty(),
        score: Output::empty(),
    }
}

const MODEL: &str = "bundle.Model/m";

/// A folder for bundles, and names in it of both forms.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// All files below a path with their bytes; of a file itself.
fn bytes_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    if path.is_file() {
        found.insert(String::new(), std::fs::read(path).expect("readable"));
        return found;
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry").path();
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let name = entry.strip_prefix(path).expect("below").display().to_string();
                found.insert(name, std::fs::read(&entry).expect("readable"));
            }
        }
    }
    found
}

async fn export(db: &Db, path: &Path) -> Exported {
    db.export(MODEL, path).await.expect("exports")
}

#[tokio::test]
async fn f03_an_export_comes_back_in_an_empty_store() {
    for on in databases().await {
        for form in ["m.bundle", "m.tar"] {
            let place = Place::new();
            on.db.apply(model(1, "a")).await.expect("applies");
            let exported = export(&on.db, &place.path(form)).await;
            assert_eq!(
                (exported.components, exported.blobs, &exported.address),
                (3, 2, &at("bundle.Model/m@0.0"))
            );
            assert_eq!(place.names(), [form], "nothing is left beside it");
            for other in databases().await {
                let plan = other.db.plan_import(place.path(form)).await.expect("plans");
                golden("f03_import.txt", &plan.to_string());
                assert_eq!(
                    other.metadata.commits() + other.artifacts.puts(),
                    0,
                    "a plan writes nothing"
                );
                let applied = other.db.import(place.path(form)).await.expect("imports");
                assert_eq!(
                    (applied.action, &applied.address),
                    (Action::Create, &at("bundle.Model/m@0.0"))
                );
                let jobs: Vec<_> = applied.jobs().iter().map(|job| (job.role, job.state)).collect();
                assert_eq!(
                    jobs,
                    [(JobRole::OnCreate, JobState::Succeeded)],
                    "on_create runs, triggers do not"
                );
                let other = other.reopened().await;
                let (here, there) = (
                    on.db.load::<Model>("m").await.expect("loads"),
                    other.db.load::<Model>("m").await.expect("loads"),
                );
                assert_eq!(
                    here.encode().expect("encodes").to_json(),
                    there.encode().expect("encodes").to_json()
                );
                for name in [MODEL, "bundle.Part/p", "bundle.Part/q"] {
                    assert_eq!(
                        on.db.show(name).await.expect("shows"),
                        other.db.show(name).await.expect("shows")
                    );
                }
                assert_eq!(*there.score.get().expect("came along"), 1.0 / 3.0);
                assert_eq!(
                    &there.weights.get().expect("came along").get().await.expect("bytes")[..],
                    b"weights of seed 1"
                );
                assert_eq!(&there.data.get().await.expect("bytes")[..], b"data 1");
                assert!(
                    other.db.plan(&model(1, "a")).await.expect("plans").is_empty(),
                    "it is what an apply would store"
                );
                // References are on record: children are protected, blobs are kept.
                says(&refused(other.db.remove::<Part>("p").await), ErrorKind::InUse, &[MODEL]);
                assert!(other.db.gc(false).await.expect("sweeps").blobs.is_empty());
                assert!(other.db.verify().await.expect("verifies").findings.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn f03_an_export_is_deterministic_byte_for_byte() {
    let place = Place::new();
    for form in ["bundle", "tar"] {
        let mut seen = Vec::new();
        for (index, on) in databases().await.into_iter().enumerate() {
            // The same content by another history: version numbers, revisions and jobs differ.
            if index == 1 {
                on.db.apply(model(7, "x")).await.expect("applies");
                on.db.apply(Part { note: "n".into(), ..part("p", 9) }).await.expect("applies");
                on.db.apply(part("p", 1)).await.expect("applies");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            on.db.apply(model(1, "a")).await.expect("applies");
            let path = place.path(&format!("{index}.{form}"));
            let exported = export(&on.db, &path).await;
            let again = place.path(&format!("{index}again.{form}"));
            assert_eq!(export(&on.db, &again).await, exported);
            assert_eq!(bytes_of(&again), bytes_of(&path));
            // And once more, from where it was imported.
            let other = in_folder().await;
            other.db.import(&path).await.expect("imports");
            let third = place.path(&format!("{index}third.{form}"));
            assert_eq!(export(&other.db, &third).await.digest, exported.digest);
            assert_eq!(bytes_of(&third), bytes_of(&path));
            seen.push((exported.digest, exported.bytes, bytes_of(&path)));
        }
        assert_eq!(seen[0], seen[1]);
    }
}

#[tokio::test]
async fn f03_falsy_values_survive() {
    let falsy = Falsy {
        identifier: "f".into(),
        zero: 0,
        minus: -0.0,
        no: false,
        empty: String::new(),
        nothing: None,
        list: Vec::new(),
        map: BTreeMap::new(),
        any: json!({"zero": 0, "no": false, "empty": "", "null": null, "list": [], "map": {}, "$ref": "not a reference"}),
        blob: Bytes::from("").into(),
    };
    for on in databases().await {
        on.db.apply(&falsy).await.expect("applies");
        let place = Place::new();
        on.db.export("bundle.Falsy/f", place.path("f.tar")).await.expect("exports");
        let other = in_memory().await;
        other.db.import(place.path("f.tar")).await.expect("imports");
        let back: Falsy = other.db.load("f").await.expect("loads");
        assert_eq!(
            back.encode().expect("encodes").to_json(),
            falsy.encode().expect("encodes").to_json()
        );
        assert!(back.minus.is_sign_negative());
        assert_eq!(back.blob.get().await.expect("bytes").len(), 0);
    }
}

#[tokio::test]
async fn a_version_or_revision_can_be_exported() {
    for on in databases().await {
        let place = Place::new();
        on.db.apply(model(1, "a")).await.expect("applies");
        on.db.apply(model(1, "b")).await.expect("an update");
        on.db.apply(model(2, "c")).await.expect("a new version");
        for (address, seed, note) in
            [("@0.0", 1, "a"), ("@0", 1, "b"), ("@1", 2, "c"), ("", 2, "c")]
        {
            let path = place.path(&format!("m{address}.tar"));
            on.db.export(format!("{MODEL}{address}").as_str(), &path).await.expect("exports");
            let other = in_memory().await;
            other.db.import(&path).await.expect("imports");
            let back: Model = other.db.load("m").await.expect("loads");
            assert_eq!((back.seed, back.note.as_str()), (seed, note));
            assert_eq!(
                *back.score.get().expect("came along"),
                seed as f64 / 3.0,
                "outputs are those of the version"
            );
            assert_eq!(other.versions(MODEL).await, [0]);
        }
        says(
            &refused(on.db.export("bundle.Model/m@9", place.path("x.tar")).await),
            ErrorKind::NotFound,
            &["bundle.Model/m@9"],
        );
        says(
            &refused(on.db.export("bundle.Model/n", place.path("x.tar")).await),
            ErrorKind::NotFound,
            &["bundle.Model/m"],
        );
        assert!(!place.names().contains(&"x.tar".to_owned()));
    }
}

#[tokio::test]
async fn an_import_over_what_is_there_is_what_an_apply_would_make() {
    for on in databases().await {
        let place = Place::new();
        let source = in_memory().await;
        source.db.apply(model(1, "new")).jobs(false).await.expect("applies");
        export(&source.db, &place.path("m.tar")).await;
        // Another value that is not breaking, and another part.
        on.db
            .apply(Model {
                part: part("p", 5),
                parts: vec![part("q", 2), part("p", 5)],
                ..model(1, "old")
            })
            .await
            .expect("applies");
        let before = on.dump().await;
        let plan = on.db.plan_import(place.path("m.tar")).await.expect("plans");
        golden("f03_import_over.txt", &plan.to_string());
        let error = refused(on.db.import(place.path("m.tar")).refuse_existing().await);
        says(
            &error,
            ErrorKind::Conflict,
            &["m.tar", "`bundle.Model/m`", "`bundle.Part/p`", "hint"],
        );
        assert!(
            !error.to_string().contains("bundle.Part/q"),
            "an equal one is no conflict: {error}"
        );
        assert_eq!(on.dump().await, before, "nothing was written");
        let applied = on.db.import(place.path("m.tar")).await.expect("imports");
        assert_eq!((applied.action, applied.version(), applied.revision()), (Action::Update, 0, 1));
        assert_eq!(on.newest("bundle.Part/p").await, (1, 0));
        let back: Model = on.db.load("m").await.expect("loads");
        assert_eq!((back.note.as_str(), back.part.size), ("new", 1));
        assert_eq!(
            *back.score.get().expect("kept"),
            1.0 / 3.0,
            "the bundle brings no outputs: those of the version stay"
        );
        // A second time there is nothing to do.
        let before = on.dump().await;
        assert!(on.db.plan_import(place.path("m.tar")).await.expect("plans").is_empty());
        let applied = on.db.import(place.path("m.tar")).refuse_existing().await.expect("imports");
        assert_eq!((applied.action, applied.outcome.is_none()), (Action::Unchanged, true));
        assert_eq!(on.dump().await, before);
    }
}

#[tokio::test]
async fn outputs_that_are_stored_are_never_overwritten() {
    for on in databases().await {
        let place = Place::new();
        let source = in_memory().await;
        source.db.apply(model(1, "a")).await.expect("applies");
        export(&source.db, &place.path("m.tar")).await;
        // The same declaration, not trained yet.
        on.db.apply(model(1, "a")).jobs(false).await.expect("applies");
        let plan = on.db.plan_import(place.path("m.tar")).await.expect("plans");
        assert!(plan.to_string().contains("outputs differ"), "{plan}");
        let applied = on.db.import(place.path("m.tar")).await.expect("imports");
        assert_eq!((applied.action, applied.version()), (Action::NewVersion, 1));
        assert!(!on.db.load::<Model>("m@0").await.expect("loads").score.is_set());
        assert!(on.db.load::<Model>("m").await.expect("loads").score.is_set());
        assert_eq!(on.db.versions(MODEL).await.expect("versions")[1].content_of, Some(0));
        assert!(on.db.plan_import(place.path("m.tar")).await.expect("plans").is_empty());
    }
}

#[tokio::test]
async fn without_jobs_an_import_owes_them() {
    for on in databases().await {
        let place = Place::new();
        let source = in_memory().await;
        source.db.apply(model(1, "a")).jobs(false).await.expect("applies");
        export(&source.db, &place.path("m.tar")).await;
        let applied = on.db.import(place.path("m.tar")).jobs(false).await.expect("imports");
        assert!(applied.outcome.is_none() && on.jobs().await.is_empty());
        on.db.apply(model(1, "a")).await.expect("applies");
        assert_eq!(on.successes(MODEL, "on_create").await + on.successes(MODEL, "train").await, 2);
    }
}

#[tokio::test]
async fn two_versions_of_a_component_come_along() {
    let holder =
        |name: &str, things: Vec<Arc<dyn Component>>| Holder { identifier: name.into(), things };
    for on in databases().await {
        let place = Place::new();
        let inner = |size| Arc::new(holder("inner", vec![Arc::new(part("p", size))]));
        on.db
            .apply(holder("outer", vec![inner(1), Arc::new(part("p", 1))]))
            .await
            .expect("applies");
        // Beside its parent, `inner` goes on to another `p`; `outer` still holds the older one
        // directly.
        on.db.apply(inner(2)).await.expect("applies");
        let exported =
            on.db.export("bundle.Box/outer", place.path("a.tar")).await.expect("exports");
        assert_eq!(exported.components, 4);
        for other in databases().await {
            // One version is there already, under another number.
            other.db.apply(part("p", 7)).await.expect("applies");
            other.db.apply(part("p", 1)).await.expect("applies");
            other.db.import(place.path("a.tar")).await.expect("imports");
            assert_eq!(other.versions("bundle.Part/p").await, [0, 1, 2]);
            assert_eq!(
                other.db.load::<Part>("p").await.expect("loads").size,
                2,
                "the newer one is the newest"
            );
            let tree =
                async |db: &Db| db.metadata().tree(at("bundle.Box/outer")).await.expect("a tree");
            let sizes = |tree: Vec<superduper::store::StoredVersion>| {
                let mut sizes: Vec<Value> =
                    tree.into_iter().map(|stored| stored.document["size"].clone()).collect();
                sizes.sort_by_key(Value::to_string);
                sizes
            };
            assert_eq!(sizes(tree(&other.db).await), sizes(tree(&on.db).await));
            assert_eq!(
                other
                    .db
                    .export("bundle.Box/outer", place.path("b.tar"))
                    .replace()
                    .await
                    .expect("exports")
                    .digest,
                exported.digest
            );
            assert_eq!(bytes_of(&place.path("b.tar")), bytes_of(&place.path("a.tar")));
            assert!(other.db.plan_import(place.path("a.tar")).await.expect("plans").is_empty());
            let report = other.db.verify().await.expect("verifies");
            assert!(report.findings.is_empty(), "{report}");
        }
    }
}

#[tokio::test]
async fn unknown_kinds_are_let_in_on_request() {
    let place = Place::new();
    let source = in_memory().await;
    let things: Vec<Arc<dyn Component>> = vec![Arc::new(part("p", 1)), Arc::new(part("q", 1))];
    source.db.apply(Holder { identifier: "h".into(), things }).await.expect("applies");
    let exported = source.db.export("bundle.Box/h", place.path("h.tar")).await.expect("exports");
    for on in databases().await {
        let early =
            on.program(Registry::builder().with::<Holder>().build().expect("a registry")).await;
        let error = refused(early.import(place.path("h.tar")).await);
        says(&error, ErrorKind::UnknownKind, &["bundle.Part/p@0", "bundle.Part", "allow_unknown"]);
        assert!(on.db.list().await.expect("lists").is_empty());
        early.import(place.path("h.tar")).allow_unknown().await.expect("imports");
        assert_eq!(early.list().await.expect("lists").iter().filter(|line| line.known).count(), 1);
        assert_eq!(
            early
                .export("bundle.Box/h", place.path("again.tar"))
                .replace()
                .await
                .expect("exports")
                .digest,
            exported.digest
        );
        let back: Holder = on.db.load("h").await.expect("the program that knows them loads them");
        assert_eq!(back.things.len(), 2);
        // Without their type nobody can tell what is breaking: a change is a new version.
        let changed = in_memory().await;
        changed.db.apply(Part { note: "new".into(), ..part("p", 1) }).await.expect("applies");
        changed.db.export("bundle.Part/p", place.path("p.tar")).replace().await.expect("exports");
        early.import(place.path("p.tar")).allow_unknown().await.expect("imports");
        assert_eq!(on.newest("bundle.Part/p").await, (1, 0));
    }
}

#[derive(Component)]
#[component(kind = "bundle.Aged", version = 2, migrate, register = no)]
struct Aged {
    identifier: String,
    count: i64,
}

impl superduper::Migrate for Aged {
    fn migrate(_from: u32, body: Value) -> Result<Value> {
        Ok(json!({"identifier": body["identifier"], "count": body["number"]}))
    }
}

mod early {
    use superduper::prelude::*;

    #[derive(Component)]
    #[component(kind = "bundle.Aged", register = no)]
    pub(super) struct Aged {
        pub(super) identifier: String,
        pub(super) number: i64,
    }
}

#[tokio::test]
async fn older_documents_are_migrated_as_by_a_load_and_newer_ones_are_refused() {
    let place = Place::new();
    for on in databases().await {
        let old = on
            .program(Registry::builder().with::<early::Aged>().build().expect("a registry"))
            .await;
        let new = on.program(Registry::builder().with::<Aged>().build().expect("a registry")).await;
        old.apply(early::Aged { identifier: "a".into(), number: 3 }).await.expect("applies");
        let exported =
            old.export("bundle.Aged/a", place.path("old.tar")).replace().await.expect("exports");
        old.remove::<early::Aged>("a").await.expect("removes");
        new.import(place.path("old.tar")).await.expect("imports");
        assert_eq!(new.load::<Aged>("a").await.expect("loads").count, 3);
        assert_eq!(
            new.export("bundle.Aged/a", place.path("again.tar"))
                .replace()
                .await
                .expect("exports")
                .digest,
            exported.digest
        );
        new.remove::<Aged>("a").await.expect("removes");
        new.apply(Aged { identifier: "a".into(), count: 4 }).await.expect("applies");
        new.export("bundle.Aged/a", place.path("new.tar")).replace().await.expect("exports");
        new.remove::<Aged>("a").await.expect("removes");
        let before = on.dump().await;
        says(
            &refused(old.import(place.path("new.tar")).await),
            ErrorKind::Decode,
            &["bundle.Aged/a@0", "version 2", "hint"],
        );
        assert_eq!(on.dump().await, before);
    }
}

#[tokio::test]
async fn a_target_that_is_there_is_replaced_only_on_request() {
    let on = in_folder().await;
    on.db.apply(model(1, "a")).await.expect("applies");
    for form in ["m", "m.tar"] {
        let place = Place::new();
        let first = export(&on.db, &place.path(form)).await;
        let before = bytes_of(&place.path(form));
        on.db.apply(model(1, form)).await.expect("applies");
        says(
            &refused(on.db.export(MODEL, place.path(form)).await),
            ErrorKind::InvalidInput,
            &[form, "exists", ".replace()"],
        );
        assert_eq!(bytes_of(&place.path(form)), before);
        let second = on.db.export(MODEL, place.path(form)).replace().await.expect("exports");
        assert_ne!(second.digest, first.digest);
        assert_eq!(place.names(), [form]);
        in_memory().await.db.import(place.path(form)).await.expect("imports");
    }
    // What is no bundle is never replaced.
    let place = Place::new();
    std::fs::create_dir(place.path("mine")).expect("a folder");
    std::fs::write(place.path("mine/thesis.txt"), "years of work").expect("a file");
    says(
        &refused(on.db.export(MODEL, place.path("mine")).replace().await),
        ErrorKind::InvalidInput,
        &["mine", "not a bundle"],
    );
    assert!(place.path("mine/thesis.txt").exists());
    says(
        &refused(on.db.export(MODEL, place.path("no/such/folder.tar")).await),
        ErrorKind::Store,
        &["folder.tar"],
    );
}

#[tokio::test]
async fn f05_a_damaged_blob_is_not_exported() {
    let on = in_folder().await;
    on.db.apply(model(1, "a")).await.expect("applies");
    let hex = Digest::of(b"data 1").to_hex();
    let file = on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex);
    let place = Place::new();
    for (damage, says_what) in [(&b"data 2"[..], "damaged"), (b"data", "4 bytes"), (b"", "0 bytes")]
    {
        std::fs::write(&file, damage).expect("written");
        for form in ["m", "m.tar"] {
            says(
                &refused(on.db.export(MODEL, place.path(form)).await),
                ErrorKind::Integrity,
                &[&hex, MODEL, "`data`", says_what],
            );
        }
    }
    std::fs::remove_file(&file).expect("removed");
    says(
        &refused(on.db.export(MODEL, place.path("m.tar")).await),
        ErrorKind::Integrity,
        &[&hex, MODEL, "`data`", "missing"],
    );
    assert!(place.names().is_empty(), "nothing is left: {:?}", place.names());
}

#[tokio::test]
async fn a_lost_blob_comes_back_with_an_import() {
    let on = in_folder().await;
    on.db.apply(model(1, "a")).await.expect("applies");
    let place = Place::new();
    export(&on.db, &place.path("m.tar")).await;
    let hex = Digest::of(b"data 1").to_hex();
    std::fs::remove_file(
        on.artifact_folder().expect("a folder").join("blake3").join(&hex[..2]).join(&hex),
    )
    .expect("removed");
    assert!(!on.db.verify().await.expect("verifies").is_sound());
    let applied = on.db.import(place.path("m.tar")).await.expect("imports");
    assert_eq!(applied.action, Action::Unchanged);
    assert!(on.db.verify().await.expect("verifies").is_sound());
}

#[tokio::test]
async fn a_plan_of_an_import_is_not_applied() {
    let on = in_memory().await;
    on.db.apply(model(1, "a")).await.expect("applies");
    let place = Place::new();
    export(&on.db, &place.path("m.tar")).await;
    let other = in_memory().await;
    let plan = other.db.plan_import(place.path("m.tar")).await.expect("plans");
    says(&refused(other.db.apply_plan(plan).await), ErrorKind::InvalidInput, &["db.import"]);
}

#[tokio::test]
async fn tar_reads_what_is_written_and_what_it_packs_is_read() {
    let tar = |arguments: &[&str], folder: &Path| {
        std::process::Command::new("tar").args(arguments).current_dir(folder).output()
    };
    if !tar(&["--version"], Path::new(".")).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no tar program");
        return;
    }
    let on = in_memory().await;
    on.db.apply(model(1, "a")).await.expect("applies");
    let place = Place::new();
    export(&on.db, &place.path("m.tar")).await;
    export(&on.db, &place.path("m")).await;
    std::fs::create_dir(place.path("unpacked")).expect("a folder");
    let output = tar(&["-xf", "../m.tar"], &place.path("unpacked")).expect("tar runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(bytes_of(&place.path("unpacked")), bytes_of(&place.path("m")));
    let output = tar(&["-cf", "../packed.tar", "."], &place.path("m")).expect("tar runs");
    assert!(output.status.success(), "{output:?}");
    for name in ["unpacked", "packed.tar"] {
        in_memory().await.db.import(place.path(name)).await.expect("imports");
    }
}

/// The digest of the sample that was committed when the format was made. It never changes.
const SAMPLE: &str = "blake3:bac43ce746004a1aaa8ce15a01f92ffc8f654ff7cdb7f83ee7dc0afb24294252";

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/samples").join(name)
}

#[tokio::test]
async fn a_sample_of_each_released_format_is_read() {
    if std::env::var_os("UPDATE_SAMPLES").is_some() {
        let on = in_memory().await;
        on.db.apply(model(1, "ä \"quoted\"\n")).await.expect("applies");
        on.db.export(MODEL, sample("bundle-1.tar")).replace().await.expect("exports");
    }
    for on in databases().await {
        on.db.import(sample("bundle-1.tar")).await.expect("imports");
        let back: Model = on.db.load("m").await.expect("loads");
        assert_eq!((back.seed, back.note.as_str(), back.parts[0].size), (1, "ä \"quoted\"\n", 2));
        assert_eq!(
            &back.weights.get().expect("came along").get().await.expect("bytes")[..],
            b"weights of seed 1"
        );
        let place = Place::new();
        let exported = on.db.export(MODEL, place.path("again.tar")).await.expect("exports");
        assert_eq!(exported.digest.to_string(), SAMPLE);
        assert_eq!(bytes_of(&place.path("again.tar")), bytes_of(&sample("bundle-1.tar")));
    }
}

#[derive(Component)]
#[component(kind = "bundle.Large")]
struct Large {
    identifier: String,
    file: Artifact<File>,
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_blob_does_not_pass_through_memory_when_it_is_exported_imported_and_verified() {
    use std::{
        io::Write,
        sync::atomic::{AtomicBool, Ordering},
    };
    fn anonymous_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("readable");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
    if !crate::support::alone::alone(
        "bundle::f10_a_blob_does_not_pass_through_memory_when_it_is_exported_imported_and_verified",
    ) {
        return;
    }
    const MIB: usize = 1024 * 1024;
    let (on, other, place) = (in_folder().await, in_folder().await, Place::new());
    let mut file = std::fs::File::create(place.path("large.bin")).expect("created");
    (0..192_u8).for_each(|number| file.write_all(&vec![number; MIB]).expect("written"));
    let large = Large {
        identifier: "l".into(),
        file: File::open(place.path("large.bin")).expect("a file").into(),
    };
    on.db.apply(large).await.expect("applies");
    let before = anonymous_kib();
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(anonymous_kib());
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            most
        }
    });
    on.db.export("bundle.Large/l", place.path("l.tar")).await.expect("exports");
    other.db.import(place.path("l.tar")).await.expect("imports");
    assert!(other.db.verify().await.expect("verifies").is_sound());
    over.store(true, Ordering::Relaxed);
    let extra = watcher.join().expect("watched").saturating_sub(before);
    assert!(extra <= 64 * 1024, "{extra} KiB of anonymous memory for a blob of {} KiB", 192 * 1024);
}

#[derive(Component)]
#[component(kind = "bundle.Inside")]
struct Inside {
    identifier: String,
    path: String,
    jobs: bool,
}

#[triggers]
impl Inside {
    #[trigger("apply")]
    async fn import(&self, ctx: &JobContext) -> Result<()> {
        let db = ctx.db()?;
        db.import(self.path.as_str()).jobs(self.jobs).await.map(drop)
    }
}

#[tokio::test]
async fn inside_a_job_an_import_runs_no_jobs() {
    let place = Place::new();
    let source = in_memory().await;
    source.db.apply(model(1, "a")).await.expect("applies");
    export(&source.db, &place.path("m.tar")).await;
    for on in databases().await {
        let inside = |name: &str, jobs| Inside {
            identifier: name.into(),
            path: place.path("m.tar").display().to_string(),
            jobs,
        };
        let error = refused(on.db.apply(inside("a", true)).await);
        assert!(error.to_string().contains("jobs(false)"), "{error}");
        on.db.apply(inside("b", false)).await.expect("imports");
        assert!(on.db.load::<Model>("m").await.expect("loads").score.is_set());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_23_an_import_while_the_bundle_is_replaced_is_one_of_the_two() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["b.tar", "b"] {
        let (from, to) = (in_memory().await, in_memory().await);
        let path = folder.path().join(name);
        let value = |note: usize| Part { note: "x".repeat(note * 7 % 3000), ..part("p", 1) };
        from.db.apply(value(0)).await.expect("applies");
        from.db.export("bundle.Part/p", &path).await.expect("exports");
        let exporting = tokio::spawn({
            let (db, path) = (from.db.clone(), path.clone());
            async move {
                for note in 1..150 {
                    db.apply(value(note)).await.expect("applies");
                    db.export("bundle.Part/p", &path).replace().await.expect("exports");
                }
            }
        });
        let mut imports = 0;
        while !exporting.is_finished() {
            match to.db.import(&path).await {
                Ok(_) => imports += 1,
                // Outside Linux the folder is exchanged by two renames, with no folder between.
                Err(error) if name == "b" && !cfg!(target_os = "linux") => {
                    says(&error, ErrorKind::NotFound, &["there is nothing"])
                }
                Err(error) => panic!("after {imports} imports: {error:?}"),
            }
        }
        exporting.await.expect("no panic");
        assert!(imports > 10, "{imports} imports of {name}");
        assert_eq!(to.db.import(&path).await.expect("imports").address.path(), "bundle.Part/p");
    }
}
