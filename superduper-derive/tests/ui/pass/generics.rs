use superduper::prelude::*;

#[derive(Component)]
struct Linear {
    identifier: String,
    size: usize,
}

#[derive(Component)]
#[component(lifecycle = yes, triggers = yes)]
struct Pipeline<M: Component> {
    identifier: String,
    model: M,
    more: Vec<M>,
}
superduper::register!(Pipeline<Linear> as "acme.LinearPipeline");

impl<M: Component> Lifecycle for Pipeline<M> {
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[triggers]
impl<M: Component> Pipeline<M> {
    #[trigger("apply")]
    async fn fit(&self) -> Result<String> {
        Ok(self.model.identifier().to_owned())
    }

    #[trigger("apply")]
    fn report(&self, fit: String) -> Result<usize> {
        Ok(fit.len() + self.more.len())
    }
}

#[derive(Component)]
#[component(lifecycle = no, triggers = no)]
struct Grid<T, const N: usize>
where
    T: Default,
{
    identifier: String,
    values: Vec<T>,
    #[component(skip)]
    scratch: Option<T>,
}
superduper::register!(Grid<f32, 3> as "acme.Grid3");

fn main() {
    let linear = |name: &str| Linear { identifier: name.into(), size: 2 };
    let pipeline = Pipeline::builder("p").model(linear("a")).more(vec![linear("b")]).build().unwrap();
    assert_eq!(pipeline.kind(), "acme.LinearPipeline");
    assert_eq!(pipeline.__trigger_specs().len(), 2);
    assert!(pipeline.__has_lifecycle());
    let mut children = Vec::new();
    pipeline.__visit_children(&mut |child| children.push(child.identifier().to_owned()));
    assert_eq!(children, ["a", "b"]);

    let grid: Grid<f32, 3> = Grid::builder("g").values(vec![0.5]).build().unwrap();
    assert_eq!(grid.kind(), "acme.Grid3");
    assert!(grid.__trigger_specs().is_empty() && !grid.__has_lifecycle());
}
