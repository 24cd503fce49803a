#![allow(unused_variables, non_camel_case_types)]
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
