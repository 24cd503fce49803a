#![allow(unused_variables, non_camel_case_types)]
use superduper::prelude::*;

#[derive(Component)]
struct Model {
    id: String,
}

impl Lifecycle for Model {}

#[triggers]
impl Model {
    #[trigger("apply")]
    fn start(&self) {}
}

fn used(model: &Model) -> &str {
    model.identifier()
}

fn main() {}
