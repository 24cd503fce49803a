//! Labels that move, components under another name, what exists already, old versions that go.

use crate::support::{databases, refused, says};
use std::time::Duration;
use superduper::{
    Action, Keep, Locator, Output, Registry,
    prelude::*,
    store::{JobRole, JobState},
};

#[derive(Component, Clone)]
#[component(kind = "names.Part")]
struct Part {
    identifier: String,
    #[component(breaking)]
    size: i64,
}

#[derive(Component)]
#[component(kind = "names.Model")]
struct Model {
    #[serde(rename = "called")]
    #[component(identifier)]
    name: String,
    #[component(breaking)]
    seed: i64,
    note: String,
    #[component(breaking)]
    part: Part,
    score: Output<f64>,
}

impl Lifecycle for Model {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        ctx.log("created");
        Ok(())
    }
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> {
        ctx.log("cleaned up");
        Ok(())
    }
}

#[triggers]
impl Model {
    #[trigger("apply", watch = "note")]
    fn train(&self, ctx: &JobContext) -> Result<i64> {
        ctx.set(&self.score, self.seed as f64)?;
        Ok(self.seed)
    }
}

#[derive(Component)]
#[component(kind = "names.Service")]
struct Service {
    identifier: String,
    model: Model,
}

fn model(seed: i64) -> Model {
    Model {
        name: "m".into(),
        seed,
        note: "n".into(),
        part: Part { identifier: "p".into(), size: 3 },
        score: Output::empty(),
    }
}

const MODEL: &str = "names.Model/m";

#[tokio::test]
async fn m02_a_label_is_a_version_that_moves() {
    for on in databases().await {
        for seed in 1..=3 {
            on.db.apply(model(seed)).await.expect("applies");
        }
        assert_eq!(on.db.label("names.Model/m@0", "prod").await.expect("labels"), None);
        assert_eq!(on.db.load::<Model>("m@prod").await.expect("loads").seed, 1);
        assert_eq!(on.db.label("names.Model/m@1", "prod").await.expect("moves"), Some(0));
        assert_eq!(on.db.load::<Model>("m@prod").await.expect("loads").seed, 2);
        assert_eq!(on.db.load_dyn("names.Model/m@prod").await.expect("loads").identifier(), "m");
        assert_eq!(on.db.show("names.Model/m@prod").await.expect("shows")["fields"]["seed"], 2);
        // A label can be set to where another one points, and the newest has one of its own.
        on.db.label("names.Model/m@prod", "stage").await.expect("labels");
        assert_eq!(
            on.db.resolve("names.Model/m@stage").await.expect("resolves").to_string(),
            "names.Model/m@1"
        );
        assert_eq!(on.db.load::<Model>("m@latest").await.expect("loads").seed, 3);
        // A new version does not move it.
        on.db.apply(model(4)).await.expect("applies");
        let on = on.reopened().await;
        assert_eq!(on.db.load::<Model>("m@prod").await.expect("loads").seed, 2);
        // Both move, or none.
        let target = |text: &str| text.parse::<Locator>().expect("a locator");
        let both = on
            .db
            .label_all([
                (target("names.Model/m@2"), "prod"),
                (target("names.Model/absent"), "prod"),
            ])
            .await;
        says(&refused(both), ErrorKind::NotFound, &["names.Model/absent"]);
        assert_eq!(on.db.load::<Model>("m@prod").await.expect("loads").seed, 2);
        on.db
            .label_all([(target("names.Model/m@2"), "prod"), (target("names.Part/p"), "prod")])
            .await
            .expect("labels");
        assert_eq!(on.db.load::<Part>("p@prod").await.expect("loads").size, 3);
        let moved = on.db.move_label("names.Model/m@3", "prod", Some(1)).await;
        says(
            &refused(moved),
            ErrorKind::Conflict,
            &["names.Model/m@prod", "version 2", "version 1"],
        );
        on.db.move_label("names.Model/m@3", "prod", Some(2)).await.expect("moves");
        let rows = on.db.labels(MODEL).await.expect("labels");
        let rows: Vec<String> =
            rows.iter().map(|row| format!("{} {}", row.label, row.address)).collect();
        assert_eq!(rows, ["prod names.Model/m@3", "stage names.Model/m@1"]);
        assert_eq!(on.db.unlabel(MODEL, "prod").await.expect("takes it away"), Some(3));
        says(
            &refused(on.db.load::<Model>("m@prod").await),
            ErrorKind::NotFound,
            &["names.Model/m", "`prod`", "it has `stage`"],
        );
    }
}

#[tokio::test]
async fn m01_bad_labels_are_refused() {
    for on in databases().await {
        on.db.apply(model(1)).await.expect("applies");
        for label in ["", "3", "a b", "a/b", "a@b", "-x", "latest"] {
            let error = refused(on.db.label(MODEL, label).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{label:?}: {error}");
        }
        says(
            &refused(on.db.label("names.Model/m@7", "prod").await),
            ErrorKind::NotFound,
            &["names.Model/m@7"],
        );
        says(&refused(on.db.load::<Model>("absent@prod").await), ErrorKind::NotFound, &["absent"]);
        says(&refused(on.db.load::<Model>("m@pr od").await), ErrorKind::InvalidInput, &["pr od"]);
    }
}

#[tokio::test]
async fn r09_a_labelled_version_is_not_removed_alone() {
    for on in databases().await {
        on.db.apply(model(1)).await.expect("applies");
        on.db.apply(model(2)).await.expect("applies");
        on.db.label("names.Model/m@0", "prod").await.expect("labels");
        let error = refused(on.db.remove::<Model>("m").version(0).await);
        says(&error, ErrorKind::InUse, &["names.Model/m@0", "`prod`"]);
        assert_eq!(on.versions(MODEL).await, [0, 1]);
        on.db.remove::<Model>("m").await.expect("the whole of it goes, labels and all");
        on.db.apply(model(1)).await.expect("applies");
        assert!(on.db.labels(MODEL).await.expect("labels").is_empty());
    }
}

#[tokio::test]
async fn a_mark_goes_with_its_version_and_other_labels_keep_it() {
    for on in databases().await {
        let db = &on.db;
        for seed in 1..4 {
            db.apply(model(seed)).await.expect("applies");
        }
        db.label("names.Model/m@0", "going").await.expect("labels");
        db.label("names.Model/m@1", "prod").await.expect("labels");
        let remove = |version| db.remove::<Model>("m").version(version).with_label("going");
        let error = refused(remove(1).await);
        says(&error, ErrorKind::InUse, &["names.Model/m@1", "`prod`"]);
        let unmarked = db.remove::<Model>("m").version(0).plan().await;
        says(&refused(unmarked), ErrorKind::InUse, &["names.Model/m@0", "`going`"]);

        // Between the plan and its commit another label comes.
        let plan = remove(0).plan().await.expect("plans");
        db.label("names.Model/m@0", "best").await.expect("labels");
        let error = refused(db.apply_plan(plan).await);
        says(&error, ErrorKind::Conflict, &["`best`", "names.Model/m@0"]);
        let labels = |rows: Vec<superduper::store::LabelRow>| {
            rows.into_iter().map(|row| row.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(db.labels(MODEL).await.expect("labels")), ["best", "going", "prod"]);
        db.unlabel(MODEL, "best").await.expect("takes it away");
        remove(0).await.expect("removes");
        assert_eq!(on.versions(MODEL).await, [1, 2]);
        assert_eq!(labels(db.labels(MODEL).await.expect("labels")), ["prod"]);

        // Where the mark is at another version it stays there.
        db.label("names.Model/m@1", "going").await.expect("labels");
        remove(2).await.expect("removes");
        assert_eq!(labels(db.labels(MODEL).await.expect("labels")), ["going", "prod"]);
    }
}

#[tokio::test]
async fn a_renamed_component_is_the_same_one() {
    for on in databases().await {
        on.db.apply(Service { identifier: "s".into(), model: model(1) }).await.expect("applies");
        on.db
            .apply(Service {
                identifier: "s".into(),
                model: Model { note: "other".into(), ..model(1) },
            })
            .await
            .expect("applies");
        on.db.apply(Service { identifier: "s".into(), model: model(2) }).await.expect("applies");
        on.db.label("names.Model/m@0", "prod").await.expect("labels");
        let jobs = on.jobs().await.len();
        let written = on.db.rename(MODEL, "names.Model/better").await.expect("renames");
        // Three revisions of the model, and the two of the service that name it.
        assert_eq!(written.len(), 5, "{written:?}");
        assert_eq!(on.jobs().await.len(), jobs, "no hook and no trigger ran");
        assert!(on.versions(MODEL).await.is_empty());
        assert_eq!(on.versions("names.Model/better").await, [0, 1]);
        let old: Model = on.db.load("better@prod").await.expect("loads");
        assert_eq!(
            (old.name.as_str(), old.seed, old.note.as_str(), *old.score.get().expect("kept")),
            ("better", 1, "other", 1.0)
        );
        assert_eq!(
            on.db.load::<Model>("better@0.0").await.expect("a superseded revision").note,
            "n"
        );
        // What holds it names it anew, and applying the same declaration under the new name changes
        // nothing.
        let service: Service = on.db.load("s").await.expect("loads");
        assert_eq!(service.model.name, "better");
        let plan = on.db.plan(&service).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        for component in plan.components() {
            let stored = on.db.show(component.address.clone()).await.expect("shows");
            assert_eq!(stored["uuid"], component.uuid.to_hex(), "{}", component.address);
            assert_eq!(
                stored["content_hash"],
                component.content_hash.to_hex(),
                "{}",
                component.address
            );
        }
        let on = on.reopened().await;
        assert_eq!(on.db.apply(&service).await.expect("applies").action, Action::Unchanged);
        // The old name is free.
        assert_eq!(on.db.apply(model(9)).await.expect("applies").action, Action::Create);
        says(
            &refused(on.db.rename("names.Model/better", MODEL).await),
            ErrorKind::Conflict,
            &[MODEL, "exists already"],
        );
        says(
            &refused(on.db.rename("names.Model/absent", "names.Model/x").await),
            ErrorKind::NotFound,
            &["names.Model/absent"],
        );
        says(
            &refused(on.db.rename("names.Model/better@0", "names.Model/x").await),
            ErrorKind::InvalidInput,
            &["names a version"],
        );
        says(
            &refused(on.db.rename("names.Model/better", "names.Part/x").await),
            ErrorKind::InvalidInput,
            &["different types", "alias"],
        );
    }
}

/// The same type in a later build, under another kind.
#[derive(Component, Clone)]
#[component(kind = "names.Piece", alias = "names.Part", register = no)]
struct Piece {
    identifier: String,
    #[component(breaking)]
    size: i64,
}

#[tokio::test]
async fn a18_a_renamed_type_takes_its_components_along() {
    for on in databases().await {
        on.db.apply(Part { identifier: "p".into(), size: 1 }).await.expect("applies");
        on.db.apply(Part { identifier: "p".into(), size: 2 }).await.expect("applies");
        let later =
            on.program(Registry::builder().with::<Piece>().build().expect("a registry")).await;
        let piece = Piece { identifier: "p".into(), size: 2 };
        let error = refused(later.apply(piece.clone()).await);
        says(&error, ErrorKind::InvalidInput, &["names.Piece/p", "names.Part/p", "db.rename("]);
        later.rename("names.Part/p", "names.Piece/p").await.expect("renames");
        assert_eq!(later.apply(piece).await.expect("applies").action, Action::Unchanged);
        assert_eq!(later.load::<Piece>("p@0").await.expect("loads").size, 1);
        assert_eq!(later.list().await.expect("lists").len(), 1);
    }
}

#[tokio::test]
async fn what_exists_already_is_adopted() {
    for on in databases().await {
        let plan = on.db.apply(model(1)).adopt().await.expect("applies");
        assert_eq!(plan.action, Action::Create);
        let jobs: Vec<(String, JobRole, JobState)> =
            on.jobs().await.into_iter().map(|job| (job.method, job.role, job.state)).collect();
        assert_eq!(jobs, [("adopt".to_owned(), JobRole::OnCreate, JobState::Succeeded)]);
        assert!(
            on.db.logs(on.jobs().await[0].id).await.expect("logs").is_empty(),
            "`on_create` did not run"
        );
        assert!(matches!(on.db.status(MODEL).await.expect("a status"), superduper::Status::Ready));
        // It stays so, and changes are handled as ever.
        assert!(on.db.plan(model(1)).await.expect("plans").is_empty());
        on.db.apply(Model { note: "watched".into(), ..model(1) }).await.expect("applies");
        assert_eq!(on.successes(MODEL, "train").await, 1);
        on.db.remove::<Model>("m").await.expect("removes");
        assert_eq!(on.successes(MODEL, "cleanup").await, 1, "what was adopted is cleaned up");
    }
}

#[tokio::test]
async fn old_versions_go_by_rule() {
    for on in databases().await {
        for seed in 0..6 {
            on.db.apply(model(seed)).await.expect("applies");
        }
        on.db.apply(Service { identifier: "s".into(), model: model(6) }).await.expect("applies");
        on.db.apply(model(7)).await.expect("applies");
        on.db.label("names.Model/m@1", "prod").await.expect("labels");
        let address: Address = MODEL.parse().expect("an address");
        let would = on.db.prune(address.clone(), Keep::last(1)).dry_run().await.expect("a dry run");
        assert!(would.dry_run);
        assert_eq!(on.versions(MODEL).await.len(), 8, "a dry run removes nothing");
        let pruned = on.db.prune(address.clone(), Keep::last(1)).await.expect("prunes");
        assert_eq!(pruned.removed, would.removed);
        assert_eq!(
            on.versions(MODEL).await,
            [1, 6, 7],
            "labelled, referred to and newest versions stay"
        );
        let held: Vec<String> =
            pruned.held.iter().map(|(version, why)| format!("{version}: {why}")).collect();
        assert!(
            held[0].contains("m@1: it is labelled `prod`") && held[1].contains("names.Service/s"),
            "{held:?}"
        );
        assert_eq!(
            on.successes(MODEL, "cleanup").await,
            5,
            "each version that went was cleaned up"
        );
        // Young versions stay where the rule says so.
        on.db.unlabel(MODEL, "prod").await.expect("takes it away");
        let rule = Keep::last(1).and_newer_than(Duration::from_secs(3600));
        assert!(on.db.prune(address.clone(), rule).await.expect("prunes").removed.is_empty());
        let all = on.db.prune_all(Keep::last(1)).await.expect("prunes");
        assert_eq!(
            all.removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["names.Model/m@1"]
        );
    }
}

#[tokio::test]
async fn a_revision_comes_back_as_the_next_version() {
    for on in databases().await {
        for note in ["first", "second", "third"] {
            on.db.apply(Model { note: note.into(), ..model(1) }).await.expect("applies");
        }
        let back = on.db.rollback(MODEL, (0, 1)).await.expect("rolls back");
        assert_eq!((back.version(), back.revision()), (1, 0));
        let loaded: Model = on.db.load("m").await.expect("loads");
        assert_eq!((loaded.note.as_str(), *loaded.score.get().expect("copied")), ("second", 1.0));
        assert_eq!(on.db.load::<Model>("m@0").await.expect("loads").note, "third");
        says(
            &refused(on.db.rollback(MODEL, (0, 9)).await),
            ErrorKind::NotFound,
            &["names.Model/m@0.9"],
        );
    }
}
