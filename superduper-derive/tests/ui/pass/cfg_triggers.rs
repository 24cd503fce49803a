use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
    #[cfg(any())]
    gone: Nowhere,
    #[cfg(all())]
    here: i64,
}

#[triggers]
impl Model {
    const LIMIT: i64 = 3;

    #[cfg(any())]
    #[trigger("apply")]
    fn gone(&self) -> Result<Nowhere> {}

    #[cfg(all())]
    #[trigger("apply")]
    fn start(&self) -> Result<i64> {
        Ok(self.here + Self::LIMIT)
    }

    #[cfg(any())]
    #[trigger("apply", watch = "gone")]
    fn pick(&self) -> Result<Nowhere> {}

    #[cfg(not(any()))]
    #[trigger("apply", depends = ["start"], executor = "process")]
    async fn pick(&self, _start: i64, _ctx: &JobContext) -> std::result::Result<i64, std::io::Error> {
        Ok(1)
    }

    #[trigger("call", depends_on = [])]
    async fn batch(&self) {}

    /// Not a trigger.
    #[must_use]
    fn helper(&self) -> i64 {
        1
    }
}

#[cfg(any())]
#[callable]
fn gone() -> Nowhere {}

#[callable]
#[cfg(any())]
fn gone_too() -> Nowhere {}

fn main() {
    let model = Model::builder("m").here(1).build().unwrap();
    let names: Vec<&str> = model.__trigger_specs().iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["start", "pick", "batch"]);
    assert_eq!(model.helper(), 1);
}
