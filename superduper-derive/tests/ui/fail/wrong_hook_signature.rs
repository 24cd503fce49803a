use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
}

impl Lifecycle for Model {
    async fn setup(&mut self, ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

fn main() {}
