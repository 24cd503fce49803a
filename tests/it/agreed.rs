//! A plan that was agreed on is carried out as it is, or not at all.

use crate::support::{Database, databases, refused, says};
use std::collections::HashMap;
use superduper::{Digest, plan::Plan, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "agreed.Encoder")]
struct Encoder {
    identifier: String,
    size: u32,
}

#[derive(Component, Clone)]
#[component(kind = "agreed.Model")]
struct Model {
    identifier: String,
    #[component(breaking)]
    epochs: u32,
    encoders: Vec<Encoder>,
    /// Another order in each process.
    weights: HashMap<String, u32>,
    note: Secret<String>,
}

#[triggers]
impl Encoder {
    #[trigger("apply", watch = "size")]
    fn warm_up(&self) -> Result<u32> {
        Ok(self.size)
    }
}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn fit(&self) -> Result<u32> {
        Ok(self.epochs)
    }
    #[trigger("apply")]
    fn evaluate(&self, fit: u32) -> Result<u32> {
        Ok(fit)
    }
}

fn encoder(name: &str, size: u32) -> Encoder {
    Encoder { identifier: name.into(), size }
}

fn model(epochs: u32) -> Model {
    Model {
        identifier: "m".into(),
        epochs,
        encoders: vec![encoder("text", 1), encoder("image", 2)],
        weights: (0..20).map(|index| (format!("w{index}"), index)).collect(),
        note: Secret::env("CARGO_MANIFEST_DIR"),
    }
}

async fn digest(on: &Database, model: &Model) -> Digest {
    on.db.plan(model).await.expect("plans").digest()
}

#[tokio::test]
async fn n03_what_was_agreed_on_is_done_where_nothing_moved() {
    for on in databases().await {
        let agreed = digest(&on, &model(1)).await;
        let applied = on.db.apply(model(1)).expect(agreed).await.expect("applies");
        assert_eq!(applied.result::<u32>("evaluate").expect("a result"), 1);
        // As text, as a pipeline would pass it on; from a plan made before; detached.
        let text = digest(&on, &model(2)).await.to_string();
        let agreed: Digest = text.parse().expect("a digest");
        let run = on.db.apply(model(2)).expect(agreed).detach().await.expect("starts");
        run.wait().await.expect("runs");
        let plan = on.db.plan(model(3)).await.expect("plans");
        let agreed = plan.digest();
        on.db.apply_plan(plan).expect(agreed).await.expect("applies");
        // Nothing to do is agreed on too.
        let agreed = digest(&on, &model(3)).await;
        on.db.apply(model(3)).expect(agreed).await.expect("applies");
        assert_eq!(on.newest("agreed.Model/m").await, (2, 0));
    }
}

#[tokio::test]
async fn n03_a_state_that_moved_is_a_conflict_that_names_it() {
    for on in databases().await {
        let agreed = digest(&on, &model(1)).await;
        on.db.apply(encoder("text", 9)).await.expect("applies");
        let before = on.dump().await;
        let error = refused(on.db.apply(model(1)).expect(agreed).await);
        let named = ["`agreed.Encoder/text@0.0` is on record since 2", "`agreed.Model/m`"];
        says(&error, ErrorKind::Conflict, &named);
        let today = digest(&on, &model(1)).await;
        assert!(error.hint().expect("a hint").contains(&today.to_string()), "{error:?}");
        says(
            &refused(on.db.apply(model(1)).expect(agreed).detach().await),
            ErrorKind::Conflict,
            &["agreed.Encoder/text"],
        );
        assert_eq!(on.dump().await, before, "nothing was written");
        on.db.apply(model(1)).expect(today).await.expect("applies");
        // A declaration that is another one is refused too.
        let agreed = digest(&on, &model(2)).await;
        let error = refused(on.db.apply(model(3)).expect(agreed).await);
        says(&error, ErrorKind::Conflict, &["agreed.Model/m@0.0"]);
    }
}

#[tokio::test]
async fn n03_a_plan_of_another_state_has_another_digest() {
    for on in databases().await {
        let mut seen = Vec::new();
        let mut add = |what: &str, plan: Plan| {
            let digest = plan.digest();
            assert!(!seen.contains(&digest), "{what}: {plan}");
            seen.push(digest);
        };
        add("first", on.db.plan(model(1)).await.expect("plans"));
        add("other value", on.db.plan(model(2)).await.expect("plans"));
        let other = Model { note: Secret::env("AGREED_OTHER"), ..model(1) };
        add("other secret", on.db.plan(&other).await.expect("plans"));
        add("no jobs", on.db.apply(model(1)).jobs(false).plan().await.expect("plans"));
        add("adopted", on.db.apply(model(1)).adopt().plan().await.expect("plans"));
        on.db.apply(model(1)).await.expect("applies");
        add("nothing to do", on.db.plan(model(1)).await.expect("plans"));
        add("another secret", on.db.plan(&other).await.expect("plans"));
        add("update", on.db.apply(model(1)).again().plan().await.expect("plans"));
        add("new version", on.db.plan(model(2)).await.expect("plans"));
        on.db.apply(model(2)).await.expect("applies");
        add("back", on.db.plan_rollback("agreed.Model/m", 0).await.expect("plans"));
        add("removal", on.db.plan_remove::<Model>("m").await.expect("plans"));
        add("of a version", on.db.plan_remove::<Model>("m@0").await.expect("plans"));
        add("with children", on.db.remove::<Model>("m").recursive().plan().await.expect("plans"));
    }
}

#[tokio::test]
async fn n03_equal_plans_have_equal_digests_in_every_handle() {
    for on in databases().await {
        on.db.apply(model(1)).await.expect("applies");
        let mut other = model(2);
        other.encoders[0].size = 7;
        let digest = digest(&on, &other).await;
        for _ in 0..5 {
            // Another hash map, another program on the same stores.
            let again =
                Model { weights: other.weights.clone().into_iter().collect(), ..other.clone() };
            assert_eq!(on.rival().await.plan(&again).await.expect("plans").digest(), digest);
        }
    }
}

#[tokio::test]
async fn n03_rollbacks_removals_and_imports_are_held_to_what_was_agreed_on() {
    for on in databases().await {
        on.db.apply(model(1)).await.expect("applies");
        on.db.apply(model(2)).await.expect("applies");
        let back = on.db.plan_rollback("agreed.Model/m", 0).await.expect("plans").digest();
        let gone = on.db.plan_remove::<Model>("m").await.expect("plans").digest();
        on.db.apply(model(3)).await.expect("applies");
        let moved = ["agreed.Model/m@2.0"];
        let error = refused(on.db.rollback("agreed.Model/m", 0).expect(back).await);
        says(&error, ErrorKind::Conflict, &moved);
        let error = refused(on.db.remove::<Model>("m").expect(gone).await);
        says(&error, ErrorKind::Conflict, &moved);
        assert_eq!(on.versions("agreed.Model/m").await, [0, 1, 2]);

        let back = on.db.plan_rollback("agreed.Model/m", 0).await.expect("plans").digest();
        let applied = on.db.rollback("agreed.Model/m", 0).expect(back).await.expect("rolls back");
        assert_eq!(applied.version(), 3);
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("model.tar");
        on.db.export("agreed.Model/m", &bundle).await.expect("exports");
        let other = Db::in_memory().await.expect("opens");
        let agreed = other.plan_import(&bundle).await.expect("plans").digest();
        other.apply(encoder("text", 5)).await.expect("applies");
        let error = refused(other.import(&bundle).expect(agreed).await);
        says(&error, ErrorKind::Conflict, &["agreed.Encoder/text@0.0"]);
        let agreed = other.plan_import(&bundle).await.expect("plans").digest();
        other.import(&bundle).expect(agreed).await.expect("imports");

        let gone = on.db.plan_remove::<Model>("m").await.expect("plans").digest();
        on.db.remove::<Model>("m").expect(gone).await.expect("removes");
        assert!(on.versions("agreed.Model/m").await.is_empty());
    }
}
