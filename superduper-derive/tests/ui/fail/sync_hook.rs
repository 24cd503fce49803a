#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    identifier: String,
}

impl Lifecycle for Model {
    fn setup(&self, ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

fn main() {}
