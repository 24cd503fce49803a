//! Plans: pure, printable, deterministic, and refused when they are out of date.

use crate::support::{databases, golden, in_memory, refused, says};
use superduper::{Action, prelude::*};

#[derive(Component, Clone)]
#[component(kind = "plans.Encoder")]
struct Encoder {
    identifier: String,
    size: u32,
    #[component(breaking)]
    seed: u64,
}

#[derive(Component, Clone)]
#[component(kind = "plans.Pipeline")]
struct Pipeline {
    identifier: String,
    #[component(breaking)]
    encoder: Encoder,
    /// Its name begins like that of the field after it.
    enc: String,
    encoders: Vec<Encoder>,
    weights: Artifact<Bytes>,
    note: Option<String>,
    score: Option<f64>,
}

impl Lifecycle for Pipeline {
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[triggers]
impl Encoder {
    #[trigger("apply", watch = "size")]
    fn warm_up(&self) -> Result<u32> {
        Ok(self.size)
    }
}

#[triggers]
impl Pipeline {
    #[trigger("apply")]
    fn train(&self) -> Result<f64> {
        Ok(0.5)
    }
    #[trigger("apply", watch = "note")]
    fn evaluate(&self, train: f64) -> Result<f64> {
        Ok(train)
    }
    #[trigger("apply", requires = "note")]
    fn announce(&self, evaluate: f64) -> Result<String> {
        Ok(evaluate.to_string())
    }
    #[trigger("apply", depends_on = "announce")]
    fn after(&self) -> Result<()> {
        Ok(())
    }
}

fn encoder(name: &str, size: u32, seed: u64) -> Encoder {
    Encoder { identifier: name.into(), size, seed }
}

fn pipeline() -> Pipeline {
    Pipeline {
        identifier: "main".into(),
        encoder: encoder("text", 3, 7),
        enc: "utf-8".into(),
        encoders: vec![encoder("image", 4, 8), encoder("text", 3, 7)],
        weights: Bytes::from("weights").into(),
        note: None,
        score: Some(0.25),
    }
}

/// One updated child, one that breaks, another field.
fn changed() -> Pipeline {
    let mut changed = pipeline();
    changed.encoders[0].seed = 9;
    changed.encoder.size = 5;
    changed.encoders[1].size = 5;
    changed.note = Some("published".into());
    changed
}

#[tokio::test]
async fn a13_planning_writes_nothing() {
    for on in databases().await {
        let before = on.dump().await;
        on.db.plan(pipeline()).await.expect("plans");
        assert_eq!(on.dump().await, before, "into an empty database");
        on.db.apply(pipeline()).await.expect("applies");
        let (before, commits, puts) = (on.dump().await, on.metadata.commits(), on.artifacts.puts());
        let mut other = changed();
        other.weights = Bytes::from("other weights").into();
        on.db.plan(&other).await.expect("plans");
        on.db.plan_remove::<Pipeline>("main").await.expect("plans");
        assert_eq!((on.metadata.commits(), on.artifacts.puts()), (commits, puts));
        assert_eq!(on.dump().await, before);
        let on = on.reopened().await;
        assert_eq!(on.dump().await, before);
    }
}

#[tokio::test]
async fn a14_a_plan_is_applied_where_nothing_moved() {
    for on in databases().await {
        let plan = on.db.plan(pipeline()).await.expect("plans");
        let applied = on.db.apply_plan(plan).await.expect("applies");
        assert_eq!(applied.address.to_string(), "plans.Pipeline/main@0.0");
        assert_eq!(applied.result::<f64>("evaluate").expect("a result"), 0.5);
        let plan = on.db.plan(changed()).await.expect("plans");
        let applied = on.db.apply_plan(plan).await.expect("applies");
        assert_eq!((applied.action, applied.revision()), (Action::Update, 1));
        assert_eq!(applied.result::<String>("announce").expect("a result"), "0.5");
    }
}

#[tokio::test]
async fn a14_a_plan_out_of_date_is_refused_naming_what_moved() {
    for on in databases().await {
        on.db.apply(pipeline()).await.expect("applies");
        let plan = on.db.plan(changed()).await.expect("plans");
        // A child that the plan updates moves.
        on.db.apply(encoder("text", 77, 7)).await.expect("applies");
        let before = on.dump().await;
        says(&refused(on.db.apply_plan(plan).await), ErrorKind::Conflict, &["plans.Encoder/text"]);
        assert_eq!(on.dump().await, before);
    }
}

#[tokio::test]
async fn a14_a_first_plan_is_refused_where_somebody_else_was_first() {
    for on in databases().await {
        let (first, second) = (
            on.db.plan(pipeline()).await.expect("plans"),
            on.db.plan(changed()).await.expect("plans"),
        );
        on.db.apply_plan(first).await.expect("applies");
        let before = on.dump().await;
        says(&refused(on.db.apply_plan(second).await), ErrorKind::Conflict, &["plans."]);
        assert_eq!(on.dump().await, before);
    }
}

#[tokio::test]
async fn a14_a_plan_without_work_is_refused_too_where_the_state_moved() {
    for on in databases().await {
        on.db.apply(pipeline()).await.expect("applies");
        let plan = on.db.plan(pipeline()).await.expect("plans");
        assert!(plan.is_empty(), "{plan}");
        on.db.apply_plan(plan.clone()).await.expect("nothing moved");
        on.db.apply(changed()).await.expect("applies");
        says(&refused(on.db.apply_plan(plan).await), ErrorKind::Conflict, &["plans."]);
    }
}

#[tokio::test]
async fn a14_the_plan_of_a_removal_goes_out_of_date_too() {
    for on in databases().await {
        on.db.apply(pipeline()).await.expect("applies");
        let plan = on.db.plan_remove::<Pipeline>("main").await.expect("plans");
        on.db.apply(changed()).await.expect("applies");
        says(&refused(on.db.apply_plan(plan).await), ErrorKind::Conflict, &["plans.Pipeline/main"]);
        assert_eq!(on.versions("plans.Pipeline/main").await, [0]);
        let plan = on.db.plan_remove::<Pipeline>("main").await.expect("plans");
        on.db.apply_plan(plan).await.expect("removes");
        assert!(on.versions("plans.Pipeline/main").await.is_empty());
    }
}

#[tokio::test]
async fn the_text_of_a_plan_is_golden() {
    for on in databases().await {
        golden("plan_create.txt", &on.db.plan(pipeline()).await.expect("plans").to_string());
        on.db.apply(pipeline()).await.expect("applies");
        golden("plan_unchanged.txt", &on.db.plan(pipeline()).await.expect("plans").to_string());
        golden("plan_update.txt", &on.db.plan(changed()).await.expect("plans").to_string());
        let mut breaking = pipeline();
        breaking.encoder.seed = 70;
        breaking.encoders.pop();
        golden("plan_new_version.txt", &on.db.plan(&breaking).await.expect("plans").to_string());
        on.db.apply(&breaking).await.expect("applies");
        golden("plan_revert.txt", &on.db.plan(pipeline()).await.expect("plans").to_string());
        let plan = on.db.remove::<Pipeline>("main").recursive().plan().await.expect("plans");
        golden("plan_remove.txt", &plan.to_string());
    }
}

#[tokio::test]
async fn the_other_forms_of_a_plan_are_golden() {
    let on = in_memory().await;
    let plan = on.db.plan(pipeline()).await.expect("plans");
    golden("plan_create.json", &format!("{:#}\n", plan.to_json()));
    golden("plan_create.dot", &plan.to_dot());
    golden("plan_create.mmd", &plan.to_mermaid());
    on.db.apply(pipeline()).await.expect("applies");
    golden(
        "plan_update.json",
        &format!("{:#}\n", on.db.plan(changed()).await.expect("plans").to_json()),
    );
}

#[tokio::test]
async fn planning_twice_gives_the_same_plan() {
    for on in databases().await {
        let texts = |plan: superduper::plan::Plan| {
            format!("{plan}{}{}{}", plan.to_json(), plan.to_dot(), plan.to_mermaid())
        };
        for _ in 0..2 {
            let first = texts(on.db.plan(changed()).await.expect("plans"));
            for _ in 0..5 {
                assert_eq!(texts(on.db.plan(changed()).await.expect("plans")), first);
            }
            on.db.apply(pipeline()).await.expect("applies");
        }
    }
}

#[tokio::test]
async fn what_a_plan_says_is_what_an_apply_does() {
    for on in databases().await {
        for value in [pipeline(), changed(), pipeline()] {
            let plan = on.db.plan(&value).await.expect("plans");
            let applied = on.db.apply(&value).await.expect("applies");
            let planned: Vec<_> = plan
                .components()
                .iter()
                .map(|component| (component.address.clone(), component.action))
                .collect();
            assert_eq!(applied.components, planned);
            let methods: Vec<_> =
                plan.jobs().iter().map(|job| (job.target.clone(), job.method.clone())).collect();
            let ran: Vec<_> =
                applied.jobs().iter().map(|job| (job.target.clone(), job.method.clone())).collect();
            assert_eq!(ran, methods);
            assert!(on.db.plan(&value).await.expect("plans").is_empty());
        }
    }
}

#[tokio::test]
async fn t07_jobs_of_a_parent_wait_for_all_jobs_of_its_children() {
    let on = in_memory().await;
    let plan = on.db.plan(pipeline()).await.expect("plans");
    let edges = plan.edges();
    let number = |method: &str, identifier: &str| {
        1 + plan
            .jobs()
            .iter()
            .position(|job| job.method == method && job.target.identifier == identifier)
            .expect("a job")
    };
    for of_parent in ["on_create", "train", "evaluate"] {
        for child in ["image", "text"] {
            assert!(
                edges.contains(&(number("warm_up", child), number(of_parent, "main"))),
                "{plan}"
            );
        }
    }
}

#[tokio::test]
async fn d13_an_update_runs_what_watches_and_what_depends_on_it() {
    for on in databases().await {
        on.db.apply(pipeline()).await.expect("applies");
        let mut value = pipeline();
        value.score = None;
        let applied = on.db.apply(&value).await.expect("applies");
        assert_eq!(
            (applied.action, applied.jobs().len()),
            (Action::Update, 0),
            "nobody watches `score`"
        );
        value.note = Some("hello".into());
        let applied = on.db.apply(&value).await.expect("applies");
        let methods: Vec<&str> = applied.jobs().iter().map(|job| job.method.as_str()).collect();
        // `evaluate` watches `note`, `announce` requires it, `after` depends; `train` and
        // `on_create` are done.
        assert_eq!(methods, ["evaluate", "announce", "after"]);
        assert_eq!(
            applied.result::<String>("announce").expect("a result"),
            "0.5",
            "the old result of `train` is used"
        );
        assert_eq!(
            applied.outcome.expect("an outcome").jobs[0].target.to_string(),
            "plans.Pipeline/main@0.2"
        );
        assert_eq!(on.successes("plans.Pipeline/main", "train").await, 1);
    }
}

#[tokio::test]
async fn a_plan_does_not_depend_on_the_order_of_hash_maps() {
    #[derive(Component)]
    #[component(kind = "plans.Bag")]
    struct Bag {
        identifier: String,
        held: std::collections::HashMap<String, Encoder>,
    }
    let on = in_memory().await;
    let bag = || Bag {
        identifier: "b".into(),
        held: (0..9)
            .map(|number| (format!("k{number}"), encoder(&format!("e{number}"), 1, 2)))
            .collect(),
    };
    let first = on.db.plan(bag()).await.expect("plans").to_string();
    for _ in 0..9 {
        assert_eq!(on.db.plan(bag()).await.expect("plans").to_string(), first);
    }
}
