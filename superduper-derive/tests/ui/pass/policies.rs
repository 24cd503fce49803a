// The method of a policy may be anywhere, and fields of every role may be watched.
#![deny(warnings)]
use superduper::{JobPolicy, prelude::*};

trait Careful {
    fn careful(&self) -> JobPolicy {
        JobPolicy { retries: Some(5), ..JobPolicy::default() }
    }
}

#[derive(Component)]
struct Model {
    identifier: String,
    label: Option<String>,
    r#type: Option<i64>,
    weights: Output<Vec<f32>>,
    client: Runtime<i64>,
    #[component(skip)]
    scratch: i64,
}
impl Careful for Model {}

#[triggers]
impl Model {
    fn here(&self) -> JobPolicy {
        JobPolicy { retries: Some(1), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "here", requires = "label")]
    fn first(&self) {}

    #[trigger("apply", policy = "elsewhere", requires = ["label", "type"])]
    fn second(&self) {}

    #[trigger("apply", policy = "careful", watch = ["identifier", "type", "weights", "client", "scratch"])]
    async fn third(&self) {}
}

impl Model {
    fn elsewhere(&self) -> JobPolicy {
        JobPolicy { retries: Some(3 + self.scratch as u32), ..JobPolicy::default() }
    }
}

mod inner {
    use superduper::{JobPolicy, prelude::*};

    #[derive(Component)]
    #[component(lifecycle = no, triggers = yes)]
    pub(super) struct Pipeline<M: Component> {
        pub(super) identifier: String,
        pub(super) model: Option<M>,
    }

    impl<M: Component> Pipeline<M> {
        pub(super) fn elsewhere(&self) -> JobPolicy {
            JobPolicy::default()
        }
    }
}

#[triggers]
impl<M: Component> inner::Pipeline<M> {
    #[trigger("apply", policy = "elsewhere", requires = "model")]
    fn run(&self) {}
}

fn retries(component: &Model) -> Vec<Option<u32>> {
    let policies = Model::__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT.iter().map(|trigger| trigger.policy);
    policies.map(|policy| policy.and_then(|policy| policy(component).retries)).collect()
}

fn main() {
    let model = Model::builder("m").build().unwrap();
    assert_eq!(retries(&model), [Some(1), Some(3), Some(5)]);
    assert!(!model.weights.is_set() && !model.client.is_set() && model.label.is_none() && model.r#type.is_none());
    let pipeline = inner::Pipeline { identifier: "p".to_owned(), model: None::<Model> };
    assert!(pipeline.model.is_none() && pipeline.identifier == "p");
}
